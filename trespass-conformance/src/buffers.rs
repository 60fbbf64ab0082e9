//! Buffers: lengths, slots, memory, and whose they are.

use std::thread;

use trespass_core::{Endpoint, ErrorKind, RecvSide, SendBuf, SendSide, Track, TransportError, Unsent};

use crate::harness::{Harness, ReliableHarness, lossless};
use crate::traffic::{
    BLANK, arrive, bytes, check, close, deliver, deliver_said, drain, exchange, expect_kind, failure, far_end, join,
    kept_back, listen, now, one_way, pair, put_flushed, reserve_all, settle, stamp, take, try_put,
};
use crate::wait::{Counter, Dice, SendWait, Waits, poll_once};

/// Every length from nothing to the maximum arrives as it was sent, in both directions.
pub fn every_length_arrives_whole<H: Harness>(h: &H) {
    let mut pair = pair(h);
    for (at, len) in lengths(&pair.client).into_iter().enumerate() {
        let id = at as u64;
        drop(deliver(h, &mut pair.client, &mut pair.server, id, len));
        drop(deliver(h, &mut pair.server, &mut pair.client, !id, len));
    }
}

/// A buffer is as long as was asked for; one byte above the maximum is `Oversize`, costs no slot and ends nothing.
pub fn reserve_gives_what_was_asked_for<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let limits = pair.client.limits();
    assert!(limits.send_slots > 0 && limits.recv_slots > 0, "a track without slots: {limits:?}");
    for len in lengths(&pair.client) {
        let buf = now(pair.client.try_reserve(len)).expect("a slot of an idle track");
        assert_eq!(buf.len(), len, "a reserved buffer has another length than was asked for");
    }
    for round in 0..2 * limits.send_slots {
        for len in [limits.max_message + 1, usize::MAX] {
            let refused = failure("a reserve above the maximum", pair.client.try_reserve(len));
            let Some(error) = refused else {
                panic!("a reserve of {len} bytes says WouldBlock on an idle track, in round {round}")
            };
            expect_kind("a reserve above the maximum", &error, &[ErrorKind::Oversize]);
        }
    }
    let all = reserve_all(&mut pair.client, limits.max_message);
    assert_eq!(all.len(), limits.send_slots, "refused reserves have cost slots");
    drop(all);
    exchange(h, &mut pair.client, &mut pair.server, 1);
}

/// After a reserve there is room: all slots reserved, all of them can be sent, without a flush in between.
pub fn reserved_buffers_can_be_sent<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let slots = pair.client.limits().send_slots;
    let mut next = 0;
    for round in 0..4 {
        let bufs = reserve_all(&mut pair.client, 8);
        assert_eq!(bufs.len(), slots, "not all send slots of an idle track can be reserved, in round {round}");
        for (id, mut buf) in (next..).zip(bufs) {
            stamp(&mut buf, id);
            let sent = pair.client.send(buf);
            sent.unwrap_or_else(|unsent| panic!("a reserved buffer cannot be sent: {}", unsent.error));
        }
        pair.client.flush().expect("a flush");
        arrive(h, &mut pair.server, next..next + slots as u64, 8);
        next += slots as u64;
        settle(h, &mut pair.client);
    }
}

/// `truncate` shortens what is sent, to nothing if need be, and never lengthens it.
pub fn truncate_shortens_the_message<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let len = 100.min(pair.client.limits().max_message);
    for to in [len, len - 1, len / 2, 1, 0, len + 1, usize::MAX] {
        let say = || {
            let mut buf = h.wait("a slot of an idle track", pair.client.reserve(len)).expect("a reserve");
            stamp(&mut buf, 7);
            buf.truncate(to);
            assert_eq!(buf.len(), to.min(len), "the length of a buffer of {len} bytes after truncate({to})");
            assert!(buf.iter().copied().eq(bytes(7, to.min(len))), "truncate({to}) changed the bytes that it keeps");
            pair.client.send(buf).expect("a send");
            pair.client.flush().expect("a flush");
        };
        let what = format_args!("a message truncated to {to}");
        drop(deliver_said(h, what, &mut pair.server, 7, to.min(len), say));
        settle(h, &mut pair.client);
    }
}

