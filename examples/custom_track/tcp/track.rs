//! Tracks, halves and buffers: what the traits ask for, in terms of a link.

use std::future::Future;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use trespass::core::{
    Endpoint, ErrorKind, Limits, RecvSide, Reliable, SendBuf, SendSide, SystemSleep, SystemTimer, Timer, Track,
    TransportError, TryError, Unsent,
};

use super::TcpError;
use super::link::Link;

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct TcpTrack {
    sender: TcpSender,
    receiver: TcpReceiver,
}

/// The sending half. Dropping it ends the track.
#[derive(Debug)]
pub(crate) struct TcpSender {
    link: Arc<Link>,
    closing: Option<SystemSleep>,
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct TcpReceiver {
    link: Arc<Link>,
}

impl TcpTrack {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { sender: TcpSender { link: Arc::clone(&link), closing: None }, receiver: TcpReceiver { link } }
    }

    /// How many flushes had something to let go.
    pub(crate) fn doorbells(&self) -> u64 {
        self.sender.link.with(|state| state.doorbells)
    }

    /// How often this track has been waited for.
    pub(crate) fn arms(&self) -> u64 {
        self.sender.link.with(|state| state.arms)
    }

    /// Makes the track behave as if its cable were pulled, for tests. What a sender gets to hear then, in time.
    pub(crate) fn unplug(&self) -> ErrorKind {
        self.sender.link.unplug();
        ErrorKind::Disconnected
    }
}

impl SendSide for TcpSender {
    type SendBuf = TcpSendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<TcpSendBuf, TryError<TcpError>> {
        let max = self.link.limits.max_message;
        if len > max {
            return Err(TryError::Failed(TcpError::Oversize { len, max }));
        }
        let memory = self.link.with(|state| {
            state.alive().map_err(TryError::Failed)?;
            state.outbound.reserve().ok_or(TryError::WouldBlock)
        })?;
        Ok(TcpSendBuf { memory, len, link: Arc::clone(&self.link) })
    }

    fn send(&mut self, mut buf: TcpSendBuf) -> Result<(), Unsent<TcpSendBuf, TcpError>> {
        if !Arc::ptr_eq(&self.link, &buf.link) {
            return Err(Unsent { buf, error: TcpError::ForeignBuffer });
        }
        let queued = self.link.with(|state| {
            state.alive()?;
            // What is left in `buf` has no memory, and so no slot. No message is longer than 16 MiB.
            state.outbound.push(std::mem::take(&mut buf.memory), buf.len as u32);
            Ok(())
        });
        queued.map_err(|error| Unsent { buf, error })
    }

    fn flush(&mut self) -> Result<(), TcpError> {
        self.link.with(|state| state.flush())
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Registered first, looked at then: what changes in between wakes.
        self.link.send_ready.register(cx.waker());
        self.link.with(|state| {
            // Why it could not be flushed, the next reserve says.
            let _ = state.flush();
            state.arms += 1;
            match state.ended.is_some() || state.outbound.has_slot() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TcpError>> {
        self.link.send_ready.register(cx.waker());
        let closed = self.link.with(|state| {
            let _ = state.flush();
            match (&state.ended, state.is_settled()) {
                // Whoever closed, it is no failure where all had arrived.
                (Some(error), true) if error.kind() == ErrorKind::Closed => Some(Ok(())),
                (Some(error), _) => Some(Err(error.clone())),
                (None, true) => {
                    state.end(TcpError::Closed);
                    Some(Ok(()))
                }
                (None, false) => None,
            }
        });
        if let Some(result) = closed {
            return Poll::Ready(result);
        }
        let Link { timer, close, .. } = &*self.link;
        let deadline = self.closing.get_or_insert_with(|| timer.sleep(*close));
        ready!(Pin::new(deadline).poll(cx));
        self.link.end(TcpError::TimedOut("close"));
        Poll::Ready(Err(TcpError::TimedOut("close")))
    }
}

impl Drop for TcpSender {
    fn drop(&mut self) {
        self.link.end(TcpError::Closed);
    }
}

impl RecvSide for TcpReceiver {
    type RecvBuf = TcpRecvBuf;

    fn posted(&self) -> u64 {
        self.link.with(|state| state.inbound.posted())
    }

    fn try_recv(&mut self) -> Result<TcpRecvBuf, TryError<TcpError>> {
        let message = self.link.with(|state| match state.inbound.pop() {
            Some(message) => Ok(message),
            None => Err(state.alive().err().map_or(TryError::WouldBlock, TryError::Failed)),
        })?;
        Ok(TcpRecvBuf { memory: message.memory, len: message.len, link: Arc::clone(&self.link) })
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.link.recv_ready.register(cx.waker());
        self.link.with(|state| {
            state.arms += 1;
            match state.inbound.is_empty() && state.ended.is_none() {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
    }
}

/// A buffer that was reserved: memory of its track, and a slot.
#[derive(Debug)]
pub(crate) struct TcpSendBuf {
    /// Empty once it was sent.
    memory: Box<[u8]>,
    len: usize,
    link: Arc<Link>,
}

impl Deref for TcpSendBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl DerefMut for TcpSendBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

impl SendBuf for TcpSendBuf {
    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Drop for TcpSendBuf {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if !memory.is_empty() {
            self.link.with(|state| state.outbound.give_back(memory));
            self.link.send_ready.wake();
        }
    }
}

/// A message that was received, in memory of its track. Dropping it posts that memory again.
#[derive(Debug)]
pub(crate) struct TcpRecvBuf {
    memory: Box<[u8]>,
    len: usize,
    link: Arc<Link>,
}

impl Deref for TcpRecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl AsRef<[u8]> for TcpRecvBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for TcpRecvBuf {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.link.with(|state| state.repost(memory));
    }
}

macro_rules! endpoint {
    ($type:ty, $($link:ident).+) => {
        impl Endpoint for $type {
            type Error = TcpError;
            type Addr = SocketAddr;
            type Timer = SystemTimer;

            fn limits(&self) -> Limits {
                self.$($link).+.limits
            }

            fn local(&self) -> SocketAddr {
                self.$($link).+.local
            }

            fn peer(&self) -> SocketAddr {
                self.$($link).+.peer
            }

            fn timer(&self) -> SystemTimer {
                self.$($link).+.timer.clone()
            }
        }
    };
}

endpoint!(TcpSender, link);
endpoint!(TcpReceiver, link);
endpoint!(TcpTrack, sender.link);

impl SendSide for TcpTrack {
    type SendBuf = TcpSendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<TcpSendBuf, TryError<TcpError>> {
        self.sender.try_reserve(len)
    }

    fn send(&mut self, buf: TcpSendBuf) -> Result<(), Unsent<TcpSendBuf, TcpError>> {
        self.sender.send(buf)
    }

    fn flush(&mut self) -> Result<(), TcpError> {
        self.sender.flush()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_send_ready(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TcpError>> {
        self.sender.poll_close(cx)
    }
}

impl RecvSide for TcpTrack {
    type RecvBuf = TcpRecvBuf;

    fn posted(&self) -> u64 {
        self.receiver.posted()
    }

    fn try_recv(&mut self) -> Result<TcpRecvBuf, TryError<TcpError>> {
        self.receiver.try_recv()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Why it could not be flushed, the next reserve says.
        let _ = self.sender.flush();
        self.receiver.poll_recv_ready(cx)
    }
}

impl Track for TcpTrack {
    type Delivery = Reliable;
    type Sender = TcpSender;
    type Receiver = TcpReceiver;

    fn split(self) -> (TcpSender, TcpReceiver) {
        (self.sender, self.receiver)
    }
}
