//! One end of a carrier at work: it does what its dice say, and then winds up.

use std::time::Duration;

use trespass_core::{ErrorKind, Timer};
use trespass_mock::MockTimer;

use crate::dice::Dice;
use crate::polls::polls;
use crate::subject::{Heard, Receives, Sending, Sends, Subject};

/// What one end did, and what it knows at the end.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// What was said to be sent.
    pub(crate) sent: Vec<Vec<u8>>,
    /// Failed on the way: it may arrive, or not.
    pub(crate) doubtful: Option<Vec<u8>>,
    pub(crate) received: Vec<Vec<u8>>,
    /// The peer's goodbye was received.
    pub(crate) goodbye: bool,
    /// This end said that no more comes.
    pub(crate) finished: bool,
    /// It closed without having received all that there was.
    pub(crate) left: bool,
    /// It, or half of it, was dropped without a close.
    pub(crate) dropped: bool,
    /// It was dropped without a close, as it may be that has finished and heard all ([`Subject::MAY_PART`]).
    pub(crate) parted: bool,
    pub(crate) error: Option<ErrorKind>,
    pub(crate) closed: Option<Result<(), ErrorKind>>,
    pub(crate) wrong: Option<String>,
    pub(crate) withdrawn: u64,
    pub(crate) seen: [u64; 4],
}

/// How an end winds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It finishes, receives all that comes, and closes.
    Clean,
    /// It closes at once.
    Leave,
    /// It is dropped.
    Drop,
}

impl Ending {
    pub(crate) fn by(dice: &mut Dice) -> Self {
        match dice.below(16) {
            0 => Self::Drop,
            1 | 2 => Self::Leave,
            _ => Self::Clean,
        }
    }
}

/// Who acts, by what dice, and what it knows.
pub(crate) struct Actor {
    pub(crate) known: Known,
    pub(crate) dice: Dice,
    pub(crate) timer: MockTimer,
    /// Part of all that it sends.
    pub(crate) number: u8,
    pub(crate) over: bool,
}

impl Actor {
    pub(crate) fn new(dice: Dice, timer: MockTimer, number: u8) -> Self {
        Self { known: Known::default(), dice, timer, number, over: false }
    }

    /// Bytes that no other send has, but for the shortest.
    fn data(&mut self, longest: usize) -> Vec<u8> {
        let most = if self.dice.one_in(3) { longest } else { longest.min(200) };
        let len = self.dice.index(most + 1);
        let mut data: Vec<u8> = (0..len).map(|_| self.dice.roll() as u8).collect();
        for (place, byte) in data.iter_mut().zip([self.number, self.known.sent.len() as u8]) {
            *place = byte;
        }
        data
    }

    pub(crate) async fn send(&mut self, carrier: &mut impl Sends) {
        if self.known.finished {
            return;
        }
        let data = self.data(carrier.longest());
        let patience = self.dice.one_in(4).then(|| self.dice.index(4));
        let sending = Sending { patience, timer: &self.timer };
        let sent = carrier.send(&data, sending, &mut self.dice).await;
        self.known.withdrawn += u64::from(sent == Ok(None));
        self.note(sent, data);
    }

    pub(crate) fn other(&mut self, carrier: &mut impl Sends) {
        if self.known.finished {
            return;
        }
        let data = self.data(100);
        let sent = carrier.other(&data, &mut self.dice);
        self.note(sent, data);
    }

    fn note(&mut self, sent: Result<Option<usize>, ErrorKind>, mut data: Vec<u8>) {
        match sent {
            Ok(Some(len)) => {
                data.truncate(len);
                self.known.sent.push(data);
            }
            Ok(None) => {}
            Err(error) => {
                self.known.doubtful.get_or_insert(data);
                self.fail(error);
            }
        }
    }

    /// Waits for what comes next: for a while, or as long as it takes.
    pub(crate) async fn recv(&mut self, carrier: &mut impl Receives, patience: Option<usize>) {
        if self.known.goodbye {
            return;
        }
        let keep = patience.is_some() && self.dice.one_in(3);
        match polls(carrier.recv(keep, &mut self.dice), patience, &self.timer).await {
            Some(Ok(Heard::Data(data))) => self.known.received.push(data),
            Some(Ok(Heard::Goodbye)) => self.known.goodbye = true,
            Some(Ok(Heard::Silence)) => self.over = true,
            Some(Err(error)) => self.fail(error),
            None => {}
        }
    }

    /// Receives all there is, to the end.
    pub(crate) async fn recv_all(&mut self, carrier: &mut impl Receives) {
        loop {
            match carrier.recv(false, &mut self.dice).await {
                Ok(Heard::Data(data)) => self.known.received.push(data),
                Ok(Heard::Goodbye) => {
                    self.known.goodbye = true;
                    return;
                }
                Ok(Heard::Silence) => return,
                Err(error) => return self.fail(error),
            }
        }
    }

    pub(crate) async fn finish(&mut self, carrier: &mut impl Sends) {
        if !std::mem::replace(&mut self.known.finished, true) {
            if let Err(error) = carrier.finish().await {
                self.fail(error);
            }
        }
    }

    pub(crate) async fn close(&mut self, carrier: &mut impl Subject) {
        // A close says it too.
        self.known.finished = true;
        self.known.closed = Some(carrier.close().await);
        self.known.wrong = carrier.wrong();
        self.known.seen = carrier.seen();
    }

    pub(crate) async fn pause(&mut self) {
        self.timer.sleep(Duration::from_micros(self.dice.below(60))).await;
    }

    fn fail(&mut self, error: ErrorKind) {
        self.known.error.get_or_insert(error);
        self.over = true;
    }
}

/// A whole end, in one task.
pub(crate) async fn whole<S: Subject>(mut carrier: S, mut actor: Actor, operations: u64) -> Known {
    for _ in 0..operations {
        if actor.over {
            break;
        }
        operate(&mut carrier, &mut actor).await;
    }
    carrier.let_go();
    match Ending::by(&mut actor.dice) {
        Ending::Clean => {
            actor.finish(&mut carrier).await;
            if !actor.known.goodbye {
                actor.recv_all(&mut carrier).await;
            }
            actor.known.parted = S::MAY_PART && actor.dice.one_in(4);
            if !actor.known.parted {
                actor.close(&mut carrier).await;
            }
        }
        Ending::Leave => {
            actor.known.left = true;
            actor.close(&mut carrier).await;
        }
        Ending::Drop => actor.known.dropped = true,
    }
    actor.known
}

async fn operate<S: Subject>(carrier: &mut S, actor: &mut Actor) {
    match actor.dice.below(20) {
        0..=5 => actor.send(carrier).await,
        6..=7 => actor.other(carrier),
        8..=14 => {
            let patience = Some(actor.dice.index(4));
            actor.recv(carrier, patience).await;
        }
        15 | 16 => carrier.let_go(),
        17 => actor.pause().await,
        // Both ends that wait for the other to send would wait for ever: what must come is the end, once this has finished.
        18 if actor.dice.one_in(10) => {
            actor.finish(carrier).await;
            actor.recv(carrier, None).await;
        }
        _ => {}
    }
}
