//! Opening a stream: the handshake, then the stream.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use trespass_core::{Endpoint, InOrder, Lossless, Role, Track};

use crate::error::CarrierError;
use crate::opening::{Talk, bare_where_carried};
use crate::stream::StreamCarrier;
use crate::stream::config::StreamConfig;
use crate::stream::link::Link;
use crate::stream::reader::Reader;
use crate::wire::Offer;

/// A handshake in progress: see [`StreamCarrier::open`]. Dropping it drops the track.
#[must_use = "nothing is said before the first poll"]
pub struct StreamOpening<T: Track<Delivery: Lossless + InOrder>> {
    state: State<T>,
}

// One for each handshake, and moved a few times: a box would cost more.
#[allow(clippy::large_enum_variant)]
enum State<T: Endpoint> {
    Talking(Talk<T>, StreamConfig),
    Failed(CarrierError<T::Error>),
    Over,
}

// Tracks and timers are used through plain references: nothing here is pinned.
impl<T: Track<Delivery: Lossless + InOrder>> Unpin for StreamOpening<T> {}

impl<T: Track<Delivery: Lossless + InOrder>> StreamOpening<T> {
    pub(super) fn new(track: T, role: Role, config: StreamConfig) -> Self {
        let state = match config.check(&track.limits()) {
            Ok(offer) => {
                let offer = Offer { optional: offer.optional | bare_where_carried(&track), ..offer };
                State::Talking(Talk::new(track, role, offer, config.open_timeout), config)
            }
            Err(fault) => State::Failed(CarrierError::Config(fault)),
        };
        Self { state }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Future for StreamOpening<T> {
    type Output = Result<StreamCarrier<T>, CarrierError<T::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let state = &mut self.get_mut().state;
        if let State::Talking(talk, _) = state {
            let outcome = ready!(talk.poll(cx));
            return Poll::Ready(match (outcome, std::mem::replace(state, State::Over)) {
                (Ok((agreement, credits)), State::Talking(talk, config)) => {
                    let link = Link::new(talk.opened(agreement, credits), config);
                    Ok(StreamCarrier { link, reader: Reader::new() })
                }
                (Err(error), _) => Err(error),
                (Ok(_), _) => Err(CarrierError::Closed),
            });
        }
        Poll::Ready(Err(match std::mem::replace(state, State::Over) {
            State::Failed(error) => error,
            _ => CarrierError::Closed,
        }))
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> fmt::Debug for StreamOpening<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamOpening").finish_non_exhaustive()
    }
}
