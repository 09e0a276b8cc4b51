//! A stand-in for the Kubernetes API server: TLS on loopback, the documented list and watch protocol for pods and the node, and every fault that an agent must
//! survive. It records what it was asked, so that a test can hold the agent to the load that it may cause.
//!
//! The protocol is that of <https://kubernetes.io/docs/reference/using-api/api-concepts/>.

mod cluster;
mod fault;
mod http;
mod identity;
mod serve;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Runtime,
    task::JoinHandle,
};

use self::serve::Shared;
pub use self::{
    fault::{Fault, On},
    http::{Asked, Request},
};
use super::program::patient;

/// The running server. Stops when dropped; not to be dropped inside an asynchronous task.
pub struct ApiServer {
    shared: Arc<Shared>,
    identity: identity::Identity,
    address: SocketAddr,
    bound: Option<TcpSocket>,
    accepting: Option<JoinHandle<()>>,
    runtime: Runtime,
}

impl ApiServer {
    /// Starts a server that has these pods.
    pub fn start(pods: impl IntoIterator<Item = Value>) -> Self {
        let mut server = Self::prepare(pods);
        server.listen();
        server
    }

    /// A server that has an address and a kubeconfig but does not listen yet: whoever connects is refused.
    pub fn prepare(pods: impl IntoIterator<Item = Value>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("api-server")
            .enable_all()
            .build()
            .expect("a runtime for the API server");
        let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = bound.local_addr().expect("a bound socket has an address");
        let identity = identity::Identity::new(address);
        let shared = Arc::new(Shared::new(pods, identity::TOKEN));
        Self { shared, identity, address, bound: Some(bound), accepting: None, runtime }
    }

    /// Begins to accept connections, for the first time or again after `stop`, at the same address.
    pub fn listen(&mut self) {
        let socket = self.bound.take().unwrap_or_else(|| bind(self.address));
        let _inside = self.runtime.enter();
        let listener = socket.listen(64).expect("listen on loopback");
        let serving = accept(listener, self.identity.acceptor(), self.shared.clone());
        self.accepting = Some(self.runtime.spawn(serving));
    }

    /// Refuses connections and drops those that are open, without a word. Returns when the address is free.
    pub fn stop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // The error says that it was aborted.
            let _ = self.runtime.block_on(accepting);
        }
        self.shared.drop_connections();
    }

    /// Adds a pod, or changes it: `metadata.uid` says which one it is.
    pub fn apply(&self, pod: Value) {
        self.shared.change(|cluster| cluster.apply(pod));
    }

    /// Makes the node's own object, or changes it, with these annotations.
    pub fn annotate_node(&self, name: &str, annotations: &Value) {
        let metadata = serde_json::json!({ "name": name, "uid": format!("uid-of-{name}"), "annotations": annotations });
        self.shared.change_node(serde_json::json!({ "apiVersion": "v1", "kind": "Node", "metadata": metadata }));
    }

    /// Waits until the node's own object is watched. Panics after `within`.
    pub fn wait_for_node_watch(&self, within: Duration) {
        assert!(self.shared.wait_for_node_watch(within), "nobody watched the node within {within:?}");
    }

    /// Deletes a pod.
    pub fn delete(&self, uid: &str) {
        self.shared.change(|cluster| cluster.delete(uid));
    }

    /// Something else in the cluster changes, and every open watch is told of the new resource version by a bookmark. Returns that version.
    pub fn bookmark(&self) -> String {
        self.shared.change(cluster::Cluster::bookmark)
    }

    /// Something else in the cluster changes, and the server forgets all changes until then: whoever watches from before gets 410 Gone, and so does
    /// whoever goes on with an old list.
    pub fn compact(&self) {
        self.shared.change(cluster::Cluster::compact);
    }

    /// Hands out lists in pages of this many pods even to who did not ask for pages.
    pub fn page(&self, pods: usize) {
        self.shared.change(|cluster| cluster.page = Some(pods));
    }

    /// Ends every open watch in good order.
    pub fn end_watches(&self) {
        self.shared.end_watches();
    }

    /// Drops every connection without a word.
    pub fn drop_connections(&self) {
        self.shared.drop_connections();
    }

    /// The next matching request meets this fault. Faults for the same requests are met in the order of their scripting, one request each.
    pub fn script(&self, on: On, fault: Fault) {
        self.shared.script(on, fault, false);
    }

    /// Every matching request meets this fault, until `heal`.
    pub fn script_until_healed(&self, on: On, fault: Fault) {
        self.shared.script(on, fault, true);
    }

    /// Forgets all faults.
    pub fn heal(&self) {
        self.shared.heal();
    }

    /// From now on only this token is known.
    pub fn expect_token(&self, token: &str) {
        self.shared.change_token(token);
    }

    /// All requests so far, in their order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests()
    }

    /// Waits until `done` says so of the requests so far. Panics after `within`.
    pub fn wait_for(&self, what: &str, within: Duration, done: impl Fn(&[Request]) -> bool) {
        let done = self.shared.wait_until(within, |requests, _| done(requests));
        assert!(done, "the API server waited {within:?} for {what}: {:#?}", self.requests());
    }

    /// Waits until a watch is open and hears of every change from then on. Panics after `within`.
    pub fn wait_for_open_watch(&self, within: Duration) {
        let within = patient(within);
        let open = self.shared.wait_until(within, |_, open| open > 0);
        assert!(open, "the API server waited {within:?} for a watch: {:#?}", self.requests());
    }

    /// How many watches are open, and how many were open at the same time at most.
    pub fn open_watches(&self) -> (usize, usize) {
        self.shared.open_watches()
    }

    /// A kubeconfig file that leads here.
    pub fn kubeconfig_path(&self) -> &Path {
        self.identity.kubeconfig_path()
    }

    /// A folder like `/var/run/secrets/kubernetes.io/serviceaccount`, with `token`, `ca.crt` and `namespace`. Who mounts it there also has to set
    /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT` to `address`.
    pub fn service_account_path(&self) -> PathBuf {
        self.identity.service_account_path()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an address that was used before can be used again");
    socket.bind(address).expect("bind to loopback");
    socket
}

async fn accept(listener: TcpListener, acceptor: tokio_rustls::TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve::serve_connection(stream, acceptor.clone(), shared.clone()));
    }
}
