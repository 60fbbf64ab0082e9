//! Random sequences of operations, compared with a model of what a track owes.
//!
//! Set `TRESPASS_SEED` to the number that a failure names to run the same sequences again.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::thread;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use trespass_core::{Endpoint, ErrorKind, Fabric, RecvSide, SendBuf, SendSide, Track, TransportError, TryError};

use crate::harness::{Harness, ReliableHarness};
use crate::traffic::{bytes, close, exchange, join, kept_back, listen, now, receive_end, settle, stamp};
use crate::wait::{RecvWait, SendWait, Waits, poll_once};

/// Whatever is done with a track, in whatever order: what was sent arrives, in order, once and whole; what was not, does
/// not; slots and receives are neither lost nor made.
///
/// # Panics
/// When that does not hold, with the shortest sequence that was found in a short time, and the seed.
pub fn random_operations_match_the_model<H: ReliableHarness>(h: &H) {
    let fabrics = h.fabrics();
    let listener = std::cell::RefCell::new(listen(h, &fabrics.server));
    check_random(h, 48, vec(operation(), 1..80), |operations| {
        let (client, server) = join(h, &fabrics.client, &mut *listener.borrow_mut());
        let mut model = Model::new(h, client, server);
        operations.into_iter().for_each(|operation| model.step(operation));
        model.finish();
    });
}

/// Checks `test` for random values, as many as `cases` scaled by the harness.
///
/// # Panics
/// When it panics, with the smallest value for which it does that was found in a short time, and the seed.
pub(crate) fn check_random<H: Harness, S: Strategy>(h: &H, cases: usize, values: S, test: impl Fn(S::Value)) {
    let seed = seed();
    let config = Config {
        cases: u32::try_from(h.many(cases)).expect("a small number"),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 100_000,
        // Each step of it may have to wait that long for something that does not come.
        max_shrink_time: u32::try_from(h.patience().as_millis() / 2).unwrap_or(u32::MAX),
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&values, |value| {
        test(value);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Abort(why)) => panic!("no values could be made: {why}"),
        Err(TestError::Fail(why, value)) => {
            panic!("{why}\nafter {value:#?}\nTo run it again: TRESPASS_SEED={seed}")
        }
    }
}

fn seed() -> u64 {
    match std::env::var("TRESPASS_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("TRESPASS_SEED is {text:?}, which is not a number")),
        // The standard library's own source of chance: it is seeded anew for every run.
        Err(_) => RandomState::new().build_hasher().finish(),
    }
}

/// What is done, on the side of the client (0) or of the server (1).
#[derive(Debug, Clone, Copy)]
struct Operation {
    side: usize,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Reserve {
        len: Length,
    },
    /// Of the buffers that are reserved, one is shortened.
    Truncate {
        which: usize,
        len: u8,
    },
    Send {
        which: usize,
    },
    Discard {
        which: usize,
        elsewhere: bool,
    },
    Flush,
    Receive,
    /// Of the buffers that were received, one is given back.
    Release {
        which: usize,
        elsewhere: bool,
    },
    PollSend,
    PollReceive,
    /// Several messages, reserved and sent.
    Burst {
        count: usize,
    },
    /// Several messages, received and given back.
    Drain {
        count: usize,
    },
}

#[derive(Debug, Clone, Copy)]
enum Length {
    Short(u8),
    /// In units of 1/65536 of the maximum.
    Part(u16),
    Max,
    TooLong,
}

impl Length {
    fn of(self, max: usize) -> usize {
        match self {
            Self::Short(len) => usize::from(len).min(max),
            Self::Part(part) => max * usize::from(part) / 65536,
            Self::Max => max,
            Self::TooLong => max + 1,
        }
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    let length = prop_oneof![
        6 => any::<u8>().prop_map(Length::Short),
        3 => any::<u16>().prop_map(Length::Part),
        1 => Just(Length::Max),
        1 => Just(Length::TooLong),
    ];
    let which = || 0_usize..64;
    let what = prop_oneof![
        8 => length.prop_map(|len| What::Reserve { len }),
        2 => (which(), any::<u8>()).prop_map(|(which, len)| What::Truncate { which, len }),
        6 => which().prop_map(|which| What::Send { which }),
        1 => (which(), any::<bool>()).prop_map(|(which, elsewhere)| What::Discard { which, elsewhere }),
        4 => Just(What::Flush),
        6 => Just(What::Receive),
        5 => (which(), any::<bool>()).prop_map(|(which, elsewhere)| What::Release { which, elsewhere }),
        1 => Just(What::PollSend),
        1 => Just(What::PollReceive),
        2 => (2_usize..20).prop_map(|count| What::Burst { count }),
        2 => (2_usize..20).prop_map(|count| What::Drain { count }),
    ];
    (0_usize..2, what).prop_map(|(side, what)| Operation { side, what })
}

/// Two tracks, and what is known of each direction.
struct Model<'h, H: Harness> {
    h: &'h H,
    tracks: [<H::Fabric as Fabric>::Track; 2],
    /// By the side that sends.
    lanes: [Lane<<H::Fabric as Fabric>::Track>; 2],
    next: u64,
}

