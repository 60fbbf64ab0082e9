//! Requesters that claim more than they were told, and peers that tell nonsense.

use trespass_core::{Access, BadWindow, ErrorKind, MemoryFabric, RemoteMemory, RemoteWindow, SendSide};

use super::ends::expect_no_more;
use super::windows::{TARGET_ENDS, expect_refused_ends};
use super::{
    Lent, Loan, MemoryWait, TrackOf, content, done, export, lend, loan, memory_of, put_add, put_read, put_swap,
    put_write, region, slice, stamped, told, word_of, write,
};
use crate::harness::MemoryHarness;
use crate::traffic::{Pair, check, exchange, expect_kind, join, listen, receive_end, send_end, stamp};
use crate::wait::{Dice, SendWait, Waits};

/// A window as it might be made up.
#[derive(Debug, Clone, Copy)]
struct Forged {
    start: u64,
    len: u64,
    key: u32,
    access: Access,
    /// Where in it there is a word that was not lent.
    outside: u64,
}

impl Forged {
    /// What `window` says of itself.
    fn of(window: &RemoteWindow) -> Self {
        let bytes = window.encode();
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let key = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        Self { start: word(8), len: word(16), key, access: window.access(), outside: 0 }
    }

    /// As a peer would be told.
    fn told(self) -> RemoteWindow {
        let mut bytes = [0; RemoteWindow::ENCODED];
        bytes[0] = 1;
        bytes[1] = u8::from(self.access == Access::ReadWrite);
        bytes[4..8].copy_from_slice(&self.key.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.start.to_le_bytes());
        bytes[16..].copy_from_slice(&self.len.to_le_bytes());
        RemoteWindow::decode(&bytes).unwrap_or_else(|error| panic!("{self:?} is not even a window: {error}"))
    }
}

/// What a requester does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Read,
    Write,
    WriteBuf,
    Add,
    Swap,
}

impl Attempt {
    const ALL: [Self; 5] = [Self::Read, Self::Write, Self::WriteBuf, Self::Add, Self::Swap];

    fn changes(self) -> bool {
        self != Self::Read
    }

    fn is_atomic(self) -> bool {
        matches!(self, Self::Add | Self::Swap)
    }
}

/// Memory of 4096 bytes, of which the middle is lent: with a window that may be written, one that may not, and one that was
/// revoked.
struct Target<F: MemoryFabric> {
    lent: Lent<F>,
    read_only: Lent<F>,
    revoked: RemoteWindow,
}

const MIDDLE: std::ops::Range<usize> = 1024..2048;

fn target<F: MemoryFabric>(fabric: &F) -> Target<F> {
    let shared = stamped(fabric, 1, 4096);
    let shared = trespass_core::Region::share(shared);
    let window = export(&shared, MIDDLE, Access::ReadWrite);
    let revoked = export(&shared, MIDDLE, Access::ReadWrite);
    let revoked_told = told(&revoked);
    drop(revoked);
    let remote = told(&window);
    let read_only = export(&shared, MIDDLE, Access::ReadOnly);
    let read_only = Lent { shared: shared.clone(), remote: told(&read_only), window: read_only };
    Target { lent: Lent { shared, window, remote }, read_only, revoked: revoked_told }
}

/// Windows that were not lent, or not like this, and what is wrong with them. Each has 16 bytes at least.
fn forgeries<F: MemoryFabric>(target: &Target<F>, elsewhere: &RemoteWindow) -> Vec<(&'static str, Forged)> {
    let real = Forged::of(&target.lent.remote);
    let Forged { start, len, key, .. } = real;
    vec![
        ("beyond its end", Forged { start: start + len - 8, len: 16, outside: 8, ..real }),
        ("behind its end", Forged { start: start + len, len: 16, ..real }),
        ("before its start", Forged { start: start - 8, len: 16, ..real }),
        ("far before its start", Forged { start: start - 1024, len: 16, ..real }),
        ("far away", Forged { start: start ^ (1 << 40), len: 16, ..real }),
        ("at address zero", Forged { start: 0, len: 16, ..real }),
        ("at the last address", Forged { start: u64::MAX - 15, len: 15, ..real }),
        ("with the next key", Forged { key: key.wrapping_add(1), ..real }),
        ("with the key before", Forged { key: key.wrapping_sub(1), ..real }),
        ("with a key that differs in one high bit", Forged { key: key ^ (1 << 31), ..real }),
        ("with no key", Forged { key: 0, ..real }),
        ("with all bits in its key", Forged { key: u32::MAX, ..real }),
        ("revoked", Forged::of(&target.revoked)),
        ("of another fabric", Forged::of(elsewhere)),
        (
            "read-only, and claimed to be writable",
            Forged { access: Access::ReadWrite, ..Forged::of(&target.read_only.remote) },
        ),
    ]
}

