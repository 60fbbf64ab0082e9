//! Connections: every way in which one may fail, and that nothing is left behind.

mod common;

use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use common::{Wakeups, addr, kind_of, poll_once, put, small, take};
use trespass_core::{
    Endpoint, ErrorKind, Fabric, Incoming, Listener, ListenerExt, RecvSide, SendSide, Timer, TransportError, block_on,
};
use trespass_mock::{MockAddr, MockConfig, MockConnecting, MockError, MockFabric, MockIncoming, MockListener, MockNet};

fn fabric() -> MockFabric {
    MockNet::new().fabric(small()).unwrap()
}

fn next(listener: &mut MockListener) -> MockIncoming {
    match poll_once(listener.incoming()) {
        Poll::Ready(Ok(incoming)) => incoming,
        other => panic!("no request: {other:?}"),
    }
}

fn failed(connecting: MockConnecting) -> MockError {
    match poll_once(connecting) {
        Poll::Ready(Err(error)) => error,
        other => panic!("has not failed: {other:?}"),
    }
}

#[test]
fn addresses_are_checked() {
    for good in ["server", "10.0.0.1:4711", "ü", "*"] {
        let addr: MockAddr = good.parse().unwrap();
        assert_eq!((addr.to_string().as_str(), addr.as_str()), (good, good));
        assert_eq!(addr, MockAddr::new(good).unwrap());
    }
    for bad in ["", " ", "a b", "a\n", "\u{7f}", &"a".repeat(256)] {
        let error = bad.parse::<MockAddr>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{bad:?}: {error}");
    }
}

#[test]
fn a_bad_configuration_is_refused_and_named() {
    let good = MockConfig::default;
    let bad = [
        ("max_message", good().with_max_message(0)),
        ("max_message", good().with_max_message((1 << 30) + 1)),
        ("max_message", good().with_max_message(1 << 20).with_send_slots(1 << 15)),
        ("send_slots", good().with_send_slots(0)),
        ("send_slots", good().with_send_slots(usize::MAX)),
        ("recv_slots", good().with_recv_slots(0)),
        ("recv_slots", good().with_recv_slots((1 << 15) + 1)),
        ("inline", good().with_inline((16 << 10) + 1)),
        ("backlog", good().with_backlog(0)),
        ("backlog", good().with_backlog((1 << 16) + 1)),
        ("handshake_timeout", good().with_handshake_timeout(Duration::ZERO)),
        ("close_timeout", good().with_close_timeout(Duration::ZERO)),
    ];
    for (field, config) in bad {
        let error = MockNet::new().fabric(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(field), "{field}: {error}");
    }
    let smallest = good().with_max_message(1).with_send_slots(1).with_recv_slots(1).with_inline(1).with_backlog(1);
    let fabric = MockNet::new().fabric(smallest.clone()).unwrap();
    assert_eq!(fabric.config(), &smallest);
    let (client, _server) = common::join(&fabric, &fabric);
    let limits = client.limits();
    assert_eq!((limits.max_message, limits.inline, limits.send_slots, limits.recv_slots), (1, 1, 1, 1));
}

#[test]
fn nobody_listens() {
    let fabric = fabric();
    let (here, elsewhere) = (addr("here"), MockNet::new().fabric(small()).unwrap());
    assert_eq!(failed(fabric.connect(&here)).kind(), ErrorKind::Refused);
    let _listener = elsewhere.listen(&here).unwrap();
    assert_eq!(failed(fabric.connect(&here)).kind(), ErrorKind::Refused, "nets do not reach each other");
}

#[test]
fn an_address_has_one_listener_at_a_time() {
    let fabric = fabric();
    let here = addr("here");
    let mut first = fabric.listen(&here).unwrap();
    assert_eq!(first.local(), here);
    assert_eq!(fabric.listen(&here).unwrap_err().kind(), ErrorKind::Busy);
    first.close();
    let mut second = fabric.listen(&here).unwrap();
    // A listener that is closed again, or dropped late, does not take the address from its successor.
    first.close();
    drop(first);
    let connecting = fabric.connect(&here);
    drop(next(&mut second));
    assert_eq!(failed(connecting).kind(), ErrorKind::Refused);
    drop(second);
    assert_eq!(failed(fabric.connect(&here)).kind(), ErrorKind::Refused);
    drop(fabric.listen(&here).unwrap());
}

