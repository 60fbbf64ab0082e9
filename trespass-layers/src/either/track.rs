//! Tracks, their halves, their buffers and their time, of either side.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use trespass_core::{Endpoint, Limits, RecvSide, SendBuf, SendSide, Timer, Track, TryError, Unsent};

use super::{Either, EitherError, each, each_as_is};

fn tried<T, E, G>(error: TryError<E>, wrap: impl FnOnce(E) -> G) -> Result<T, TryError<G>> {
    Err(match error {
        TryError::WouldBlock => TryError::WouldBlock,
        TryError::Failed(error) => TryError::Failed(wrap(error)),
    })
}

impl<A: Endpoint, B: Endpoint> Endpoint for Either<A, B> {
    type Error = EitherError<A::Error, B::Error>;
    type Addr = Either<A::Addr, B::Addr>;
    type Timer = Either<A::Timer, B::Timer>;

    fn limits(&self) -> Limits {
        each!(self, end => end.limits())
    }

    fn local(&self) -> Self::Addr {
        each_as_is!(self, end => end.local())
    }

    fn peer(&self) -> Self::Addr {
        each_as_is!(self, end => end.peer())
    }

    fn timer(&self) -> Self::Timer {
        each_as_is!(self, end => end.timer())
    }
}

impl<A: SendSide, B: SendSide> SendSide for Either<A, B> {
    type SendBuf = Either<A::SendBuf, B::SendBuf>;

    #[inline]
    fn try_reserve(&mut self, len: usize) -> Result<Self::SendBuf, TryError<Self::Error>> {
        match self {
            Self::Left(side) => {
                side.try_reserve(len).map(Either::Left).or_else(|error| tried(error, EitherError::Left))
            }
            Self::Right(side) => {
                side.try_reserve(len).map(Either::Right).or_else(|error| tried(error, EitherError::Right))
            }
        }
    }

    #[inline]
    fn send(&mut self, buf: Self::SendBuf) -> Result<(), Unsent<Self::SendBuf, Self::Error>> {
        match (self, buf) {
            (Self::Left(side), Either::Left(buf)) => side
                .send(buf)
                .map_err(|Unsent { buf, error }| Unsent { buf: Either::Left(buf), error: EitherError::Left(error) }),
            (Self::Right(side), Either::Right(buf)) => side
                .send(buf)
                .map_err(|Unsent { buf, error }| Unsent { buf: Either::Right(buf), error: EitherError::Right(error) }),
            (_, buf) => Err(Unsent { buf, error: EitherError::ForeignBuffer }),
        }
    }

    #[inline]
    fn carries_immediate(&self) -> bool {
        each!(self, side => side.carries_immediate())
    }

    #[inline]
    fn send_immediate(
        &mut self,
        buf: Self::SendBuf,
        word: u32,
    ) -> Result<(), Unsent<Self::SendBuf, Option<Self::Error>>> {
        match (self, buf) {
            (Self::Left(side), Either::Left(buf)) => side.send_immediate(buf, word).map_err(|Unsent { buf, error }| {
                Unsent { buf: Either::Left(buf), error: error.map(EitherError::Left) }
            }),
            (Self::Right(side), Either::Right(buf)) => {
                side.send_immediate(buf, word).map_err(|Unsent { buf, error }| Unsent {
                    buf: Either::Right(buf),
                    error: error.map(EitherError::Right),
                })
            }
            (_, buf) => Err(Unsent { buf, error: Some(EitherError::ForeignBuffer) }),
        }
    }

    #[inline]
    fn flush(&mut self) -> Result<(), Self::Error> {
        match self {
            Self::Left(side) => side.flush().map_err(EitherError::Left),
            Self::Right(side) => side.flush().map_err(EitherError::Right),
        }
    }

    #[inline]
    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        each!(self, side => side.poll_send_ready(cx))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self {
            Self::Left(side) => side.poll_close(cx).map_err(EitherError::Left),
            Self::Right(side) => side.poll_close(cx).map_err(EitherError::Right),
        }
    }
}

impl<A: RecvSide, B: RecvSide> RecvSide for Either<A, B> {
    type RecvBuf = Either<A::RecvBuf, B::RecvBuf>;

    #[inline]
    fn posted(&self) -> u64 {
        each!(self, side => side.posted())
    }

    #[inline]
    fn try_recv(&mut self) -> Result<Self::RecvBuf, TryError<Self::Error>> {
        match self {
            Self::Left(side) => side.try_recv().map(Either::Left).or_else(|error| tried(error, EitherError::Left)),
            Self::Right(side) => side.try_recv().map(Either::Right).or_else(|error| tried(error, EitherError::Right)),
        }
    }

    #[inline]
    fn immediate(buf: &Self::RecvBuf) -> Option<u32> {
        match buf {
            Either::Left(buf) => A::immediate(buf),
            Either::Right(buf) => B::immediate(buf),
        }
    }

    #[inline]
    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        each!(self, side => side.poll_recv_ready(cx))
    }
}

impl<A: Track, B: Track<Delivery = A::Delivery>> Track for Either<A, B> {
    type Delivery = A::Delivery;
    type Sender = Either<A::Sender, B::Sender>;
    type Receiver = Either<A::Receiver, B::Receiver>;

    fn split(self) -> (Self::Sender, Self::Receiver) {
        match self {
            Self::Left(track) => {
                let (sender, receiver) = track.split();
                (Either::Left(sender), Either::Left(receiver))
            }
            Self::Right(track) => {
                let (sender, receiver) = track.split();
                (Either::Right(sender), Either::Right(receiver))
            }
        }
    }
}

impl<A: Deref<Target = [u8]>, B: Deref<Target = [u8]>> Deref for Either<A, B> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        each!(self, buf => buf)
    }
}

impl<A: DerefMut<Target = [u8]>, B: DerefMut<Target = [u8]>> DerefMut for Either<A, B> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        each!(self, buf => buf)
    }
}

impl<A: AsRef<[u8]>, B: AsRef<[u8]>> AsRef<[u8]> for Either<A, B> {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        each!(self, buf => buf.as_ref())
    }
}

impl<A: SendBuf, B: SendBuf> SendBuf for Either<A, B> {
    #[inline]
    fn truncate(&mut self, len: usize) {
        each!(self, buf => buf.truncate(len));
    }
}

impl<A: Timer, B: Timer> Timer for Either<A, B> {
    type Sleep = Either<A::Sleep, B::Sleep>;

    fn now(&self) -> Duration {
        each!(self, timer => timer.now())
    }

    fn sleep(&self, after: Duration) -> Self::Sleep {
        each_as_is!(self, timer => timer.sleep(after))
    }
}

impl<A: Future + Unpin, B: Future<Output = A::Output> + Unpin> Future for Either<A, B> {
    type Output = A::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A::Output> {
        each!(&mut *self, future => Pin::new(future).poll(cx))
    }
}
