//! The server's certificate, and the files by which a client knows it: made anew for each server, in a folder that goes away with it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::json;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// The token that the files hold.
pub(super) const TOKEN: &str = "a-service-account-token";

/// Who the server is.
pub(super) struct Identity {
    folder: TempDir,
    kubeconfig: PathBuf,
    tls: Arc<ServerConfig>,
}

impl Identity {
    pub(super) fn new(address: SocketAddr) -> Self {
        let mut ca = CertificateParams::new([]).expect("an authority without names");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "kubernetes");
        let key = KeyPair::generate().expect("a key for the authority");
        let ca = CertifiedIssuer::self_signed(ca, key).expect("an authority");
        let names = [address.ip().to_string(), "kubernetes.default.svc".to_owned()];
        let params = CertificateParams::new(names).expect("names for a certificate");
        let key = KeyPair::generate().expect("a key for the server");
        let certificate = params.signed_by(&key, &ca).expect("a certificate for the server");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks the default protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("the certificate fits its key");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let kubeconfig = write_files(folder.path(), address, &ca.pem());
        Self { folder, kubeconfig, tls: Arc::new(tls) }
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.tls.clone())
    }

    pub(super) fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    pub(super) fn service_account_path(&self) -> PathBuf {
        self.folder.path().join("serviceaccount")
    }
}

fn write_files(folder: &Path, address: SocketAddr, ca: &str) -> PathBuf {
    let account = folder.join("serviceaccount");
    fs::create_dir(&account).expect("a folder for the service account");
    for (name, content) in [("ca.crt", ca), ("token", TOKEN), ("namespace", "postern")] {
        fs::write(account.join(name), content).expect("a file of the service account");
    }
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://{address}"), "certificate-authority": account.join("ca.crt"),
        }}],
        "users": [{"name": "test", "user": {"token": TOKEN}}],
    });
    let path = folder.join("kubeconfig");
    // JSON is YAML.
    fs::write(&path, kubeconfig.to_string()).expect("a kubeconfig file");
    path
}
