//! Ends: what is delivered before them, how they look, and that everybody hears of them.

use std::task::Context;
use std::time::Duration;

use trespass_core::{Endpoint, ErrorKind, Fabric, RecvSide, SendSide, Timer, Track, TransportError};

use crate::flow::stall;
use crate::harness::{Harness, ReliableHarness, lossless, skip, time_scale};
use crate::traffic::{
    Pair, check, close, deliver, exchange, expect_kind, failure, hasty_pair, join, listen, now, one_way, pair,
    receive_end, send_end, settle, stamp, take, try_put,
};
use crate::wait::{Counter, RecvWait, SendWait, Waits, both, poll_once};

/// All that arrived is delivered before the end, which is `Closed`, again and again; the receive side is ready all the
/// while.
pub fn everything_arrived_comes_before_the_end<H: ReliableHarness>(h: &H) {
    for way in Way::ALL {
        let Pair { mut client, mut server, .. } = pair(h);
        let count = client.limits().send_slots.min(server.limits().recv_slots) as u64;
        for id in 0..count {
            assert!(try_put(&mut client, id, 50), "no slot on an idle track");
        }
        client.flush().expect("a flush");
        // All slots are free: the messages have arrived.
        settle(h, &mut client);
        way.end(h, client);
        for id in 0..count {
            let what = format_args!("message {id}, which arrived before the end ({way:?})");
            let buf = h.wait(what, take(&mut server, id, 50));
            if id % 2 == 0 {
                drop(buf);
            }
        }
        expect_end(h, &mut server, way);
    }
}

fn expect_end<H: Harness, T: SendSide + RecvSide>(h: &H, track: &mut T, way: Way) {
    let end = receive_end(h, track);
    expect_kind(&format!("the end of the receive side ({way:?})"), &end, &[ErrorKind::Closed]);
    let end = send_end(h, track);
    expect_kind(&format!("the end of the send side ({way:?})"), &end, &[ErrorKind::Closed]);
    for _ in 0..3 {
        let again = failure("a receive after the end", track.try_recv()).expect("an end does not become WouldBlock");
        expect_kind("a receive after the end", &again, &[ErrorKind::Closed]);
        let again =
            failure("a reserve after the end", track.try_reserve(1)).expect("an end does not become WouldBlock");
        expect_kind("a reserve after the end", &again, &[ErrorKind::Closed]);
        assert!(poll_once(|cx| track.poll_recv_ready(cx)).is_some(), "not ready to say that it has ended");
        assert!(poll_once(|cx| track.poll_send_ready(cx)).is_some(), "not ready to say that it has ended");
    }
}

/// [`expect_end`] of a track whose peer has ended it, where that must show.
fn expect_far_end<H: Harness, T: SendSide + RecvSide>(h: &H, track: &mut T, way: Way) {
    if lossless::<H>() {
        expect_end(h, track, way);
    }
}

/// How a track may end from afar.
#[derive(Debug, Clone, Copy)]
enum Way {
    Close,
    Drop,
    DropHalves,
    DropHalvesReceiverFirst,
    DropSenderAlone,
}

impl Way {
    const ALL: [Self; 5] =
        [Self::Close, Self::Drop, Self::DropHalves, Self::DropHalvesReceiverFirst, Self::DropSenderAlone];

    /// Ends `track`. What is left of it, which does not count.
    fn end<H: Harness, T: Track>(self, h: &H, mut track: T) -> Option<T::Receiver> {
        match self {
            Self::Close => close(h, &mut track),
            Self::Drop => drop(track),
            Self::DropHalves => {
                let (sender, receiver) = track.split();
                drop(sender);
                drop(receiver);
            }
            Self::DropHalvesReceiverFirst => {
                let (sender, receiver) = track.split();
                drop(receiver);
                drop(sender);
            }
            Self::DropSenderAlone => return Some(track.split().1),
        }
        None
    }
}

