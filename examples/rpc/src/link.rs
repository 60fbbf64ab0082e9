//! A connection: a carrier of messages, with as many frames in each as there are to send at once.

use std::task::{Context, Poll};

use trespass::carriers::{CarrierError, Message, MessageBuf, MessageCarrier, MessageConfig};
use trespass::core::{Carrier, InOrder, Lossless, Track, TryError};

use crate::core::wire::{Fault, Frame, LEAST_ROOM, write};

/// How carriers are set up: frames are never longer than one message of the track, so nothing is put together below.
pub(crate) fn carrier_config() -> MessageConfig {
    MessageConfig::default().with_max_message(64 << 10).with_spill_limit(1 << 20).with_pool_limit(1 << 20)
}

/// A carrier, and the message in the making.
pub(crate) struct Link<T: Track<Delivery: Lossless + InOrder>> {
    carrier: MessageCarrier<T>,
    /// Room in registered memory, and how much of it has frames.
    open: Option<(MessageBuf<T>, usize)>,
    room: usize,
    /// Messages are queued that no doorbell was rung for.
    queued: bool,
}

impl<T: Track<Delivery: Lossless + InOrder>> Link<T> {
    /// `None` where the track's messages are too short for frames.
    pub(crate) fn new(carrier: MessageCarrier<T>) -> Option<Self> {
        let room = carrier.eager_limit().min(carrier.max_message());
        (room >= 2 * LEAST_ROOM).then_some(Self { carrier, open: None, room, queued: false })
    }

    /// Has `fill` write frames into the message in the making, or the next ones, until it has no more: it says how many bytes, 0 for
    /// none. Nothing goes out before [`flush`](Self::flush), but for what is full.
    ///
    /// # Errors
    /// `WouldBlock` where the carrier takes no more now; else what ended the connection.
    pub(crate) fn write(
        &mut self,
        mut fill: impl FnMut(&mut [u8]) -> usize,
    ) -> Result<(), TryError<CarrierError<T::Error>>> {
        loop {
            let (buf, used) = match &mut self.open {
                Some(open) => open,
                none => none.insert((self.carrier.try_reserve(self.room)?, 0)),
            };
            let rest = buf.get_mut(*used..).unwrap_or_default();
            if rest.len() < LEAST_ROOM {
                self.send_open().map_err(TryError::Failed)?;
                continue;
            }
            match fill(rest) {
                0 => return Ok(()),
                written => *used += written,
            }
        }
    }

    /// One frame; whether there was room for it.
    pub(crate) fn write_one(&mut self, frame: &Frame<'_>) -> Result<bool, CarrierError<T::Error>> {
        let mut written = false;
        let outcome = self.write(|room| match written {
            true => 0,
            false => {
                written = true;
                write(room, frame).unwrap_or(0)
            }
        });
        match outcome {
            Ok(()) => Ok(true),
            Err(TryError::WouldBlock) => Ok(written),
            Err(TryError::Failed(error)) => Err(error),
        }
    }

    fn send_open(&mut self) -> Result<(), CarrierError<T::Error>> {
        if let Some((mut buf, used)) = self.open.take_if(|(_, used)| *used > 0) {
            buf.truncate(used);
            self.queued = true;
            self.carrier.send_buf(buf).map_err(|unsent| unsent.error)?;
        }
        Ok(())
    }

    /// Rings the doorbell, once, where anything is to go. What is only reserved goes back.
    pub(crate) fn flush(&mut self) -> Result<(), CarrierError<T::Error>> {
        self.send_open()?;
        self.open = None;
        match std::mem::take(&mut self.queued) {
            true => self.carrier.flush(),
            false => Ok(()),
        }
    }

    /// The next message: frames, one behind the other. `None` after the peer's last.
    pub(crate) fn try_recv(&mut self) -> Result<Option<Message<T>>, TryError<CarrierError<T::Error>>> {
        self.carrier.try_recv()
    }

    /// The same, or a wait for it.
    pub(crate) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Message<T>>, CarrierError<T::Error>>> {
        self.carrier.poll_recv(cx)
    }

    /// Ready when there is something to receive, or the end.
    pub(crate) fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.carrier.poll_recv_ready(cx)
    }

    /// Ready when there is room to write, or the end.
    pub(crate) fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.carrier.poll_send_ready(cx)
    }

    /// Says goodbye. What is written goes first.
    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        if let Err(error) = self.send_open() {
            return Poll::Ready(Err(error));
        }
        self.open = None;
        Carrier::poll_close(&mut self.carrier, cx)
    }
}

/// Each frame of a message, in order, until one makes no sense.
pub(crate) fn each_frame<'a>(
    mut bytes: &'a [u8],
    mut act: impl FnMut(Frame<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    while !bytes.is_empty() {
        let (frame, rest) = crate::core::wire::parse(bytes)?;
        act(frame)?;
        bytes = rest;
    }
    Ok(())
}
