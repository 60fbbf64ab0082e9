//! One direction of a call: what goes out, message by message, and what comes in, within its window.

use std::collections::VecDeque;
use std::time::Duration;

use super::wire::{CALL, CallId, Fault, Frame, HEADER, Piece, write};

/// What a message of a stream counts beside its bytes, so that empty ones are not without end.
const ITEM_COST: i64 = 64;
/// How much memory one buffer may have that is kept for the next message, and how many are kept.
const KEPT_BYTES: usize = 16 << 10;
const KEPT: usize = 64;

fn cost(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX).saturating_add(ITEM_COST)
}

/// How many bytes of a stream this end may still send. A message may be begun while there are any: so it may be longer than the
/// window, and what the peer has to keep is no more than a window and a message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SendWindow(i64);

impl SendWindow {
    pub(crate) fn new(window: u32) -> Self {
        Self(window.into())
    }

    pub(crate) fn is_open(self) -> bool {
        self.0 > 0
    }

    fn charge(&mut self, len: usize) {
        self.0 = self.0.saturating_sub(cost(len));
    }

    /// The peer took so many bytes. More than it was sent is a fault.
    pub(crate) fn credit(&mut self, bytes: u32, window: u32) -> Result<(), Fault> {
        self.0 = self.0.saturating_add(bytes.into());
        if self.0 <= window.into() { Ok(()) } else { Err(Fault::Window) }
    }
}

/// Memory for messages, kept for the next ones: a bounded number of buffers of a bounded size.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        if (1..=KEPT_BYTES).contains(&buffer.capacity()) && self.0.len() < KEPT {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

/// What goes out: one message at a time, in as many frames as it takes.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    /// How much of it went.
    at: usize,
    head: Option<Head>,
    /// The message is the last of its direction.
    last: bool,
}

/// What the first frame of a message is; after that, a part.
#[derive(Debug, Clone, Copy)]
enum Head {
    Call(u32),
    Item,
    Part,
}

impl Outgoing {
    /// A message waits, or is on its way.
    pub(crate) fn is_busy(&self) -> bool {
        self.head.is_some()
    }

    /// Nothing of the message went yet.
    pub(crate) fn is_untouched(&self) -> bool {
        !matches!(self.head, Some(Head::Part))
    }

    /// How long the message is.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn call(&mut self, method: u32, request: Vec<u8>) {
        *self = Self { bytes: request, at: 0, head: Some(Head::Call(method)), last: false };
    }

    /// The next message of a stream, which its window is charged with; or the reply.
    pub(crate) fn item(&mut self, bytes: Vec<u8>, last: bool, window: &mut SendWindow) {
        window.charge(bytes.len());
        *self = Self { bytes, at: 0, head: Some(Head::Item), last };
    }

    /// Writes the next frame into `room`, of at least [`LEAST_ROOM`](super::wire::LEAST_ROOM) bytes: how many bytes it took. Where
    /// the message is done its memory goes to `buffers`.
    pub(crate) fn emit(
        &mut self,
        id: CallId,
        left: impl FnOnce() -> Option<Duration>,
        room: &mut [u8],
        buffers: &mut Buffers,
    ) -> usize {
        let Some(head) = self.head else { return 0 };
        let header = if let Head::Call(_) = head { CALL } else { HEADER };
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.len().min(room.len().saturating_sub(header));
        let more = len < rest.len();
        let piece = Piece { bytes: rest.get(..len).unwrap_or_default(), more, last: self.last && !more };
        let frame = match head {
            Head::Call(method) => Frame::Call { id, method, left: left(), piece },
            Head::Item => Frame::Item(id, piece),
            Head::Part => Frame::Part(id, piece),
        };
        let written = write(room, &frame).unwrap_or(0);
        self.at += len;
        match more {
            true => self.head = Some(Head::Part),
            false => self.clear(buffers),
        }
        written
    }

    pub(crate) fn clear(&mut self, buffers: &mut Buffers) {
        self.head = None;
        buffers.give(std::mem::take(&mut self.bytes));
    }
}

/// What comes in: messages that wait to be taken, and the one in the making.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    items: VecDeque<Vec<u8>>,
    assembly: Option<Vec<u8>>,
    /// Nothing comes after what is here.
    done: bool,
    /// How many bytes the peer may still send.
    window: i64,
    /// How many were taken and not said to be.
    owed: u32,
}

impl Inbound {
    pub(crate) fn open(window: u32) -> Self {
        Self { window: window.into(), ..Self::default() }
    }

    /// As good as a new one, with the memory that it has.
    pub(crate) fn reset(&mut self, window: u32) {
        let items = std::mem::take(&mut self.items);
        *self = Self { items, ..Self::open(window) };
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// The first frame of a message.
    pub(crate) fn begin(&mut self, piece: Piece<'_>, most: usize, buffers: &mut Buffers) -> Result<(), Fault> {
        if self.done || self.assembly.is_some() {
            return Err(Fault::Place);
        }
        if self.window <= 0 {
            return Err(Fault::Window);
        }
        self.assembly = Some(buffers.take());
        self.part(piece, most)
    }

    /// Another one.
    pub(crate) fn part(&mut self, piece: Piece<'_>, most: usize) -> Result<(), Fault> {
        let assembly = self.assembly.as_mut().ok_or(Fault::Place)?;
        if assembly.len() + piece.bytes.len() > most {
            return Err(Fault::Window);
        }
        assembly.extend_from_slice(piece.bytes);
        if !piece.more {
            self.done = piece.last;
            self.window = self.window.saturating_sub(cost(assembly.len()));
            self.items.extend(self.assembly.take());
        }
        Ok(())
    }

    /// No more comes.
    pub(crate) fn finish(&mut self) -> Result<(), Fault> {
        match self.done || self.assembly.is_some() {
            true => Err(Fault::Place),
            false => {
                self.done = true;
                Ok(())
            }
        }
    }

    /// The next message.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        let item = self.items.pop_front()?;
        self.owed = self.owed.saturating_add(u32::try_from(cost(item.len())).unwrap_or(u32::MAX));
        Some(item)
    }

    /// What is to be said of what was taken, once that is worth a frame.
    pub(crate) fn credit(&mut self, window: u32) -> Option<u32> {
        if self.done || self.owed < window.div_ceil(2) {
            return None;
        }
        self.window = self.window.saturating_add(self.owed.into());
        Some(std::mem::take(&mut self.owed))
    }

    pub(crate) fn clear(&mut self, buffers: &mut Buffers) {
        self.assembly.take().into_iter().chain(self.items.drain(..)).for_each(|buffer| buffers.give(buffer));
        self.done = true;
    }
}
