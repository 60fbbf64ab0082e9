//! The publish-subscribe of `examples/custom_carrier`, exercised over any fabric.

use std::future::Future;
use std::time::Duration;

use trespass::carriers::MessageCarrier;
use trespass::core::{
    Carrier, ErrorKind, InOrder, Incoming, Listener, ListenerExt, Lossless, RecvSideExt, Role, SendSide, SendSideExt,
    ThreadFabric, Track, TransportError, wait_within,
};

#[path = "../../examples/custom_carrier/pubsub/mod.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
pub(crate) mod pubsub;

use pubsub::wire::Frame;
use pubsub::{Feed, PubSubError, PublishError, Publisher, PublisherConfig, Server, Subscriber, message_config};

/// Nothing here takes longer, or it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn within<F: Future>(future: F) -> F::Output {
    wait_within(PATIENCE, future).expect("it hangs")
}

/// Two fabrics that reach each other, and where to listen.
pub(crate) struct Ends<F: ThreadFabric> {
    pub(crate) server: F,
    pub(crate) client: F,
    pub(crate) addr: F::Addr,
}

type TrackError<F> = <F as trespass::core::Fabric>::Error;

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> Ends<F> {
    fn serve(&self, config: PublisherConfig) -> (Publisher, Server<F>) {
        let publisher = Publisher::new(config);
        let server = Server::start(&self.server, &self.addr, publisher.clone(), 16).expect("listens");
        (publisher, server)
    }

    fn track(&self, server: &Server<F>) -> F::Track {
        within(self.client.connect(server.addr())).unwrap_or_else(|error| panic!("cannot connect: {error}"))
    }

    fn subscriber(&self, server: &Server<F>) -> Subscriber<F::Track> {
        within(Subscriber::open(self.track(server), Role::Connector, message_config())).expect("shakes hands")
    }
}

fn subscribe<T: Track<Delivery: Lossless + InOrder>>(subscriber: &mut Subscriber<T>, topic: &str) {
    within(subscriber.subscribe(topic)).expect("subscribes");
}

/// Publishes to `count` subscribers, once they are there: requests take their time.
fn publish_to(publisher: &Publisher, count: usize, topic: &str, payload: &[u8]) {
    assert!(publisher.wait_for(Some(topic), PATIENCE, |there| there >= count), "{count} subscribers never came");
    assert!(publisher.publish(topic, payload).expect("publishes") >= count);
}

/// An event: its topic, its payload, how many were missed, and whether it was retained.
type Seen = (String, Vec<u8>, u64, bool);

fn next<T: Track<Delivery: Lossless + InOrder>>(subscriber: &mut Subscriber<T>) -> Option<Seen> {
    let received = within(subscriber.recv()).expect("receives")?;
    let event = received.event().expect("an event");
    Some((event.topic.to_owned(), event.payload.to_vec(), event.missed, event.retained))
}

/// The next event that has `payload`: those before it were published while others were waited for.
fn until<T: Track<Delivery: Lossless + InOrder>>(subscriber: &mut Subscriber<T>, payload: &[u8]) -> Seen {
    loop {
        let seen = next(subscriber).expect("no goodbye yet");
        if seen.1 == payload {
            return seen;
        }
    }
}

/// All of it. `ends` makes fresh ones for each case.
pub(crate) fn exercise<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: impl Fn() -> Ends<F>) {
    topics_reach_those_who_asked(&ends());
    late_ones_get_the_latest(&ends());
    a_slow_one_misses_the_oldest_and_is_told(&ends());
    death_disturbs_nobody(&ends());
    the_end_is_a_goodbye(&ends());
    the_peer_may_be_anybody(&ends());
    either_end_may_connect(&ends());
    what_is_too_long_is_refused(&ends());
}

