//! Very many connections at once, and what each takes.
#![cfg(feature = "verbs")]

use std::collections::{HashMap, HashSet};
use std::fmt::{Debug, Display};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use futures_util::future::{FutureExt, join_all};
use trespass_core::{
    ErrorKind, Fabric, Incoming, Listener, ListenerExt, RecvSideExt, SendSideExt, ThreadFabric, Timer, Track,
    TransportError,
};
use trespass_verbs::{ReliableTrack, SharedConfig, VerbsConfig, VerbsFabric, VerbsShared};

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

/// Memory and time are measured: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Small tracks, and as long as a slow machine takes.
fn config() -> VerbsConfig {
    VerbsConfig::default().with_slots(256, 4, 4).with_timeouts(Duration::from_secs(300), Duration::from_secs(30))
}

/// The fabrics of both ends, each with a driver that can be waited for.
struct World<F> {
    server: F,
    client: F,
    drivers: [std::thread::JoinHandle<()>; 2],
}

impl World<VerbsFabric> {
    fn new(config: VerbsConfig) -> Self {
        let fabric = |ip, config: VerbsConfig| {
            let (fabric, driver) = VerbsFabric::open_manual(config.with_local(ip)).expect("the device");
            (fabric, std::thread::spawn(move || driver.run()))
        };
        let (near, far) = rdma::addresses();
        let ((server, one), (client, other)) = (fabric(far, config.clone()), fabric(near, config));
        Self { server, client, drivers: [one, other] }
    }

    /// The same, with tracks that share their queues.
    fn sharing(self, config: &SharedConfig) -> World<VerbsShared> {
        let share = |fabric: VerbsFabric| fabric.shared(config.clone()).expect("shared queues");
        World { server: share(self.server), client: share(self.client), drivers: self.drivers }
    }
}

impl<F: ThreadFabric<Addr = SocketAddr>> World<F> {
    /// Ends when everything is torn down, so that the next test has the machine for itself. All tracks are gone by then.
    fn end(self) {
        drop((self.server, self.client));
        for driver in self.drivers {
            driver.join().expect("a driver");
        }
    }

    /// `count` connects at once to one listener, which accepts each as it comes.
    fn storm(&self, count: usize) -> Vec<(F::Track, F::Track)> {
        let mut listener = self.server.listen(&SocketAddr::new(rdma::addresses().1, 0)).expect("a listener");
        let addr = listener.local();
        let begun = Instant::now();
        let accepting = std::thread::spawn(move || {
            block_on(async {
                let mut accepting = Vec::new();
                for _ in 0..count {
                    accepting.push(listener.incoming().await.expect("a request").accept());
                }
                join_all(accepting).await
            })
        });
        let connecting: Vec<_> = (0..count).map(|_| self.client.connect(&addr)).collect();
        let connected = block_on(join_all(connecting));
        // Before the acceptor is waited for: it waits for a request of each.
        tell_failures("connect", &connected);
        let accepted = accepting.join().expect("the acceptor");
        eprintln!("{count} connects at once: {:?}", begun.elapsed());
        tell_failures("accept", &accepted);
        joined(connected, accepted)
    }
}

fn tell_failures<T, E: Display>(what: &str, outcomes: &[Result<T, E>]) {
    let failures: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    if let Some(first) = failures.first() {
        panic!("{} of {} failed to {what}; the first: {first}", failures.len(), outcomes.len());
    }
}

/// Pairs both ends up, by a message through each.
fn joined<T: Track, E: Debug>(connected: Vec<Result<T, E>>, accepted: Vec<Result<T, E>>) -> Vec<(T, T)> {
    let mut near: Vec<_> = connected.into_iter().map(|track| Some(track.expect("connected"))).collect();
    let mut named = HashSet::new();
    block_on(async {
        for (name, track) in near.iter_mut().enumerate() {
            say(track.as_mut().expect("a track"), name as u64).await;
        }
        let mut pairs = Vec::new();
        for track in accepted {
            let mut far = track.expect("accepted");
            let name = hear(&mut far).await;
            assert!(named.insert(name), "two tracks say that they are number {name}");
            let near = near[name as usize].take().expect("a track of that number");
            pairs.push((near, far));
        }
        pairs
    })
}

async fn say<T: Track>(track: &mut T, number: u64) {
    let mut buf = track.reserve(8).await.expect("a slot");
    buf.copy_from_slice(&number.to_le_bytes());
    track.send(buf).expect("sent");
    track.flush().expect("flushed");
}

async fn hear<T: Track>(track: &mut T) -> u64 {
    let message = track.recv().await.expect("a message");
    u64::from_le_bytes(message[..].try_into().expect("8 bytes"))
}

/// Every pair talks, both ways.
fn talk(pairs: &mut [(ReliableTrack, ReliableTrack)]) {
    block_on(async {
        for (index, (near, far)) in pairs.iter_mut().enumerate() {
            let number = index as u64;
            say(near, number).await;
            assert_eq!(hear(far).await, number);
            say(far, !number).await;
            assert_eq!(hear(near).await, !number);
        }
    });
}

