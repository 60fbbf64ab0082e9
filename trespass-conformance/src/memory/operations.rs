//! Reads, writes and gathered sends: what they move, in which order, and what is refused before it is queued.

use std::ops::Range;

use trespass_core::{
    Access, Completed, Endpoint, ErrorKind, Region, RemoteMemory, SendSide, SharedRegion, TransportError, Unsent,
};

use super::{
    Loan, MemoryWait, Stop, check_part, claim_all, content, done, expect_all_permits, lend, loan, memory_of, put_add,
    put_read, put_write, read, region, slice, stamped, sync, word_of, write,
};
use crate::harness::{MemoryHarness, skip};
use crate::traffic::{
    Pair, bytes, check, exchange, expect_kind, join, now, pair, put, put_flushed, settle, stamp, take, try_put,
};
use crate::wait::{SendWait, Waits, both, poll_once};

/// Every length is written and read whole, wherever it begins and ends, and nothing beside it is touched.
pub fn every_length_is_written_and_read<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 70_000, Access::ReadWrite);
    let max = client.limits().max_message;
    let mut lengths = vec![0, 1, 2, 7, 8, 9, 63, 64, 65, 1023, 1024, 1025, 4095, 4096, 4097, max, max + 1, 3 * max + 5];
    lengths.push(65_537);
    for (len, id) in lengths.into_iter().filter(|len| *len <= 69_000).zip(100..) {
        for (at, offset) in [(0, 0), (13, 0), (0, 13), (5, 64), (3, 70_000 - len)] {
            lent.shared.write_at(0, &vec![0; 70_000]).expect("it lies inside");
            let mut from = region(&fabrics.client, len + 29);
            stamp(&mut from[at..at + len], id);
            let from = h.wait("a write", write(&mut client, from, at, slice(&lent.remote, offset, len), id));
            check_part(&from, at..at + len, id, "a write changed its own memory, or it");
            sync(h, &mut client, &mut server);
            check_part(&content(&lent.shared), offset..offset + len, id, "a write");
            let into = region(&fabrics.client, len + 29);
            let into = h.wait("a read", read(&mut client, into, at, slice(&lent.remote, offset, len), id));
            check_part(&into, at..at + len, id, "a read");
        }
    }
}

/// The acceptor reads and writes the connector's memory as well, both at once.
pub fn both_ends_reach_each_other<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 512, Access::ReadWrite);
    let ours = lend(&fabrics.client, 512, Access::ReadWrite);
    for id in 0..h.many(200) as u64 {
        let (from, theirs) = (stamped(&fabrics.client, id, 512), stamped(&fabrics.server, id + 1, 512));
        let there = write(&mut client, from, 0, slice(&lent.remote, 0, 512), id);
        let back = write(&mut server, theirs, 0, slice(&ours.remote, 0, 512), id);
        h.wait("two writes at once", both(there, back));
        let (into, theirs) = (region(&fabrics.client, 512), region(&fabrics.server, 512));
        let there = read(&mut client, into, 0, slice(&lent.remote, 0, 512), id);
        let back = read(&mut server, theirs, 0, slice(&ours.remote, 0, 512), id);
        let (into, theirs) = h.wait("two reads at once", both(there, back));
        check(&into, id, 512);
        check(&theirs, id + 1, 512);
    }
}

/// An operation of no bytes completes in its turn, between its neighbours.
pub fn an_operation_of_nothing_takes_its_turn<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 64, Access::ReadWrite);
    let all = h.wait("permits for five operations", async {
        put_write(&mut client, stamped(&fabrics.client, 1, 64), 0, slice(&lent.remote, 0, 64), 1).await;
        put_write(&mut client, stamped(&fabrics.client, 2, 8), 8, slice(&lent.remote, 64, 0), 2).await;
        let mut regions = Vec::new();
        put_read(&mut client, stamped(&fabrics.client, 3, 8), 3, slice(&lent.remote, 5, 0), 3).await;
        for tag in 1..4 {
            regions.push(done(&mut client, tag).await);
        }
        put_read(&mut client, region(&fabrics.client, 64), 0, slice(&lent.remote, 0, 64), 4).await;
        regions.push(done(&mut client, 4).await);
        regions
    });
    check(&all[1], 2, 8);
    check(&all[2], 3, 8);
    check(&all[3], 1, 64);
    let empty = h.wait("a slot", client.reserve(0)).expect("a slot");
    client.write_buf(empty, slice(&lent.remote, 7, 0)).unwrap_or_else(|unsent| panic!("refused: {}", unsent.error));
    sync(h, &mut client, &mut server);
    check(&content(&lent.shared), 1, 64);
    expect_all_permits(h, &mut client);
}

