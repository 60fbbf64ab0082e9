//! Both directions of a stream, joined to a track.

use std::task::{Context, Poll, ready};

use trespass_core::{
    ErrorKind, FanOut, InOrder, Lossless, SendBuf, Track, TransportError, TryError, Unsent, WakerSlot,
};

use crate::credit::{Credits, Rank};
use crate::error::{CarrierError, Violation};
use crate::opening::Opened;
use crate::stream::close::Closing;
use crate::stream::config::StreamConfig;
use crate::stream::inbound::Inbound;
use crate::stream::outbound::{Next, Outbound, Slices};
use crate::stream::stats::StreamStats;
use crate::wire::{HEADER, Kind, StreamFrame, stamp};

/// How many send slots are kept back for control.
const STASH: usize = 2;
/// About how many bytes one call writes, so that a lock around it is held for some microseconds.
const TURN: usize = 128 << 10;

pub(super) struct Link<T: Track<Delivery: Lossless + InOrder>> {
    /// `None` once it has ended, and all that it had is taken.
    pub(super) track: Option<T>,
    credits: Credits,
    pub(super) inbound: Inbound<T::RecvBuf>,
    pub(super) out: Outbound<T::SendBuf>,
    /// Send slots reserved ahead, so that a writer that has every other one cannot keep the credits from the peer.
    stash: Vec<T::SendBuf>,
    /// What writing ends with, if not with a Fin of this end.
    pub(super) send_error: Option<CarrierError<T::Error>>,
    /// What reading ends with, after all bytes, if not with the peer's Fin.
    pub(super) recv_error: Option<CarrierError<T::Error>>,
    pub(super) closing: Option<Closing<T>>,
    /// Send slots taken back while the end of writing waits for all of them.
    pub(super) drained: Vec<T::SendBuf>,
    /// All that was written has arrived, the Fin too.
    pub(super) has_drained: bool,
    /// Who waits for something to arrive: the reader for bytes, the writer for credits.
    arrivals: FanOut,
    /// Who waits for a send slot.
    pub(super) slots: FanOut,
    writer_waits: bool,
    /// How many bytes a frame takes.
    room: usize,
    pub(super) peer_incarnation: u64,
    pub(super) stats: StreamStats,
    pub(super) config: StreamConfig,
}

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Reader,
    Writer,
}

impl Side {
    fn of(self, fan_out: &FanOut) -> &WakerSlot {
        match self {
            Self::Reader => fan_out.reader(),
            Self::Writer => fan_out.writer(),
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Reader => Self::Writer,
            Self::Writer => Self::Reader,
        }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Link<T> {
    pub(super) fn new(opened: Opened<T>, config: StreamConfig) -> Self {
        let Opened { track, fan_out, agreement, credits } = opened;
        let mut link = Self {
            track: Some(track),
            credits,
            inbound: Inbound::new(),
            out: Outbound::new(),
            stash: Vec::with_capacity(STASH),
            send_error: None,
            recv_error: None,
            closing: None,
            drained: Vec::new(),
            has_drained: false,
            arrivals: fan_out,
            slots: FanOut::new(),
            writer_waits: false,
            room: agreement.send_frame - HEADER,
            peer_incarnation: agreement.peer_incarnation,
            stats: StreamStats::default(),
            config,
        };
        link.fill_stash();
        link
    }
}

/// Reading.
impl<T: Track<Delivery: Lossless + InOrder>> Link<T> {
    /// The next frame of bytes; `None` after the peer's last.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<T::RecvBuf>, TryError<CarrierError<T::Error>>> {
        loop {
            // A report that fails takes in what had arrived: then that is next.
            if let Some(frame) = self.inbound.next() {
                return Ok(Some(frame));
            }
            if self.inbound.finished() {
                // What else comes is for whoever writes.
                return Ok(None);
            }
            let Some(track) = &mut self.track else { return self.end() };
            match track.try_recv() {
                Ok(frame) => {
                    let bytes = self.admit(&frame)?;
                    if self.writer_waits {
                        self.hail_writer();
                    }
                    // Control is given back at once: the credits count on it.
                    let frame = bytes.then_some(frame);
                    if self.credits.may_be_due() {
                        self.report();
                    }
                    if frame.is_some() {
                        return Ok(frame);
                    }
                }
                Err(TryError::WouldBlock) => return Err(TryError::WouldBlock),
                Err(TryError::Failed(error)) => self.track_ended(error),
            }
        }
    }

    /// The same; a reader that finds nothing sends what was written and not flushed, and the peer's credits.
    pub(super) fn try_next(&mut self) -> Result<Option<T::RecvBuf>, TryError<CarrierError<T::Error>>> {
        let next = self.next();
        if let Err(TryError::WouldBlock) = next {
            self.out.push();
            self.settle(Side::Reader);
        }
        next
    }

    /// The same, or a wait for it.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<T::RecvBuf>, CarrierError<T::Error>>> {
        loop {
            match self.next() {
                Ok(frame) => return Poll::Ready(Ok(frame)),
                Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                Err(TryError::WouldBlock) => self.out.push(),
            }
            ready!(self.poll_arrival(Side::Reader, cx));
        }
    }