#[test]
fn a_thousand_connects_at_once_all_succeed() {
    needs_rdma!();
    let _alone = alone();
    let world = World::new(config());
    let mut pairs = world.storm(1000);
    assert_eq!(pairs.len(), 1000);
    talk(&mut pairs);
    drop(pairs);
    world.end();
}

/// Those who are connected go on while others storm in, on the same fabrics: a driver takes turns.
#[test]
fn a_storm_does_not_stop_those_who_are_connected() {
    needs_rdma!();
    let _alone = alone();
    let world = World::new(config());
    let (mut near, mut far) = world.storm(1).pop().expect("a pair");
    let echo = std::thread::spawn(move || {
        block_on(async {
            while let Ok(message) = far.recv().await {
                let number = u64::from_le_bytes(message[..].try_into().expect("8 bytes"));
                drop(message);
                say(&mut far, number).await;
            }
        });
    });
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&over);
    let talking = std::thread::spawn(move || {
        let (mut rounds, mut longest) = (0, Duration::ZERO);
        block_on(async {
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                say(&mut near, rounds).await;
                assert_eq!(hear(&mut near).await, rounds);
                longest = longest.max(begun.elapsed());
                rounds += 1;
            }
        });
        (rounds, longest)
    });
    let begun = Instant::now();
    let pairs = world.storm(500);
    let took = begun.elapsed();
    over.store(true, Ordering::Relaxed);
    let (rounds, longest) = talking.join().expect("who talks");
    echo.join().expect("the echo");
    eprintln!(
        "{rounds} round trips during a storm of {} that took {took:?}; the longest took {longest:?}",
        pairs.len()
    );
    assert!(longest < took / 4, "a round trip took {longest:?}, of {took:?} that the storm took");
    drop(pairs);
    world.end();
}

/// With a short queue of requests the excess is told to come again, and does.
#[test]
fn what_a_short_backlog_has_no_room_for_waits() {
    needs_rdma!();
    let _alone = alone();
    let world = World::new(config().with_backlog(4));
    let mut pairs = world.storm(200);
    talk(&mut pairs);
    drop(pairs);
    world.end();
}

/// A listener that looks up only when everybody has knocked: they wait in its queue, and beyond that by themselves.
#[test]
fn a_listener_that_comes_late_finds_everybody() {
    needs_rdma!();
    let _alone = alone();
    let world = World::new(config().with_backlog(64));
    let mut listener = world.server.listen(&SocketAddr::new(rdma::addresses().1, 0)).expect("a listener");
    let addr = listener.local();
    let connecting: Vec<_> = (0..200).map(|_| world.client.connect(&addr)).collect();
    // Once somebody who has little time is told that there is no room, the queue is full.
    let hasty = config().with_timeouts(Duration::from_millis(500), Duration::from_secs(1));
    let hasty = rdma::fabric(rdma::addresses().0, hasty);
    let begun = Instant::now();
    while block_on(hasty.connect(&addr)).expect_err("nobody accepts").kind() != ErrorKind::Busy {
        assert!(begun.elapsed() < Duration::from_secs(60), "the queue never filled");
    }
    let accepting = std::thread::spawn(move || {
        block_on(async {
            let mut accepting = Vec::new();
            // The hasty ones have given up; whoever has, fails to be accepted.
            let mut accepted = Vec::new();
            while accepted.len() < 200 {
                let more: Vec<_> = std::iter::from_fn(|| listener.incoming().now_or_never()).collect();
                accepting.extend(more.into_iter().map(|incoming| incoming.expect("a request").accept()));
                if accepting.is_empty() {
                    accepting.push(listener.incoming().await.expect("a request").accept());
                }
                accepted.extend(join_all(accepting.drain(..)).await.into_iter().filter(Result::is_ok));
            }
            accepted
        })
    });
    let connected = block_on(join_all(connecting));
    tell_failures("connect", &connected);
    let mut pairs = joined(connected, accepting.join().expect("the acceptor"));
    talk(&mut pairs);
    drop(pairs);
    world.end();
}

#[test]
fn a_listener_that_stays_busy_is_told_of_in_time() {
    needs_rdma!();
    let _alone = alone();
    let deadline = Duration::from_secs(2);
    let (near, far) = rdma::addresses();
    // Its own deadline is far off: the one request that it has room for stays.
    let server = rdma::fabric(far, config().with_backlog(1));
    let client = rdma::fabric(near, config().with_timeouts(deadline, deadline));
    let mut listener = server.listen(&SocketAddr::new(far, 0)).expect("a listener");
    let begun = Instant::now();
    let outcomes = block_on(join_all((0..10).map(|_| client.connect(&listener.local()))));
    let took = begun.elapsed();
    assert!(took < deadline + deadline / 2, "{took:?}");
    let kinds: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().expect_err("no room").kind()).collect();
    eprintln!("{kinds:?} after {took:?}");
    // One had room, and waited there; a machine that is slow enough answers some not at all.
    assert!(kinds.contains(&ErrorKind::Busy), "{kinds:?}");
    assert!(kinds.iter().all(|kind| matches!(kind, ErrorKind::Busy | ErrorKind::TimedOut)), "{kinds:?}");

    // One that is dropped while it waits to come again is nobody's trouble.
    let client = rdma::fabric(near, config());
    let pausing = client.connect(&listener.local());
    block_on(client.timer().sleep(Duration::from_millis(100)));
    drop(pausing);
    let connecting = client.connect(&listener.local());
    let accepted = block_on(async {
        loop {
            // The requests whose peers have given up come first.
            if let Ok(track) = listener.incoming().await.expect("a request").accept().await {
                break track;
            }
        }
    });
    let mut pairs = joined(vec![block_on(connecting)], vec![Ok(accepted)]);
    talk(&mut pairs);
}

