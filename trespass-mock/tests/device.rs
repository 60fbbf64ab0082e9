//! The device: queues, doorbells, receives, stalls, and what is counted.

mod common;

use std::task::{Context, Waker};

use common::{Wakeups, blocks, failure, join, kind_of, pair, put, queue, small, take};
use static_assertions::assert_impl_all;
use trespass_core::{
    Drive, Endpoint, ErrorKind, RecvSide, RemoteMemory, SendBuf, SendSide, ThreadFabric, ThreadMemoryFabric,
    ThreadTrack, Timer, Track, TransportError,
};
use trespass_mock::{
    MockDriver, MockFabric, MockNet, MockRecvBuf, MockRegion, MockSendBuf, MockSender, MockSharedRegion, MockSleep,
    MockTimer, MockTrack, MockWindow,
};

assert_impl_all!(MockFabric: ThreadFabric, ThreadMemoryFabric);
assert_impl_all!(MockTrack: RemoteMemory);
assert_impl_all!(MockSender: RemoteMemory);
assert_impl_all!(MockRegion: Send, Sync);
assert_impl_all!(MockSharedRegion: Send, Sync);
assert_impl_all!(MockWindow: Send, Sync);
assert_impl_all!(MockTrack: ThreadTrack, Sync);
assert_impl_all!(MockSendBuf: Send, Sync, SendBuf);
assert_impl_all!(MockRecvBuf: Send, Sync);
assert_impl_all!(MockTimer: Timer, Send, Sync);
assert_impl_all!(MockSleep: Send, Sync);
assert_impl_all!(MockDriver: Drive, Send);

#[test]
fn one_flush_is_one_doorbell() {
    let (mut client, mut server) = pair(small());
    client.flush().unwrap();
    assert_eq!(client.counters().doorbells, 0, "nothing was queued");
    for round in 0..3_u8 {
        for id in 0..5 {
            assert!(queue(&mut client, &[round, id]));
        }
        assert!(blocks(server.try_recv()), "nothing goes out before the flush");
        client.flush().unwrap();
        client.flush().unwrap();
        for id in 0..5 {
            assert_eq!(*take(&mut server), [round, id]);
        }
    }
    let counters = client.counters();
    assert_eq!((counters.doorbells, counters.sends, counters.dma_copies, counters.dma_bytes), (3, 15, 15, 30));
    assert_eq!((counters.cpu_copies, counters.rnr_stalls, counters.arms), (0, 0, 0));
    assert_eq!(server.counters().receives, 15);
    assert_eq!(server.counters().doorbells, 0);
}

#[test]
fn waiting_flushes_and_arms() {
    let (mut client, mut server) = pair(small());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(queue(&mut client, b"one"));
    assert!(client.poll_send_ready(&mut cx).is_ready(), "slots are free");
    assert_eq!(*take(&mut server), *b"one");
    assert_eq!(client.counters().arms, 0, "ready at once: nothing to be notified of");
    assert!(queue(&mut client, b"two"));
    assert!(client.poll_recv_ready(&mut cx).is_pending());
    assert_eq!(*take(&mut server), *b"two");
    assert_eq!((client.counters().arms, client.counters().doorbells), (1, 2));
    assert!(server.poll_recv_ready(&mut cx).is_pending());
    assert!(server.poll_recv_ready(&mut cx).is_pending());
    assert_eq!(server.counters().arms, 2);
}

#[test]
fn a_receiver_that_is_not_ready_stalls_the_sender() {
    let (mut client, mut server) = pair(small());
    for id in 0..8_u8 {
        put(&mut client, &[id]);
    }
    let mut held: Vec<_> = (0..8).map(|_| take(&mut server)).collect();
    // The device has no receive: the send queue fills up.
    for id in 8..16_u8 {
        put(&mut client, &[id]);
        assert_eq!(client.counters().rnr_stalls, 1, "only the first of the queue has met the receiver");
    }
    assert!(blocks(client.try_reserve(1)));
    let (wakeups, waker) = Wakeups::new();
    let mut cx = Context::from_waker(&waker);
    assert!(client.poll_send_ready(&mut cx).is_pending());
    assert!(blocks(server.try_recv()));
    assert_eq!((wakeups.take(), server.posted()), (0, 8));

    // One buffer comes back, one message passes, and the next one stalls.
    held.remove(0);
    held.push(take(&mut server));
    assert_eq!(*held[7], [8]);
    assert_eq!((wakeups.take(), server.posted(), client.counters().rnr_stalls), (1, 9, 2));
    drop(client.try_reserve(1).unwrap());
    assert!(blocks(server.try_recv()));

    drop(held);
    for id in 9..16_u8 {
        assert_eq!(*take(&mut server), [id]);
    }
    assert!(blocks(server.try_recv()));
    assert_eq!(client.counters().rnr_stalls, 2, "eight receives for seven messages");
    assert_eq!(client.counters().dma_copies, 16);
    assert_eq!((0..9).filter_map(|_| client.try_reserve(1).ok()).collect::<Vec<_>>().len(), 8, "all slots are back");
}

