//! Datagrams: what their tracks owe instead of what reliable ones do.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use trespass_core::{Endpoint, ErrorKind, Fabric, RecvSide, SendSide, Timer, Track, TransportError, TryError};

use crate::ends::assert_in_time;
use crate::harness::DatagramHarness;
use crate::traffic::{
    Pair, bytes, close, deliver, exchange, expect_kind, hasty_pair, join, length, now, pair, put_flushed, reserve_all,
    stamp, try_put,
};
use crate::wait::{Dice, RecvWait, SendWait, Waits, poll_once};

/// What was sent on one direction: what arrives has to be among it.
#[derive(Default)]
struct Sent(HashSet<Vec<u8>>);

impl Sent {
    /// Sends message `id` at `len` bytes as soon as there is a slot.
    fn put<H: DatagramHarness, S: SendSide>(&mut self, h: &H, side: &mut S, id: u64, len: usize) {
        let what = format_args!("a slot for datagram {id}: the device alone has to give it back");
        let mut buf = h.wait(what, side.reserve(len)).unwrap_or_else(|error| panic!("cannot reserve: {error}"));
        stamp(&mut buf, id);
        self.0.insert(buf.to_vec());
        side.send(buf).unwrap_or_else(|unsent| panic!("a reserved buffer cannot be sent: {}", unsent.error));
    }

    /// [`put`](Sent::put), then a flush.
    fn put_flushed<H: DatagramHarness, S: SendSide>(&mut self, h: &H, side: &mut S, id: u64, len: usize) {
        self.put(h, side, id, len);
        side.flush().unwrap_or_else(|error| panic!("a flush of datagrams fails: {error}"));
    }

    fn check(&self, got: &[u8]) {
        assert!(
            self.0.contains(got),
            "a message of {} bytes arrived, and the peer never sent it like this: {:02x?}…",
            got.len(),
            &got[..got.len().min(16)]
        );
    }

    /// Takes all that has arrived, or arrives soon, and gives it back at once. How many those were.
    fn check_all<H: DatagramHarness, R: RecvSide>(&self, h: &H, side: &mut R) -> usize {
        let mut count = 0;
        while let Some(buf) = h.stays(|| now(side.try_recv())) {
            self.check(&buf);
            count += 1;
        }
        count
    }
}

/// Messages of all lengths, both ways, in batches, faster than they are taken: what arrives is what was sent, whole, also
/// while it is held, and while the memory of others is written to. Something does arrive.
pub fn a_datagram_arrives_whole_or_not_at_all<H: DatagramHarness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let (mut there, mut back) = (Sent::default(), Sent::default());
    let max = client.limits().max_message;
    let mut dice = Dice::new(21);
    let (mut held, mut received) = (Vec::new(), 0_usize);
    for id in 0..h.many(1500) as u64 {
        there.put(h, &mut client, id, length(id, max));
        back.put(h, &mut server, !id, length(!id, max));
        if dice.below(4) == 0 {
            client.flush().expect("a flush");
            server.flush().expect("a flush");
            // Memory that was sent, and may be the device's still, is not among this.
            reserve_all(&mut client, max).iter_mut().for_each(|buf| buf.fill(0xEE));
        }
        while let Some(buf) = (dice.below(3) > 0).then(|| now(server.try_recv())).flatten() {
            there.check(&buf);
            held.push(buf);
            received += 1;
        }
        while let Some(buf) = now(client.try_recv()) {
            back.check(&buf);
        }
        held.iter().for_each(|buf| there.check(buf));
        if dice.below(3) == 0 {
            held.clear();
        }
    }
    client.flush().expect("a flush");
    held.clear();
    received += there.check_all(h, &mut server);
    assert!(received > 0, "nothing has arrived at all");
    exchange(h, &mut client, &mut server, 1 << 40);
}

