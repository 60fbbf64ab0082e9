//! What a plan says happens, and only what the delivery allows.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use trespass_core::{
    ErrorKind, Fabric, Incoming, ListenerExt, RecvSide, RecvSideExt, SendSide, SendSideExt, Timer, TransportError,
    TryError,
};
use trespass_mock::{
    MockAddr, MockConfig, MockDatagramConfig, MockError, MockFabric, MockFault, MockPlan, MockSim, MockTimer,
    MockTrack, MockWhen, explore,
};

fn addr() -> MockAddr {
    "server".parse().unwrap()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Two fabrics: number 0 connects, number 1 listens.
struct World {
    sim: MockSim,
    fabrics: [MockFabric; 2],
}

impl World {
    fn new(plan: MockPlan) -> Self {
        let sim = MockSim::new(1, plan);
        let config = MockConfig::default().with_max_message(64).with_send_slots(4).with_recv_slots(4);
        let fabrics = [(); 2].map(|()| sim.net().fabric(config.clone()).unwrap());
        Self { sim, fabrics }
    }

    /// Runs both ends of a track, and gives what they gave.
    fn run<A: 'static, B: 'static, FA, FB>(
        mut self,
        client: impl FnOnce(MockTrack, MockTimer) -> FA + 'static,
        server: impl FnOnce(MockTrack, MockTimer) -> FB + 'static,
    ) -> (A, B)
    where
        FA: Future<Output = A> + 'static,
        FB: Future<Output = B> + 'static,
    {
        let mut listener = self.fabrics[1].listen(&addr()).unwrap();
        let (timer, connector) = (self.sim.timer(), self.fabrics[0].clone());
        let client = self.sim.spawn("client", async move {
            let track = connector.connect(&addr()).await.unwrap();
            client(track, timer).await
        });
        let timer = self.sim.timer();
        let server = self.sim.spawn("server", async move {
            let track = listener.incoming().await.unwrap().accept().await.unwrap();
            server(track, timer).await
        });
        self.sim.run().unwrap();
        (client.output().unwrap(), server.output().unwrap())
    }
}

async fn send(track: &mut MockTrack, bytes: &[u8]) -> Result<(), MockError> {
    let mut buf = track.reserve(bytes.len()).await?;
    buf.copy_from_slice(bytes);
    track.send(buf).map_err(|unsent| unsent.error)?;
    track.flush()
}

/// Sends ten messages of one byte, and closes.
async fn ten(mut track: MockTrack, _: MockTimer) -> Result<(), MockError> {
    for number in 0..10 {
        send(&mut track, &[number]).await?;
    }
    track.close().await
}

/// Receives to the end: each message with its time, and the end.
async fn all(mut track: MockTrack, timer: MockTimer) -> (Vec<(u8, Duration)>, ErrorKind) {
    let mut got = Vec::new();
    loop {
        match track.recv().await {
            Ok(message) => got.push((message[0], timer.now())),
            Err(error) => return (got, error.kind()),
        }
    }
}

fn numbers(got: &[(u8, Duration)]) -> Vec<u8> {
    got.iter().map(|(number, _)| *number).collect()
}

const TEN: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

#[test]
fn delays_take_time_and_nothing_overtakes() {
    let (closed, (got, end)) = World::new(MockPlan::default().with_delay(ms(1)..ms(20))).run(ten, all);
    assert_eq!((closed, numbers(&got), end), (Ok(()), TEN.to_vec(), ErrorKind::Closed));
    assert!(got[0].1 >= ms(1) && got[9].1 < ms(200), "{got:?}");
    assert!(got.windows(2).any(|pair| pair[1].1 - pair[0].1 > ms(1)), "{got:?}");
}

/// Four slots, and completions that show eight at a time or after 10 ms: the sender waits for the time.
#[test]
fn completions_come_batched_and_late() {
    let (closed, (got, end)) = World::new(MockPlan::default().with_completions(8, ms(10))).run(ten, all);
    assert_eq!((closed, numbers(&got), end), (Ok(()), TEN.to_vec(), ErrorKind::Closed));
    let batches: Vec<usize> = got.chunk_by(|one, next| next.1 - one.1 < ms(1)).map(<[_]>::len).collect();
    assert_eq!(batches, [4, 4, 2], "{got:?}");
    assert!(got[9].1 >= ms(30));
}

#[test]
fn a_device_that_stalls_goes_on() {
    for fabric in [0, 1] {
        let stall = MockFault::Stall { fabric, lasting: ms(100) };
        let plan = MockPlan::default().with_event(MockWhen::Operation { fabric: 0, number: 4 }, stall);
        let (closed, (got, end)) = World::new(plan).run(ten, all);
        assert_eq!((closed, numbers(&got), end), (Ok(()), TEN.to_vec(), ErrorKind::Closed));
        assert!(got[2].1 < ms(1) && got[3].1 >= ms(100) && got[9].1 < ms(101), "{got:?}");
    }
}

/// As long as it may be: a receiver that is not ready is no error.
#[test]
fn a_receiver_that_is_not_ready_is_waited_for() {
    let lasting = Duration::from_secs(60);
    let plan = MockPlan::default().with_event(MockWhen::At(Duration::ZERO), MockFault::NotReady { fabric: 1, lasting });
    let client = async |mut track: MockTrack, _: MockTimer| {
        for number in 0..10 {
            send(&mut track, &[number]).await.unwrap();
        }
        assert!(track.recv().await.is_ok(), "the other way is open");
    };
    let server = async |mut track: MockTrack, timer: MockTimer| {
        send(&mut track, b"x").await.unwrap();
        let mut got = Vec::new();
        for _ in 0..10 {
            got.push((track.recv().await.unwrap()[0], timer.now()));
        }
        got
    };
    let ((), got) = World::new(plan).run(client, server);
    assert_eq!(numbers(&got), TEN);
    assert!(got[0].1 >= lasting, "{got:?}");
}

#[test]
fn a_partition_heals_or_breaks() {
    let cut = |plan: MockPlan, lasting| plan.with_partition(0, 1, Duration::ZERO, lasting);
    let (closed, (got, _)) = World::new(cut(MockPlan::default(), ms(3000))).run(ten, all);
    assert_eq!((closed, numbers(&got)), (Ok(()), TEN.to_vec()));
    assert!(got[0].1 >= ms(3000));
    let (closed, (got, end)) = World::new(cut(MockPlan::default(), ms(5000))).run(ten, all);
    assert_eq!(
        (closed.unwrap_err().kind(), numbers(&got), end),
        (ErrorKind::Disconnected, vec![], ErrorKind::Disconnected)
    );
    // A device that is more patient.
    let (closed, (got, _)) = World::new(cut(MockPlan::default().with_retry(ms(6000)), ms(5000))).run(ten, all);
    assert_eq!((closed, numbers(&got)), (Ok(()), TEN.to_vec()));
}

#[test]
fn a_partition_has_a_direction() {
    let one_way = MockFault::Partition { from: 1, to: 0, lasting: ms(3000) };
    let plan = MockPlan::default().with_event(MockWhen::At(Duration::ZERO), one_way);
    let client = async |mut track: MockTrack, timer: MockTimer| {
        send(&mut track, b"ping").await.unwrap();
        track.recv().await.unwrap();
        timer.now()
    };
    let server = async |mut track: MockTrack, timer: MockTimer| {
        track.recv().await.unwrap();
        let got = timer.now();
        send(&mut track, b"pong").await.unwrap();
        track.close().await.unwrap();
        got
    };
    let (answer, question) = World::new(plan).run(client, server);
    assert!(question < ms(1) && answer >= ms(3000), "{question:?} {answer:?}");
}

/// The seventh operation fails: of the six before it arrives what finds a receive; at the own end the device has failed, at the peer's it is over.
#[test]
fn a_queue_pair_fails_at_its_operation() {
    let fault = MockFault::QueuePairError { fabric: 0 };
    let plan = MockPlan::default().with_event(MockWhen::Operation { fabric: 0, number: 7 }, fault);
    let (closed, (got, end)) = World::new(plan).run(ten, all);
    assert_eq!(closed.unwrap_err(), MockError::QueuePairFailed);
    // What waited for a receive is lost with it.
    let got = numbers(&got);
    assert!((4..=6).contains(&got.len()) && TEN.starts_with(&got), "{got:?}");
    assert_eq!(end, ErrorKind::Closed);
}

#[test]
fn a_peer_dies_and_a_link_breaks_at_their_times() {
    let slow = MockPlan::default().with_delay(ms(10)..ms(11));
    let cases = [
        (MockFault::Kill { fabric: 0 }, ErrorKind::Device, ErrorKind::Closed),
        (MockFault::Kill { fabric: 1 }, ErrorKind::Closed, ErrorKind::Device),
        (MockFault::BreakLink { fabric: 1 }, ErrorKind::Disconnected, ErrorKind::Disconnected),
        (MockFault::QueuePairError { fabric: 1 }, ErrorKind::Closed, ErrorKind::Device),
    ];
    for (fault, here, there) in cases {
        let (closed, (got, end)) = World::new(slow.clone().with_event(MockWhen::At(ms(25)), fault)).run(ten, all);
        assert_eq!((closed.unwrap_err().kind(), end), (here, there), "{fault:?}");
        let got = numbers(&got);
        assert!(got == TEN[..got.len()] && got.len() < 10, "{fault:?}: {got:?}");
    }
}

/// The goodbye is there before the last data: sends fail, and then messages still show, and only then the end.
#[test]
fn a_goodbye_overtakes_what_is_to_be_received() {
    let plan = MockPlan::default().with_completions(100, ms(10));
    let client = async |mut track: MockTrack, _: MockTimer| {
        send(&mut track, b"last").await.unwrap();
        track.close().await
    };
    let server = async |mut track: MockTrack, timer: MockTimer| {
        let mut order = Vec::new();
        let error = loop {
            match track.try_reserve(1) {
                Ok(_) => timer.sleep(Duration::from_micros(100)).await,
                Err(TryError::Failed(error)) => break error,
                Err(TryError::WouldBlock) => panic!("no slot"),
            }
            if track.try_recv().is_ok() {
                order.push("data");
            }
        };
        assert_eq!(error.kind(), ErrorKind::Closed);
        order.push("no more sends");
        while track.recv().await.is_ok() {
            order.push("data");
        }
        order
    };
    // At the sender completions are as late as at the receiver: the time between the two is what is looked for.
    let fault = MockFault::Kill { fabric: 0 };
    let plan = plan.with_event(MockWhen::At(ms(5)), fault);
    let (_, order) = World::new(plan).run(client, server);
    assert_eq!(order, ["no more sends", "data"]);
}

/// Whoever is established first sends, and what it sends waits for the other.
#[test]
fn a_late_end_finds_what_was_sent_before() {
    let both_ways = Rc::new(RefCell::new([0, 0]));
    for seed in 0..20 {
        let plan = MockPlan::default().with_established_late(ms(10)..ms(20));
        let mut sim = MockSim::new(seed, plan);
        let fabric = sim.net().fabric(MockConfig::default()).unwrap();
        let mut listener = fabric.listen(&addr()).unwrap();
        let talk = async |mut track: MockTrack, timer: MockTimer| {
            let since = timer.now();
            send(&mut track, b"hello").await.unwrap();
            track.recv().await.unwrap();
            (since, timer.now())
        };
        let timer = sim.timer();
        let client = sim.spawn("client", async move { talk(fabric.connect(&addr()).await.unwrap(), timer).await });
        let timer = sim.timer();
        let server = sim.spawn("server", async move {
            talk(listener.incoming().await.unwrap().accept().await.unwrap(), timer).await
        });
        // One may be gone when the other looks: what it sent is there all the same.
        sim.run().unwrap();
        let (client, server) = (client.output().unwrap(), server.output().unwrap());
        let late = usize::from(client.0 < server.0);
        both_ways.borrow_mut()[late] += 1;
        assert!(client.0.abs_diff(server.0) >= ms(9), "{client:?} {server:?}");
        assert!(client.1.max(server.1) >= ms(10));
    }
    assert!(both_ways.borrow().iter().all(|times| *times > 0));
}

#[test]
fn a_handshake_may_break_either_way() {
    let outcome = |fault| {
        let World { mut sim, fabrics: [connector, acceptor] } =
            World::new(MockPlan::default().with_event(MockWhen::Handshake(1), fault));
        let mut listener = acceptor.listen(&addr()).unwrap();
        let client = sim.spawn("client", async move {
            match connector.connect(&addr()).await {
                Ok(mut track) => track.recv().await.unwrap_err().kind(),
                Err(error) => error.kind(),
            }
        });
        let server = sim.spawn("server", async move {
            let mut track = listener.incoming().await.unwrap().accept().await.unwrap();
            track.recv().await.unwrap_err().kind()
        });
        let report = sim.run().unwrap();
        (client.output().unwrap(), server.output().unwrap(), report.elapsed)
    };
    let (client, server, elapsed) = outcome(MockFault::LoseAnswer);
    assert_eq!((client, server), (ErrorKind::TimedOut, ErrorKind::Closed));
    assert!(elapsed >= Duration::from_secs(5), "the handshake's deadline");
    let (client, server, _) = outcome(MockFault::BreakHandshake);
    assert_eq!((client, server), (ErrorKind::Disconnected, ErrorKind::Disconnected));
}

/// Whatever the plan: what arrives is the beginning of what was sent; and all of it, where nothing breaks.
#[test]
fn no_plan_loses_or_reorders() {
    explore(2000, |seed| {
        let whole = seed % 2 == 0;
        let plan = MockPlan::seeded(seed, 2);
        let plan = if whole { plan } else { plan.with_an_end(seed, 2) };
        let mut sim = MockSim::new(seed, plan);
        let config = MockConfig::default().with_max_message(64).with_send_slots(3).with_recv_slots(2);
        let [connector, acceptor] = [(); 2].map(|()| sim.net().fabric(config.clone()).unwrap());
        let listener = acceptor.listen(&addr());
        let client = sim.spawn("client", async move {
            let mut sent = 0;
            let Ok(mut track) = connector.connect(&addr()).await else { return (sent, false) };
            while sent < 30 {
                if send(&mut track, &[sent]).await.is_err() {
                    return (sent, false);
                }
                sent += 1;
            }
            (sent, track.close().await.is_ok())
        });
        let timer = sim.timer();
        let server = sim.spawn("server", async move {
            let Ok(incoming) = listener.unwrap().incoming().await else { return vec![] };
            let Ok(track) = incoming.accept().await else { return vec![] };
            numbers(&all(track, timer).await.0)
        });
        sim.run().map_err(|failure| failure.to_string())?;
        let ((sent, clean), got) = (client.output().unwrap(), server.output().unwrap());
        let expected: Vec<u8> = (0..sent).collect();
        match clean {
            true if got == expected && sent == 30 => Ok(()),
            false if !whole && expected.starts_with(&got) => Ok(()),
            _ => Err(format!("sent {sent}, {clean}, got {got:?}")),
        }
    });
}

/// A datagram may arrive with a wrong bit, which is counted; and nothing of it crosses a partition.
#[test]
fn datagrams_are_corrupted_and_cut_off() {
    let plan = MockPlan::default().with_partition(0, 1, ms(10), ms(10));
    let World { mut sim, fabrics: [connector, acceptor] } = World::new(plan);
    let config = MockDatagramConfig::default().with_seed(4).with_corruption(300);
    let [connector, acceptor] = [connector, acceptor].map(|fabric| fabric.datagrams(config.clone()).unwrap());
    let mut listener = acceptor.listen(&addr()).unwrap();
    let timer = sim.timer();
    let client = sim.spawn("client", async move {
        let mut track = connector.connect(&addr()).await.unwrap();
        let mut acknowledged = Vec::new();
        for number in 0..30 {
            let mut buf = track.reserve(8).await.unwrap();
            buf.fill(number);
            track.send(buf).unwrap();
            track.flush().unwrap();
            timer.sleep(ms(1)).await;
            acknowledged.push(track.try_recv().is_ok());
        }
        let faults = track.faults();
        track.close().await.unwrap();
        (faults, acknowledged)
    });
    let server = sim.spawn("server", async move {
        let mut track = listener.incoming().await.unwrap().accept().await.unwrap();
        let mut wrong = 0;
        for _ in 0..20 {
            let datagram = track.recv().await.unwrap();
            let most = (0..8)
                .map(|bit| u32::from(datagram.iter().filter(|byte| *byte >> bit & 1 == 1).count() > 4) << bit)
                .sum::<u32>();
            wrong += datagram.iter().map(|byte| (u32::from(*byte) ^ most).count_ones()).sum::<u32>();
            let buf = track.reserve(0).await.unwrap();
            track.send(buf).unwrap();
            track.flush().unwrap();
        }
        wrong
    });
    sim.run().unwrap();
    let (faults, acknowledged) = client.output().unwrap();
    assert_eq!(u64::from(server.output().unwrap()), faults.corrupted);
    assert!(faults.corrupted > 2 && faults.corrupted < 15, "{faults:?}");
    let lost = acknowledged.iter().filter(|arrived| !**arrived).count();
    assert_eq!(lost, 10, "{acknowledged:?}");
}
