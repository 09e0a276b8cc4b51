//! The two requests that are ever sent: a list of what concerns this node, and a watch on it. Both read a bounded amount, whatever the server sends.
//!
//! `kube_runtime::watcher` is not used: it reads lines without a bound, reconnects without a pause to a server that ends every watch at once, never
//! leaves a resource version that is refused with an HTTP 410, starts its back-off over with every attempt to list, and does not tell when a watch is
//! open again. What stays is small, as one selector is all that each kind of object has.

use std::{sync::Arc, time::Duration};

use futures::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, TryStreamExt};
use http::{Response, header::RETRY_AFTER};
use http_body_util::{BodyExt, Limited};
use kube::{
    Client,
    api::{ListParams, VersionMatch, WatchParams},
    client::Body,
    core::{Request, Status, WatchEvent},
};
use tokio::time::timeout;

use super::{
    failure::{Failure, FailureKind},
    resource::{ListView, Resource},
    settings::{Bounds, Pace},
};

/// Longest explanation of an HTTP error that is read, in bytes.
const REFUSAL_BYTES: usize = 64 << 10;

/// The objects of one kind that concern this node, at one API server.
pub(super) struct Source<R> {
    pub(super) resource: R,
    pub(super) client: Client,
    pub(super) selector: String,
    pub(super) pace: Pace,
    pub(super) bounds: Bounds,
}

/// A whole list.
pub(super) struct Listed<F> {
    pub(super) objects: Vec<Arc<F>>,
    pub(super) resource_version: String,
}

/// Something that an open watch said.
pub(super) enum Said<F> {
    Applied(Arc<F>, Version),
    Deleted(Arc<str>, Version),
    Bookmark(Version),
}

/// A resource version: opaque, and only handed back.
pub(super) type Version = String;

impl<R: Resource> Source<R> {
    /// Lists them. A first list may be served from the API server's cache, which has an index by node and costs its store nothing; after that
    /// cache has failed us (410), `fresh` asks for what the store has, page by page.
    pub(super) async fn list(&self, fresh: bool) -> Result<Listed<R::Facts>, Failure> {
        timeout(self.pace.answer, self.list_pages(fresh)).await.unwrap_or_else(|_| Err(late(self.pace.answer)))
    }

    async fn list_pages(&self, fresh: bool) -> Result<Listed<R::Facts>, Failure> {
        let mut params = ListParams::default().fields(&self.selector);
        if fresh {
            params.limit = Some(self.pace.page);
        } else {
            params = params.at("0").matching(VersionMatch::NotOlderThan);
        }
        let mut objects = Vec::new();
        loop {
            let page = self.list_page(&params).await?;
            for view in page.items {
                objects.push(Arc::new(self.resource.facts(view).map_err(Failure::garbled)?));
            }
            if objects.len() > R::MOST {
                return Err(Failure::garbled(format_args!("more than {} {} of one node", R::MOST, R::NAME)));
            }
            let metadata = page.metadata;
            if !metadata.continue_token.is_empty() {
                params.continue_token = Some(metadata.continue_token);
            } else if metadata.resource_version.is_empty() {
                return Err(Failure::garbled("a list without a resource version"));
            } else {
                return Ok(Listed { objects, resource_version: metadata.resource_version });
            }
        }
    }

    async fn list_page(&self, params: &ListParams) -> Result<ListView<R::View>, Failure> {
        let request = Request::new(R::PATH).list(params).map_err(Failure::garbled)?;
        let body = self.ask(request).await?;
        let mut bytes = Vec::new();
        let most = self.bounds.page_bytes;
        body.take(most.saturating_add(1))
            .read_to_end(&mut bytes)
            .await
            .map_err(|error| Failure::of_kind(FailureKind::Unanswered, &error))?;
        if bytes.len() as u64 > most {
            return Err(Failure::garbled(format_args!("a list longer than {most} bytes")));
        }
        serde_json::from_slice(&bytes).map_err(Failure::garbled)
    }

