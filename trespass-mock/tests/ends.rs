//! Ends: close and its deadline, deaths, broken links.

mod common;

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{Wakeups, addr, failure, join, kind_of, pair, poll_once, put, queue, small, take};
use trespass_core::{
    Endpoint, ErrorKind, Fabric, Incoming, Listener, ListenerExt, RecvSide, RecvSideExt, SendSide, SendSideExt, Timer,
    Track, TransportError, block_on,
};
use trespass_mock::{MockError, MockNet, MockTrack};

fn assert_closed(track: &mut MockTrack) {
    for _ in 0..3 {
        assert_eq!(kind_of(track.try_recv()), ErrorKind::Closed);
        assert_eq!(kind_of(track.try_reserve(1)), ErrorKind::Closed);
        assert_eq!(track.flush().unwrap_err().kind(), ErrorKind::Closed);
        assert!(poll_once(track.recv()).is_ready());
        assert!(poll_once(track.reserve(1)).is_ready());
    }
}

#[test]
fn a_close_delivers_what_was_queued_and_then_ends_both() {
    let (mut client, mut server) = pair(small());
    put(&mut server, b"from afar");
    let kept = client.try_reserve(2).unwrap();
    assert!(queue(&mut client, b"queued"));
    assert_eq!(poll_once(client.close()), Poll::Ready(Ok(())));
    assert_eq!(poll_once(client.close()), Poll::Ready(Ok(())));
    assert_eq!(client.send(kept).unwrap_err().error, MockError::Closed);
    assert_eq!(*take(&mut client), *b"from afar");
    assert_closed(&mut client);
    assert_eq!(*take(&mut server), *b"queued");
    assert_closed(&mut server);
    assert_eq!(poll_once(server.close()), Poll::Ready(Ok(())), "all that it had sent has arrived");
}

#[test]
fn a_close_waits_until_the_peer_has_taken_all() {
    let (mut client, mut server) = pair(small().with_recv_slots(2));
    for id in 0..6_u8 {
        assert!(queue(&mut client, &[id]));
    }
    let (wakeups, waker) = Wakeups::new();
    let mut cx = Context::from_waker(&waker);
    for id in 0..5_u8 {
        assert!(client.poll_close(&mut cx).is_pending());
        assert_eq!(kind_of(client.try_reserve(1)), ErrorKind::Closed, "a close is under way");
        assert_eq!(*take(&mut server), [id]);
    }
    assert!(wakeups.take() > 0);
    assert_eq!(client.poll_close(&mut cx), Poll::Ready(Ok(())));
    assert_eq!(*take(&mut server), [5]);
    assert_closed(&mut server);
}

#[test]
fn a_close_has_a_deadline() {
    let (net, mut driver) = MockNet::virtual_time();
    let fabric = net.fabric(small().with_close_timeout(Duration::from_secs(60))).unwrap();
    let (mut client, mut server) = join(&fabric, &fabric);
    for id in 0..11_u8 {
        if id == 8 {
            client.flush().unwrap();
        }
        assert!(queue(&mut client, &[id]));
    }
    let start = fabric.timer().now();
    // Dropped and taken up again, it keeps its deadline.
    assert!(poll_once(client.close()).is_pending());
    driver.advance(Duration::from_secs(59));
    assert!(poll_once(client.close()).is_pending());
    let result = block_on(&mut driver, client.close());
    assert_eq!(result, Err(MockError::CloseTimedOut { after: Duration::from_secs(60), waiting: 3 }));
    assert_eq!(fabric.timer().now() - start, Duration::from_secs(60));
    assert_eq!(block_on(&mut driver, client.close()), result);
    assert_closed(&mut client);
    for id in 0..8_u8 {
        assert_eq!(*take(&mut server), [id]);
    }
    assert_closed(&mut server);
}

