//! Credits, the order of frames, reassembly and the inbox, together, as a carrier joins them: without a track.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Deref;
use std::rc::Rc;

use arbitrary::Unstructured;

use super::{byte, bytes, word};
use crate::credit::{Credits, Rank};
use crate::error::Violation;
use crate::inbox::Inbox;
use crate::lends::Lends;
use crate::message::Payload;
use crate::wire::{FIRST_HEADER, Frame, HEADER};

/// A peer's frames, one after the other, in any order and of any sort, and what the application does meanwhile.
///
/// | first bytes | | then, again and again | |
/// |---|---|---|---|
/// | 0–1 | longest message, less 1 | 0 to 159 | a frame comes: its kind, credits too many (signed), length, body |
/// | 2–3 | spill limit | 160 to 191 | the next message is taken, and kept where the byte is odd |
/// | 4 | receives, less 8 | 192 to 207 | room is made |
/// | 5 | odd: messages may be lent | 208 to 223 | the next message is looked at and put back |
/// | | | 224 to 239 | what was kept is let go |
/// | | | 240 to 254 | the peer is told of its credits |
/// | | | 255 | nobody reads any more |
pub fn inbox(script: &[u8]) {
    let mut script = Unstructured::new(script);
    let mut end = End::new(&mut script);
    while !script.is_empty() {
        let act = byte(&mut script);
        match act {
            0..160 => {
                if end.hear(&mut script).is_err() {
                    break;
                }
            }
            160..192 => end.take(act % 2 == 1),
            192..208 => end.make_room(),
            208..224 => end.peek(),
            224..240 => end.kept.clear(),
            240..255 => end.report(),
            255 => end.discard(),
        }
        end.check();
    }
    // What had come whole before whatever went wrong is there.
    while !end.expected.is_empty() {
        end.take(false);
    }
    assert!(end.inbox.next().is_ok_and(|payload| payload.is_none()), "a message that nobody sent");
}

struct End {
    credits: Credits,
    inbox: Inbox<Slot>,
    lends: Lends,
    /// Messages that came whole and were not taken; `None` for one that is lent.
    expected: VecDeque<Option<Vec<u8>>>,
    /// The message that has begun, and its length.
    begun: Option<(u64, Vec<u8>)>,
    kept: Vec<Payload<Slot>>,
    window: u64,
    /// Frames that were sent to the peer.
    sent: u64,
    /// A lent message was read, and the peer does not know.
    owed: bool,
    /// Nobody reads any more.
    discarding: bool,
    /// Frames that came, and receives that were given back.
    came: u64,
    back: Rc<Cell<u64>>,
    most_held: usize,
}

/// A frame in a receive slot.
struct Slot {
    bytes: Vec<u8>,
    back: Rc<Cell<u64>>,
}

impl Deref for Slot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.back.set(self.back.get() + 1);
    }
}

impl End {
    fn new(script: &mut Unstructured<'_>) -> Self {
        let (longest, spill_limit) = (1 + usize::from(word(script)), usize::from(word(script)));
        let (window, lends) = (8 + u32::from(byte(script)), byte(script) % 2 == 1);
        let mut credits = Credits::new(window, window);
        credits.on_sent(u64::from(window));
        Self {
            credits,
            inbox: Inbox::new(longest, spill_limit, spill_limit),
            lends: Lends::new(lends),
            expected: VecDeque::new(),
            begun: None,
            kept: Vec::new(),
            window: u64::from(window),
            sent: 1,
            owed: false,
            discarding: false,
            came: 0,
            back: Rc::default(),
            // One message over the limit may be held, and one more may be put back.
            most_held: spill_limit + 2 * (longest.next_power_of_two().max(256) + 64),
        }
    }

    fn posted(&self) -> u64 {
        self.window + self.back.get()
    }