fn topics_reach_those_who_asked<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let (publisher, server) = ends.serve(PublisherConfig::default());
    let (mut one, mut two, mut both) = (ends.subscriber(&server), ends.subscriber(&server), ends.subscriber(&server));
    subscribe(&mut one, "one");
    subscribe(&mut two, "two");
    subscribe(&mut both, "one");
    subscribe(&mut both, "two");
    publish_to(&publisher, 2, "one", b"start");
    publish_to(&publisher, 2, "two", b"start");
    for n in 0..100_u8 {
        assert_eq!(publisher.publish("one", &[n]), Ok(2));
        assert_eq!(publisher.publish("two", &[n, n]), Ok(2));
    }
    assert_eq!(publisher.publish("three", b"nobody"), Ok(0));
    // In order, each once, and nothing else.
    for n in 0..100 {
        assert_eq!(until(&mut one, &[n]).0, "one");
        assert_eq!(until(&mut two, &[n, n]).0, "two");
        assert_eq!(until(&mut both, &[n]).0, "one");
        assert_eq!(next(&mut both), Some(("two".into(), vec![n, n], 0, false)));
    }
    within(both.unsubscribe("one")).expect("unsubscribes");
    let start = std::time::Instant::now();
    while publisher.publish("one", b"after").expect("publishes") > 1 {
        assert!(start.elapsed() < PATIENCE, "it never unsubscribes");
    }
    within(one.close()).expect("closes");
}

fn late_ones_get_the_latest<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let (publisher, server) = ends.serve(PublisherConfig { kept_topics: 1, ..PublisherConfig::default() });
    publisher.publish("kept", b"old").expect("publishes");
    publisher.publish("kept", b"new").expect("publishes");
    publisher.publish("too many", b"x").expect("publishes");
    let mut late = ends.subscriber(&server);
    subscribe(&mut late, "too many");
    subscribe(&mut late, "kept");
    // Asked for twice is asked for once.
    subscribe(&mut late, "kept");
    assert_eq!(next(&mut late), Some(("kept".into(), b"new".to_vec(), 0, true)));
    publish_to(&publisher, 1, "kept", b"live");
    assert_eq!(next(&mut late), Some(("kept".into(), b"live".to_vec(), 0, false)));
}

fn a_slow_one_misses_the_oldest_and_is_told<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(
    ends: &Ends<F>,
) {
    let (publisher, server) = ends.serve(PublisherConfig { queue: 4, ..PublisherConfig::default() });
    let (mut quick, mut slow) = (ends.subscriber(&server), ends.subscriber(&server));
    subscribe(&mut quick, "t");
    subscribe(&mut slow, "t");
    publish_to(&publisher, 2, "t", b"start");
    until(&mut quick, b"start");
    until(&mut slow, b"start");
    // More than all buffers between here and there. The quick one is given the time to keep up.
    let total = 5_000_u32;
    for n in 0..total {
        publisher.publish("t", &n.to_le_bytes()).expect("publishes");
        let seen = loop {
            let seen = next(&mut quick).expect("no goodbye");
            if seen.1 != b"start" {
                break seen;
            }
        };
        assert_eq!((seen.1, seen.2), (n.to_le_bytes().to_vec(), 0), "the quick one misses nothing");
    }
    let (mut got, mut missed, mut expected) = (0_u64, 0_u64, 0_u32);
    loop {
        let (_, payload, before, _) = next(&mut slow).expect("no goodbye");
        missed += before;
        if payload == b"start" {
            continue;
        }
        got += 1;
        let n = u32::from_le_bytes(payload.try_into().expect("four bytes"));
        assert!(n == expected || (n > expected && before > 0), "in order, with gaps only where it is told of them");
        expected = n + 1;
        if n == total - 1 {
            break;
        }
    }
    assert!(missed > 0, "it was slow: {got} of {total}");
    assert!(got + missed >= u64::from(total), "{got} events and {missed} missed are not {total}");
}

fn death_disturbs_nobody<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let (publisher, server) = ends.serve(PublisherConfig::default());
    let mut lives = ends.subscriber(&server);
    subscribe(&mut lives, "t");
    for round in 0..10_u8 {
        let mut dies = ends.subscriber(&server);
        subscribe(&mut dies, "t");
        publish_to(&publisher, 2, "t", b"start");
        match round % 2 {
            // In the middle of everything, with events under way that it never reads,
            0 => (0..50).for_each(|_| _ = publisher.publish("t", &[0; 1000])),
            // or with one in its hands.
            _ => drop(within(dies.recv()).expect("receives")),
        }
        drop(dies);
        publisher.publish("t", &[round]).expect("publishes");
        until(&mut lives, &[round]);
        assert!(publisher.wait_for(None, PATIENCE, |there| there == 1), "a dead subscriber is never forgotten");
    }
}

