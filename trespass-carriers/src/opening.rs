//! The handshake, for any carrier: the connector says Hello, the acceptor answers Welcome, or Refuse and why.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use trespass_core::{
    Endpoint, ErrorKind, FanOut, InOrder, Lossless, Role, SendSide, Timer, Track, TransportError, poll_recv,
    poll_reserve,
};

use crate::credit::Credits;
use crate::error::{CarrierError, Phase, Refusal, Violation};
use crate::handshake::{Agreement, agree};
use crate::wire::{BARE, Greeting, HEADER, Kind, Offer, encode_refusal, stamp};

/// A handshake in progress.
pub(crate) struct Talk<T: Endpoint> {
    track: T,
    offer: Offer,
    fan_out: FanOut,
    deadline: <T::Timer as Timer>::Sleep,
    stage: Stage<T::Error>,
}

/// What a handshake came to.
pub(crate) struct Opened<T> {
    pub(crate) track: T,
    /// What is registered with the track.
    pub(crate) fan_out: FanOut,
    pub(crate) agreement: Agreement,
    pub(crate) credits: Credits,
}

enum Stage<E> {
    /// The connector's first.
    Hello,
    /// The connector waits for the answer; it had said that so many receives were posted.
    Answer { posted: u64 },
    /// The acceptor waits for the peer's Hello.
    Listen,
    /// The acceptor's answer.
    Welcome(Agreement, Credits),
    /// Tells the peer why not.
    Refuse(Refusal, CarrierError<E>),
    /// Waits until the peer knows.
    End(CarrierError<E>),
}

/// What a step comes to.
type Step<E> = Result<Next<E>, CarrierError<E>>;

enum Next<E> {
    Stage(Stage<E>),
    Open(Agreement, Credits),
}

impl<T: Track<Delivery: Lossless + InOrder>> Talk<T> {
    /// Nothing is said before the first poll.
    pub(crate) fn new(track: T, role: Role, offer: Offer, timeout: Duration) -> Self {
        let stage = match role {
            Role::Connector => Stage::Hello,
            Role::Acceptor => Stage::Listen,
        };
        let deadline = track.timer().sleep(timeout);
        Self { track, offer, fan_out: FanOut::new(), deadline, stage }
    }

    /// What a carrier begins with, once [`poll`](Self::poll) was ready with an agreement.
    pub(crate) fn opened(self, agreement: Agreement, credits: Credits) -> Opened<T> {
        Opened { track: self.track, fan_out: self.fan_out, agreement, credits }
    }

