//! Opening a message carrier: the handshake, then the carrier.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use trespass_core::{Endpoint, InOrder, Lossless, Role, Track};

use crate::carrier::outbox::Outbox;
use crate::carrier::{MessageCarrier, Sizes};
use crate::config::MessageConfig;
use crate::error::CarrierError;
use crate::inbox::Inbox;
use crate::lends::Lends;
use crate::opening::{Opened, Talk, bare_where_carried};
use crate::pulse::Pulse;
use crate::stats::Stats;
use crate::wire::{Offer, RENDEZVOUS};

/// A handshake in progress: see [`MessageCarrier::open`]. Dropping it drops the track.
#[must_use = "nothing is said before the first poll"]
pub struct MessageOpening<T: Track<Delivery: Lossless + InOrder>> {
    state: State<T>,
}

// One for each handshake, and moved a few times: a box would cost more.
#[allow(clippy::large_enum_variant)]
enum State<T: Endpoint> {
    Talking(Talk<T>, MessageConfig),
    Failed(CarrierError<T::Error>),
    Over,
}

// Tracks and timers are used through plain references: nothing here is pinned.
impl<T: Track<Delivery: Lossless + InOrder>> Unpin for MessageOpening<T> {}

impl<T: Track<Delivery: Lossless + InOrder>> MessageOpening<T> {
    pub(super) fn new(track: T, role: Role, config: MessageConfig) -> Self {
        Self::knowing(track, role, config, 0)
    }

    /// The same, for an end that knows these features besides.
    pub(crate) fn knowing(track: T, role: Role, config: MessageConfig, features: u64) -> Self {
        let features = features | bare_where_carried(&track);
        let offer = config.check(&track.limits()).map(|offer| Offer { optional: offer.optional | features, ..offer });
        let state = match offer {
            Ok(offer) => State::Talking(Talk::new(track, role, offer, config.open_timeout), config),
            Err(fault) => State::Failed(CarrierError::Config(fault)),
        };
        Self { state }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Future for MessageOpening<T> {
    type Output = Result<MessageCarrier<T>, CarrierError<T::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let state = &mut self.get_mut().state;
        if let State::Talking(talk, _) = state {
            let outcome = ready!(talk.poll(cx));
            return Poll::Ready(match (outcome, std::mem::replace(state, State::Over)) {
                (Ok((agreement, credits)), State::Talking(talk, config)) => {
                    Ok(MessageCarrier::opened(talk.opened(agreement, credits), config))
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

impl<T: Track<Delivery: Lossless + InOrder>> MessageCarrier<T> {
    pub(super) fn opened(Opened { track, fan_out, agreement, credits }: Opened<T>, config: MessageConfig) -> Self {
        static CARRIERS: AtomicU64 = AtomicU64::new(0);

        let pulse = Pulse::start(config.vigilance(), &agreement, &track.timer(), fan_out.waker());
        let inbox = Inbox::new(config.max_message, config.spill_limit, config.pool_limit);
        let mut carrier = MessageCarrier {
            track: Some(track),
            credits,
            out: Outbox::new(CARRIERS.fetch_add(1, Ordering::Relaxed)),
            inbox,
            recv_error: None,
            peer_left: false,
            closing: None,
            fan_out,
            sizes: Sizes {
                frame: agreement.send_frame,
                head: agreement.head,
                eager_limit: agreement.eager_limit,
                max_message: agreement.max_message,
                peer_incarnation: agreement.peer_incarnation,
            },
            lends: Lends::new(agreement.features & RENDEZVOUS != 0),
            pulse,
            stats: Stats::default(),
            config,
        };
        carrier.fill_stash();
        carrier
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> fmt::Debug for MessageOpening<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageOpening").finish_non_exhaustive()
    }
}
