//! Beats, silence, and limits in time: a peer that is gone, or stands still, is found however quiet it is.

mod support;

use std::future::{Future, pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use support::{Carrier, Error, pattern, small};
use trespass_carriers::{CarrierError, ConfigFault, MessageCarrier, MessageConfig, Phase, StreamCarrier, StreamConfig};
use trespass_core::{ErrorKind, Fabric, Incoming, ListenerExt, Role, Timer, TransportError, within};
use trespass_mock::{MockPlan, MockSim, MockTimer, MockTrack};

const SECOND: Duration = Duration::from_secs(1);
/// For how long the track below tries.
const RETRY: Duration = SECOND;

/// Nothing gets through, either way, from one second on.
fn cut() -> MockPlan {
    MockPlan::default().with_retry(RETRY).with_partition(0, 1, SECOND, Duration::from_secs(36_000))
}

/// Runs `left` and `right` at the two ends of one track, by a clock of its own, and returns what they came to.
fn run<L, R>(
    plan: MockPlan,
    left: impl AsyncFnOnce(MockTrack, MockTimer) -> L + 'static,
    right: impl AsyncFnOnce(MockTrack, MockTimer) -> R + 'static,
) -> (L, R)
where
    L: 'static,
    R: 'static,
{
    let mut sim = MockSim::new(1, plan);
    let fabrics = [sim.net().fabric(small()).unwrap(), sim.net().fabric(small()).unwrap()];
    let [here, there] = fabrics.map(Rc::new);
    let mut listener = there.listen(&"there".parse().unwrap()).unwrap();
    let timer = sim.timer();
    let at_right = sim.spawn("right", {
        let timer = timer.clone();
        async move {
            let _fabric = there;
            right(listener.incoming().await.unwrap().accept().await.unwrap(), timer).await
        }
    });
    let at_left = sim.spawn("left", async move {
        let track = here.connect(&"there".parse().unwrap()).await.unwrap();
        left(track, timer).await
    });
    sim.run().unwrap_or_else(|failure| panic!("{failure}"));
    (at_left.output().unwrap(), at_right.output().unwrap())
}

async fn open(track: MockTrack, role: Role, config: MessageConfig) -> Carrier {
    MessageCarrier::open(track, role, config).await.unwrap()
}

/// How long until `future` ends, and how.
async fn timed<F: Future>(timer: &MockTimer, future: F) -> (Duration, F::Output) {
    let start = timer.now();
    let output = future.await;
    (timer.now() - start, output)
}

#[test]
fn whoever_waits_for_a_peer_that_is_cut_off_learns_of_it() {
    let config = MessageConfig::default().with_keepalive(Some(2 * SECOND));
    let wait = async |track, timer: MockTimer, role, config| {
        let mut carrier = open(track, role, config).await;
        let (after, outcome) = timed(&timer, carrier.recv()).await;
        (after, outcome.unwrap_err().kind())
    };
    let here = config.clone();
    let ends = run(
        cut(),
        async move |track, timer| wait(track, timer, Role::Connector, here).await,
        async move |track, timer| wait(track, timer, Role::Acceptor, config).await,
    );
    for (after, kind) in [ends.0, ends.1] {
        assert_eq!(kind, ErrorKind::Disconnected);
        assert!(after <= 2 * 2 * SECOND + RETRY, "{after:?}");
    }
}

#[test]
fn a_reader_of_a_stream_learns_of_it_too() {
    let config = StreamConfig::default().with_keepalive(Some(2 * SECOND));
    let wait = async |track, timer: MockTimer, role, config| {
        let mut stream = StreamCarrier::open(track, role, config).await.unwrap();
        let (after, outcome) = timed(&timer, poll_fn(|cx| stream.poll_fill(cx).map_ok(<[u8]>::len))).await;
        (after, outcome.unwrap_err().kind(), stream.stats().beats_sent)
    };
    let here = config.clone();
    let ends = run(
        cut(),
        async move |track, timer| wait(track, timer, Role::Connector, here).await,
        async move |track, timer| wait(track, timer, Role::Acceptor, config).await,
    );
    for (after, kind, beats) in [ends.0, ends.1] {
        assert_eq!(kind, ErrorKind::Disconnected);
        assert!(after <= 2 * 2 * SECOND + RETRY, "{after:?}");
        assert!(beats > 0);
    }
}

#[test]
fn by_default_it_is_learnt_within_some_seconds() {
    let (after, ()) = run(
        cut(),
        async |track, timer| {
            let mut carrier = open(track, Role::Connector, MessageConfig::default()).await;
            let (after, outcome) = timed(&timer, carrier.recv()).await;
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Disconnected);
            after
        },
        async |track, timer| {
            let _stands_still = open(track, Role::Acceptor, MessageConfig::default()).await;
            timer.sleep(60 * SECOND).await;
        },
    );
    assert!(after <= 2 * 5 * SECOND + RETRY, "{after:?}");
}