    /// What reading ends with.
    #[cold]
    fn end(&self) -> Result<Option<T::RecvBuf>, TryError<CarrierError<T::Error>>> {
        Err(TryError::Failed(self.recv_error.clone().unwrap_or(CarrierError::Closed)))
    }

    /// Checks a frame, and does what it says. Whether it has bytes.
    #[inline]
    fn admit(&mut self, bytes: &[u8]) -> Result<bool, TryError<CarrierError<T::Error>>> {
        let parsed = StreamFrame::parse(bytes).and_then(|(frame, credits)| {
            self.credits.on_received(credits)?;
            self.inbound.admit(&frame)?;
            Ok(frame)
        });
        match parsed {
            Ok(StreamFrame::Bytes { len }) => {
                self.stats.frames_received += 1;
                self.stats.bytes_received += len as u64;
                return Ok(true);
            }
            Ok(StreamFrame::Credit) => self.stats.credit_updates_received += 1,
            Ok(StreamFrame::Fin) => {}
            Ok(StreamFrame::Bye) => self.peer_left(),
            Ok(StreamFrame::Refuse(refusal)) => {
                return Err(TryError::Failed(self.fail(CarrierError::Refused(refusal))));
            }
            Err(violation) => return Err(self.violated(violation)),
        }
        Ok(false)
    }

    #[cold]
    fn peer_left(&mut self) {
        self.out.peer_left();
        self.send_error.get_or_insert(CarrierError::Closed);
        self.arrivals.writer().wake();
        self.slots.writer().wake();
    }

    #[cold]
    fn violated(&mut self, violation: Violation) -> TryError<CarrierError<T::Error>> {
        TryError::Failed(self.fail(CarrierError::Protocol(violation)))
    }

    /// The writer waits for what the reader may have taken in.
    #[cold]
    fn hail_writer(&mut self) {
        if self.credits.may_send(Rank::Data) {
            self.writer_waits = false;
            self.arrivals.writer().wake();
        }
    }

    /// Takes in what has arrived, for the sake of the credits that come with it. Bytes wait for whoever reads.
    pub(super) fn take_in(&mut self) {
        let mut any = false;
        while let Some(track) = &mut self.track {
            match track.try_recv() {
                Ok(frame) => match self.admit(&frame) {
                    Ok(true) => self.inbound.store(frame),
                    Ok(false) => {}
                    Err(_) => break,
                },
                Err(TryError::WouldBlock) => break,
                Err(TryError::Failed(error)) => self.track_ended(error),
            }
            any = true;
        }
        if any {
            self.arrivals.reader().wake();
        }
    }
}

