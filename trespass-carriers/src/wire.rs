//! What goes over the track, byte for byte.
//!
//! Every message of the track is one *frame*, and begins with eight bytes, little-endian as everything here:
//!
//! | bytes | |
//! |---|---|
//! | 0 | kind |
//! | 1 | flags: none are defined, so zero |
//! | 2–3 | reserved: zero |
//! | 4–7 | credits: the low 32 bits of how many receives the sender has posted since the start |
//!
//! | kind | | after the eight bytes |
//! |---|---|---|
//! | 1, 2 | Hello, Welcome | an [`Offer`] |
//! | 3 | Refuse | a [`Refusal`] |
//! | 16 | Message | the message, whole |
//! | 17 | First | the length of the message as 8 bytes, then its first segment |
//! | 18 | More | the next segment; the announced length says which is the last |
//! | 19 | Abort | nothing: the message that was begun is withdrawn |
//! | 32 | Credit | nothing: only the credits are of interest, or that the sender is there |
//! | 33 | Fin | nothing: no more messages; the sender goes on receiving |
//! | 34 | Bye | nothing: no more messages, and nothing more will be read |
//! | 48 | Lend | a [`RemoteWindow`], 24 bytes: the message is there to be read |
//! | 49 | Fetched | nothing: of the messages that were lent the oldest not named by another Fetched has been read, or never will be |
//! | 64 | Bytes | the next bytes of a stream: at least one |
//!
//! A message of the track with a word of immediate data beside it is *bare*: without the eight bytes, so that a message which fills a
//! packet stays one packet. To a carrier of messages it is a whole message, to a stream its next bytes, and the word is the credits. Only
//! where both ends know [`BARE`]; elsewhere what is beside a frame is ignored.
//!
//! Kinds 16 to 19, 48 and 49 are for carriers of messages, 64 for those of streams, and out of place in any other. Kinds 48 and 49
//! come only where both ends know [`RENDEZVOUS`]. Kinds 65 to 79 are left for streams. A new kind needs a feature bit, agreed in
//! the handshake.
//! A handshake may grow at its end: a longer one is accepted, and what is unknown in it ignored.
//!
//! Bytes are parsed into the types of this module, and used only as these.

use trespass_core::RemoteWindow;

use crate::error::{Refusal, Violation};

/// The kind of a frame, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Hello = 1,
    Welcome = 2,
    Refuse = 3,
    Message = 16,
    First = 17,
    More = 18,
    Abort = 19,
    Credit = 32,
    Fin = 33,
    Bye = 34,
    Lend = 48,
    Fetched = 49,
    Bytes = 64,
}

impl Kind {
    /// Of the first four bytes, of which only the lowest may have bits set.
    fn parse(word: u32) -> Result<Self, Violation> {
        Ok(match word {
            16 => Self::Message,
            17 => Self::First,
            18 => Self::More,
            32 => Self::Credit,
            19 => Self::Abort,
            33 => Self::Fin,
            34 => Self::Bye,
            48 => Self::Lend,
            49 => Self::Fetched,
            64 => Self::Bytes,
            1 => Self::Hello,
            2 => Self::Welcome,
            3 => Self::Refuse,
            unknown => return Err(Violation::UnknownFrame(unknown)),
        })
    }

    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

/// How long the header of a frame is, in bytes.
pub(crate) const HEADER: usize = 8;
/// Where the segment in a First begins.
pub(crate) const FIRST_HEADER: usize = HEADER + 8;

/// Writes the header of a frame. A frame too short for one has none: tracks give what was reserved.
#[inline]
pub(crate) fn stamp(frame: &mut [u8], kind: Kind, posted: u64) {
    if let Some(header) = frame.first_chunk_mut::<HEADER>() {
        *header = (u64::from(posted as u32) << 32 | u64::from(kind as u8)).to_le_bytes();
    }
}

/// Writes what follows the header of a First: how long the message is.
#[inline]
pub(crate) fn stamp_total(frame: &mut [u8], total: u64) {
    if let Some(field) = frame.get_mut(HEADER..).and_then(|rest| rest.first_chunk_mut::<8>()) {
        *field = total.to_le_bytes();
    }
}

fn header(frame: &[u8]) -> Result<(Kind, u32), Violation> {
    let Some(header) = frame.first_chunk::<HEADER>() else {
        return Err(Violation::Short { len: frame.len(), need: HEADER });
    };
    let word = u64::from_le_bytes(*header);
    Ok((Kind::parse(word as u32)?, (word >> 32) as u32))
}

/// A frame as it may come to a carrier of messages after the handshake. Lengths are those of the payload, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    Message { len: usize },
    First { total: u64, len: usize },
    More { len: usize },
    Abort,
    Credit,
    Fin,
    Bye,
    Lend(RemoteWindow),
    Fetched,
    Refuse(Refusal),
}