#[test]
fn refused_and_dropped_requests_fail_their_connect() {
    let fabric = fabric();
    let here = addr("here");
    let mut listener = fabric.listen(&here).unwrap();
    for refuse in [true, false] {
        let mut connecting = fabric.connect(&here);
        let (wakeups, waker) = Wakeups::new();
        assert!(std::pin::Pin::new(&mut connecting).poll(&mut Context::from_waker(&waker)).is_pending());
        let incoming = next(&mut listener);
        match refuse {
            true => incoming.refuse(),
            false => drop(incoming),
        }
        assert_eq!(wakeups.take(), 1);
        assert_eq!(failed(connecting).kind(), ErrorKind::Refused);
    }
}

#[test]
fn a_closed_listener_refuses_and_its_tracks_live_on() {
    let fabric = fabric();
    let here = addr("here");
    let mut listener = fabric.listen(&here).unwrap();
    let connecting = fabric.connect(&here);
    let Poll::Ready(Ok(mut server)) = poll_once(next(&mut listener).accept()) else { panic!("not accepted") };
    let (queued, taken) = (fabric.connect(&here), fabric.connect(&here));
    drop(next(&mut listener));
    let late = next(&mut listener);
    let waiting = fabric.connect(&here);
    let (wakeups, waker) = Wakeups::new();
    listener.close();
    listener.close();
    assert_eq!(failed(queued).kind(), ErrorKind::Refused);
    assert_eq!(failed(waiting).kind(), ErrorKind::Refused);
    for _ in 0..2 {
        let closed = listener.poll_incoming(&mut Context::from_waker(&waker));
        assert!(matches!(closed, Poll::Ready(Err(MockError::Closed))));
    }
    assert_eq!(wakeups.take(), 0);
    // What was taken before may still be answered.
    drop(listener);
    assert!(matches!(poll_once(late.accept()), Poll::Ready(Ok(_))));
    assert!(matches!(poll_once(taken), Poll::Ready(Ok(_))));
    let Poll::Ready(Ok(mut client)) = poll_once(connecting) else { panic!("not connected") };
    put(&mut client, b"alive");
    assert_eq!(*take(&mut server), *b"alive");
}

#[test]
fn a_listener_that_waits_is_woken_by_a_request_and_by_its_end() {
    let net = MockNet::new();
    let fabric = net.fabric(small()).unwrap();
    let here = addr("here");
    let mut listener = fabric.listen(&here).unwrap();
    let ((old, old_waker), (new, new_waker)) = (Wakeups::new(), Wakeups::new());
    assert!(listener.poll_incoming(&mut Context::from_waker(&old_waker)).is_pending());
    assert!(listener.poll_incoming(&mut Context::from_waker(&new_waker)).is_pending());
    let connecting = fabric.connect(&here);
    assert_eq!((old.take(), new.take()), (0, 1), "the latest waker wins");
    drop((connecting, fabric.connect(&here)));
    assert!(listener.poll_incoming(&mut Context::from_waker(&new_waker)).is_pending(), "both were withdrawn");
    new.take();
    fabric.kill();
    assert_eq!(new.take(), 1);
}

#[test]
fn the_backlog_is_bounded_and_the_withdrawn_take_no_room() {
    let fabric = MockNet::new().fabric(small().with_backlog(3)).unwrap();
    let here = addr("here");
    let mut listener = fabric.listen(&here).unwrap();
    let mut waiting: Vec<_> = (0..3).map(|_| fabric.connect(&here)).collect();
    let error = failed(fabric.connect(&here));
    assert_eq!((error.kind(), error), (ErrorKind::Busy, MockError::BacklogFull { addr: here.clone(), backlog: 3 }));
    waiting.remove(1);
    waiting.push(fabric.connect(&here));
    assert_eq!(failed(fabric.connect(&here)).kind(), ErrorKind::Busy);
    // In the order in which they came.
    for connecting in waiting {
        let incoming = next(&mut listener);
        let peer = incoming.peer();
        assert!(poll_once(incoming.accept()).is_ready());
        let Poll::Ready(Ok(track)) = poll_once(connecting) else { panic!("not connected") };
        assert_eq!((track.local(), track.peer()), (peer, here.clone()));
    }
    assert!(poll_once(listener.incoming()).is_pending());
}

