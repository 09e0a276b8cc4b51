//! TLS towards a sink.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio_rustls::TlsConnector;

use super::super::{SinkError, settings::TlsSettings};

/// What makes a TLS connection of a TCP one.
pub(super) fn connector(settings: &TlsSettings) -> Result<TlsConnector, SinkError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &settings.ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| wrong(path, error.to_string()))?;
        }
    } else {
        // Certificates of the system that do not parse are not ours to mend; none at all is said when connecting.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(Path::new("TLS"), error.to_string()))?
        .with_root_certificates(roots);
    let config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
            builder.with_client_auth_cert(chain, key_der).map_err(|error| wrong(key, error.to_string()))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The name to expect in a certificate.
pub(super) fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is no name that a certificate can have"))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SinkError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| wrong(path, error.to_string()))?;
    let certificates: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| wrong(path, error.to_string()))?;
    if certificates.is_empty() { Err(wrong(path, "it holds no certificate".to_owned())) } else { Ok(certificates) }
}

fn wrong(path: &Path, message: String) -> SinkError {
    SinkError::Setup { path: path.to_owned(), message }
}
