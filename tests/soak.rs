//! An hour of soak in a simulation: records through carriers of every kind, while tracks break, stall and are cut off.
//! See `support/soak`. Its allocator counts.
#![cfg(feature = "mock")]

#[path = "support/soak/mod.rs"]
mod soak;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use soak::client::{Lane, Tally};
use soak::datagrams::{self, DatagramTally};
use soak::pipes::{Bytes, Halves, Messages, Pipe, Rendezvous};
use soak::{Desk, Load, desk, record};
use trespass_core::{ErrorKind, Fabric, Role, Timer};
use trespass_mock::{
    MockAddr, MockConfig, MockDatagramConfig, MockDatagrams, MockFabric, MockFault, MockPlan, MockSim, MockTask,
    MockTrack, MockWhen,
};

const SERVER: usize = 0;
const CLIENT: usize = 1;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// What goes wrong in `lasting`: something every 20 s, by turns.
fn plan(lasting: Duration) -> MockPlan {
    let ms = Duration::from_millis;
    let mut plan = MockPlan::default().with_delay(ms(0)..ms(3)).with_completions(4, ms(1)).with_retry(secs(2));
    let times = (1..).map(|number| secs(20) * number).take_while(|at| *at < lasting);
    for (at, turn) in times.zip((0..8).cycle()) {
        let event = |fault| (MockWhen::At(at), fault);
        let (when, fault) = match turn {
            0 => event(MockFault::Stall { fabric: SERVER, lasting: secs(3) }),
            1 => event(MockFault::QueuePairError { fabric: CLIENT }),
            2 => event(MockFault::NotReady { fabric: SERVER, lasting: secs(5) }),
            // Longer than a device tries: all that is under way fails.
            3 => event(MockFault::Partition { from: CLIENT, to: SERVER, lasting: secs(8) }),
            4 => event(MockFault::BreakLink { fabric: CLIENT }),
            5 => event(MockFault::QueuePairError { fabric: SERVER }),
            6 => event(MockFault::Partition { from: SERVER, to: CLIENT, lasting: secs(8) }),
            _ => event(MockFault::BreakLink { fabric: SERVER }),
        };
        plan = plan.with_event(when, fault);
    }
    plan
}

/// A lane and its desk, in tasks of the simulation.
struct Wired {
    name: &'static str,
    tally: Arc<Tally>,
    desk: Arc<Desk>,
    sent: MockTask<(u64, u32)>,
}

fn wire<P: Pipe<Fabric = MockFabric>>(sim: &MockSim, server: &MockFabric, client: &MockFabric, load: &Load) -> Wired {
    let addr: MockAddr = format!("lane-{}", P::LANE).parse().expect("an address");
    let listener = server.listen(&addr).expect("a listener");
    let (tally, desk) = (Arc::<Tally>::default(), Arc::<Desk>::default());
    let spawner = sim.spawner();
    let sessions = move |task| drop(spawner.spawn(P::NAME, task));
    let serving = desk::serve::<P>(server.clone(), listener, Arc::clone(&desk), load.longest, sessions);
    sim.spawn(format!("the desk of {}", P::NAME), serving);
    let lane: Lane<P> = Lane {
        fabric: client.clone(),
        desk: addr,
        load: load.clone(),
        tally: Arc::clone(&tally),
        // No fault here cuts a track without both ends hearing of it: silence is a hang.
        faults: Arc::default(),
    };
    let over = Arc::clone(&desk);
    let sent = sim.spawn(P::NAME, async move {
        let sent = lane.run().await;
        over.stop();
        sent
    });
    Wired { name: P::NAME, tally, desk, sent }
}

/// So much by the simulation's clock as is an hour's worth in some seconds.
fn load(longest: usize) -> Load {
    Load {
        over: Arc::default(),
        longest,
        window: 16,
        rest: Duration::from_millis(2000),
        silence: secs(5),
        patience: secs(60),
    }
}

/// What a run was.
#[derive(Debug, Clone, Copy, Default)]
#[allow(dead_code, reason = "for people")]
struct Summary {
    elapsed: Duration,
    polls: u64,
    records: u64,
    bytes: u64,
    broken: u64,
    failed_connects: u64,
    datagrams: u64,
}

