//! One run: what a seed says, under a plan that breaks things or one that only slows down; and many of them.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use allocation_counter::measure;
use trespass_core::{Endpoint, ErrorKind, Fabric, Incoming, ListenerExt, Role, Timer};
use trespass_mock::{MockAddr, MockPlan, MockSim, MockSpawner, explore, seeds};

use crate::check::{Outcome, Run, check};
use crate::dice::Dice;
use crate::end::{Actor, Known};
use crate::subject::{Subject, kind};

/// As many schedules as `TRESPASS_SEEDS` says, or `count`; of a thousand and more each sort of thing has to be seen.
pub(crate) fn schedules<S: Subject>(count: u64) {
    let tally = Tally::default();
    explore(count, |seed| run::<S>(seed).map(|seen| tally.add(seen)));
    let tried = seeds(count);
    let totals = tally.totals();
    println!("{} schedules: {}", tried.end - tried.start, described::<S>(totals));
    if tried.end - tried.start >= 1000 {
        assert!(totals.iter().all(|total| *total > 0), "these schedules show too little: {}", described::<S>(totals));
    }
}

/// What a run had in it.
const COMMON: [&str; 5] = ["sent", "withdrawn", "goodbyes", "left", "dropped"];
type Seen = [u64; COMMON.len() + 4];

#[derive(Default)]
struct Tally([AtomicU64; COMMON.len() + 4]);

impl Tally {
    fn add(&self, seen: Seen) {
        for (total, seen) in self.0.iter().zip(seen) {
            total.fetch_add(seen, Ordering::Relaxed);
        }
    }

    fn totals(&self) -> Seen {
        std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed))
    }
}

fn described<S: Subject>(totals: Seen) -> String {
    let names = COMMON.iter().chain(&S::SEEN);
    names.zip(totals).map(|(name, total)| format!("{total} {name}")).collect::<Vec<_>>().join(", ")
}

/// One run. What is leaked is counted to the byte.
pub(crate) fn run<S: Subject>(seed: u64) -> Result<Seen, String> {
    let mut outcome = Err(String::new());
    let used = measure(|| outcome = run_counted::<S>(seed));
    match (outcome, used.bytes_current) {
        (Ok(seen), 0) => Ok(seen),
        (Ok(_), leaked) => Err(with_replay(&format!("{leaked} bytes leaked"), seed)),
        (Err(why), _) => Err(with_replay(&why, seed)),
    }
}

/// What went wrong, and the line that replays it: with the features of this build, on which a schedule depends.
fn with_replay(why: &str, seed: u64) -> String {
    let why: Vec<&str> = why.lines().filter(|line| !line.starts_with("replay it: ")).collect();
    let features = match (cfg!(feature = "futures-io"), cfg!(feature = "planted-bugs")) {
        (true, true) => "--features futures-io,planted-bugs ",
        (true, false) => "--features futures-io ",
        (false, true) => "--features planted-bugs ",
        (false, false) => "",
    };
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main").unwrap_or_default();
    let why = why.join("\n");
    format!(
        "{why}\nreplay it: TRESPASS_SEED={seed} cargo test --package trespass-carriers {features}--test schedules {test}"
    )
}

fn run_counted<S: Subject>(seed: u64) -> Result<Seen, String> {
    let breaks = seed % 4 == 3;
    let plan = MockPlan::seeded(seed, 2);
    let plan = if breaks { plan.with_an_end(seed, 2) } else { plan };
    let quiet = plan.events.is_empty();
    let mut dice = Dice::new(seed);
    let setup = S::setup(&mut dice);
    // What is planned takes seconds at most, and deadlines some more.
    let mut sim = MockSim::new(seed, plan).with_limit(Duration::from_secs(120));
    let (acceptor, acceptor_handle) = S::fabric(sim.net(), &setup);
    let (connector, connector_handle) = S::fabric(sim.net(), &setup);
    let ends = Ends::<S> { setup: setup.clone(), operations: dice.below(80), spawner: sim.spawner() };
    let (lefts, rights) = (Reports::default(), Reports::default());
    let addr: MockAddr = "there".parse().map_err(|_| "no address")?;
    let listener = acceptor.listen(&addr).map_err(|error| format!("{error:?}"))?;
    let pairs = S::pairs(&setup);
    for _ in 0..pairs {
        let connecting = connect(connector.clone(), addr.clone(), ends.clone(), dice.fork(), lefts.clone());
        sim.spawn("left", connecting);
    }
    sim.spawn("listener", accept((acceptor.clone(), listener), pairs, ends, dice.fork(), rights.clone()));
    let report = sim.run().map_err(|failure| failure.to_string())?;
    drop(sim);
    let counters = [connector_handle.counters(), acceptor_handle.counters()];
    let run = Run {
        breaks,
        perfect: quiet && S::is_perfect(&setup) && counters.iter().all(|counters| counters.dropped == 0),
        rnr: counters.iter().map(|counters| counters.rnr_stalls).sum(),
        refusals: counters.iter().map(|counters| counters.refusals).sum(),
        corrupted: S::corrupted(&connector) + S::corrupted(&acceptor),
    };
    let pairs = paired(lefts.take(), rights.take());
    check::<S>(&pairs, run).map_err(|why| format!("{why}\nafter {report:?}, with {setup:?} and {run:?}"))?;
    Ok(seen(&pairs))
}

