//! Receiving: what is lent is read, one ahead of the application.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll, ready};

use trespass_core::{
    Completed, InOrder, Lossless, MemoryFabric, RemoteMemory, RemoteSlice, RemoteWindow, SendSide, Track, TryError,
    Unsent,
};

use super::{RendezvousCarrier, RendezvousMessage};
use crate::error::{CarrierError, Violation};
use crate::side::Side;

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
            if self.fetching.is_some() {
                self.messages.fan_out.reader().register(cx.waker());
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
            if self.fetching.is_some() {
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

    /// Begins to read what the peer lends.
    fn fetch(&mut self, window: RemoteWindow) -> Result<(), CarrierError<F::Error>> {
        // No longer than a message may be: so it was admitted.
        let len = usize::try_from(window.len()).unwrap_or(usize::MAX);
        let Ok(from) = window.slice(0, len) else {
            return Err(self.lost(CarrierError::Protocol(Violation::EmptySegment)));
        };
        match self.fabric.alloc(len) {
            Ok(region) => self.fetching = Some(Fetching { from, into: Some(region) }),
            Err(error) => return Err(self.lost(CarrierError::Track(error))),
        }
        // On its way at once, if it can be.
        match self.begin() {
            Err(TryError::Failed(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Queues the read, unless that was done.
    fn begin(&mut self) -> Result<(), TryError<CarrierError<F::Error>>> {
        let Some(track) = &mut self.messages.track else {
            let error = self.messages.why_not();
            return Err(TryError::Failed(self.lost(error)));
        };
        let Some(Fetching { from, into }) = &mut self.fetching else { return Ok(()) };
        if into.is_none() {
            return Ok(());
        }
        let permit = match track.try_fetch_permit() {
            Ok(permit) => permit,
            Err(TryError::WouldBlock) => return Err(TryError::WouldBlock),
            Err(TryError::Failed(error)) => return Err(self.not_read(error)),
        };
        let Some(region) = into.take() else { return Ok(()) };
        let queued = match track.read(permit, region, 0, *from, 0) {
            Ok(()) => track.flush(),
            Err(Unsent { error, .. }) => Err(error),
        };
        queued.map_err(|error| self.not_read(error))
    }

    /// What was read, if it is there. Arms nothing.
    fn try_fetch(&mut self) -> Result<RendezvousMessage<F>, TryError<CarrierError<F::Error>>> {
        self.begin()?;
        let Some(track) = &mut self.messages.track else { return Err(TryError::Failed(CarrierError::Closed)) };
        let len = self.fetching.as_ref().map_or(0, |fetching| fetching.from.len());
        match track.try_complete() {
            Ok(Completed::Memory { region, result: Ok(()), .. }) => Ok(RendezvousMessage::read(region, len)),
            Ok(Completed::Memory { result: Err(error), .. }) => Err(self.not_read(error)),
            // Of atomic operations, of which this queues none.
            Ok(_) => Err(TryError::WouldBlock),
            Err(TryError::WouldBlock) => Err(TryError::WouldBlock),
            Err(TryError::Failed(error)) => Err(self.not_read(error)),
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
            let queued = self.fetching.as_ref().is_some_and(|fetching| fetching.into.is_none());
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
        if self.fetching.as_ref().is_some_and(|fetching| fetching.into.is_some()) {
            // The device has not heard of it.
            self.fetching = None;
        }
        if self.fetching.is_some() {
            // What went wrong with it is the end of the track, which the close tells.
            let _ = ready!(self.poll_fetch());
            self.fetching = None;
        }
        Poll::Ready(())
    }

    /// The message is here: the peer may have its memory back, and the next one is begun if it is lent too.
    fn fetched(&mut self, message: RendezvousMessage<F>) -> RendezvousMessage<F> {
        self.fetching = None;
        self.messages.say_fetched();
        // What fails here fails again when the application asks for the next.
        if let Ok(Some(next)) = self.messages.receive() {
            match next.lent() {
                Some(window) => drop(self.fetch(window)),
                None => self.messages.unreceive(next),
            }
        }
        message
    }

    #[cold]
    fn not_read(&mut self, error: F::Error) -> TryError<CarrierError<F::Error>> {
        let error = self.messages.ended(error);
        TryError::Failed(self.lost(error))
    }

    /// A message cannot be had any more: nor can those that came after it, or there would be a gap.
    #[cold]
    fn lost(&mut self, error: CarrierError<F::Error>) -> CarrierError<F::Error> {
        self.fetching = None;
        self.messages.inbox.discard();
        self.messages.fail(error)
    }
}
