//! The handshake, joined to a track.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use trespass_core::{Datagram, Endpoint, ErrorKind, Role, Timer, Track, TransportError, TryError};

use super::handshake::{Agreed, Handshake, Heard, Say};
use super::inbound::Inbound;
use super::wire::{self, READY};
use super::{DatagramCarrier, DatagramConfig, DatagramRecvHalf, DatagramSendHalf, Session, Shared};
use crate::error::{CarrierError, Phase};
use crate::pool::Pool;
use crate::wire::{HEADER, Kind};

/// How often a refusal is said: it may be lost.
const REFUSALS: u8 = 3;

/// A handshake in progress: see [`DatagramCarrier::open`]. Dropping it drops the track.
#[must_use = "nothing is said before the first poll"]
pub struct DatagramOpening<T: Track<Delivery = Datagram>> {
    /// `None` once it is over.
    state: Option<Result<Talk<T>, CarrierError<T::Error>>>,
}

struct Talk<T: Endpoint> {
    track: T,
    config: DatagramConfig,
    id: u64,
    session: u32,
    handshake: Handshake,
    deadline: <T::Timer as Timer>::Sleep,
    /// When to say again what was not answered. `None` before the first time.
    again: Option<<T::Timer as Timer>::Sleep>,
    /// This end has said no, and only tells the peer.
    parting: Option<Parting<T::Error>>,
}

struct Parting<E> {
    error: CarrierError<E>,
    say: Say,
    left: u8,
}

// Tracks and timers are used through plain references: nothing here is pinned.
impl<T: Track<Delivery = Datagram>> Unpin for DatagramOpening<T> {}

impl<T: Track<Delivery = Datagram>> DatagramOpening<T> {
    pub(super) fn new(track: T, role: Role, config: DatagramConfig) -> Self {
        let offer = match config.check(&track.limits()) {
            Ok(offer) => offer,
            Err(fault) => return Self { state: Some(Err(CarrierError::Config(fault))) },
        };
        let deadline = track.timer().sleep(config.open_timeout);
        let (id, session) = new_session();
        let handshake = Handshake::new(role, offer, session);
        let talk = Talk { track, config, id, session, handshake, deadline, again: None, parting: None };
        Self { state: Some(Ok(talk)) }
    }
}

/// A number for this carrier that no other of this process has, and one that others elsewhere most likely do not have.
fn new_session() -> (u64, u32) {
    static CARRIERS: AtomicU64 = AtomicU64::new(0);
    let id = CARRIERS.fetch_add(1, Ordering::Relaxed);
    (id, RandomState::new().hash_one(id) as u32)
}

impl<T: Track<Delivery = Datagram>> Future for DatagramOpening<T> {
    type Output = Result<DatagramCarrier<T>, CarrierError<T::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let state = &mut self.get_mut().state;
        let outcome = match state {
            Some(Ok(talk)) => ready!(talk.poll(cx)),
            Some(Err(error)) => Err(error.clone()),
            None => Err(CarrierError::Closed),
        };
        Poll::Ready(match (outcome, state.take()) {
            (Ok((agreed, first)), Some(Ok(talk))) => Ok(talk.open(agreed, first)),
            (Err(error), _) => Err(error),
            (Ok(_), _) => Err(CarrierError::Closed),
        })
    }
}

/// What was agreed, and the datagram that showed it, where that is part of the session.
type Outcome<T, E> = Result<(Agreed, Option<T>), CarrierError<E>>;

