//! Random sequences of messages and operations, mixed, compared with a model of the memory.

use std::collections::VecDeque;
use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::prop_oneof;
use trespass_core::{
    Access, Completed, Endpoint, Fabric, MemoryFabric, RecvSide, RemoteMemory, SendSide, SharedRegion, TryError,
};

use super::{Lent, TrackOf, content, expect_all_permits, lend, region, slice};
use crate::harness::MemoryHarness;
use crate::model::check_random;
use crate::traffic::{bytes, check, close, exchange, join, listen, receive_end, stamp};
use crate::wait::{RecvWait, Waits, poll_once};

/// How many bytes each side lends; the first are words for atomic operations.
const SIZE: usize = 600;
const WORDS: usize = 8;
/// The longest operation.
const LONGEST: usize = 200;

/// Whatever is queued, in whatever order: messages arrive in order, operations complete in order, each with its memory, and
/// reads, words and the memory itself are what the model says.
///
/// # Panics
/// When that does not hold, with the shortest sequence that was found in a short time, and the seed.
pub fn random_operations_match_the_memory_model<H: MemoryHarness>(h: &H) {
    let fabrics = h.fabrics();
    let listener = std::cell::RefCell::new(listen(h, &fabrics.server));
    check_random(h, 48, vec(operation(), 1..80), |operations| {
        let (client, server) = join(h, &fabrics.client, &mut *listener.borrow_mut());
        let atomics = h.has_atomics();
        let side = |track, fabric: &H::Fabric| Side::new(track, fabric.clone());
        let mut model = Model { h, sides: [side(client, &fabrics.client), side(server, &fabrics.server)], next: 1 };
        for Operation { side, what } in operations {
            if atomics || !matches!(what, What::Add { .. } | What::Swap { .. }) {
                model.step(side, what);
            }
        }
        model.finish();
    });
}

#[derive(Debug, Clone, Copy)]
struct Operation {
    side: usize,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Send {
        len: usize,
    },
    Gather {
        head: usize,
        body: usize,
    },
    Write {
        offset: usize,
        len: usize,
    },
    WriteBuf {
        offset: usize,
        len: usize,
    },
    Read {
        offset: usize,
        len: usize,
    },
    Add {
        word: usize,
        add: u64,
    },
    Swap {
        word: usize,
        right: bool,
        new: u64,
    },
    Flush,
    Receive,
    Complete,
    /// Polls for a completion, a permit, a fetch permit.
    Poll {
        which: usize,
    },
    /// Permits are claimed and dropped.
    Permits {
        count: usize,
    },
    /// All that was queued is done; then the memory is what the model says.
    Look,
}

fn operation() -> impl Strategy<Value = Operation> {
    let part = || (WORDS * 8..SIZE, 0..LONGEST).prop_map(|(offset, len)| (offset, len.min(SIZE - offset)));
    let anywhere = (0..SIZE, 0..LONGEST).prop_map(|(offset, len)| (offset, len.min(SIZE - offset)));
    let what = prop_oneof![
        3 => (0..LONGEST).prop_map(|len| What::Send { len }),
        2 => (0..LONGEST, 0..LONGEST).prop_map(|(head, body)| What::Gather { head, body }),
        5 => part().prop_map(|(offset, len)| What::Write { offset, len }),
        3 => part().prop_map(|(offset, len)| What::WriteBuf { offset, len }),
        5 => anywhere.prop_map(|(offset, len)| What::Read { offset, len }),
        3 => (0..WORDS, any::<u64>()).prop_map(|(word, add)| What::Add { word, add }),
        3 => (0..WORDS, any::<bool>(), any::<u64>()).prop_map(|(word, right, new)| What::Swap { word, right, new }),
        4 => proptest::prelude::Just(What::Flush),
        4 => proptest::prelude::Just(What::Receive),
        4 => proptest::prelude::Just(What::Complete),
        1 => (0_usize..3).prop_map(|which| What::Poll { which }),
        1 => (0_usize..4).prop_map(|count| What::Permits { count }),
        1 => proptest::prelude::Just(What::Look),
    ];
    (0_usize..2, what).prop_map(|(side, what)| Operation { side, what })
}

