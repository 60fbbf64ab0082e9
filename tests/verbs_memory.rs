//! One-sided memory on real verbs, beyond the contract: many at one word, registrations that are used again, nothing that
//! leaks, and peers that die.
#![cfg(feature = "verbs")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass_core::{
    Access, Completed, ErrorKind, Fabric, Incoming, Listener, ListenerExt, MemoryFabric, RecvSideExt, Region,
    RemoteMemory, RemoteMemoryExt, RemoteSlice, RemoteWindow, RemoteWord, SendSide, SendSideExt, SharedRegion,
    TransportError, TryError, Window,
};
use trespass_verbs::{
    ReliableTrack, TrackListener, VerbsConfig, VerbsFabric, VerbsRegion, leaked_queue_pairs, leaked_registrations,
};

#[path = "support/holdings.rs"]
mod holdings;
#[path = "support/rdma.rs"]
mod rdma;
use holdings::{Holdings, resident};
use rdma::needs_rdma;

/// The kernel counts for all: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The fabric that reaches, the one that lends, and where the latter listens.
struct World {
    near: VerbsFabric,
    far: VerbsFabric,
    listener: TrackListener,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut VerbsConfig)) -> Self {
        let (near, far) = rdma::addresses();
        let mut config = VerbsConfig::default().with_slots(4096, 32, 8);
        change(&mut config);
        let open = |ip| rdma::fabric(ip, config.clone());
        let (near, far_fabric) = (open(near), open(far));
        let listener = far_fabric.listen(&SocketAddr::new(far, 0)).expect("a listener");
        Self { near, far: far_fabric, listener }
    }

    /// The end that connected and the one that accepted.
    fn join(&mut self) -> (ReliableTrack, ReliableTrack) {
        let connecting = self.near.connect(&self.listener.local());
        block_on(async {
            let accepted = self.listener.incoming().await.expect("a request").accept().await.expect("accepted");
            (connecting.await.expect("connected"), accepted)
        })
    }
}

fn read(track: &mut ReliableTrack, into: VerbsRegion, from: RemoteSlice) {
    let permit = block_on(track.fetch_permit()).expect("a permit");
    track.read(permit, into, 0, from, 0).expect("queued");
    track.flush().expect("flushed");
}

fn taken_back(track: &mut ReliableTrack) -> VerbsRegion {
    match block_on(track.completed()).expect("a completion") {
        Completed::Memory { region, result, .. } => {
            result.expect("done");
            region
        }
        other => panic!("{other:?}"),
    }
}

fn word_of(done: Completed<VerbsRegion, trespass_verbs::VerbsError>) -> u64 {
    match done {
        Completed::Word { result, .. } => result.expect("done"),
        other => panic!("{other:?}"),
    }
}

/// Adds 1 `count` times, with as many under way as the track lets; the sum of what was found.
async fn add(track: &mut ReliableTrack, word: RemoteWord, count: u64) -> u64 {
    let (mut queued, mut done, mut found) = (0, 0, 0);
    while done < count {
        while queued < count {
            match track.try_fetch_permit() {
                Ok(permit) => track.fetch_add(permit, word, 1, queued).expect("queued"),
                Err(TryError::WouldBlock) => break,
                Err(TryError::Failed(error)) => panic!("{error}"),
            }
            queued += 1;
        }
        track.flush().expect("flushed");
        let mut next = Some(track.completed().await.expect("a completion"));
        while let Some(completed) = next {
            assert_eq!(completed.tag(), done, "in the order of queueing");
            found += word_of(completed);
            done += 1;
            next = track.try_complete().ok();
        }
    }
    found
}