fn the_end_is_a_goodbye<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let (publisher, server) = ends.serve(PublisherConfig::default());
    let mut subscriber = ends.subscriber(&server);
    subscribe(&mut subscriber, "t");
    publish_to(&publisher, 1, "t", b"start");
    (0..100_u8).for_each(|n| _ = publisher.publish("t", &[n]));
    let dropping = std::thread::spawn(move || drop(server));
    // What was published before the end comes, then the end.
    (0..100).for_each(|n| _ = until(&mut subscriber, &[n]));
    assert_eq!(next(&mut subscriber), None);
    dropping.join().expect("no panic");
    assert_eq!(publisher.publish("t", b"late"), Err(PublishError::Ended));
}

fn the_peer_may_be_anybody<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let (publisher, server) = ends.serve(PublisherConfig { max_topics: 3, ..PublisherConfig::default() });
    let mut bystander = ends.subscriber(&server);
    subscribe(&mut bystander, "t");
    let mut fine = |what: &str| {
        publisher.publish("t", what.as_bytes()).expect("publishes");
        until(&mut bystander, what.as_bytes());
    };
    publish_to(&publisher, 1, "t", b"start");

    // No carrier at all.
    let mut raw = ends.track(&server);
    within(async {
        let buf = raw.reserve(20).await.expect("a slot");
        raw.send(buf).expect("sends");
        raw.flush().expect("flushes");
        while raw.recv().await.is_ok() {}
    });
    fine("after garbage");

    // The carrier below, and then nonsense, before and after the handshake.
    for greet in [false, true] {
        for nonsense in [&b""[..], b"\0", b"\x06", &[4; 300], &[0xff; 600]] {
            let mut carrier =
                within(MessageCarrier::open(ends.track(&server), Role::Connector, message_config())).expect("opens");
            within(async {
                if greet {
                    let mut hello = Vec::new();
                    Frame::hello(pubsub::wire::Side::Subscriber).encode(&mut hello);
                    carrier.send(&hello).await.expect("sends");
                    drop(carrier.recv().await.expect("a welcome"));
                }
                carrier.send(nonsense).await.expect("sends");
                // Whatever it says to that, it ends.
                while let Ok(Some(_)) = carrier.recv().await {}
            });
            fine("after nonsense");
        }
    }

    // Two ends that are the same learn why not, both of them.
    let refused = within(Feed::open(ends.track(&server), Role::Connector, message_config())).err();
    assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::Refused));
    fine("after a refusal");

    // One that wants too much.
    let mut greedy = ends.subscriber(&server);
    (0..4).for_each(|n| subscribe(&mut greedy, &format!("topic {n}")));
    within(async { while let Ok(Some(_)) = greedy.recv().await {} });
    fine("after one that was greedy");
}

/// Who connects is one question, who subscribes another.
fn either_end_may_connect<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let mut listener = ends.server.listen(&ends.addr).expect("listens");
    let publisher = Publisher::new(PublisherConfig::default());
    let (connecting, to) = (ends.client.connect(&listener.local()), publisher.clone());
    let publishing = std::thread::spawn(move || {
        let served: Result<(), PubSubError<TrackError<F>>> = within(async {
            let track = connecting.await.expect("connects");
            to.serve(Feed::open(track, Role::Connector, message_config()).await?).await
        });
        served.expect("a goodbye");
    });
    let mut subscriber = within(async {
        let track = listener.incoming().await.expect("a request").accept().await.expect("accepts");
        Subscriber::open(track, Role::Acceptor, message_config()).await.expect("shakes hands")
    });
    subscribe(&mut subscriber, "t");
    publish_to(&publisher, 1, "t", b"the other way round");
    until(&mut subscriber, b"the other way round");
    within(subscriber.close()).expect("closes");
    publishing.join().expect("no panic");
}

fn what_is_too_long_is_refused<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let (publisher, server) = ends.serve(PublisherConfig::default());
    let mut subscriber = ends.subscriber(&server);
    let (topic, longest) = ("x".repeat(255), [7; 1024]);
    subscribe(&mut subscriber, &topic);
    publish_to(&publisher, 1, &topic, &longest);
    let (seen, payload, ..) = next(&mut subscriber).expect("no goodbye");
    assert!(seen == topic && payload == longest, "the longest of both comes whole");
    assert_eq!(publisher.publish("t", &[0; 1025]), Err(PublishError::TooLong { len: 1025, max: 1024 }));
    let long = "x".repeat(256);
    assert_eq!(publisher.publish(&long, b""), Err(PublishError::TopicTooLong(256)));
    let error = within(subscriber.subscribe(&long)).expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::Oversize);
    publish_to(&publisher, 0, "t", b"");
    within(subscriber.close()).expect("closes");
}