#[test]
fn a_connect_that_nobody_answers_times_out() {
    let (net, mut driver) = MockNet::virtual_time();
    let slow = net.fabric(small().with_handshake_timeout(Duration::from_secs(60)).with_backlog(2)).unwrap();
    let fast = net.fabric(small().with_handshake_timeout(Duration::from_secs(1))).unwrap();
    let here = addr("here");
    let mut listener = slow.listen(&here).unwrap();
    for (fabric, seconds) in [(&fast, 1), (&slow, 60)] {
        let start = driver.now();
        let error = block_on(&mut driver, fabric.connect(&here)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(driver.now() - start, Duration::from_secs(seconds));
    }
    assert!(poll_once(listener.incoming()).is_pending(), "a request that has timed out is gone");

    // Nobody polls these: they go away all the same, from the queue and from the hands of the listener's user.
    let unpolled = [fast.connect(&here), fast.connect(&here)];
    let incoming = next(&mut listener);
    driver.advance(Duration::from_secs(1));
    let Poll::Ready(Err(error)) = poll_once(incoming.accept()) else { panic!("accepted too late") };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let room = [fast.connect(&here), fast.connect(&here)];
    for connecting in unpolled {
        assert_eq!(failed(connecting).kind(), ErrorKind::TimedOut);
    }
    for connecting in room {
        assert!(poll_once(next(&mut listener).accept()).is_ready());
        assert!(matches!(poll_once(connecting), Poll::Ready(Ok(_))));
    }
}

#[test]
fn a_connect_in_real_time_times_out_too() {
    let fabric = MockNet::new().fabric(small().with_handshake_timeout(Duration::from_millis(20))).unwrap();
    let here = addr("here");
    let _listener = fabric.listen(&here).unwrap();
    let start = fabric.timer().now();
    let error = futures_executor::block_on(fabric.connect(&here)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(fabric.timer().now() - start >= Duration::from_millis(20));
}

#[test]
fn a_withdrawn_request_cannot_be_accepted() {
    let fabric = fabric();
    let here = addr("here");
    let mut listener = fabric.listen(&here).unwrap();
    // Withdrawn while it is queued, and after it was taken.
    drop(fabric.connect(&here));
    let mut connecting = fabric.connect(&here);
    assert!(poll_once(&mut connecting).is_pending());
    let incoming = next(&mut listener);
    drop(connecting);
    let Poll::Ready(Err(error)) = poll_once(incoming.accept()) else { panic!("accepted what was withdrawn") };
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(poll_once(listener.incoming()).is_pending());
}

#[test]
fn either_side_may_drop_an_accepted_connection_unseen() {
    let fabric = fabric();
    let here = addr("here");
    let mut listener = fabric.listen(&here).unwrap();
    let connecting = fabric.connect(&here);
    let Poll::Ready(Ok(mut server)) = poll_once(next(&mut listener).accept()) else { panic!("not accepted") };
    assert!(server.try_reserve(1).is_ok());
    drop(connecting);
    assert_eq!(kind_of(server.try_recv()), ErrorKind::Closed);

    let connecting = fabric.connect(&here);
    drop(next(&mut listener).accept());
    let Poll::Ready(Ok(mut client)) = poll_once(connecting) else { panic!("not connected") };
    assert_eq!(kind_of(client.try_recv()), ErrorKind::Closed);
}

#[test]
fn a_future_that_was_ready_does_not_panic() {
    let fabric = fabric();
    let here = addr("here");
    let mut listener = fabric.listen(&here).unwrap();
    let (mut connecting, mut refused) = (fabric.connect(&here), fabric.connect(&addr("nowhere")));
    let mut accepting = next(&mut listener).accept();
    assert!(matches!(poll_once(&mut connecting), Poll::Ready(Ok(_))));
    assert!(matches!(poll_once(&mut accepting), Poll::Ready(Ok(_))));
    assert!(matches!(poll_once(&mut refused), Poll::Ready(Err(MockError::NobodyListens { .. }))));
    assert!(matches!(poll_once(&mut connecting), Poll::Ready(Err(MockError::Closed))));
    assert!(matches!(poll_once(&mut accepting), Poll::Ready(Err(MockError::Closed))));
    assert!(matches!(poll_once(&mut refused), Poll::Ready(Err(MockError::Closed))));
}

#[test]
fn many_connections_at_once_do_not_cross() {
    let fabric = fabric();
    let here = addr("here");
    let mut listener = fabric.listen(&here).unwrap();
    let count = 100_u8;
    let connecting: Vec<_> = (0..count).map(|_| fabric.connect(&here)).collect();
    let mut servers: Vec<_> = (0..count)
        .map(|_| match poll_once(next(&mut listener).accept()) {
            Poll::Ready(Ok(track)) => track,
            other => panic!("not accepted: {other:?}"),
        })
        .collect();
    for (id, connecting) in (0..count).zip(connecting) {
        let Poll::Ready(Ok(mut client)) = poll_once(connecting) else { panic!("not connected") };
        put(&mut client, &[id]);
        let server = &mut servers[usize::from(id)];
        assert_eq!(client.local(), server.peer());
        assert_eq!(*take(server), [id]);
        put(server, &[!id]);
        assert_eq!(*take(&mut client), [!id]);
    }
}