/// Runs for so long by the simulation's clock. Prints nothing, which would be memory that a test's output keeps.
fn run(seed: u64, lasting: Duration) -> Summary {
    let mut sim = MockSim::new(seed, plan(lasting)).with_limit(lasting + secs(600)).with_most_polls(u64::MAX);
    let config = MockConfig::default().with_max_message(4096).with_send_slots(32).with_recv_slots(64);
    let server = sim.net().fabric(config.clone()).expect("a good configuration");
    let client = sim.net().fabric(config).expect("a good configuration");
    let load = load(300_000);
    let lanes = [
        wire::<Messages<MockFabric>>(&sim, &server, &client, &load),
        wire::<Halves<MockFabric>>(&sim, &server, &client, &load),
        wire::<Rendezvous<MockFabric>>(&sim, &server, &client, &load),
        wire::<Bytes<MockFabric>>(&sim, &server, &client, &load),
    ];
    let lossy = MockDatagramConfig::default().with_seed(seed).with_loss(10).with_duplication(10).with_reordering(50);
    let lossy = |fabric: &MockFabric| fabric.datagrams(lossy.clone()).expect("datagrams");
    let (there, here) = (lossy(&server), lossy(&client));
    let addr: MockAddr = "datagrams".parse().expect("an address");
    let listener = there.listen(&addr).expect("a listener");
    let (desk, sparse) = (Arc::<Desk>::default(), Arc::<DatagramTally>::default());
    let spawner = sim.spawner();
    let spawn = move |task| drop(spawner.spawn("datagrams", task));
    sim.spawn("the desk of datagrams", datagrams::serve::<MockDatagrams>(listener, Arc::clone(&desk), spawn));
    let (tally, over) = (Arc::clone(&sparse), Arc::clone(&load.over));
    sim.spawn("datagrams", async move {
        datagrams::run(here, addr, load, tally).await;
        desk.stop();
    });

    let clock = sim.timer();
    sim.spawn("the clock", async move {
        clock.sleep(lasting).await;
        over.store(true, Ordering::SeqCst);
    });
    let report = sim.run().unwrap_or_else(|failure| panic!("{failure}"));
    let mut summary = Summary { elapsed: report.elapsed, polls: report.polls, ..Summary::default() };
    for lane in lanes {
        let Wired { name, tally, desk, sent } = lane;
        let sent = sent.output().expect("the simulation is over, and so is the lane");
        assert_eq!(desk.state(), sent, "{name}: what the desk has is what was acknowledged");
        assert_eq!(Tally::count(&tally.silent), 0, "{name}");
        // Five of eight faults, or more, end what there is; one in each three minutes may meet a lane between two
        // connections.
        let least = lasting.as_secs() / 180;
        assert!(Tally::count(&tally.broken) >= least, "{name}: {tally:?}: nothing broke, so nothing was shown");
        assert!(Tally::count(&tally.sessions) > least, "{name}: {tally:?}");
        summary.records += Tally::count(&tally.acked);
        summary.bytes += Tally::count(&tally.bytes);
        summary.broken += Tally::count(&tally.broken);
        summary.failed_connects += Tally::count(&tally.failed_connects);
    }
    let (sent, acked) = (Tally::count(&sparse.sent), Tally::count(&sparse.acked));
    assert!(acked > sent / 2 && acked < sent, "{sparse:?}");
    Summary { datagrams: acked, ..summary }
}

#[test]
fn an_hour_loses_nothing_that_was_acknowledged_and_its_memory_is_flat() {
    // What is made once.
    let _ = record::body_of(0, 0, 0);
    let counted = |lasting| -> AllocationInfo {
        let mut summary = Summary::default();
        let used = measure(|| summary = run(7, lasting));
        eprintln!("{summary:?}, {used:?}");
        assert_eq!(used.bytes_current, 0, "everything comes back in the end");
        used
    };
    let (short, long) = (counted(secs(600)), counted(secs(3600)));
    let (short, long) = (short.bytes_max, long.bytes_max);
    assert!(long < short + short / 10, "an hour takes {long} bytes at the most, and ten minutes {short}");
}

/// What a carrier could do wrong with one record.
const LOSE: u8 = 0;
const REPEAT: u8 = 1;
const SPOIL: u8 = 2;

/// Messages through a carrier that does it.
struct Faulty<const HOW: u8>(Messages<MockFabric>);

impl<const HOW: u8> Pipe for Faulty<HOW> {
    type Fabric = MockFabric;
    const LANE: u64 = 0;
    const NAME: &'static str = "faulty messages";

    async fn open(fabric: &MockFabric, track: MockTrack, role: Role) -> Result<Self, ErrorKind> {
        Messages::open(fabric, track, role).await.map(Self)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), ErrorKind> {
        let record = record::read(bytes).expect("a record");
        if (record.kind, record.number) != (record::Kind::Data, 40) {
            return self.0.send(bytes).await;
        }
        match HOW {
            LOSE => Ok(()),
            REPEAT => {
                self.0.send(bytes).await?;
                self.0.send(bytes).await
            }
            _ => {
                let mut spoilt = bytes.to_vec();
                *spoilt.last_mut().expect("a head at least") ^= 1;
                self.0.send(&spoilt).await
            }
        }
    }

    async fn recv(&mut self, into: &mut Vec<u8>) -> Result<bool, ErrorKind> {
        self.0.recv(into).await
    }

    async fn finish(&mut self) -> Result<(), ErrorKind> {
        self.0.finish().await
    }

    async fn close(self) -> Result<(), ErrorKind> {
        self.0.close().await
    }
}

/// What such a run fails with.
fn found<const HOW: u8>() -> String {
    let mut sim = MockSim::new(1, MockPlan::default());
    let [server, client] = [(); 2].map(|()| sim.net().fabric(MockConfig::default()).expect("the defaults will do"));
    let load = load(300_000);
    let _lane = wire::<Faulty<HOW>>(&sim, &server, &client, &load);
    sim.run().expect_err("a fault that was made was not found").end.to_string()
}

#[test]
fn a_record_that_is_lost_repeated_or_spoilt_is_found() {
    let (lost, repeated, spoilt) = (found::<LOSE>(), found::<REPEAT>(), found::<SPOIL>());
    assert!(lost.contains("Data 41 comes after 39"), "{lost}");
    assert!(repeated.contains("Data 40 comes after 40"), "{repeated}");
    assert!(spoilt.contains("the checksum of record 40"), "{spoilt}");
}
