//! Both directions of a stream, joined to a track.

mod receive;
mod send;

use std::task::{Context, Poll, ready};

use trespass_core::{ErrorKind, FanOut, InOrder, Lossless, Track, TransportError};

use crate::closing::Closing;
use crate::credit::Credits;
use crate::error::CarrierError;
use crate::opening::Opened;
use crate::pulse::Pulse;
use crate::side::Side;
use crate::stream::config::StreamConfig;
use crate::stream::inbound::Inbound;
use crate::stream::outbound::Outbound;
use crate::stream::stats::StreamStats;

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
    /// How many bytes of header it has: none where frames are bare.
    head: usize,
    pub(super) peer_incarnation: u64,
    pub(super) pulse: Pulse<T::Timer>,
    pub(super) stats: StreamStats,
    pub(super) config: StreamConfig,
}

impl<T: Track<Delivery: Lossless + InOrder>> Link<T> {
    pub(super) fn new(opened: Opened<T>, config: StreamConfig) -> Self {
        let Opened { track, fan_out, agreement, credits } = opened;
        let pulse = Pulse::start(config.vigilance(), &agreement, &track.timer(), fan_out.waker());
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
            room: agreement.send_frame - agreement.head,
            head: agreement.head,
            peer_incarnation: agreement.peer_incarnation,
            pulse,
            stats: StreamStats::default(),
            config,
        };
        link.fill_stash();
        link
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Link<T> {
    /// Waits for the track to have something, with everything said that may keep the peer from sending it. Ready where a
    /// second look is worth it.
    pub(super) fn poll_arrival(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
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
    pub(super) fn track_ended(&mut self, error: T::Error) {
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
