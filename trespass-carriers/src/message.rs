//! What goes in and what comes out: messages, and room for them.

use std::fmt;
use std::ops::{Deref, DerefMut};

use trespass_core::{RecvSide, RemoteWindow, SendBuf, SendSide};

use crate::pool::Pooled;

/// A received message, owned.
///
/// It is either the memory into which the device wrote it (no copy), or, for one that came in segments or was copied out to
/// make room, memory from the carrier's pool. Dropping it, on any thread, gives either back. It stays valid after its
/// carrier, track and fabric are gone.
///
/// An application that keeps messages of the first sort keeps receive slots of the track: up to ¾ of them less 5 do no harm,
/// above that the peer may have to wait until some are let go. `to_vec` keeps the bytes without the slot.
///
/// `Send` and `Sync` where the track's `RecvBuf` is. `Bytes::from_owner(message)` makes it a `bytes::Bytes`, for one small
/// allocation and no copy.
pub struct Message<T: RecvSide> {
    payload: Payload<T::RecvBuf>,
}

/// A message without the name of its track.
#[derive(Debug)]
pub(crate) enum Payload<B> {
    /// As it arrived, and where the message begins in it: behind a header, or at once.
    Direct(B, usize),
    /// Put together, or copied out.
    Pooled(Pooled),
    /// Still with the peer, to be read. Only where that was agreed, and then it never leaves the crate.
    Lent(RemoteWindow),
}

impl<B: Deref<Target = [u8]>> Payload<B> {
    /// The message itself.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            // Never shorter than its header: it was parsed.
            Self::Direct(buf, head) => buf.get(*head..).unwrap_or_default(),
            Self::Pooled(bytes) => bytes.bytes(),
            Self::Lent(_) => &[],
        }
    }

    /// How long the message is, here or there.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Lent(window) => window.len(),
            _ => self.bytes().len() as u64,
        }
    }
}

impl<T: RecvSide> Message<T> {
    #[inline]
    pub(crate) fn new(payload: Payload<T::RecvBuf>) -> Self {
        Self { payload }
    }

    /// Where it is still with the peer.
    pub(crate) fn lent(&self) -> Option<RemoteWindow> {
        match self.payload {
            Payload::Lent(window) => Some(window),
            _ => None,
        }
    }

    pub(crate) fn payload(&self) -> &Payload<T::RecvBuf> {
        &self.payload
    }

    pub(crate) fn into_payload(self) -> Payload<T::RecvBuf> {
        self.payload
    }

    /// Whether it keeps a receive slot of the track.
    pub fn is_direct(&self) -> bool {
        matches!(self.payload, Payload::Direct(..))
    }
}

impl<T: RecvSide> Deref for Message<T> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.payload.bytes()
    }
}

impl<T: RecvSide> AsRef<[u8]> for Message<T> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<T: RecvSide> fmt::Debug for Message<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("len", &self.len()).field("direct", &self.is_direct()).finish()
    }
}

/// Room for a message in registered memory, with a send slot: fill it in place, then
/// [`send_buf`](crate::MessageCarrier::send_buf) it.
///
/// Dropping it gives slot and memory back. Its bytes are zero, or what this same track sent before. It may be kept and moved
/// freely, but each one that is kept is a send slot less; control has slots of its own.
pub struct MessageBuf<T: SendSide> {
    pub(crate) frame: T::SendBuf,
    /// Where the message begins in it.
    pub(crate) head: usize,
    /// Which carrier it was reserved from.
    pub(crate) carrier: u64,
}

impl<T: SendSide> MessageBuf<T> {
    /// Shortens the message to `len` bytes. No effect where it is that short already.
    pub fn truncate(&mut self, len: usize) {
        self.frame.truncate(len.saturating_add(self.head));
    }
}

impl<T: SendSide> Deref for MessageBuf<T> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.frame.get(self.head..).unwrap_or_default()
    }
}

impl<T: SendSide> DerefMut for MessageBuf<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let head = self.head;
        self.frame.get_mut(head..).unwrap_or_default()
    }
}

impl<T: SendSide> fmt::Debug for MessageBuf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageBuf").field("len", &self.len()).finish_non_exhaustive()
    }
}
