//! Memory itself: allocated, adopted, shared, reclaimed, and alive when all else is gone.

use std::thread;

use trespass_core::{Access, ErrorKind, MemoryFabric, OutOfBounds, Region, RemoteWindow, SharedRegion, Window};

use super::{content, done, export, lend, loan, put_read, read, region, slice, stamped, told, write};
use crate::harness::{Fabrics, MemoryHarness};
use crate::traffic::{BLANK, Pair, check, expect_kind, stamp};
use crate::wait::Waits;

/// Memory is blank, of the length asked for, and begins at a page; also when memory of that length was used before.
pub fn memory_is_blank_and_aligned<H: MemoryHarness>(h: &H) {
    let fabric = h.fabrics().client;
    for len in [1, 7, 8, 100, 4095, 4096, 4097, 100_000] {
        for round in 0..3 {
            let mut some = [region(&fabric, len), region(&fabric, len)];
            for region in &mut some {
                assert!(region.iter().all(|byte| *byte == BLANK), "{len} bytes are not blank in round {round}");
                assert_eq!(region.as_ptr().addr() % 4096, 0, "{len} bytes do not begin at a page");
                region.fill(0xEE);
            }
            // What was lent is no exception.
            let [one, other] = some;
            let shared = other.share();
            drop(export(&shared, 0..len, Access::ReadWrite));
            drop((one, shared));
        }
    }
}

/// No memory at all is a mistake, too much is a limit; either way the fabric gives what it can after it.
pub fn memory_that_cannot_be_had_is_refused<H: MemoryHarness>(h: &H) {
    let fabric = h.fabrics().client;
    let refused = |len, kind| {
        let error = fabric.alloc(len).err().unwrap_or_else(|| panic!("{len} bytes of memory are there"));
        expect_kind(&format!("an allocation of {len} bytes"), &error, &[kind]);
    };
    refused(0, ErrorKind::Config);
    for len in [usize::MAX, usize::MAX - 4096, isize::MAX as usize, 1 << 46] {
        refused(len, ErrorKind::ResourceLimit);
    }
    let unsent = fabric.adopt(Box::default()).err().expect("memory without a byte was adopted");
    expect_kind("an adoption of nothing", &unsent.error, &[ErrorKind::Config]);
    assert!(unsent.buf.is_empty(), "other memory came back");
    drop(region(&fabric, 100));
}

/// Memory that is adopted keeps its bytes, and does all that other memory does.
pub fn adopted_memory_keeps_its_bytes<H: MemoryHarness>(h: &H) {
    let Fabrics { client: fabric, .. } = h.fabrics();
    for len in [1, 100, 5000] {
        let mut memory = vec![BLANK; len].into_boxed_slice();
        stamp(&mut memory, 5);
        let adopted = fabric.adopt(memory).unwrap_or_else(|unsent| panic!("not adopted: {}", unsent.error));
        check(&adopted, 5, len);
        let shared = adopted.share();
        check(&content(&shared), 5, len);
        check(&shared.reclaim().ok().expect("memory that nobody else has"), 5, len);
    }
    let super::Loan { pair: Pair { mut client, server: _server, fabrics, .. }, lent } = loan(h, 600, Access::ReadWrite);
    let mut memory = vec![BLANK; 600].into_boxed_slice();
    stamp(&mut memory, 6);
    let adopted = fabrics.client.adopt(memory).unwrap_or_else(|unsent| panic!("not adopted: {}", unsent.error));
    let mut adopted = h.wait("a write", write(&mut client, adopted, 0, slice(&lent.remote, 0, 600), 1));
    adopted.fill(BLANK);
    let adopted = h.wait("a read", read(&mut client, adopted, 0, slice(&lent.remote, 0, 600), 2));
    check(&adopted, 6, 600);
}