/// One direction.
struct Lane<T: Track> {
    reserved: Vec<(T::SendBuf, Message)>,
    /// Sent and not flushed: these may come, and need not.
    queued: VecDeque<Message>,
    /// Flushed: these have to come, as soon as there is room.
    flushed: VecDeque<Message>,
    /// Received, and not given back.
    held: Vec<(T::RecvBuf, Message)>,
    received: u64,
    posted: u64,
}

#[derive(Debug, Clone, Copy)]
struct Message {
    id: u64,
    /// As it was reserved; what is sent is the beginning of that.
    full: usize,
    len: usize,
}

impl Message {
    fn check(self, got: &[u8]) {
        assert_eq!(got.len(), self.len, "message {} has another length than it was sent with", self.id);
        let sent = bytes(self.id, self.full).take(self.len);
        assert!(got.iter().copied().eq(sent), "message {} has other bytes than it was sent with", self.id);
    }
}

impl<T: Track> Lane<T> {
    fn flush(&mut self) {
        self.flushed.append(&mut self.queued);
    }

    /// How many messages take a slot, at most.
    fn busy(&self) -> usize {
        self.reserved.len() + self.queued.len() + self.flushed.len()
    }

    fn arrived(&mut self, buf: T::RecvBuf) {
        let expected = self.flushed.pop_front().or_else(|| self.queued.pop_front());
        let expected = expected.unwrap_or_else(|| panic!("{} bytes arrived that nobody sent", buf.len()));
        expected.check(&buf);
        self.received += 1;
        self.held.push((buf, expected));
    }
}

impl<'h, H: Harness> Model<'h, H> {
    fn new(h: &'h H, client: <H::Fabric as Fabric>::Track, server: <H::Fabric as Fabric>::Track) -> Self {
        let lane = |to: &<H::Fabric as Fabric>::Track| Lane {
            reserved: Vec::new(),
            queued: VecDeque::new(),
            flushed: VecDeque::new(),
            held: Vec::new(),
            received: 0,
            posted: to.posted(),
        };
        let lanes = [lane(&server), lane(&client)];
        Self { h, tracks: [client, server], lanes, next: 0 }
    }

    fn step(&mut self, Operation { side, what }: Operation) {
        match what {
            What::Reserve { len } => self.reserve(side, len),
            What::Truncate { which, len } => {
                if let Some((buf, message)) = pick(&mut self.lanes[side].reserved, which) {
                    buf.truncate(len.into());
                    message.len = message.len.min(len.into());
                }
            }
            What::Send { which } => self.send(side, which),
            What::Discard { which, elsewhere } => drop_one(&mut self.lanes[side].reserved, which, elsewhere),
            What::Flush => {
                self.tracks[side].flush().unwrap_or_else(|error| panic!("cannot flush: {error}"));
                self.lanes[side].flush();
            }
            What::Receive => self.receive(side),
            What::Release { which, elsewhere } => drop_one(&mut self.lanes[1 - side].held, which, elsewhere),
            What::PollSend => {
                let ready = poll_once(|cx| self.tracks[side].poll_send_ready(cx)).is_some();
                self.lanes[side].flush();
                let lane = &self.lanes[side];
                assert!(!ready || lane.reserved.len() < self.slots(side), "ready to send, with all slots reserved");
            }
            What::PollReceive => {
                let ready = poll_once(|cx| self.tracks[side].poll_recv_ready(cx)).is_some();
                self.lanes[side].flush();
                let lane = &self.lanes[1 - side];
                assert!(!ready || lane.busy() > lane.reserved.len(), "ready to receive, and nothing was sent");
                let (room, posted) = (self.room(side) as u64, self.tracks[side].posted());
                let returned = lane.received - lane.held.len() as u64;
                // Where there is something to receive, whoever takes it posts them.
                assert!(
                    ready || posted + kept_back(room) >= room + returned,
                    "{returned} were given back to {room} slots, and posted is {posted}"
                );
            }
            What::Burst { count } => {
                for _ in 0..count {
                    let before = self.next;
                    self.reserve(side, Length::Short(before.to_le_bytes()[0]));
                    if self.next > before {
                        self.send(side, self.lanes[side].reserved.len() - 1);
                    }
                }
            }
            What::Drain { count } => {
                for _ in 0..count {
                    self.receive(side);
                    self.lanes[1 - side].held.pop();
                }
            }
        }
        self.look(side);
    }

    fn slots(&self, side: usize) -> usize {
        self.tracks[side].limits().send_slots
    }

    fn room(&self, side: usize) -> usize {
        self.tracks[side].limits().recv_slots
    }

