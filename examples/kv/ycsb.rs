//! The core workloads of YCSB, A to F: what databases and stores are compared by.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::ValueEnum;
use futures_executor::block_on;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use trespass::core::{InOrder, Lossless, ThreadTrack, Track};

use crate::dataset::mix;
use crate::progress::Progress;
use crate::store::protocol::Effort;
use crate::store::{Gets, GetsStats, StoreError};
use crate::tally::Operation;
use crate::worker::{Measured, Worker, run};

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Half reads, half updates
    A,
    /// 95 % reads, 5 % updates
    B,
    /// Reads alone
    C,
    /// 95 % reads, most of the latest, 5 % inserts
    D,
    /// 95 % scans of up to 100 records, 5 % inserts
    E,
    /// Half reads, half reads with an update of the same record after it
    F,
}

impl Workload {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
            Self::D => "d",
            Self::E => "e",
            Self::F => "f",
        }
    }

    /// The more frequent operation and the other one, and how many of a hundred are the former.
    fn shares(self) -> (Operation, Operation, u32) {
        match self {
            Self::A => (Operation::Get, Operation::Put, 50),
            Self::B => (Operation::Get, Operation::Put, 95),
            Self::C => (Operation::Get, Operation::Get, 100),
            Self::D => (Operation::Get, Operation::Insert, 95),
            Self::E => (Operation::Scan, Operation::Insert, 95),
            Self::F => (Operation::Get, Operation::Modify, 50),
        }
    }
}

/// How a workload is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) workload: Workload,
    /// Of all clients together.
    pub(crate) operations: u64,
    /// Operations at once, of each client.
    pub(crate) batch: usize,
    /// How unequal the records' popularity is.
    pub(crate) skew: f64,
}

/// What came of a workload.
pub(crate) struct Run {
    pub(crate) workload: Workload,
    pub(crate) measured: Measured,
    /// What the server did meanwhile, where it could be asked.
    pub(crate) effort: Option<Effort>,
    /// What the clients did beside messages.
    pub(crate) gets: GetsStats,
}

/// The records that there are, by number: loaded ones first, then those that were inserted.
pub(crate) struct Records {
    prefix: Vec<u8>,
    pub(crate) value_bytes: usize,
    next: AtomicU64,
    /// All below are there.
    there: AtomicU64,
    /// Those above it that are there, too.
    ahead: Mutex<BTreeSet<u64>>,
}

/// The longest scan, in records.
const LONGEST_SCAN: u32 = 100;

impl Records {
    pub(crate) fn new(prefix: &str, value_bytes: usize) -> Self {
        let (next, there, ahead) = Default::default();
        Self { prefix: format!("{prefix}user").into_bytes(), value_bytes, next, there, ahead }
    }

    /// Keys that follow one another in number do not in order.
    fn key(&self, number: u64) -> Vec<u8> {
        [&self.prefix[..], format!("{:016x}", mix(number)).as_bytes()].concat()
    }