/// What does not fit, or may not be, comes back as it was, with its permit, and the track lives on.
pub fn misfits_come_back<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 256, Access::ReadWrite);
    let read_only = lend(&fabrics.server, 256, Access::ReadOnly);
    let to = |len| slice(&lent.remote, 0, len);
    for (at, len) in [(0, 101), (100, 1), (101, 0), (usize::MAX, 1), (usize::MAX, 0), (1, 100), (99, 2)] {
        let permit = now(client.try_write_permit()).expect("a permit of an idle track");
        let refused = client.write(permit, stamped(&fabrics.client, 1, 100), at, to(len), 1);
        came_back("a write that does not fit", refused, ErrorKind::Oversize, 1);
        let permit = now(client.try_fetch_permit()).expect("a permit of an idle track");
        let refused = client.read(permit, stamped(&fabrics.client, 2, 100), at, to(len), 2);
        came_back("a read that does not fit", refused, ErrorKind::Oversize, 2);
    }
    let permit = now(client.try_write_permit()).expect("a permit of an idle track");
    let refused = client.write(permit, stamped(&fabrics.client, 1, 100), 0, slice(&read_only.remote, 0, 100), 1);
    came_back("a write to a read-only window", refused, ErrorKind::RemoteAccess, 1);
    for (len, window, kind) in [
        (9, &lent.remote, ErrorKind::Oversize),
        (7, &lent.remote, ErrorKind::Oversize),
        (8, &read_only.remote, ErrorKind::RemoteAccess),
    ] {
        let mut buf = now(client.try_reserve(8)).expect("a slot of an idle track");
        stamp(&mut buf, 3);
        let unsent = client.write_buf(buf, slice(window, 0, len)).expect_err("a write that may not be was queued");
        expect_kind("a write of a buffer", &unsent.error, &[kind]);
        check(&unsent.buf, 3, 8);
    }
    if h.has_atomics() {
        let word = read_only.remote.word(0).expect("an aligned word");
        let permit = now(client.try_fetch_permit()).expect("a permit of an idle track");
        let unsent = client.fetch_add(permit, word, 1, 1).expect_err("an addition to a read-only window was queued");
        expect_kind("an addition to a read-only window", &unsent.error, &[ErrorKind::RemoteAccess]);
        // The permit that came back is as good as it was.
        let unsent = client.compare_swap(unsent.buf, word, 0, 1, 1).expect_err("an exchange was queued");
        expect_kind("an exchange in a read-only window", &unsent.error, &[ErrorKind::RemoteAccess]);
    }
    assert!(now(client.try_complete()).is_none(), "what was not queued has completed");
    expect_all_permits(h, &mut client);
    sync(h, &mut client, &mut server);
    assert!(content(&lent.shared).iter().all(|byte| *byte == 0), "what was refused has written");
    exchange(h, &mut client, &mut server, 1);
}

/// Checks that memory and permit of a refused operation came back, and that the memory is that of message `id`.
fn came_back<P, R: Region, E: TransportError>(
    what: &str,
    result: Result<(), Unsent<(P, R), E>>,
    kind: ErrorKind,
    id: u64,
) {
    let Err(Unsent { buf: (permit, region), error }) = result else { panic!("{what} was queued") };
    expect_kind(what, &error, &[kind]);
    check(&region, id, 100);
    drop((permit, region));
}

