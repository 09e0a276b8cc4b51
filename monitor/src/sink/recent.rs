//! The last events of access sessions, in memory: for whoever asks the agent on the node itself who is in. A copy and no
//! sink: what is too old goes, the beginnings of sessions that are open last.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rustc_hash::FxHashMap;
use tokio::sync::broadcast;

use crate::event::{Body, Event};

/// How much is kept: some 4,000 events.
const KEPT_BYTES: usize = 4 << 20;
/// How many beginnings of open sessions are kept beyond that.
const HELD_MAX: usize = 1_024;
/// How many lines may wait for one who follows; past that he misses some, and is told how many.
const WAITING_MAX: usize = 4_096;

/// One event as JSON, with a newline behind it.
pub type Text = Arc<[u8]>;

/// See the module.
pub struct Recent {
    store: Mutex<Store>,
    following: AtomicUsize,
    live: broadcast::Sender<Text>,
}

#[derive(Default)]
struct Store {
    kept: VecDeque<Kept>,
    bytes: usize,
    /// Sessions that are open, with their beginnings once these have left `kept`.
    open: FxHashMap<Arc<str>, Option<Text>>,
}

struct Kept {
    session: Arc<str>,
    opens: bool,
    text: Text,
}

/// Somebody who follows, until it is dropped.
pub struct Following {
    recent: Arc<Recent>,
    live: broadcast::Receiver<Text>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { store: Mutex::default(), following: AtomicUsize::new(0), live: broadcast::channel(WAITING_MAX).0 }
    }
}

impl Recent {
    /// Whether an event is of use here.
    pub(super) fn wants(&self, event: &Event) -> bool {
        self.following.load(Relaxed) > 0 || event.session().is_some()
    }

    /// Takes an event, as JSON without a newline.
    pub(super) fn put(&self, event: &Event, json: &[u8]) {
        let text: Text = [json, b"\n"].concat().into();
        let mut store = self.store();
        if let Some(session) = event.session() {
            store.put(&session.id, &event.body, &text);
        }
        // An error says that nobody follows.
        let _ = self.live.send(text);
    }

    /// All that is kept, in the order in which it happened.
    pub fn history(&self) -> Vec<Text> {
        self.store().history()
    }

    /// The same, and all that comes from now on.
    pub fn follow(self: &Arc<Self>) -> (Vec<Text>, Following) {
        let store = self.store();
        self.following.fetch_add(1, Relaxed);
        (store.history(), Following { recent: Arc::clone(self), live: self.live.subscribe() })
    }

    fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        // Nothing in its methods leaves it half changed.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    fn put(&mut self, session: &Arc<str>, body: &Body, text: &Text) {
        let opens = matches!(body, Body::SessionOpened(_));
        match body {
            Body::SessionOpened(_) if self.open.len() < HELD_MAX => {
                self.open.insert(Arc::clone(session), None);
            }
            Body::SessionClosed(_) => {
                self.open.remove(session);
            }
            _ => {}
        }
        self.bytes += text.len();
        self.kept.push_back(Kept { session: Arc::clone(session), opens, text: Arc::clone(text) });
        while self.bytes > KEPT_BYTES
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.text.len();
            if oldest.opens
                && let Some(held) = self.open.get_mut(&oldest.session)
            {
                *held = Some(oldest.text);
            }
        }
    }

    fn history(&self) -> Vec<Text> {
        let held = self.open.values().filter_map(Option::as_ref);
        held.chain(self.kept.iter().map(|kept| &kept.text)).map(Arc::clone).collect()
    }
}

impl Following {
    /// The next event; `Err` says how many were missed. `None` at the agent's end.
    pub async fn next(&mut self) -> Option<Result<Text, u64>> {
        match self.live.recv().await {
            Ok(text) => Some(Ok(text)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.recent.following.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::encode::samples;

    fn put(store: &mut Store, id: &str, body: &Body, text: &[u8]) {
        store.put(&id.into(), body, &text.into());
    }

    #[test]
    fn what_is_old_goes_but_for_the_beginnings_of_open_sessions() {
        let mut store = Store::default();
        let login = Arc::new(samples::login());
        put(&mut store, "a", &Body::SessionOpened(Arc::clone(&login)), b"a opens");
        put(&mut store, "b", &Body::SessionOpened(Arc::clone(&login)), b"b opens");
        put(&mut store, "b", &Body::SessionClosed(login), b"b closes");
        let long = vec![b'x'; 1 << 20];
        (0..5).for_each(|_| put(&mut store, "a", &Body::EXEC, &long));
        let history = store.history();
        assert_eq!(&*history[0], b"a opens");
        assert!(history[1..].iter().all(|text| text.len() == long.len()), "{}", history.len());
        assert!((4..6).contains(&history.len()) && store.bytes <= KEPT_BYTES);
    }

    #[tokio::test]
    async fn whoever_follows_sees_everything_and_is_told_what_was_missed() {
        let recent = Arc::new(Recent::default());
        let event = samples::all().into_iter().find(|event| event.session().is_none()).expect("one");
        assert!(!recent.wants(&event));
        let (history, mut following) = recent.follow();
        assert!(history.is_empty() && recent.wants(&event));
        (0..=WAITING_MAX).for_each(|number| recent.put(&event, number.to_string().as_bytes()));
        assert_eq!(following.next().await, Some(Err(1)));
        assert_eq!(following.next().await.expect("open").as_deref(), Ok(&b"1\n"[..]));
        drop(following);
        assert!(!recent.wants(&event));
    }
}
