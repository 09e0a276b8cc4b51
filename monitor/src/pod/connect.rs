//! How the API server is found: a kubeconfig file that the configuration names, else the service account that Kubernetes mounts into a pod.
//!
//! `$KUBECONFIG` and `~/.kube/config` are not looked at: on a bare machine they are some person's way into some cluster, and no word that this machine
//! is a node of it.

use std::path::PathBuf;

use kube::{
    Client, Config,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use super::{ApiMode, ApiSettings, Pace};

/// What came of looking for an API server.
pub(super) enum Connection {
    /// One was found; nothing was sent yet.
    Found(Client),
    /// There is none to ask.
    Standalone {
        /// Where it was looked for.
        reason: String,
    },
}

/// Why the way to the API server cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig file cannot be used.
    #[error("kubeconfig {}: {source}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KubeconfigError,
    },
    /// Kubernetes is required, and this is no pod with a service account.
    #[error("no service account ({source}) and no kubeconfig file set, but an API server is required")]
    NoServiceAccount {
        /// What is missing.
        source: InClusterError,
    },
    /// What was found cannot be made into a client: a certificate or a key is broken.
    #[error("the way to the API server cannot be used: {0}")]
    Unusable(#[source] kube::Error),
}

/// Looks for the API server. Reads files, and sends nothing.
pub(super) async fn connect(settings: &ApiSettings) -> Result<Connection, ConnectError> {
    let standalone = |reason: &str| Ok(Connection::Standalone { reason: reason.to_owned() });
    let config = match (&settings.mode, &settings.kubeconfig) {
        (ApiMode::Off, _) => return standalone("switched off by the configuration"),
        (_, Some(path)) => from_file(path.clone()).await?,
        (mode, None) => match Config::incluster_env() {
            Ok(config) => config,
            Err(source) if *mode == ApiMode::Required => return Err(ConnectError::NoServiceAccount { source }),
            Err(source) => return standalone(&format!("no service account ({source}) and no kubeconfig file set")),
        },
    };
    client(config, &settings.pace).map(Connection::Found).map_err(ConnectError::Unusable)
}

async fn from_file(path: PathBuf) -> Result<Config, ConnectError> {
    let read = async {
        let kubeconfig = Kubeconfig::read_from(&path)?;
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
    };
    read.await.map_err(|source| ConnectError::Kubeconfig { path, source })
}

fn client(mut config: Config, pace: &Pace) -> Result<Client, kube::Error> {
    config.connect_timeout = Some(pace.connect);
    // Retries inside the client would hide an overloaded server for minutes: the watch retries, and says so.
    config.default_retry = false;
    Client::try_from(config)
}