type Track<S> = <<S as Subject>::Fabric as Fabric>::Track;
/// What came of an end, and the name of the one that connected.
type Report = (Option<MockAddr>, Outcome);

/// What all ends have in common.
struct Ends<S: Subject> {
    setup: S::Setup,
    operations: u64,
    spawner: MockSpawner,
}

impl<S: Subject> Ends<S> {
    async fn work(self, track: Track<S>, role: Role, fabric: S::Fabric, dice: Dice) -> Outcome {
        let timer = fabric.timer();
        let carrier = S::open(track, role, fabric, self.setup).await?;
        let actor = Actor::new(dice, timer, if role == Role::Connector { 1 } else { 2 });
        Ok(carrier.act(actor, self.operations, self.spawner).await)
    }
}

impl<S: Subject> Clone for Ends<S> {
    fn clone(&self) -> Self {
        let Self { setup, operations, spawner } = self;
        Self { setup: setup.clone(), operations: *operations, spawner: spawner.clone() }
    }
}

/// What came of the ends on one side.
#[derive(Clone, Default)]
struct Reports(Rc<RefCell<Vec<Report>>>);

impl Reports {
    fn add(&self, name: Option<MockAddr>, outcome: Outcome) {
        self.0.borrow_mut().push((name, outcome));
    }

    fn take(&self) -> Vec<Report> {
        self.0.take()
    }
}

async fn connect<S: Subject>(fabric: S::Fabric, addr: MockAddr, ends: Ends<S>, dice: Dice, reports: Reports) {
    match fabric.connect(&addr).await {
        Ok(track) => {
            let name = track.local();
            reports.add(Some(name), ends.work(track, Role::Connector, fabric, dice).await);
        }
        Err(error) => reports.add(None, Err(kind(error))),
    }
}

async fn accept<S: Subject>(
    (fabric, mut listener): (S::Fabric, <S::Fabric as Fabric>::Listener),
    pairs: usize,
    ends: Ends<S>,
    mut dice: Dice,
    reports: Reports,
) {
    for _ in 0..pairs {
        // A connector that was killed before it asked never will.
        let Some(Ok(incoming)) = within(listener.incoming(), &fabric.timer()).await else { return };
        match incoming.accept().await {
            Ok(track) => {
                let (fabric, ends, dice, reports) = (fabric.clone(), ends.clone(), dice.fork(), reports.clone());
                let spawner = ends.spawner.clone();
                spawner.spawn("right", async move {
                    let name = track.peer();
                    reports.add(Some(name), ends.work(track, Role::Acceptor, fabric, dice).await);
                });
            }
            Err(error) => reports.add(None, Err(kind(error))),
        }
    }
}

async fn within<F: Future>(future: F, timer: &impl Timer) -> Option<F::Output> {
    let (mut future, mut alarm) = (pin!(future), timer.sleep(Duration::from_secs(20)));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Pin::new(&mut alarm).poll(cx).map(|()| None),
    })
    .await
}

/// Each with its peer.
fn paired(lefts: Vec<Report>, mut rights: Vec<Report>) -> Vec<(Outcome, Outcome)> {
    let none = || Err(ErrorKind::Closed);
    let mut pairs = Vec::new();
    for (name, left) in lefts {
        let at = rights.iter().position(|(other, _)| name.is_some() && *other == name);
        let right = at.map_or_else(none, |at| rights.swap_remove(at).1);
        pairs.push((left, right));
    }
    pairs.extend(rights.into_iter().map(|(_, right)| (none(), right)));
    pairs
}

fn seen(pairs: &[(Outcome, Outcome)]) -> Seen {
    let mut seen = [0; COMMON.len() + 4];
    for known in pairs.iter().flat_map(|(left, right)| [left, right]).flatten() {
        let Known { sent, withdrawn, goodbye, left, dropped, .. } = known;
        let common = [sent.len() as u64, *withdrawn, u64::from(*goodbye), u64::from(*left), u64::from(*dropped)];
        for (total, one) in seen.iter_mut().zip(common.into_iter().chain(known.seen)) {
            *total += one;
        }
    }
    seen
}
