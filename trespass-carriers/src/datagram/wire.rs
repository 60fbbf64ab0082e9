//! What goes in a datagram, byte for byte.
//!
//! The handshake has the frames of [`wire`](crate::wire), with a *session* where those have credits: a number that each end
//! makes up for each carrier. A Welcome also has the session that it answers, in the offer's reserved bytes 52–55; a Refuse
//! has that one in place of its own.
//!
//! All else begins with eight bytes, little-endian:
//!
//! | bytes | |
//! |---|---|
//! | 0 | kind |
//! | 1 | flags: none are defined, so zero |
//! | 2–3 | tag: the low 16 bits of the session of the end that this goes to |
//! | 4–7 | number: of the message, one more than that of the message before; of others zero |
//!
//! | kind | | after the eight bytes |
//! |---|---|---|
//! | 34 | Bye | nothing: nothing more will be sent or read |
//! | 80 | Whole | the message |
//! | 81 | Segment | the length of the message, 4 bytes; which segment this is, counted from 0, 4 bytes; the segment |
//! | 82 | Ready | nothing: the Welcome has come |
//! | 83 | Beat | nothing: the sender is there |
//!
//! Segments are as long as the agreed frame has room for, but for the last of a message.

use crate::error::Refusal;
use crate::wire::{Greeting, HEADER, Kind, Offer, REFUSAL_LEN, encode_refusal, stamp};

pub(super) const BYE: u8 = 34;
pub(super) const WHOLE: u8 = 80;
pub(super) const SEGMENT: u8 = 81;
pub(super) const READY: u8 = 82;
pub(super) const BEAT: u8 = 83;

/// How much of a datagram is not the segment in it.
pub(super) const SEGMENT_HEADER: usize = HEADER + 8;
/// Where the answered session is in a Welcome.
const ECHO: std::ops::Range<usize> = HEADER + 52..HEADER + 56;

/// What a datagram is, of those that come after the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Whole {
        number: u32,
        len: usize,
    },
    Segment {
        number: u32,
        segment: Segment<'a>,
    },
    Ready,
    Beat,
    Bye,
    /// The peer has not heard that its Welcome came.
    Welcome,
}

/// Part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) total: u32,
    pub(super) index: u32,
    pub(super) bytes: &'a [u8],
}

/// Why a datagram is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// It is none of this protocol, or contradicts itself.
    Garbage,
    /// Of another session, or left over from the handshake.
    Stale,
}

impl<'a> Packet<'a> {
    /// What `bytes` say to the end of session `session`.
    #[inline]
    pub(super) fn parse(bytes: &'a [u8], session: u32) -> Result<Self, Misfit> {
        let Some((&[kind, flags, t0, t1, n0, n1, n2, n3], body)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(Misfit::Garbage);
        };
        if matches!(kind, 1..=3) {
            return parse_late_greeting(bytes, session);
        }
        if flags != 0 {
            return Err(Misfit::Garbage);
        }
        if u16::from_le_bytes([t0, t1]) != session as u16 {
            return Err(Misfit::Stale);
        }
        let number = u32::from_le_bytes([n0, n1, n2, n3]);
        match kind {
            WHOLE => Ok(Self::Whole { number, len: body.len() }),
            SEGMENT => {
                let Some((&[l0, l1, l2, l3, i0, i1, i2, i3], bytes)) = body.split_first_chunk::<8>() else {
                    return Err(Misfit::Garbage);
                };
                let (total, index) = (u32::from_le_bytes([l0, l1, l2, l3]), u32::from_le_bytes([i0, i1, i2, i3]));
                Ok(Self::Segment { number, segment: Segment { total, index, bytes } })
            }
            _ if !body.is_empty() || number != 0 => Err(Misfit::Garbage),
            READY => Ok(Self::Ready),
            BEAT => Ok(Self::Beat),
            BYE => Ok(Self::Bye),
            _ => Err(Misfit::Garbage),
        }
    }
}

#[cold]
fn parse_late_greeting(bytes: &[u8], session: u32) -> Result<Packet<'_>, Misfit> {
    match Greeting::parse(bytes) {
        Ok((Greeting::Welcome(_), _)) if echo(bytes) == Some(session) => Ok(Packet::Welcome),
        Ok(_) => Err(Misfit::Stale),
        Err(_) => Err(Misfit::Garbage),
    }
}

/// The session that a Welcome answers.
pub(super) fn echo(welcome: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*welcome.get(ECHO)?.first_chunk()?))
}

