//! The `async` forms: try, wait until ready, try again. They hold no data, so dropping one loses nothing.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll};

use crate::error::TryError;
use crate::fabric::Listener;
use crate::memory::{Completed, RemoteMemory};
use crate::track::{RecvSide, SendSide};

/// `async` forms of [`SendSide`]. Each borrows the side alone; dropping one at any await loses nothing.
///
/// # Implemented by
/// Every [`SendSide`].
///
/// # Example
/// ```
/// use trespass_core::{SendSide, SendSideExt};
///
/// async fn say<S: SendSide>(sender: &mut S, message: &[u8]) -> Result<(), S::Error> {
///     let mut buf = sender.reserve(message.len()).await?;
///     buf.copy_from_slice(message);
///     sender.send(buf).map_err(|unsent| unsent.error)?;
///     // Nothing goes out before this; a close does it too.
///     sender.flush()
/// }
/// ```
pub trait SendSideExt: SendSide {
    /// Waits for a slot and claims `len` bytes with it.
    ///
    /// # Errors
    /// As [`SendSide::try_reserve`], never `WouldBlock`.
    fn reserve(&mut self, len: usize) -> impl Future<Output = Result<Self::SendBuf, Self::Error>> + use<'_, Self>;

    /// Ends the track cleanly: see [`SendSide::poll_close`].
    ///
    /// # Errors
    /// As [`SendSide::poll_close`].
    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + use<'_, Self>;
}

impl<S: SendSide + ?Sized> SendSideExt for S {
    #[inline]
    fn reserve(&mut self, len: usize) -> impl Future<Output = Result<Self::SendBuf, Self::Error>> + use<'_, S> {
        poll_fn(move |cx| poll_reserve(self, cx, len))
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + use<'_, S> {
        poll_fn(|cx| self.poll_close(cx))
    }
}

/// `async` forms of [`RecvSide`]. Each borrows the side alone; dropping one at any await loses nothing.
///
/// # Implemented by
/// Every [`RecvSide`].
///
/// # Example
/// ```
/// use trespass_core::{ErrorKind, RecvSide, RecvSideExt, TransportError};
///
/// /// How many bytes come until the end of the track.
/// async fn count<R: RecvSide>(receiver: &mut R) -> Result<usize, R::Error> {
///     let mut bytes = 0;
///     loop {
///         match receiver.recv().await {
///             Ok(message) => bytes += message.len(),
///             Err(error) if error.kind() == ErrorKind::Closed => return Ok(bytes),
///             Err(error) => return Err(error),
///         }
///     }
/// }
/// ```
pub trait RecvSideExt: RecvSide {
    /// Waits for the next message.
    ///
    /// # Errors
    /// As [`RecvSide::try_recv`], never `WouldBlock`.
    fn recv(&mut self) -> impl Future<Output = Result<Self::RecvBuf, Self::Error>> + use<'_, Self>;
}

impl<R: RecvSide + ?Sized> RecvSideExt for R {
    #[inline]
    fn recv(&mut self) -> impl Future<Output = Result<Self::RecvBuf, Self::Error>> + use<'_, R> {
        poll_fn(|cx| poll_recv(self, cx))
    }
}

/// The `async` form of [`Listener`].
///
/// # Implemented by
/// Every [`Listener`].
///
/// # Example
/// ```
/// use trespass_core::{Incoming, Listener, ListenerExt};
///
/// async fn first<L: Listener>(listener: &mut L) -> Result<L::Track, L::Error> {
///     listener.incoming().await?.accept().await
/// }
/// ```
pub trait ListenerExt: Listener {
    /// Waits for the next connection request.
    ///
    /// # Errors
    /// As [`Listener::poll_incoming`].
    fn incoming(&mut self) -> impl Future<Output = Result<Self::Incoming, Self::Error>> + use<'_, Self>;
}

