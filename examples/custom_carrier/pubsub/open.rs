//! The handshake of both carriers: that of the carrier below, then a hello and its answer. Who connected speaks first; who
//! subscribes is another question.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use trespass::carriers::{MessageCarrier, MessageConfig, MessageOpening};
use trespass::core::{Carrier, InOrder, Lossless, Role, Timer, Track, TryError};

use super::PubSubError;
use super::wire::{Frame, Side, Violation};

/// A carrier that this handshake leads to.
pub(crate) trait End<T: Track<Delivery: Lossless + InOrder>>: Carrier<Track = T> {
    const SIDE: Side;
    fn start(carrier: MessageCarrier<T>) -> Self;
}

/// A handshake in progress. Dropping it drops the track.
pub(crate) struct Opening<T: Track<Delivery: Lossless + InOrder>, C> {
    role: Role,
    stage: Stage<T>,
    deadline: <T::Timer as Timer>::Sleep,
    _end: PhantomData<fn() -> C>,
}

enum Stage<T: Track<Delivery: Lossless + InOrder>> {
    Below(MessageOpening<T>),
    /// The connector says hello.
    Hello(MessageCarrier<T>),
    /// Either waits for the other's word.
    Listen(MessageCarrier<T>),
    /// The acceptor says yes.
    Welcome(MessageCarrier<T>),
    /// The acceptor says no, and why: then waits until the peer has that.
    Refuse(MessageCarrier<T>, super::wire::Refusal),
    Farewell(MessageCarrier<T>, super::wire::Refusal),
    Over,
}

// Carriers and timers are used through plain references: nothing here is pinned.
impl<T: Track<Delivery: Lossless + InOrder>, C> Unpin for Opening<T, C> {}

impl<T: Track<Delivery: Lossless + InOrder>, C: End<T>> Opening<T, C> {
    pub(super) fn new(track: T, role: Role, config: MessageConfig) -> Self {
        // Time comes from the track: on a mock it may be virtual.
        let deadline = track.timer().sleep(OPEN_TIMEOUT);
        let stage = Stage::Below(MessageCarrier::open(track, role, config));
        Self { role, stage, deadline, _end: PhantomData }
    }
}

const OPEN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

impl<T: Track<Delivery: Lossless + InOrder>, C: End<T>> Future for Opening<T, C> {
    type Output = Result<C, PubSubError<T::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if Pin::new(&mut self.deadline).poll(cx).is_ready() {
            return Poll::Ready(Err(PubSubError::TimedOut));
        }
        loop {
            // Each stage that waits leaves itself in its place.
            self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Below(mut opening) => match Pin::new(&mut opening).poll(cx)? {
                    Poll::Ready(carrier) if self.role == Role::Connector => Stage::Hello(carrier),
                    Poll::Ready(carrier) => Stage::Listen(carrier),
                    Poll::Pending => return self.wait(Stage::Below(opening)),
                },
                Stage::Hello(mut carrier) => match poll_say(&mut carrier, cx, &Frame::hello(C::SIDE))? {
                    Poll::Ready(()) => Stage::Listen(carrier),
                    Poll::Pending => return self.wait(Stage::Hello(carrier)),
                },
                Stage::Listen(mut carrier) => {
                    let Poll::Ready(word) = carrier.poll_recv(cx)? else { return self.wait(Stage::Listen(carrier)) };
                    let Some(word) = word else {
                        return Poll::Ready(Err(Violation("it left in the middle of the handshake").into()));
                    };
                    match (self.role, Frame::parse(&word)?) {
                        (Role::Connector, Frame::Welcome) => return Poll::Ready(Ok(C::start(carrier))),
                        (Role::Connector, Frame::Refuse(why)) => return Poll::Ready(Err(PubSubError::Refused(why))),
                        (Role::Acceptor, Frame::Hello { version, side }) => {
                            match Frame::agree(version, side, C::SIDE) {
                                Ok(()) => Stage::Welcome(carrier),
                                Err(why) => Stage::Refuse(carrier, why),
                            }
                        }
                        _ => return Poll::Ready(Err(Violation("something else than a handshake").into())),
                    }
                }
                Stage::Welcome(mut carrier) => match poll_say(&mut carrier, cx, &Frame::Welcome)? {
                    Poll::Ready(()) => return Poll::Ready(Ok(C::start(carrier))),
                    Poll::Pending => return self.wait(Stage::Welcome(carrier)),
                },
                Stage::Refuse(mut carrier, why) => match poll_say(&mut carrier, cx, &Frame::Refuse(why))? {
                    Poll::Ready(()) => Stage::Farewell(carrier, why),
                    Poll::Pending => return self.wait(Stage::Refuse(carrier, why)),
                },
                Stage::Farewell(mut carrier, why) => match carrier.poll_close(cx) {
                    // That the peer is gone already is no news.
                    Poll::Ready(_) => return Poll::Ready(Err(PubSubError::Refused(why))),
                    Poll::Pending => return self.wait(Stage::Farewell(carrier, why)),
                },
                Stage::Over => return Poll::Ready(Err(PubSubError::Below(trespass::carriers::CarrierError::Closed))),
            };
        }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>, C> Opening<T, C> {
    fn wait<R>(&mut self, stage: Stage<T>) -> Poll<R> {
        self.stage = stage;
        Poll::Pending
    }
}

/// Sends one short frame, and flushes.
pub(super) fn poll_say<T: Track<Delivery: Lossless + InOrder>>(
    carrier: &mut MessageCarrier<T>,
    cx: &mut Context<'_>,
    frame: &Frame<'_>,
) -> Poll<Result<(), PubSubError<T::Error>>> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    loop {
        match carrier.try_send(&bytes) {
            Ok(()) => return Poll::Ready(carrier.flush().map_err(PubSubError::Below)),
            Err(TryError::Failed(error)) => return Poll::Ready(Err(error.into())),
            Err(TryError::WouldBlock) => ready!(carrier.poll_send_ready(cx)),
        }
    }
}