/// Permits and buffers of another track, and memory of another fabric, come back, and everything lives on.
pub fn foreign_permits_and_memory_come_back<H: MemoryHarness>(h: &H) {
    let Loan { pair: mut one, lent } = loan(h, 100, Access::ReadWrite);
    let (mut client, _server) = join(h, &one.fabrics.client, &mut one.listener);
    let mut other = pair(h);
    let slots = one.client.limits().send_slots;
    let to = slice(&lent.remote, 0, 100);
    let foreign = ErrorKind::ForeignBuffer;
    for _ in 0..=slots {
        let ours = &one.fabrics.client;
        let permit = now(client.try_write_permit()).expect("a permit of an idle track");
        came_back(
            "a write with another track's permit",
            one.client.write(permit, stamped(ours, 1, 100), 0, to, 1),
            foreign,
            1,
        );
        let permit = now(client.try_fetch_permit()).expect("a permit of an idle track");
        came_back(
            "a read with another track's permit",
            one.client.read(permit, stamped(ours, 1, 100), 0, to, 1),
            foreign,
            1,
        );
        let theirs = &other.fabrics.client;
        let permit = now(one.client.try_write_permit()).expect("a permit of an idle track");
        came_back(
            "a write from another fabric's memory",
            one.client.write(permit, stamped(theirs, 1, 100), 0, to, 1),
            foreign,
            1,
        );
        let permit = now(one.client.try_fetch_permit()).expect("a permit of an idle track");
        came_back(
            "a read into another fabric's memory",
            one.client.read(permit, stamped(theirs, 1, 100), 0, to, 1),
            foreign,
            1,
        );
        let head = now(one.client.try_reserve(4)).expect("a slot of an idle track");
        came_back(
            "a message of another fabric's memory",
            one.client.send_gathered(head, stamped(theirs, 1, 100), 0..100, 1),
            foreign,
            1,
        );
        let head = now(client.try_reserve(4)).expect("a slot of an idle track");
        came_back(
            "a message with another track's head",
            one.client.send_gathered(head, stamped(ours, 1, 100), 0..100, 1),
            foreign,
            1,
        );
        let buf = now(client.try_reserve(100)).expect("a slot of an idle track");
        let unsent = one.client.write_buf(buf, to).expect_err("a buffer of another track was written");
        expect_kind("a write of another track's buffer", &unsent.error, &[foreign]);
        if h.has_atomics() {
            let permit = now(client.try_fetch_permit()).expect("a permit of an idle track");
            let word = lent.remote.word(0).expect("an aligned word");
            let unsent = one.client.fetch_add(permit, word, 1, 1).expect_err("an addition with another's permit");
            expect_kind("an addition with another track's permit", &unsent.error, &[foreign]);
        }
    }
    expect_all_permits(h, &mut one.client);
    expect_all_permits(h, &mut client);
    exchange(h, &mut one.client, &mut one.server, 1);
    exchange(h, &mut other.client, &mut other.server, 1);
    assert!(content(&lent.shared).iter().all(|byte| *byte == 0), "what was refused has written");
}

/// A write is there when a message that was queued behind it arrives: in one flush or two, from memory or a buffer.
pub fn a_write_is_there_before_the_next_message<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 9000, Access::ReadWrite);
    let mut spare = Some(region(&fabrics.client, 9000));
    for id in 0..h.many(300) as u64 {
        let len = [1, 40, 512, 9000][id as usize % 4];
        let short = len <= client.limits().max_message && id % 3 == 0;
        if short {
            let mut buf = h.wait("a slot", client.reserve(len)).expect("a slot");
            stamp(&mut buf, id);
            let queued = client.write_buf(buf, slice(&lent.remote, 0, len));
            queued.unwrap_or_else(|unsent| panic!("cannot write a buffer: {}", unsent.error));
        } else {
            let mut from = spare.take().expect("it came back");
            stamp(&mut from[..len], id);
            h.wait("a permit", put_write(&mut client, from, 0, slice(&lent.remote, 0, len), id));
        }
        if id % 2 == 0 {
            client.flush().expect("a flush");
        }
        h.wait("a message", both(put_flushed(&mut client, id, 8), take(&mut server, id, 8)));
        check(&content(&lent.shared)[..len], id, len);
        if !short {
            spare = Some(h.wait("a completion", done(&mut client, id)));
        }
    }
}