/// Writing.
impl<T: Track<Delivery: Lossless + InOrder>> Link<T> {
    /// Takes as many bytes as there is room for: at least one, if there are any.
    pub(super) fn put(&mut self, bytes: &mut Slices<'_, '_>) -> Result<usize, TryError<CarrierError<T::Error>>> {
        let (mut put, queued) = (0, self.stats.frames_sent);
        let outcome = loop {
            if bytes.len() == 0 || put >= TURN {
                break Ok(());
            }
            match self.put_frame(bytes, put > 0) {
                Ok(copied) => put += copied,
                Err(error) => break Err(error),
            }
        };
        self.stats.bytes_sent += put as u64;
        if self.stats.frames_sent > queued {
            // Errors stick: whoever writes next is told.
            let _ = self.ring();
        }
        match outcome {
            Err(error) if put == 0 => Err(error),
            _ => Ok(put),
        }
    }

    /// Puts bytes into one frame, and sends that unless it is to wait for more.
    fn put_frame(
        &mut self,
        bytes: &mut Slices<'_, '_>,
        put_some: bool,
    ) -> Result<usize, TryError<CarrierError<T::Error>>> {
        if !self.may_put() {
            match put_some {
                true => return Err(TryError::WouldBlock),
                false => self.make_way()?,
            }
        }
        if self.out.is_empty() {
            let len = match self.config.coalesce {
                true => self.room,
                false => self.room.min(bytes.len()),
            };
            let frame = self.reserve(HEADER + len)?;
            self.out.open(frame);
        }
        let copied = self.out.fill(bytes);
        if !self.config.coalesce {
            self.out.push();
        }
        self.advance();
        Ok(copied)
    }

    #[inline]
    fn may_put(&self) -> bool {
        let over = self.out.is_over() || self.send_error.is_some();
        !over && (self.out.has_room() || (self.out.is_empty() && self.credits.may_send(Rank::Data)))
    }

    /// Why nothing can be written, if so.
    pub(super) fn over(&self) -> Option<CarrierError<T::Error>> {
        match (&self.send_error, self.out.is_over()) {
            (Some(error), _) => Some(error.clone()),
            (None, true) => Some(CarrierError::Closed),
            (None, false) => None,
        }
    }

    /// Clears the way for bytes, as far as that can be done at once.
    #[cold]
    fn make_way(&mut self) -> Result<(), TryError<CarrierError<T::Error>>> {
        self.fill_stash();
        self.advance();
        if !self.may_put() && self.over().is_none() {
            // The credits come with what arrives, and what was queued may be what the peer waits for.
            self.take_in();
            self.settle(Side::Writer);
        }
        match self.over() {
            Some(error) => Err(TryError::Failed(error)),
            None if self.may_put() => Ok(()),
            None => {
                self.ring().map_err(TryError::Failed)?;
                self.stats.stalls += 1;
                Err(TryError::WouldBlock)
            }
        }
    }