#[test]
fn eight_clients_add_up() {
    needs_rdma!();
    let _alone = alone();
    let (clients, each) = (8, 10_000);
    let mut world = World::new();
    let shared = world.far.alloc(64).expect("memory").share();
    let window = shared.export(0..64, Access::ReadWrite).expect("a window");
    let word = window.remote().word(8).expect("aligned");
    let (nears, _fars): (Vec<_>, Vec<_>) = (0..clients).map(|_| world.join()).unzip();
    let depth = nears[0].fetch_slots();
    let begun = Instant::now();
    let adding: Vec<_> =
        nears.into_iter().map(|mut track| std::thread::spawn(move || block_on(add(&mut track, word, each)))).collect();
    let found: u64 = adding.into_iter().map(|thread| thread.join().expect("a client")).sum();
    let total = clients * each;
    eprintln!("{total} additions by {clients} tracks, {depth} under way on each, took {:?}", begun.elapsed());
    assert_eq!(shared.load(8), Ok(total), "every addition, once");
    // Each number below the total was found by one addition.
    assert_eq!(found, total * (total - 1) / 2);
    assert_eq!((shared.load(0), shared.load(16)), (Ok(0), Ok(0)));
}

#[test]
fn a_compare_and_swap_has_one_winner() {
    needs_rdma!();
    let _alone = alone();
    let (clients, rounds) = (8u64, 100);
    let mut world = World::new();
    let shared = world.far.alloc(rounds * 8).expect("memory").share();
    let window = shared.export(0..rounds * 8, Access::ReadWrite).expect("a window");
    let remote = window.remote();
    let (nears, _fars): (Vec<_>, Vec<_>) = (0..clients).map(|_| world.join()).unzip();
    let race = |(mut track, name): (ReliableTrack, u64)| {
        std::thread::spawn(move || {
            let attempt = |round: usize| {
                let permit = block_on(track.fetch_permit()).expect("a permit");
                let word = remote.word(round as u64 * 8).expect("aligned");
                track.compare_swap(permit, word, 0, name, 0).expect("queued");
                track.flush().expect("flushed");
                word_of(block_on(track.completed()).expect("a completion"))
            };
            (0..rounds).map(attempt).collect::<Vec<_>>()
        })
    };
    let racing: Vec<_> = nears.into_iter().zip(1..).map(race).collect();
    let found: Vec<_> = racing.into_iter().map(|thread| thread.join().expect("a client")).collect();
    for round in 0..rounds {
        let winner = shared.load(round * 8).expect("inside");
        for (client, name) in found.iter().zip(1..) {
            let expected = if name == winner { 0 } else { winner };
            assert_eq!(client[round], expected, "round {round}, which {winner} won: what {name} found");
        }
        assert!((1..=clients).contains(&winner), "round {round} has a winner");
    }
}

#[test]
fn memory_that_comes_back_is_not_registered_again_and_is_zeroed() {
    needs_rdma!();
    let _alone = alone();
    let world = World::new();
    let empty = Holdings::now();
    let len = 3 << 20;
    let mut region = world.near.alloc(len).expect("memory");
    let one = Holdings::now();
    assert_ne!(one, empty, "a registration shows");
    region.fill(0xaa);
    let place = region.as_ptr();
    drop(region);
    assert_eq!(Holdings::now(), one, "it is kept");
    for _ in 0..100 {
        let mut region = world.near.alloc(len).expect("memory");
        assert_eq!(region.as_ptr(), place, "the same memory");
        assert!(region.iter().all(|byte| *byte == 0), "zeroed");
        region.fill(0xbb);
        assert_eq!(Holdings::now(), one, "and no registration is new");
    }
    let other = world.near.alloc(len).expect("memory");
    let more = world.near.alloc(len).expect("memory");
    assert_ne!(Holdings::now(), one, "two at once are two registrations");
    drop((other, more, world));
    assert_eq!(leaked_registrations(), 0);
}

/// Lends, reads, takes back.
fn lend_and_read(world: &World, near: &mut ReliableTrack, round: usize) {
    let len = [100, 4096, 70_000][round % 3];
    let mut lent = world.far.alloc(len).expect("memory");
    lent.fill(round as u8);
    let shared = lent.share();
    let window = shared.export(0..len, Access::ReadOnly).expect("a window");
    let into = world.near.alloc(len).expect("memory");
    read(near, into, window.remote().slice(0, len).expect("inside"));
    assert!(taken_back(near).iter().all(|byte| *byte == round as u8));
    window.revoke().expect("revoked");
    assert!(shared.reclaim().is_ok(), "nobody has it");
}

