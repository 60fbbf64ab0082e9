//! The sending half of what a NIC would hold: slots, the send queue, and what the peer said about its receives. It does no
//! IO: it makes bytes, and is told how many of them were written.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::wire::{Header, News, Terms, Violation};

/// Frames are put together up to here, then written by one system call.
const BATCH: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Outbound {
    max_message: usize,
    slots: usize,
    /// Slots that are reserved, queued or under way.
    taken: usize,
    /// Memory of slots that is not in use. What is in it this track sent before.
    spare: Vec<Box<[u8]>>,
    /// What was sent: first what was flushed, then what was not.
    queue: VecDeque<(Box<[u8]>, u32)>,
    flushed: usize,
    /// Messages that were put on the wire, and those of them that have arrived.
    sent: u64,
    arrived: u64,
    /// How many the peer has posted receives for, in all; and how many it can have posted at once.
    invited: u64,
    peer_slots: u64,
    /// Frames on their way into the socket, and how much of them is in it.
    wire: Vec<u8>,
    written: usize,
    /// Since when there is something that the peer ought to confirm, and has not.
    waiting_since: Option<Instant>,
}

impl Outbound {
    pub(super) fn new(max_message: usize, slots: usize, peer: Terms) -> Self {
        let peer_slots = u64::from(peer.recv_slots);
        Self {
            max_message,
            slots,
            taken: 0,
            spare: Vec::new(),
            queue: VecDeque::new(),
            flushed: 0,
            sent: 0,
            arrived: 0,
            invited: peer_slots,
            peer_slots,
            wire: Vec::new(),
            written: 0,
            waiting_since: None,
        }
    }

    pub(super) fn has_slot(&self) -> bool {
        self.taken < self.slots
    }

    /// Memory for one message, with the slot; none while all slots are taken.
    pub(super) fn reserve(&mut self) -> Option<Box<[u8]>> {
        if !self.has_slot() {
            return None;
        }
        self.taken += 1;
        Some(self.spare.pop().unwrap_or_else(|| vec![0; self.max_message].into()))
    }

    /// A reserved slot comes back unsent.
    pub(super) fn give_back(&mut self, memory: Box<[u8]>) {
        self.taken -= 1;
        self.spare.push(memory);
    }

    /// Queues a message that has its slot.
    pub(super) fn push(&mut self, memory: Box<[u8]>, len: u32) {
        self.queue.push_back((memory, len));
    }

    /// Lets go all that is queued. Whether anything was.
    pub(super) fn flush(&mut self) -> bool {
        let more = self.flushed < self.queue.len();
        self.flushed = self.queue.len();
        more
    }

    /// What the peer says about its receives. Whether slots came free.
    pub(super) fn heard(&mut self, news: News, now: Instant) -> Result<bool, Violation> {
        if !(self.arrived..=self.sent).contains(&news.arrived) {
            return Err(Violation::Arrived);
        }
        if news.posted < self.invited || news.posted - news.arrived > self.peer_slots {
            return Err(Violation::Posted);
        }
        self.invited = news.posted;
        let freed = news.arrived - self.arrived;
        self.arrived = news.arrived;
        // No more than `slots` are under way at once.
        self.taken -= freed as usize;
        if freed > 0 {
            self.waiting_since = (self.arrived < self.sent).then_some(now);
        }
        Ok(freed > 0)
    }

    /// Puts frames together from what was flushed and is invited. Where `due` says so, a frame for the news alone.
    /// Whether the news are in it.
    pub(super) fn compose(&mut self, news: News, due: bool, now: Instant) -> bool {
        let mut told = false;
        while self.wire.len() < BATCH && self.flushed > 0 && self.sent < self.invited {
            let Some((memory, len)) = self.queue.pop_front() else { break };
            self.wire.extend_from_slice(&Header { message: Some(len), news }.encode());
            self.wire.extend_from_slice(&memory[..len as usize]);
            self.spare.push(memory);
            self.flushed -= 1;
            if self.sent == self.arrived {
                self.waiting_since = Some(now);
            }
            self.sent += 1;
            told = true;
        }
        // What is not written yet is bounded: these news can wait, and will be newer then.
        if due && !told && self.wire.is_empty() {
            self.wire.extend_from_slice(&Header { message: None, news }.encode());
            told = true;
        }
        told
    }

