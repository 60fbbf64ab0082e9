//! What a metered fabric counts, and what it exports.

mod support;

use futures_executor::block_on;
use support::fresh_addr;
use support::metered::{fabrics, join, send};
use trespass_core::{
    ErrorKind, Fabric, Incoming, Listener, ListenerExt, RecvSide, RecvSideExt, SendSide, SendSideExt, Track,
    TransportError,
};

#[test]
fn messages_and_bytes_are_counted_where_they_pass() {
    let fabrics = fabrics();
    let (mut server, mut client) = join(&fabrics, &fresh_addr());
    for len in [0, 1, 100] {
        assert!(send(&mut client, len));
    }
    client.flush().expect("a flush");
    drop((server.try_recv(), server.try_recv()));
    let (sent, received) = (client.counts(), server.counts());
    assert_eq!((sent.messages_sent, sent.bytes_sent, sent.flushes, sent.messages_received), (3, 101, 1, 0));
    assert_eq!((received.messages_received, received.bytes_received, received.messages_sent), (2, 1, 0));
    // Halves count for the same track, and a fabric for its own.
    let (mut from_client, _to_client) = server.split();
    assert!(send(&mut from_client, 7));
    assert_eq!(_to_client.counts().bytes_sent, 7);
    let [server, client] = fabrics.map(|fabric| fabric.snapshot());
    assert_eq!((server.tracks.bytes_sent, server.tracks.bytes_received, server.live_tracks), (7, 1, 1));
    assert_eq!((client.tracks.bytes_sent, client.tracks.bytes_received, client.live_tracks), (101, 0, 1));
}

#[test]
fn stalls_and_waits_are_counted() {
    let fabrics = fabrics();
    let (mut server, mut client) = join(&fabrics, &fresh_addr());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(server.poll_recv_ready(&mut cx).is_pending());
    let kept: Vec<_> = std::iter::from_fn(|| client.try_reserve(1).ok()).collect();
    assert!(client.poll_send_ready(&mut cx).is_pending());
    drop(kept);
    assert!(client.poll_send_ready(&mut cx).is_ready());
    let (client, server) = (client.counts(), server.counts());
    assert_eq!((client.stalls, client.send_waits, client.recv_waits), (1, 1, 0));
    assert_eq!((server.stalls, server.send_waits, server.recv_waits), (0, 0, 1));
}

#[test]
fn posted_follows_the_track() {
    let fabrics = fabrics();
    let (mut server, mut client) = join(&fabrics, &fresh_addr());
    assert_eq!(server.counts().posted, 8, "posted at the start");
    for _ in 0..5 {
        assert!(send(&mut client, 1));
        client.flush().expect("a flush");
        drop(block_on(server.recv()).expect("a message"));
    }
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(server.poll_recv_ready(&mut cx).is_pending());
    assert_eq!(server.posted(), 13);
    assert_eq!(server.counts().posted, 13);
}

#[test]
fn connections_and_their_failures_are_counted() {
    let fabrics = fabrics();
    let [server, client] = &fabrics;
    let addr = fresh_addr();
    drop(join(&fabrics, &addr));
    assert!(block_on(client.connect(&"nobody".parse().expect("an address"))).is_err());
    let mut listener = server.listen(&addr).expect("a listener");
    for refuse in [true, false] {
        let connecting = client.connect(&addr);
        let incoming = block_on(listener.incoming()).expect("a request");
        match refuse {
            true => incoming.refuse(),
            false => drop(incoming),
        }
        assert!(block_on(connecting).is_err());
    }
    assert!(server.listen(&addr).is_err(), "two listeners at one address");
    listener.close();
    assert!(block_on(listener.incoming()).is_err() && block_on(listener.incoming()).is_err());
    let (server, client) = (server.snapshot(), client.snapshot());
    assert_eq!((client.connects, client.connected, client.errors.of(ErrorKind::Refused)), (4, 1, 3));
    assert_eq!((server.requests, server.accepted, server.refused), (3, 1, 2));
    let listens = server.errors.of(ErrorKind::Busy);
    assert_eq!((listens, server.errors.total()), (1, 1), "a close of one's own is no error: {:?}", server.errors);
}