/// What is shared is the same memory; what does not lie inside is refused and changes nothing.
pub fn shared_memory_is_the_same<H: MemoryHarness>(h: &H) {
    let fabric = h.fabrics().client;
    let shared = stamped(&fabric, 1, 64).share();
    assert_eq!((shared.len(), shared.is_empty()), (64, false));
    check(&content(&shared), 1, 64);
    let before = content(&shared);
    let refused = |offset: usize, len: usize| {
        let expected = OutOfBounds { offset: offset as u64, len: len as u64, size: 64, unaligned: false };
        let mut into = vec![7; len];
        assert_eq!(shared.read_at(offset, &mut into), Err(expected));
        assert!(into.iter().all(|byte| *byte == 7), "a refused copy has copied");
        assert_eq!(shared.write_at(offset, &into), Err(expected));
    };
    for (offset, len) in [(0, 65), (64, 1), (65, 0), (1, 64), (usize::MAX, 1), (usize::MAX, 0), (usize::MAX - 7, 8)] {
        refused(offset, len);
    }
    for offset in [1, 4, 57, 60, 64, 72, usize::MAX, usize::MAX - 7] {
        assert!(shared.load(offset).is_err(), "a word at {offset} of 64 bytes was read");
        assert!(shared.store(offset, 7).is_err(), "a word at {offset} of 64 bytes was written");
    }
    assert!(shared.load(4).is_err_and(|refused| refused.unaligned), "what is wrong with a word at 4 is its alignment");
    assert_eq!(content(&shared), before, "what was refused has changed something");
    shared.write_at(64, &[]).expect("nothing, at the end");
    shared.write_at(3, &[1, 2, 3]).expect("three bytes that lie inside");
    shared.store(56, 0x0102_0304_0506_0708).expect("the last word");
    assert_eq!(shared.load(56), Ok(0x0102_0304_0506_0708));
    let all = content(&shared);
    assert_eq!(all[56..], 0x0102_0304_0506_0708_u64.to_ne_bytes(), "a word is in the byte order of this machine");
    assert_eq!((&all[..3], &all[3..6], &all[6..56]), (&before[..3], &[1, 2, 3][..], &before[6..56]));
}

/// Memory is owned again only when no window and no other handle is left; until then the handle comes back.
pub fn memory_is_reclaimed_when_nobody_has_it<H: MemoryHarness>(h: &H) {
    let fabric = h.fabrics().client;
    let region = stamped(&fabric, 1, 5000);
    let place = region.as_ptr().addr();
    let shared = region.share();
    let handle = shared.clone();
    let shared = shared.reclaim().err().expect("reclaimed, though there is another handle");
    drop(handle);
    let windows = [export(&shared, 0..5000, Access::ReadOnly), export(&shared, 100..200, Access::ReadWrite)];
    let mut shared = shared;
    for window in windows {
        shared = shared.reclaim().err().expect("reclaimed, though there is a window");
        window.revoke().unwrap_or_else(|error| panic!("cannot revoke: {error}"));
    }
    let shared = export_and_drop(shared);
    let region = shared.reclaim().ok().expect("memory that nobody else has");
    check(&region, 1, 5000);
    assert_eq!(region.as_ptr().addr(), place, "what was reclaimed is other memory");
    // Again and again.
    check(&region.share().reclaim().ok().expect("memory that nobody else has"), 1, 5000);
}

fn export_and_drop<S: SharedRegion>(shared: S) -> S {
    let window = export(&shared, 0..1, Access::ReadOnly);
    let shared = shared.reclaim().err().expect("reclaimed, though there is a window");
    drop(window);
    shared
}

/// What is empty or does not lie inside cannot be lent, and what can is told as it is.
pub fn windows_are_what_was_lent<H: MemoryHarness>(h: &H) {
    let fabric = h.fabrics().client;
    let shared = region(&fabric, 1000).share();
    #[allow(clippy::reversed_empty_ranges)]
    for range in [0..0, 5..5, 1000..1000, 7..6, 0..1001, 1000..1001, 5000..5001, 0..usize::MAX, usize::MAX..usize::MAX]
    {
        let refused = shared.export(range.clone(), Access::ReadOnly);
        let error = refused.err().unwrap_or_else(|| panic!("bytes {range:?} of 1000 are lent"));
        expect_kind(&format!("a window to bytes {range:?} of 1000"), &error, &[ErrorKind::Config]);
    }
    let mut windows: Vec<(RemoteWindow, _)> = Vec::new();
    for (range, access) in [(0..1000, Access::ReadOnly), (0..1000, Access::ReadWrite), (999..1000, Access::ReadOnly)] {
        let window = export(&shared, range.clone(), access);
        let remote = told(&window);
        assert_eq!((remote.len(), remote.access()), (range.len() as u64, access), "a window to {range:?}");
        assert!(windows.iter().all(|(other, _)| *other != remote), "two windows are one");
        windows.push((remote, window));
    }
    drop(windows);
    shared.reclaim().ok().expect("memory whose windows are gone");
}