    /// What is to be written next.
    pub(super) fn unwritten(&self) -> &[u8] {
        &self.wire[self.written..]
    }

    pub(super) fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.written >= self.wire.len() {
            self.wire.clear();
            self.written = 0;
        }
    }

    /// Whether all that was sent has arrived.
    pub(super) fn is_settled(&self) -> bool {
        self.queue.is_empty() && self.arrived == self.sent
    }

    /// Whether the peer has confirmed nothing for `limit`, and had something to confirm.
    pub(super) fn is_unanswered(&self, limit: Duration, now: Instant) -> bool {
        self.waiting_since.is_some_and(|since| now.saturating_duration_since(since) > limit)
    }

    /// The track has ended: what was not put on the wire never will be.
    pub(super) fn abandon(&mut self) {
        self.queue.clear();
        self.flushed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbound() -> Outbound {
        Outbound::new(16, 4, Terms { max_message: 16, recv_slots: 2 })
    }

    /// Sends and flushes `count` messages, and writes what may be written.
    fn send(out: &mut Outbound, count: usize, now: Instant) {
        for _ in 0..count {
            let memory = out.reserve().expect("a slot");
            out.push(memory, 3);
        }
        assert_eq!(out.flush(), count > 0);
        out.compose(News::default(), false, now);
        out.wrote(out.unwritten().len());
    }

    #[test]
    fn no_more_goes_out_than_is_invited_and_a_slot_comes_back_when_its_message_has_arrived() {
        let (mut out, now) = (outbound(), Instant::now());
        send(&mut out, 4, now);
        assert_eq!(out.sent, 2, "two receives are posted");
        assert!(out.reserve().is_none() && !out.is_settled());
        assert_eq!(out.heard(News { arrived: 2, posted: 2 }, now), Ok(true));
        assert!(out.has_slot());
        send(&mut out, 0, now);
        assert_eq!(out.sent, 2, "the peer holds both of its buffers");
        assert_eq!(out.heard(News { arrived: 2, posted: 4 }, now), Ok(false));
        send(&mut out, 0, now);
        assert_eq!(out.sent, 4);
    }

    #[test]
    fn news_that_cannot_be_true_are_violations() {
        let now = Instant::now();
        let heard = |arrived, posted| {
            let mut out = outbound();
            send(&mut out, 2, now);
            out.heard(News { arrived: 1, posted: 2 }, now).expect("that is so");
            out.heard(News { arrived, posted }, now)
        };
        assert_eq!(heard(3, 5), Err(Violation::Arrived), "not sent");
        assert_eq!(heard(0, 2), Err(Violation::Arrived), "less than before");
        assert_eq!(heard(1, 1), Err(Violation::Posted), "less than before");
        assert_eq!(heard(1, 4), Err(Violation::Posted), "more than it has");
        assert_eq!(heard(1, u64::MAX), Err(Violation::Posted));
        assert_eq!(heard(1, 2), Ok(false), "said twice");
    }

    #[test]
    fn silence_counts_only_while_there_is_something_to_confirm() {
        let (mut out, start) = (outbound(), Instant::now());
        let limit = Duration::from_secs(1);
        let late = start + 2 * limit;
        assert!(!out.is_unanswered(limit, late));
        send(&mut out, 3, start);
        assert!(out.is_unanswered(limit, late) && !out.is_unanswered(limit, start));
        out.heard(News { arrived: 1, posted: 2 }, late).expect("good news");
        assert!(!out.is_unanswered(limit, late), "it has just said something");
        out.heard(News { arrived: 2, posted: 2 }, late).expect("good news");
        assert!(!out.is_unanswered(limit, late + 2 * limit), "the third waits for a receive, which may take any time");
    }
}
