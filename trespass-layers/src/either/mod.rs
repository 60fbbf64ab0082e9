//! One of two backends, chosen at run time.

mod addr;
mod error;
mod handshake;
mod track;

use std::task::{Context, Poll};

use trespass_core::{Fabric, Incoming, Listener, Track};

use addr::{left, right};

pub use addr::UnreadableAddress;
pub use error::EitherError;
pub use handshake::EitherHandshake;

/// One of two: fabrics, and with them everything that belongs to a fabric. What is made of a `Left` fabric is `Left`.
///
/// ```
/// use trespass_core::{ErrorKind, Fabric, TransportError};
/// use trespass_layers::{Either, Metered};
/// use trespass_mock::MockFabric;
///
/// type Chosen = Either<MockFabric, Metered<MockFabric>>;
///
/// let counting = std::env::args().any(|arg| arg == "--count");
/// let fabric: Chosen = match counting {
///     false => Either::Left(MockFabric::new()),
///     true => Either::Right(Metered::over(MockFabric::new())),
/// };
/// let error = futures_executor::block_on(fabric.connect(&"nobody".parse()?)).err().unwrap();
/// assert_eq!(error.kind(), ErrorKind::Refused);
/// # Ok::<_, trespass_layers::either::UnreadableAddress>(())
/// ```
///
/// # Addresses
/// One that is parsed is of the first side that can read it, for it is not known yet which fabric it is meant for. A fabric
/// that is given an address of the other side reads its text as one of its own; where it cannot, the error is of kind
/// `Config` and says so. So an address may be parsed before a fabric is chosen. Addresses of two sides with the same text
/// are equal.
///
/// # Errors
/// Those of the sides, with their kinds ([`EitherError`]).
///
/// # Deliveries
/// Both fabrics' tracks must promise the same: a choice between a reliable track and a datagram track does not compile.
/// ```compile_fail,E0271
/// use trespass_core::Fabric;
/// use trespass_layers::{Either, Lossy};
/// use trespass_mock::MockFabric;
///
/// fn run<F: Fabric>(_: F) {}
/// run(Either::<MockFabric, Lossy<MockFabric>>::Left(MockFabric::new()));
/// ```
///
/// # Costs
/// A branch per call, always the same way; no allocation per message. A handshake allocates once. Buffers and tracks are
/// as large as the larger of the two.
#[derive(Debug, Clone, Copy)]
pub enum Either<A, B> {
    /// The first.
    Left(A),
    /// The second.
    Right(B),
}

/// Does the same to whichever it is.
macro_rules! each {
    ($either:expr, $one:pat => $does:expr) => {
        match $either {
            $crate::Either::Left($one) => $does,
            $crate::Either::Right($one) => $does,
        }
    };
}
/// Does the same to whichever it is, and says which it was.
macro_rules! each_as_is {
    ($either:expr, $one:pat => $does:expr) => {
        match $either {
            $crate::Either::Left($one) => $crate::Either::Left($does),
            $crate::Either::Right($one) => $crate::Either::Right($does),
        }
    };
}
use {each, each_as_is};

impl<A, B> Fabric for Either<A, B>
where
    A: Fabric,
    B: Fabric<Track: Track<Delivery = <A::Track as Track>::Delivery>>,
{
    type Addr = Either<A::Addr, B::Addr>;
    type Error = EitherError<A::Error, B::Error>;
    type Timer = Either<A::Timer, B::Timer>;
    type Track = Either<A::Track, B::Track>;
    type Listener = Either<A::Listener, B::Listener>;
    type Connecting = EitherHandshake<A::Connecting, B::Connecting, Self::Error>;

    fn listen(&self, addr: &Self::Addr) -> Result<Self::Listener, Self::Error> {
        Ok(match self {
            Self::Left(fabric) => Either::Left(fabric.listen(&left(addr)?).map_err(EitherError::Left)?),
            Self::Right(fabric) => Either::Right(fabric.listen(&right(addr)?).map_err(EitherError::Right)?),
        })
    }

    fn connect(&self, addr: &Self::Addr) -> Self::Connecting {
        match self {
            Self::Left(fabric) => match left(addr) {
                Ok(addr) => EitherHandshake::left(fabric.connect(&addr)),
                Err(unreadable) => EitherHandshake::failed(unreadable.into()),
            },
            Self::Right(fabric) => match right(addr) {
                Ok(addr) => EitherHandshake::right(fabric.connect(&addr)),
                Err(unreadable) => EitherHandshake::failed(unreadable.into()),
            },
        }
    }

    fn timer(&self) -> Self::Timer {
        each_as_is!(self, fabric => fabric.timer())
    }
}

impl<A, B> Listener for Either<A, B>
where
    A: Listener,
    B: Listener<Track: Track<Delivery = <A::Track as Track>::Delivery>>,
{
    type Addr = Either<A::Addr, B::Addr>;
    type Error = EitherError<A::Error, B::Error>;
    type Track = Either<A::Track, B::Track>;
    type Incoming = Either<A::Incoming, B::Incoming>;

    fn local(&self) -> Self::Addr {
        each_as_is!(self, listener => listener.local())
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::Incoming, Self::Error>> {
        match self {
            Self::Left(listener) => listener.poll_incoming(cx).map_ok(Either::Left).map_err(EitherError::Left),
            Self::Right(listener) => listener.poll_incoming(cx).map_ok(Either::Right).map_err(EitherError::Right),
        }
    }

    fn close(&mut self) {
        each!(self, listener => listener.close());
    }
}

impl<A, B> Incoming for Either<A, B>
where
    A: Incoming,
    B: Incoming<Track: Track<Delivery = <A::Track as Track>::Delivery>>,
{
    type Addr = Either<A::Addr, B::Addr>;
    type Error = EitherError<A::Error, B::Error>;
    type Track = Either<A::Track, B::Track>;
    type Accepting = EitherHandshake<A::Accepting, B::Accepting, Self::Error>;

    fn peer(&self) -> Self::Addr {
        each_as_is!(self, incoming => incoming.peer())
    }

    fn accept(self) -> Self::Accepting {
        match self {
            Self::Left(incoming) => EitherHandshake::left(incoming.accept()),
            Self::Right(incoming) => EitherHandshake::right(incoming.accept()),
        }
    }

    fn refuse(self) {
        each!(self, incoming => incoming.refuse());
    }

    fn busy(self) {
        each!(self, incoming => incoming.busy());
    }
}