/// Each operation sees what was queued before it, flushed with it or earlier.
pub fn operations_see_what_was_queued_before<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, server: _server, fabrics, .. }, lent } = loan(h, 4096, Access::ReadWrite);
    let all = slice(&lent.remote, 0, 4096);
    for id in 0..h.many(100) as u64 {
        let (from, into) = (stamped(&fabrics.client, id, 4096), region(&fabrics.client, 4096));
        h.wait("permits", async {
            put_write(&mut client, from, 0, all, 1).await;
            let mut buf = client.reserve(8).await.expect("a slot");
            buf.copy_from_slice(&id.to_ne_bytes());
            client.write_buf(buf, slice(&lent.remote, 8, 8)).unwrap_or_else(|unsent| panic!("{}", unsent.error));
        });
        let (_, was) = h.wait("two operations", async {
            let from = done(&mut client, 1).await;
            if !h.has_atomics() {
                return (from, None);
            }
            put_add(&mut client, lent.remote.word(8).expect("a word"), 1, 2).await;
            (from, Some(word_of(&mut client, 2).await.unwrap_or_else(|error| panic!("cannot add: {error}"))))
        });
        assert!(was.is_none_or(|was| was == id), "an addition found {was:?}, where {id} was written before it");
        let into = h.wait("a read", read(&mut client, into, 0, all, 3));
        let word = id + u64::from(was.is_some());
        let expected = bytes(id, 4096).take(8).chain(word.to_ne_bytes()).chain(bytes(id, 4096).skip(16));
        assert!(into.iter().copied().eq(expected), "a read does not see what was queued before it");
    }
}

/// Operations complete in the order of queueing, each once, with its tag and the very memory that it was given.
pub fn completions_come_in_order<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 1024, Access::ReadWrite);
    // Tags are the user's: any number, the same one twice too.
    let tags = [7, 7, 0, u64::MAX, 1 << 63, 3, 3, 2];
    for round in 0..h.many(50) as u64 {
        let count = client.limits().send_slots.min(client.fetch_slots()).min(tags.len());
        let mut places = Vec::new();
        for (at, tag) in tags.into_iter().take(count).enumerate() {
            let region = region(&fabrics.client, 1 + at);
            places.push((tag, at, region.as_ptr().addr()));
            let part = slice(&lent.remote, at * 16, 1 + at);
            match (at as u64 + round) % 2 {
                0 => h.wait("a permit", put_write(&mut client, region, 0, part, tag)),
                _ => h.wait("a permit", put_read(&mut client, region, 0, part, tag)),
            }
            if (at as u64 + round) % 3 == 0 {
                client.flush().expect("a flush");
            }
        }
        for (tag, at, place) in places {
            let region = h.wait(format_args!("completion {at}"), done(&mut client, tag));
            assert_eq!((region.len(), region.as_ptr().addr()), (1 + at, place), "other memory came back");
        }
        assert!(now(client.try_complete()).is_none(), "more completions than operations");
    }
    expect_all_permits(h, &mut client);
    exchange(h, &mut client, &mut server, 1);
}

/// Messages and operations that are queued and flushed together ring one doorbell.
pub fn operations_share_the_doorbell<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 64, Access::ReadWrite);
    let Some(before) = h.doorbells(&client) else {
        return skip("this fabric does not count doorbells");
    };
    assert!(try_put(&mut client, 1, 16), "no slot on an idle track");
    let permit = now(client.try_write_permit()).expect("a permit of an idle track");
    let from = stamped(&fabrics.client, 2, 64);
    client.write(permit, from, 0, slice(&lent.remote, 0, 64), 1).unwrap_or_else(|unsent| panic!("{}", unsent.error));
    let permit = now(client.try_fetch_permit()).expect("a permit of an idle track");
    let into = region(&fabrics.client, 64);
    client.read(permit, into, 0, slice(&lent.remote, 0, 64), 2).unwrap_or_else(|unsent| panic!("{}", unsent.error));
    let head = now(client.try_reserve(16)).expect("a slot of an idle track");
    let body = region(&fabrics.client, 16);
    client.send_gathered(head, body, 0..16, 3).unwrap_or_else(|unsent| panic!("{}", unsent.error));
    client.flush().expect("a flush");
    assert_eq!(h.doorbells(&client), Some(before + 1), "doorbells after one flush of messages and operations");
    for _ in 0..2 {
        h.wait("a message", crate::wait::RecvWait::recv(&mut server)).unwrap_or_else(|error| panic!("{error}"));
    }
    for tag in 1..4 {
        h.wait("a completion", done(&mut client, tag));
    }
    assert_eq!(h.doorbells(&client), Some(before + 1), "doorbells for waits with nothing queued");
}