impl<L: Listener + ?Sized> ListenerExt for L {
    fn incoming(&mut self) -> impl Future<Output = Result<Self::Incoming, Self::Error>> + use<'_, L> {
        poll_fn(|cx| self.poll_incoming(cx))
    }
}

/// [`SendSide::try_reserve`], or a wait for it.
///
/// # Errors
/// As [`SendSide::try_reserve`], never `WouldBlock`.
#[inline]
pub fn poll_reserve<S: SendSide + ?Sized>(
    side: &mut S,
    cx: &mut Context<'_>,
    len: usize,
) -> Poll<Result<S::SendBuf, S::Error>> {
    loop {
        match side.try_reserve(len) {
            Ok(buf) => return Poll::Ready(Ok(buf)),
            Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
            Err(TryError::WouldBlock) => std::task::ready!(side.poll_send_ready(cx)),
        }
    }
}

/// [`RecvSide::try_recv`], or a wait for it.
///
/// # Errors
/// As [`RecvSide::try_recv`], never `WouldBlock`.
#[inline]
pub fn poll_recv<R: RecvSide + ?Sized>(side: &mut R, cx: &mut Context<'_>) -> Poll<Result<R::RecvBuf, R::Error>> {
    loop {
        match side.try_recv() {
            Ok(buf) => return Poll::Ready(Ok(buf)),
            Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
            Err(TryError::WouldBlock) => std::task::ready!(side.poll_recv_ready(cx)),
        }
    }
}

/// `async` forms of [`RemoteMemory`]. Each borrows the side alone and holds no memory; dropping one at any await loses
/// nothing.
///
/// # Implemented by
/// Every [`RemoteMemory`], whose toy uses it.
pub trait RemoteMemoryExt: RemoteMemory {
    /// Waits for the right to queue a write.
    ///
    /// # Errors
    /// What ended the track.
    fn write_permit(&mut self) -> impl Future<Output = Result<Self::WritePermit, Self::Error>> + use<'_, Self>;

    /// Waits for the right to queue a read or an atomic operation.
    ///
    /// # Errors
    /// What ended the track.
    fn fetch_permit(&mut self) -> impl Future<Output = Result<Self::FetchPermit, Self::Error>> + use<'_, Self>;

    /// Waits for the next operation that is over.
    ///
    /// # Errors
    /// What ended the track, once nothing more comes back.
    fn completed(
        &mut self,
    ) -> impl Future<Output = Result<Completed<Self::Region, Self::Error>, Self::Error>> + use<'_, Self>;
}

impl<S: RemoteMemory + ?Sized> RemoteMemoryExt for S {
    #[inline]
    fn write_permit(&mut self) -> impl Future<Output = Result<Self::WritePermit, Self::Error>> + use<'_, S> {
        poll_fn(|cx| poll_try(self, cx, S::try_write_permit, S::poll_write_permit_ready))
    }

    #[inline]
    fn fetch_permit(&mut self) -> impl Future<Output = Result<Self::FetchPermit, Self::Error>> + use<'_, S> {
        poll_fn(|cx| poll_try(self, cx, S::try_fetch_permit, S::poll_fetch_permit_ready))
    }

    #[inline]
    fn completed(
        &mut self,
    ) -> impl Future<Output = Result<Completed<Self::Region, Self::Error>, Self::Error>> + use<'_, S> {
        poll_fn(|cx| poll_try(self, cx, S::try_complete, S::poll_complete_ready))
    }
}

/// Tries, or waits until a try is worth it.
#[inline]
fn poll_try<S: ?Sized, T, E>(
    side: &mut S,
    cx: &mut Context<'_>,
    attempt: impl Fn(&mut S) -> Result<T, TryError<E>>,
    ready: impl Fn(&mut S, &mut Context<'_>) -> Poll<()>,
) -> Poll<Result<T, E>> {
    loop {
        match attempt(side) {
            Ok(value) => return Poll::Ready(Ok(value)),
            Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
            Err(TryError::WouldBlock) => std::task::ready!(ready(side, cx)),
        }
    }
}