impl Frame {
    /// The length and the credits of a [`Message`](Frame::Message); `None` for anything else.
    #[inline]
    pub(crate) fn whole_message(bytes: &[u8]) -> Option<(usize, u32)> {
        let word = u64::from_le_bytes(*bytes.first_chunk::<HEADER>()?);
        (word as u32 == Kind::Message as u32).then_some((bytes.len() - HEADER, (word >> 32) as u32))
    }

    /// What `bytes` say, with the credits that came along.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, u32), Violation> {
        let (kind, credits) = header(bytes)?;
        let body = bytes.get(HEADER..).unwrap_or_default();
        let frame = match kind {
            Kind::Message => Self::Message { len: body.len() },
            Kind::First => {
                let Some((total, segment)) = body.split_first_chunk::<8>() else {
                    return Err(Violation::Short { len: bytes.len(), need: FIRST_HEADER });
                };
                Self::First { total: u64::from_le_bytes(*total), len: segment.len() }
            }
            Kind::More => Self::More { len: body.len() },
            Kind::Refuse => Self::Refuse(parse_refusal(body)?),
            Kind::Lend => Self::Lend(RemoteWindow::decode(body).map_err(Violation::Window)?),
            Kind::Hello | Kind::Welcome | Kind::Bytes => return Err(Violation::OutOfPlace(kind.code())),
            _ if !body.is_empty() => return Err(Violation::Long { len: bytes.len(), max: HEADER }),
            Kind::Abort => Self::Abort,
            Kind::Credit => Self::Credit,
            Kind::Fin => Self::Fin,
            Kind::Bye => Self::Bye,
            Kind::Fetched => Self::Fetched,
        };
        Ok((frame, credits))
    }

    /// The kind that it was parsed from.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Message { .. } => Kind::Message,
            Self::First { .. } => Kind::First,
            Self::More { .. } => Kind::More,
            Self::Abort => Kind::Abort,
            Self::Credit => Kind::Credit,
            Self::Fin => Kind::Fin,
            Self::Bye => Kind::Bye,
            Self::Lend(_) => Kind::Lend,
            Self::Fetched => Kind::Fetched,
            Self::Refuse(_) => Kind::Refuse,
        }
    }
}

/// A frame as it may come to a stream after the handshake. Lengths are those of the payload, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamFrame {
    /// Never empty.
    Bytes {
        len: usize,
    },
    Credit,
    Fin,
    Bye,
    Refuse(Refusal),
}

impl StreamFrame {
    /// A bare frame of `len` bytes.
    #[inline]
    pub(crate) fn bare(len: usize) -> Result<Self, Violation> {
        if len == 0 { Err(Violation::EmptySegment) } else { Ok(Self::Bytes { len }) }
    }

    /// What `bytes` say, with the credits that came along.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, u32), Violation> {
        let (kind, credits) = header(bytes)?;
        let body = bytes.get(HEADER..).unwrap_or_default();
        let frame = match kind {
            Kind::Bytes if body.is_empty() => return Err(Violation::EmptySegment),
            Kind::Bytes => Self::Bytes { len: body.len() },
            Kind::Refuse => Self::Refuse(parse_refusal(body)?),
            Kind::Hello
            | Kind::Welcome
            | Kind::Message
            | Kind::First
            | Kind::More
            | Kind::Abort
            | Kind::Lend
            | Kind::Fetched => return Err(Violation::OutOfPlace(kind.code())),
            _ if !body.is_empty() => return Err(Violation::Long { len: bytes.len(), max: HEADER }),
            Kind::Credit => Self::Credit,
            Kind::Fin => Self::Fin,
            Kind::Bye => Self::Bye,
        };
        Ok((frame, credits))
    }

    /// The code of the kind that it was parsed from.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Bytes { .. } => Kind::Bytes,
            Self::Credit => Kind::Credit,
            Self::Fin => Kind::Fin,
            Self::Bye => Kind::Bye,
            Self::Refuse(_) => Kind::Refuse,
        }
        .code()
    }
}

