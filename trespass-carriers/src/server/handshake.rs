//! One handshake: the connection, then the carrier on it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use trespass_core::{Carrier, Endpoint, Incoming, Limits, Listener, Role};

use super::error::HandshakeError;
use super::shared::{Phase, Place};

/// A handshake in progress. Dropping it takes it back, and gives its place to the next.
pub(super) struct Handshake<L: Listener, C: Carrier<Track = L::Track>> {
    stage: Stage<L, C>,
    place: Option<Place<L::Addr>>,
    config: C::Config,
    max_memory: usize,
}

enum Stage<L: Listener, C: Carrier<Track = L::Track>> {
    Accepting(Pin<Box<<L::Incoming as Incoming>::Accepting>>),
    Opening(Pin<Box<C::Opening>>),
    /// The server drains: the peer gets a goodbye.
    Leaving(C),
}

/// What a handshake comes to.
pub(super) enum Done<L: Listener, C: Carrier<Track = L::Track>> {
    Open(C, Place<L::Addr>),
    Failed(HandshakeError<L::Error, C::Error>, Place<L::Addr>),
    /// It was done too late: it had to go.
    Left,
}

// Futures that may want to stay where they are have boxes of their own.
impl<L: Listener, C: Carrier<Track = L::Track>> Unpin for Handshake<L, C> {}

impl<L: Listener, C: Carrier<Track = L::Track>> Handshake<L, C> {
    pub(super) fn new(incoming: L::Incoming, place: Place<L::Addr>, config: C::Config, max_memory: usize) -> Self {
        Self { stage: Stage::Accepting(Box::pin(incoming.accept())), place: Some(place), config, max_memory }
    }

    fn poll_done(&mut self, cx: &mut Context<'_>, place: &Place<L::Addr>) -> Poll<Outcome<L, C>> {
        loop {
            self.stage = match &mut self.stage {
                Stage::Accepting(accepting) => {
                    let track = ready!(accepting.as_mut().poll(cx)).map_err(HandshakeError::Accept)?;
                    let (slots, carrier) = (memory_of(&track.limits()), C::most_memory(&self.config));
                    place
                        .resize(slots, carrier, self.max_memory)
                        .map_err(|(need, left)| HandshakeError::Memory { need, left })?;
                    Stage::Opening(Box::pin(C::open(track, Role::Acceptor, self.config.clone())))
                }
                Stage::Opening(opening) => {
                    let carrier = ready!(opening.as_mut().poll(cx)).map_err(HandshakeError::Open)?;
                    match place.shared.phase() {
                        Phase::Serving => return Poll::Ready(Ok(Some(carrier))),
                        _ => Stage::Leaving(carrier),
                    }
                }
                Stage::Leaving(carrier) => {
                    // Whether or not the peer hears of it: it has to go.
                    let _ = ready!(carrier.poll_close(cx));
                    return Poll::Ready(Ok(None));
                }
            };
        }
    }
}

type Outcome<L, C> = Result<Option<C>, HandshakeError<<L as Listener>::Error, <C as Carrier>::Error>>;

impl<L: Listener, C: Carrier<Track = L::Track>> Future for Handshake<L, C> {
    type Output = Done<L, C>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done<L, C>> {
        let this = self.get_mut();
        let Some(place) = this.place.take() else { return Poll::Ready(Done::Left) };
        Poll::Ready(match this.poll_done(cx, &place) {
            Poll::Ready(Ok(Some(carrier))) => Done::Open(carrier, place),
            Poll::Ready(Ok(None)) => Done::Left,
            Poll::Ready(Err(error)) => Done::Failed(error, place),
            Poll::Pending => {
                this.place = Some(place);
                return Poll::Pending;
            }
        })
    }
}

/// What the slots of a track take, in bytes.
fn memory_of(limits: &Limits) -> usize {
    limits.send_slots.saturating_add(limits.recv_slots).saturating_mul(limits.max_message)
}
