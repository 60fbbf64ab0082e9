//! What the two ends say, as checked types: each is one message of the carrier below. All numbers are little-endian.

use thiserror::Error;

const MAGIC: [u8; 4] = *b"pubs";
const VERSION: u16 = 1;

/// The part of an event before its topic.
pub(crate) const EVENT_HEADER: usize = 11;
/// The longest name of a topic, in bytes.
pub(crate) const MAX_TOPIC: usize = 255;

/// Which end of a conversation one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Subscriber,
    Feed,
}

/// Why an end says no to the other's handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error("the other end speaks another version of publish-subscribe")]
    Version,
    #[error("both ends want to be the same: one has to subscribe, the other to publish")]
    SameSide,
}

/// What a peer may not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the peer broke the protocol: {0}")]
pub(crate) struct Violation(pub(crate) &'static str);

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// The first of the end that speaks first.
    Hello {
        version: u16,
        side: Side,
    },
    /// The answer: one that agrees has the other side by that,
    Welcome,
    /// or it does not.
    Refuse(Refusal),
    Subscribe(&'a str),
    Unsubscribe(&'a str),
    Event(Event<'a>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    /// How many events before this one the subscriber was too slow for.
    pub(crate) missed: u64,
    /// Whether it was published before the subscriber asked for its topic.
    pub(crate) retained: bool,
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn hello(side: Side) -> Self {
        Self::Hello { version: VERSION, side }
    }

    /// Whether an end that is `side` goes along with this hello.
    pub(crate) fn agree(version: u16, theirs: Side, ours: Side) -> Result<(), Refusal> {
        match () {
            () if version != VERSION => Err(Refusal::Version),
            () if theirs == ours => Err(Refusal::SameSide),
            () => Ok(()),
        }
    }

    /// Appends it to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello { version, side } => {
                out.push(1);
                out.extend(MAGIC);
                out.extend(version.to_le_bytes());
                out.push(u8::from(*side == Side::Feed));
            }
            Self::Welcome => out.push(2),
            Self::Refuse(why) => out.extend([3, u8::from(*why == Refusal::SameSide)]),
            Self::Subscribe(topic) => {
                out.push(4);
                out.extend(topic.as_bytes());
            }
            Self::Unsubscribe(topic) => {
                out.push(5);
                out.extend(topic.as_bytes());
            }
            Self::Event(event) => {
                out.resize(out.len() + event.len(), 0);
                let at = out.len() - event.len();
                event.encode(&mut out[at..]);
            }
        }
    }

    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Violation> {
        let topic = |bytes| match std::str::from_utf8(bytes) {
            Ok(topic) if topic.len() <= MAX_TOPIC => Ok(topic),
            _ => Err(Violation("the name of a topic is too long, or no text")),
        };
        match bytes {
            [1, magic @ .., v0, v1, side] if *magic == MAGIC => Ok(Self::Hello {
                version: u16::from_le_bytes([*v0, *v1]),
                side: if *side == 0 { Side::Subscriber } else { Side::Feed },
            }),
            [2] => Ok(Self::Welcome),
            [3, 0] => Ok(Self::Refuse(Refusal::Version)),
            [3, 1] => Ok(Self::Refuse(Refusal::SameSide)),
            [4, name @ ..] => Ok(Self::Subscribe(topic(name)?)),
            [5, name @ ..] => Ok(Self::Unsubscribe(topic(name)?)),
            [6, retained, len, m0, m1, m2, m3, m4, m5, m6, m7, rest @ ..] => {
                let Some((name, payload)) = rest.split_at_checked(usize::from(*len)) else {
                    return Err(Violation("an event is shorter than its topic"));
                };
                Ok(Self::Event(Event {
                    missed: u64::from_le_bytes([*m0, *m1, *m2, *m3, *m4, *m5, *m6, *m7]),
                    retained: *retained != 0,
                    topic: topic(name)?,
                    payload,
                }))
            }
            _ => Err(Violation("a message of no known kind")),
        }
    }
}

impl Event<'_> {
    /// How long it is on the wire.
    pub(crate) fn len(&self) -> usize {
        EVENT_HEADER + self.topic.len() + self.payload.len()
    }

    /// Fills `out`, which is as long as this; where it is sent from, if need be.
    pub(crate) fn encode(&self, out: &mut [u8]) {
        let (header, rest) = out.split_at_mut(EVENT_HEADER);
        header[0] = 6;
        header[1] = u8::from(self.retained);
        header[2] = self.topic.len() as u8;
        header[3..].copy_from_slice(&self.missed.to_le_bytes());
        rest[..self.topic.len()].copy_from_slice(self.topic.as_bytes());
        rest[self.topic.len()..].copy_from_slice(self.payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were() {
        let event = Event { missed: 1 << 40, retained: true, topic: "weather", payload: b"rain" };
        for frame in [
            Frame::hello(Side::Feed),
            Frame::hello(Side::Subscriber),
            Frame::Welcome,
            Frame::Refuse(Refusal::Version),
            Frame::Refuse(Refusal::SameSide),
            Frame::Subscribe("weather"),
            Frame::Unsubscribe(""),
            Frame::Event(event),
        ] {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            assert_eq!(Frame::parse(&bytes), Ok(frame));
        }
    }

    #[test]
    fn nonsense_is_a_violation() {
        let nonsense: [&[u8]; 7] = [
            b"",
            b"\x01pub",
            b"\x01PUBS\x01\0\0",
            b"\x03\x02",
            b"\x04\xff",
            b"\x06\0\x05\0\0\0\0\0\0\0\0four",
            b"\x07",
        ];
        for bytes in nonsense {
            assert!(Frame::parse(bytes).is_err(), "{bytes:?}");
        }
        assert!(Frame::parse(&[&[4][..], &[b'x'; MAX_TOPIC + 1]].concat()).is_err());
    }
}
