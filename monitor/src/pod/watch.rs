//! The loop that keeps what is known of pods, and of the node itself, true: list, watch, and watch again from where the last one ended; list again when that is no longer possible.
//!
//! What must hold, for each of the two: at most one request is under way at any time; no request follows a failed one without a wait, which grows; an outage is said
//! when it begins and when it ends, and nothing in between but a change of its cause.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::AsyncBufRead;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    AnnotationKeys, ApiSettings, ConnectError, NodeUpdate, Pace, PodUpdate, Update,
    connect::{Connection, connect},
    failure::{Failure, FailureKind},
    fetch::{OpenWatch, Said, Source, Version},
    resource::{OwnNode, Pods, Resource},
};

/// Why there is no watch, and never will be.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The API server could not be found, or the way there is no way.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A node's name is a DNS subdomain (RFC 1123): nothing else can be asked for.
    #[error("{0:?} cannot be the name of a Kubernetes node")]
    NodeName(String),
}

/// Watches the pods of this node and sends what it learns to `updates`, until `cancel` or until nobody listens.
///
/// The node's name is the one that its pods have in `spec.nodeName`. Fails at once where the settings cannot work, and never for the API server's sake.
/// Where there is none and none is required, sends one `Standalone` and returns.
pub async fn watch(
    settings: &ApiSettings,
    node_name: &str,
    updates: mpsc::Sender<PodUpdate>,
    cancel: CancellationToken,
) -> Result<(), WatchError> {
    watch_resource(Pods, "spec.nodeName", settings, node_name, updates, cancel).await
}

/// The same of the node's own object, for what its annotations say.
pub async fn watch_node(
    settings: &ApiSettings,
    node_name: &str,
    keys: AnnotationKeys,
    updates: mpsc::Sender<NodeUpdate>,
    cancel: CancellationToken,
) -> Result<(), WatchError> {
    watch_resource(OwnNode { keys }, "metadata.name", settings, node_name, updates, cancel).await
}

async fn watch_resource<R: Resource>(
    resource: R,
    field: &str,
    settings: &ApiSettings,
    node_name: &str,
    updates: mpsc::Sender<Update<R::Facts>>,
    cancel: CancellationToken,
) -> Result<(), WatchError> {
    let client = match connect(settings).await? {
        Connection::Found(client) => client,
        Connection::Standalone { reason } => {
            // Nobody listens only when the agent is stopping already.
            let _ = updates.send(Update::Standalone { reason: reason.into() }).await;
            return Ok(());
        }
    };
    if !is_node_name(node_name) {
        return Err(WatchError::NodeName(node_name.to_owned()));
    }
    let source = Source {
        resource,
        client,
        selector: format!("{field}={node_name}"),
        pace: settings.pace.clone(),
        bounds: settings.bounds,
    };
    let mut teller = Teller { updates, told: Vec::new() };
    let mut patience = Patience::new(&settings.pace);
    tokio::select! {
        () = cancel.cancelled() => {}
        _ = keep_watching(&source, &mut teller, &mut patience) => {}
    }
    Ok(())
}

fn is_node_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    !name.is_empty() && name.len() <= 253 && name.bytes().all(allowed)
}

/// Nobody listens any more.
struct Unheard;

/// Returns only when nobody listens.
async fn keep_watching<R: Resource>(
    source: &Source<R>,
    teller: &mut Teller<R::Facts>,
    patience: &mut Patience,
) -> Result<(), Unheard> {
    let mut position: Option<Version> = None;
    let mut fresh = false;
    loop {
        let outcome = match &mut position {
            None => list(source, fresh, teller).await?.map(|version| {
                position = Some(version);
                fresh = false;
            }),
            Some(version) => watch_once(source, version, teller).await?,
        };
        let Err(failure) = outcome else {
            continue;
        };
        match failure.kind {
            FailureKind::Expired => (position, fresh) = (None, true),
            // What was said after the last line that made sense is lost: only a list can tell.
            FailureKind::Garbled => position = None,
            _ => {}
        }
        teller.tell_failure(&failure, R::NAME).await?;
        patience.wait(&failure).await;
    }
}

async fn list<R: Resource>(
    source: &Source<R>,
    fresh: bool,
    teller: &Teller<R::Facts>,
) -> Result<Result<Version, Failure>, Unheard> {
    let listed = match source.list(fresh).await {
        Ok(listed) => listed,
        Err(failure) => return Ok(Err(failure)),
    };
    tracing::debug!(count = listed.objects.len(), version = listed.resource_version, "listed {}", R::NAME);
    teller.tell(Update::Listed(listed.objects)).await?;
    Ok(Ok(listed.resource_version))
}

