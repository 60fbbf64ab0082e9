//! Flow: what arrives, in which order, and what happens when there is no room.

use std::thread;
use std::time::{Duration, Instant};

use trespass_core::{Endpoint, ErrorKind, RecvSide, SendSide};

use crate::harness::{Harness, skip};
use crate::traffic::{
    Pair, close, exchange, expect_kind, kept_back, length, now, one_way, pair, put, put_flushed, receive_end,
    reserve_all, settle, stamp, take, try_put,
};
use crate::wait::{SendWait, Waits, both, poll_once};

/// Messages of all lengths, both ways at once: each arrives, once, in the order in which it was queued, and then there
/// are no more.
pub fn messages_arrive_once_in_order<H: Harness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let max = client.limits().max_message;
    let room = client.limits().send_slots.min(server.limits().recv_slots) as u64;
    let mut first = 1 << 40;
    for batch in (1..=room).chain([room, 1, room]) {
        for id in first..first + batch {
            h.wait("a slot", put(&mut client, id, length(id, max)));
        }
        client.flush().expect("a flush");
        for id in first..first + batch {
            drop(h.wait("a message of a batch", take(&mut server, id, length(id, max))));
        }
        first += batch;
    }
    let count = h.many(2000) as u64;
    thread::scope(|scope| {
        scope.spawn(|| h.wait("the server's traffic", talk_and_listen(&mut server, count, max, false)));
        h.wait("the client's traffic", talk_and_listen(&mut client, count, max, true));
    });
    let (ours, theirs) = (h.stays(|| now(server.try_recv())), h.stays(|| now(client.try_recv())));
    assert!(ours.is_none() && theirs.is_none(), "something arrived that nobody sent");
    close(h, &mut client);
    receive_end(h, &mut server);
}

/// Sends `count` messages and receives as many, one of each in turn, in batches that differ.
async fn talk_and_listen<T: SendSide + RecvSide>(track: &mut T, count: u64, max: usize, first: bool) {
    let (ours, theirs) = if first { (0, 1 << 32) } else { (1 << 32, 0) };
    let mut sent = 0;
    for got in 0..count {
        // Up to seven ahead of what came: less than what is on the way fits into any number of slots.
        while sent < count && sent <= got + got % 7 {
            if !try_put(track, ours + sent, length(ours + sent, max)) {
                break;
            }
            sent += 1;
        }
        if sent <= got {
            put(track, ours + sent, length(ours + sent, max)).await;
            sent += 1;
        }
        track.flush().expect("a flush");
        take(track, theirs + got, length(theirs + got, max)).await;
    }
}

/// All that was flushed before a clean close arrives: what the receiver's device has room for even when it is read only
/// afterwards.
pub fn flushed_messages_arrive_before_a_close<H: Harness>(h: &H) {
    for flush_each in [true, false] {
        let Pair { mut client, mut server, .. } = pair(h);
        let count = client.limits().send_slots.min(server.limits().recv_slots) as u64;
        for id in 0..count {
            assert!(try_put(&mut client, id, 60), "no slot for message {id} of an idle track");
            if flush_each {
                client.flush().expect("a flush");
            }
        }
        close(h, &mut client);
        for id in 0..count {
            h.wait(format_args!("message {id}, sent before a close"), take(&mut server, id, 60));
        }
        let end = receive_end(h, &mut server);
        expect_kind("the end after a clean close", &end, &[ErrorKind::Closed]);
    }
}

/// A close waits for the messages that had no room yet, while a slow receiver makes it.
pub fn a_close_waits_for_a_slow_receiver<H: Harness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let (held, sent) = stall(h, &mut client, &mut server, 0);
    assert!(poll_once(|cx| client.poll_close(cx)).is_none(), "a close is over, though nobody takes the messages");
    let first = held.len() as u64;
    drop(held);
    let receive = async {
        for id in first..sent {
            // One at a time: the next has room only when this is given back.
            drop(take(&mut server, id, STALL_LEN).await);
        }
    };
    let (closed, ()) = h.wait("a close, and the messages that were sent before it", both(client.close(), receive));
    closed.unwrap_or_else(|error| panic!("the close is not clean: {error}"));
    receive_end(h, &mut server);
}