/// Nothing comes of a flush, of a reserve, or of nothing.
pub fn nothing_is_invented<H: DatagramHarness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let mut never = now(client.try_reserve(30)).expect("a slot of an idle track");
    stamp(&mut never, 666);
    for _ in 0..3 {
        client.flush().expect("a flush of nothing");
        assert!(h.stays(|| now(server.try_recv())).is_none(), "something arrived that nobody sent");
    }
    drop(never);
    client.flush().expect("a flush of nothing");
    let mut sent = Sent::default();
    for id in 0..h.many(50) as u64 {
        sent.put_flushed(h, &mut client, id, 30);
        while let Some(buf) = now(server.try_recv()) {
            sent.check(&buf);
        }
    }
    sent.check_all(h, &mut server);
    assert!(h.stays(|| now(client.try_recv())).is_none(), "something arrived at an end to which nobody sent");
}

/// Several tracks between the same fabrics, through one listener, and others that come and go: each end receives what its
/// own peer has sent, and nothing of anybody else's.
pub fn only_the_messages_of_the_peer_arrive<H: DatagramHarness>(h: &H) {
    let Pair { client, server, mut listener, fabrics } = pair(h);
    let mut tracks = vec![(client, server, Sent::default(), Sent::default())];
    for round in 0..h.many(4).max(2) as u64 {
        // The place of one that is gone may be taken by the next.
        if round > 0 {
            drop(tracks.swap_remove(0));
        }
        while tracks.len() < 3 {
            let (client, server) = join(h, &fabrics.client, &mut listener);
            tracks.push((client, server, Sent::default(), Sent::default()));
        }
        for id in 0..h.many(20) as u64 {
            for (at, (client, server, there, back)) in (0..).zip(&mut tracks) {
                let id = ((round << 8 | at) << 32) + id;
                there.put_flushed(h, client, id, 40);
                back.put_flushed(h, server, !id, 40);
            }
            for (client, server, there, back) in &mut tracks {
                while let Some(buf) = now(server.try_recv()) {
                    there.check(&buf);
                }
                while let Some(buf) = now(client.try_recv()) {
                    back.check(&buf);
                }
            }
        }
        for (client, server, there, back) in &mut tracks {
            there.check_all(h, server);
            back.check_all(h, client);
        }
    }
    for (at, (client, server, ..)) in (0..).zip(&mut tracks) {
        exchange(h, client, server, (1 << 50) + 2 * at);
    }
}

/// A message that is sent again and again to a peer that receives gets there, whatever its length, in both directions.
pub fn what_is_sent_again_and_again_arrives<H: DatagramHarness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let max = client.limits().max_message;
    for id in 0..h.many(60) as u64 {
        let len = [length(id, max), max, 0][(id % 3) as usize];
        drop(deliver(h, &mut client, &mut server, 2 * id, len));
        drop(deliver(h, &mut server, &mut client, 2 * id + 1, len));
    }
}

/// A receiver that takes nothing: the sender goes on and on, slots come back, and no call fails, at either end. Then what
/// the receiver had room for comes, and what is sent from then on.
pub fn a_receiver_that_takes_nothing_stalls_nobody<H: DatagramHarness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let mut sent = Sent::default();
    for round in 0..2_u64 {
        flood(h, &mut client, &mut sent, round << 32);
        assert_eq!(slots_when_idle(h, &mut client), client.limits().send_slots, "slots are gone after an overflow");
        sent.check_all(h, &mut server);
        let again = (round << 32) + (1 << 31);
        sent.0.insert(bytes(again, 20).collect());
        drop(deliver(h, &mut client, &mut server, again, 20));
    }
    exchange(h, &mut client, &mut server, 1 << 50);
}

/// The same with a receiver that holds all its buffers: nobody may write to them, and it goes on when it lets go.
pub fn a_receiver_that_holds_all_stalls_nobody<H: DatagramHarness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let mut held = Vec::new();
    for id in 0..server.limits().recv_slots as u64 {
        held.push((id, deliver(h, &mut client, &mut server, id, 24)));
    }
    let mut sent = Sent::default();
    flood(h, &mut client, &mut sent, 1 << 32);
    // The other direction is none the worse.
    for id in 0..h.many(20) as u64 {
        drop(deliver(h, &mut server, &mut client, (2 << 32) + id, 24));
    }
    held.iter().for_each(|(id, buf)| crate::traffic::check(buf, *id, 24));
    drop(held);
    exchange(h, &mut client, &mut server, 3 << 32);
}

