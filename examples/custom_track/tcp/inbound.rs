//! The receiving half of what a NIC would hold: posted receives, messages that have arrived, and how far the peer was told.
//! It does no IO: it is fed bytes, in whatever pieces they come.

use std::collections::VecDeque;

use super::wire::{HEADER, Header, News, Violation};

#[derive(Debug)]
pub(super) struct Inbound {
    max_message: usize,
    slots: u64,
    /// Memory of receives that are posted. It is allocated when it is first needed, and stays.
    spare: Vec<Box<[u8]>>,
    header: [u8; HEADER],
    header_len: usize,
    /// The message that is coming in.
    partial: Option<Partial>,
    ready: VecDeque<Arrived>,
    arrived: u64,
    posted: u64,
    told: News,
}

#[derive(Debug)]
struct Partial {
    message: Arrived,
    filled: usize,
}

/// A whole message, in memory that may be longer.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) memory: Box<[u8]>,
    pub(super) len: usize,
}

impl Inbound {
    pub(super) fn new(max_message: usize, slots: usize) -> Self {
        let slots = slots as u64;
        Self {
            max_message,
            slots,
            spare: Vec::new(),
            header: [0; HEADER],
            header_len: 0,
            partial: None,
            ready: VecDeque::new(),
            arrived: 0,
            posted: slots,
            // The greeting said so.
            told: News { arrived: 0, posted: slots },
        }
    }

    /// Takes in what came. What a frame says about the other direction goes to `heard`.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut heard: impl FnMut(News) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        loop {
            if let Some(Partial { message, filled }) = &mut self.partial {
                let (part, rest) = bytes.split_at(bytes.len().min(message.len - *filled));
                message.memory[*filled..*filled + part.len()].copy_from_slice(part);
                *filled += part.len();
                bytes = rest;
                if *filled < message.len {
                    return Ok(());
                }
                self.arrived += 1;
                self.ready.extend(self.partial.take().map(|partial| partial.message));
            }
            let (part, rest) = bytes.split_at(bytes.len().min(HEADER - self.header_len));
            self.header[self.header_len..self.header_len + part.len()].copy_from_slice(part);
            self.header_len += part.len();
            bytes = rest;
            if self.header_len < HEADER {
                return Ok(());
            }
            self.header_len = 0;
            let Header { message, news } = Header::parse(&self.header);
            heard(news)?;
            if let Some(len) = message {
                self.partial = Some(self.receive_for(len)?);
            }
        }
    }

    /// The receive into which a message of `len` bytes goes.
    fn receive_for(&mut self, len: u32) -> Result<Partial, Violation> {
        // What is posted and not told yet does not count: nobody can know of it.
        if self.arrived == self.told.posted {
            return Err(Violation::Uninvited);
        }
        let fits = usize::try_from(len).ok().filter(|len| *len <= self.max_message);
        let Some(len) = fits else { return Err(Violation::TooLong(len)) };
        let memory = self.spare.pop().unwrap_or_else(|| vec![0; self.max_message].into());
        Ok(Partial { message: Arrived { memory, len }, filled: 0 })
    }

    pub(super) fn pop(&mut self) -> Option<Arrived> {
        self.ready.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// A received buffer came back, and is a posted receive again.
    pub(super) fn post(&mut self, memory: Box<[u8]>) {
        self.spare.push(memory);
        self.posted += 1;
    }

    pub(super) fn posted(&self) -> u64 {
        self.posted
    }

    /// What there is to tell the peer.
    pub(super) fn news(&self) -> News {
        News { arrived: self.arrived, posted: self.posted }
    }

    /// Whether that is worth a frame of its own: the peer waits for each arrival, but for receives only when it has few left.
    pub(super) fn is_news_due(&self) -> bool {
        let left = self.told.posted - self.arrived;
        self.told.arrived < self.arrived || (self.told.posted < self.posted && left <= self.slots / 2)
    }

    pub(super) fn told(&mut self, news: News) {
        self.told = news;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(message: &[u8]) -> Vec<u8> {
        let header = Header { message: Some(message.len() as u32), news: News { arrived: 0, posted: 9 } };
        [&header.encode()[..], message].concat()
    }

    #[test]
    fn frames_may_come_in_any_pieces() {
        let stream = [frame(b"one"), frame(b""), frame(b"three")].concat();
        for piece in 1..=stream.len() {
            let (mut inbound, mut news) = (Inbound::new(8, 4), 0);
            for bytes in stream.chunks(piece) {
                inbound
                    .feed(bytes, |said| {
                        assert_eq!(said.posted, 9);
                        news += 1;
                        Ok(())
                    })
                    .expect("good frames");
            }
            let all: Vec<_> = std::iter::from_fn(|| inbound.pop()).map(|m| m.memory[..m.len].to_vec()).collect();
            assert_eq!(all, [&b"one"[..], b"", b"three"], "in pieces of {piece}");
            assert_eq!((news, inbound.news().arrived), (3, 3));
        }
    }

    #[test]
    fn a_peer_gets_no_more_memory_than_was_posted() {
        let mut inbound = Inbound::new(8, 2);
        assert_eq!(inbound.feed(&frame(&[7; 9]), |_| Ok(())), Err(Violation::TooLong(9)));
        let mut inbound = Inbound::new(8, 2);
        let fed = inbound.feed(&[frame(b"1"), frame(b"2"), frame(b"3")].concat(), |_| Ok(()));
        assert_eq!(fed, Err(Violation::Uninvited));
        assert!(inbound.is_news_due());
    }

    #[test]
    fn receives_are_told_of_when_the_peer_has_few_left() {
        let mut inbound = Inbound::new(8, 8);
        for round in 1..=8 {
            inbound.feed(&frame(b"x"), |_| Ok(())).expect("invited");
            assert!(inbound.is_news_due(), "an arrival is told at once");
            inbound.told(inbound.news());
            let memory = inbound.pop().expect("it arrived").memory;
            inbound.post(memory);
            // By the arrivals before, the peer was told of all receives but this one.
            assert!(!inbound.is_news_due(), "in round {round}");
        }
        // Held back, as many as it knows of, and then one comes back.
        for _ in 0..7 {
            inbound.feed(&frame(b"x"), |_| Ok(())).expect("invited");
        }
        inbound.told(inbound.news());
        let memory = inbound.pop().expect("it arrived").memory;
        inbound.post(memory);
        assert!(inbound.is_news_due());
    }
}