#[test]
fn a_peer_that_stands_still_is_silent() {
    let config = MessageConfig::default().with_idle_timeout(Some(3 * SECOND));
    let (after, ()) = run(
        MockPlan::default(),
        async |track, timer| {
            let mut carrier = open(track, Role::Connector, config).await;
            let (after, outcome) = timed(&timer, carrier.recv()).await;
            assert_eq!(outcome.unwrap_err(), CarrierError::TimedOut(Phase::Idle));
            // It is an end like any other.
            assert_eq!(carrier.send(b"more").await.unwrap_err(), CarrierError::TimedOut(Phase::Idle));
            assert_eq!(carrier.close().await.unwrap_err(), CarrierError::TimedOut(Phase::Idle));
            after
        },
        async |track, timer| {
            let _stands_still = open(track, Role::Acceptor, MessageConfig::default()).await;
            timer.sleep(60 * SECOND).await;
        },
    );
    assert!(after >= 3 * SECOND && after <= 3 * 3 * SECOND, "{after:?}");
}

#[test]
fn a_stream_finds_it_silent_too() {
    let config = StreamConfig::default().with_idle_timeout(Some(3 * SECOND));
    let (after, ()) = run(
        MockPlan::default(),
        async |track, timer| {
            let mut stream = StreamCarrier::open(track, Role::Connector, config).await.unwrap();
            let (after, outcome) = timed(&timer, poll_fn(|cx| stream.poll_fill(cx).map_ok(<[u8]>::len))).await;
            assert_eq!(outcome.unwrap_err(), CarrierError::TimedOut(Phase::Idle));
            after
        },
        async |track, timer| {
            let _stands_still = StreamCarrier::open(track, Role::Acceptor, StreamConfig::default()).await.unwrap();
            timer.sleep(60 * SECOND).await;
        },
    );
    assert!(after >= 3 * SECOND && after <= 3 * 3 * SECOND, "{after:?}");
}

#[test]
fn a_send_that_waits_for_a_peer_that_stands_still_ends_too() {
    let config = MessageConfig::default().with_idle_timeout(Some(3 * SECOND));
    let (after, ()) = run(
        MockPlan::default(),
        async |track, timer| {
            let mut carrier = open(track, Role::Connector, config).await;
            let (after, outcome) = timed(&timer, carrier.send(&pattern(1, 10_000))).await;
            assert_eq!(outcome.unwrap_err(), CarrierError::TimedOut(Phase::Idle));
            after
        },
        async |track, timer| {
            let _stands_still = open(track, Role::Acceptor, MessageConfig::default()).await;
            timer.sleep(60 * SECOND).await;
        },
    );
    assert!(after <= 3 * 3 * SECOND, "{after:?}");
}