/// A clean close and a death look alike from afar: both are `Closed`, on both sides.
pub fn a_close_and_a_death_look_alike<H: ReliableHarness>(h: &H) {
    for way in Way::ALL {
        let Pair { client, mut server, .. } = pair(h);
        let rest = way.end(h, client);
        expect_end(h, &mut server, way);
        drop(rest);
        // It works the other way round too.
        let Pair { mut client, server, .. } = pair(h);
        let rest = way.end(h, server);
        expect_end(h, &mut client, way);
        drop(rest);
    }
}

/// A link that is cut shows as the kind that the fabric states for it, on both ends that are alive.
pub fn a_cut_link_has_its_own_kind<H: ReliableHarness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    one_way(h, &mut client, &mut server, 1);
    let Some(kind) = h.cut(&client) else {
        return skip("this harness cannot cut a link");
    };
    // Only a sender is certain to notice.
    let error = h.wait("the failure of a cut link", async {
        loop {
            match client.reserve(8).await {
                Err(error) => break error,
                Ok(buf) => _ = client.send(buf),
            }
        }
    });
    expect_kind("a send over a cut link", &error, &[kind]);
    for _ in 0..3 {
        let again =
            failure("a reserve after a failure", client.try_reserve(8)).expect("an end does not become WouldBlock");
        assert_eq!(again.to_string(), error.to_string(), "the first cause of a failure does not stick");
    }
}

/// A close may be asked for again and again; after it, reserve and send say `Closed`, and a buffer comes back as it was.
pub fn a_close_is_idempotent<H: Harness>(h: &H) {
    let mut pair = pair(h);
    let mut kept = now(pair.client.try_reserve(20)).expect("a slot of an idle track");
    stamp(&mut kept, 9);
    for _ in 0..3 {
        close(h, &mut pair.client);
        assert!(poll_once(|cx| pair.client.poll_close(cx)).is_some(), "a close that was ready is ready no more");
    }
    let error = failure("a reserve after a close", pair.client.try_reserve(20)).expect("Closed rather than WouldBlock");
    expect_kind("a reserve after a close", &error, &[ErrorKind::Closed]);
    let Err(unsent) = pair.client.send(kept) else { panic!("a send after a close has succeeded") };
    expect_kind("a send after a close", &unsent.error, &[ErrorKind::Closed]);
    check(&unsent.buf, 9, 20);
    expect_far_end(h, &mut pair.server, Way::Close);
    expect_end(h, &mut pair.client, Way::Close);
    // The other end, whose peer has closed, may close as well.
    close(h, &mut pair.server);
    close(h, &mut pair.client);
}

/// Both ends may close at the same time: that the other was faster is no failure where all had arrived.
pub fn both_ends_may_close_at_once<H: Harness>(h: &H) {
    for _ in 0..h.many(5) {
        let Pair { mut client, mut server, .. } = pair(h);
        exchange(h, &mut client, &mut server, 1);
        settle(h, &mut client);
        settle(h, &mut server);
        let (ours, theirs) = h.wait("both closes", both(client.close(), server.close()));
        ours.unwrap_or_else(|error| panic!("the client's close is not clean: {error}"));
        theirs.unwrap_or_else(|error| panic!("the server's close is not clean: {error}"));
        expect_end(h, &mut client, Way::Close);
        expect_end(h, &mut server, Way::Close);
    }
}

/// After a close what had been received may still be read.
pub fn a_closed_track_can_still_be_read<H: ReliableHarness>(h: &H) {
    let mut pair = pair(h);
    let count = pair.server.limits().send_slots.min(pair.client.limits().recv_slots) as u64;
    for id in 0..count {
        assert!(try_put(&mut pair.server, id, 50), "no slot on an idle track");
    }
    pair.server.flush().expect("a flush");
    settle(h, &mut pair.server);
    close(h, &mut pair.client);
    for id in 0..count {
        drop(h.wait("a message that came before the close", take(&mut pair.client, id, 50)));
    }
    expect_end(h, &mut pair.client, Way::Close);
}

