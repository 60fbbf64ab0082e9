//! Waking: no wake-up is lost, whoever waits, with whatever waker, and whatever is dropped in between.

use std::any::Any;
use std::future::poll_fn;
use std::sync::{Mutex, mpsc};
use std::task::{Context, Waker};
use std::thread;
use std::time::Instant;

use trespass_core::{Endpoint, ErrorKind, Fabric, Incoming, Listener, ListenerExt, RecvSide, SendSide, Track};

use crate::flow::{STALL_LEN, stall};
use crate::harness::{Harness, ReliableHarness, lossless, skip};
use crate::traffic::{
    Pair, arrive, bytes, check, deliver_said, drain, exchange, expect_kind, listen, now, one_way, pair, put,
    put_flushed, receive_end, reserve_all, send_until_woken, settle, stamp, take, try_put,
};
use crate::wait::{Counter, Dice, RecvWait, SendWait, Waits, both, poll_and_drop, poll_once};

/// A receiver that waits is woken by a message; of several wakers the latest is.
pub fn a_message_wakes_the_latest_waker<H: Harness>(h: &H) {
    let mut pair = pair(h);
    for id in 0..h.many(50) as u64 {
        let counters = [Counter::new(), Counter::new(), Counter::new()];
        for counter in &counters {
            let ready = pair.server.poll_recv_ready(&mut Context::from_waker(&counter.waker()));
            assert!(ready.is_pending(), "ready, though nothing was sent");
        }
        let what = format_args!("message {id}, with the latest of three wakers");
        send_until_woken(h, &mut pair.client, id, &counters[2], what);
        assert!(poll_once(|cx| pair.server.poll_recv_ready(cx)).is_some(), "woken for message {id}, and not ready");
        assert!(poll_once(|cx| pair.server.poll_recv_ready(cx)).is_some(), "ready, and then no longer");
        let buf = now(pair.server.try_recv()).expect("ready, and no message");
        if lossless::<H>() {
            check(&buf, id, 8);
        }
        drop(buf);
        drain(h, &mut pair.server);
    }
}

/// A sender that waits is woken by a slot, however it comes free; of several wakers the latest is.
pub fn a_slot_wakes_the_latest_waker<H: Harness>(h: &H) {
    let mut pair = pair(h);
    for id in 0..h.many(20) as u64 {
        let mut bufs = reserve_all(&mut pair.client, 8);
        let counters = [Counter::new(), Counter::new()];
        for counter in &counters {
            let ready = pair.client.poll_send_ready(&mut Context::from_waker(&counter.waker()));
            assert!(ready.is_pending(), "ready with all slots reserved");
        }
        if id % 2 == 0 {
            drop(bufs.pop());
            counters[1].expect_wake(h, "a dropped buffer, with the latest of two wakers");
        } else {
            let mut buf = bufs.pop().expect("a slot");
            stamp(&mut buf, id);
            pair.client.send(buf).expect("a send");
            pair.client.flush().expect("a flush");
            counters[1].expect_wake(h, "a message that has left, with the latest of two wakers");
            arrive(h, &mut pair.server, id..id + 1, 8);
        }
        assert!(poll_once(|cx| pair.client.poll_send_ready(cx)).is_some(), "woken for a slot, and not ready");
    }
}

/// Who waits is woken, though somebody looks in between: two halves of a carrier wait for one track, and look for each other.
pub fn a_look_takes_no_waker_away<H: Harness>(h: &H) {
    let mut pair = pair(h);
    for id in 0..h.many(30) as u64 {
        for attempt in 0.. {
            // The first poll may wake at once: where receives were posted again there is something to look at.
            let receiver = Counter::new();
            for waiting in [&Counter::new(), &receiver] {
                let ready = pair.server.poll_recv_ready(&mut Context::from_waker(&waiting.waker()));
                assert!(ready.is_pending(), "ready, though nothing was sent");
            }
            assert!(now(pair.server.try_recv()).is_none(), "something arrived that nobody sent");
            send_until_woken(h, &mut pair.client, id, &receiver, format_args!("message {id}, after a look"));
            let woken_for = now(pair.server.try_recv());
            drain(h, &mut pair.server);
            if woken_for.is_some() {
                break;
            }
            // It may be woken for something else first: a confirmation, or a datagram that was under way before and is taken by now.
            assert!(attempt < 5, "woken again and again, and no message");
            if lossless::<H>() {
                arrive(h, &mut pair.server, id..id + 1, 8);
            }
        }

        settle(h, &mut pair.client);
        let mut bufs = reserve_all(&mut pair.client, 8);
        let sender = Counter::new();
        let ready = pair.client.poll_send_ready(&mut Context::from_waker(&sender.waker()));
        assert!(ready.is_pending(), "ready with all slots reserved");
        assert!(now(pair.client.try_reserve(8)).is_none(), "a reserve beyond the send slots");
        let mut buf = bufs.pop().expect("a slot");
        stamp(&mut buf, id);
        pair.client.send(buf).expect("a send");
        pair.client.flush().expect("a flush");
        sender.expect_wake(h, "a message that has left, after a look");
        arrive(h, &mut pair.server, id..id + 1, 8);
    }
}

