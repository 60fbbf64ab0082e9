//! Waking: no wake-up of a completion or a permit is lost, and waiting flushes first.

use std::future::poll_fn;
use std::task::Context;
use std::thread;

use trespass_core::{Access, Endpoint, RecvSide, RemoteMemory, SendSide, Track};

use super::operations::fill;
use super::{
    Loan, MemoryWait, content, done, expect_all_permits, loan, put_read, put_write, read, region, slice, stamped, write,
};
use crate::harness::{MemoryHarness, skip};
use crate::traffic::{Pair, check, exchange, now, one_way, put_flushed, stamp, take, try_put};
use crate::wait::{Counter, Waits, both, poll_and_drop, poll_once};

/// Whoever waits for a completion is woken by it; of several wakers the latest is.
pub fn a_completion_wakes_the_latest_waker<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 64, Access::ReadWrite);
    for tag in 0..h.many(20) as u64 {
        // Behind a message that has no room: so it cannot be over by itself.
        let held = fill(h, &mut client, &mut server);
        assert!(try_put(&mut client, 900, 20), "no slot of an idle track");
        let from = stamped(&fabrics.client, tag, 64);
        h.wait("a permit", put_write(&mut client, from, 0, slice(&lent.remote, 0, 64), tag));
        let counters = [Counter::new(), Counter::new(), Counter::new()];
        for counter in &counters {
            let waker = counter.waker();
            let ready = client.poll_complete_ready(&mut Context::from_waker(&waker));
            assert!(ready.is_pending(), "ready, though nothing is completed");
        }
        drop(held);
        drop(h.wait("the message that waited", take(&mut server, 900, 20)));
        counters[2].expect_wake(h, "a completion, with the latest of three wakers");
        assert!(poll_once(|cx| client.poll_complete_ready(cx)).is_some(), "woken for a completion, and not ready");
        assert!(poll_once(|cx| client.poll_complete_ready(cx)).is_some(), "ready, and then no longer");
        h.wait("a completion", done(&mut client, tag));
    }
    expect_all_permits(h, &mut client);
}

/// A completion that is taken makes room, which wakes whoever waits for a permit or a buffer.
pub fn a_taken_completion_wakes_the_sender<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, server: _server, fabrics, .. }, lent } = loan(h, 64, Access::ReadWrite);
    let slots = client.limits().send_slots as u64;
    for round in 0..h.many(10) {
        for tag in 0..slots {
            let from = region(&fabrics.client, 8);
            h.wait("a permit", put_write(&mut client, from, 0, slice(&lent.remote, 0, 8), tag));
        }
        let counter = Counter::new();
        let waker = counter.waker();
        let mut cx = Context::from_waker(&waker);
        let ready =
            if round % 2 == 0 { client.poll_write_permit_ready(&mut cx) } else { client.poll_send_ready(&mut cx) };
        assert!(ready.is_pending(), "ready, with all slots in operations whose completions were not taken");
        h.wait("a completion", done(&mut client, 0));
        counter.expect_wake(h, "a completion that was taken");
        for tag in 1..slots {
            h.wait("a completion", done(&mut client, tag));
        }
    }
    expect_all_permits(h, &mut client);
}

/// Whatever is waited for, what was queued before goes out.
pub fn waiting_flushes_operations<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, server: _server, fabrics, .. }, lent } = loan(h, 64, Access::ReadWrite);
    type Poller<T> = fn(&mut T, &mut Context<'_>);
    let polls: [(&str, Poller<super::TrackOf<H>>); 5] = [
        ("a completion", |side, cx| _ = side.poll_complete_ready(cx)),
        ("a permit", |side, cx| _ = side.poll_write_permit_ready(cx)),
        ("a fetch permit", |side, cx| _ = side.poll_fetch_permit_ready(cx)),
        ("a slot", |side, cx| _ = side.poll_send_ready(cx)),
        ("a message", |side, cx| _ = side.poll_recv_ready(cx)),
    ];
    for ((what, poll), id) in polls.into_iter().zip(1..) {
        let from = stamped(&fabrics.client, id, 64);
        h.wait("a permit", put_write(&mut client, from, 0, slice(&lent.remote, 0, 64), id));
        poll_once(|cx| {
            poll(&mut client, cx);
            std::task::Poll::Ready(())
        });
        // Without a poll of anything else.
        h.spin(format_args!("a write that was queued before a wait for {what}"), || {
            content(&lent.shared).iter().copied().eq(crate::traffic::bytes(id, 64)).then_some(())
        });
        let region = h.spin("its completion", || now(client.try_complete()));
        assert_eq!(region.tag(), id);
    }
}

