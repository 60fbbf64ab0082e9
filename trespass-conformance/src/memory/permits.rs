//! Permits: where the back-pressure of operations is.

use std::task::{Context, Waker};
use std::thread;

use trespass_core::{Access, Endpoint, RemoteMemory, SendSide};

use super::{
    Loan, MemoryWait, claim_all, content, done, expect_all_permits, loan, put_read, put_write, region, slice, sync,
};
use crate::harness::MemoryHarness;
use crate::traffic::{Pair, exchange, now, pair, reserve_all, settle};
use crate::wait::{Counter, SendWait, Waits, poll_once};

/// Permits of both sorts and buffers share the send slots; what is beyond says `WouldBlock`, and one that comes free is one.
pub fn permits_run_out_with_would_block<H: MemoryHarness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let slots = client.limits().send_slots;
    let fetches = client.fetch_slots().min(slots);
    assert!(fetches > 0, "no read can be under way");
    for round in 0..3 {
        let mut permits = claim_all(&mut client, slots, RemoteMemory::try_write_permit);
        assert_eq!(permits.len(), slots, "permits that can be claimed, in round {round}");
        for _ in 0..5 {
            assert!(now(client.try_write_permit()).is_none(), "a permit beyond the slots");
            assert!(now(client.try_fetch_permit()).is_none(), "a fetch permit beyond the slots");
            assert!(now(client.try_reserve(1)).is_none(), "a buffer beyond the slots");
        }
        assert!(poll_once(|cx| client.poll_write_permit_ready(cx)).is_none(), "ready without a slot");
        assert!(poll_once(|cx| client.poll_fetch_permit_ready(cx)).is_none(), "ready without a slot");
        assert!(poll_once(|cx| client.poll_send_ready(cx)).is_none(), "ready without a slot");
        drop(permits.pop());
        let one = reserve_all(&mut client, 1);
        assert_eq!(one.len(), 1, "buffers for one permit that was dropped");
        drop((one, permits));
        let permits = claim_all(&mut client, fetches, RemoteMemory::try_fetch_permit);
        assert_eq!(permits.len(), fetches, "fetch permits that can be claimed, in round {round}");
        assert!(
            poll_once(|cx| client.poll_fetch_permit_ready(cx)).is_none(),
            "ready without a place among the fetches"
        );
        let others = claim_all(&mut client, slots - fetches, RemoteMemory::try_write_permit);
        assert_eq!(others.len(), slots - fetches, "permits besides {fetches} fetch permits");
        drop(permits);
        let ready = poll_once(|cx| client.poll_fetch_permit_ready(cx)).is_some();
        assert!(ready, "not ready, with places among the fetches");
        drop(others);
    }
    expect_all_permits(h, &mut client);
    exchange(h, &mut client, &mut server, 1);
}

/// With a permit an operation can always be queued, whatever else is queued.
pub fn permits_can_always_be_used<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 64, Access::ReadWrite);
    let slots = client.limits().send_slots;
    let fetches = client.fetch_slots().min(slots);
    let fetch_permits = claim_all(&mut client, fetches, RemoteMemory::try_fetch_permit);
    let write_permits = claim_all(&mut client, slots, RemoteMemory::try_write_permit);
    let mut tag = 0;
    for permit in fetch_permits {
        let queued = client.read(permit, region(&fabrics.client, 64), 0, slice(&lent.remote, 0, 64), tag);
        queued.unwrap_or_else(|unsent| panic!("a permit does not find room: {}", unsent.error));
        tag += 1;
    }
    for permit in write_permits {
        let queued = client.write(permit, region(&fabrics.client, 64), 0, slice(&lent.remote, 0, 64), tag);
        queued.unwrap_or_else(|unsent| panic!("a permit does not find room: {}", unsent.error));
        tag += 1;
    }
    client.flush().expect("a flush");
    for tag in 0..tag {
        h.wait("a completion", done(&mut client, tag));
    }
    expect_all_permits(h, &mut client);
    exchange(h, &mut client, &mut server, 1);
}