/// One end: its track, the memory that it lends, and what it has queued.
struct Side<F: MemoryFabric> {
    track: F::Track,
    fabric: F,
    lent: Lent<F>,
    /// What the memory that it lends will be when all that the other side queued is done. Nobody else writes there.
    memory: Vec<u8>,
    /// Messages that were queued: the number and length of each.
    sent: VecDeque<(u64, usize)>,
    /// How many of them were flushed.
    flushed: usize,
    expected: VecDeque<Expected>,
    spare: Vec<F::Region>,
}

/// An operation that was queued.
struct Expected {
    tag: u64,
    what: Outcome,
}

enum Outcome {
    /// The memory as it was given.
    Same {
        id: u64,
        len: usize,
    },
    /// What a read brings: the bytes as they were, but for what was queued behind it, which it may see.
    Bytes {
        part: Range<usize>,
        before: Vec<u8>,
        behind: Vec<(usize, Vec<u8>)>,
    },
    Word(u64),
}

impl<F: MemoryFabric> Side<F> {
    fn new(track: F::Track, fabric: F) -> Self {
        let lent = lend(&fabric, SIZE, Access::ReadWrite);
        let (sent, expected, spare) = (VecDeque::new(), VecDeque::new(), Vec::new());
        Self { track, fabric, lent, memory: vec![0; SIZE], sent, flushed: 0, expected, spare }
    }

    fn flush(&mut self) {
        self.track.flush().unwrap_or_else(|error| panic!("cannot flush: {error}"));
        self.flushed = self.sent.len();
    }

    /// Memory for an operation, blank.
    fn region(&mut self) -> F::Region {
        let mut region = self.spare.pop().unwrap_or_else(|| region(&self.fabric, LONGEST));
        region.fill(0);
        region
    }

    /// Checks an operation that is over against the first that is expected.
    fn completed(&mut self, completed: Completed<F::Region, <F as Fabric>::Error>) {
        let Expected { tag, what } = self.expected.pop_front().expect("more completions than operations");
        assert_eq!(completed.tag(), tag, "completions come in another order");
        match (completed, what) {
            (Completed::Memory { region, result, .. }, what) => {
                result.unwrap_or_else(|error| panic!("operation {tag} has failed: {error}"));
                what.check(&region, tag);
                self.spare.push(region);
            }
            (Completed::Word { result, .. }, Outcome::Word(expected)) => {
                let was = result.unwrap_or_else(|error| panic!("operation {tag} has failed: {error}"));
                assert_eq!(was, expected, "what atomic operation {tag} found");
            }
            _ => panic!("completion {tag} is one of another sort"),
        }
    }
}

impl Outcome {
    fn check(&self, region: &[u8], tag: u64) {
        match self {
            Self::Same { id, len } => check(&region[..*len], *id, *len),
            Self::Word(_) => panic!("completion {tag} of an atomic operation has memory"),
            Self::Bytes { part, before, behind } => {
                assert!(region[part.len()..].iter().all(|byte| *byte == 0), "read {tag} wrote beyond its end");
                for (at, got) in region[..part.len()].iter().enumerate() {
                    let place = part.start + at;
                    let later = behind.iter().filter_map(|(start, bytes)| bytes.get(place.checked_sub(*start)?));
                    let mut allowed = std::iter::once(&before[at]).chain(later);
                    assert!(
                        allowed.any(|byte| byte == got),
                        "byte {at} of read {tag} is {got:#04x}, which it never was"
                    );
                }
            }
        }
    }
}

struct Model<'h, H: MemoryHarness> {
    h: &'h H,
    sides: [Side<H::Fabric>; 2],
    next: u64,
}