/// A close that cannot be clean, because the peer takes nothing, ends with `TimedOut` at the fabric's deadline.
pub fn a_close_has_a_deadline<H: ReliableHarness>(h: &H) {
    let mut pair = hasty_pair(h);
    let (held, _) = stall(h, &mut pair.client, &mut pair.server, 0);
    let timer = pair.fabrics.client.timer();
    let start = timer.now();
    let result = h.wait("a close that cannot be clean", pair.client.close());
    let took = timer.now() - start;
    let Err(error) = result else { panic!("a close is clean, though what was flushed has not arrived") };
    expect_kind("a close past its deadline", &error, &[ErrorKind::TimedOut]);
    let deadline = h.deadlines().close;
    assert!(took >= deadline / 2, "a close gave up after {took:?}, and its deadline is {deadline:?}");
    assert_in_time("a close that cannot be clean", took, deadline);
    let again = h.wait("the same close again", pair.client.close()).err();
    assert_eq!(
        again.map(|error| error.kind()),
        Some(ErrorKind::TimedOut),
        "a close past its deadline, asked for again"
    );
    let ended = failure("a reserve after a close", pair.client.try_reserve(8)).expect("an end rather than WouldBlock");
    expect_kind("a reserve after a close past its deadline", &ended, &[ErrorKind::Closed, ErrorKind::TimedOut]);
    held.iter().zip(0..).for_each(|(buf, id)| check(buf, id, crate::flow::STALL_LEN));
}

/// Fails when `took` is past `deadline` by more than a busy machine explains.
pub(crate) fn assert_in_time(what: &str, took: Duration, deadline: Duration) {
    let slack = Duration::from_secs(2).mul_f64(time_scale());
    assert!(took <= deadline + slack, "{what} took {took:?}, and its deadline is {deadline:?}");
}

/// Dropping a track while everything is under way ends it for the peer.
pub fn a_track_dropped_under_load_ends<H: ReliableHarness>(h: &H) {
    for way in [Way::Drop, Way::DropHalves, Way::DropHalvesReceiverFirst, Way::DropSenderAlone] {
        let Pair { mut client, mut server, .. } = pair(h);
        let (held, sent) = stall(h, &mut client, &mut server, 0);
        let rest = way.end(h, client);
        let mut next = held.len() as u64;
        drop(held);
        // What was under way may arrive or not, but in order, and then the end comes.
        let end = loop {
            match h.wait("the rest, or the end", server.recv()) {
                Ok(buf) => check(&buf, next, crate::flow::STALL_LEN),
                Err(error) => break error,
            }
            next += 1;
            assert!(next <= sent, "more messages arrived than were sent");
        };
        expect_kind("the end of a track dropped under load", &end, &[ErrorKind::Closed]);
        expect_end(h, &mut server, way);
        drop(rest);
    }
}

/// A receiving half that is dropped leaves the sending half be.
pub fn a_sender_outlives_its_receiver<H: Harness>(h: &H) {
    let Pair { client, mut server, .. } = pair(h);
    let (mut sender, receiver) = client.split();
    drop(receiver);
    for id in 0..h.many(50) as u64 {
        one_way(h, &mut sender, &mut server, id);
    }
    close(h, &mut sender);
    expect_far_end(h, &mut server, Way::Close);
}

/// Whoever waits when the end comes is woken and told: a sender that is stalled, and a receiver.
pub fn the_end_wakes_everybody<H: ReliableHarness>(h: &H) {
    for way in Way::ALL {
        let Pair { client, mut server, .. } = pair(h);
        let bufs = crate::traffic::reserve_all(&mut server, 8);
        let (sender, receiver) = (Counter::new(), Counter::new());
        let (send_waker, recv_waker) = (sender.waker(), receiver.waker());
        assert!(server.poll_send_ready(&mut Context::from_waker(&send_waker)).is_pending(), "no slot is free");
        assert!(server.poll_recv_ready(&mut Context::from_waker(&recv_waker)).is_pending(), "nothing was sent");
        let rest = way.end(h, client);
        receiver.expect_wake(h, format_args!("the end ({way:?}), which the receive side waited for"));
        sender.expect_wake(h, format_args!("the end ({way:?}), which the send side waited for"));
        drop((bufs, rest));
        expect_end(h, &mut server, way);
    }
}