/// One watch, from its request to its end. `version` is what the next one continues from.
async fn watch_once<R: Resource>(
    source: &Source<R>,
    version: &mut Version,
    teller: &mut Teller<R::Facts>,
) -> Result<Result<(), Failure>, Unheard> {
    let opened = Instant::now();
    // The server ends it on time; if it does not, the connection is dead.
    let lifetime = source.pace.watch + source.pace.watch / 50 + Duration::from_secs(1);
    let mut open = match source.watch(version).await {
        Ok(open) => open,
        Err(failure) => return Ok(Err(failure)),
    };
    teller.tell_reachable().await?;
    let outcome = follow(&source.resource, &mut open, version, teller, opened + lifetime).await?;
    // A server that ends every watch at once would otherwise be asked as fast as it answers.
    let ended_early = opened.elapsed() < source.pace.watch / 4;
    Ok(match outcome {
        Ok(()) if ended_early => Err(Failure::new(FailureKind::Ended, "a watch ended at once")),
        outcome => outcome,
    })
}

async fn follow<R: Resource, B: AsyncBufRead + Unpin>(
    resource: &R,
    open: &mut OpenWatch<B>,
    version: &mut Version,
    teller: &Teller<R::Facts>,
    deadline: Instant,
) -> Result<Result<(), Failure>, Unheard> {
    loop {
        let said = match timeout_at(deadline.into(), open.next(resource)).await {
            Ok(Ok(Some(said))) => said,
            Ok(Ok(None)) => return Ok(Ok(())),
            Ok(Err(failure)) => return Ok(Err(failure)),
            Err(_) => {
                return Ok(Err(Failure::new(FailureKind::Ended, "a watch outlived its time: its connection is dead")));
            }
        };
        *version = match said {
            Said::Applied(facts, version) => {
                teller.tell(Update::Applied(facts)).await?;
                version
            }
            Said::Deleted(uid, version) => {
                teller.tell(Update::Deleted(uid)).await?;
                version
            }
            Said::Bookmark(version) => version,
        };
    }
}

/// Speaks to whoever listens, and does not repeat itself.
struct Teller<F> {
    updates: mpsc::Sender<Update<F>>,
    /// What was already said of this outage.
    told: Vec<FailureKind>,
}

impl<F> Teller<F> {
    async fn tell(&self, update: Update<F>) -> Result<(), Unheard> {
        self.updates.send(update).await.map_err(|_| Unheard)
    }

    async fn tell_failure(&mut self, failure: &Failure, name: &str) -> Result<(), Unheard> {
        let reason = failure.said_of(name).to_string();
        tracing::debug!(reason, "watching {name}");
        // These two happen to every watch now and then. If they are signs of worse, the next request shows it.
        let ordinary = matches!(failure.kind, FailureKind::Ended | FailureKind::Expired);
        if ordinary || self.told.contains(&failure.kind) {
            return Ok(());
        }
        self.told.push(failure.kind);
        self.tell(Update::Unreachable { reason: reason.into() }).await
    }

    async fn tell_reachable(&mut self) -> Result<(), Unheard> {
        if self.told.is_empty() {
            return Ok(());
        }
        self.told.clear();
        self.tell(Update::Reachable).await
    }
}

/// How long to wait after a failure: longer after each, at random within a factor of two, and from the beginning once things have settled.
struct Patience {
    rule: ExponentialBuilder,
    delays: ExponentialBackoff,
    most: Duration,
    settled: Duration,
    waited: Option<Instant>,
}

impl Patience {
    fn new(pace: &Pace) -> Self {
        let rule = ExponentialBuilder::default()
            .with_min_delay(pace.retry_min)
            .with_max_delay(pace.retry_max)
            .with_jitter()
            .without_max_times();
        Self { rule, delays: rule.build(), most: pace.retry_max, settled: pace.settled, waited: None }
    }

    async fn wait(&mut self, failure: &Failure) {
        if self.waited.is_some_and(|waited| waited.elapsed() >= self.settled) {
            self.delays = self.rule.build();
        }
        let delay = self.delays.next().unwrap_or(self.most);
        sleep(failure.wait.unwrap_or_default().max(delay)).await;
        self.waited = Some(Instant::now());
    }
}