impl<T: Track<Delivery = Datagram>> Talk<T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<T::RecvBuf, T::Error>> {
        if Pin::new(&mut self.deadline).poll(cx).is_ready() {
            let parting = self.parting.take();
            return Poll::Ready(Err(parting.map_or(CarrierError::TimedOut(Phase::Open), |parting| parting.error)));
        }
        while self.parting.is_none() {
            self.poll_prompt(cx);
            match self.track.try_recv() {
                Ok(datagram) => {
                    if let Some(outcome) = self.hear(datagram) {
                        return Poll::Ready(outcome);
                    }
                }
                Err(TryError::Failed(error)) => return Poll::Ready(Err(ended(error))),
                Err(TryError::WouldBlock) => ready!(self.track.poll_recv_ready(cx)),
            }
        }
        self.poll_parting(cx)
    }

    /// Says what is to be said first, and again when it is time.
    fn poll_prompt(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(again) = &mut self.again {
                if Pin::new(again).poll(cx).is_pending() {
                    return;
                }
            }
            self.again = Some(self.track.timer().sleep(self.config.open_retry));
            if let Some(say) = self.handshake.prompt() {
                // What finds no slot, or is lost, is said again.
                let _ = self.say(&say);
            }
        }
    }

    /// What the handshake has come to, if it is over.
    fn hear(&mut self, datagram: T::RecvBuf) -> Option<Outcome<T::RecvBuf, T::Error>> {
        match self.handshake.hear(&datagram) {
            Heard::Nothing => None,
            Heard::Say(say) => {
                let _ = self.say(&say);
                None
            }
            Heard::Open(agreed, say) => {
                if let Some(say) = say {
                    // The peer asks again where this is lost.
                    let _ = self.say(&say);
                }
                Some(Ok((agreed, None)))
            }
            Heard::OpenWith(agreed) => Some(Ok((agreed, Some(datagram)))),
            Heard::Refused(why) => Some(Err(CarrierError::Refused(why))),
            Heard::Incompatible(why, say) => {
                self.parting = Some(Parting { error: CarrierError::Incompatible(why), say, left: REFUSALS });
                None
            }
            Heard::Left => Some(Err(CarrierError::Disconnected)),
        }
    }

    /// Tells the peer why not, and lets the device send that.
    fn poll_parting(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<T::RecvBuf, T::Error>> {
        while let Some((say, left)) = self.parting.as_ref().map(|parting| (parting.say, parting.left)) {
            match left {
                0 => {
                    // Whether or not the peer learns of it: the first cause is what counts.
                    let _ = ready!(self.track.poll_close(cx));
                    break;
                }
                _ => match self.say(&say) {
                    Err(TryError::WouldBlock) => ready!(self.track.poll_send_ready(cx)),
                    said => {
                        let left = if said.is_ok() { left - 1 } else { 0 };
                        self.parting.as_mut().into_iter().for_each(|parting| parting.left = left);
                    }
                },
            }
        }
        Poll::Ready(Err(self.parting.take().map_or(CarrierError::Closed, |parting| parting.error)))
    }

    fn say(&mut self, say: &Say) -> Result<(), TryError<T::Error>> {
        match *say {
            Say::Hello(offer) => self.put(&wire::greeting(Kind::Hello, &offer, self.session, 0)),
            Say::Welcome { offer, to } => self.put(&wire::greeting(Kind::Welcome, &offer, self.session, to)),
            Say::Refuse { why, to } => self.put(&wire::refusal(why, to)),
            Say::Ready { to } => {
                let mut ready = [0; HEADER];
                wire::put_header(&mut ready, READY, to, 0);
                self.put(&ready)
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TryError<T::Error>> {
        let mut frame = self.track.try_reserve(bytes.len())?;
        frame.copy_from_slice(bytes);
        self.track.send(frame).map_err(|unsent| TryError::Failed(unsent.error))?;
        self.track.flush().map_err(TryError::Failed)
    }

    fn open(self, agreed: Agreed, first: Option<T::RecvBuf>) -> DatagramCarrier<T> {
        let Self { track, config, id, session, .. } = self;
        let bounds = config.bounds(&agreed.agreement);
        let inbound = Inbound::new(session, config.assemblies, bounds, Pool::new(config.pool_limit));
        let shared = Arc::<Shared>::default();
        let session = Session {
            id,
            peer: agreed.peer,
            eager_limit: agreed.agreement.eager_limit,
            max_message: agreed.agreement.max_message,
            segment: bounds.segment,
            keepalive: config.vigilance().beat_every(agreed.agreement.peer_idle),
            close_timeout: config.close_timeout,
        };
        let (sender, receiver) = track.split();
        DatagramCarrier {
            sender: DatagramSendHalf::new(sender, session, Arc::clone(&shared)),
            receiver: DatagramRecvHalf::new(receiver, inbound, first, config.idle_timeout, shared),
            peer_incarnation: agreed.agreement.peer_incarnation,
        }
    }
}

fn ended<E: TransportError>(error: E) -> CarrierError<E> {
    match error.kind() {
        ErrorKind::Closed => CarrierError::Disconnected,
        _ => CarrierError::Track(error),
    }
}
