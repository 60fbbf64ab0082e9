//! A soak on real verbs: records of mixed sizes through carriers of every kind, between two processes, under a loss of
//! one per cent and with links on which nothing comes through until every track has broken. See `support/soak`.
//!
//! Links are cut by losing all packets, and not by taking them down: on soft-RoCE what the connection manager says over a
//! link that is down breaks that for the whole device (docs/PROVIDERS.md), and here there is always somebody who connects
//! or says goodbye. Tracks over links that are down are the matter of `verbs_links`.
//!
//! It takes a minute, or `TRESPASS_SOAK_SECONDS`. It changes the network, so it runs only where that is the one of
//! scripts/with-rdma.
#![cfg(feature = "verbs")]

#[path = "support/holdings.rs"]
mod holdings;
#[path = "support/netem.rs"]
mod netem;
#[path = "support/rdma.rs"]
mod rdma;
#[path = "support/soak/mod.rs"]
mod soak;

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use holdings::{Holdings, resident_of};
use netem::Spoilt;
use rdma::needs_rdma;
use soak::client::{Lane, Tally};
use soak::datagrams::{self, DatagramTally};
use soak::pipes::{Bytes, Halves, Messages, Pipe, Rendezvous};
use soak::{Desk, Faults, Load, Task, desk};
use trespass_core::{Fabric, Listener, wait};
use trespass_verbs::{
    DatagramConfig, VerbsConfig, VerbsDatagrams, VerbsFabric, leaked_queue_pairs, leaked_registrations,
};

/// The longest body: a few MiB.
const LONGEST: usize = 3 << 20;
/// How long nothing is done to the links between two cuts.
const CALM: Duration = Duration::from_secs(5);
/// How long anything is waited for that must come.
const PATIENCE: Duration = Duration::from_secs(90);
/// How much more memory a process may have at the end than after the first two cuts, in KiB.
const MARGIN: usize = 24 << 10;
/// With fewer there is nothing to compare the memory with.
const LEAST_CUTS: u32 = 4;

const LISTEN: &str = "TRESPASS_TEST_LISTEN";
const LISTENING: &str = "listening on ";
const TAKEN: &str = "taken ";

fn lasting() -> Duration {
    let secs = std::env::var("TRESPASS_SOAK_SECONDS").map_or(60, |secs| secs.parse().expect("a number of seconds"));
    Duration::from_secs(secs)
}

fn fabrics(ip: IpAddr) -> (VerbsFabric, VerbsDatagrams) {
    let mut config = VerbsConfig::default().with_slots(16 << 10, 32, 64);
    // What is kept of regions that came back would grow for longer than a minute.
    config.region_cache = 8 << 20;
    let fabric = rdma::fabric(ip, config);
    let datagrams = fabric.datagrams(DatagramConfig::default().with_slots(16, 256)).expect("datagrams");
    (fabric, datagrams)
}

/// A thread that ends this process if it panics: its peer finds out.
fn fatal<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(move || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| std::process::exit(101))
    })
}

fn session(task: Task) {
    fatal(|| wait(task));
}

/// The other process of the test below: nothing without its parent.
#[test]
fn a_desk_process() {
    let Ok(ip) = std::env::var(LISTEN) else { return };
    let ip: IpAddr = ip.parse().expect("an address");
    let (fabric, datagrams) = fabrics(ip);
    let desks: [Arc<Desk>; 5] = Default::default();
    let reliable = &fabric;
    fn serve<P: Pipe<Fabric = VerbsFabric>>(fabric: &VerbsFabric, ip: IpAddr, desk: &Arc<Desk>) -> JoinHandle<()> {
        let listener = fabric.listen(&SocketAddr::new(ip, 0)).expect("a listener");
        println!("{LISTENING}{}", listener.local());
        let (fabric, desk) = (fabric.clone(), Arc::clone(desk));
        fatal(move || wait(desk::serve::<P>(fabric, listener, desk, LONGEST, session)))
    }
    let listener = datagrams.listen(&SocketAddr::new(ip, 0)).expect("a listener");
    let mut serving = vec![
        serve::<Messages<VerbsFabric>>(reliable, ip, &desks[0]),
        serve::<Halves<VerbsFabric>>(reliable, ip, &desks[1]),
        serve::<Rendezvous<VerbsFabric>>(reliable, ip, &desks[2]),
        serve::<Bytes<VerbsFabric>>(reliable, ip, &desks[3]),
    ];
    println!("{LISTENING}{}", listener.local());
    let desk = Arc::clone(&desks[4]);
    serving.push(fatal(move || wait(datagrams::serve::<VerbsDatagrams>(listener, desk, session))));
    // Until the parent says that it is done, or is gone.
    std::io::stdin().read_to_end(&mut Vec::new()).expect("its end");
    for desk in &desks {
        desk.stop();
        let (number, digest) = desk.state();
        let counts = [&desk.bytes, &desk.sessions, &desk.broken].map(|count| count.load(Ordering::Relaxed));
        println!("{TAKEN}{number} {digest} {counts:?} of bytes, sessions, broken");
    }
    for serving in serving {
        serving.join().expect("it served");
    }
    assert_eq!((leaked_queue_pairs(), leaked_registrations()), (0, 0));
}