/// Sends many times what any queue between the two ends is said to hold.
fn flood<H: DatagramHarness, S: SendSide>(h: &H, side: &mut S, sent: &mut Sent, first: u64) {
    let limits = side.limits();
    for id in first..first + 10 * (limits.send_slots + limits.recv_slots) as u64 {
        sent.put_flushed(h, side, id, 20);
    }
}

/// How many slots there are once the device has sent all.
fn slots_when_idle<H: DatagramHarness, S: SendSide>(h: &H, side: &mut S) -> usize {
    let slots = side.limits().send_slots;
    let all = (0..slots).map(|_| h.wait("a slot of an idle track", side.reserve(0)).expect("a reserve"));
    let all: Vec<_> = all.collect();
    assert!(now(side.try_reserve(0)).is_none(), "a reserve beyond the send slots");
    all.len()
}

/// One track overflows, and the others between the same fabrics, through the same listener, do not notice.
pub fn an_overflow_disturbs_no_other_track<H: DatagramHarness>(h: &H) {
    let Pair { mut client, mut server, mut listener, fabrics } = pair(h);
    let (mut other, mut far) = join(h, &fabrics.client, &mut listener);
    let mut sent = Sent::default();
    for round in 0..h.many(5) as u64 {
        flood(h, &mut client, &mut sent, round << 32);
        exchange(h, &mut other, &mut far, (round << 32) + (1 << 31));
    }
    sent.check_all(h, &mut server);
    exchange(h, &mut client, &mut server, 1 << 50);
    exchange(h, &mut other, &mut far, 1 << 51);
}

/// A close is clean, and soon over, whatever the peer does with what it was sent: nothing.
pub fn a_close_waits_for_the_device_alone<H: DatagramHarness>(h: &H) {
    for hold in [false, true] {
        let Pair { mut client, mut server, fabrics, .. } = hasty_pair(h);
        let mut held = Vec::new();
        while hold && held.len() < server.limits().recv_slots {
            held.push(deliver(h, &mut client, &mut server, held.len() as u64, 24));
        }
        flood(h, &mut client, &mut Sent::default(), 1 << 32);
        // The last ones are flushed by the close itself.
        while try_put(&mut client, 1 << 33, 20) {}
        let timer = fabrics.client.timer();
        let start = timer.now();
        close(h, &mut client);
        assert_in_time("a close that waits for the device alone", timer.now() - start, h.deadlines().close);
        let error = failed(client.try_reserve(1)).expect("an end, after a close");
        expect_kind("a reserve after a close", &error, &[ErrorKind::Closed]);
        drop(held);
    }
}

/// After a close of one's own all that had arrived is there to be read, then comes the end: again and again the same one.
pub fn what_had_arrived_comes_before_the_own_end<H: DatagramHarness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let mut sent = Sent::default();
    let mut id = 0;
    h.spin("a datagram, polled for", || {
        sent.put_flushed(h, &mut server, id, 30);
        id += 1;
        poll_once(|cx| client.poll_recv_ready(cx))
    });
    close(h, &mut client);
    let mut arrived = 0;
    let end = loop {
        match h.wait("what had arrived, or the end", client.recv()) {
            Ok(buf) => sent.check(&buf),
            Err(error) => break error,
        }
        arrived += 1;
    };
    assert!(arrived > 0, "what had arrived before a close was thrown away");
    expect_kind("the end of the receive side", &end, &[ErrorKind::Closed]);
    let sending = failed(client.try_reserve(1)).expect("an end, after a close");
    for round in 0..3 {
        assert!(poll_once(|cx| client.poll_recv_ready(cx)).is_some(), "not ready to say that it has ended");
        assert!(poll_once(|cx| client.poll_send_ready(cx)).is_some(), "not ready to say that it has ended");
        let again = failed(client.try_recv()).expect("an end does not become WouldBlock");
        assert_eq!(again.to_string(), end.to_string(), "the error of the receive side, in round {round}");
        let again = failed(client.try_reserve(1)).expect("an end does not become WouldBlock");
        assert_eq!(again.to_string(), sending.to_string(), "the error of the send side, in round {round}");
    }
}

