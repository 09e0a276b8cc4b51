//! TLS of a server that nobody has to trust but by its own certificate.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// Makes a certificate for a name or an address, and writes it where clients are to read it.
pub(super) fn server(name: &str, certificate: &Path) -> Arc<ServerConfig> {
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    fs::write(certificate, certified.cert.pem()).expect("written");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key);
    Arc::new(config.expect("a configuration"))
}
