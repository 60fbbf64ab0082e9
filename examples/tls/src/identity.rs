//! Who is who: a certificate that a server makes for itself, and a client that trusts that one and no other.

use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls};

/// The name that certificates of this example are for. Not an address: RDMA has no DNS of its own, so both ends agree on
/// a name.
pub const NAME: &str = "server.trespass.example";

/// What goes wrong before anything is said.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The certificate cannot be made.
    #[error("no certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// It, or its key, is none that TLS takes.
    #[error("a certificate or key that will not do: {0}")]
    Use(#[from] rustls::Error),
    /// The name is none.
    #[error("not a name: {0}")]
    Name(#[from] InvalidDnsNameError),
}

/// A server's key and certificate.
#[derive(Debug)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// A new key, and a certificate that it signs itself.
    ///
    /// # Errors
    /// Where there is no randomness to be had.
    pub fn self_signed() -> Result<Self, IdentityError> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        Ok(Self { certificate: made.cert.into(), key })
    }

    /// What clients have to know, by a way that is safe already: its bytes, in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The server's side of TLS 1.3.
    ///
    /// # Errors
    /// Where key and certificate do not go together.
    pub fn acceptor(self) -> Result<TlsAcceptor, IdentityError> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate], self.key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// The client's side of TLS 1.3, which trusts `certificate` and nothing else.
///
/// # Errors
/// Where that is no certificate.
pub fn connector(certificate: CertificateDer<'static>) -> Result<(TlsConnector, ServerName<'static>), IdentityError> {
    let mut trusted = RootCertStore::empty();
    trusted.add(certificate)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(config)), ServerName::try_from(NAME)?))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