/// A peer that is gone: its end need not show, but every call returns, slots come back, and a close is over in time.
pub fn a_peer_that_is_gone_hangs_nobody<H: DatagramHarness>(h: &H) {
    for by_close in [false, true] {
        let Pair { mut client, mut server, fabrics, .. } = hasty_pair(h);
        exchange(h, &mut client, &mut server, 1);
        if by_close {
            close(h, &mut server);
        }
        drop(server);
        let limits = client.limits();
        for id in 0..10 * limits.send_slots as u64 {
            // Either the end shows, or there is a slot.
            let Ok(mut buf) = h.wait("a slot, or the end", client.reserve(20)).map_err(expect_end) else { break };
            stamp(&mut buf, id);
            if let Err(unsent) = client.send(buf) {
                expect_end(unsent.error);
                break;
            }
            if let Err(error) = client.flush() {
                expect_end(error);
                break;
            }
            if let Some(error) = failed(client.try_recv()) {
                expect_end(error);
            }
            let _ = poll_once(|cx| client.poll_recv_ready(cx));
        }
        let timer = fabrics.client.timer();
        let start = timer.now();
        if let Err(error) = h.wait("a close without a peer", client.close()) {
            expect_end(error);
        }
        assert_in_time("a close without a peer", timer.now() - start, h.deadlines().close);
        assert!(failed(client.try_reserve(1)).is_some(), "a reserve after a close");
    }
}

/// The halves of two tracks on four threads: receivers that sleep, senders that send until enough has been received. No
/// wake-up is lost, whatever else is.
pub fn halves_work_while_messages_are_lost<H: DatagramHarness>(h: &H) {
    let Pair { client, server, .. } = pair(h);
    // A sending half that is dropped ends its track: they stay until all is received.
    let ((mut to_server, mut from_server), (mut to_client, mut from_client)) = (client.split(), server.split());
    let count = h.many(300) as u64;
    let enough = [AtomicBool::new(false), AtomicBool::new(false)];
    thread::scope(|scope| {
        scope.spawn(|| send_until(h, &mut to_server, &enough[0]));
        scope.spawn(|| send_until(h, &mut to_client, &enough[1]));
        scope.spawn(|| receive_many(h, &mut from_server, count, &enough[1]));
        receive_many(h, &mut from_client, count, &enough[0]);
    });
}

/// Sends at a pace at which a receiver can fall asleep in between.
fn send_until<H: DatagramHarness, S: SendSide>(h: &H, side: &mut S, enough: &AtomicBool) {
    let mut id = 0;
    while !enough.load(Ordering::Acquire) {
        h.wait(format_args!("a slot for datagram {id}"), put_flushed(side, id, 40));
        id += 1;
        thread::yield_now();
    }
}

fn receive_many<H: DatagramHarness, R: RecvSide>(h: &H, side: &mut R, count: u64, enough: &AtomicBool) {
    /// The sender goes on until it is told; also when this thread panics.
    struct Tell<'a>(&'a AtomicBool);
    impl Drop for Tell<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let _tell = Tell(enough);
    for at in 0..count {
        let buf = h.wait_with_new_wakers(format_args!("datagram {at} of {count}"), side.recv());
        let buf = buf.unwrap_or_else(|error| panic!("cannot receive: {error}"));
        assert_eq!(buf.len(), 40, "a message of another length than any that was sent");
    }
}

fn expect_end<E: TransportError>(error: E) {
    expect_kind("the end that the peer made", &error, &[ErrorKind::Closed, ErrorKind::Disconnected]);
}

/// The failure, if it is one.
fn failed<T, E>(result: Result<T, TryError<E>>) -> Option<E> {
    result.err().and_then(TryError::failed)
}