/// The number of KiB in a line of a file of the kernel.
fn kib(file: &str, line: &str) -> i64 {
    let text = std::fs::read_to_string(file).expect("a file of the kernel");
    let line = text.lines().find_map(|found| found.strip_prefix(line)).expect("a line of it");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Memory of this process, and of the whole machine, in KiB.
#[derive(Clone, Copy)]
struct Memory {
    resident: i64,
    used: i64,
    slab: i64,
}

impl Memory {
    fn now() -> Self {
        let machine = |line| kib("/proc/meminfo", line);
        let used = machine("MemTotal:") - machine("MemFree:") - machine("Cached:") - machine("Buffers:");
        // The status file counts resident memory in lots for each thread; this one looks.
        Self { resident: kib("/proc/self/smaps_rollup", "Rss:"), used, slab: machine("Slab:") }
    }
}

/// The child's part of `memory_per_idle_connection`: nothing without its parent.
#[test]
fn child_with_idle_connections() {
    let Ok(shape) = std::env::var("TRESPASS_TEST_CHILD") else { return };
    let [bytes, slots, count, shared] =
        shape.split(' ').map(|number| number.parse().expect("a number")).collect::<Vec<_>>()[..]
    else {
        panic!("not a shape: {shape}");
    };
    let world = World::new(config().with_slots(bytes, slots, slots));
    match shared {
        0 => idle(&world, bytes, slots, count, ""),
        // One more, for the first.
        _ => idle(
            &world.sharing(&SharedConfig::default().with_tracks(count + 1, slots)),
            bytes,
            slots,
            count,
            ", shared",
        ),
    }
}

/// Makes connections that do nothing, and prints what each end of one takes.
fn idle<F: ThreadFabric<Addr = SocketAddr>>(world: &World<F>, bytes: usize, slots: usize, count: usize, how: &str) {
    // What the first connection of a process costs, once.
    let _first = world.storm(1);
    let before = Memory::now();
    let _pairs = world.storm(count);
    let after = Memory::now();
    // Both ends are here.
    let per_track = |kib: i64| kib as f64 / (2 * count) as f64;
    let resident = after.resident - before.resident;
    let kernel = after.used - before.used - resident;
    let [resident, kernel, slab] = [resident, kernel, after.slab - before.slab].map(per_track);
    // Of the machine only sums are known, with what else goes on there: few connections are lost in it.
    let kernel = if count < 1000 { "–".to_owned() } else { format!("{kernel:.0}, of it slab {slab:.0}") };
    println!("row: | {slots} of {bytes} bytes{how} | {count} | {resident:.1} | {kernel} |");
    println!("sum: {}", resident + slab);
    // Besides its bytes a slot has a work request here and one with the device, and queues are powers of two.
    let most = (2 * slots * (bytes + 2048)) as f64 / 1024.0 + 32.0;
    assert!(count < 1000 || resident < most, "{resident} KiB per idle track, which is above {most}");
}

/// What an idle connection takes, for docs/MEMORY.md: each number from a process of its own.
#[test]
fn memory_per_idle_connection() {
    needs_rdma!();
    let _alone = alone();
    eprintln!("| slots each way | connections | resident KiB per track | kernel's KiB per track |");
    eprintln!("|---|---|---|---|");
    let mut sums = HashMap::new();
    for (bytes, slots, shared) in [(256, 4, 0), (256, 4, 1), (1024, 16, 0), (1024, 16, 1), (4096, 32, 0), (4096, 32, 1)]
    {
        for count in [1, 100, 1000] {
            let me = std::env::current_exe().expect("this program");
            let output = rdma::run(
                std::process::Command::new(me)
                    .args(["--exact", "child_with_idle_connections", "--nocapture"])
                    .env("TRESPASS_TEST_CHILD", format!("{bytes} {slots} {count} {shared}")),
            );
            let row = output.lines().find_map(|line| Some(line.split_once("row: ")?.1));
            eprintln!("{}", row.unwrap_or_else(|| panic!("no row in {output}")));
            let sum = output.lines().find_map(|line| line.split_once("sum: ")?.1.parse::<f64>().ok());
            sums.insert((slots, count, shared == 1), sum.expect("a sum"));
        }
    }
    // The queue of sends that each track keeps is most of what is left, so short ones with small slots save less.
    let (own, shared) = (sums[&(32, 1000, false)], sums[&(32, 1000, true)]);
    assert!(4.0 * shared <= own, "{shared} KiB where queues are shared, {own} where they are not");
}