/// What happens between a `try_` call and the poll that follows is seen by the poll: it looks again after it has armed.
pub fn a_poll_looks_again<H: ReliableHarness>(h: &H) {
    let mut pair = pair(h);
    for id in 0..h.many(50) as u64 {
        assert!(now(pair.server.try_recv()).is_none(), "something arrived that nobody sent");
        h.wait("a slot", put_flushed(&mut pair.client, id, 8));
        // All slots are free: the message has arrived.
        settle(h, &mut pair.client);
        h.wait(format_args!("message {id}, which came before the poll"), poll_fn(|cx| pair.server.poll_recv_ready(cx)));
        h.wait("a message", take(&mut pair.server, id, 8));

        let bufs = reserve_all(&mut pair.client, 8);
        assert!(now(pair.client.try_reserve(8)).is_none(), "a reserve beyond the send slots");
        drop(bufs);
        h.wait("slots that came free before the poll", poll_fn(|cx| pair.client.poll_send_ready(cx)));
    }
}

/// Two tasks on two threads that wait for each other in turn: each wake-up that is lost would stop them.
pub fn ping_pong_loses_no_wake_up<H: ReliableHarness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let rounds = h.many(3000) as u64;
    thread::scope(|scope| {
        scope.spawn(|| {
            for id in 0..rounds {
                drop(h.wait("a ping", take(&mut server, id, 8)));
                h.wait("a slot for a pong", put_flushed(&mut server, id, 8));
            }
        });
        for id in 0..rounds {
            h.wait("a slot for a ping", put_flushed(&mut client, id, 8));
            drop(h.wait("a pong", take(&mut client, id, 8)));
        }
    });
}

/// A waker that is new at every poll will do; wake-ups of older ones need not come.
pub fn a_new_waker_at_every_poll_will_do<H: ReliableHarness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let rounds = h.many(1000) as u64;
    thread::scope(|scope| {
        scope.spawn(|| {
            h.wait_with_new_wakers("all pings", async {
                for id in 0..rounds {
                    drop(take(&mut server, id, 8).await);
                    put_flushed(&mut server, id, 8).await;
                }
            });
        });
        h.wait_with_new_wakers("all pongs", async {
            for id in 0..rounds {
                put_flushed(&mut client, id, 8).await;
                drop(take(&mut client, id, 8).await);
            }
        });
    });
}

/// A waker that does nothing is legal: with it, polling in a loop makes progress, and a real one works after it.
pub fn a_waker_that_does_nothing_is_legal<H: ReliableHarness>(h: &H) {
    let mut pair = pair(h);
    for id in 0..h.many(100) as u64 {
        let mut cx = Context::from_waker(Waker::noop());
        h.spin("a slot, polled for", || pair.client.poll_send_ready(&mut cx).is_ready().then_some(()));
        assert!(try_put(&mut pair.client, id, 8), "ready, and no slot");
        pair.client.flush().expect("a flush");
        h.spin("a message, polled for", || pair.server.poll_recv_ready(&mut cx).is_ready().then_some(()));
        drop(now(pair.server.try_recv()).expect("ready, and no message"));
        for _ in 0..3 {
            assert!(pair.server.poll_recv_ready(&mut cx).is_pending(), "ready, though nothing was sent");
        }
        exchange(h, &mut pair.client, &mut pair.server, 1 << 20);
    }
}