impl<H: MemoryHarness> Model<'_, H> {
    fn step(&mut self, side: usize, what: What) {
        let id = self.next;
        self.next += 1;
        match what {
            What::Send { len } => {
                let mut buf = self.claim(side, "a slot", |track| track.try_reserve(len));
                stamp(&mut buf, id);
                let Side { track, sent, .. } = &mut self.sides[side];
                track.send(buf).unwrap_or_else(|unsent| panic!("cannot send: {}", unsent.error));
                sent.push_back((id, len));
            }
            What::Gather { head, body } => self.gather(side, id, head, body),
            What::Write { offset, len } => self.write(side, id, offset, len),
            What::WriteBuf { offset, len } => {
                let mut buf = self.claim(side, "a slot", |track| track.try_reserve(len));
                stamp(&mut buf, id);
                let to = slice(&self.sides[1 - side].lent.remote, offset, len);
                let queued = self.sides[side].track.write_buf(buf, to);
                queued.unwrap_or_else(|unsent| panic!("cannot write a buffer: {}", unsent.error));
                self.changed(side, offset, bytes(id, len).collect());
            }
            What::Read { offset, len } => self.read(side, id, offset, len),
            What::Add { word, add } => self.atomic(
                side,
                id,
                word,
                |was| was.wrapping_add(add),
                |track, permit, word| track.fetch_add(permit, word, add, id),
            ),
            What::Swap { word, right, new } => {
                let guess = self.word(side, word).wrapping_add(u64::from(!right));
                let outcome = |was| if was == guess { new } else { was };
                self.atomic(side, id, word, outcome, |track, permit, word| {
                    track.compare_swap(permit, word, guess, new, id)
                });
            }
            What::Flush => self.sides[side].flush(),
            What::Receive => drop(self.receive(side, false)),
            What::Complete => {
                if let Some(completed) = crate::traffic::now(self.sides[side].track.try_complete()) {
                    self.sides[side].completed(completed);
                }
            }
            What::Poll { which } => {
                let track = &mut self.sides[side].track;
                let ready = poll_once(|cx| match which {
                    0 => track.poll_complete_ready(cx),
                    1 => track.poll_write_permit_ready(cx),
                    _ => track.poll_fetch_permit_ready(cx),
                });
                self.sides[side].flush();
                let none = which == 0 && self.sides[side].expected.is_empty();
                assert!(!(none && ready.is_some()), "ready, and nothing was queued");
            }
            What::Permits { count } => {
                let track = &mut self.sides[side].track;
                let some: Vec<_> = (0..count).filter_map(|_| crate::traffic::now(track.try_write_permit())).collect();
                let others: Vec<_> = (0..count).filter_map(|_| crate::traffic::now(track.try_fetch_permit())).collect();
                drop((some, others));
            }
            What::Look => self.look(side),
        }
    }

    /// What `claim` gives; where all slots are taken, after all that is under way was done and taken.
    fn claim<T>(
        &mut self,
        side: usize,
        what: &str,
        claim: impl Fn(&mut TrackOf<H>) -> Result<T, TryError<<H::Fabric as Fabric>::Error>>,
    ) -> T {
        if let Some(claimed) = crate::traffic::now(claim(&mut self.sides[side].track)) {
            return claimed;
        }
        self.finish_queued(side);
        self.h.spin(what, || crate::traffic::now(claim(&mut self.sides[side].track)))
    }

    /// Waits until all that `side` queued is done, and takes it.
    fn finish_queued(&mut self, side: usize) {
        self.sides[side].flush();
        while self.receive(1 - side, true) {}
        while !self.sides[side].expected.is_empty() {
            let what = format_args!("operation {}", self.sides[side].expected[0].tag);
            let completed = self.h.wait(what, super::MemoryWait::completed(&mut self.sides[side].track));
            self.sides[side].completed(completed.unwrap_or_else(|error| panic!("no completion: {error}")));
        }
    }

    /// Takes a message at `side`, if there is one; waits for it where one was flushed and `wait` says so. Whether it did.
    fn receive(&mut self, side: usize, wait: bool) -> bool {
        let due = wait && self.sides[1 - side].flushed > 0;
        let track = &mut self.sides[side].track;
        let got = match crate::traffic::now(track.try_recv()) {
            None if due => {
                let got = self.h.wait("a message", track.recv());
                // Waiting on a whole track flushes its other direction.
                self.sides[side].flushed = self.sides[side].sent.len();
                Some(got.unwrap_or_else(|error| panic!("cannot receive: {error}")))
            }
            got => got,
        };
        let Some(got) = got else { return false };
        let sender = &mut self.sides[1 - side];
        let (id, len) =
            sender.sent.pop_front().unwrap_or_else(|| panic!("{} bytes arrived that nobody sent", got.len()));
        sender.flushed = sender.flushed.saturating_sub(1);
        check(&got, id, len);
        true
    }

    fn gather(&mut self, side: usize, id: u64, head: usize, body: usize) {
        let mut buf = self.claim(side, "a slot", |track| track.try_reserve(head));
        let whole: Vec<u8> = bytes(id, head + body).collect();
        buf.copy_from_slice(&whole[..head]);
        let side = &mut self.sides[side];
        let mut region = side.region();
        stamp(&mut region, id);
        let at = LONGEST - body;
        region[at..].copy_from_slice(&whole[head..]);
        let queued = side.track.send_gathered(buf, region, at..LONGEST, id);
        queued.unwrap_or_else(|unsent| panic!("cannot gather: {}", unsent.error));
        side.sent.push_back((id, head + body));
        side.expected.push_back(Expected { tag: id, what: Outcome::Same { id, len: at } });
    }

    fn write(&mut self, side: usize, id: u64, offset: usize, len: usize) {
        let permit = self.claim(side, "a permit", RemoteMemory::try_write_permit);
        let to = slice(&self.sides[1 - side].lent.remote, offset, len);
        let mut region = self.sides[side].region();
        stamp(&mut region, id);
        let at = LONGEST - len;
        let bytes = region[at..].to_vec();
        let queued = self.sides[side].track.write(permit, region, at, to, id);
        queued.unwrap_or_else(|unsent| panic!("cannot write: {}", unsent.error));
        self.changed(side, offset, bytes);
        self.sides[side].expected.push_back(Expected { tag: id, what: Outcome::Same { id, len: LONGEST } });
    }

    fn read(&mut self, side: usize, id: u64, offset: usize, len: usize) {
        let permit = self.claim(side, "a fetch permit", RemoteMemory::try_fetch_permit);
        let from = slice(&self.sides[1 - side].lent.remote, offset, len);
        let region = self.sides[side].region();
        let queued = self.sides[side].track.read(permit, region, 0, from, id);
        queued.unwrap_or_else(|unsent| panic!("cannot read: {}", unsent.error));
        let part = offset..offset + len;
        let before = self.sides[1 - side].memory[part.clone()].to_vec();
        let what = Outcome::Bytes { part, before, behind: Vec::new() };
        self.sides[side].expected.push_back(Expected { tag: id, what });
    }

    /// What the word is when all that `side` queued is done.
    fn word(&self, side: usize, word: usize) -> u64 {
        let bytes = &self.sides[1 - side].memory[8 * word..8 * word + 8];
        u64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
    }

    fn atomic(
        &mut self,
        side: usize,
        tag: u64,
        word: usize,
        new: impl Fn(u64) -> u64,
        queue: impl Fn(
            &mut TrackOf<H>,
            <TrackOf<H> as RemoteMemory>::FetchPermit,
            trespass_core::RemoteWord,
        ) -> Result<
            (),
            trespass_core::Unsent<<TrackOf<H> as RemoteMemory>::FetchPermit, <TrackOf<H> as Endpoint>::Error>,
        >,
    ) {
        let permit = self.claim(side, "a fetch permit", RemoteMemory::try_fetch_permit);
        let place = self.sides[1 - side].lent.remote.word(8 * word as u64).expect("an aligned word");
        let queued = queue(&mut self.sides[side].track, permit, place);
        queued.unwrap_or_else(|unsent| panic!("cannot change a word: {}", unsent.error));
        let was = self.word(side, word);
        self.sides[side].expected.push_back(Expected { tag, what: Outcome::Word(was) });
        self.changed(side, 8 * word, new(was).to_ne_bytes().to_vec());
    }

    /// Takes note of what `side` queued to be written at the other.
    fn changed(&mut self, side: usize, offset: usize, bytes: Vec<u8>) {
        self.sides[1 - side].memory[offset..offset + bytes.len()].copy_from_slice(&bytes);
        for Expected { what, .. } in &mut self.sides[side].expected {
            if let Outcome::Bytes { behind, .. } = what {
                behind.push((offset, bytes.clone()));
            }
        }
    }

    /// All that `side` queued is done: the memory of the other is what it has to be.
    fn look(&mut self, side: usize) {
        // A message behind it all: writes need not be there before.
        self.step(side, What::Send { len: 8 });
        self.finish_queued(side);
        let other = &self.sides[1 - side];
        assert!(content(&other.lent.shared) == other.memory, "the memory is not what was written to it");
    }

    fn finish(mut self) {
        for side in [0, 1] {
            self.look(side);
        }
        let [Side { track: mut client, lent: ours, .. }, Side { track: mut server, lent: theirs, .. }] = self.sides;
        exchange(self.h, &mut client, &mut server, self.next);
        expect_all_permits(self.h, &mut client);
        expect_all_permits(self.h, &mut server);
        close(self.h, &mut client);
        receive_end(self.h, &mut server);
        for Lent { shared, window, .. } in [ours, theirs] {
            drop(window);
            assert!(shared.reclaim().is_ok(), "memory is not given back, though its window is gone");
        }
    }
}
