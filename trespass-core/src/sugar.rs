//! The `async` forms: try, wait until ready, try again. They hold no data, so dropping one loses nothing.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll};

use crate::error::TryError;
use crate::fabric::Listener;
use crate::track::{RecvSide, SendSide};

/// `async` forms of [`SendSide`]. Each borrows the side alone; dropping one at any await loses nothing.
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