/// Words are whole, whoever changes them meanwhile, and copies may be made from any thread.
pub fn words_are_whole<H: MemoryHarness>(h: &H) {
    let fabric = h.fabrics().client;
    let shared = region(&fabric, 64).share();
    let rounds = h.many(20_000) as u64;
    thread::scope(|scope| {
        let (ones, zeros) = (shared.clone(), shared.clone());
        scope.spawn(move || (0..rounds).for_each(|_| ones.store(8, u64::MAX).expect("a word")));
        scope.spawn(move || (0..rounds).for_each(|_| zeros.store(8, 0).expect("a word")));
        let mut some = [0; 24];
        for _ in 0..rounds {
            let word = shared.load(8).expect("a word");
            assert!(word == 0 || word == u64::MAX, "half a word: {word:#x}");
            shared.read_at(0, &mut some).expect("a part");
            assert!(some.iter().all(|byte| [0, 0xFF].contains(byte)), "bytes that nobody wrote");
        }
    });
}

/// Memory is there when track, listener and fabric are gone, and what it lends is lent on.
pub fn memory_outlives_everything<H: MemoryHarness>(h: &H) {
    let super::Loan { pair: Pair { mut client, server, listener, fabrics }, lent } = loan(h, 300, Access::ReadWrite);
    let owned = stamped(&fabrics.client, 1, 300);
    let blank = region(&fabrics.client, 300);
    drop((listener, fabrics));
    // Its fabric's last handle is gone: it is lent all the same, and through the track that there is.
    let owned = h.wait("a write", write(&mut client, owned, 0, slice(&lent.remote, 0, 300), 1));
    let blank = h.wait("a read", read(&mut client, blank, 0, slice(&lent.remote, 0, 300), 2));
    check(&blank, 1, 300);
    drop((client, server));
    check(&content(&lent.shared), 1, 300);
    check(&owned, 1, 300);
    lent.window.revoke().unwrap_or_else(|error| panic!("cannot revoke: {error}"));
    let again = export(&lent.shared, 1..2, Access::ReadOnly);
    drop(again);
    check(&lent.shared.reclaim().ok().expect("memory that nobody else has"), 1, 300);
    thread::scope(|scope| _ = scope.spawn(move || drop((owned, blank))));
}

/// A track that is dropped with operations under way takes its memory along, and disturbs nobody who lends.
pub fn a_dropped_track_keeps_its_memory_to_itself<H: MemoryHarness>(h: &H) {
    let fabrics = h.fabrics();
    let mut listener = crate::traffic::listen(h, &fabrics.server);
    let lent = lend(&fabrics.server, 4096, Access::ReadOnly);
    lent.shared.write_at(0, &vec![0x5A; 4096]).expect("it lies inside");
    for round in 0..h.many(20) {
        let (mut client, server) = crate::traffic::join(h, &fabrics.client, &mut listener);
        let reads = client_reads(&client).min(1 + round % 8);
        for tag in 0..reads as u64 {
            let into = region(&fabrics.client, 4096);
            h.wait("a permit", put_read(&mut client, into, 0, slice(&lent.remote, 0, 4096), tag));
        }
        trespass_core::SendSide::flush(&mut client).expect("a flush");
        drop(client);
        // Blank, whatever the device still brings: it is other memory, or was let go by the device.
        for _ in 0..reads {
            let fresh = region(&fabrics.client, 4096);
            assert!(
                fresh.iter().all(|byte| *byte == BLANK),
                "a read of a track that is gone wrote to memory given out"
            );
        }
        drop(server);
    }
    let (mut client, _server) = crate::traffic::join(h, &fabrics.client, &mut listener);
    let into = region(&fabrics.client, 4096);
    h.wait("a permit", put_read(&mut client, into, 0, slice(&lent.remote, 0, 4096), 1));
    let got = h.wait("a read", done(&mut client, 1));
    assert!(got.iter().all(|byte| *byte == 0x5A), "a read brought other bytes");
}

fn client_reads<S: trespass_core::RemoteMemory>(side: &S) -> usize {
    side.fetch_slots().min(side.limits().send_slots)
}
