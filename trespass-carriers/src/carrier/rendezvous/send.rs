//! Sending: memory is lent, and comes back.

use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use thiserror::Error;
use trespass_core::{
    Access, InOrder, Lossless, MemoryFabric, Region, SendSide, SharedRegion, Track, TryError, Unsent, Window,
};

use super::{Lent, RendezvousCarrier};
use crate::error::CarrierError;
use crate::segment::Cut;
use crate::side::Side;
use crate::wire::{HEADER, Kind, LEND_LEN};

/// Why memory was not sent by a `try_` call. There are these two, as of [`TryError`]: a third would be matched by nobody, and its
/// memory lost.
#[derive(Error)]
pub enum TryRegionError<R, E> {
    /// Not now: here it is, as it was. Wait with [`poll_lend_ready`](RendezvousCarrier::poll_lend_ready), or try again later.
    #[error("would block")]
    WouldBlock(R),
    /// Not any more, or not like this. The memory comes back by [`try_returned`](RendezvousCarrier::try_returned).
    #[error(transparent)]
    Failed(E),
}

impl<R, E: fmt::Debug> fmt::Debug for TryRegionError<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock(_) => f.write_str("WouldBlock"),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

/// A message in registered memory, until it is sent.
pub(super) struct Parcel<R> {
    /// `None` once it was sent.
    region: Option<R>,
    range: Range<usize>,
    /// Where it goes in segments.
    cut: Cut,
    lend: bool,
}

impl<R> Parcel<R> {
    /// Takes out what was not sent, and tells whether a part of it was.
    pub(super) fn unpack(&mut self) -> (Option<R>, bool) {
        let begun = self.region.is_some() && self.cut.begun();
        (self.region.take(), begun)
    }
}

/// What the waits of a carrier and of its sender have in common.
pub(super) trait Outlet<R> {
    type Error: Clone;

    fn poll_parcel(&mut self, cx: &mut Context<'_>, parcel: &mut Parcel<R>) -> Poll<Result<(), Self::Error>>;

    /// Takes the memory of one that is not sent, and withdraws what of it was.
    fn keep(&mut self, parcel: &mut Parcel<R>);
}

/// A message in registered memory on its way.
pub(super) struct SendingRegion<'a, R, O: Outlet<R>> {
    pub(super) outlet: &'a mut O,
    pub(super) parcel: Parcel<R>,
    pub(super) outcome: Option<Result<(), O::Error>>,
}

// Nothing in it is pinned.
impl<R, O: Outlet<R>> Unpin for SendingRegion<'_, R, O> {}

impl<R, O: Outlet<R>> Future for SendingRegion<'_, R, O> {
    type Output = Result<(), O::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { outlet, parcel, outcome } = self.get_mut();
        if let Some(outcome) = outcome {
            return Poll::Ready(outcome.clone());
        }
        let sent = ready!(outlet.poll_parcel(cx, parcel));
        outlet.keep(parcel);
        Poll::Ready(outcome.insert(sent).clone())
    }
}

impl<R, O: Outlet<R>> Drop for SendingRegion<'_, R, O> {
    fn drop(&mut self) {
        self.outlet.keep(&mut self.parcel);
    }
}

impl<F> Outlet<F::Region> for RendezvousCarrier<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    type Error = CarrierError<F::Error>;

    fn poll_parcel(&mut self, cx: &mut Context<'_>, parcel: &mut Parcel<F::Region>) -> Poll<Result<(), Self::Error>> {
        loop {
            match self.try_parcel(parcel) {
                Ok(()) => return Poll::Ready(self.messages.ring()),
                Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                Err(TryError::WouldBlock) if parcel.lend => ready!(self.poll_lend_ready(cx)),
                Err(TryError::WouldBlock) => ready!(self.messages.poll_way(cx)),
            }
        }
    }

    fn keep(&mut self, parcel: &mut Parcel<F::Region>) {
        let (region, begun) = parcel.unpack();
        self.back.extend(region);
        if begun {
            self.messages.withdraw();
        }
    }
}