/// No more than `send_slots` are reserved or under way; the next reserve says `WouldBlock`, again and again, and a slot
/// that comes free is one slot.
pub fn a_full_send_queue_would_block<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let slots = pair.client.limits().send_slots;
    let mut bufs = reserve_all(&mut pair.client, 8);
    assert_eq!(bufs.len(), slots, "the send slots that can be reserved");
    for _ in 0..10 {
        assert!(now(pair.client.try_reserve(0)).is_none(), "a reserve beyond the send slots");
    }
    assert!(poll_once(|cx| pair.client.poll_send_ready(cx)).is_none(), "ready without a free slot");
    drop(bufs.pop());
    assert!(poll_once(|cx| pair.client.poll_send_ready(cx)).is_some(), "not ready with a free slot");
    bufs.push(now(pair.client.try_reserve(8)).expect("the slot that was given back"));
    assert!(now(pair.client.try_reserve(8)).is_none(), "one buffer gave two slots back");
    // A slot stays taken from the reserve until the message has left, sent or not, flushed or not.
    for (id, mut buf) in bufs.into_iter().enumerate() {
        stamp(&mut buf, id as u64);
        pair.client.send(buf).expect("a send");
    }
    pair.client.flush().expect("a flush");
    for id in 0..slots as u64 {
        h.wait("a message", take(&mut pair.server, id, 8));
    }
    exchange(h, &mut pair.client, &mut pair.server, 1000);
}

/// A receiver that holds all its buffers stalls the sender, which gets `WouldBlock`, no error, and no more slots than
/// there are. When it lets go everything goes on.
pub fn a_receiver_that_holds_all_stalls_the_sender<H: Harness>(h: &H) {
    let mut pair = pair(h);
    for round in 0..2 {
        let first = round * 10_000;
        let (held, sent) = stall(h, &mut pair.client, &mut pair.server, first);
        assert!(h.stays(|| now(pair.server.try_recv())).is_none(), "a receiver without buffers has received");
        assert!(h.stays(|| now(pair.client.try_reserve(0))).is_none(), "a stalled sender got a slot");
        // One that is let go makes room for one at least.
        let mut held = held.into_iter();
        drop(held.next());
        let next = first + pair.server.limits().recv_slots as u64;
        let kept = h.wait("the first message after a stall", take(&mut pair.server, next, STALL_LEN));
        // It was flushed by itself: its slot comes back, and no other.
        let slot = h.wait("the slot of a message that has arrived", pair.client.reserve(0)).expect("a reserve");
        assert!(now(pair.client.try_reserve(0)).is_none(), "the slot of a message that has not arrived was given out");
        drop((kept, slot, held));
        for id in next + 1..sent {
            h.wait(format_args!("message {id}, after a stall"), take(&mut pair.server, id, STALL_LEN));
        }
        settle(h, &mut pair.client);
        exchange(h, &mut pair.client, &mut pair.server, first + 5000);
    }
}

/// A stall may last: one message that waits, or as many as there are slots, and no error comes of it.
pub fn a_stall_may_last<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let room = pair.server.limits().recv_slots as u64;
    let (mut held, mut sent) = (Vec::new(), 0);
    for id in 0..room {
        let (put, buf) = (put_flushed(&mut pair.client, id, STALL_LEN), take(&mut pair.server, id, STALL_LEN));
        held.push(h.wait("a message", both(put, buf)).1);
    }
    settle(h, &mut pair.client);
    for count in [1, pair.client.limits().send_slots as u64 - 1] {
        for id in room + sent..room + sent + count {
            assert!(try_put(&mut pair.client, id, STALL_LEN), "no slot for message {id}");
        }
        pair.client.flush().expect("a flush");
        sent += count;
        let start = Instant::now();
        while start.elapsed() < h.stall() {
            drop(now(pair.client.try_reserve(8)));
            assert!(now(pair.server.try_recv()).is_none(), "a receiver without buffers has received");
            thread::sleep(Duration::from_millis(5));
        }
    }
    drop(held);
    for id in room..room + sent {
        h.wait(format_args!("message {id}, after a long stall"), take(&mut pair.server, id, STALL_LEN));
    }
    exchange(h, &mut pair.client, &mut pair.server, 5000);
}

pub(crate) const STALL_LEN: usize = 20;

/// Sends from `first` on until the sender is stalled by a receiver that holds all its buffers. What it holds, and the
/// message after the last that was sent.
pub(crate) fn stall<H: Harness, S: SendSide, R: RecvSide>(
    h: &H,
    sender: &mut S,
    receiver: &mut R,
    first: u64,
) -> (Vec<R::RecvBuf>, u64) {
    let (slots, room) = (sender.limits().send_slots as u64, receiver.limits().recv_slots as u64);
    let mut held = Vec::new();
    for id in first..first + room {
        let (put, buf) = (put_flushed(sender, id, STALL_LEN), take(receiver, id, STALL_LEN));
        held.push(h.wait("a message", both(put, buf)).1);
    }
    settle(h, sender);
    let stalled = first + room;
    for id in stalled..stalled + slots {
        assert!(try_put(sender, id, STALL_LEN), "only {} of {slots} send slots are there", id - stalled);
        sender.flush().expect("a flush");
    }
    (held, stalled + slots)
}