#[test]
fn lending_and_reading_leaves_nothing() {
    needs_rdma!();
    let _alone = alone();
    let mut world = World::new();
    let (mut near, _far) = world.join();
    (0..30).for_each(|round| lend_and_read(&world, &mut near, round));
    let (before, memory) = (Holdings::now(), resident());
    (0..200).for_each(|round| lend_and_read(&world, &mut near, round));
    assert_eq!(before.or_latest(), before);
    assert!(resident() < memory + 1024, "resident memory grew from {memory} to {} KiB", resident());
    assert_eq!(leaked_registrations(), 0);
}

/// A track that is dropped with operations in flight, and what they read from.
fn drop_in_flight(world: &mut World, shared: &<VerbsRegion as Region>::Shared) {
    let (mut near, far) = world.join();
    let window = shared.export(0..shared.len(), Access::ReadWrite).expect("a window");
    let whole = window.remote().slice(0, shared.len()).expect("inside");
    for tag in 0..4 {
        let permit = near.try_fetch_permit().expect("a permit");
        let into = world.near.alloc(shared.len()).expect("memory");
        near.read(permit, into, 0, whole, tag).expect("queued");
    }
    let permit = near.try_fetch_permit().expect("a permit");
    near.fetch_add(permit, window.remote().word(0).expect("aligned"), 1, 4).expect("queued");
    near.flush().expect("flushed");
    drop((near, window, far));
}

#[test]
fn tracks_dropped_with_operations_in_flight_leave_nothing() {
    needs_rdma!();
    let _alone = alone();
    // No memory is kept to be used again: how much that is depends on how far the driver lags behind.
    let mut world = World::with(|config| config.region_cache = 0);
    let shared = world.far.alloc(200_000).expect("memory").share();
    let before = Holdings::now();
    (0..10).for_each(|_| drop_in_flight(&mut world, &shared));
    assert_eq!(before.or_latest(), before);
    let memory = resident();
    (0..50).for_each(|_| drop_in_flight(&mut world, &shared));
    let after = before.or_latest();
    eprintln!("before: {before:?}\nafter: {after:?}\nresident: {memory} KiB, then {} KiB", resident());
    assert_eq!(after, before);
    assert!(resident() < memory + 1024, "resident memory grew from {memory} to {} KiB", resident());
    assert!(shared.reclaim().is_ok(), "nobody has it");
    assert_eq!((leaked_registrations(), leaked_queue_pairs()), (0, 0));
}

#[test]
fn messages_pass_beside_bulk_reads() {
    needs_rdma!();
    let _alone = alone();
    let mut world = World::new();
    let (mut near, mut far) = world.join();
    let len = 1 << 20;
    let mut lent = world.far.alloc(len).expect("memory");
    lent.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 31 + i / 997) as u8);
    let expected = lent.to_vec();
    let shared = lent.share();
    let window = shared.export(0..len, Access::ReadOnly).expect("a window");
    let whole = window.remote().slice(0, len).expect("inside");
    let echo = std::thread::spawn(move || {
        block_on(async {
            for _ in 0..200 {
                let message = far.recv().await.expect("a message");
                let mut reply = far.reserve(message.len()).await.expect("a slot");
                reply.copy_from_slice(&message);
                far.send(reply).expect("sent");
                far.flush().expect("flushed");
            }
        });
        far
    });
    let mut into = Some(world.near.alloc(len).expect("memory"));
    let (mut reads, mut during) = (0, 0);
    for round in 0..200u32 {
        if let Some(mut region) = into.take() {
            region.fill(0);
            read(&mut near, region, whole);
        }
        let mut buf = block_on(near.reserve(4)).expect("a slot");
        buf.copy_from_slice(&round.to_le_bytes());
        near.send(buf).expect("sent");
        near.flush().expect("flushed");
        assert_eq!(*block_on(near.recv()).expect("the echo"), round.to_le_bytes());
        match near.try_complete() {
            Ok(Completed::Memory { region, result, .. }) => {
                result.expect("done");
                assert!(*region == expected[..], "read {reads} is what is there");
                reads += 1;
                into = Some(region);
            }
            Ok(other) => panic!("{other:?}"),
            Err(TryError::WouldBlock) => during += 1,
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
    }
    eprintln!(
        "{reads} reads of {len} bytes beside 200 round trips, {during} of which ended before the read they began with"
    );
    if into.is_none() {
        assert!(*taken_back(&mut near) == expected[..]);
        reads += 1;
    }
    assert!(reads > 1, "{reads} reads");
    drop(echo.join().expect("the echo"));
}

