//! Receiving: what is lent is read, two at a time, so that the device has the next to read while one is finished.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll, ready};

use trespass_core::{
    Completed, InOrder, Lossless, MemoryFabric, RemoteMemory, RemoteSlice, RemoteWindow, SendSide, Track, TryError,
    Unsent,
};

use super::{RendezvousCarrier, RendezvousMessage};
use crate::error::{CarrierError, Violation};
use crate::side::Side;

/// How many messages are read at a time over a track with so many send slots, of which each read has one until it is received.
/// One alone leaves the device idle between the end of a read and the next request; but whoever sends needs slots, too.
pub(super) fn reads_at_a_time(send_slots: usize) -> usize {
    if send_slots < 8 { 1 } else { 2 }
}

/// A message that is being read.
pub(super) struct Fetching<R> {
    from: RemoteSlice,
    /// Where to, until the device has it.
    into: Option<R>,
}

type Received<F> = Result<Option<RendezvousMessage<F>>, CarrierError<<F as trespass_core::Fabric>::Error>>;

impl<F> RendezvousCarrier<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    /// Waits for the next message; `None` after the peer's last. Dropping the future at any point loses nothing.
    ///
    /// # Errors
    /// As [`MessageCarrier::try_recv`](crate::MessageCarrier::try_recv), never `WouldBlock`. Where a peer's memory could not be
    /// read, what the track says; where there is no registered memory to read it into, kind `ResourceLimit`, and the track is
    /// closed.
    pub fn recv(&mut self) -> impl Future<Output = Received<F>> + use<'_, F> {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// [`recv`](Self::recv), in the form of a poll. One waker: the latest wins.
    ///
    /// # Errors
    /// As `recv`.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Received<F>> {
        loop {
            if !self.fetching.is_empty() {
                self.messages.fan_out.reader().register(cx.waker());
                self.look_ahead();
                let region = ready!(self.poll_fetch());
                return Poll::Ready(region.map(|message| Some(self.fetched(message))));
            }
            match ready!(self.messages.poll_recv(cx))? {
                None => return Poll::Ready(Ok(None)),
                Some(message) => match message.lent() {
                    None => return Poll::Ready(Ok(Some(RendezvousMessage::sent(message)))),
                    Some(window) => self.fetch(window)?,
                },
            }
        }
    }

    /// The next message, for a thread that polls; `None` after the peer's last.
    ///
    /// # Errors
    /// `WouldBlock` while there is none, or while it is being read; else as [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<RendezvousMessage<F>>, TryError<CarrierError<F::Error>>> {
        loop {
            if !self.fetching.is_empty() {
                self.look_ahead();
                let message = self.try_fetch().inspect_err(|_| self.messages.settle())?;
                return Ok(Some(self.fetched(message)));
            }
            let Some(message) = self.messages.try_recv()? else { return Ok(None) };
            match message.lent() {
                None => return Ok(Some(RendezvousMessage::sent(message))),
                Some(window) => self.fetch(window).map_err(TryError::Failed)?,
            }
        }
    }

    /// Begins to read what the peer lends, whose turn it is.
    fn fetch(&mut self, window: RemoteWindow) -> Result<(), CarrierError<F::Error>> {
        let Some(from) = whole(window) else {
            return Err(self.lost(CarrierError::Protocol(Violation::EmptySegment)));
        };
        match self.fabric.alloc(from.len()) {
            Ok(region) => self.plan(from, region),
            Err(error) => return Err(self.lost(CarrierError::Track(error))),
        }
        // On its way at once, if it can be.
        match self.begin() {
            Err(TryError::Failed(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes what is lent next, too, unless enough is being read. What fails here fails again in its turn.
    fn look_ahead(&mut self) {
        while self.fetching.len() < self.reads {
            let Ok(Some(next)) = self.messages.receive() else { return };
            let ahead = next.lent().and_then(whole).and_then(|from| Some((from, self.fabric.alloc(from.len()).ok()?)));
            match ahead {
                Some((from, region)) => self.plan(from, region),
                None => return self.messages.unreceive(next),
            }
        }
    }

    /// Has `from` read, which counts as received when the application has it.
    fn plan(&mut self, from: RemoteSlice, region: F::Region) {
        self.messages.stats.messages_received -= 1;
        self.messages.stats.bytes_received -= from.len() as u64;
        self.fetching.push_back(Fetching { from, into: Some(region) });
    }

    /// Queues the reads that have not been, as far as there are permits.
    fn begin(&mut self) -> Result<(), TryError<CarrierError<F::Error>>> {
        if self.fetching.iter().all(|fetching| fetching.into.is_none()) {
            return Ok(());
        }
        let Some(track) = &mut self.messages.track else { return Err(TryError::Failed(self.gone())) };
        let mut outcome = Ok(());
        let mut queued = false;
        for Fetching { from, into } in self.fetching.iter_mut().filter(|fetching| fetching.into.is_some()) {
            let permit = match track.try_fetch_permit() {
                Ok(permit) => permit,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            let Some(region) = into.take() else { break };
            if let Err(Unsent { error, .. }) = track.read(permit, region, 0, *from, 0) {
                outcome = Err(TryError::Failed(error));
                break;
            }
            queued = true;
        }
        if let (true, Err(error)) = (queued, track.flush()) {
            outcome = Err(TryError::Failed(error));
        }
        outcome.map_err(|error| match error {
            TryError::WouldBlock => TryError::WouldBlock,
            TryError::Failed(error) => TryError::Failed(self.not_read(error)),
        })
    }

    /// The oldest of what is being read, if it is there. Arms nothing.
    fn try_fetch(&mut self) -> Result<RendezvousMessage<F>, TryError<CarrierError<F::Error>>> {
        match self.begin() {
            // The oldest may be under way, and the next is without a permit.
            Ok(()) | Err(TryError::WouldBlock) => {}
            Err(error) => return Err(error),
        }
        let Some(track) = &mut self.messages.track else { return Err(TryError::Failed(self.gone())) };
        let len = self.fetching.front().map_or(0, |fetching| fetching.from.len());
        match track.try_complete() {
            Ok(Completed::Memory { region, result: Ok(()), .. }) => Ok(RendezvousMessage::read(region, len)),
            Ok(Completed::Memory { result: Err(error), .. }) => Err(TryError::Failed(self.not_read(error))),
            // Of atomic operations, of which this queues none.
            Ok(_) => Err(TryError::WouldBlock),
            Err(TryError::WouldBlock) => Err(TryError::WouldBlock),
            Err(TryError::Failed(error)) => Err(TryError::Failed(self.not_read(error))),
        }
    }

    fn poll_fetch(&mut self) -> Poll<Result<RendezvousMessage<F>, CarrierError<F::Error>>> {
        loop {
            match self.try_fetch() {
                Ok(message) => return Poll::Ready(Ok(message)),
                Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                Err(TryError::WouldBlock) => {}
            }
            // The peer may wait for credits meanwhile.
            self.messages.settle();
            let mut cx = Context::from_waker(self.messages.fan_out.waker());
            let queued = self.fetching.front().is_some_and(|fetching| fetching.into.is_none());
            let Some(track) = &mut self.messages.track else { continue };
            match queued {
                true => ready!(track.poll_complete_ready(&mut cx)),
                false => {
                    ready!(track.poll_fetch_permit_ready(&mut cx));
                    self.messages.share(Side::Reader);
                }
            }
        }
    }

    /// Ready when nothing is being read any more: for an end, when nobody wants it.
    pub(super) fn poll_unread(&mut self) -> Poll<()> {
        // Of the others the device has not heard.
        self.fetching.retain(|fetching| fetching.into.is_none());
        while !self.fetching.is_empty() {
            // What went wrong with it is the end of the track, which the close tells.
            let _ = ready!(self.poll_fetch());
            self.fetching.pop_front();
        }
        Poll::Ready(())
    }

    /// The message is here: the peer may have its memory back, and the next ones are begun if they are lent too.
    fn fetched(&mut self, message: RendezvousMessage<F>) -> RendezvousMessage<F> {
        self.fetching.pop_front();
        self.messages.stats.messages_received += 1;
        self.messages.stats.bytes_received += message.len() as u64;
        self.messages.say_fetched();
        self.look_ahead();
        // What fails here fails again when the application asks for the next.
        let _ = self.begin();
        message
    }

    /// The track has ended, and what it was reading will not come.
    #[cold]
    fn gone(&mut self) -> CarrierError<F::Error> {
        let error = self.messages.why_not();
        self.lost(error)
    }

    #[cold]
    fn not_read(&mut self, error: F::Error) -> CarrierError<F::Error> {
        let error = self.messages.ended(error);
        self.lost(error)
    }

    /// A message cannot be had any more: nor can those that came after it, or there would be a gap.
    #[cold]
    fn lost(&mut self, error: CarrierError<F::Error>) -> CarrierError<F::Error> {
        self.fetching.clear();
        self.messages.inbox.discard();
        self.messages.fail(error)
    }
}

/// All of what is lent. No longer than a message may be: so it was admitted.
fn whole(window: RemoteWindow) -> Option<RemoteSlice> {
    window.slice(0, usize::try_from(window.len()).ok()?).ok()
}