/// A buffer that is dropped unsent frees its slot, on whatever thread, and however often.
pub fn dropped_send_buffers_free_their_slots<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let slots = pair.client.limits().send_slots;
    let mut dice = Dice::new(5);
    for round in 0..8 {
        let mut bufs = reserve_all(&mut pair.client, 16);
        assert_eq!(bufs.len(), slots, "dropped buffers have cost slots, in round {round}");
        let kept = bufs.swap_remove(dice.below(slots));
        if round % 2 == 0 {
            drop(bufs);
        } else {
            thread::scope(|scope| bufs.into_iter().for_each(|buf| _ = scope.spawn(move || drop(buf))));
        }
        assert_eq!(
            reserve_all(&mut pair.client, 16).len(),
            slots - 1,
            "one buffer of {slots} is kept, in round {round}"
        );
        drop(kept);
    }
    exchange(h, &mut pair.client, &mut pair.server, 1);
}

/// A sender that waits for a slot is woken when a buffer is dropped unsent on another thread.
pub fn dropped_send_buffer_wakes_the_sender<H: Harness>(h: &H) {
    let mut pair = pair(h);
    for round in 0..h.many(50) {
        let mut bufs = reserve_all(&mut pair.client, 16);
        let last = bufs.pop().expect("a track has a slot");
        thread::scope(|scope| {
            scope.spawn(move || drop(last));
            let woken = h.wait(format_args!("the slot of a dropped buffer, in round {round}"), pair.client.reserve(16));
            drop(woken.expect("a reserve"));
        });
    }
}

/// Received buffers that are dropped, on whatever thread, are posted again by the next call to the receive side.
pub fn dropped_receive_buffers_are_posted_again<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let slots = pair.server.limits().recv_slots as u64;
    let mut taken = 0;
    for round in 0..4_u64 {
        let mut held = Vec::new();
        for _ in 0..slots {
            held.push(deliver(h, &mut pair.client, &mut pair.server, taken, 24));
            taken += 1;
        }
        if round % 2 == 0 {
            drop(held);
        } else {
            thread::scope(|scope| held.into_iter().for_each(|buf| _ = scope.spawn(move || drop(buf))));
        }
        drain(h, &mut pair.server);
        assert!(poll_once(|cx| pair.server.poll_recv_ready(cx)).is_none(), "ready, though nothing was sent");
        let posted = pair.server.posted();
        assert!(
            posted + kept_back(slots) >= slots + taken,
            "{taken} buffers were given back to {slots} slots, and {posted} are posted"
        );
    }
}

/// A receive side that waits with an empty device is woken when its buffers are dropped on another thread: else the
/// device would stay empty, and the sender stalled.
pub fn dropped_receive_buffers_wake_the_receiver<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let slots = pair.server.limits().recv_slots as u64;
    for round in 0..h.many(10) as u64 {
        let first = round * (slots + 1);
        let mut held = Vec::new();
        for id in first..first + slots {
            held.push(deliver(h, &mut pair.client, &mut pair.server, id, 24));
        }
        drain(h, &mut pair.server);
        // One more than the receiver has room for.
        h.wait("a send slot", put_flushed(&mut pair.client, first + slots, 24));
        let counter = Counter::new();
        let waker = counter.waker();
        let mut cx = std::task::Context::from_waker(&waker);
        if pair.server.poll_recv_ready(&mut cx).is_pending() {
            thread::scope(|scope| _ = scope.spawn(move || drop(held)));
            counter.expect_wake(h, "buffers given back while it waits with an empty device");
        }
        match lossless::<H>() {
            true => drop(h.wait("the message that had no room", take(&mut pair.server, first + slots, 24))),
            false => drop(deliver(h, &mut pair.client, &mut pair.server, first + slots, 24)),
        }
    }
}

/// Buffers of both kinds live on, unchanged, when their tracks, listener and fabrics are gone.
pub fn buffers_outlive_everything<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let len = 200.min(pair.client.limits().max_message);
    let received = deliver(h, &mut pair.client, &mut pair.server, 1, len);
    let other = deliver(h, &mut pair.server, &mut pair.client, 2, len);
    let mut reserved = now(pair.client.try_reserve(len)).expect("a slot of an idle track");
    stamp(&mut reserved, 3);
    let mut accepted = now(pair.server.try_reserve(len)).expect("a slot of an idle track");
    drop(pair);
    // Whoever uses the memory next: it must not be this.
    let mut next = self::pair(h);
    for id in 10..20 {
        exchange(h, &mut next.client, &mut next.server, id * 2);
    }
    check(&received, 1, len);
    check(&other, 2, len);
    check(&reserved, 3, len);
    stamp(&mut accepted, 4);
    check(&accepted, 4, len);
    drop(next);
    thread::scope(|scope| _ = scope.spawn(move || drop((received, reserved))));
    drop((other, accepted));
}