/// `try_` calls arm nothing.
pub fn memory_try_calls_arm_nothing<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, server: _server, fabrics, .. }, lent } = loan(h, 64, Access::ReadWrite);
    let Some(before) = h.arms(&client) else {
        return skip("this fabric does not count what it arms");
    };
    let mut from = Some(region(&fabrics.client, 64));
    for tag in 0..h.many(100) as u64 {
        let permit = h.spin("a permit", || now(client.try_write_permit()));
        let memory = from.take().expect("it came back");
        let queued = client.write(permit, memory, 0, slice(&lent.remote, 0, 64), tag);
        queued.unwrap_or_else(|unsent| panic!("cannot write: {}", unsent.error));
        client.flush().expect("a flush");
        let permits = super::claim_all(&mut client, 1 << 16, RemoteMemory::try_fetch_permit);
        drop(permits);
        match h.spin("a completion", || now(client.try_complete())) {
            trespass_core::Completed::Memory { region, .. } => from = Some(region),
            _ => panic!("a completion of a write without memory"),
        }
        assert!(now(client.try_complete()).is_none(), "more completions than operations");
    }
    assert_eq!(h.arms(&client), Some(before), "calls that never wait have armed the device");
    assert!(poll_once(|cx| client.poll_complete_ready(cx)).is_none(), "ready, though nothing is completed");
    assert!(h.arms(&client) > Some(before), "a wait for a completion arms nothing");
}

/// Futures that are dropped at any poll lose no completion, no permit and no memory.
pub fn dropped_memory_futures_lose_nothing<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 64, Access::ReadWrite);
    for id in 0..h.many(100) as u64 {
        drop(poll_and_drop(client.write_permit(), id as usize % 3));
        drop(poll_and_drop(client.fetch_permit(), id as usize % 4));
        let from = stamped(&fabrics.client, id, 64);
        h.wait("a permit", put_write(&mut client, from, 0, slice(&lent.remote, 0, 64), 2 * id));
        let into = region(&fabrics.client, 64);
        h.wait("a permit", put_read(&mut client, into, 0, slice(&lent.remote, 0, 64), 2 * id + 1));
        let mut early = poll_and_drop(client.completed(), id as usize % 3);
        for tag in [2 * id, 2 * id + 1] {
            match early.take() {
                Some(first) => assert_eq!(first.unwrap_or_else(|error| panic!("{error}")).tag(), tag),
                None => {
                    let region = h.wait("a completion", done(&mut client, tag));
                    check(&region, id, 64);
                }
            }
        }
        assert!(poll_and_drop(client.completed(), 1).is_none(), "more completions than operations");
    }
    expect_all_permits(h, &mut client);
    exchange(h, &mut client, &mut server, 1);
}

/// Tracks on several threads, each of which waits for every operation, with a new waker at every poll: each wake-up that is
/// lost would stop one.
pub fn waits_for_completions_lose_no_wake_up<H: MemoryHarness>(h: &H) {
    let Loan { mut pair, lent } = loan(h, 4 * 64, Access::ReadWrite);
    let rounds = h.many(1000) as u64;
    let tracks: Vec<_> = (0..4).map(|_| crate::traffic::join(h, &pair.fabrics.client, &mut pair.listener)).collect();
    thread::scope(|scope| {
        for (at, (mut client, server)) in tracks.into_iter().enumerate() {
            let (fabric, remote) = (pair.fabrics.client.clone(), lent.remote);
            scope.spawn(move || {
                let part = slice(&remote, at * 64, 64);
                h.wait_with_new_wakers("all reads and writes", async {
                    let mut region = region(&fabric, 64);
                    for id in 0..rounds {
                        stamp(&mut region, id);
                        region = write(&mut client, region, 0, part, id).await;
                        region.fill(0);
                        region = read(&mut client, region, 0, part, id).await;
                        check(&region, id, 64);
                    }
                });
                drop(server);
            });
        }
    });
}