/// Futures that are dropped after any number of polls lose no message and leak no slot.
pub fn dropped_futures_lose_nothing<H: ReliableHarness>(h: &H) {
    let mut pair = pair(h);
    let slots = pair.client.limits().send_slots;
    let mut id = 0;
    for polls in 0..6 {
        // A receive that is dropped before, while and after the message comes.
        assert!(poll_and_drop(pair.server.recv(), polls).is_none(), "received what nobody sent");
        h.wait("a slot", put_flushed(&mut pair.client, id, 8));
        match poll_and_drop(pair.server.recv(), polls) {
            Some(received) => check(&received.expect("a message"), id, 8),
            None => drop(h.wait("a message after a dropped receive", take(&mut pair.server, id, 8))),
        }
        id += 1;
        // A message arrives before its sender hears of it.
        settle(h, &mut pair.client);

        // A reserve that is dropped while there is no slot, and with its slot.
        let all = reserve_all(&mut pair.client, 8);
        assert!(poll_and_drop(pair.client.reserve(8), polls).is_none(), "reserved beyond the send slots");
        drop(all);
        drop(poll_and_drop(pair.client.reserve(8), polls));
        assert_eq!(reserve_all(&mut pair.client, 8).len(), slots, "a reserve dropped after {polls} polls cost slots");

        // A whole conversation that is dropped and taken up again.
        drop(poll_and_drop(both(pair.server.recv(), pair.client.recv()), polls));
        exchange(h, &mut pair.client, &mut pair.server, 1000 + 2 * id);
        settle(h, &mut pair.client);
    }
}

/// A close that is dropped after any number of polls is taken up again by the next one, and loses no message: not those
/// that were only queued, and not those that had no room yet.
pub fn a_dropped_close_goes_on<H: ReliableHarness>(h: &H) {
    for polls in 0..4 {
        let Pair { mut client, mut server, .. } = pair(h);
        let count = client.limits().send_slots.min(server.limits().recv_slots) as u64;
        for id in 0..count {
            assert!(try_put(&mut client, id, STALL_LEN), "no slot on an idle track");
        }
        drop(poll_and_drop(client.close(), polls));
        close_and_receive(h, &mut client, &mut server, 0..count);

        let Pair { mut client, mut server, .. } = pair(h);
        let (held, sent) = stall(h, &mut client, &mut server, 0);
        assert!(poll_and_drop(client.close(), polls).is_none(), "a close is over, though nobody takes the messages");
        let first = held.len() as u64;
        drop(held);
        close_and_receive(h, &mut client, &mut server, first..sent);
    }
}

fn close_and_receive<H: Harness, T: Track>(h: &H, client: &mut T, server: &mut T, ids: std::ops::Range<u64>) {
    let receive = async {
        for id in ids {
            drop(take(server, id, STALL_LEN).await);
        }
    };
    let (closed, ()) = h.wait("a close that was dropped before, and its messages", both(client.close(), receive));
    closed.unwrap_or_else(|error| panic!("the close is not clean: {error}"));
    let end = receive_end(h, server);
    expect_kind("the end after a clean close", &end, &[ErrorKind::Closed]);
}

/// Waiting flushes first: what was queued and not flushed arrives when its track waits for slots, for messages, or to be
/// closed.
pub fn waiting_flushes_first<H: Harness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let what = "what was queued before a wait for slots";
    drop(deliver_said(h, what, &mut server, 1, 8, || {
        h.wait("a slot", put(&mut client, 1, 8));
        let _ = poll_once(|cx| client.poll_send_ready(cx));
    }));
    let what = "what was queued before a wait for messages";
    drop(deliver_said(h, what, &mut server, 2, 8, || {
        h.wait("a slot", put(&mut client, 2, 8));
        assert!(poll_once(|cx| client.poll_recv_ready(cx)).is_none(), "ready, though nothing was sent");
    }));
    closing_flushes_first(h, (client, server));

    // The sending half does so by itself.
    let Pair { client, mut server, .. } = pair(h);
    let (mut sender, _receiver) = client.split();
    let what = "what the sending half had queued before a wait";
    drop(deliver_said(h, what, &mut server, 4, 8, || {
        h.wait("a slot", put(&mut sender, 4, 8));
        let _ = poll_once(|cx| sender.poll_send_ready(cx));
    }));
}