    /// Ready when there is room for bytes, or writing has ended.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.make_way() {
                Err(TryError::Failed(_)) => return Poll::Ready(()),
                Err(TryError::WouldBlock) => {
                    self.writer_waits = true;
                    ready!(self.poll_arrival(Side::Writer, cx));
                }
                Ok(()) if self.out.has_room() => return Poll::Ready(()),
                Ok(()) => return self.poll_slot(Side::Writer, cx),
            }
        }
    }

    /// Sends what was put in and waits for more; ready when it is on its way.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        if self.out.is_empty() && matches!(self.send_error, None | Some(CarrierError::Closed)) {
            // Every write rang for itself, and a peer that left is told of by the next one.
            return Poll::Ready(Ok(()));
        }
        self.out.push();
        loop {
            self.advance();
            if let Some(error) = &self.send_error {
                return Poll::Ready(Err(error.clone()));
            }
            if self.out.next() != Some(Next::Bytes) {
                return Poll::Ready(self.ring());
            }
            self.writer_waits = true;
            ready!(self.poll_progress(Side::Writer, cx));
        }
    }

    /// Waits for whatever may let go out what is to.
    pub(super) fn poll_progress(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        self.take_in();
        match self.advance() {
            true => Poll::Ready(()),
            false => self.poll_arrival(side, cx),
        }
    }

    fn reserve(&mut self, len: usize) -> Result<T::SendBuf, TryError<CarrierError<T::Error>>> {
        let Some(track) = &mut self.track else { return Err(TryError::Failed(self.why_not())) };
        match track.try_reserve(len) {
            Ok(frame) => Ok(frame),
            Err(TryError::Failed(error)) => Err(TryError::Failed(self.sending_failed(error))),
            // Slots come back when what was queued has arrived: so it has to go out.
            Err(TryError::WouldBlock) => match self.ring() {
                Ok(()) => Err(TryError::WouldBlock),
                Err(error) => Err(TryError::Failed(error)),
            },
        }
    }

    /// Sends what may be sent of what is to go out, in order, and returns whether anything was.
    pub(super) fn advance(&mut self) -> bool {
        let mut queued = false;
        while let Some(next) = self.out.next().filter(|next| self.credits.may_send(next.rank())) {
            let sent = match next {
                Next::Bytes => self.out.take().is_some_and(|frame| self.queue(frame, Kind::Bytes)),
                Next::Fin => self.queue_control(Kind::Fin, Rank::Fin),
                Next::Bye => self.queue_control(Kind::Bye, Rank::Bye),
            };
            if !sent {
                break;
            }
            self.stats.frames_sent += u64::from(next == Next::Bytes);
            self.out.said(next);
            queued = true;
        }
        queued
    }

    #[inline]
    fn queue(&mut self, mut frame: T::SendBuf, kind: Kind) -> bool {
        let Some(track) = &mut self.track else { return false };
        let posted = track.posted();
        stamp(&mut frame, kind, posted);
        match track.send(frame) {
            Ok(()) => {
                self.credits.on_sent(posted);
                true
            }
            Err(Unsent { error, .. }) => {
                self.sending_failed(error);
                false
            }
        }
    }

    /// Queues a frame of control from the stash, if it may go now.
    fn queue_control(&mut self, kind: Kind, rank: Rank) -> bool {
        if !self.credits.may_send(rank) {
            return false;
        }
        self.fill_stash();
        let Some(mut frame) = self.stash.pop() else { return false };
        frame.truncate(HEADER);
        let queued = self.queue(frame, kind);
        self.fill_stash();
        queued
    }

    fn queue_credit(&mut self) -> bool {
        let queued = self.queue_control(Kind::Credit, Rank::Credit);
        self.stats.credit_updates_sent += u64::from(queued);
        queued
    }

    fn wants_slot(&self) -> bool {
        self.stash.len() < STASH && !self.out.is_dead()
    }

    /// Fills the stash up, as far as there are slots: before anything else may have them.
    pub(super) fn fill_stash(&mut self) {
        while self.wants_slot() {
            let Some(track) = &mut self.track else { return };
            match track.try_reserve(HEADER) {
                Ok(frame) => self.stash.push(frame),
                Err(TryError::WouldBlock) => return,
                Err(TryError::Failed(error)) => {
                    self.sending_failed(error);
                    return;
                }
            }
        }
    }

    /// How many slots are kept back.
    pub(super) fn stashed(&self) -> usize {
        self.stash.len()
    }

    /// Gives the peer its credits, if they are due in mid-conversation.
    #[cold]
    fn report(&mut self) {
        let due = self.track.as_ref().is_some_and(|track| self.credits.due(track.posted()));
        if due && (self.advance_for(Side::Reader) || self.queue_credit()) {
            let _ = self.ring();
        }
    }

    /// Sends what may be sent of what waits, and the peer's credits if they are due. For an end that is about to wait.
    fn settle(&mut self, side: Side) {
        let due = self.track.as_ref().is_some_and(|track| self.credits.due_before_wait(track.posted()));
        if due || self.out.next().is_some() {
            self.settle_now(due, side);
        }
    }

    #[cold]
    fn settle_now(&mut self, due: bool, side: Side) {
        let mut queued = self.advance_for(side);
        // Whatever went out has said the credits too.
        if due && !queued {
            queued = self.queue_credit();
        }
        if queued {
            // Errors stick: whoever writes next is told.
            let _ = self.ring();
        }
    }

    /// What the reader sends may be what the writer waits for.
    fn advance_for(&mut self, side: Side) -> bool {
        let queued = self.advance();
        if queued && side == Side::Reader {
            self.arrivals.writer().wake();
        }
        queued
    }

    /// Rings the doorbell.
    #[inline]
    pub(super) fn ring(&mut self) -> Result<(), CarrierError<T::Error>> {
        let Some(track) = &mut self.track else { return Err(self.why_not()) };
        match track.flush() {
            Ok(()) => Ok(()),
            Err(error) => Err(self.sending_failed(error)),
        }
    }

    /// Why nothing can be sent.
    #[cold]
    fn why_not(&self) -> CarrierError<T::Error> {
        self.over().unwrap_or(CarrierError::Closed)
    }
}