    fn reserve(&mut self, side: usize, len: Length) {
        let (slots, max) = (self.slots(side), self.tracks[side].limits().max_message);
        let len = len.of(max);
        let (track, lane) = (&mut self.tracks[side], &mut self.lanes[side]);
        let buf = match track.try_reserve(len) {
            Err(TryError::Failed(error)) if error.kind() == ErrorKind::Oversize && len > max => return,
            Err(TryError::Failed(error)) => panic!("cannot reserve {len} bytes: {error}"),
            Err(TryError::WouldBlock) if len > max || lane.busy() >= slots => return,
            // A slot may come back only with those that were flushed with it, and one of them has not arrived yet.
            Err(TryError::WouldBlock) if !lane.flushed.is_empty() => return,
            // What has been received has left: its slot comes free soon. It may be free before the wait, which then flushes
            // nothing.
            Err(TryError::WouldBlock) => {
                track.flush().unwrap_or_else(|error| panic!("cannot flush: {error}"));
                lane.flush();
                let what = format_args!("a slot of {slots}, of which {} are taken", lane.busy());
                self.h.wait(what, track.reserve(len)).unwrap_or_else(|error| panic!("cannot reserve: {error}"))
            }
            Ok(buf) => buf,
        };
        assert!(len <= max, "a reserve above the maximum succeeded");
        assert!(lane.reserved.len() < slots, "more buffers are reserved than there are slots");
        assert_eq!(buf.len(), len, "a reserved buffer has another length than was asked for");
        let message = Message { id: self.next, full: len, len };
        self.next += 1;
        lane.reserved.push((buf, message));
        let (buf, _) = lane.reserved.last_mut().expect("it was just put there");
        stamp(buf, message.id);
    }

    fn send(&mut self, side: usize, which: usize) {
        let lane = &mut self.lanes[side];
        if lane.reserved.is_empty() {
            return;
        }
        let (buf, message) = lane.reserved.swap_remove(which % lane.reserved.len());
        message.check(&buf);
        let sent = self.tracks[side].send(buf);
        sent.unwrap_or_else(|unsent| panic!("a reserved buffer cannot be sent: {}", unsent.error));
        lane.queued.push_back(message);
    }

    fn receive(&mut self, side: usize) {
        let room = self.room(side);
        let (track, lane) = (&mut self.tracks[side], &mut self.lanes[1 - side]);
        let received = now(track.try_recv());
        let due = !lane.flushed.is_empty() && lane.held.len() < room;
        let received = match received {
            // It was flushed and has room: it comes soon.
            None if due => {
                // Waiting on a whole track flushes its other direction; but it may come before there is a wait.
                track.flush().unwrap_or_else(|error| panic!("cannot flush: {error}"));
                let waited = self.h.wait(format_args!("message {:?}", lane.flushed.front()), track.recv());
                self.lanes[side].flush();
                Some(waited.unwrap_or_else(|error| panic!("cannot receive: {error}")))
            }
            received => received,
        };
        if let Some(buf) = received {
            self.lanes[1 - side].arrived(buf);
        }
    }

    /// What holds at any time, seen from `side`.
    fn look(&mut self, side: usize) {
        let posted = self.tracks[side].posted();
        let room = self.room(side) as u64;
        let lane = &mut self.lanes[1 - side];
        assert!(posted >= lane.posted, "posted fell from {} to {posted}", lane.posted);
        assert!(posted >= lane.received, "{} were received, and {posted} posted", lane.received);
        assert!(posted <= room + lane.received, "of {room} slots {} were used, and posted is {posted}", lane.received);
        lane.posted = posted;
        lane.held.iter().for_each(|(buf, message)| message.check(buf));
        self.lanes[side].reserved.iter().for_each(|(buf, message)| message.check(buf));
    }

    /// All that was sent comes, and nothing else; then there is an end.
    fn finish(mut self) {
        for side in [0, 1] {
            self.lanes[side].reserved.clear();
            self.step(Operation { side, what: What::Flush });
        }
        for side in [0, 1] {
            self.lanes[1 - side].held.clear();
            while !self.lanes[1 - side].flushed.is_empty() {
                self.receive(side);
                self.look(side);
                self.lanes[1 - side].held.clear();
            }
            self.step(Operation { side, what: What::PollReceive });
        }
        let [mut client, mut server] = self.tracks;
        // Whatever was reserved, sent and dropped: all slots are there, both ways, and the tracks are empty.
        exchange(self.h, &mut client, &mut server, self.next);
        settle(self.h, &mut client);
        settle(self.h, &mut server);
        close(self.h, &mut client);
        receive_end(self.h, &mut server);
    }
}

fn pick<B>(bufs: &mut [B], which: usize) -> Option<&mut B> {
    let count = bufs.len();
    bufs.get_mut(which % count.max(1))
}

/// Drops one of `bufs`, maybe on another thread.
fn drop_one<B: Send>(bufs: &mut Vec<(B, Message)>, which: usize, elsewhere: bool) {
    if bufs.is_empty() {
        return;
    }
    let (buf, _) = bufs.swap_remove(which % bufs.len());
    if elsewhere {
        thread::scope(|scope| _ = scope.spawn(move || drop(buf)));
    }
}