/// A track is closed once: where its message may be lost, as many tracks as it takes.
fn closing_flushes_first<H: Harness, T>(h: &H, mut ends: (T, T))
where
    H::Fabric: Fabric<Track = T>,
    T: Track,
{
    let what = "what was queued before a close";
    let (start, mut tracks) = (Instant::now(), 1);
    loop {
        h.wait("a slot", put(&mut ends.0, 3, 8));
        let _ = poll_once(|cx| ends.0.poll_close(cx));
        let arrived = match lossless::<H>() {
            true => Some(h.wait(what, take(&mut ends.1, 3, 8))),
            false => h.stays(|| now(ends.1.try_recv()).filter(|buf| buf.iter().copied().eq(bytes(3, 8)))),
        };
        if arrived.is_some() {
            return;
        }
        assert!(start.elapsed() < h.patience(), "{what} never arrived, over {tracks} tracks");
        tracks += 1;
        let Pair { client, server, .. } = pair(h);
        ends = (client, server);
    }
}

/// The calls of a busy-polling thread arm nothing, and those that arm are no more than the waits.
pub fn try_calls_arm_nothing<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let Some(before) = h.arms(&pair.client).zip(h.arms(&pair.server)) else {
        return skip("this fabric does not count how often it arms");
    };
    for id in 0..h.many(100) as u64 {
        let mut say = || {
            h.spin("a slot", || try_put(&mut pair.client, id, 8).then_some(()));
            pair.client.flush().expect("a flush");
        };
        if lossless::<H>() {
            say();
            h.spin("a message", || now(pair.server.try_recv()));
        } else {
            drop(deliver_said(h, format_args!("message {id}"), &mut pair.server, id, 8, say));
        }
    }
    drain(h, &mut pair.server);
    let after = h.arms(&pair.client).zip(h.arms(&pair.server));
    assert_eq!(after, Some(before), "arms by a client and a server that never wait");
    assert!(poll_once(|cx| pair.server.poll_recv_ready(cx)).is_none(), "ready, though nothing was sent");
    let armed = h.arms(&pair.server).expect("a count, as before") - before.1;
    assert!(armed > 0, "a wait that arms nothing, or a count that counts nothing");
}

/// The two sides of one track wait with a waker each: neither evicts the other.
pub fn each_side_has_its_own_waker<H: Harness>(h: &H) {
    let mut pair = pair(h);
    for id in 0..h.many(20) as u64 {
        let mut bufs = reserve_all(&mut pair.client, 8);
        let (sender, receiver) = (Counter::new(), Counter::new());
        let (send_waker, recv_waker) = (sender.waker(), receiver.waker());
        assert!(pair.client.poll_send_ready(&mut Context::from_waker(&send_waker)).is_pending(), "no slot is free");
        assert!(pair.client.poll_recv_ready(&mut Context::from_waker(&recv_waker)).is_pending(), "nothing was sent");
        let order = if id % 2 == 0 { [true, false] } else { [false, true] };
        for a_slot in order {
            if a_slot {
                drop(bufs.pop());
                sender.expect_wake(h, "a free slot, beside a receiver that waits");
            } else {
                send_until_woken(h, &mut pair.server, id, &receiver, "a message, beside a sender that waits");
            }
        }
        arrive(h, &mut pair.client, id..id + 1, 8);
    }
}

/// The halves of a split track work from two threads, in both directions at once, each with a waker of its own. What was
/// reserved before the split is good after it.
pub fn halves_work_on_two_threads<H: ReliableHarness>(h: &H) {
    let Pair { mut client, server, .. } = pair(h);
    let count = h.many(1500) as u64;
    let mut early = now(client.try_reserve(12)).expect("a slot of an idle track");
    stamp(&mut early, 0);
    let ((mut to_server, mut from_server), (mut to_client, mut from_client)) = (client.split(), server.split());
    assert_eq!(to_server.limits(), from_server.limits(), "the limits of two halves of one track");
    to_server.send(early).expect("a send of what was reserved before the split");
    thread::scope(|scope| {
        scope.spawn(|| send_ids(h, &mut to_server, 1..count));
        scope.spawn(|| receive_ids(h, &mut from_client, 0..count));
        scope.spawn(|| send_ids(h, &mut to_client, 0..count));
        receive_ids(h, &mut from_server, 0..count);
    });
}