/// `posted` starts at `recv_slots`, never falls, is never behind what was received, and counts each receive once.
pub fn posted_counts_receives<H: Harness>(h: &H) {
    let mut pair = pair(h);
    for (side, name) in [(&pair.client, "client"), (&pair.server, "server")] {
        assert_eq!(side.posted(), side.limits().recv_slots as u64, "posted at the start, on the {name}");
    }
    let slots = pair.server.limits().recv_slots as u64;
    let (mut last, mut released, mut held) = (slots, 0, Vec::new());
    for id in 0..h.many(6 * slots as usize) as u64 {
        let (put, buf) = (put_flushed(&mut pair.client, id, 16), take(&mut pair.server, id, 16));
        held.push(h.wait("a message", both(put, buf)).1);
        if held.len() as u64 == slots || id % 3 == 0 {
            released += 1;
            drop(held.swap_remove(0));
        }
        assert!(poll_once(|cx| pair.server.poll_recv_ready(cx)).is_none(), "ready, though nothing was sent");
        let posted = pair.server.posted();
        let received = id + 1;
        assert!(posted >= last, "posted fell from {last} to {posted}");
        assert!(
            (slots + released - kept_back(slots).min(released)..=slots + received).contains(&posted),
            "of {slots} slots {received} were used and {released} given back, and posted says {posted}"
        );
        assert!(posted - received <= slots, "more receives stand posted than the {slots} slots");
        last = posted;
    }
    assert_eq!(pair.client.posted(), pair.client.limits().recv_slots as u64, "posted, where nothing was received");
}

/// Any number of queued messages and one flush are one doorbell; a flush of nothing is none.
pub fn one_flush_is_one_doorbell<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let slots = pair.client.limits().send_slots.min(pair.server.limits().recv_slots);
    pair.client.flush().expect("a flush of nothing");
    let Some(mut rung) = h.doorbells(&pair.client) else {
        return skip("this fabric does not count doorbells");
    };
    let mut id = 0;
    for count in [0, 1, 2, slots / 2, slots, 0] {
        for next in id..id + count as u64 {
            assert!(try_put(&mut pair.client, next, 16), "no slot on an idle track");
        }
        for expected in [u64::from(count > 0), 0] {
            pair.client.flush().expect("a flush");
            let now = h.doorbells(&pair.client).expect("a count, as before");
            let queued = if expected == 0 { 0 } else { count };
            assert_eq!(now - rung, expected, "doorbells for one flush of {queued} messages");
            rung = now;
        }
        for next in id..id + count as u64 {
            h.wait("a message", take(&mut pair.server, next, 16));
        }
        settle(h, &mut pair.client);
        // Waiting for slots flushes too, but there was nothing left.
        assert_eq!(h.doorbells(&pair.client), Some(rung), "doorbells for a wait with nothing queued");
        id += count as u64;
    }
}

/// A direction that is stalled leaves the other be, and goes on when it can.
pub fn directions_are_independent<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let (held, sent) = stall(h, &mut pair.client, &mut pair.server, 0);
    let slots = pair.server.limits().recv_slots as u64;
    for id in 5000..5000 + h.many(100) as u64 {
        one_way(h, &mut pair.server, &mut pair.client, id);
    }
    drop(held);
    for id in slots..sent {
        h.wait("a message after a stall", take(&mut pair.server, id, STALL_LEN));
    }
    // Send slots that are all reserved do not keep a track from receiving.
    let reserved = reserve_all(&mut pair.client, 8);
    for id in 6000..6000 + h.many(20) as u64 {
        one_way(h, &mut pair.server, &mut pair.client, id);
    }
    drop(reserved);
    exchange(h, &mut pair.client, &mut pair.server, 7000);
}

/// A message that was sent and not flushed may wait, but not for longer than the next flush; and one that was reserved and
/// not sent never arrives.
pub fn only_what_was_sent_arrives<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let mut never = now(pair.client.try_reserve(30)).expect("a slot of an idle track");
    stamp(&mut never, 666);
    pair.client.flush().expect("a flush of nothing");
    assert!(h.stays(|| now(pair.server.try_recv())).is_none(), "a reserved buffer was sent by a flush");
    h.wait("a message", put_flushed(&mut pair.client, 1, 30));
    drop(never);
    h.wait("a message", take(&mut pair.server, 1, 30));
    exchange(h, &mut pair.client, &mut pair.server, 2);
    assert!(h.stays(|| now(pair.server.try_recv())).is_none(), "something arrived that nobody sent");
}