/// The process with the desks, killed when this is dropped.
struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(ip: IpAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "a_desk_process", "--nocapture"])
            .env(LISTEN, ip.to_string())
            // A thread for each session would be an arena of the allocator for each, sooner or later: memory of nobody's.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    /// What comes behind `word` in the next line that has it.
    fn after(&mut self, word: &str) -> String {
        let mut lines = self.lines.by_ref().map(|line| line.expect("text"));
        lines.find_map(|line| Some(line.split_once(word)?.1.to_owned())).expect("the desks live")
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Ends it, and says with what each desk ends.
    fn stop(mut self, desks: usize) -> Vec<String> {
        drop(self.child.stdin.take());
        let said = (0..desks).map(|_| self.after(TAKEN)).collect();
        let begun = Instant::now();
        while !self.has_ended() {
            assert!(begun.elapsed() < PATIENCE, "the desks do not end");
            thread::yield_now();
        }
        assert!(self.child.wait().expect("a child").success(), "the desks end well");
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, of which the test speaks elsewhere.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A lane at work.
struct Working {
    name: &'static str,
    tally: Arc<Tally>,
    thread: JoinHandle<(u64, u32)>,
}

fn work<P: Pipe<Fabric = VerbsFabric>>(fabric: &VerbsFabric, desk: &str, load: &Load, faults: &Arc<Faults>) -> Working {
    let tally = Arc::<Tally>::default();
    let lane: Lane<P> = Lane {
        fabric: fabric.clone(),
        desk: desk.parse().expect("an address"),
        load: load.clone(),
        tally: Arc::clone(&tally),
        faults: Arc::clone(faults),
    };
    Working { name: P::NAME, tally, thread: thread::spawn(move || wait(lane.run())) }
}

/// What the links do most of the time, and when they are cut.
const LOSS: &str = "loss 1%";
const CUT: &str = "loss 100%";

/// Cuts links and mends them, until it is time.
struct Cutter<'a> {
    links: &'a Spoilt,
    lanes: &'a [Working],
    faults: &'a Faults,
    process: &'a mut Process,
    memory: Memory,
    cuts: u32,
    /// How many packets of a link were lost by then.
    before_cuts: u64,
}

impl Cutter<'_> {
    fn run(&mut self, lasting: Duration) {
        let begun = Instant::now();
        self.until("a lane does not begin", |tally, _| Tally::count(&tally.acked) > 0);
        for links in [&["veth1"][..], &["veth0"], &["veth0", "veth1"]].into_iter().cycle() {
            self.pass(CALM);
            if begun.elapsed() >= lasting && self.cuts >= LEAST_CUTS {
                return;
            }
            self.cut(links);
        }
    }

    /// Cuts links until all tracks have broken, and then waits until all lanes go on.
    fn cut(&mut self, links: &[&str]) {
        if self.cuts == 0 {
            self.before_cuts = dropped(&Spoilt::told());
        }
        let broken = self.counts(|tally| &tally.broken);
        self.faults.add();
        links.iter().for_each(|link| self.links.change(link, CUT));
        let begun = Instant::now();
        // A lane that is between two connections has none to break.
        let has_broken = |tally: &Tally, lane: usize| {
            Tally::count(&tally.broken) > broken[lane] || !tally.connected.load(Ordering::SeqCst)
        };
        self.until("a track lives on a link that is cut", has_broken);
        let down = begun.elapsed();
        links.iter().for_each(|link| self.links.change(link, LOSS));
        self.faults.add();
        let acked = self.counts(|tally| &tally.acked);
        self.until("a lane does not go on once the link is mended", |tally, lane| {
            Tally::count(&tally.acked) > acked[lane]
        });
        self.cuts += 1;
        let up = begun.elapsed() - down;
        eprintln!("{links:?} cut for {down:.1?}, until all tracks had broken; all lanes went on {up:.1?} later");
        self.memory.cuts_seen = self.cuts;
    }

    fn counts(&self, of: impl Fn(&Tally) -> &std::sync::atomic::AtomicU64) -> Vec<u64> {
        self.lanes.iter().map(|lane| Tally::count(of(&lane.tally))).collect()
    }

    fn until(&mut self, or: &str, done: impl Fn(&Tally, usize) -> bool) {
        let begun = Instant::now();
        loop {
            let late = self.lanes.iter().enumerate().find(|(at, lane)| !done(&lane.tally, *at));
            let Some((_, lane)) = late else { return };
            if begun.elapsed() > PATIENCE {
                let all: Vec<_> = self.lanes.iter().map(|lane| format!("{}: {:?}", lane.name, lane.tally)).collect();
                panic!("{}: {or} for {PATIENCE:?}\n{}", lane.name, all.join("\n"));
            }
            self.look();
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets time go by.
    fn pass(&mut self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.look();
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn look(&mut self) {
        assert!(!self.process.has_ended(), "the desks are gone");
        let failed = self.lanes.iter().find(|lane| lane.thread.is_finished());
        assert!(failed.is_none(), "the lane of {} has ended", failed.map_or("", |lane| lane.name));
        let child = self.process.child.id();
        self.memory.sample(child, self.lanes);
    }
}

/// The resident memory of both processes, over time.
struct Memory {
    begun: Instant,
    last: Option<Instant>,
    cuts_seen: u32,
    /// After so many cuts all that a cut needs is there.
    samples: Vec<(u32, [usize; 2])>,
}

impl Memory {
    fn sample(&mut self, child: u32, lanes: &[Working]) {
        if self.last.is_some_and(|last| last.elapsed() < Duration::from_millis(250)) {
            return;
        }
        let every = self.samples.len() % 20 == 0;
        self.last = Some(Instant::now());
        let resident = [std::process::id(), child].map(resident_of);
        self.samples.push((self.cuts_seen, resident));
        if every {
            let (acked, bytes) = lanes.iter().fold((0, 0), |(acked, bytes), lane| {
                (acked + Tally::count(&lane.tally.acked), bytes + Tally::count(&lane.tally.bytes))
            });
            let [own, desks] = resident.map(|kib| kib as f64 / 1024.0);
            let (at, mib) = (self.begun.elapsed().as_secs(), bytes >> 20);
            eprintln!(
                "{at:4} s: {acked} records, {mib} MiB; {} cuts; resident {own:.1} and {desks:.1} MiB",
                self.cuts_seen
            );
        }
    }

    /// The median of each process, of the samples between two numbers of cuts.
    fn medians(&self, cuts: std::ops::RangeInclusive<u32>) -> [usize; 2] {
        let samples = || self.samples.iter().filter(|(at, _)| cuts.contains(at));
        [0, 1].map(|process| {
            let mut of: Vec<_> = samples().map(|(_, resident)| resident[process]).collect();
            of.sort_unstable();
            of[of.len() / 2]
        })
    }
}

/// How many packets the kernel says that it dropped on purpose.
fn dropped(told: &str) -> u64 {
    let after = |text: &str| text.split_once("dropped ").map(|(_, rest)| rest.to_owned());
    let number = after(told).and_then(|rest| rest.split(',').next().and_then(|number| number.parse().ok()));
    number.unwrap_or_else(|| panic!("no count of drops in {told}"))
}

#[test]
fn nothing_that_was_acknowledged_is_lost_and_memory_is_flat() {
    needs_rdma!();
    if let Some(why) = netem::foreign() {
        return eprintln!("SKIPPED: {why}");
    }
    let (near, far) = rdma::addresses();
    // What librdmacm opens once it keeps. The driver is waited for: what it holds is not part of that.
    let (fabric, driver) = VerbsFabric::open_manual(VerbsConfig::default().with_local(near)).expect("the device");
    let driver = thread::spawn(move || driver.run());
    drop(fabric);
    driver.join().expect("the driver");
    let before = Holdings::now();
    soak(near, far);
    assert_eq!(before.or_latest(), before, "nothing is left in the kernel");
    assert_eq!((leaked_queue_pairs(), leaked_registrations()), (0, 0));
}

fn soak(near: IpAddr, far: IpAddr) {
    let mut process = Process::start(far);
    let addrs: Vec<String> = (0..5).map(|_| process.after(LISTENING)).collect();
    let (fabric, sparse_fabric) = fabrics(near);
    let spoilt = Spoilt::links(LOSS);
    // No link is cut when it is over.
    let over = Arc::<AtomicBool>::default();
    let load = Load {
        over: Arc::clone(&over),
        longest: LONGEST,
        window: 16,
        rest: Duration::ZERO,
        silence: Duration::from_secs(4),
        patience: PATIENCE,
    };
    let faults = Arc::<Faults>::default();
    let lanes = [
        work::<Messages<VerbsFabric>>(&fabric, &addrs[0], &load, &faults),
        work::<Halves<VerbsFabric>>(&fabric, &addrs[1], &load, &faults),
        work::<Rendezvous<VerbsFabric>>(&fabric, &addrs[2], &load, &faults),
        work::<Bytes<VerbsFabric>>(&fabric, &addrs[3], &load, &faults),
    ];
    let sparse = Arc::<DatagramTally>::default();
    let datagrams = {
        let (addr, tally) = (addrs[4].parse().expect("an address"), Arc::clone(&sparse));
        thread::spawn(move || wait(datagrams::run(sparse_fabric, addr, load, tally)))
    };

    let memory = Memory { begun: Instant::now(), last: None, cuts_seen: 0, samples: Vec::new() };
    let mut cutter = Cutter {
        links: &spoilt,
        lanes: &lanes,
        faults: &faults,
        process: &mut process,
        memory,
        cuts: 0,
        before_cuts: 0,
    };
    cutter.run(lasting());
    let Cutter { memory, cuts, before_cuts, .. } = cutter;

    over.store(true, Ordering::SeqCst);
    let sent: Vec<_> = lanes.map(|lane| (lane.name, lane.tally, lane.thread.join().expect("a lane"))).into();
    datagrams.join().expect("the lane of datagrams");
    let told = Spoilt::told();
    drop(spoilt);
    let taken = process.stop(5);

    for ((name, tally, (number, digest)), taken) in sent.iter().zip(&taken) {
        eprintln!("{name}: {tally:?}; taken {taken}");
        assert!(taken.starts_with(&format!("{number} {digest} ")), "{name}: {number} acknowledged, {digest}; {taken}");
        assert!(Tally::count(&tally.sessions) > u64::from(cuts), "{name}: {tally:?}");
    }
    eprintln!("datagrams: {sparse:?}; taken {}", taken[4]);
    let (sent, acked) = (Tally::count(&sparse.sent), Tally::count(&sparse.acked));
    assert!(acked > sent / 4 && acked < sent, "{sparse:?}");
    eprintln!("{cuts} cuts; {before_cuts} packets of one link dropped before the first, {} in all", dropped(&told));
    assert!(before_cuts > 0, "nothing was lost, so nothing was shown: {told}");

    let (early, late) = (memory.medians(2..=2), memory.medians(cuts..=cuts));
    eprintln!("resident, in KiB, after two cuts and after {cuts}: {early:?}, {late:?}");
    for (early, late) in early.into_iter().zip(late) {
        assert!(late < early + MARGIN, "memory grows: {early} KiB after two cuts, {late} KiB after {cuts}");
    }
}