fn send_ids<H: Harness, S: SendSide>(h: &H, side: &mut S, ids: std::ops::Range<u64>) {
    for id in ids {
        h.wait(format_args!("a slot for message {id}"), put(side, id, 12));
        if id % 5 == 0 {
            side.flush().expect("a flush");
        }
    }
    side.flush().expect("a flush");
}

fn receive_ids<H: Harness, R: RecvSide>(h: &H, side: &mut R, ids: std::ops::Range<u64>) {
    for id in ids {
        drop(h.wait(format_args!("message {id}"), take(side, id, 12)));
    }
}

/// Received buffers that other threads drop at any moment, with a receiver that holds as many as there are and waits: no
/// wake-up is lost, and no room.
pub fn buffers_dropped_at_any_moment_stall_nothing<H: ReliableHarness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let count = h.many(1500) as u64;
    let (hand_over, handed) = mpsc::channel::<Box<dyn Any + Send>>();
    let handed = Mutex::new(handed);
    let client = &mut client;
    thread::scope(|scope| {
        let spares = hand_over.clone();
        scope.spawn(move || {
            let mut dice = Dice::new(1);
            for id in 0..count {
                if dice.below(4) == 0 {
                    // Reserved and dropped elsewhere, while this thread may wait for the slot.
                    let spare = now(client.try_reserve(5));
                    spares.send(Box::new(spare)).expect("a thread that drops buffers");
                }
                h.wait(format_args!("a slot for message {id}"), put_flushed(client, id, 12));
            }
        });
        for seed in 2..4 {
            let handed = &handed;
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                loop {
                    let next = handed.lock().expect("the other thread has not panicked").recv();
                    let Ok(buf) = next else { return };
                    (0..dice.below(200)).for_each(|_| std::hint::spin_loop());
                    drop(buf);
                }
            });
        }
        for id in 0..count {
            let buf = h.wait(format_args!("message {id}"), take(&mut server, id, 12));
            hand_over.send(Box::new(buf)).expect("a thread that drops buffers");
        }
        drop(hand_over);
    });
}

/// A stalled sender that waits is woken when the receiver lets go on another thread, again and again.
pub fn a_stalled_sender_is_woken<H: ReliableHarness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    for round in 0..h.many(5) as u64 {
        let first = round * 10_000;
        let (held, sent) = stall(h, &mut client, &mut server, first);
        let room = server.limits().recv_slots as u64;
        thread::scope(|scope| {
            let server = &mut server;
            scope.spawn(move || {
                drop(held);
                for id in first + room..sent {
                    drop(h.wait("a message after a stall", take(server, id, STALL_LEN)));
                }
            });
            drop(h.wait("a slot after a stall", client.reserve(8)).expect("a reserve"));
        });
        one_way(h, &mut client, &mut server, 7);
        settle(h, &mut client);
    }
}

/// A listener that waits is woken by a request; of several wakers the latest is; a dropped wait loses no request.
pub fn a_request_wakes_the_latest_waker<H: Harness>(h: &H) {
    let fabrics = h.fabrics();
    let mut listener = listen(h, &fabrics.server);
    for polls in 0..4 {
        assert!(poll_and_drop(listener.incoming(), polls).is_none(), "a request that nobody made");
        let counters = [Counter::new(), Counter::new()];
        for counter in &counters {
            let waker = counter.waker();
            let request = listener.poll_incoming(&mut Context::from_waker(&waker));
            assert!(request.is_pending(), "a request that nobody made");
        }
        let addr = listener.local();
        let connecting = fabrics.client.connect(&addr);
        counters[1].expect_wake(h, "a request, with the latest of two wakers");
        let serve = async {
            let incoming = match poll_and_drop(listener.incoming(), polls) {
                Some(incoming) => incoming,
                None => listener.incoming().await,
            };
            incoming.expect("a request").accept().await
        };
        let (client, server) = h.wait("a connection", both(connecting, serve));
        exchange(h, &mut client.expect("a connect"), &mut server.expect("an accept"), 1);
    }
}