    /// A frame comes.
    fn hear(&mut self, script: &mut Unstructured<'_>) -> Result<(), Violation> {
        let (kind, more) = (byte(script), byte(script) as i8);
        let len = usize::from(byte(script));
        // The peer posts a receive for each frame that it was sent: one.
        let granted = ((self.window + self.sent) as u32).wrapping_add_signed(more.into());
        let header = [[kind, 0, 0, 0], granted.to_le_bytes()].concat();
        let slot = Slot { bytes: [&header, bytes(script, len)].concat(), back: Rc::clone(&self.back) };
        self.came += 1;
        let (frame, granted) = Frame::parse(&slot)?;
        self.credits.on_received(granted)?;
        self.inbox.admit(&frame)?;
        let agreed = match frame {
            Frame::Lend(_) => self.lends.arrived(),
            Frame::Fetched => self.lends.fetched(),
            _ => true,
        };
        if !agreed {
            return Err(Violation::OutOfPlace(frame.kind().code()));
        }
        self.note(&frame, &slot);
        if let Frame::Message { .. } | Frame::First { .. } | Frame::More { .. } | Frame::Lend(_) = frame {
            self.put(frame, slot);
        }
        Ok(())
    }

    /// What an admitted frame means.
    fn note(&mut self, frame: &Frame, bytes: &[u8]) {
        if self.discarding {
            return;
        }
        match *frame {
            Frame::Message { .. } => self.expected.push_back(Some(bytes[HEADER..].to_vec())),
            Frame::Lend(_) => self.expected.push_back(None),
            Frame::First { total, .. } => self.begun = Some((total, bytes[FIRST_HEADER..].to_vec())),
            Frame::More { .. } => {
                let (_, begun) = self.begun.as_mut().expect("no segment of no message is admitted");
                begun.extend(&bytes[HEADER..]);
            }
            Frame::Abort | Frame::Bye => self.begun = None,
            Frame::Credit | Frame::Fin | Frame::Fetched | Frame::Refuse(_) => {}
        }
        if let Some((_, whole)) = self.begun.take_if(|(total, begun)| begun.len() as u64 >= *total) {
            self.expected.push_back(Some(whole));
        }
    }

    /// As a receiver does where nothing waits, or else as a sender does.
    fn put(&mut self, frame: Frame, slot: Slot) {
        if !self.inbox.is_empty() || self.came % 2 == 0 {
            return self.inbox.store(frame, slot);
        }
        if let Some(payload) = self.inbox.open(frame, slot).expect("so little memory") {
            self.receive(payload, false);
        }
    }

    fn take(&mut self, keep: bool) {
        match self.inbox.next().expect("so little memory") {
            Some(payload) => self.receive(payload, keep),
            None => assert!(self.expected.is_empty(), "{} messages are lost", self.expected.len()),
        }
    }

    fn receive(&mut self, payload: Payload<Slot>, keep: bool) {
        let expected = self.expected.pop_front().expect("a message that nobody sent");
        match (&payload, expected) {
            (Payload::Lent(_), None) => self.owed = self.lends.read(),
            (Payload::Direct(..) | Payload::Pooled(_), Some(bytes)) => assert_eq!(payload.bytes(), bytes),
            _ => panic!("a message that is lent, and one that is not, changed places"),
        }
        if keep {
            self.kept.push(payload);
        }
    }

    fn peek(&mut self) {
        if let Some(payload) = self.inbox.next().expect("so little memory") {
            self.inbox.put_back(payload);
        }
    }

    fn make_room(&mut self) {
        if self.credits.peer_runs_low() {
            self.inbox.spill().expect("so little memory");
        }
    }

    /// This end says what it has posted, and of which lent message it needs no more.
    fn report(&mut self) {
        if self.credits.may_send(Rank::Credit) {
            self.credits.on_sent(self.posted());
            self.sent += 1;
            self.owed = self.owed && self.lends.said();
        }
    }

    fn discard(&mut self) {
        self.inbox.discard();
        self.owed = self.lends.discard();
        self.discarding = true;
        self.expected.clear();
        self.begun = None;
    }

    fn check(&self) {
        let (held, frames) = self.inbox.holds();
        assert!(held <= self.most_held, "{held} bytes are held, where {} may be", self.most_held);
        let slots = self.came - self.back.get();
        assert!(slots <= self.window && frames as u64 <= slots, "{slots} of {} receives are taken", self.window);
    }
}
