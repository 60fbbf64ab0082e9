//! Sending: memory is lent, and comes back.

use std::future::{Future, poll_fn};
use std::ops::Range;
use std::task::{Context, Poll, ready};

use trespass_core::{
    Access, InOrder, Lossless, MemoryFabric, Region, SendSide, SharedRegion, Track, TryError, Unsent, Window,
};

use super::{Lent, RendezvousCarrier};
use crate::error::CarrierError;
use crate::wire::{HEADER, Kind, LEND_LEN};

impl<F> RendezvousCarrier<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    /// Sends the bytes of `region` in `range` as one message, without a copy where they are at least
    /// [`lend_from`](super::RendezvousConfig::lend_from) and the peer knows of rendezvous. Ready when the peer is told of it, which
    /// has then to read it. The memory comes back by [`returned`](Self::returned), whatever comes of it: that of a message that
    /// was copied, or not sent, at once.
    ///
    /// Dropping the future before that withdraws the message, and frees the memory. While it waits it takes in what the
    /// peer sends.
    ///
    /// # Errors
    /// Kind `Oversize` above `max_message`, or where the range does not lie inside; where the device cannot lend it, its own
    /// kind: nothing was sent, the carrier lives on. Else as [`send`](Self::send).
    pub async fn send_region(&mut self, region: F::Region, range: Range<usize>) -> Result<(), CarrierError<F::Error>> {
        let max = self.max_message();
        let Some(bytes) = region.get(range.clone()).filter(|bytes| bytes.len() <= max) else {
            let error = CarrierError::Oversize { len: range.len(), max: max.min(region.len()) };
            return self.unsent(region, error);
        };
        if bytes.len() < self.lend_from || !self.lends() {
            let sent = self.messages.send(bytes).await;
            self.back.push_back(region);
            return sent;
        }
        loop {
            poll_fn(|cx| self.poll_lend_ready(cx)).await;
            if let Some(error) = self.messages.out.over() {
                return self.unsent(region, error);
            }
            match self.messages.reserve(LEND_LEN) {
                Ok(frame) => return self.lend(frame, region, range),
                Err(TryError::WouldBlock) => {}
                Err(TryError::Failed(error)) => return self.unsent(region, error),
            }
        }
    }

    fn unsent(&mut self, region: F::Region, error: CarrierError<F::Error>) -> Result<(), CarrierError<F::Error>> {
        self.back.push_back(region);
        Err(error)
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

    /// Takes in what has arrived; where that brings no memory back, waits for more.
    fn poll_news(&mut self) -> Poll<()> {
        self.messages.take_in();
        match self.messages.lends.has_news() {
            true => Poll::Ready(()),
            false => self.messages.poll_arrival(),
        }
    }

    /// Ready when something may be lent, or sending has ended.
    fn poll_lend_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.messages.poll_send_ready(cx));
            self.collect();
            if self.messages.lends.may_lend() || self.messages.out.over().is_some() {
                return Poll::Ready(());
            }
            ready!(self.poll_news());
        }
    }

    /// Tells the peer, by `frame`.
    fn lend(
        &mut self,
        mut frame: <F::Track as SendSide>::SendBuf,
        region: F::Region,
        range: Range<usize>,
    ) -> Result<(), CarrierError<F::Error>> {
        let len = range.len();
        let memory = region.share();
        let window = match memory.export(range, Access::ReadOnly) {
            Ok(window) => window,
            Err(error) => {
                self.back.extend(memory.reclaim());
                return Err(CarrierError::Track(error));
            }
        };
        if let Some(body) = frame.get_mut(HEADER..) {
            body.copy_from_slice(&window.remote().encode());
        }
        let lent = Lent { window, memory };
        if let Err(Unsent { error, .. }) = self.messages.queue(frame, Kind::Lend) {
            self.back.extend(lent.take_back());
            return Err(error);
        }
        self.messages.lends.lent();
        self.lent.push_back(lent);
        self.messages.stats.messages_sent += 1;
        self.messages.stats.bytes_sent += len as u64;
        self.messages.ring()
    }
}
