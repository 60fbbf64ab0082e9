//! Carriers: what applications talk through.

use std::future::Future;
use std::task::{Context, Poll};

use crate::error::TransportError;
use crate::track::Track;

/// Which end of the track opened it: the two ends of a handshake are not alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The end that connected: it speaks first.
    Connector,
    /// The end that accepted.
    Acceptor,
}

/// Anything that takes a track over, shakes hands, and offers an interface above messages.
///
/// # For implementers
/// - The handshake is in band, as the first message, so that it works on any track; it has a deadline; a refusal is typed
///   and says why.
/// - A refusal is sent and then closed: dropping the track instead may cut it off.
/// - Whatever bytes the peer sends, the answer is a typed error and a closed track.
/// - An in-band FIN is the only clean end; the end of the track without it is kind `Disconnected`.
/// - Register only a fan-out waker ([`FanOut`](crate::FanOut)) with the track.
/// - A carrier may stand on another: one that holds a `MessageCarrier` has credits, sizes and a clean end already. Then the waker
///   to register is the task's own. `examples/custom_carrier` is such a one, with a tutorial.
/// - What differs between the ends, but for who speaks first, is better told by two types than by [`Role`]: a publisher may
///   connect to its subscribers.
///
/// # For users
/// `open` on both ends of a connection; then what the carrier itself offers; then `poll_close`.
///
/// # Implemented by
/// Those of `trespass-carriers`: `MessageCarrier`, `StreamCarrier` (bytes), `RendezvousCarrier` (long messages are
/// read, not sent) and `DatagramCarrier`.
///
/// # A toy
/// Takes the track over and offers nothing but to end it.
/// ```
/// use std::future::{Ready, ready};
/// use std::task::{Context, Poll};
/// use trespass_core::*;
///
/// struct Bare<T>(T);
/// impl<T: Track> Carrier for Bare<T> {
///     type Track = T;
///     type Config = ();
///     type Error = T::Error;
///     type Opening = Ready<Result<Self, T::Error>>;
///     fn open(track: T, _: Role, (): ()) -> Self::Opening {
///         ready(Ok(Bare(track)))
///     }
///     fn most_memory((): &()) -> usize {
///         0
///     }
///     fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
///         self.0.poll_close(cx)
///     }
/// }
/// ```
pub trait Carrier: Sized {
    /// What it runs over.
    type Track: Track;
    /// How it is set up.
    type Config: Clone;
    /// What can go wrong.
    type Error: TransportError;
    /// A handshake in progress. Dropping it drops the track.
    type Opening: Future<Output = Result<Self, Self::Error>>;

    /// Takes `track` over and shakes hands, within a deadline of the configuration's. Dropping the future drops the track,
    /// which ends it for the peer too.
    ///
    /// # Errors
    /// Of the future: a configuration that does not fit the track, a peer that is refused or refuses (and why), the deadline,
    /// or what ended the track.
    fn open(track: Self::Track, role: Role, config: Self::Config) -> Self::Opening;

    /// How many bytes a carrier set up like this may take at most, whatever its peer does: beside the buffers of its track, and
    /// beside what its application holds. Whoever serves many peers counts with it.
    fn most_memory(config: &Self::Config) -> usize;

    /// Which process the peer is, where the handshake tells: a number that the peer chose when it started. Another one at the same
    /// address was started anew.
    fn incarnation(&self) -> Option<u64> {
        None
    }

    /// Sends what is queued, says goodbye, and ends the track. Idempotent, with a deadline.
    ///
    /// # Errors
    /// What kept the end from being clean.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;
}
