//! Frames: what goes to and fro in the carrier's messages, any number of frames in each.
//!
//! ```text
//!  0        1        2        4          8            16
//!  kind u8  flags u8 index u16 len u32   generation u64   body of `len` bytes      little endian
//! ```
//! Index and generation name a call: the client's choice, no more than so many indices at once as the server said, and a higher
//! generation each time that an index is used again. What comes for an earlier generation comes too late, and is dropped.

use std::time::Duration;

use thiserror::Error;

use crate::status::{Code, Rejection, Status};

/// How long a header is.
pub(crate) const HEADER: usize = 16;
/// What a call has before its request: the method, and how many microseconds it has left.
pub(crate) const CALL: usize = HEADER + 12;
/// Room in which every frame fits, or a part of one with some of its body.
pub(crate) const LEAST_ROOM: usize = 512;
const _: () = assert!(LEAST_ROOM >= HEADER + 2 + Status::MESSAGE && LEAST_ROOM > CALL);

const MAGIC: [u8; 8] = *b"trespRPC";
const VERSION: u16 = 1;
const HELLO: usize = 20;

/// More of this body comes, in frames of kind [`PART`].
const MORE: u8 = 1;
/// And after this body no other.
const LAST: u8 = 2;

const KIND_HELLO: u8 = 1;
const KIND_CALL: u8 = 2;
const KIND_ITEM: u8 = 3;
const KIND_PART: u8 = 4;
const KIND_DONE: u8 = 5;
const KIND_END: u8 = 6;
const KIND_CANCEL: u8 = 7;
const KIND_CREDIT: u8 = 8;
const KIND_LEAVE: u8 = 9;
const KIND_FAULT: u8 = 10;

/// Which call, on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CallId {
    pub(crate) index: u16,
    pub(crate) generation: u64,
}

impl CallId {
    /// Of frames that are of no call.
    pub(crate) const NONE: Self = Self { index: 0, generation: 0 };
}

/// What each end says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    /// How many calls it takes at once: of the server.
    pub(crate) max_calls: u16,
    /// How many bytes of a stream may be under way to it.
    pub(crate) window: u32,
    /// The longest body that it takes.
    pub(crate) max_message: u32,
}

/// A body, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) bytes: &'a [u8],
    /// Another part follows.
    pub(crate) more: bool,
    /// It is the last body of its direction.
    pub(crate) last: bool,
}

/// How a call ends without a last reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Ok,
    Service(Status),
    Rejected(Rejection),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Hello(Hello),
    /// A call, with its request, and how much time it has.
    Call {
        id: CallId,
        method: u32,
        left: Option<Duration>,
        piece: Piece<'a>,
    },
    /// A message of a stream, or the reply.
    Item(CallId, Piece<'a>),
    /// More of the message that was begun.
    Part(CallId, Piece<'a>),
    /// The client sends no more requests.
    Done(CallId),
    End(CallId, End),
    Cancel(CallId),
    /// So many bytes of the stream were taken, and as many more may come.
    Credit(CallId, u32),
    /// The server drains: no more calls.
    Leave,
    /// The other end broke the protocol, and this is the last frame.
    Fault(u8),
}

/// Bytes that are no frame, or one that is nowhere in place. The connection ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// Fewer bytes than a header, or than its length says.
    #[error("a frame that is cut short")]
    Short,
    /// A kind that there is not.
    #[error("a frame of no known kind")]
    Kind,
    /// Flags that the kind does not have, or fields that must be zero.
    #[error("a frame with bits set that it may not have")]
    Flags,
    /// A body that is not as long as the kind needs.
    #[error("a frame whose body has the wrong length")]
    Body,
    /// A greeting of something else, or of another version, or with sizes that will not do.
    #[error("a greeting that will not do")]
    Hello,
    /// A frame that this end does not take, or not now, or of a call that was never made.
    #[error("a frame out of place")]
    Place,
    /// A number that says nothing.
    #[error("a frame with a number that has no meaning")]
    Number,
    /// More of a stream than was allowed, or a message that is too long.
    #[error("more bytes than were allowed")]
    Window,
    /// The other end found a fault.
    #[error("the other end found a fault, number {0}, in what this one sent")]
    Told(u8),
}