#[test]
fn a_peer_that_goes_fails_a_close_under_way() {
    let (mut client, mut server) = pair(small().with_recv_slots(1));
    put(&mut client, b"1");
    assert!(queue(&mut client, b"2"));
    let (wakeups, waker) = Wakeups::new();
    assert!(client.poll_close(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(*take(&mut server), *b"1");
    drop(server);
    assert!(wakeups.take() > 0);
    assert_eq!(poll_once(client.close()), Poll::Ready(Err(MockError::PeerEnded)));
}

#[test]
fn a_peer_that_is_faster_to_end_the_track_fails_a_close_only_where_something_is_lost() {
    for (waiting, queued, under_way) in [(0, 0, false), (1, 0, false), (0, 1, false), (0, 0, true), (1, 0, true)] {
        let (mut client, mut server) = pair(small().with_recv_slots(1));
        put(&mut client, b"arrives");
        for _ in 0..waiting + usize::from(under_way) {
            put(&mut client, b"waits");
        }
        if under_way {
            assert!(poll_once(client.close()).is_pending());
            assert_eq!(*take(&mut server), *b"arrives");
            assert_eq!(*take(&mut server), *b"waits");
        }
        for _ in 0..queued {
            assert!(queue(&mut client, b"is never flushed"));
        }
        drop(server);
        assert_eq!(kind_of(client.try_reserve(1)), ErrorKind::Closed);
        assert!(poll_once(client.reserve(1)).is_ready());
        let expected = if waiting + queued == 0 { Ok(()) } else { Err(MockError::PeerEnded) };
        for _ in 0..2 {
            assert_eq!(poll_once(client.close()), Poll::Ready(expected.clone()), "{waiting} {queued} {under_way}");
        }
    }
}

#[test]
fn a_dropped_end_looks_like_a_closed_one() {
    for way in 0..4 {
        let (mut client, server) = pair(small());
        let mut rest = None;
        let (recv_wakeups, recv_waker) = Wakeups::new();
        let (send_wakeups, send_waker) = Wakeups::new();
        let bufs: Vec<_> = (0..8).map(|_| client.try_reserve(1).unwrap()).collect();
        assert!(client.poll_recv_ready(&mut Context::from_waker(&recv_waker)).is_pending());
        assert!(client.poll_send_ready(&mut Context::from_waker(&send_waker)).is_pending());
        match way {
            0 => drop(server),
            1 => {
                let (sender, receiver) = server.split();
                drop(receiver);
                assert_eq!(recv_wakeups.take(), 0, "a receiving half that is dropped ends nothing");
                drop(sender);
            }
            2 => drop(server.split().0),
            _ => rest = Some(server.split().1),
        }
        assert_eq!((recv_wakeups.take(), send_wakeups.take()), (1, 1));
        assert_closed(&mut client);
        assert_eq!(failure(client.try_recv()), MockError::PeerEnded);
        drop((bufs, rest));
    }
}

#[test]
fn a_sender_goes_on_without_its_receiver() {
    let (client, mut server) = pair(small());
    let (mut sender, receiver) = client.split();
    put(&mut server, b"nobody reads this");
    drop(receiver);
    for id in 0..50_u8 {
        put(&mut sender, &[id]);
        assert_eq!(*take(&mut server), [id]);
    }
    // The posted receives take what comes until they run out, and then the peer stalls.
    for _ in 0..7 {
        put(&mut server, b"nor this");
    }
    assert_eq!(server.counters().rnr_stalls, 0);
    put(&mut server, b"nor this");
    assert_eq!(server.counters().rnr_stalls, 1);
    assert_eq!(poll_once(sender.close()), Poll::Ready(Ok(())));
    assert_closed(&mut server);
}

#[test]
fn a_killed_fabric_takes_its_tracks_with_it() {
    let net = MockNet::new();
    let (doomed, other) = (net.fabric(small()).unwrap(), net.fabric(small()).unwrap());
    let (mut at_doomed, mut at_other) = join(&doomed, &other);
    let (mut others, mut another) = join(&other, &other);
    put(&mut at_doomed, b"flushed");
    assert!(queue(&mut at_doomed, b"not flushed"));
    put(&mut at_other, b"arrived");
    assert_eq!(*take(&mut at_other), *b"flushed");
    let (wakeups, waker) = Wakeups::new();
    assert!(at_other.poll_recv_ready(&mut Context::from_waker(&waker)).is_pending());

    doomed.kill();
    assert_eq!(wakeups.take(), 1);
    // Its peer cannot tell.
    assert_closed(&mut at_other);
    assert_eq!(failure(at_other.try_recv()), MockError::PeerEnded);
    assert_eq!(*take(&mut at_doomed), *b"arrived");
    assert_eq!(failure(at_doomed.try_recv()), MockError::Killed);
    assert_eq!(failure(at_doomed.try_reserve(1)), MockError::Killed);
    // Nobody else is disturbed.
    put(&mut others, b"alive");
    assert_eq!(*take(&mut another), *b"alive");
}

#[test]
fn a_killed_fabric_takes_its_listeners_and_requests_with_it() {
    let net = MockNet::new();
    let (doomed, other) = (net.fabric(small()).unwrap(), net.fabric(small()).unwrap());
    let (home, abroad) = (addr("home"), addr("abroad"));
    let (mut listener, mut others) = (doomed.listen(&home).unwrap(), other.listen(&abroad).unwrap());
    let taken = other.connect(&home);
    let Poll::Ready(Ok(incoming)) = poll_once(listener.incoming()) else { panic!("no request") };
    let queued = other.connect(&home);
    let outgoing = doomed.connect(&abroad);

    doomed.kill();
    for connecting in [queued, taken] {
        let Poll::Ready(Err(error)) = poll_once(connecting) else { panic!("not refused") };
        assert_eq!(error.kind(), ErrorKind::Refused);
    }
    assert!(poll_once(others.incoming()).is_pending(), "the request of the dead is still there");
    // Whatever the dead try.
    assert!(matches!(poll_once(incoming.accept()), Poll::Ready(Err(MockError::Killed))));
    assert!(matches!(poll_once(outgoing), Poll::Ready(Err(MockError::Killed))));
    assert!(matches!(poll_once(doomed.connect(&abroad)), Poll::Ready(Err(MockError::Killed))));
    assert!(matches!(poll_once(listener.incoming()), Poll::Ready(Err(MockError::Killed))));
    listener.close();
    assert!(matches!(poll_once(listener.incoming()), Poll::Ready(Err(MockError::Killed))), "the first cause sticks");
    assert_eq!(doomed.listen(&addr("anew")).unwrap_err().kind(), ErrorKind::Device);
    drop(other.listen(&home).unwrap());
}

#[test]
fn a_broken_link_fails_both_ends_and_nothing_else() {
    let net = MockNet::new();
    let (one, two) = (net.fabric(small()).unwrap(), net.fabric(small()).unwrap());
    for whole_fabric in [true, false] {
        let (mut client, mut server) = join(&one, &two);
        put(&mut server, b"arrived");
        let (wakeups, waker) = Wakeups::new();
        assert!(server.poll_recv_ready(&mut Context::from_waker(&waker)).is_pending());
        match whole_fabric {
            true => one.break_link(),
            false => client.break_link(),
        }
        assert_eq!(wakeups.take(), 1);
        assert_eq!(*take(&mut client), *b"arrived");
        for track in [&mut client, &mut server] {
            for _ in 0..2 {
                assert_eq!(kind_of(track.try_recv()), ErrorKind::Disconnected);
                assert_eq!(kind_of(track.try_reserve(1)), ErrorKind::Disconnected);
            }
            assert!(matches!(poll_once(track.close()), Poll::Ready(Err(MockError::LinkDown))));
        }
        // The first cause stays.
        drop(client);
        assert_eq!(kind_of(server.try_recv()), ErrorKind::Disconnected);
    }
    let (mut client, mut server) = join(&one, &two);
    put(&mut client, b"a new link");
    assert_eq!(*take(&mut server), *b"a new link");
}

#[test]
fn buffers_outlive_everything() {
    let net = MockNet::new();
    let fabric = net.fabric(small()).unwrap();
    let (mut client, mut server) = join(&fabric, &fabric);
    put(&mut client, b"received");
    let received = take(&mut server);
    let mut reserved = client.try_reserve(4).unwrap();
    drop((client, server, fabric, net));
    reserved.copy_from_slice(b"mine");
    assert_eq!((&*received, &*reserved), (&b"received"[..], &b"mine"[..]));
}

#[test]
fn tracks_outlive_their_fabric_and_keep_its_time() {
    let (mut client, mut server) = pair(small());
    put(&mut client, b"alone");
    assert_eq!(*take(&mut server), *b"alone");
    assert!(client.timer().now() <= server.timer().now());
    assert!(client.poll_recv_ready(&mut Context::from_waker(Waker::noop())).is_pending());
}