    /// Sends a request. The way that `kube` offers reads an error's text without a bound.
    async fn ask(&self, request: http::Request<Vec<u8>>) -> Result<impl AsyncBufRead + Unpin + use<R>, Failure> {
        let sent = self.client.send(request.map(Body::from)).await;
        let response = sent.map_err(|error| Failure::of_kind(FailureKind::Unanswered, &error))?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let body = response.into_body().into_data_stream().map_err(std::io::Error::other);
        Ok(Box::pin(body.into_async_read()))
    }

    /// Opens a watch from a resource version on.
    pub(super) async fn watch(&self, version: &str) -> Result<OpenWatch<impl AsyncBufRead + Unpin + use<R>>, Failure> {
        let mut params = WatchParams::default().fields(&self.selector);
        params.timeout = Some(u32::try_from(self.pace.watch.as_secs()).unwrap_or(u32::MAX));
        let request = Request::new(R::PATH).watch(&params, version).map_err(Failure::garbled)?;
        let answer = timeout(self.pace.answer, self.ask(request)).await;
        let body = answer.map_err(|_| late(self.pace.answer))??;
        Ok(OpenWatch { body, line: Vec::new(), most: self.bounds.line_bytes })
    }
}

/// Why a request was refused: the API's `Status`, or what a proxy on the way has to say.
async fn refusal(response: Response<Body>) -> Failure {
    let code = response.status();
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let bytes = match Limited::new(response.into_body(), REFUSAL_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Failure::of_kind(FailureKind::Refused, &*error),
    };
    let status = serde_json::from_slice(&bytes).unwrap_or_else(|_| {
        Status::failure(&String::from_utf8_lossy(&bytes), code.canonical_reason().unwrap_or_default())
    });
    Failure::of_status(code.as_u16(), &status).with_wait(asked)
}

/// A watch that is open.
pub(super) struct OpenWatch<B> {
    body: B,
    line: Vec<u8>,
    most: u64,
}

impl<B: AsyncBufRead + Unpin> OpenWatch<B> {
    /// The next thing it says; `None` when the server has ended it. Not to be called again after an error.
    pub(super) async fn next<R: Resource>(&mut self, resource: &R) -> Result<Option<Said<R::Facts>>, Failure> {
        self.line.clear();
        let mut bounded = (&mut self.body).take(self.most);
        bounded
            .read_until(b'\n', &mut self.line)
            .await
            .map_err(|error| Failure::of_kind(FailureKind::Ended, &error))?;
        if self.line.is_empty() {
            return Ok(None);
        }
        if self.line.last() != Some(&b'\n') {
            return Err(if self.line.len() as u64 == self.most {
                Failure::garbled(format_args!("a line longer than {} bytes", self.most))
            } else {
                Failure::new(FailureKind::Ended, "in the middle of a line")
            });
        }
        let said = match serde_json::from_slice(&self.line).map_err(Failure::garbled)? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let (facts, version) = versioned(resource, object)?;
                Said::Applied(Arc::new(facts), version)
            }
            WatchEvent::Deleted(object) => {
                let (facts, version) = versioned(resource, object)?;
                Said::Deleted(R::uid(&facts), version)
            }
            WatchEvent::Bookmark(bookmark) => Said::Bookmark(bookmark.metadata.resource_version),
            WatchEvent::Error(status) => return Err(Failure::of_status(status.code, &status)),
        };
        // One huge object must not cost its size for ever.
        self.line.shrink_to(64 << 10);
        Ok(Some(said))
    }
}

fn versioned<R: Resource>(resource: &R, mut object: R::View) -> Result<(R::Facts, Version), Failure> {
    let version = R::version(&mut object);
    if version.is_empty() {
        return Err(Failure::garbled("an object without a resource version"));
    }
    Ok((resource.facts(object).map_err(Failure::garbled)?, version))
}

fn late(after: Duration) -> Failure {
    Failure::new(FailureKind::Unanswered, format!("no whole answer within {after:?}"))
}