const LEND: &str = "TRESPASS_TEST_LEND";
const LENDING: &str = "lending at ";
const LENT: usize = 1 << 20;

/// The other process of the test below: nothing without its parent.
#[test]
fn a_lending_process() {
    let Ok(addr) = std::env::var(LEND) else { return };
    let addr: SocketAddr = addr.parse().expect("an address");
    let fabric = rdma::fabric(addr.ip(), VerbsConfig::default());
    let mut listener = fabric.listen(&addr).expect("a listener");
    println!("{LENDING}{}", listener.local());
    let shared = fabric.alloc(LENT).expect("memory").share();
    let window = shared.export(0..LENT, Access::ReadOnly).expect("a window");
    block_on(async {
        let mut track = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        let mut buf = track.reserve(RemoteWindow::ENCODED).await.expect("a slot");
        buf.copy_from_slice(&window.remote().encode());
        track.send(buf).expect("sent");
        let _ = track.recv().await;
    });
}

#[test]
fn a_lender_that_is_killed_under_reads() {
    needs_rdma!();
    let _alone = alone();
    let (near, far) = rdma::addresses();
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_lending_process", "--nocapture"])
        .env(LEND, SocketAddr::new(far, 0).to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let out = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut lines = out.lines().map(|line| line.expect("text"));
    let addr = lines.find_map(|line| Some(line.split_once(LENDING)?.1.parse().expect("an address")));
    let fabric = rdma::fabric(near, VerbsConfig::default());
    let mut track = block_on(fabric.connect(&addr.expect("it listens"))).expect("connected");
    let told = block_on(track.recv()).expect("its window").to_vec();
    let window = RemoteWindow::decode(&told).expect("a window");
    let whole = window.slice(0, LENT).expect("inside");

    let depth = track.fetch_slots();
    for _ in 0..depth {
        let into = fabric.alloc(LENT).expect("memory");
        read(&mut track, into, whole);
    }
    let again = taken_back(&mut track);
    read(&mut track, again, whole);
    child.kill().expect("SIGKILL");
    let killed = Instant::now();
    child.wait().expect("it is dead");
    // Each comes back, and each that worked is begun again, until the track is at its end.
    let (mut failed, mut worked) = (0, 0);
    let end = loop {
        match block_on(track.completed()) {
            Ok(Completed::Memory { region, result: Ok(()), .. }) => {
                worked += 1;
                let permit = track.try_fetch_permit();
                if let Ok(permit) = permit {
                    // A refusal gives it back: the track has ended by now, and the next completion says so.
                    failed += usize::from(track.read(permit, region, 0, whole, 0).is_err());
                } else {
                    failed += 1;
                }
            }
            Ok(Completed::Memory { result: Err(error), .. }) => {
                assert!(matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Closed), "{error}");
                failed += 1;
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    let took = killed.elapsed();
    eprintln!("killed under {depth} reads: {worked} more worked, {failed} failed, {end} after {took:?}");
    assert_eq!(failed, depth, "every operation comes back");
    assert!(matches!(end.kind(), ErrorKind::Disconnected | ErrorKind::Closed), "{end}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(leaked_registrations(), 0);
}