#[test]
fn a_stall_in_one_direction_leaves_the_other_alone() {
    let (mut client, mut server) = pair(small());
    for id in 0..16_u8 {
        put(&mut client, &[id]);
    }
    for id in 0..100_u8 {
        put(&mut server, &[id]);
        assert_eq!(*take(&mut client), [id]);
    }
    assert!(blocks(client.try_reserve(1)));
}

#[test]
fn receives_are_posted_again_in_batches() {
    // A batch is a quarter of the queue: four.
    let (mut client, mut server) = pair(small().with_recv_slots(16));
    let mut posted = Vec::new();
    for id in 0..12_u8 {
        put(&mut client, &[id]);
        drop(take(&mut server));
        posted.push(server.posted());
    }
    // Each call looks before its own buffer comes back.
    assert_eq!(posted, [16, 16, 16, 16, 20, 20, 20, 20, 24, 24, 24, 24]);
    assert_eq!(server.counters().reposts, 2);
    // A wait posts all.
    assert!(server.poll_recv_ready(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!((server.posted(), server.counters().reposts), (28, 3));
}

#[test]
fn receives_are_posted_at_once_when_few_are_left() {
    let (mut client, mut server) = pair(small().with_recv_slots(16).with_send_slots(16));
    for id in 0..13_u8 {
        put(&mut client, &[id]);
    }
    let held: Vec<_> = (0..12).map(|_| take(&mut server)).collect();
    // Three are posted: less than a batch, so that a single one goes back at once.
    drop(take(&mut server));
    assert!(blocks(server.try_recv()));
    assert_eq!(server.posted(), 17);
    drop(held);
}

#[test]
fn a_buffer_that_comes_back_wakes_a_receiver_whose_device_runs_short() {
    let (mut client, mut server) = pair(small().with_recv_slots(16).with_send_slots(16));
    for id in 0..16_u8 {
        put(&mut client, &[id]);
    }
    let mut held: Vec<_> = (0..16).map(|_| take(&mut server)).collect();
    let (wakeups, waker) = Wakeups::new();
    let mut cx = Context::from_waker(&waker);
    for round in 0..4 {
        assert!(server.poll_recv_ready(&mut cx).is_pending());
        held.pop();
        assert_eq!(wakeups.take(), 1, "the device has {round} receives, which is less than a batch");
    }
    assert!(server.poll_recv_ready(&mut cx).is_pending());
    assert_eq!(server.posted(), 20);
    // Enough are posted for now: only a whole batch is worth a wake-up.
    for _ in 0..3 {
        held.pop();
        assert_eq!(wakeups.take(), 0);
    }
    held.pop();
    assert_eq!(wakeups.take(), 1);
}

#[test]
fn one_slot_on_each_side_is_enough() {
    let (mut client, mut server) = pair(small().with_send_slots(1).with_recv_slots(1));
    for id in 0..10_u8 {
        put(&mut client, &[id]);
        assert_eq!(*take(&mut server), [id]);
    }
    assert_eq!(client.counters().rnr_stalls, 9, "a receiver of one buffer is never ready before it looks");
}

#[test]
fn slots_come_back_when_a_buffer_is_dropped() {
    let (mut client, _server) = pair(small());
    let mut bufs: Vec<_> = (0..8).map(|_| client.try_reserve(4).unwrap()).collect();
    assert!(blocks(client.try_reserve(4)));
    let (wakeups, waker) = Wakeups::new();
    assert!(client.poll_send_ready(&mut Context::from_waker(&waker)).is_pending());
    bufs.pop();
    assert_eq!(wakeups.take(), 1);
    assert!(client.poll_send_ready(&mut Context::from_waker(&waker)).is_ready());
    drop(client.try_reserve(4).unwrap());
}

#[test]
fn oversize_and_foreign_leave_the_track_alive() {
    let (mut client, mut server) = pair(small());
    let (mut stranger, _peer) = pair(small());
    assert_eq!(kind_of(client.try_reserve(257)), ErrorKind::Oversize);
    for owner in [&mut stranger, &mut server] {
        let mut buf = owner.try_reserve(3).unwrap();
        buf.copy_from_slice(b"abc");
        let unsent = client.send(buf).unwrap_err();
        assert_eq!(unsent.error.kind(), ErrorKind::ForeignBuffer);
        assert_eq!(*unsent.buf, *b"abc");
    }
    put(&mut client, b"alive");
    assert_eq!(*take(&mut server), *b"alive");
}

#[test]
fn a_buffer_is_cut_and_never_stretched() {
    let (mut client, mut server) = pair(small());
    let mut buf = client.try_reserve(6).unwrap();
    buf.copy_from_slice(b"abcdef");
    buf.truncate(9);
    assert_eq!(buf.len(), 6);
    buf.truncate(2);
    client.send(buf).unwrap();
    client.flush().unwrap();
    assert_eq!(*take(&mut server), *b"ab");
}

#[test]
fn a_message_longer_than_the_receives_of_the_peer_ends_both() {
    let net = MockNet::new();
    let wide = net.fabric(small().with_max_message(512)).unwrap();
    let narrow = net.fabric(small()).unwrap();
    let (mut client, mut server) = join(&wide, &narrow);
    assert_eq!((client.limits().max_message, server.limits().max_message), (512, 256));
    put(&mut client, &[1; 256]);
    assert!(queue(&mut client, &[2; 257]));
    assert_eq!(client.flush().unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(kind_of(client.try_reserve(1)), ErrorKind::Protocol);
    assert_eq!(take(&mut server).len(), 256, "what arrived before it is delivered");
    let error = failure(server.try_recv());
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("257") && error.to_string().contains("256"), "{error}");
}

#[test]
fn a_long_message_that_had_to_wait_ends_both_as_well() {
    let net = MockNet::new();
    let wide = net.fabric(small().with_max_message(512)).unwrap();
    let narrow = net.fabric(small().with_recv_slots(1)).unwrap();
    for polled in [false, true] {
        let (mut client, mut server) = join(&wide, &narrow);
        put(&mut client, b"first");
        put(&mut client, &[2; 257]);
        let (wakeups, waker) = Wakeups::new();
        assert!(client.poll_recv_ready(&mut Context::from_waker(&waker)).is_pending());
        drop(take(&mut server));
        if polled {
            assert!(server.poll_recv_ready(&mut Context::from_waker(Waker::noop())).is_ready());
        }
        let _ = server.try_recv();
        assert_eq!(wakeups.take(), 1);
        assert_eq!(kind_of(server.try_recv()), ErrorKind::Protocol);
        assert_eq!(kind_of(client.try_recv()), ErrorKind::Protocol);
        assert_eq!(client.flush().unwrap_err().kind(), ErrorKind::Protocol);
    }
}

#[test]
fn a_fabric_counts_for_all_its_tracks() {
    let net = MockNet::new();
    let (one, two) = (net.fabric(small()).unwrap(), net.fabric(small()).unwrap());
    let (mut client, mut server) = join(&one, &two);
    for id in 0..6_u8 {
        put(&mut client, &[id]);
        put(&mut server, &[id, id]);
        drop((take(&mut client), take(&mut server)));
    }
    assert_eq!((one.counters(), two.counters()), (client.counters(), server.counters()));
    let (before, at_client) = (one.counters(), client.counters());
    assert_eq!((at_client.sends, at_client.dma_bytes, at_client.receives), (6, 6, 6));
    // The halves see the same, and what is gone still counts.
    let (mut sender, receiver) = client.split();
    assert_eq!((sender.counters(), receiver.counters()), (at_client, at_client));
    put(&mut sender, &[7]);
    drop((sender, receiver));
    assert_eq!(one.counters().since(before).sends, 1);
    let (mut client, _server) = join(&one, &two);
    put(&mut client, &[8]);
    assert_eq!(one.counters().since(before).sends, 2);
}

#[test]
fn what_is_sent_before_the_accepted_track_is_polled_waits_for_it() {
    let (mut client, mut server) = pair(small());
    for id in 0..8_u8 {
        put(&mut client, &[id]);
    }
    drop(client);
    for id in 0..8_u8 {
        assert_eq!(*take(&mut server), [id]);
    }
    assert_eq!(kind_of(server.try_recv()), ErrorKind::Closed);
}