/// Whatever a requester makes up, the target's device refuses it: nothing changes, nothing leaks, the operation fails with
/// `RemoteAccess`, both ends of its track end, and no other track notices.
pub fn what_was_not_lent_is_refused<H: MemoryHarness>(h: &H) {
    let fabrics = h.fabrics();
    let mut listener = listen(h, &fabrics.server);
    let stranger = h.fabrics();
    let theirs = lend(&stranger.server, 4096, Access::ReadWrite);
    let target = target(&fabrics.server);
    let before = content(&target.lent.shared);
    let (mut bystander, mut far) = join(h, &fabrics.client, &mut listener);
    for ((what, forged), at) in forgeries(&target, &theirs.remote).into_iter().zip(0..) {
        // Where a run has to be short each forgery has one sort of operation, in turn.
        for attempt in Attempt::ALL.into_iter().cycle().skip(at).take(h.many(Attempt::ALL.len())) {
            let allowed = what.starts_with("read-only") && !attempt.changes();
            if allowed || (attempt.is_atomic() && !h.has_atomics()) {
                continue;
            }
            let (client, server) = join(h, &fabrics.client, &mut listener);
            let name = format!("{attempt:?} through a window {what}");
            refused(h, &fabrics.client, client, server, &name, attempt, forged, &target.lent.remote);
            assert!(content(&target.lent.shared) == before, "{name} has changed something");
            assert!(
                content(&theirs.shared).iter().all(|byte| *byte == 0),
                "{name} has changed another fabric's memory"
            );
            let into = region(&fabrics.client, 1024);
            let into = h.wait(
                "a read by a bystander",
                super::read(&mut bystander, into, 0, slice(&target.lent.remote, 0, 1024), 1),
            );
            assert_eq!(*into, before[MIDDLE], "a bystander reads other bytes after {name}");
            exchange(h, &mut bystander, &mut far, 1);
        }
    }
}

/// Makes an attempt, and a write that would be allowed behind it: neither is done, and both ends end.
#[allow(clippy::too_many_arguments)]
fn refused<H: MemoryHarness>(
    h: &H,
    fabric: &H::Fabric,
    mut client: TrackOf<H>,
    server: TrackOf<H>,
    name: &str,
    attempt: Attempt,
    forged: Forged,
    allowed: &RemoteWindow,
) {
    let window = forged.told();
    // What reaches over the end of a window by a part has to be refused as a whole.
    let part = slice(&window, 0, usize::try_from(window.len()).expect("a small window").min(16));
    let word = window.word(forged.outside).expect("an aligned word");
    h.wait("permits", async {
        match attempt {
            Attempt::Read => put_read(&mut client, region(fabric, 16), 0, part, 1).await,
            Attempt::Write => put_write(&mut client, stamped(fabric, 666, 16), 0, part, 1).await,
            Attempt::WriteBuf => {
                let mut buf = client.reserve(part.len()).await.unwrap_or_else(|error| panic!("no slot: {error}"));
                stamp(&mut buf, 666);
                client.write_buf(buf, part).unwrap_or_else(|unsent| panic!("{name}: {}", unsent.error));
            }
            Attempt::Add => put_add(&mut client, word, 1, 1).await,
            Attempt::Swap => put_swap(&mut client, word, 0, 1, 1).await,
        }
        put_write(&mut client, stamped(fabric, 667, 16), 0, slice(allowed, 0, 16), 2).await;
    });
    client.flush().unwrap_or_else(|error| expect_kind(name, &error, &[ErrorKind::RemoteAccess]));
    let error = match attempt {
        Attempt::Read => {
            let (region, result) = h.wait(name, memory_of(&mut client, 1));
            assert!(result.is_err(), "{name} was done: it read {:x?}", &*region);
            result.err()
        }
        Attempt::Write => h.wait(name, memory_of(&mut client, 1)).1.err(),
        Attempt::Add | Attempt::Swap => h.wait(name, word_of(&mut client, 1)).err(),
        Attempt::WriteBuf => None,
    };
    match error {
        Some(error) => expect_kind(name, &error, &[ErrorKind::RemoteAccess]),
        None => assert_eq!(attempt, Attempt::WriteBuf, "{name} was done"),
    }
    let (_, behind) = h.wait("the write behind it", memory_of(&mut client, 2));
    assert!(behind.is_err(), "a write was done behind {name}");
    expect_refused_ends(h, client, server);
}

/// What was queued before a refused access is done, and what is behind it is not; all memory comes back.
pub fn what_was_done_before_a_refusal_stays<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, server, fabrics, .. }, lent } = loan(h, 256, Access::ReadWrite);
    let forged = Forged { len: 512, ..Forged::of(&lent.remote) }.told();
    let fabric = &fabrics.client;
    h.wait("permits", async {
        put_write(&mut client, stamped(fabric, 1, 64), 0, slice(&lent.remote, 0, 64), 1).await;
        put_read(&mut client, region(fabric, 64), 0, slice(&lent.remote, 0, 64), 2).await;
        put_write(&mut client, stamped(fabric, 3, 64), 0, slice(&forged, 250, 64), 3).await;
        put_write(&mut client, stamped(fabric, 4, 64), 0, slice(&lent.remote, 64, 64), 4).await;
    });
    client.flush().unwrap_or_else(|error| expect_kind("a flush", &error, &[ErrorKind::RemoteAccess]));
    h.wait("a write before", done(&mut client, 1));
    check(&h.wait("a read before", done(&mut client, 2)), 1, 64);
    let (region, result) = h.wait("a write that reaches too far", memory_of(&mut client, 3));
    let error = result.expect_err("a write that reaches too far was done");
    expect_kind("a write that reaches too far", &error, &[ErrorKind::RemoteAccess]);
    check(&region, 3, 64);
    let (region, result) = h.wait("a write behind", memory_of(&mut client, 4));
    assert!(result.is_err(), "a write was done behind one that was refused");
    check(&region, 4, 64);
    expect_refused_ends(h, client, server);
    let all = content(&lent.shared);
    check(&all[..64], 1, 64);
    assert!(all[64..].iter().all(|byte| *byte == 0), "a refused write, or one behind it, was done in part");
}

