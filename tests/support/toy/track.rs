//! Tracks of the toy fabric. The device is modest but honest: a receive is posted or it is not, and a message whose
//! receiver has none posted waits on the wire and keeps its sender's slot.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use trespass_core::{
    Endpoint, ErrorKind, Limits, RecvSide, Reliable, SendBuf, SendSide, SystemSleep, SystemTimer, Timer, Track,
    TransportError, TryError, Unsent, WakerSlot,
};

use super::{Shared, ToyAddr, ToyConfig, ToyError, lock};

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

/// A track's view of the link: which side it is.
#[derive(Debug, Clone)]
struct End {
    link: Arc<Link>,
    side: usize,
}

/// The link between two ends. Where a lock is held nobody is woken.
#[derive(Debug)]
struct Link {
    config: ToyConfig,
    timer: SystemTimer,
    addrs: [ToyAddr; 2],
    device: Mutex<[Device; 2]>,
    send_wakers: [WakerSlot; 2],
    recv_wakers: [WakerSlot; 2],
}

/// What one end's hardware would hold.
#[derive(Debug)]
struct Device {
    /// Buffers reserved, queued and under way.
    slots_taken: usize,
    /// Sent, and not yet flushed.
    queued: VecDeque<Box<[u8]>>,
    /// Flushed, and the peer has no receive posted for it.
    wire: VecDeque<Box<[u8]>>,
    /// Arrived, and not yet received.
    arrived: VecDeque<Box<[u8]>>,
    /// Receives that wait for a message.
    free: usize,
    /// Received buffers that were given back and are not posted yet.
    returned: usize,
    posted: u64,
    /// Why this end has ended.
    ended: Option<ToyError>,
    /// Whether something was under way when it ended.
    lost: bool,
    doorbells: u64,
    arms: u64,
}

impl ToyTrack {
    pub(super) fn pair(shared: &Shared, from: ToyAddr, to: ToyAddr) -> (Self, Self) {
        let limits = shared.config.limits;
        let device = || Device {
            slots_taken: 0,
            queued: VecDeque::new(),
            wire: VecDeque::new(),
            arrived: VecDeque::new(),
            free: limits.recv_slots,
            returned: 0,
            posted: limits.recv_slots as u64,
            ended: None,
            lost: false,
            doorbells: 0,
            arms: 0,
        };
        let link = Arc::new(Link {
            config: shared.config,
            timer: shared.timer.clone(),
            addrs: [from, to],
            device: Mutex::new([device(), device()]),
            send_wakers: Default::default(),
            recv_wakers: Default::default(),
        });
        let track = |side| {
            let end = End { link: Arc::clone(&link), side };
            Self { sender: ToySender { end: end.clone(), closing: None }, receiver: ToyReceiver { end } }
        };
        (track(0), track(1))
    }
}

impl ToySender {
    /// How many doorbells it has rung.
    pub fn doorbells(&self) -> u64 {
        self.end.locked()[self.end.side].doorbells
    }

    /// How often its track has armed a notification.
    pub fn arms(&self) -> u64 {
        self.end.locked()[self.end.side].arms
    }

    /// Pulls the cable. What both ends say then.
    pub fn cut(&self) -> ErrorKind {
        let why = ErrorKind::Disconnected;
        self.end.locked().iter_mut().for_each(|device| device.end(why));
        self.end.link.wake_all();
        why
    }
}

impl Device {
    /// Ends this end. The first cause sticks.
    fn end(&mut self, why: ErrorKind) {
        self.ended.get_or_insert(ToyError(why));
        self.lost |= !(self.queued.is_empty() && self.wire.is_empty());
        self.queued.clear();
        self.wire.clear();
    }

    fn alive(&self) -> Result<(), ToyError> {
        self.ended.clone().map_or(Ok(()), Err)
    }

    /// Posts the buffers that were given back.
    fn repost(&mut self) {
        if self.ended.is_none() {
            self.free += self.returned;
            self.posted += self.returned as u64;
            self.returned = 0;
        }
    }
}