/// A frame of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    Hello(Offer),
    Welcome(Offer),
    Refuse(Refusal),
}

impl Greeting {
    /// What `bytes` say, with the credits that came along.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, u32), Violation> {
        let (kind, credits) = header(bytes)?;
        let body = bytes.get(HEADER..).unwrap_or_default();
        let greeting = match kind {
            Kind::Hello => Self::Hello(Offer::parse(body)?),
            Kind::Welcome => Self::Welcome(Offer::parse(body)?),
            Kind::Refuse => Self::Refuse(parse_refusal(body)?),
            other => return Err(Violation::OutOfPlace(other.code())),
        };
        Ok((greeting, credits))
    }
}

/// The protocol version that this end speaks.
pub(crate) const VERSION: u16 = 1;
/// The number of carriers of messages.
pub(crate) const MESSAGE_CARRIER: u16 = 1;
/// The number of streams.
pub(crate) const STREAM_CARRIER: u16 = 2;
/// The number of those over datagrams.
pub(crate) const DATAGRAM_CARRIER: u16 = 3;
/// The features that this end knows: none are defined yet.
pub(crate) const KNOWN_FEATURES: u64 = 0;
/// Long messages are lent to the peer, which reads them: a feature that both ends have to know.
pub(crate) const RENDEZVOUS: u64 = 1 << 8;
/// Frames may be bare: a feature of ends whose track carries immediate data.
pub(crate) const BARE: u64 = 1 << 9;
/// How many messages may be lent and not fetched at a time, either way.
pub(crate) const MAX_LENT: usize = 64;
/// How long a Lend is.
pub(crate) const LEND_LEN: usize = HEADER + RemoteWindow::ENCODED;
/// The shortest frame that an end must take: a handshake, and room for it to grow.
pub(crate) const MIN_FRAME: u32 = 128;
/// The fewest receives that an end must keep posted: see [`credit`](crate::credit).
pub(crate) const MIN_WINDOW: u32 = 8;
/// The most: far below half of what 32 bits of credits can count.
pub(crate) const MAX_WINDOW: u32 = 1 << 24;

const MAGIC: [u8; 8] = *b"trespass";

/// What an end says of itself in a Hello or a Welcome.
///
/// | bytes | | bytes | |
/// |---|---|---|---|
/// | 0–7 | magic | 32–35 | receives that are kept posted |
/// | 8–9 | oldest version spoken | 36–39 | longest frame it receives |
/// | 10–11 | newest | 40–47 | longest message |
/// | 12–13 | how long this is | 48–51 | longest message it receives in one frame with a header; a bare one may be 8 longer |
/// | 14–15 | kind of carrier | 52–55 | milliseconds of silence that it bears; 0: for ever |
/// | 16–23 | features it requires | 56–63 | incarnation: another for each process |
/// | 24–31 | features it also knows | | |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) min_version: u16,
    pub(crate) max_version: u16,
    pub(crate) carrier: u16,
    pub(crate) required: u64,
    pub(crate) optional: u64,
    pub(crate) window: u32,
    pub(crate) max_frame: u32,
    pub(crate) max_message: u64,
    pub(crate) eager_limit: u32,
    pub(crate) idle_millis: u32,
    pub(crate) incarnation: u64,
}

impl Offer {
    /// How long it is, in bytes.
    pub(crate) const LEN: usize = 64;

    /// What this end says, with these sizes. `max_frame` is at least [`MIN_FRAME`].
    pub(crate) fn new(window: u32, max_frame: u32, max_message: u64) -> Self {
        let eager_limit = u64::from(max_frame - HEADER as u32).min(max_message) as u32;
        Self {
            min_version: VERSION,
            max_version: VERSION,
            carrier: MESSAGE_CARRIER,
            required: 0,
            optional: KNOWN_FEATURES,
            window,
            max_frame,
            max_message,
            eager_limit,
            idle_millis: 0,
            incarnation: crate::handshake::incarnation(),
        }
    }

    /// The same for a stream, which knows no messages: nothing but frames limits them.
    pub(crate) fn stream(window: u32, max_frame: u32) -> Self {
        Self { carrier: STREAM_CARRIER, ..Self::new(window, max_frame, isize::MAX as u64) }
    }

