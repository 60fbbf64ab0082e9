//! Both ends write more than all buffering before either reads, and get through: in simulations, with any delay. See
//! `support/deadlock`.
#![cfg(feature = "mock")]

#[path = "support/deadlock/mod.rs"]
mod deadlock;

use std::future::Future;
use std::time::Duration;

use deadlock::{End, Gate, Stage, Task, all_ways};
use trespass_core::{Fabric, Incoming, ListenerExt, Role};
use trespass_mock::{MockAddr, MockConfig, MockDatagramConfig, MockDatagrams, MockFabric, MockPlan, MockSim};

/// A simulation for each way: a hang is a failure that names who waits.
#[derive(Debug)]
struct Simulated {
    track: MockConfig,
    plan: MockPlan,
    /// Long enough for all that is under way to arrive.
    rest: Duration,
}

impl Simulated {
    fn sim(&self, name: &str) -> MockSim {
        eprintln!("{name}: {:?} {:?}", self.track, self.plan);
        let seed = name.bytes().map(u64::from).sum();
        MockSim::new(seed, self.plan.clone()).with_limit(Duration::from_secs(24 * 3600)).with_most_polls(u64::MAX)
    }

    fn stage<F, R>(&self, mut sim: MockSim, [near, far]: [F; 2], name: &str, way: impl Fn(End<F>) -> R)
    where
        F: Fabric<Addr = MockAddr> + 'static,
        R: Future<Output = Vec<Task>> + Send + 'static,
    {
        let addr: MockAddr = "there".parse().expect("an address");
        let mut listener = far.listen(&addr).expect("a listener");
        let full = Gate::of(2);
        // The ends are connected before `way` may have them: it is not 'static.
        let connecting = near.connect(&addr);
        let near_task = sim.spawn("connect", connecting);
        let far_task = sim.spawn("accept", async move { listener.incoming().await?.accept().await });
        sim.run().unwrap_or_else(|failure| panic!("{name}: {failure}"));
        let tracks = [near_task, far_task].map(|task| task.output().expect("connected").expect("connected"));
        for ((fabric, track), role) in [near, far].into_iter().zip(tracks).zip([Role::Connector, Role::Acceptor]) {
            let opening = way(End { fabric, track, role, full: full.clone(), rest: self.rest });
            let spawner = sim.spawner();
            sim.spawn(format!("{role:?}"), async move {
                for (at, task) in opening.await.into_iter().enumerate() {
                    spawner.spawn(format!("{role:?}, task {at}"), task);
                }
            });
        }
        sim.run().unwrap_or_else(|failure| panic!("{name}: {failure}"));
    }
}

impl Stage for Simulated {
    type Fabric = MockFabric;
    type Datagrams = MockDatagrams;

    fn run<R>(&self, name: &str, way: impl Fn(End<MockFabric>) -> R)
    where
        R: Future<Output = Vec<Task>> + Send + 'static,
    {
        let sim = self.sim(name);
        let fabrics = [(); 2].map(|()| sim.net().fabric(self.track.clone()).expect("a good configuration"));
        let counted = fabrics.clone();
        self.stage(sim, fabrics, name, way);
        let rnr: u64 = counted.iter().map(|fabric| fabric.counters().rnr_stalls).sum();
        assert_eq!(rnr, 0, "{name}: a message met a receiver that was not ready");
    }

    fn run_datagrams<R>(&self, name: &str, way: impl Fn(End<MockDatagrams>) -> R)
    where
        R: Future<Output = Vec<Task>> + Send + 'static,
    {
        let sim = self.sim(name);
        let config = MockDatagramConfig::default();
        let fabrics = [(); 2].map(|()| {
            let fabric = sim.net().fabric(self.track.clone()).expect("a good configuration");
            fabric.datagrams(config.clone()).expect("datagrams")
        });
        self.stage(sim, fabrics, name, way);
    }
}

/// Sizes small enough that everything fills up.
fn sizes() -> [MockConfig; 4] {
    let small = MockConfig::default().with_max_message(256).with_send_slots(8).with_recv_slots(8);
    let tall = small.clone().with_send_slots(64).with_recv_slots(9);
    let large = MockConfig::default().with_max_message(4096).with_send_slots(16).with_recv_slots(32);
    [small.clone(), small.with_send_slots(4), tall, large]
}

fn with_delay(delay: Duration) {
    let plan = MockPlan::default().with_delay(delay..delay);
    for track in sizes() {
        all_ways(&Simulated { track, plan: plan.clone(), rest: 10 * delay + Duration::from_secs(1) });
    }
}

#[test]
fn without_delay() {
    with_delay(Duration::ZERO);
}

#[test]
fn with_a_microsecond() {
    with_delay(Duration::from_micros(1));
}

#[test]
fn with_a_millisecond() {
    with_delay(Duration::from_millis(1));
}

#[test]
fn with_a_tenth_of_a_second() {
    with_delay(Duration::from_millis(100));
}

/// Completions that come many at a time, and late.
#[test]
fn with_completions_in_batches() {
    for (batch, period) in [(4, Duration::from_millis(1)), (64, Duration::from_millis(20))] {
        let plan =
            MockPlan::default().with_delay(Duration::ZERO..Duration::from_micros(50)).with_completions(batch, period);
        for track in sizes() {
            all_ways(&Simulated { track, plan: plan.clone(), rest: 10 * period + Duration::from_secs(1) });
        }
    }
}