/// Waits and ends.
impl<T: Track<Delivery: Lossless + InOrder>> Link<T> {
    /// Waits for the track to have something, with everything said that may keep the peer from sending it. Ready where a
    /// second look is worth it.
    fn poll_arrival(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        side.of(&self.arrivals).register(cx.waker());
        let Some(track) = &mut self.track else { return Poll::Ready(()) };
        if track.poll_recv_ready(&mut Context::from_waker(self.arrivals.waker())).is_ready() {
            // Who is ready is not woken any more, and the other side may count on it.
            side.other().of(&self.arrivals).wake();
            return Poll::Ready(());
        }
        // The track has posted again what was given back: there may be more to report than before.
        self.settle(side);
        self.fill_stash();
        match self.track {
            Some(_) if !self.wants_slot() => Poll::Pending,
            Some(_) => self.poll_slot(side, cx),
            None => Poll::Ready(()),
        }
    }

    /// Waits for a send slot.
    pub(super) fn poll_slot(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        side.of(&self.slots).register(cx.waker());
        let Some(track) = &mut self.track else { return Poll::Ready(()) };
        ready!(track.poll_send_ready(&mut Context::from_waker(self.slots.waker())));
        side.other().of(&self.slots).wake();
        Poll::Ready(())
    }

    /// Ends both directions with `error`, and closes the track. The first cause of each stays. What had arrived before can
    /// still be read.
    #[cold]
    pub(super) fn fail(&mut self, error: CarrierError<T::Error>) -> CarrierError<T::Error> {
        self.track = None;
        self.end_sending(error.clone());
        let first = self.recv_error.get_or_insert(error).clone();
        self.wake_all();
        first
    }

    /// The track has given all that it had.
    #[cold]
    fn track_ended(&mut self, error: T::Error) {
        let error = self.ended(error);
        let first = self.end_sending(error);
        self.recv_error.get_or_insert(first);
        self.track = None;
        self.wake_all();
    }

    /// Ends sending, and leaves receiving to take what had arrived.
    #[cold]
    pub(super) fn sending_failed(&mut self, error: T::Error) -> CarrierError<T::Error> {
        if error.kind() == ErrorKind::Closed {
            // The peer's goodbye may be among what has arrived: then it is no death.
            self.take_in();
        }
        let error = self.ended(error);
        let first = self.end_sending(error);
        self.wake_all();
        first
    }

    pub(super) fn end_sending(&mut self, error: CarrierError<T::Error>) -> CarrierError<T::Error> {
        self.out.end();
        self.stash.clear();
        self.drained.clear();
        self.send_error.get_or_insert(error).clone()
    }

    pub(super) fn wake_all(&self) {
        self.arrivals.waker().wake_by_ref();
        self.slots.waker().wake_by_ref();
    }

    /// What the end of the track means: the peer is gone, or had said that it would go.
    pub(super) fn ended(&self, error: T::Error) -> CarrierError<T::Error> {
        match error.kind() {
            ErrorKind::Closed | ErrorKind::Disconnected if self.inbound.peer_left() => CarrierError::Closed,
            ErrorKind::Closed => CarrierError::Disconnected,
            _ => CarrierError::Track(error),
        }
    }
}
