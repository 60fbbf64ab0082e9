//! Tracks: the traits, in terms of a link.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use trespass_core::{
    Endpoint, ErrorKind, Limits, RecvSide, Reliable, SendSide, SystemSleep, SystemTimer, Timer, Track, TransportError,
    TryError, Unsent,
};

use crate::link::End;
use crate::{ToyAddr, ToyConfig, ToyError, ToyRecvBuf, ToySendBuf};

/// One end of a connection.
#[derive(Debug)]
pub struct ToyTrack {
    /// Has the counts.
    pub sender: ToySender,
    receiver: ToyReceiver,
}

/// The sending half.
#[derive(Debug)]
pub struct ToySender {
    end: End,
    closing: Option<SystemSleep>,
}

/// The receiving half.
#[derive(Debug)]
pub struct ToyReceiver {
    end: End,
}

impl ToyTrack {
    pub(crate) fn pair(config: ToyConfig, timer: SystemTimer, addrs: [ToyAddr; 2]) -> [Self; 2] {
        End::pair(config, timer, addrs)
            .map(|end| Self { sender: ToySender { end: end.clone(), closing: None }, receiver: ToyReceiver { end } })
    }
}

impl SendSide for ToySender {
    type SendBuf = ToySendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<ToySendBuf, TryError<ToyError>> {
        if len > self.limits().max_message {
            return Err(TryError::Failed(ToyError(ErrorKind::Oversize)));
        }
        let slots = self.limits().send_slots;
        self.end.with(|device| {
            device.alive().map_err(TryError::Failed)?;
            if device.slots_taken == slots {
                return Err(TryError::WouldBlock);
            }
            device.slots_taken += 1;
            Ok(())
        })?;
        Ok(ToySendBuf::new(len, self.end.clone()))
    }

    fn send(&mut self, buf: ToySendBuf) -> Result<(), Unsent<ToySendBuf, ToyError>> {
        if !buf.is_of(&self.end) {
            return Err(Unsent { buf, error: ToyError(ErrorKind::ForeignBuffer) });
        }
        let mut devices = self.end.devices();
        let device = &mut devices[self.end.side];
        match device.alive() {
            Ok(()) => {
                device.queued.push_back(buf.into_message());
                Ok(())
            }
            Err(error) => Err(Unsent { buf, error }),
        }
    }

    fn flush(&mut self) -> Result<(), ToyError> {
        self.end.flush()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What the flush has to say the next call says too.
        let _ = self.end.flush();
        self.end.link.send_wakers[self.end.side].register(cx.waker());
        let slots = self.limits().send_slots;
        self.end.with(|device| {
            device.arms += 1;
            match device.slots_taken < slots || device.ended.is_some() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ToyError>> {
        let _ = self.end.flush();
        self.end.link.send_wakers[self.end.side].register(cx.waker());
        let (ended, clean) = self.end.with(|device| (device.ended.clone(), device.is_clean()));
        match ended {
            // The end by a close, whoever's, is no failure unless something was under way.
            Some(error) if clean && error.kind() == ErrorKind::Closed => return Poll::Ready(Ok(())),
            Some(error) => return Poll::Ready(Err(error)),
            None if clean => {
                self.end.end(ErrorKind::Closed);
                return Poll::Ready(Ok(()));
            }
            None => {}
        }
        let link = &self.end.link;
        let deadline = self.closing.get_or_insert_with(|| link.timer.sleep(link.config.close));
        ready!(Pin::new(deadline).poll(cx));
        self.end.end(ErrorKind::TimedOut);
        Poll::Ready(Err(ToyError(ErrorKind::TimedOut)))
    }
}

impl Drop for ToySender {
    fn drop(&mut self) {
        self.end.end(ErrorKind::Closed);
    }
}

impl RecvSide for ToyReceiver {
    type RecvBuf = ToyRecvBuf;

    fn posted(&self) -> u64 {
        self.end.with(|device| device.posted)
    }

    fn try_recv(&mut self) -> Result<ToyRecvBuf, TryError<ToyError>> {
        self.end.repost();
        let next = self.end.with(|device| match device.arrived.pop_front() {
            Some(bytes) => Ok(bytes),
            None => Err(device.alive().err().map_or(TryError::WouldBlock, TryError::Failed)),
        });
        Ok(ToyRecvBuf::new(next?, self.end.clone()))
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.end.link.recv_wakers[self.end.side].register(cx.waker());
        self.end.repost();
        self.end.with(|device| {
            device.arms += 1;
            match device.arrived.is_empty() && device.ended.is_none() {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
    }
}

macro_rules! endpoint {
    ($type:ty, $($end:ident).+) => {
        impl Endpoint for $type {
            type Error = ToyError;
            type Addr = ToyAddr;
            type Timer = SystemTimer;

            fn limits(&self) -> Limits {
                self.$($end).+.link.config.limits
            }

            fn local(&self) -> ToyAddr {
                self.$($end).+.link.addrs[self.$($end).+.side]
            }

            fn peer(&self) -> ToyAddr {
                self.$($end).+.link.addrs[1 - self.$($end).+.side]
            }

            fn timer(&self) -> SystemTimer {
                self.$($end).+.link.timer.clone()
            }
        }
    };
}

endpoint!(ToySender, end);
endpoint!(ToyReceiver, end);
endpoint!(ToyTrack, sender.end);

impl SendSide for ToyTrack {
    type SendBuf = ToySendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<ToySendBuf, TryError<ToyError>> {
        self.sender.try_reserve(len)
    }

    fn send(&mut self, buf: ToySendBuf) -> Result<(), Unsent<ToySendBuf, ToyError>> {
        self.sender.send(buf)
    }

    fn flush(&mut self) -> Result<(), ToyError> {
        self.sender.flush()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_send_ready(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ToyError>> {
        self.sender.poll_close(cx)
    }
}

impl RecvSide for ToyTrack {
    type RecvBuf = ToyRecvBuf;

    fn posted(&self) -> u64 {
        self.receiver.posted()
    }

    fn try_recv(&mut self) -> Result<ToyRecvBuf, TryError<ToyError>> {
        self.receiver.try_recv()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = self.sender.flush();
        self.receiver.poll_recv_ready(cx)
    }
}

impl Track for ToyTrack {
    type Delivery = Reliable;
    type Sender = ToySender;
    type Receiver = ToyReceiver;

    fn split(self) -> (ToySender, ToyReceiver) {
        (self.sender, self.receiver)
    }
}

/// What the conformance kit asks for beside the traits.
impl ToySender {
    /// How many doorbells it has rung.
    pub fn doorbells(&self) -> u64 {
        self.end.with(|device| device.doorbells)
    }

    /// How often its track has armed a notification.
    pub fn arms(&self) -> u64 {
        self.end.with(|device| device.arms)
    }

    /// Pulls the cable. What both ends say then.
    pub fn cut(&self) -> ErrorKind {
        self.end.cut()
    }
}
