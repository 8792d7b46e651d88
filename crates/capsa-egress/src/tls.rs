//! TLS: which servers are trusted, and what went wrong in words that tell nothing of them.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::denied::Invalid;

/// The certificate authorities of Mozilla, and those of `extra_roots_pem`.
///
/// # Errors
///
/// [`Invalid`] if the PEM text holds no certificate, or one that cannot be read.
pub(crate) fn client_config(extra_roots_pem: Option<&str>) -> Result<Arc<ClientConfig>, Invalid> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = extra_roots_pem {
        let unusable = || Invalid::new("extra_roots_pem", "", "one or more PEM certificates of an authority");
        let mut read = 0;
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.map_err(|_| unusable())?).map_err(|_| unusable())?;
            read += 1;
        }
        if read == 0 {
            return Err(unusable());
        }
    }
    // Named here, so that nothing depends on a default of the process.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring serves the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A session that goes on would let a server tell capsules apart, or take them for one another.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What a TLS error means, if it is one.
pub(crate) fn reason(error: &io::Error) -> Option<&'static str> {
    Some(match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(fault) => match fault {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is for another name"
            }
            CertificateError::UnknownIssuer => "the server's certificate is from no trusted authority",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired"
            }
            _ => "the server's certificate is not valid",
        },
        _ => "TLS failed",
    })
}
