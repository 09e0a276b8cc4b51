//! The one way into the event loop beside the ring: a bounded queue, and a descriptor that wakes the loop.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use rustix::event::{EventfdFlags, eventfd};

use crate::pipeline::Input;

/// How many messages wait; the API server's and the runtime's answers are held back by those who bring them.
const CAPACITY: usize = 4_096;

/// What the event loop can be told.
#[derive(Debug)]
pub(super) enum Message {
    /// Something changed that the pipeline must know.
    Input(Input),
    /// Detach, drain, and return.
    Stop {
        /// Why, for the last event.
        reason: Arc<str>,
    },
}

/// The sending end.
#[derive(Clone)]
pub(super) struct Inbox {
    queue: SyncSender<Message>,
    wake: Arc<OwnedFd>,
}

/// The event loop's end.
pub(super) struct Mail {
    queue: Receiver<Message>,
    wake: Arc<OwnedFd>,
}

/// Both ends.
pub(super) fn inbox() -> std::io::Result<(Inbox, Mail)> {
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (sender, receiver) = sync_channel(CAPACITY);
    Ok((Inbox { queue: sender, wake: Arc::clone(&wake) }, Mail { queue: receiver, wake }))
}

impl Inbox {
    /// Tells the event loop; gives the message back while the loop has too many, and drops it when the loop has ended.
    #[expect(clippy::result_large_err, reason = "the message goes back to whoever sends it again")]
    pub(super) fn send(&self, message: Message) -> Result<(), Message> {
        match self.queue.try_send(message) {
            Ok(()) => {
                // The descriptor's counter cannot overflow before the loop reads it; an error would mean that it is woken.
                let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
                Ok(())
            }
            Err(TrySendError::Full(message)) => Err(message),
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }
}

impl Mail {
    /// The next message, if there is one.
    pub(super) fn next(&self) -> Option<Message> {
        self.queue.try_recv().ok()
    }

    /// Forgets that it was woken; to be called before the messages are taken.
    pub(super) fn clear(&self) {
        let _ = rustix::io::read(&*self.wake, &mut [0u8; 8]);
    }
}

impl AsFd for Mail {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