/// A buffer of another track comes back as it was, and both tracks live on with all their slots.
pub fn foreign_buffers_come_back<H: Harness>(h: &H) {
    let mut one = pair(h);
    let (mut client, mut server) = join(h, &one.fabrics.client, &mut one.listener);
    let mut other = pair(h);
    let slots = client.limits().send_slots;
    for round in 0..slots as u64 + 1 {
        refuses_buffer_of(&mut one.client, &mut client, "another track of its fabric", round);
        refuses_buffer_of(&mut one.client, &mut server, "another accepted track of its fabric", round);
        refuses_buffer_of(&mut one.client, &mut one.server, "its own peer", round);
        refuses_buffer_of(&mut one.server, &mut one.client, "its own peer", round);
        refuses_buffer_of(&mut one.client, &mut other.client, "a track of another fabric", round);
    }
    exchange(h, &mut one.client, &mut one.server, 1);
    exchange(h, &mut client, &mut server, 1);
    exchange(h, &mut other.client, &mut other.server, 1);
    assert_eq!(reserve_all(&mut client, 1).len(), slots, "buffers that came back have cost slots");
}

fn refuses_buffer_of<T: Track>(track: &mut T, owner: &mut T, whose: &str, id: u64) {
    let mut buf = now(owner.try_reserve(40)).expect("a slot of an idle track");
    stamp(&mut buf, id);
    let Err(unsent) = track.send(buf) else { panic!("a buffer of {whose} was sent") };
    expect_kind("a send of a foreign buffer", &unsent.error, &[ErrorKind::ForeignBuffer]);
    check(&unsent.buf, id, 40);
    track.flush().expect("a flush of a track that refused a buffer");
    // It is still good where it belongs; dropping it there gives its slot back.
    drop(unsent.buf);
}

/// While a received buffer is held nothing writes to it, whatever passes through the others.
pub fn held_receive_buffers_stay_unchanged<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let limits = pair.server.limits();
    let len = limits.max_message.min(1024);
    let mut held = Vec::new();
    for id in 0..limits.recv_slots as u64 {
        let buf = deliver(h, &mut pair.client, &mut pair.server, id, len);
        if id % 2 == 0 && held.len() + 1 < limits.recv_slots {
            held.push((id, buf));
        }
    }
    for id in 1000..1000 + h.many(4 * limits.recv_slots) as u64 {
        drop(deliver(h, &mut pair.client, &mut pair.server, id, len));
        held.iter().for_each(|(id, buf)| check(buf, *id, len));
    }
    // The other direction and the send side's memory are no exception.
    reserve_all(&mut pair.server, len).iter_mut().for_each(|buf| buf.fill(0xEE));
    one_way(h, &mut pair.server, &mut pair.client, 1);
    close(h, &mut pair.client);
    held.iter().for_each(|(id, buf)| check(buf, *id, len));
}

/// Memory that was sent is nobody's until it has been: buffers that are reserved and scribbled over meanwhile are
/// others.
pub fn sent_memory_is_not_reused_early<H: ReliableHarness>(h: &H) {
    let mut pair = pair(h);
    let limits = pair.client.limits();
    let len = limits.max_message.min(512);
    let count = limits.recv_slots as u64 + limits.send_slots as u64;
    let mut sent = 0;
    // Nobody receives: what does not fit into the receiver's device waits in the sender's memory.
    while sent < count && try_put(&mut pair.client, sent, len) {
        sent += 1;
        if sent % 2 == 0 {
            pair.client.flush().expect("a flush");
        }
        reserve_all(&mut pair.client, len).iter_mut().for_each(|buf| buf.fill(0xEE));
    }
    pair.client.flush().expect("a flush");
    for id in 0..sent {
        drop(h.wait(format_args!("message {id}"), take(&mut pair.server, id, len)));
        reserve_all(&mut pair.client, len).iter_mut().for_each(|buf| buf.fill(0xEE));
    }
}

