//! What goes over the wire, as checked types. Nothing here does IO, and nothing here panics, whatever the bytes.
//!
//! A connection starts with a [`Greeting`] each way. After that there is one sort of frame: a [`Header`], and the message
//! that it announces, if it does. All numbers are little-endian.

use thiserror::Error;

const MAGIC: [u8; 8] = *b"tresptcp";
const VERSION: u16 = 1;

/// The length of a greeting.
pub(crate) const GREETING: usize = 20;
/// The length of a header.
pub(crate) const HEADER: usize = 20;
/// Instead of a length: no message follows.
const NO_MESSAGE: u32 = u32::MAX;

/// What one end can take: the other end counts on it from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The longest message, in bytes. Not zero.
    pub(crate) max_message: u32,
    /// Receives that are posted when the track starts. Not zero.
    pub(crate) recv_slots: u32,
}

/// The first bytes of either end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// The connecting end asks.
    Ask(Terms),
    /// The accepting end agrees,
    Yes(Terms),
    /// or does not.
    No(Refusal),
}

/// Why the accepting end does not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error("the peer refused")]
    Refused,
    #[error("the peer has as many requests as its backlog takes; try again later")]
    Busy,
    #[error("the peer speaks another version of this protocol")]
    Version,
    #[error("nobody took the request before the listener's own handshake deadline")]
    Late,
}

/// What a peer may not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Violation {
    #[error("it does not speak this protocol at all")]
    Magic,
    #[error("it speaks version {0}, and this is version {VERSION}")]
    Version(u16),
    #[error("its greeting makes no sense here")]
    Greeting,
    #[error("it announced a message of {0} bytes, which is longer than agreed")]
    TooLong(u32),
    #[error("it sent a message for which no receive was posted")]
    Uninvited,
    #[error("it says that messages arrived which were not sent, or have not after they had")]
    Arrived,
    #[error("it says that it has posted more receives than it has, or fewer than before")]
    Posted,
}

impl Greeting {
    pub(crate) fn encode(self) -> [u8; GREETING] {
        let (word, terms) = match self {
            Self::Ask(terms) => (0_u16, Some(terms)),
            Self::Yes(terms) => (1, Some(terms)),
            Self::No(Refusal::Refused) => (2, None),
            Self::No(Refusal::Busy) => (3, None),
            Self::No(Refusal::Version) => (4, None),
            Self::No(Refusal::Late) => (5, None),
        };
        let mut bytes = [0; GREETING];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&word.to_le_bytes());
        if let Some(terms) = terms {
            bytes[12..16].copy_from_slice(&terms.max_message.to_le_bytes());
            bytes[16..].copy_from_slice(&terms.recv_slots.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn parse(bytes: &[u8; GREETING]) -> Result<Self, Violation> {
        let [magic @ .., v0, v1, w0, w1, a0, a1, a2, a3, b0, b1, b2, b3] = *bytes;
        if magic != MAGIC {
            return Err(Violation::Magic);
        }
        let (version, word) = (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([w0, w1]));
        // A refusal is understood in whatever version it comes: it may be about the version.
        match word {
            2 => return Ok(Self::No(Refusal::Refused)),
            3 => return Ok(Self::No(Refusal::Busy)),
            4 => return Ok(Self::No(Refusal::Version)),
            5 => return Ok(Self::No(Refusal::Late)),
            _ if version != VERSION => return Err(Violation::Version(version)),
            _ => {}
        }
        let terms = Terms {
            max_message: u32::from_le_bytes([a0, a1, a2, a3]),
            recv_slots: u32::from_le_bytes([b0, b1, b2, b3]),
        };
        match word {
            _ if terms.max_message == 0 || terms.recv_slots == 0 => Err(Violation::Greeting),
            0 => Ok(Self::Ask(terms)),
            1 => Ok(Self::Yes(terms)),
            _ => Err(Violation::Greeting),
        }
    }
}

/// What one end tells the other about its receives. Both are counts since the start, so that news may be late, or said
/// twice, and do no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct News {
    /// Messages that have arrived: that many slots of the sender are free again.
    pub(crate) arrived: u64,
    /// Receives that were posted: that many messages may be sent in all.
    pub(crate) posted: u64,
}

/// What every frame starts with. Each has the latest news; most have a message too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The length of the message that follows, if one does.
    pub(crate) message: Option<u32>,
    pub(crate) news: News,
}

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.message.unwrap_or(NO_MESSAGE).to_le_bytes());
        bytes[4..12].copy_from_slice(&self.news.arrived.to_le_bytes());
        bytes[12..].copy_from_slice(&self.news.posted.to_le_bytes());
        bytes
    }

    /// Any bytes are a header; whether it can be true is for the queues to say.
    pub(crate) fn parse(bytes: &[u8; HEADER]) -> Self {
        let [l0, l1, l2, l3, rest @ ..] = *bytes;
        let [a0, a1, a2, a3, a4, a5, a6, a7, posted @ ..] = rest;
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        Self {
            message: (len != NO_MESSAGE).then_some(len),
            news: News {
                arrived: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
                posted: u64::from_le_bytes(posted),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { max_message: 4096, recv_slots: 8 };

    #[test]
    fn greetings_and_headers_come_back_as_they_were() {
        use Greeting::{Ask, No, Yes};
        let refusals = [Refusal::Refused, Refusal::Busy, Refusal::Version, Refusal::Late].map(No);
        for greeting in [Ask(TERMS), Yes(TERMS)].into_iter().chain(refusals) {
            assert_eq!(Greeting::parse(&greeting.encode()), Ok(greeting));
        }
        for message in [None, Some(0), Some(1), Some(u32::MAX - 1)] {
            let header = Header { message, news: News { arrived: 1 << 40, posted: u64::MAX } };
            assert_eq!(Header::parse(&header.encode()), header);
        }
    }

    #[test]
    fn what_is_no_greeting_is_refused_with_the_reason() {
        let good = Greeting::Ask(TERMS).encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            Greeting::parse(&bytes)
        };
        (0..8).for_each(|at| assert_eq!(with(at, good[at] ^ 1), Err(Violation::Magic)));
        assert_eq!(with(8, 2), Err(Violation::Version(2)));
        assert_eq!(with(10, 6), Err(Violation::Greeting));
        assert_eq!(with(16, 0), Err(Violation::Greeting), "no receives");
        assert_eq!(Greeting::parse(&[0; GREETING]), Err(Violation::Magic));
    }
}
