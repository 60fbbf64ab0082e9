//! Ten thousand calls, in virtual time and on threads: see `support/storm.rs`.
#![cfg(feature = "mock")]

#[path = "support/storm.rs"]
mod storm;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use storm::{Ledger, Pace, on_threads, one_call, servers};
use trespass::core::Fabric;
use trespass::mock::{MockConfig, MockFabric, MockPlan, MockSim, explore};
use trespass_example_rpc::{Channel, ChannelConfig};

const PACE: Pace = Pace { begin: 2_000_000, rest: 60_000, deadline: 400_000, life: 300_000, gap: 40_000 };

/// What a run came to: how many calls ended in each way.
fn simulate(seed: u64, calls: u64) -> Result<[usize; 6], String> {
    let ms = Duration::from_millis;
    let plan = MockPlan::default().with_delay(ms(0)..ms(3)).with_completions(4, ms(1));
    let mut sim = MockSim::new(seed, plan).with_most_polls(u64::MAX);
    let config = MockConfig::default();
    let server = sim.net().fabric(config.clone()).map_err(|error| error.to_string())?;
    let client = sim.net().fabric(config).map_err(|error| error.to_string())?;
    let (ledger, left) = (Ledger::new(calls), Arc::new(AtomicU64::new(calls)));
    let addr: trespass::mock::MockAddr = "storm".parse().expect("an address");
    let over = Arc::clone(&left);
    let at = addr.clone();
    let serving = servers(
        server,
        Arc::clone(&ledger),
        move |fabric| fabric.listen(&at).expect("nobody else listens"),
        seed,
        PACE,
        move || over.load(Ordering::Relaxed) == 0,
    );
    sim.spawn("servers", serving);
    let timer = client.timer();
    let channel = Channel::new(client, addr, ChannelConfig::default().with_seed(seed));
    for number in 0..calls {
        let (ledger, left) = (Arc::clone(&ledger), Arc::clone(&left));
        let call = one_call(channel.clone(), timer.clone(), ledger, seed, number, PACE);
        sim.spawn(format!("call {number}"), async move {
            call.await;
            left.fetch_sub(1, Ordering::Relaxed);
        });
    }
    drop(channel);
    sim.run().map_err(|failure| failure.to_string())?;
    ledger.judge()
}

#[test]
fn ten_thousand_calls_end_once_each() {
    explore(1, |seed| {
        let sorts = simulate(seed, 10_000)?;
        println!("seed {seed}: replies, statuses, deadlines, disconnected, rejected, cancelled: {sorts:?}");
        match sorts.iter().all(|count| *count > 0) {
            true => Ok(()),
            false => Err(format!("not all sorts of ends came about: {sorts:?}")),
        }
    });
}

#[test]
fn calls_end_once_each_with_many_seeds() {
    explore(60, |seed| simulate(seed, 300).map(drop));
}

/// In real time, where the order is the machine's.
#[test]
fn calls_end_once_each_on_threads() {
    let fabric = MockFabric::new();
    let sorts = on_threads(fabric.clone(), fabric, "storm".parse().expect("an address"), 5, 2000);
    println!("replies, statuses, deadlines, disconnected, rejected, cancelled: {sorts:?}");
}
