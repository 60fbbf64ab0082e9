//! From a track to an encrypted stream, each step within a deadline.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use trespass::carriers::{CarrierError, StreamCarrier, StreamConfig};
use trespass::core::{InOrder, Lossless, Role, Track, TransportError};

/// How long a handshake of TLS may take. Streams have a deadline of their own for theirs; TLS has none.
pub const HANDSHAKE: Duration = Duration::from_secs(5);

/// Why there is no encrypted stream.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SecureError<E: TransportError> {
    /// The stream below was not opened.
    #[error("no stream: {0}")]
    Stream(CarrierError<E>),
    /// The peer is not who it is to be, or does not speak TLS, or is gone; kind `TimedOut` where it said nothing for
    /// [`HANDSHAKE`].
    #[error("no TLS: {0}")]
    Handshake(#[from] io::Error),
}

/// The connecting end.
///
/// # Errors
/// See [`SecureError`].
pub async fn connect<T>(
    track: T,
    tls: &TlsConnector,
    name: ServerName<'static>,
) -> Result<client::TlsStream<StreamCarrier<T>>, SecureError<T::Error>>
where
    T: Track<Delivery: Lossless + InOrder>,
{
    let stream = StreamCarrier::open(track, Role::Connector, StreamConfig::default()).await;
    Ok(connect_over(stream.map_err(SecureError::Stream)?, tls, name).await?)
}

/// The accepting end.
///
/// # Errors
/// See [`SecureError`].
pub async fn accept<T>(
    track: T,
    tls: &TlsAcceptor,
) -> Result<server::TlsStream<StreamCarrier<T>>, SecureError<T::Error>>
where
    T: Track<Delivery: Lossless + InOrder>,
{
    let stream = StreamCarrier::open(track, Role::Acceptor, StreamConfig::default()).await;
    Ok(accept_over(stream.map_err(SecureError::Stream)?, tls).await?)
}

/// The connecting end, over any stream of bytes.
///
/// # Errors
/// As the handshake; kind `TimedOut` past its deadline.
pub async fn connect_over<S>(
    stream: S,
    tls: &TlsConnector,
    name: ServerName<'static>,
) -> io::Result<client::TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    timeout(HANDSHAKE, tls.connect(name, stream)).await?
}

/// The accepting end, over any stream of bytes.
///
/// # Errors
/// As [`connect_over`].
pub async fn accept_over<S>(stream: S, tls: &TlsAcceptor) -> io::Result<server::TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    timeout(HANDSHAKE, tls.accept(stream)).await?
}