    fn begin(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Record `number` is there.
    fn arrived(&self, number: u64) {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        ahead.insert(number);
        let mut there = self.there.load(Ordering::Relaxed);
        while ahead.remove(&there) {
            there += 1;
        }
        // Whoever sees it asks for what the server has acknowledged: nothing else is to be seen.
        self.there.store(there, Ordering::Relaxed);
    }

    pub(crate) fn there(&self) -> u64 {
        self.there.load(Ordering::Relaxed)
    }
}

/// Puts `count` records more, each by one of the workers.
pub(crate) fn load<T, G>(workers: &mut [Worker<T, G>], records: &Records, count: u64) -> Measured
where
    T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
    G: Gets + Send,
{
    let of = workers.len() as u64;
    run("load", workers, count, async |worker, progress| {
        for _ in 0..part(count, u64::from(worker.id), of) {
            insert(worker, records).await?;
            progress.step();
        }
        Ok(())
    })
}

/// Runs a workload on records that are there.
pub(crate) fn run_workload<T, G>(workers: &mut [Worker<T, G>], records: &Records, plan: Plan) -> Run
where
    T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
    G: Gets + Send,
{
    let before = workers.first_mut().and_then(|worker| block_on(worker.effort()).ok());
    let of = workers.len() as u64;
    let chooser = Chooser::new(records, plan);
    let measured = run(plan.workload.name(), workers, plan.operations, async |worker, progress| {
        let mut rng = SmallRng::seed_from_u64(u64::from(worker.id));
        let mut left = part(plan.operations, u64::from(worker.id), of);
        while left > 0 {
            let at_once = left.min(plan.batch as u64);
            match at_once {
                1 => chooser.one(worker, &mut rng).await?,
                _ => chooser.many(worker, &mut rng, at_once).await?,
            }
            (0..at_once).for_each(|_| Progress::step(progress));
            left -= at_once;
        }
        Ok(())
    });
    let after = workers.first_mut().and_then(|worker| block_on(worker.effort()).ok());
    let effort = before.zip(after).map(|(before, after)| Effort {
        messages: after.messages - before.messages,
        cpu_ns: after.cpu_ns.zip(before.cpu_ns).map(|(after, before)| after.saturating_sub(before)),
    });
    let mut gets = GetsStats::default();
    workers.iter().for_each(|worker| gets.add(worker.gets_stats()));
    Run { workload: plan.workload, measured, effort, gets }
}

/// How many of `count` are those of worker `id` among `of`.
fn part(count: u64, id: u64, of: u64) -> u64 {
    count / of + u64::from(id < count % of)
}

async fn insert<T, G>(worker: &mut Worker<T, G>, records: &Records) -> Result<(), StoreError>
where
    T: Track<Delivery: Lossless + InOrder>,
    G: Gets,
{
    let number = records.begin();
    worker.update(Operation::Insert, number as usize, &records.key(number), records.value_bytes).await?;
    records.arrived(number);
    Ok(())
}

/// Chooses what to do, and to which record.
struct Chooser<'a> {
    records: &'a Records,
    workload: Workload,
    zipf: Zipf<f64>,
    /// How many records there were at first.
    loaded: u64,
}

impl<'a> Chooser<'a> {
    fn new(records: &'a Records, plan: Plan) -> Self {
        let loaded = records.there().max(1);
        let zipf = Zipf::new(loaded as f64, plan.skew).expect("there are records, and the option is in range");
        Self { records, workload: plan.workload, zipf, loaded }
    }

    fn operation(&self, rng: &mut SmallRng) -> Operation {
        let (often, seldom, of_a_hundred) = self.workload.shares();
        if rng.random_range(0..100) < of_a_hundred { often } else { seldom }
    }

    /// A record: few are popular, and those are anywhere; or, of the latest, the later the more.
    fn record(&self, rng: &mut SmallRng) -> u64 {
        let rank = (self.zipf.sample(rng) as u64).clamp(1, self.loaded) - 1;
        match self.workload {
            Workload::D => self.records.there().saturating_sub(1 + rank),
            _ => mix(rank) % self.loaded,
        }
    }

    async fn one<T, G>(&self, worker: &mut Worker<T, G>, rng: &mut SmallRng) -> Result<(), StoreError>
    where
        T: Track<Delivery: Lossless + InOrder>,
        G: Gets,
    {
        let operation = self.operation(rng);
        self.perform(worker, rng, operation).await
    }

    async fn perform<T, G>(
        &self,
        worker: &mut Worker<T, G>,
        rng: &mut SmallRng,
        operation: Operation,
    ) -> Result<(), StoreError>
    where
        T: Track<Delivery: Lossless + InOrder>,
        G: Gets,
    {
        if operation == Operation::Insert {
            return insert(worker, self.records).await;
        }
        let number = self.record(rng);
        let (index, key, len) = (number as usize, self.records.key(number), self.records.value_bytes);
        match operation {
            Operation::Put => worker.update(Operation::Put, index, &key, len).await,
            Operation::Modify => worker.modify(index, &key, len).await,
            Operation::Scan => worker.scan(&key, rng.random_range(1..=LONGEST_SCAN), &self.records.prefix).await,
            _ => worker.get(&key, |history, value| history.check_record(index, &key, value)).await,
        }
    }

    /// Gets and updates go together, each sort at once; what else there is goes alone.
    async fn many<T, G>(&self, worker: &mut Worker<T, G>, rng: &mut SmallRng, count: u64) -> Result<(), StoreError>
    where
        T: Track<Delivery: Lossless + InOrder>,
        G: Gets,
    {
        let (mut gets, mut puts) = (Vec::new(), Vec::new());
        for _ in 0..count {
            match self.operation(rng) {
                Operation::Get => gets.push(self.records.key(self.record(rng))),
                Operation::Put => puts.push(self.records.key(self.record(rng))),
                other => self.perform(worker, rng, other).await?,
            }
        }
        worker.get_many(&gets).await?;
        worker.update_many(&puts, self.records.value_bytes).await
    }
}
