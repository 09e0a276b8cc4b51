//! How the agent's watch on its node's pods behaves towards an API server, in good times and in bad ones.

mod changes;
mod outages;
mod samples;
mod settings;

use std::time::Duration;

use postern::pod::{ApiMode, ApiSettings, Bounds, Pace, PodFacts, PodUpdate, WatchError, watch};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::harness::api_server::{ApiServer, Asked, Request};

const NODE: &str = "node-1";
/// How long a test waits for what must happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits that suit a test: a tenth of a second at most between attempts.
fn quick() -> Pace {
    Pace {
        retry_min: Duration::from_millis(5),
        retry_max: Duration::from_millis(100),
        answer: Duration::from_secs(10),
        page: 3,
        ..Pace::default()
    }
}

/// The watch of the agent, running.
struct Watched {
    updates: mpsc::Receiver<PodUpdate>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), WatchError>>,
    runtime: Runtime,
}

impl Watched {
    fn start(server: &ApiServer, pace: Pace) -> Self {
        let kubeconfig = Some(server.kubeconfig_path().to_owned());
        Self::with(ApiSettings { mode: ApiMode::Auto, kubeconfig, pace, bounds: Bounds::default() }, NODE)
    }

    fn with(settings: ApiSettings, node: &'static str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let (sender, updates) = mpsc::channel(256);
        let cancel = CancellationToken::new();
        let task = runtime.spawn({
            let cancel = cancel.clone();
            async move { watch(&settings, node, sender, cancel).await }
        });
        Self { updates, cancel, task, runtime }
    }

    /// The next thing it says.
    fn next(&mut self) -> PodUpdate {
        let update = self.runtime.block_on(async { timeout(DEADLINE, self.updates.recv()).await });
        update.expect("the watch says something in time").expect("the watch runs")
    }

    #[track_caller]
    fn expect_listed(&mut self, names: &[&str]) {
        match self.next() {
            PodUpdate::Listed(pods) => {
                let mut listed: Vec<_> = pods.iter().map(|pod| &*pod.pod.name).collect();
                listed.sort_unstable();
                assert_eq!(listed, names);
            }
            other => panic!("a list of {names:?} was expected, not {other:?}"),
        }
    }

    #[track_caller]
    fn expect_applied(&mut self, name: &str) -> PodFacts {
        match self.next() {
            PodUpdate::Applied(pod) if *pod.pod.name == *name => PodFacts::clone(&pod),
            other => panic!("{name} was expected to be applied, not {other:?}"),
        }
    }

    #[track_caller]
    fn expect_unreachable(&mut self, words: &str) {
        match self.next() {
            PodUpdate::Unreachable { reason } if reason.contains(words) => {}
            other => panic!("an API server that cannot be used for {words:?} was expected, not {other:?}"),
        }
    }

    #[track_caller]
    fn expect_reachable(&mut self) {
        assert_eq!(self.next(), PodUpdate::Reachable);
    }

    /// Ends the watch, and holds it to what it may never do.
    #[track_caller]
    fn stop(mut self, server: &ApiServer) {
        self.cancel.cancel();
        self.result().expect("a watch that is cancelled ends well");
        assert_eq!(
            self.updates.try_recv(),
            Err(mpsc::error::TryRecvError::Disconnected),
            "it said more than it should"
        );
        assert!(server.open_watches().1 <= 1, "there was more than one watch at a time");
        for request in server.requests() {
            assert_ne!(request.asked, Asked::Else, "{request:?}");
            assert_eq!(request.query["fieldSelector"], format!("spec.nodeName={NODE}"), "{request:?}");
        }
    }

    /// What it ended with.
    fn result(&mut self) -> Result<(), WatchError> {
        let ended = self.runtime.block_on(async { timeout(DEADLINE, &mut self.task).await });
        ended.expect("the watch ends in time").expect("the watch does not panic")
    }
}

/// A small pod.
fn pod(name: &str) -> Value {
    pod_on(name, NODE)
}

fn pod_on(name: &str, node: &str) -> Value {
    json!({
        "metadata": {"uid": format!("uid-of-{name}"), "name": name, "namespace": "default"},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "busybox:1"}]},
    })
}

fn of(asked: Asked, requests: &[Request]) -> Vec<&Request> {
    requests.iter().filter(|request| request.asked == asked).collect()
}
