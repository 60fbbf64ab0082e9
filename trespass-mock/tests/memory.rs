//! One-sided memory: what is counted, what is limited, and the corners that only this device has.

mod common;

use common::{Wakeups, blocks, failure, join, kind_of, pair, put, queue, small, take};
use std::task::Context;
use trespass_core::{
    Access, Completed, ErrorKind, MemoryFabric, RecvSide, Region, RemoteMemory, SendSide, SharedRegion, TransportError,
    Window,
};
use trespass_mock::{MockError, MockFabric, MockNet, MockRegion, MockSharedRegion, MockTrack, MockWindow};

/// Two fabrics of one net, two tracks, and memory of the server's.
struct Bench {
    client: MockTrack,
    server: MockTrack,
    ours: MockFabric,
    theirs: MockFabric,
    shared: MockSharedRegion,
    window: MockWindow,
}

fn bench(access: Access) -> Bench {
    let net = MockNet::new();
    let (ours, theirs) = (net.fabric(small()).unwrap(), net.fabric(small()).unwrap());
    let (client, server) = join(&ours, &theirs);
    let shared = theirs.alloc(64).unwrap().share();
    let window = shared.export(0..64, access).unwrap();
    Bench { client, server, ours, theirs, shared, window }
}

impl Bench {
    fn write(&mut self, len: usize, tag: u64) {
        let permit = self.client.try_write_permit().unwrap();
        let to = self.window.remote().slice(0, len).unwrap();
        self.client.write(permit, self.ours.alloc(len).unwrap(), 0, to, tag).map_err(|unsent| unsent.error).unwrap();
    }

    fn read(&mut self, len: usize, tag: u64) {
        let permit = self.client.try_fetch_permit().unwrap();
        let from = self.window.remote().slice(0, len).unwrap();
        self.client.read(permit, self.ours.alloc(len).unwrap(), 0, from, tag).map_err(|unsent| unsent.error).unwrap();
    }
}

fn memory(completed: Completed<MockRegion, MockError>) -> (MockRegion, Result<(), MockError>) {
    match completed {
        Completed::Memory { region, result, .. } => (region, result),
        _ => panic!("no memory"),
    }
}

#[test]
fn operations_are_counted() {
    let mut bench = bench(Access::ReadWrite);
    bench.write(10, 1);
    bench.read(20, 2);
    assert!(queue(&mut bench.client, b"hello"));
    let permit = bench.client.try_fetch_permit().unwrap();
    let word = bench.window.remote().word(0).unwrap();
    bench.client.fetch_add(permit, word, 5, 3).map_err(|unsent| unsent.error).unwrap();
    let mut head = bench.client.try_reserve(3).unwrap();
    head.copy_from_slice(b"abc");
    let mut body = bench.ours.alloc(5).unwrap();
    body.copy_from_slice(b"defgh");
    bench.client.send_gathered(head, body, 1..4, 4).map_err(|unsent| unsent.error).unwrap();
    bench.client.flush().unwrap();
    let counters = bench.client.counters();
    assert_eq!((counters.doorbells, counters.sends, counters.operations), (1, 1, 4));
    assert_eq!((counters.dma_copies, counters.dma_bytes), (4, 10 + 20 + 5 + 6), "an addition copies nothing");
    assert_eq!(*take(&mut bench.server), *b"hello");
    assert_eq!(*take(&mut bench.server), *b"abcefg");
    assert_eq!(bench.server.counters().refusals, 0);
    for tag in 1..5 {
        assert_eq!(bench.client.try_complete().unwrap().tag(), tag);
    }
    assert!(blocks(bench.client.try_complete()));
    assert_eq!(bench.client.counters().arms, 0);
}

#[test]
fn a_refusal_is_counted_where_it_was_refused() {
    let mut bench = bench(Access::ReadWrite);
    let remote = bench.window.remote();
    bench.window.revoke().unwrap();
    let permit = bench.client.try_fetch_permit().unwrap();
    let into = bench.ours.alloc(8).unwrap();
    bench.client.read(permit, into, 0, remote.slice(0, 8).unwrap(), 1).map_err(|unsent| unsent.error).unwrap();
    bench.client.flush().unwrap();
    assert_eq!((bench.client.counters().refusals, bench.server.counters().refusals), (0, 1));
    assert_eq!(bench.theirs.counters().refusals, 1);
    let error = memory(bench.client.try_complete().unwrap()).1.unwrap_err();
    assert!(error.to_string().contains("revoked"), "{error}");
    assert_eq!(failure(bench.client.try_complete()), error, "the first cause is what ended the track");
    assert_eq!(failure(bench.client.try_recv()), error);
    assert_eq!(kind_of(bench.server.try_recv()), ErrorKind::Closed);
    assert_eq!(bench.client.counters().dma_copies, 0, "nothing was moved");
}