/// While an operation waits behind a message that has no room, its memory is the device's, and nothing is done; when there
/// is room everything goes on.
pub fn memory_stays_with_an_operation_that_waits<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 64, Access::ReadWrite);
    let held = fill(h, &mut client, &mut server);
    assert!(try_put(&mut client, 900, 20), "no slot of an idle track");
    h.wait("permits", async {
        put_write(&mut client, stamped(&fabrics.client, 1, 64), 0, slice(&lent.remote, 0, 64), 1).await;
        put_read(&mut client, region(&fabrics.client, 64), 0, slice(&lent.remote, 0, 64), 2).await;
    });
    let head = now(client.try_reserve(0)).expect("a slot of an idle track");
    let body = stamped(&fabrics.client, 901, 20);
    client.send_gathered(head, body, 0..20, 3).unwrap_or_else(|unsent| panic!("{}", unsent.error));
    client.flush().expect("a flush");
    assert!(h.stays(|| now(client.try_complete())).is_none(), "memory came back before its operation was done");
    assert!(poll_once(|cx| client.poll_complete_ready(cx)).is_none(), "ready, and nothing is completed");
    assert!(content(&lent.shared).iter().all(|byte| *byte == 0), "a write has overtaken a message");
    drop(held);
    drop(h.wait("the message that waited", take(&mut server, 900, 20)));
    h.wait("a completion", done(&mut client, 1));
    let into = h.wait("a completion", done(&mut client, 2));
    check(&into, 1, 64);
    drop(h.wait("the gathered message", take(&mut server, 901, 20)));
    h.wait("a completion", done(&mut client, 3));
    expect_all_permits(h, &mut client);
}

/// Sends as many messages as the receiver has room for, all of which it holds.
pub(super) fn fill<H: MemoryHarness, S: SendSide, R: trespass_core::RecvSide>(
    h: &H,
    sender: &mut S,
    receiver: &mut R,
) -> Vec<R::RecvBuf> {
    let room = receiver.limits().recv_slots as u64;
    let held = (0..room).map(|id| h.wait("a message", both(put_flushed(sender, id, 20), take(receiver, id, 20))).1);
    let held = held.collect();
    settle(h, sender);
    held
}

/// A gathered send is one message, whatever its parts, and takes its turn among others; the body comes back.
pub fn gathered_sends_arrive_as_one_message<H: MemoryHarness>(h: &H) {
    let Pair { mut client, mut server, fabrics, .. } = pair(h);
    let max = client.limits().max_message;
    let mut body = Some(region(&fabrics.client, max + 100));
    let cases: [(usize, Range<usize>); 10] = [
        (0, 0..0),
        (1, 0..0),
        (0, 0..1),
        (8, 3..40),
        (max, 5..5),
        (0, 0..max),
        (0, 100..max + 100),
        (max / 2, 7..7 + max - max / 2),
        (1, 1..max),
        (20, max + 100..max + 100),
    ];
    for ((head, range), id) in cases.into_iter().zip(0..) {
        let (id, len) = (id * 10, head + range.len());
        let mut region = body.take().expect("it came back");
        region.fill(0xEE);
        let mut buf = h.wait("a slot", client.reserve(head)).expect("a slot");
        // One message, the end of which is in the body.
        let whole: Vec<u8> = bytes(id + 1, len).collect();
        buf.copy_from_slice(&whole[..head]);
        region[range.clone()].copy_from_slice(&whole[head..]);
        h.wait("a slot", put(&mut client, id, 9));
        let queued = client.send_gathered(buf, region, range.clone(), id);
        queued.unwrap_or_else(|unsent| panic!("cannot gather {head} bytes and {range:?}: {}", unsent.error));
        h.wait("a slot", put_flushed(&mut client, id + 2, 9));
        drop(h.wait("the message before", take(&mut server, id, 9)));
        drop(h.wait("a gathered message", take(&mut server, id + 1, len)));
        drop(h.wait("the message behind", take(&mut server, id + 2, 9)));
        body = Some(h.wait("a completion", done(&mut client, id)));
    }
    #[allow(clippy::reversed_empty_ranges)]
    for (head, range) in
        [(0, 0..max + 1), (1, 0..max), (0, max..max + 101), (0, 5..4), (0, usize::MAX..usize::MAX), (max, 0..1)]
    {
        let buf = now(client.try_reserve(head)).expect("a slot of an idle track");
        let region = body.take().expect("it came back");
        let Err(Unsent { buf: (_, region), error }) = client.send_gathered(buf, region, range.clone(), 1) else {
            panic!("{head} bytes and {range:?} of {} were queued, where {max} is the most", max + 100)
        };
        expect_kind("a gathered send that does not fit", &error, &[ErrorKind::Oversize]);
        assert_eq!(region.len(), max + 100, "other memory came back");
        body = Some(region);
    }
    expect_all_permits(h, &mut client);
    exchange(h, &mut client, &mut server, 1);
}