/// The sending half does all that the whole does, beside a receiving half on another thread; permits from before the split
/// are good, and what was queued before it completes.
pub fn halves_reach_memory_from_two_threads<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 4096, Access::ReadWrite);
    let write_permit = now(client.try_write_permit()).expect("a permit of an idle track");
    let fetch_permit = now(client.try_fetch_permit()).expect("a permit of an idle track");
    h.wait("a permit", put_write(&mut client, stamped(&fabrics.client, 1, 64), 0, slice(&lent.remote, 0, 64), 1));
    let (mut sender, mut receiver) = client.split();
    let from = stamped(&fabrics.client, 2, 64);
    let queued = sender.write(write_permit, from, 0, slice(&lent.remote, 64, 64), 2);
    queued.unwrap_or_else(|unsent| panic!("a permit from before the split is refused: {}", unsent.error));
    let into = region(&fabrics.client, 128);
    let queued = sender.read(fetch_permit, into, 0, slice(&lent.remote, 0, 128), 3);
    queued.unwrap_or_else(|unsent| panic!("a permit from before the split is refused: {}", unsent.error));
    h.wait("two writes", async {
        done(&mut sender, 1).await;
        done(&mut sender, 2).await;
    });
    let both_parts = h.wait("a read", done(&mut sender, 3));
    check(&both_parts[..64], 1, 64);
    check(&both_parts[64..], 2, 64);
    let rounds = h.many(500) as u64;
    thread::scope(|scope| {
        scope.spawn(|| {
            for id in 0..rounds {
                drop(h.wait("a message there", take(&mut server, id, 16)));
                check(&content(&lent.shared)[..64], id, 64);
                h.wait("a slot", put_flushed(&mut server, id, 16));
            }
        });
        let turns = std::sync::mpsc::sync_channel(0);
        let (turn, mine) = turns;
        scope.spawn(move || {
            for id in 0..rounds {
                drop(h.wait("a message back", take(&mut receiver, id, 16)));
                let _ = turn.send(());
            }
        });
        let mut region = region(&fabrics.client, 64);
        for id in 0..rounds {
            stamp(&mut region, id);
            region = h.wait("a write and a message", async {
                put_write(&mut sender, region, 0, slice(&lent.remote, 0, 64), id).await;
                put_flushed(&mut sender, id, 16).await;
                done(&mut sender, id).await
            });
            mine.recv_timeout(h.patience()).expect("a message back");
        }
        expect_all_permits(h, &mut sender);
    });
}

/// The poll looks again after it has armed: what was completed in between is seen.
pub fn a_poll_for_completions_looks_again<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 64, Access::ReadWrite);
    for id in 0..h.many(50) as u64 {
        assert!(now(client.try_complete()).is_none(), "something is completed that was not queued");
        let from = stamped(&fabrics.client, id, 64);
        h.wait("a permit", put_write(&mut client, from, 0, slice(&lent.remote, 0, 64), id));
        // It is done: the message behind it has arrived.
        one_way(h, &mut client, &mut server, 1);
        h.wait("a completion that came before the poll", poll_fn(|cx| client.poll_complete_ready(cx)));
        h.wait("a completion", done(&mut client, id));
    }
    // Both wait at once, each with its own waker: a receiver and who waits for completions.
    let (completer, receiver) = (Counter::new(), Counter::new());
    let (complete_waker, recv_waker) = (completer.waker(), receiver.waker());
    let held = fill(h, &mut client, &mut server);
    assert!(try_put(&mut client, 900, 20), "no slot of an idle track");
    h.wait("a permit", put_write(&mut client, region(&fabrics.client, 8), 0, slice(&lent.remote, 0, 8), 1));
    assert!(client.poll_complete_ready(&mut Context::from_waker(&complete_waker)).is_pending(), "nothing is completed");
    assert!(client.poll_recv_ready(&mut Context::from_waker(&recv_waker)).is_pending(), "nothing was sent");
    drop(held);
    drop(h.wait("the message that waited", take(&mut server, 900, 20)));
    completer.expect_wake(h, "a completion, beside a receiver that waits");
    h.wait("a slot", put_flushed(&mut server, 5, 8));
    receiver.expect_wake(h, "a message, beside who waits for completions");
    h.wait("both", both(done(&mut client, 1), async {}));
    drop(h.wait("a message", take(&mut client, 5, 8)));
}