impl Fault {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Short => 1,
            Self::Kind => 2,
            Self::Flags => 3,
            Self::Body => 4,
            Self::Hello => 5,
            Self::Place => 6,
            Self::Number => 7,
            Self::Window => 8,
            Self::Told(number) => number,
        }
    }
}

/// The first frame of `bytes`, and what is behind it.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Frame<'_>, &[u8]), Fault> {
    let (head, rest) = bytes.split_first_chunk::<HEADER>().ok_or(Fault::Short)?;
    let [kind, flags, i0, i1, l0, l1, l2, l3, generation @ ..] = *head;
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    let (body, rest) = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len)).ok_or(Fault::Short)?;
    let id = CallId { index: u16::from_le_bytes([i0, i1]), generation: u64::from_le_bytes(generation) };
    Ok((parse_body(kind, flags, id, body)?, rest))
}

fn parse_body(kind: u8, flags: u8, id: CallId, body: &[u8]) -> Result<Frame<'_>, Fault> {
    let named = match kind {
        KIND_HELLO | KIND_LEAVE | KIND_FAULT => id == CallId::NONE,
        KIND_CALL..=KIND_CREDIT => id.generation > 0,
        _ => return Err(Fault::Kind),
    };
    if !named {
        return Err(Fault::Flags);
    }
    let allowed = match kind {
        KIND_ITEM | KIND_PART => MORE | LAST,
        KIND_CALL => MORE,
        _ => 0,
    };
    // The last part says that it is the last of all, so no part before it does.
    if flags & !allowed != 0 || flags == MORE | LAST {
        return Err(Fault::Flags);
    }
    let piece = |bytes| Piece { bytes, more: flags & MORE != 0, last: flags & LAST != 0 };
    Ok(match kind {
        KIND_HELLO => Frame::Hello(parse_hello(body)?),
        KIND_CALL => {
            let (head, request) = body.split_first_chunk::<12>().ok_or(Fault::Body)?;
            let [m0, m1, m2, m3, micros @ ..] = *head;
            let left = match u64::from_le_bytes(micros) {
                u64::MAX => None,
                micros => Some(Duration::from_micros(micros)),
            };
            Frame::Call { id, method: u32::from_le_bytes([m0, m1, m2, m3]), left, piece: piece(request) }
        }
        KIND_ITEM => Frame::Item(id, piece(body)),
        KIND_PART => Frame::Part(id, piece(body)),
        KIND_DONE => empty(body, Frame::Done(id))?,
        KIND_END => Frame::End(id, parse_end(body)?),
        KIND_CANCEL => empty(body, Frame::Cancel(id))?,
        KIND_CREDIT => Frame::Credit(id, u32::from_le_bytes(body.try_into().map_err(|_| Fault::Body)?)),
        KIND_LEAVE => empty(body, Frame::Leave)?,
        KIND_FAULT => match body {
            [number] => Frame::Fault(*number),
            _ => return Err(Fault::Body),
        },
        _ => return Err(Fault::Kind),
    })
}

fn empty<'a>(body: &[u8], frame: Frame<'a>) -> Result<Frame<'a>, Fault> {
    if body.is_empty() { Ok(frame) } else { Err(Fault::Body) }
}

fn parse_hello(body: &[u8]) -> Result<Hello, Fault> {
    let body: &[u8; HELLO] = body.try_into().map_err(|_| Fault::Body)?;
    let [magic @ .., v0, v1, c0, c1, w0, w1, w2, w3, m0, m1, m2, m3] = *body;
    let hello = Hello {
        max_calls: u16::from_le_bytes([c0, c1]),
        window: u32::from_le_bytes([w0, w1, w2, w3]),
        max_message: u32::from_le_bytes([m0, m1, m2, m3]),
    };
    // A window of nothing, or beyond what is counted, would never move.
    let good = magic == MAGIC
        && u16::from_le_bytes([v0, v1]) == VERSION
        && (1..=i32::MAX as u32).contains(&hello.window)
        && hello.max_message > 0;
    if good { Ok(hello) } else { Err(Fault::Hello) }
}