/// Many operations of all sorts, a few at a time: each brings what it should, and none costs a slot.
pub fn many_operations_cost_no_slot<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 4096, Access::ReadWrite);
    let slots = client.limits().send_slots;
    let mut spare: Vec<_> = (0..slots).map(|_| region(&fabrics.client, 64)).collect();
    let count = h.many(2000) as u64;
    for first in (0..count).step_by(slots) {
        let writes = first..first + slots as u64;
        for id in writes.clone() {
            let mut from = spare.pop().expect("it came back");
            stamp(&mut from, id);
            let part = slice(&lent.remote, (id as usize % 64) * 64, 64);
            h.wait("a permit", put_write(&mut client, from, 0, part, id));
        }
        for id in writes.clone() {
            spare.push(h.wait("a write", done(&mut client, id)));
        }
        for id in writes {
            let into = spare.pop().expect("it came back");
            let part = slice(&lent.remote, (id as usize % 64) * 64, 64);
            let into = h.wait("a read", read(&mut client, into, 0, part, id));
            check(&into, id, 64);
            spare.push(into);
        }
    }
    let permits = claim_all(&mut client, slots, RemoteMemory::try_write_permit);
    assert_eq!(permits.len(), slots, "operations have cost slots");
    drop(permits);
    expect_all_permits(h, &mut client);
    exchange(h, &mut client, &mut server, 1);
}

/// Whatever is read while it is written is bytes that were written, and the last of it is right.
pub fn a_read_beside_writes_brings_bytes_that_were_written<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, server: _server, fabrics, .. }, lent } = loan(h, 2048, Access::ReadOnly);
    let rounds = h.many(200);
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let (shared, stopped) = (lent.shared.clone(), stop.watch());
        scope.spawn(move || {
            // Once at least, however late this thread begins.
            loop {
                for byte in [0x11, 0x22] {
                    shared.write_at(0, &[byte; 2048]).expect("it lies inside");
                }
                if stopped() {
                    break;
                }
            }
        });
        let mut into = Some(region(&fabrics.client, 2048));
        for tag in 0..rounds as u64 {
            let got = into.take().expect("it came back");
            let got = h.wait("a read", read(&mut client, got, 0, slice(&lent.remote, 0, 2048), tag));
            assert!(got.iter().all(|byte| [0, 0x11, 0x22].contains(byte)), "bytes that nobody wrote");
            into = Some(got);
        }
        drop(stop);
    });
    let got = h.wait("a read", read(&mut client, region(&fabrics.client, 2048), 0, slice(&lent.remote, 0, 2048), 1));
    assert!(got.iter().all(|byte| *byte == 0x22), "a read does not see what its owner wrote before");
    // The completions are those of this test alone.
    let over = poll_once(|cx| client.poll_complete_ready(cx)).is_some();
    assert!(!over, "ready, and nothing is completed");
    let none: Option<Completed<_, _>> = now(client.try_complete());
    assert!(none.is_none(), "more completions than operations");
    let (_, result) = h.wait("a read", async {
        put_read(&mut client, region(&fabrics.client, 8), 0, slice(&lent.remote, 0, 8), 9).await;
        memory_of(&mut client, 9).await
    });
    assert!(result.is_ok(), "a read of a live window has failed");
    drop(h.wait("a permit", client.fetch_permit()).expect("a permit"));
}
