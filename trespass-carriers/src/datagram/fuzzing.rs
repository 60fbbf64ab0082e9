//! What is said over datagrams, for `fuzz/`: see [`fuzzing`](crate::fuzzing).

use std::collections::BTreeSet;
use std::time::Duration;

use arbitrary::Unstructured;

use super::assembly::Bounds;
use super::inbound::{Inbound, Taken};
use super::window::SPAN;
use super::wire::{BEAT, BYE, Packet, READY, SEGMENT, SEGMENT_HEADER, WHOLE, put_header, put_segment};
use crate::fuzzing::{byte, bytes, word};
use crate::pool::Pool;
use crate::wire::HEADER;

/// What parses says again what it said.
pub(crate) fn packet(datagram: &[u8]) {
    // The session is that of the tag, so that more than one in 65,536 belongs to it.
    let session = datagram.get(2..4).map_or(0, |tag| u32::from(tag[0]) | u32::from(tag[1]) << 8);
    let Ok(packet) = Packet::parse(datagram, session) else { return };
    assert!(Packet::parse(datagram, session ^ 1).is_err(), "{packet:?} belongs to every session");
    let mut again = vec![0; datagram.len()];
    match packet {
        Packet::Welcome => return,
        Packet::Whole { number, len } => {
            put_header(&mut again, WHOLE, session, number);
            again[HEADER..].copy_from_slice(&datagram[datagram.len() - len..]);
        }
        Packet::Segment { number, segment } => {
            put_header(&mut again, SEGMENT, session, number);
            put_segment(&mut again, segment.total, segment.index, segment.bytes);
        }
        Packet::Ready => put_header(&mut again, READY, session, 0),
        Packet::Beat => put_header(&mut again, BEAT, session, 0),
        Packet::Bye => put_header(&mut again, BYE, session, 0),
    }
    assert_eq!(again, datagram, "{packet:?}");
}

const SESSION: u32 = 0x5a5a;
const TIMEOUT: Duration = Duration::from_secs(1);

/// Messages in pieces, in any order and of any sort, while time passes: each comes out whole, once at most, and what is
/// incomplete is bounded in number, in memory and in time.
///
/// | first bytes | | then, again and again | |
/// |---|---|---|---|
/// | 0–1 | longest message, less 1 | 0 to 159 | a segment: number, how many bytes its message has (two), its place |
/// | 2 | length of a segment, less 1 | 160 to 199 | a whole message: number, length |
/// | 3 | messages at once, less 1 | 200 to 239 | so many tens of milliseconds pass |
/// | | | 240 to 255 | length, and a datagram as it is |
///
/// Where the byte is odd the number is one of four bytes, else of one.
pub fn assembly(script: &[u8]) {
    let mut script = Unstructured::new(script);
    let (max_message, segment) = (1 + usize::from(word(&mut script)), 1 + usize::from(byte(&mut script)));
    let slots = 1 + usize::from(byte(&mut script) % 8);
    let bounds = Bounds { max_message, segment, timeout: TIMEOUT };
    let mut end = End {
        inbound: Inbound::new(SESSION, slots, bounds, Pool::new(max_message)),
        bounds,
        now: Duration::ZERO,
        done: BTreeSet::new(),
        strange: BTreeSet::new(),
        near: true,
    };
    while !script.is_empty() {
        let act = byte(&mut script);
        match act {
            0..160 => end.segment(act % 2 == 1, &mut script),
            160..200 => end.whole(act % 2 == 1, &mut script),
            200..240 => end.pass(u64::from(act - 199) * 10),
            240..=255 => {
                let len = usize::from(byte(&mut script));
                let datagram = bytes(&mut script, len);
                end.near = false;
                if let Ok(Packet::Segment { number, .. }) = Packet::parse(datagram, SESSION) {
                    end.strange.insert(number);
                }
                drop(end.inbound.take(datagram, || end.now));
            }
        }
        let (count, held) = end.inbound.holds();
        assert!(count <= slots && held <= slots * max_message, "{count} of {slots} messages have {held} bytes");
        assert_eq!(end.inbound.next_deadline().is_some(), count > 0);
    }
    end.pass(TIMEOUT.as_millis() as u64);
    assert_eq!((end.inbound.holds(), end.inbound.next_deadline()), ((0, 0), None), "something is kept for ever");
}

struct End {
    inbound: Inbound,
    bounds: Bounds,
    now: Duration,
    /// The messages that came out.
    done: BTreeSet<u32>,
    /// Those of which some bytes may be anything.
    strange: BTreeSet<u32>,
    /// Whether all numbers so far lie within what is remembered, so that none may come twice.
    near: bool,
}

impl End {
    fn number(&mut self, far: bool, script: &mut Unstructured<'_>) -> u32 {
        let near = u32::from(byte(script));
        debug_assert!(near < SPAN);
        if !far {
            return near;
        }
        self.near = false;
        u32::from_le_bytes([near as u8, byte(script), byte(script), byte(script)])
    }

    fn segment(&mut self, far: bool, script: &mut Unstructured<'_>) {
        let (number, total, index) = (self.number(far, script), word(script), byte(script));
        let (start, total) = (usize::from(index) * self.bounds.segment, usize::from(total));
        // Too long by one, or short, now and then.
        let len = self.bounds.segment.min(total.saturating_sub(start)) + usize::from(number % 61 == 60);
        let mut datagram = vec![0; SEGMENT_HEADER + len];
        put_header(&mut datagram, SEGMENT, SESSION, number);
        put_segment(&mut datagram, total as u32, index.into(), &pattern(number, start, len));
        self.take(number, &datagram);
    }

    fn whole(&mut self, far: bool, script: &mut Unstructured<'_>) {
        let (number, len) = (self.number(far, script), usize::from(byte(script)));
        let mut datagram = vec![0; HEADER];
        put_header(&mut datagram, WHOLE, SESSION, number);
        datagram.extend(pattern(number, 0, len));
        self.take(number, &datagram);
    }

    fn take(&mut self, number: u32, datagram: &[u8]) {
        let message = match self.inbound.take(datagram, || self.now) {
            Taken::Whole => datagram[HEADER..].to_vec(),
            Taken::Assembled(bytes) => bytes.bytes().to_vec(),
            Taken::Nothing => return,
            other => panic!("{other:?} of what is data"),
        };
        assert!(message.len() <= self.bounds.max_message);
        let right = self.strange.contains(&number) || message == pattern(number, 0, message.len());
        assert!(right, "message {number} is {message:x?}");
        assert!(self.done.insert(number) || !self.near, "message {number} came twice");
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.inbound.expire(self.now);
        assert!(self.inbound.next_deadline().is_none_or(|deadline| deadline > self.now));
    }
}

/// What message `number` has from place `from` on.
fn pattern(number: u32, from: usize, len: usize) -> Vec<u8> {
    (from..from + len)
        .map(|at| (number.wrapping_mul(131) ^ (at as u32).wrapping_mul(31) ^ (at as u32 >> 8)) as u8)
        .collect()
}