#[test]
fn the_end_of_a_listener_is_counted_once() {
    let [server, _] = fabrics();
    let mut listener = server.listen(&fresh_addr()).expect("a listener");
    server.inner().kill();
    let kinds = [(); 3].map(|()| block_on(listener.incoming()).err().map(|error| error.kind()));
    assert_eq!(kinds, [Some(ErrorKind::Device); 3]);
    let errors = server.snapshot().errors;
    assert_eq!(errors.iter().collect::<Vec<_>>(), [(ErrorKind::Device, 1)]);
}

#[test]
fn an_end_is_counted_once() {
    let fabrics = fabrics();
    let (mut server, mut client) = join(&fabrics, &fresh_addr());
    block_on(client.close()).expect("a clean close");
    for _ in 0..3 {
        assert!(client.try_reserve(1).is_err() && block_on(client.close()).is_ok());
        assert!(block_on(server.recv()).is_err() && block_on(server.reserve(1)).is_err());
    }
    let [ended, closed] = fabrics.each_ref().map(|fabric| fabric.snapshot());
    assert_eq!((closed.closed, closed.errors.total()), (1, 0));
    assert_eq!((ended.closed, ended.errors.of(ErrorKind::Closed), ended.errors.total()), (0, 1, 1));

    let (mut server, mut client) = join(&fabrics, &fresh_addr());
    assert!(client.try_reserve(5000).is_err() && client.try_reserve(6000).is_err(), "longer than the longest");
    client.inner().break_link();
    assert!(client.try_reserve(1).is_err() && server.try_recv().is_err());
    drop((client, server));
    let [ended, broken] = fabrics.map(|fabric| fabric.snapshot());
    assert_eq!((broken.errors.of(ErrorKind::Oversize), broken.errors.of(ErrorKind::Disconnected)), (2, 1));
    assert_eq!((ended.errors.of(ErrorKind::Disconnected), ended.live_tracks, broken.live_tracks), (1, 1, 1));
}

#[test]
fn tracks_that_are_gone_stay_counted() {
    let fabrics = fabrics();
    for round in 1..=3 {
        let (server, mut client) = join(&fabrics, &fresh_addr());
        assert!(send(&mut client, 10));
        let (sender, receiver) = client.split();
        drop(sender);
        assert_eq!(fabrics[1].snapshot().live_tracks, 1, "a half is left");
        drop((receiver, server));
        let counted = fabrics[1].snapshot();
        assert_eq!((counted.live_tracks, counted.tracks.bytes_sent, counted.tracks.posted), (0, 10 * round, 8 * round));
    }
}

#[cfg(feature = "metrics")]
mod exported {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;
    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    /// Keeps the numbers by name and labels.
    #[derive(Default)]
    struct Kept(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

    impl Kept {
        fn place(&self, key: &Key) -> Arc<AtomicU64> {
            let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            let name = format!("{}{labels:?}", key.name());
            Arc::clone(self.0.lock().expect("no panic under this lock").entry(name).or_default())
        }

        fn read(&self, name: &str) -> Option<u64> {
            let kept = self.0.lock().expect("no panic under this lock");
            kept.get(name).map(|count| count.load(Ordering::Relaxed))
        }
    }

    impl Recorder for Kept {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.place(key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.place(key))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn counters_reach_the_recorder() {
        let fabrics = fabrics();
        let (_server, mut client) = join(&fabrics, &fresh_addr());
        let kept = Kept::default();
        for round in 1..=2 {
            assert!(send(&mut client, 20));
            assert!(client.try_reserve(5000).is_err());
            metrics::with_local_recorder(&kept, || fabrics[1].publish());
            let of = |name: &str| kept.read(&format!(r#"{name}["fabric=tested"]"#));
            assert_eq!(of("trespass_messages_sent_total"), Some(round));
            assert_eq!(of("trespass_bytes_sent_total"), Some(20 * round));
            assert_eq!(of("trespass_connected_total"), Some(1));
            assert_eq!(of("trespass_tracks"), Some(1.0_f64.to_bits()));
            let errors = kept.read(r#"trespass_errors_total["fabric=tested", "kind=message too long"]"#);
            assert_eq!(errors, Some(round));
        }
    }
}