/// A word of immediate data arrives beside its message, whatever the length, and beside no other; a track that carries none says
/// so, and sends nothing.
pub fn a_word_stays_beside_its_message<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let slots = pair.client.limits().recv_slots;
    let lengths: Vec<usize> = lengths(&pair.client).into_iter().cycle().take(2 * slots.max(8)).collect();
    for (at, len) in lengths.into_iter().enumerate() {
        let (id, word) = (at as u64, (at % 3 != 0).then_some(!(at as u32)));
        word_goes(h, &mut pair.client, &mut pair.server, (id, len), word);
        word_goes(h, &mut pair.server, &mut pair.client, (!id, len), word);
    }
}

fn word_goes<H: Harness, T: Track>(h: &H, a: &mut T, b: &mut T, (id, len): (u64, usize), word: Option<u32>) {
    let Some(word) = word else {
        let buf = deliver(h, a, b, id, len);
        assert_eq!(T::immediate(&buf), None, "message {id} was sent without a word, and has one");
        return;
    };
    let mut stamped = || {
        let mut buf = h.wait(format_args!("a slot for message {id}"), a.reserve(len)).expect("a slot");
        stamp(&mut buf, id);
        let carries = a.carries_immediate();
        match a.send_immediate(buf, word) {
            Ok(()) => assert!(carries, "message {id} has a word, on a track that says that it carries none"),
            Err(Unsent { buf, error }) => {
                assert!(error.is_none(), "a word cannot be sent: {}", error.expect("one"));
                assert!(!carries, "a word is not carried, on a track that says that it carries such");
                check(&buf, id, len);
            }
        }
        a.flush().expect("a flush");
        carries
    };
    if !stamped() {
        // Whatever comes next is not it.
        exchange(h, a, b, id ^ 1 << 40);
        return;
    }
    let mut first = true;
    let buf = deliver_said(h, format_args!("message {id} of {len} bytes, with a word"), b, id, len, || {
        if !std::mem::take(&mut first) {
            stamped();
        }
    });
    assert_eq!(T::immediate(&buf), Some(word), "the word beside message {id}");
}

/// A reserved buffer shows nothing that a peer sent: not to the same track, not to another, not to one made later.
pub fn reserved_buffers_hold_nothing_of_a_peer<H: Harness>(h: &H) {
    let fabrics = h.fabrics();
    let mut listener = listen(h, &fabrics.server);
    let (mut client, mut server) = join(h, &fabrics.client, &mut listener);
    let (mut neighbour, far) = join(h, &fabrics.client, &mut listener);
    let len = server.limits().max_message;
    for id in 0..2 * server.limits().recv_slots as u64 {
        drop(deliver(h, &mut client, &mut server, id, len));
        assert_blank(&mut server, "the track that received");
    }
    assert_blank(&mut neighbour, "another track");
    close(h, &mut client);
    if let Some(ended) = far_end(h, &mut server) {
        expect_kind("the end of a closed track", &ended, &[ErrorKind::Closed]);
    }
    drop((client, server, neighbour, far));
    let (mut client, mut server) = join(h, &fabrics.client, &mut listener);
    assert_blank(&mut client, "a later track");
    assert_blank(&mut server, "a later accepted track");
}

fn assert_blank<S: SendSide<Error: TransportError>>(side: &mut S, whose: &str) {
    let len = side.limits().max_message;
    for buf in reserve_all(side, len) {
        let at = buf.iter().position(|byte| *byte != BLANK);
        assert!(at.is_none(), "a buffer of {whose}, which has sent nothing, has bytes of somebody's at {at:?}");
    }
}

/// The lengths at which things go wrong, and some others.
fn lengths<E: Endpoint>(end: &E) -> Vec<usize> {
    let limits = end.limits();
    let max = limits.max_message;
    let edges = [0, 1, 2, 3, 7, 8, 9, 63, 64, 65, max / 2, max.saturating_sub(1), max];
    let inline = [limits.inline.saturating_sub(1), limits.inline, limits.inline + 1];
    let mut dice = Dice::new(11);
    let others: Vec<usize> = (0..6).map(|_| dice.below(max + 1)).collect();
    let mut all: Vec<usize> = edges.into_iter().chain(inline).chain(others).filter(|len| *len <= max).collect();
    all.sort_unstable();
    all.dedup();
    all
}