    /// Ready when both ends agree, or will not.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Agreement, Credits), CarrierError<T::Error>>> {
        if Pin::new(&mut self.deadline).poll(cx).is_ready() {
            return Poll::Ready(Err(match std::mem::replace(&mut self.stage, Stage::Hello) {
                // What was wrong is known; only the goodbye took too long.
                Stage::Refuse(_, error) | Stage::End(error) => error,
                _ => CarrierError::TimedOut(Phase::Open),
            }));
        }
        self.fan_out.writer().register(cx.waker());
        loop {
            match ready!(self.poll_step()) {
                Ok(Next::Stage(stage)) => self.stage = stage,
                Ok(Next::Open(agreement, credits)) => return Poll::Ready(Ok((agreement, credits))),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_step(&mut self) -> Poll<Step<T::Error>> {
        match &self.stage {
            Stage::Hello => {
                let hello = self.offer.encode();
                self.poll_say(Kind::Hello, &hello).map_ok(|posted| Next::Stage(Stage::Answer { posted }))
            }
            Stage::Welcome(agreement, credits) => {
                let (agreement, mut credits) = (*agreement, *credits);
                let welcome = Offer { min_version: agreement.version, max_version: agreement.version, ..self.offer };
                self.poll_say(Kind::Welcome, &welcome.encode()).map_ok(|posted| {
                    credits.on_sent(posted);
                    Next::Open(agreement, credits)
                })
            }
            Stage::Refuse(refusal, error) => {
                let (refusal, error) = (encode_refusal(*refusal), error.clone());
                match ready!(self.poll_say(Kind::Refuse, &refusal)) {
                    Ok(_) => Poll::Ready(Ok(Next::Stage(Stage::End(error)))),
                    Err(_) => Poll::Ready(Err(error)),
                }
            }
            Stage::End(error) => {
                let error = error.clone();
                let mut cx = Context::from_waker(self.fan_out.waker());
                // Whether or not the peer learns of it: the first cause is what counts.
                let _ = ready!(self.track.poll_close(&mut cx));
                Poll::Ready(Err(error))
            }
            Stage::Answer { posted } => {
                let posted = *posted;
                self.poll_greeting().map(|bytes| self.answered(&bytes?, posted))
            }
            Stage::Listen => self.poll_greeting().map(|bytes| self.greeted(&bytes?)),
        }
    }

    /// Queues and flushes one frame. Ready with what it says is posted.
    fn poll_say(&mut self, kind: Kind, body: &[u8]) -> Poll<Result<u64, CarrierError<T::Error>>> {
        let mut cx = Context::from_waker(self.fan_out.waker());
        let mut frame = match ready!(poll_reserve(&mut self.track, &mut cx, HEADER + body.len())) {
            Ok(frame) => frame,
            Err(error) => return Poll::Ready(Err(ended(error))),
        };
        let posted = self.track.posted();
        stamp(&mut frame, kind, posted);
        if let Some(room) = frame.get_mut(HEADER..) {
            room.copy_from_slice(body);
        }
        let sent = self.track.send(frame).map_err(|unsent| unsent.error).and_then(|()| self.track.flush());
        Poll::Ready(sent.map(|()| posted).map_err(ended))
    }

    fn poll_greeting(&mut self) -> Poll<Result<T::RecvBuf, CarrierError<T::Error>>> {
        let mut cx = Context::from_waker(self.fan_out.waker());
        poll_recv(&mut self.track, &mut cx).map_err(ended)
    }

    /// What the acceptor makes of the first frame.
    fn greeted(&self, bytes: &[u8]) -> Step<T::Error> {
        let refuse = |refusal, error| Ok(Next::Stage(Stage::Refuse(refusal, error)));
        let nonsense = |violation| refuse(Refusal::Malformed, CarrierError::Protocol(violation));
        let (theirs, posted) = match Greeting::parse(bytes) {
            Ok((Greeting::Hello(theirs), posted)) => (theirs, posted),
            Ok((Greeting::Welcome(_), _)) => return nonsense(out_of_place(Kind::Welcome)),
            Ok((Greeting::Refuse(_), _)) => return nonsense(out_of_place(Kind::Refuse)),
            Err(violation) => return nonsense(violation),
        };
        let agreement = match agree(&self.offer, &theirs) {
            Ok(agreement) => agreement,
            Err(refusal) => return refuse(refusal, CarrierError::Incompatible(refusal)),
        };
        let mut credits = Credits::new(self.offer.window, agreement.peer_window);
        match credits.on_received(posted) {
            Ok(()) => Ok(Next::Stage(Stage::Welcome(agreement, credits))),
            Err(violation) => nonsense(violation),
        }
    }

    /// What the connector makes of the answer to its Hello.
    fn answered(&self, bytes: &[u8], posted: u64) -> Step<T::Error> {
        let (theirs, their_posted) = match Greeting::parse(bytes) {
            Ok((Greeting::Welcome(theirs), their_posted)) => (theirs, their_posted),
            Ok((Greeting::Refuse(refusal), _)) => return Ok(Next::Stage(Stage::End(CarrierError::Refused(refusal)))),
            Ok((Greeting::Hello(_), _)) => return Err(CarrierError::Protocol(out_of_place(Kind::Hello))),
            Err(violation) => return Err(CarrierError::Protocol(violation)),
        };
        let agreement = match agree(&self.offer, &theirs) {
            Ok(agreement) => agreement,
            Err(refusal) => return Ok(Next::Stage(Stage::Refuse(refusal, CarrierError::Incompatible(refusal)))),
        };
        let mut credits = Credits::new(self.offer.window, agreement.peer_window);
        credits.on_sent(posted);
        credits.on_received(their_posted).map_err(CarrierError::Protocol)?;
        Ok(Next::Open(agreement, credits))
    }
}

/// The feature of bare frames, where the track has what they need.
pub(crate) fn bare_where_carried<T: SendSide>(track: &T) -> u64 {
    if track.carries_immediate() { BARE } else { 0 }
}

/// What the end of the track means before there is a carrier.
fn ended<E: TransportError>(error: E) -> CarrierError<E> {
    match error.kind() {
        ErrorKind::Closed => CarrierError::Disconnected,
        _ => CarrierError::Track(error),
    }
}

fn out_of_place(kind: Kind) -> Violation {
    Violation::OutOfPlace(kind.code())
}