fn parse_end(body: &[u8]) -> Result<End, Fault> {
    match body {
        [0, 0] => Ok(End::Ok),
        [1, number, message @ ..] if message.len() <= Status::MESSAGE => {
            let code = Code::from_number(*number).ok_or(Fault::Number)?;
            Ok(End::Service(Status::new(code, String::from_utf8_lossy(message).into_owned())))
        }
        [2, number] => Ok(End::Rejected(Rejection::from_number(*number).ok_or(Fault::Number)?)),
        [] | [0..=2, ..] => Err(Fault::Body),
        _ => Err(Fault::Number),
    }
}

/// Writes a frame to the beginning of `room`, and says how long it is; `None` where it does not fit.
pub(crate) fn write(room: &mut [u8], frame: &Frame<'_>) -> Option<usize> {
    let mut fields = [0; HELLO];
    match *frame {
        Frame::Hello(hello) => {
            let [magic @ .., v0, v1, c0, c1, w0, w1, w2, w3, m0, m1, m2, m3] = &mut fields;
            *magic = MAGIC;
            [*v0, *v1] = VERSION.to_le_bytes();
            [*c0, *c1] = hello.max_calls.to_le_bytes();
            [*w0, *w1, *w2, *w3] = hello.window.to_le_bytes();
            [*m0, *m1, *m2, *m3] = hello.max_message.to_le_bytes();
            put(room, KIND_HELLO, 0, CallId::NONE, &[&fields])
        }
        Frame::Call { id, method, left, piece } => {
            // Rounded up: who calls hears of its own clock first.
            let micros = left.map_or(u64::MAX, |left| {
                u64::try_from(left.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX - 1).min(u64::MAX - 1)
            });
            put(room, KIND_CALL, flags(piece), id, &[&method.to_le_bytes(), &micros.to_le_bytes(), piece.bytes])
        }
        Frame::Item(id, piece) => put(room, KIND_ITEM, flags(piece), id, &[piece.bytes]),
        Frame::Part(id, piece) => put(room, KIND_PART, flags(piece), id, &[piece.bytes]),
        Frame::Done(id) => put(room, KIND_DONE, 0, id, &[]),
        Frame::End(id, ref end) => match end {
            End::Ok => put(room, KIND_END, 0, id, &[&[0, 0]]),
            End::Service(status) => {
                let message = shortened(&status.message).as_bytes();
                put(room, KIND_END, 0, id, &[&[1, status.code.number()], message])
            }
            End::Rejected(rejection) => put(room, KIND_END, 0, id, &[&[2, rejection.number()]]),
        },
        Frame::Cancel(id) => put(room, KIND_CANCEL, 0, id, &[]),
        Frame::Credit(id, bytes) => put(room, KIND_CREDIT, 0, id, &[&bytes.to_le_bytes()]),
        Frame::Leave => put(room, KIND_LEAVE, 0, CallId::NONE, &[]),
        Frame::Fault(number) => put(room, KIND_FAULT, 0, CallId::NONE, &[&[number]]),
    }
}

fn flags(piece: Piece<'_>) -> u8 {
    (u8::from(piece.more) * MORE) | (u8::from(piece.last) * LAST)
}

/// As much of a message as travels.
fn shortened(message: &str) -> &str {
    let mut end = message.len().min(Status::MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.get(..end).unwrap_or_default()
}

fn put(room: &mut [u8], kind: u8, flags: u8, id: CallId, body: &[&[u8]]) -> Option<usize> {
    let len = body.iter().map(|part| part.len()).sum::<usize>();
    let (head, rest) = room.split_first_chunk_mut::<HEADER>()?;
    let mut rest = rest.get_mut(..len)?;
    let [k, f, i0, i1, l0, l1, l2, l3, generation @ ..] = head;
    (*k, *f) = (kind, flags);
    [*i0, *i1] = id.index.to_le_bytes();
    [*l0, *l1, *l2, *l3] = u32::try_from(len).ok()?.to_le_bytes();
    *generation = id.generation.to_le_bytes();
    for part in body {
        let (here, behind) = rest.split_at_mut_checked(part.len())?;
        here.copy_from_slice(part);
        rest = behind;
    }
    Some(HEADER + len)
}