impl End {
    fn locked(&self) -> MutexGuard<'_, [Device; 2]> {
        lock(&self.link.device)
    }

    /// Moves what can move towards the other end.
    fn deliver_from(&self, from: usize) {
        let to = 1 - from;
        let moved = {
            let devices = &mut *self.locked();
            let moved = devices[to].free.min(devices[from].wire.len());
            let messages: Vec<_> = devices[from].wire.drain(..moved).collect();
            devices[to].arrived.extend(messages);
            devices[to].free -= moved;
            devices[from].slots_taken -= moved;
            moved
        };
        if moved > 0 {
            self.link.recv_wakers[to].wake();
            self.link.send_wakers[from].wake();
        }
    }

    fn flush(&self) -> Result<(), ToyError> {
        {
            let device = &mut self.locked()[self.side];
            device.alive()?;
            if device.queued.is_empty() {
                return Ok(());
            }
            device.doorbells += 1;
            let queued = std::mem::take(&mut device.queued);
            device.wire.extend(queued);
        }
        self.deliver_from(self.side);
        Ok(())
    }

    /// Posts what was given back, which may make room for what the peer has on the wire.
    fn repost(&self) {
        {
            let device = &mut self.locked()[self.side];
            if device.returned == 0 || device.ended.is_some() {
                return;
            }
            device.repost();
        }
        self.deliver_from(1 - self.side);
    }

    /// Ends both ends, if there is anything left to end.
    fn end(&self, ours: ErrorKind) {
        {
            let devices = &mut *self.locked();
            devices[self.side].end(ours);
            devices[1 - self.side].end(ErrorKind::Closed);
        }
        self.link.wake_all();
    }
}

impl Link {
    fn wake_all(&self) {
        self.send_wakers.iter().chain(&self.recv_wakers).for_each(WakerSlot::wake);
    }
}

impl SendSide for ToySender {
    type SendBuf = ToySendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<ToySendBuf, TryError<ToyError>> {
        if len > self.limits().max_message {
            return Err(TryError::Failed(ToyError(ErrorKind::Oversize)));
        }
        let device = &mut self.end.locked()[self.end.side];
        device.alive().map_err(TryError::Failed)?;
        if device.slots_taken == self.limits().send_slots {
            return Err(TryError::WouldBlock);
        }
        device.slots_taken += 1;
        Ok(ToySendBuf { bytes: vec![0; len], slot: Some(self.end.clone()) })
    }

    fn send(&mut self, mut buf: ToySendBuf) -> Result<(), Unsent<ToySendBuf, ToyError>> {
        let ours = buf.slot.as_ref().is_some_and(|slot| self.end.is(slot));
        let device = &mut self.end.locked()[self.end.side];
        match device.alive() {
            _ if !ours => Err(Unsent { buf, error: ToyError(ErrorKind::ForeignBuffer) }),
            Err(error) => Err(Unsent { buf, error }),
            Ok(()) => {
                // The slot goes with the message now.
                buf.slot = None;
                device.queued.push_back(std::mem::take(&mut buf.bytes).into());
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> Result<(), ToyError> {
        self.end.flush()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What the flush has to say the next call says too.
        let _ = self.end.flush();
        self.end.link.send_wakers[self.end.side].register(cx.waker());
        let device = &mut self.end.locked()[self.end.side];
        device.arms += 1;
        match device.slots_taken < self.end.link.config.limits.send_slots || device.ended.is_some() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ToyError>> {
        let _ = self.end.flush();
        self.end.link.send_wakers[self.end.side].register(cx.waker());
        let (ended, clean) = {
            let device = &self.end.locked()[self.end.side];
            (device.ended.clone(), device.wire.is_empty() && !device.lost)
        };
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

impl End {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.link, &other.link) && self.side == other.side
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
        self.end.locked()[self.end.side].posted
    }

    fn try_recv(&mut self) -> Result<ToyRecvBuf, TryError<ToyError>> {
        self.end.repost();
        let device = &mut self.end.locked()[self.end.side];
        match device.arrived.pop_front() {
            Some(bytes) => Ok(ToyRecvBuf { bytes, slot: self.end.clone() }),
            None => Err(device.alive().err().map_or(TryError::WouldBlock, TryError::Failed)),
        }
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.end.link.recv_wakers[self.end.side].register(cx.waker());
        self.end.repost();
        let device = &mut self.end.locked()[self.end.side];
        device.arms += 1;
        match device.arrived.is_empty() && device.ended.is_none() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}

/// A buffer that was reserved.
#[derive(Debug)]
pub struct ToySendBuf {
    bytes: Vec<u8>,
    /// Whose slot it holds; none once it was sent.
    slot: Option<End>,
}

impl Deref for ToySendBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for ToySendBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl SendBuf for ToySendBuf {
    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }
}

impl Drop for ToySendBuf {
    fn drop(&mut self) {
        if let Some(end) = self.slot.take() {
            end.locked()[end.side].slots_taken -= 1;
            end.link.send_wakers[end.side].wake();
        }
    }
}

/// A message that was received.
#[derive(Debug)]
pub struct ToyRecvBuf {
    bytes: Box<[u8]>,
    slot: End,
}

impl Deref for ToyRecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for ToyRecvBuf {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for ToyRecvBuf {
    fn drop(&mut self) {
        self.slot.locked()[self.slot.side].returned += 1;
        self.slot.link.recv_wakers[self.slot.side].wake();
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