/// The peer has configured no beats: the handshake told it how often they are needed.
#[test]
fn a_peer_that_waits_is_never_silent_and_half_an_hour_of_beats_leaves_all_credits() {
    let here = MessageConfig::default().with_keepalive(None).with_idle_timeout(Some(3 * SECOND));
    let there = MessageConfig::default().with_keepalive(None);
    let talk = async |carrier: &mut Carrier, first: bool| {
        for at in 0..40 {
            if first {
                carrier.send(&pattern(at, 200)).await.unwrap();
            }
            assert_eq!(*carrier.recv().await.unwrap().unwrap(), pattern(at, 200));
            if !first {
                carrier.send(&pattern(at, 200)).await.unwrap();
            }
        }
    };
    let half_an_hour = 1_800 * SECOND;
    let ends = run(
        MockPlan::default(),
        async move |track, _| {
            let mut carrier = open(track, Role::Connector, here).await;
            let nothing = carrier.recv_within(half_an_hour).await;
            assert_eq!(nothing.unwrap_err(), CarrierError::TimedOut(Phase::Receive));
            talk(&mut carrier, true).await;
            carrier.close().await.unwrap();
            carrier.stats()
        },
        async move |track, _| {
            let mut carrier = open(track, Role::Acceptor, there).await;
            talk(&mut carrier, false).await;
            assert!(carrier.recv().await.unwrap().is_none());
            carrier.close().await.unwrap();
            carrier.stats()
        },
    );
    // The peer beats each second or every other one; this end, which nobody asked, does not.
    assert_eq!(ends.0.beats_sent, 0);
    assert!((900..=1_800).contains(&ends.1.beats_sent), "{:?}", ends.1);
}

/// What it holds keeps the peer from speaking: that is not the peer's silence.
#[test]
fn a_peer_that_has_no_credits_is_not_silent() {
    let here = MessageConfig::default().with_idle_timeout(Some(3 * SECOND));
    let ((), got) = run(
        MockPlan::default(),
        async |track, timer: MockTimer| {
            let mut carrier = open(track, Role::Connector, here).await;
            // Holds them all, and waits for the peer's end.
            let mut held = Vec::new();
            while let Ok(message) = carrier.recv_within(60 * SECOND).await {
                held.extend(message);
            }
            timer.sleep(60 * SECOND).await;
            assert!(held.len() >= 4);
            held.clear();
            while carrier.recv().await.unwrap().is_some() {}
            carrier.close().await.unwrap();
        },
        async |track, _| {
            let mut carrier = open(track, Role::Acceptor, MessageConfig::default()).await;
            for at in 0..100 {
                carrier.send(&pattern(at, 200)).await.unwrap();
            }
            carrier.finish().await.unwrap();
            carrier.recv().await.map(|end| end.is_none())
        },
    );
    assert_eq!(got, Ok(true));
}

#[test]
fn an_end_that_talks_does_not_beat() {
    let config = || MessageConfig::default().with_keepalive(Some(SECOND));
    let (stats, ()) = run(
        MockPlan::default(),
        async move |track, timer| {
            let mut carrier = open(track, Role::Connector, config()).await;
            for at in 0..100 {
                timer.sleep(SECOND / 2).await;
                carrier.send(&pattern(at, 10)).await.unwrap();
            }
            carrier.close().await.unwrap();
            carrier.stats()
        },
        async move |track, _| {
            let mut carrier = open(track, Role::Acceptor, config()).await;
            while carrier.recv().await.unwrap().is_some() {}
            carrier.close().await.unwrap();
        },
    );
    assert_eq!(stats.beats_sent, 0);
}

#[test]
fn a_receive_within_a_limit_loses_nothing() {
    run(
        MockPlan::default(),
        async |track, timer| {
            let mut carrier = open(track, Role::Connector, MessageConfig::default()).await;
            let (after, nothing) = timed(&timer, carrier.recv_within(SECOND / 2)).await;
            assert_eq!((after, nothing.unwrap_err()), (SECOND / 2, CarrierError::TimedOut(Phase::Receive)));
            assert_eq!(*carrier.recv_within(SECOND).await.unwrap().unwrap(), pattern(1, 1_000));
            carrier.close().await.unwrap();
        },
        async |track, timer| {
            let mut carrier = open(track, Role::Acceptor, MessageConfig::default()).await;
            timer.sleep(SECOND).await;
            carrier.send(&pattern(1, 1_000)).await.unwrap();
            assert!(carrier.recv().await.unwrap().is_none());
            carrier.close().await.unwrap();
        },
    );
}