/// A permit that is dropped, here or on another thread, wakes whoever waits for one, or for a buffer.
pub fn dropped_permits_wake_the_sender<H: MemoryHarness>(h: &H) {
    let Pair { mut client, server: _server, .. } = pair(h);
    let slots = client.limits().send_slots;
    let fetches = client.fetch_slots().min(slots);
    for round in 0..h.many(20) {
        let elsewhere = round % 2 == 0;
        let mut permits = claim_all(&mut client, slots, RemoteMemory::try_write_permit);
        let wait = [TrackPoll::Write, TrackPoll::Fetch, TrackPoll::Buffer][round % 3];
        let counters = [Counter::new(), Counter::new()];
        for counter in &counters {
            let waker = counter.waker();
            assert!(!wait.poll(&mut client, &mut Context::from_waker(&waker)), "ready without a slot");
        }
        drop_at(permits.pop(), elsewhere);
        counters[1].expect_wake(h, format_args!("a dropped permit, which {wait:?} waited for"));
        assert!(wait.poll(&mut client, &mut Context::from_waker(Waker::noop())), "woken, and not ready");
        drop(permits);
        let mut permits = claim_all(&mut client, fetches, RemoteMemory::try_fetch_permit);
        let counter = Counter::new();
        let waker = counter.waker();
        let pending = !TrackPoll::Fetch.poll(&mut client, &mut Context::from_waker(&waker));
        assert!(pending, "ready without a place among the fetches");
        drop_at(permits.pop(), elsewhere);
        counter.expect_wake(h, "a dropped fetch permit");
        assert!(now(client.try_fetch_permit()).is_some(), "woken for a fetch permit, and there is none");
    }
    expect_all_permits(h, &mut client);
}

#[derive(Debug, Clone, Copy)]
enum TrackPoll {
    Write,
    Fetch,
    Buffer,
}

impl TrackPoll {
    fn poll<S: RemoteMemory>(self, side: &mut S, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Write => side.poll_write_permit_ready(cx).is_ready(),
            Self::Fetch => side.poll_fetch_permit_ready(cx).is_ready(),
            Self::Buffer => side.poll_send_ready(cx).is_ready(),
        }
    }
}

fn drop_at<T: Send>(value: T, elsewhere: bool) {
    match elsewhere {
        true => thread::scope(|scope| _ = scope.spawn(move || drop(value))),
        false => drop(value),
    }
}

/// Completions that nobody takes hold their permits: they are bounded, and nothing is lost of them.
pub fn completions_that_nobody_takes_are_bounded<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 4096, Access::ReadWrite);
    let slots = client.limits().send_slots;
    for round in 0..3_u8 {
        // One slot stays free: for the message by which it is known that all is done.
        for tag in 0..slots as u64 - 1 {
            let mut from = region(&fabrics.client, 1);
            from.fill(round + 1);
            h.wait("a permit", put_write(&mut client, from, 0, slice(&lent.remote, tag as usize, 1), tag));
        }
        sync(h, &mut client, &mut server);
        assert!(content(&lent.shared)[..slots - 1].iter().all(|byte| *byte == round + 1), "a write is not there");
        let last = h.wait("the slot of a message that has arrived", client.write_permit());
        let last = last.unwrap_or_else(|error| panic!("no permit: {error}"));
        let more = h.stays(|| now(client.try_write_permit()));
        assert!(more.is_none(), "an operation gave its permit back before its completion was taken");
        assert!(now(client.try_fetch_permit()).is_none(), "a fetch permit beyond the slots");
        // One that is taken is one.
        h.wait("a completion", done(&mut client, 0));
        let one = h.wait("a permit", client.write_permit()).unwrap_or_else(|error| panic!("no permit: {error}"));
        assert!(now(client.try_write_permit()).is_none(), "one completion gave two permits back");
        drop((one, last));
        for tag in 1..slots as u64 - 1 {
            h.wait("a completion", done(&mut client, tag));
        }
        expect_all_permits(h, &mut client);
    }
    // Reads hold their places in the same way.
    let fetches = client.fetch_slots().min(slots);
    for tag in 0..fetches as u64 {
        let into = region(&fabrics.client, 1);
        h.wait("a permit", put_read(&mut client, into, 0, slice(&lent.remote, 0, 1), tag));
    }
    client.flush().expect("a flush");
    let more = h.stays(|| now(client.try_fetch_permit()));
    assert!(more.is_none(), "a read gave its permit back before its completion was taken");
    for tag in 0..fetches as u64 {
        h.wait("a completion", done(&mut client, tag));
    }
    expect_all_permits(h, &mut client);
}

/// The slot of a buffer that was written comes back as that of a message does, with no completion.
pub fn written_buffers_give_their_slots_back<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, .. }, lent } = loan(h, 64, Access::ReadWrite);
    for id in 0..h.many(200) as u64 {
        let buf = h.wait("a slot", client.reserve(64)).unwrap_or_else(|error| panic!("no slot: {error}"));
        let mut buf = buf;
        crate::traffic::stamp(&mut buf, id);
        let queued = client.write_buf(buf, slice(&lent.remote, 0, 64));
        queued.unwrap_or_else(|unsent| panic!("cannot write a buffer: {}", unsent.error));
        if id % 3 == 0 {
            client.flush().expect("a flush");
        }
        assert!(now(client.try_complete()).is_none(), "a written buffer has a completion");
    }
    let last = h.many(200) as u64 - 1;
    sync(h, &mut client, &mut server);
    crate::traffic::check(&content(&lent.shared), last, 64);
    settle(h, &mut client);
    expect_all_permits(h, &mut client);
}