#[test]
fn a_refusal_behind_a_stall_is_found_by_the_receiver() {
    let mut bench = bench(Access::ReadOnly);
    let mut held: Vec<_> = (0..8)
        .map(|id| {
            put(&mut bench.client, &[id]);
            take(&mut bench.server)
        })
        .collect();
    put(&mut bench.client, b"stalls");
    // A window that may be written, as a hostile requester would have it.
    let mut bytes = bench.window.remote().encode();
    bytes[1] = 1;
    let forged = trespass_core::RemoteWindow::decode(&bytes).unwrap();
    let permit = bench.client.try_write_permit().unwrap();
    let from = bench.ours.alloc(8).unwrap();
    bench.client.write(permit, from, 0, forged.slice(0, 8).unwrap(), 1).map_err(|unsent| unsent.error).unwrap();
    bench.read(8, 2);
    let (completer, waker) = Wakeups::new();
    assert!(bench.client.poll_complete_ready(&mut Context::from_waker(&waker)).is_pending());
    held.clear();
    // The receiver posts receives again: the message goes, and the write behind it is refused.
    assert_eq!(*take(&mut bench.server), *b"stalls");
    assert!(completer.take() > 0, "a completion wakes who waits for it");
    assert_eq!(bench.server.counters().refusals, 1);
    assert_eq!(kind_of(bench.server.try_recv()), ErrorKind::Closed);
    for tag in 1..3 {
        let completed = bench.client.try_complete().unwrap();
        assert_eq!(completed.tag(), tag);
        assert_eq!(memory(completed).1.unwrap_err().kind(), ErrorKind::RemoteAccess);
    }
    assert_eq!(kind_of(bench.client.try_complete()), ErrorKind::RemoteAccess);
    let mut all = [0; 64];
    bench.shared.read_at(0, &mut all).unwrap();
    assert_eq!(all, [0; 64]);
}

#[test]
fn memory_is_limited() {
    let fabric = MockNet::new().fabric(small().with_memory_limit(100)).unwrap();
    let some = fabric.alloc(60).unwrap();
    let error = fabric.alloc(41).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceLimit);
    assert_eq!(error, MockError::MemoryLimit { len: 41, used: 60, limit: 100 });
    let unsent = fabric.adopt(vec![7; 41].into()).unwrap_err();
    assert_eq!((unsent.error.kind(), &*unsent.buf), (ErrorKind::ResourceLimit, &[7; 41][..]));
    let rest = fabric.alloc(40).unwrap();
    // It counts for as long as it is anywhere, and once.
    let shared = some.share();
    let window = shared.export(0..60, Access::ReadOnly).unwrap();
    drop(shared);
    assert!(fabric.alloc(1).is_err());
    drop(window);
    drop(fabric.alloc(60).unwrap());
    drop(rest);
    drop(fabric.alloc(100).unwrap());
}

#[test]
fn fetches_are_limited() {
    let error = MockNet::new().fabric(small().with_fetch_slots(0)).unwrap_err();
    assert!(error.to_string().contains("fetch_slots"), "{error}");
    let (mut client, _server) = pair(small().with_fetch_slots(2));
    assert_eq!(client.fetch_slots(), 2);
    let one = client.try_fetch_permit().unwrap();
    let other = client.try_fetch_permit().unwrap();
    assert!(blocks(client.try_fetch_permit()));
    let rest: Vec<_> = std::iter::from_fn(|| client.try_write_permit().ok()).collect();
    assert_eq!(rest.len(), 6, "a fetch that found no place costs no slot");
    drop((one, rest));
    let again = client.try_fetch_permit().unwrap();
    assert!(blocks(client.try_fetch_permit()));
    drop((other, again));
    // No more than there are slots.
    let (client, _server) = pair(small().with_fetch_slots(100));
    assert_eq!(client.fetch_slots(), 8);
}

#[test]
fn a_killed_fabric_lends_nothing() {
    let mut bench = bench(Access::ReadWrite);
    bench.write(8, 1);
    bench.theirs.kill();
    assert_eq!(kind_of(bench.client.try_recv()), ErrorKind::Closed, "a death looks like a close");
    assert_eq!(memory(bench.client.try_complete().unwrap()).1.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(bench.theirs.alloc(1).unwrap_err().kind(), ErrorKind::Device);
    assert_eq!(bench.shared.export(0..1, Access::ReadOnly).unwrap_err().kind(), ErrorKind::Device);
    // Its memory is there, and its windows are gone from it.
    drop(bench.window);
    assert!(bench.shared.reclaim().is_ok());
}

#[test]
fn keys_tell_nothing_of_one_another() {
    let shared = MockFabric::new().alloc(64).unwrap().share();
    let windows: Vec<_> = (0..100).map(|_| shared.export(0..64, Access::ReadOnly).unwrap()).collect();
    let mut keys: Vec<_> = windows.iter().map(|window| window.remote().slice(0, 1).unwrap().key()).collect();
    let mut steps: Vec<_> = keys.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    keys.sort_unstable();
    keys.dedup();
    steps.sort_unstable();
    steps.dedup();
    assert_eq!((keys.len(), steps.len()), (100, 99), "keys, or the steps between them, repeat");
}

#[test]
fn a_dropped_track_does_nothing_more() {
    let mut bench = bench(Access::ReadWrite);
    bench.write(8, 1);
    drop(bench.client);
    assert_eq!(kind_of(bench.server.try_recv()), ErrorKind::Closed);
    let mut all = [0; 64];
    bench.shared.read_at(0, &mut all).unwrap();
    assert_eq!(all, [0; 64], "what was never flushed was done");
}