#[test]
fn a_send_past_its_limit_is_withdrawn_and_the_carrier_lives_on() {
    let outcome: (Result<(), Error>, Vec<Vec<u8>>) = run(
        MockPlan::default(),
        async |track, _| {
            let mut carrier = open(track, Role::Connector, MessageConfig::default()).await;
            let outcome = carrier.send_within(SECOND, &pattern(1, 100_000)).await;
            assert_eq!(outcome.unwrap_err(), CarrierError::TimedOut(Phase::Send));
            carrier.send(&pattern(2, 100_000)).await?;
            carrier.close().await
        },
        async |track, timer| {
            let mut carrier = open(track, Role::Acceptor, MessageConfig::default()).await;
            timer.sleep(2 * SECOND).await;
            let mut got = Vec::new();
            while let Some(message) = carrier.recv().await.unwrap() {
                got.push(message.to_vec());
            }
            carrier.close().await.unwrap();
            got
        },
    );
    assert_eq!(outcome, (Ok(()), vec![pattern(2, 100_000)]));
}

#[test]
fn halves_have_limits_and_beats_too() {
    let config = MessageConfig::default().with_idle_timeout(Some(3 * SECOND));
    run(
        MockPlan::default(),
        async |track, timer| {
            let (mut sender, mut receiver) = open(track, Role::Connector, config).await.split();
            let (after, nothing) = timed(&timer, receiver.recv_within(SECOND)).await;
            assert_eq!((after, nothing.unwrap_err()), (SECOND, CarrierError::TimedOut(Phase::Receive)));
            let late = sender.send_within(SECOND, &pattern(1, 10_000)).await;
            assert_eq!(late.unwrap_err(), CarrierError::TimedOut(Phase::Send));
            let outcome = within(&timer, 60 * SECOND, receiver.recv()).await.expect("the peer is silent");
            assert_eq!(outcome.unwrap_err(), CarrierError::TimedOut(Phase::Idle));
        },
        async |track, timer| {
            let _stands_still = open(track, Role::Acceptor, MessageConfig::default()).await;
            timer.sleep(60 * SECOND).await;
        },
    );
}

#[test]
fn a_limit_of_nothing_is_refused() {
    for (config, phase) in [
        (MessageConfig::default().with_keepalive(Some(Duration::ZERO)), Phase::Keepalive),
        (MessageConfig::default().with_idle_timeout(Some(Duration::ZERO)), Phase::Idle),
    ] {
        run(
            MockPlan::default(),
            async move |track, _| {
                let error = MessageCarrier::open(track, Role::Connector, config).await.unwrap_err();
                assert_eq!(error, CarrierError::Config(ConfigFault::Timeout(phase)));
            },
            async |_track, _| {},
        );
    }
}

/// A task that was polled once and has gone away does not keep anybody from beating.
#[test]
fn whoever_polled_once_and_left_is_not_waited_for() {
    run(
        MockPlan::default(),
        async |track, timer: MockTimer| {
            let mut carrier = open(track, Role::Connector, MessageConfig::default()).await;
            assert!(poll_fn(|cx| Poll::Ready(carrier.poll_recv(cx).is_pending())).await);
            timer.sleep(60 * SECOND).await;
            assert_eq!(carrier.stats().beats_sent, 0, "nobody was inside a call");
            assert!(within(&timer, 30 * SECOND, carrier.recv()).await.is_err());
            assert!(carrier.stats().beats_sent > 0);
        },
        async |track, timer| {
            let mut carrier = open(track, Role::Acceptor, MessageConfig::default()).await;
            let _ = within(&timer, 60 * SECOND, carrier.recv()).await;
            let _: Result<(), _> = within(&timer, 60 * SECOND, pending()).await;
        },
    );
}