/// A target that waits for a message hears of the end, and a close of what was refused is not clean.
pub fn a_refusal_wakes_the_target<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 256, Access::ReadOnly);
    let forged = Forged { access: Access::ReadWrite, ..Forged::of(&lent.remote) }.told();
    let counter = crate::wait::Counter::new();
    let waker = counter.waker();
    let waits = trespass_core::RecvSide::poll_recv_ready(&mut server, &mut std::task::Context::from_waker(&waker));
    assert!(waits.is_pending(), "ready, though nothing was sent");
    h.wait("a permit", put_write(&mut client, stamped(&fabrics.client, 1, 8), 0, slice(&forged, 0, 8), 1));
    let result = h.wait("a close", client.close());
    let error = result.expect_err("a close is clean, though a write was refused");
    expect_kind("a close after a refusal", &error, &[ErrorKind::RemoteAccess]);
    counter.expect_wake(h, "the end, which the target's receive side waited for");
    expect_kind("the end at the target", &receive_end(h, &mut server), TARGET_ENDS);
    expect_kind("the end at the target", &send_end(h, &mut server), TARGET_ENDS);
    let (_, result) = h.wait("a completion", memory_of(&mut client, 1));
    expect_kind("a refused write", &result.expect_err("it was refused"), &[ErrorKind::RemoteAccess]);
    expect_no_more(&mut client, &[ErrorKind::RemoteAccess]);
}

/// Bytes that are no window are none, whatever they are; of those that are, no part leaves its bounds, and what they claim is
/// refused by the device.
pub fn nonsense_is_no_window<H: MemoryHarness>(h: &H) {
    let Loan { mut pair, lent } = loan(h, 256, Access::ReadWrite);
    let good = lent.remote.encode();
    for len in (0..64).filter(|len| *len != RemoteWindow::ENCODED) {
        let bytes: Vec<u8> = good.iter().copied().cycle().take(len).collect();
        assert_eq!(RemoteWindow::decode(&bytes), Err(BadWindow::Length { len }));
    }
    let mut dice = Dice::new(97);
    let mut made_up = Vec::new();
    for _ in 0..5000 {
        let mut bytes = good;
        for _ in 0..1 + dice.below(6) {
            bytes[dice.below(RemoteWindow::ENCODED)] = dice.roll().to_le_bytes()[0];
        }
        let Ok(window) = RemoteWindow::decode(&bytes) else { continue };
        assert_eq!(window.encode(), bytes, "a window says other bytes of itself than it was made of");
        let (offset, len) = (dice.roll() >> dice.below(64), dice.below(1 << 20));
        let inside = offset.checked_add(len as u64).is_some_and(|end| end <= window.len());
        assert_eq!(window.slice(offset, len).is_ok(), inside, "{len} bytes from {offset} of {window:?}");
        if bytes[4..16] != good[4..16] && window.len() >= 8 {
            made_up.push(window);
        }
    }
    for window in made_up.into_iter().step_by(7).take(h.many(40)) {
        let (mut client, server) = join(h, &pair.fabrics.client, &mut pair.listener);
        let (_, result) = h.wait("a read", async {
            put_read(&mut client, region(&pair.fabrics.client, 8), 0, slice(&window, 0, 8), 1).await;
            memory_of(&mut client, 1).await
        });
        // It may happen to lie inside, with the right key.
        let real = Forged::of(&lent.remote);
        let forged = Forged::of(&window);
        let inside = forged.key == real.key && (real.start..=real.start + real.len - 8).contains(&forged.start);
        assert_eq!(result.is_ok(), inside, "a read of eight bytes at the beginning of {window:?}");
        if let Err(error) = result {
            expect_kind("a read of a made-up window", &error, &[ErrorKind::RemoteAccess]);
            expect_refused_ends(h, client, server);
        }
    }
    let from = stamped(&pair.fabrics.client, 1, 256);
    h.wait("a write", write(&mut pair.client, from, 0, slice(&lent.remote, 0, 256), 1));
    drop(h.wait("a permit", pair.client.fetch_permit()).unwrap_or_else(|error| panic!("no permit: {error}")));
    exchange(h, &mut pair.client, &mut pair.server, 1);
}