/// A stalled sender hears of the end while its messages are under way.
pub fn the_end_wakes_a_stalled_sender<H: ReliableHarness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let (held, _) = stall(h, &mut client, &mut server, 0);
    let counter = Counter::new();
    let waker = counter.waker();
    assert!(client.poll_send_ready(&mut Context::from_waker(&waker)).is_pending(), "no slot is free");
    drop(server);
    counter.expect_wake(h, "the end, which a stalled sender waited for");
    let end = send_end(h, &mut client);
    expect_kind("the end of a stalled track", &end, &[ErrorKind::Closed]);
    drop(held);
}

/// A close by one half of a split track ends the wait of the other half.
pub fn a_close_wakes_the_own_receiver<H: Harness>(h: &H) {
    let Pair { client, mut server, .. } = pair(h);
    let (mut sender, mut receiver) = client.split();
    let counter = Counter::new();
    let waker = counter.waker();
    assert!(receiver.poll_recv_ready(&mut Context::from_waker(&waker)).is_pending(), "nothing was sent");
    close(h, &mut sender);
    counter.expect_wake(h, "the close by the other half");
    let end = receive_end(h, &mut receiver);
    expect_kind("the end of the receiving half", &end, &[ErrorKind::Closed]);
    expect_far_end(h, &mut server, Way::Close);
}

/// The first cause is what every later call says.
pub fn the_first_cause_sticks<H: ReliableHarness>(h: &H) {
    let Pair { client, mut server, .. } = pair(h);
    let kept = now(server.try_reserve(8)).expect("a slot of an idle track");
    drop(client);
    let first = receive_end(h, &mut server);
    let sending = send_end(h, &mut server);
    for round in 0..3 {
        let receive = failure("a receive after the end", server.try_recv()).expect("an end rather than WouldBlock");
        let reserve = failure("a reserve after the end", server.try_reserve(8)).expect("an end rather than WouldBlock");
        assert_eq!(receive.to_string(), first.to_string(), "the error of the receive side, in round {round}");
        assert_eq!(reserve.to_string(), sending.to_string(), "the error of the send side, in round {round}");
        let too_long = server.limits().max_message + 1;
        let error = failure("a reserve after the end", server.try_reserve(too_long)).expect("an error");
        expect_kind("a reserve above the maximum after the end", &error, &[ErrorKind::Oversize, sending.kind()]);
    }
    let unsent = server.send(kept).expect_err("an error: the track has ended");
    expect_kind("a send after the end", &unsent.error, &[sending.kind()]);
    let closed: Vec<_> =
        (0..2).map(|_| h.wait("a close after the end", server.close()).map_err(|e| e.kind())).collect();
    assert_eq!(closed[0], closed[1], "a close after the end, asked for twice");
}

/// The end of one track, in whatever way, is nothing to the others of its fabric and listener.
pub fn the_end_of_one_disturbs_no_other<H: Harness>(h: &H) {
    let fabrics = h.fabrics();
    let mut listener = listen(h, &fabrics.server);
    let mut pairs: Vec<_> = (0..3).map(|_| join(h, &fabrics.client, &mut listener)).collect();
    for (round, way) in (0..).zip(Way::ALL) {
        let (client, mut server) = join(h, &fabrics.client, &mut listener);
        for (at, (client, _)) in pairs.iter_mut().enumerate() {
            assert!(try_put(client, round, 30), "no slot on an idle track {at}");
            client.flush().expect("a flush");
        }
        let rest = way.end(h, client);
        expect_far_end(h, &mut server, way);
        for (client, server) in &mut pairs {
            if lossless::<H>() {
                h.wait("a message under way while another track ended", take(server, round, 30));
            }
            exchange(h, client, server, 100);
            drop(deliver(h, server, client, 5, 8));
        }
        drop(rest);
    }
}

/// A close after the peer has gone is not clean when something was under way.
pub fn a_close_tells_what_was_lost<H: ReliableHarness>(h: &H) {
    let Pair { mut client, mut server, .. } = pair(h);
    let (held, _) = stall(h, &mut client, &mut server, 0);
    drop(server);
    send_end(h, &mut client);
    let result = h.wait("a close after the peer has gone", client.close());
    let error = result.expect_err("a close is clean, though what was flushed has not arrived");
    expect_kind("a close after the peer has gone", &error, &[ErrorKind::Closed]);
    drop(held);
}