impl<F> RendezvousCarrier<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    /// Sends the bytes of `region` in `range` as one message, without a copy where they are at least
    /// [`lend_from`](super::RendezvousConfig::lend_from) and the peer knows of rendezvous. Ready when the peer is told of it, which
    /// has then to read it. The memory comes back by [`returned`](Self::returned), whatever comes of it: that of a message that
    /// was copied, or not sent, at once.
    ///
    /// Dropping the future before that withdraws the message, and its memory comes back too. Nothing is sent before the first
    /// poll. While it waits it takes in what the peer sends.
    ///
    /// # Errors
    /// Kind `Oversize` above `max_message`, or where the range does not lie inside; where the device cannot lend it, its own
    /// kind: nothing was sent, the carrier lives on. Else as [`send`](Self::send).
    pub fn send_region(
        &mut self,
        region: F::Region,
        range: Range<usize>,
    ) -> impl Future<Output = Result<(), CarrierError<F::Error>>> + use<'_, F> {
        let parcel = self.parcel(region, range);
        SendingRegion { outlet: self, parcel, outcome: None }
    }

    /// Queues the bytes of `region` in `range` as one message, as [`send_region`](Self::send_region) does, but that it is lent where
    /// it is longer than a frame: a thread that polls needs no segments. Nothing goes out before a [`flush`](Self::flush).
    ///
    /// # Errors
    /// [`WouldBlock`](TryRegionError::WouldBlock), with the memory, while 64 are lent, and without credits or send slots: what was
    /// queued was flushed, and what had arrived taken in. Else as `send_region`; kind `Oversize` above
    /// [`eager_limit`](Self::eager_limit) too, where the peer does not know of rendezvous.
    pub fn try_send_region(
        &mut self,
        region: F::Region,
        range: Range<usize>,
    ) -> Result<(), TryRegionError<F::Region, CarrierError<F::Error>>> {
        let mut parcel = self.parcel(region, range);
        let (len, max) = (parcel.range.len(), self.eager_limit());
        parcel.lend |= self.lends() && len > max;
        let sent = match parcel.lend || len <= max {
            true => self.try_parcel(&mut parcel),
            false => Err(TryError::Failed(CarrierError::Oversize { len, max })),
        };
        let (region, _) = parcel.unpack();
        match (sent, region) {
            (Err(TryError::WouldBlock), Some(region)) => Err(TryRegionError::WouldBlock(region)),
            (Err(TryError::Failed(error)), region) => {
                self.back.extend(region);
                Err(TryRegionError::Failed(error))
            }
            // What would block has its memory.
            (Ok(()) | Err(TryError::WouldBlock), _) => Ok(()),
        }
    }

    pub(super) fn parcel(&self, region: F::Region, range: Range<usize>) -> Parcel<F::Region> {
        let lend = range.len() >= self.lend_from && self.lends();
        Parcel { region: Some(region), cut: self.messages.cut(range.len()), range, lend }
    }

    /// Sends as much of it as can be sent at once. When all is sent its memory is lent, or back.
    fn try_parcel(&mut self, parcel: &mut Parcel<F::Region>) -> Result<(), TryError<CarrierError<F::Error>>> {
        let Some(region) = &parcel.region else { return Ok(()) };
        let max = self.messages.max_message();
        let Some(bytes) = region.get(parcel.range.clone()).filter(|bytes| bytes.len() <= max) else {
            let max = max.min(region.len());
            return Err(TryError::Failed(CarrierError::Oversize { len: parcel.range.len(), max }));
        };
        if parcel.lend {
            return self.try_lend(parcel);
        }
        self.messages.try_message(&mut parcel.cut, bytes)?;
        self.back.extend(parcel.region.take());
        Ok(())
    }

    fn try_lend(&mut self, parcel: &mut Parcel<F::Region>) -> Result<(), TryError<CarrierError<F::Error>>> {
        if !self.messages.lends.may_lend() {
            self.look_for_returned();
        }
        self.messages.clear_way()?;
        if !self.messages.lends.may_lend() {
            self.messages.ring().map_err(TryError::Failed)?;
            return Err(TryError::WouldBlock);
        }
        let frame = self.messages.reserve(LEND_LEN)?;
        self.lend(frame, parcel).map_err(TryError::Failed)
    }

    /// Memory that was sent, the oldest first, once the peer has read it; or, once the track has ended, all that was not.
    /// `None` where nothing is out. While it waits it takes in what the peer sends. Dropping the future loses nothing.
    pub fn returned(&mut self) -> impl Future<Output = Option<F::Region>> + use<'_, F> {
        poll_fn(|cx| self.poll_returned(cx))
    }

    /// [`returned`](Self::returned), in the form of a poll. It shares its waker with sends: the latest wins.
    pub fn poll_returned(&mut self, cx: &mut Context<'_>) -> Poll<Option<F::Region>> {
        loop {
            self.collect();
            if let Some(region) = self.back.pop_front() {
                return Poll::Ready(Some(region));
            }
            if self.lent.is_empty() {
                return Poll::Ready(None);
            }
            self.messages.fan_out.writer().register(cx.waker());
            ready!(self.poll_news());
        }
    }

    /// The next memory that is back, for a thread that polls: `None` where nothing is out, and while nothing more was read. Takes
    /// in what has arrived.
    pub fn try_returned(&mut self) -> Option<F::Region> {
        self.collect();
        if self.back.is_empty() && !self.lent.is_empty() {
            self.look_for_returned();
        }
        self.back.pop_front()
    }

    fn look_for_returned(&mut self) {
        self.messages.take_in();
        self.messages.settle();
        self.collect();
    }

    /// Takes in what has arrived; where that brings no memory back, waits for more.
    fn poll_news(&mut self) -> Poll<()> {
        self.messages.take_in();
        match self.messages.lends.has_news() {
            true => Poll::Ready(()),
            false => self.messages.poll_arrival(Side::Writer),
        }
    }

    /// Ready when [`try_send_region`](Self::try_send_region) of a message that is lent would not say `WouldBlock`: fewer than 64 are
    /// lent, and there are credits and a send slot; or sending has ended. Otherwise as [`poll_send_ready`](Self::poll_send_ready).
    pub fn poll_lend_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.messages.poll_send_ready(cx));
            self.collect();
            if self.messages.lends.may_lend() || self.messages.out.over().is_some() {
                return Poll::Ready(());
            }
            ready!(self.poll_news());
        }
    }

    /// Tells the peer, by `frame`. What could not be lent stays in the parcel.
    fn lend(
        &mut self,
        mut frame: <F::Track as SendSide>::SendBuf,
        parcel: &mut Parcel<F::Region>,
    ) -> Result<(), CarrierError<F::Error>> {
        let Some(region) = parcel.region.take() else { return Ok(()) };
        let (memory, len) = (region.share(), parcel.range.len());
        let window = match memory.export(parcel.range.clone(), Access::ReadOnly) {
            Ok(window) => window,
            Err(error) => {
                parcel.region = memory.reclaim().ok();
                return Err(CarrierError::Track(error));
            }
        };
        if let Some(body) = frame.get_mut(HEADER..) {
            body.copy_from_slice(&window.remote().encode());
        }
        let lent = Lent { window, memory };
        if let Err(Unsent { error, .. }) = self.messages.queue(frame, Kind::Lend) {
            parcel.region = lent.take_back();
            return Err(error);
        }
        self.messages.lends.lent();
        self.lent.push_back(lent);
        self.messages.stats.messages_sent += 1;
        self.messages.stats.bytes_sent += len as u64;
        Ok(())
    }
}