/// Writes the first eight bytes. Tracks give what was reserved, so there is room.
#[inline]
pub(super) fn put_header(frame: &mut [u8], kind: u8, peer: u32, number: u32) {
    if let Some(header) = frame.first_chunk_mut::<HEADER>() {
        let low = u64::from(kind) | u64::from(peer as u16) << 16;
        *header = (u64::from(number) << 32 | low).to_le_bytes();
    }
}

/// Writes what follows the first eight bytes of a segment.
#[inline]
pub(super) fn put_segment(frame: &mut [u8], total: u32, index: u32, bytes: &[u8]) {
    let Some((fields, room)) = frame.get_mut(HEADER..).and_then(|rest| rest.split_first_chunk_mut::<8>()) else {
        return;
    };
    *fields = (u64::from(index) << 32 | u64::from(total)).to_le_bytes();
    if let Some(room) = room.get_mut(..bytes.len()) {
        room.copy_from_slice(bytes);
    }
}

/// The longest of what a handshake says.
pub(super) const GREETING_LEN: usize = HEADER + Offer::LEN;

/// A Hello of `session`, or a Welcome that answers `echo`.
pub(super) fn greeting(kind: Kind, offer: &Offer, session: u32, echo: u32) -> [u8; GREETING_LEN] {
    let mut bytes = [0; GREETING_LEN];
    stamp(&mut bytes, kind, u64::from(session));
    bytes[HEADER..].copy_from_slice(&offer.encode());
    bytes[ECHO].copy_from_slice(&echo.to_le_bytes());
    bytes
}

/// A Refuse that answers `echo`.
pub(super) fn refusal(refusal: Refusal, echo: u32) -> [u8; HEADER + REFUSAL_LEN] {
    let mut bytes = [0; HEADER + REFUSAL_LEN];
    stamp(&mut bytes, Kind::Refuse, u64::from(echo));
    bytes[HEADER..].copy_from_slice(&encode_refusal(refusal));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: u32 = 0x1234_5678;

    fn framed(kind: u8, number: u32, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; HEADER];
        put_header(&mut frame, kind, OURS, number);
        frame.extend(body);
        frame
    }

    #[test]
    fn what_is_written_is_what_the_tables_say() {
        assert_eq!(framed(WHOLE, 0x0403_0201, b"x"), [80, 0, 0x78, 0x56, 1, 2, 3, 4, b'x']);
        let mut segment = framed(SEGMENT, 1, &[0; 10]);
        put_segment(&mut segment, 7, 3, b"ab");
        assert_eq!(segment[8..], [7, 0, 0, 0, 3, 0, 0, 0, b'a', b'b']);
        let parsed = Packet::Segment { number: 1, segment: Segment { total: 7, index: 3, bytes: b"ab" } };
        assert_eq!(Packet::parse(&segment, OURS), Ok(parsed));
    }

    #[test]
    fn what_does_not_fit_is_told_apart() {
        assert_eq!(Packet::parse(&framed(WHOLE, 5, b"abc"), OURS), Ok(Packet::Whole { number: 5, len: 3 }));
        assert_eq!(Packet::parse(&framed(WHOLE, 5, b"abc"), OURS + 1), Err(Misfit::Stale));
        assert_eq!(Packet::parse(&framed(BEAT, 0, b""), OURS), Ok(Packet::Beat));
        assert_eq!(Packet::parse(&framed(BEAT, 0, b"?"), OURS), Err(Misfit::Garbage));
        assert_eq!(Packet::parse(&framed(READY, 1, b""), OURS), Err(Misfit::Garbage));
        assert_eq!(Packet::parse(&framed(99, 0, b""), OURS), Err(Misfit::Garbage));
        assert_eq!(Packet::parse(&framed(SEGMENT, 0, &[0; 7]), OURS), Err(Misfit::Garbage));
        assert_eq!(Packet::parse(&[80, 1, 0x78, 0x56, 0, 0, 0, 0], OURS), Err(Misfit::Garbage));
        assert_eq!(Packet::parse(&[80], OURS), Err(Misfit::Garbage));
    }

    #[test]
    fn a_late_welcome_counts_for_whom_it_answers() {
        let offer = Offer::new(8, 1024, 4096);
        let welcome = greeting(Kind::Welcome, &offer, 9, OURS);
        assert_eq!(Packet::parse(&welcome, OURS), Ok(Packet::Welcome));
        assert_eq!(Packet::parse(&welcome, 9), Err(Misfit::Stale));
        assert_eq!(Packet::parse(&greeting(Kind::Hello, &offer, 9, OURS), OURS), Err(Misfit::Stale));
        assert_eq!(Packet::parse(&welcome[..40], OURS), Err(Misfit::Garbage));
    }
}
