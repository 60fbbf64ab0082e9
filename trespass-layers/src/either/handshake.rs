//! Handshakes of either side.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Either, EitherError};

/// A handshake of either side, or the failure of one that could not begin.
#[derive(Debug)]
pub struct EitherHandshake<A, B, E>(Inner<A, B, E>);

#[derive(Debug)]
enum Inner<A, B, E> {
    Left(Pin<Box<A>>),
    Right(Pin<Box<B>>),
    Failed(E),
}

// Nothing in here is pinned in place: the handshakes below have a box of their own.
impl<A, B, E> Unpin for EitherHandshake<A, B, E> {}

impl<A, B, E> EitherHandshake<A, B, E> {
    pub(super) fn left(inner: A) -> Self {
        Self(Inner::Left(Box::pin(inner)))
    }

    pub(super) fn right(inner: B) -> Self {
        Self(Inner::Right(Box::pin(inner)))
    }

    pub(super) fn failed(error: E) -> Self {
        Self(Inner::Failed(error))
    }
}

impl<A, B, T, U, E, G> Future for EitherHandshake<A, B, EitherError<E, G>>
where
    A: Future<Output = Result<T, E>>,
    B: Future<Output = Result<U, G>>,
    E: Clone,
    G: Clone,
{
    type Output = Result<Either<T, U>, EitherError<E, G>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Inner::Left(inner) => inner.as_mut().poll(cx).map_ok(Either::Left).map_err(EitherError::Left),
            Inner::Right(inner) => inner.as_mut().poll(cx).map_ok(Either::Right).map_err(EitherError::Right),
            Inner::Failed(error) => Poll::Ready(Err(error.clone())),
        }
    }
}