    /// As it goes behind a header.
    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&MAGIC);
        put(&self.min_version.to_le_bytes());
        put(&self.max_version.to_le_bytes());
        put(&(Self::LEN as u16).to_le_bytes());
        put(&self.carrier.to_le_bytes());
        put(&self.required.to_le_bytes());
        put(&self.optional.to_le_bytes());
        put(&self.window.to_le_bytes());
        put(&self.max_frame.to_le_bytes());
        put(&self.max_message.to_le_bytes());
        put(&self.eager_limit.to_le_bytes());
        put(&self.idle_millis.to_le_bytes());
        put(&self.incarnation.to_le_bytes());
        bytes
    }

    fn parse(body: &[u8]) -> Result<Self, Violation> {
        let too_short = Violation::Short { len: HEADER + body.len(), need: HEADER + Self::LEN };
        let mut fields = Fields(body);
        if fields.take::<8>() != Some(MAGIC) {
            return Err(Violation::Magic);
        }
        let mut parse = || {
            let [min_version, max_version, length, carrier] =
                [fields.u16()?, fields.u16()?, fields.u16()?, fields.u16()?];
            let (required, optional) = (fields.u64()?, fields.u64()?);
            let (window, max_frame, max_message) = (fields.u32()?, fields.u32()?, fields.u64()?);
            let (eager_limit, idle_millis, incarnation) = (fields.u32()?, fields.u32()?, fields.u64()?);
            let offer = Self {
                min_version,
                max_version,
                carrier,
                required,
                optional,
                window,
                max_frame,
                max_message,
                eager_limit,
                idle_millis,
                incarnation,
            };
            Some((offer, usize::from(length)))
        };
        let (offer, length) = parse().ok_or(too_short)?;
        if length != body.len() {
            return Err(Violation::HandshakeLength { says: length, has: body.len() });
        }
        offer.check()
    }

    /// Only what contradicts itself is wrong here; what merely does not suit is refused with a reason.
    fn check(self) -> Result<Self, Violation> {
        if self.min_version > self.max_version {
            return Err(Violation::Versions { min: self.min_version, max: self.max_version });
        }
        let fits = u64::from(self.eager_limit) <= self.max_message
            && self.eager_limit <= self.max_frame.saturating_sub(HEADER as u32);
        if !fits || self.max_message == 0 {
            return Err(Violation::Sizes);
        }
        Ok(self)
    }
}

/// How long a Refuse is behind its header: reason, reserved (4), value.
pub(crate) const REFUSAL_LEN: usize = 16;

/// A refusal as it goes behind a header: 2 bytes of reason, 6 reserved, 8 of value.
pub(crate) fn encode_refusal(refusal: Refusal) -> [u8; REFUSAL_LEN] {
    let (code, value) = match refusal {
        Refusal::Malformed => (1, 0),
        Refusal::Version { min, max } => (2, u64::from(max) << 16 | u64::from(min)),
        Refusal::Kind(kind) => (3, u64::from(kind)),
        Refusal::Features(missing) => (4, missing),
        Refusal::Window(slots) => (5, u64::from(slots)),
        Refusal::FrameSize(len) => (6, u64::from(len)),
        Refusal::Unknown { code, value } => (code, value),
    };
    let mut bytes = [0; REFUSAL_LEN];
    bytes[..2].copy_from_slice(&code.to_le_bytes());
    bytes[8..].copy_from_slice(&value.to_le_bytes());
    bytes
}

fn parse_refusal(body: &[u8]) -> Result<Refusal, Violation> {
    let mut fields = Fields(body);
    let mut parse = || {
        let code = fields.u16()?;
        fields.take::<6>()?;
        Some((code, fields.u64()?))
    };
    let need = HEADER + REFUSAL_LEN;
    let (code, value) = parse().ok_or(Violation::Short { len: HEADER + body.len(), need })?;
    let unknown = Refusal::Unknown { code, value };
    Ok(match (code, u32::try_from(value)) {
        (1, Ok(0)) => Refusal::Malformed,
        (2, Ok(range)) => Refusal::Version { min: range as u16, max: (range >> 16) as u16 },
        (3, Ok(kind)) => u16::try_from(kind).map_or(unknown, Refusal::Kind),
        (4, _) => Refusal::Features(value),
        (5, Ok(slots)) => Refusal::Window(slots),
        (6, Ok(len)) => Refusal::FrameSize(len),
        _ => unknown,
    })
}

/// Takes fields off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests;
