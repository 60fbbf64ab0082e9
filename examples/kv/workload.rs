//! The clients and what they do: load, read back, read and update at random, delete.

use std::thread;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use trespass::core::{InOrder, Lossless, ThreadTrack, Track};

use crate::dataset::{Dataset, Item};
use crate::progress::Progress;
use crate::record::{self, History, Mismatch, Stamp};
use crate::store::{Client, StoreError};
use crate::tally::{Operation, Problems, Samples};

/// One client, with its own connection, in a thread of its own while a phase runs.
pub(crate) struct Worker<T: Track<Delivery: Lossless + InOrder>> {
    id: u32,
    client: Client<T>,
    /// Whether the connection has failed.
    ended: bool,
    /// Writes so far, which is also the latest version.
    writes: u64,
    history: History,
    /// The value of an update in the making.
    scratch: Vec<u8>,
    samples: Samples,
    problems: Problems,
}

/// What came of a phase.
pub(crate) struct Phase {
    pub(crate) step: Step,
    pub(crate) took: Duration,
    pub(crate) samples: Samples,
    pub(crate) problems: Problems,
}

/// The mixed load.
pub(crate) struct Mix {
    pub(crate) operations: u64,
    pub(crate) read_share: f64,
    pub(crate) skew: f64,
}

/// What is done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Load,
    ReadBack,
    Mixed,
    Delete,
}

impl Step {
    pub(crate) const ALL: [Self; 4] = [Self::Load, Self::ReadBack, Self::Mixed, Self::Delete];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::ReadBack => "read back",
            Self::Mixed => "mixed",
            Self::Delete => "delete",
        }
    }

    pub(crate) fn run<T>(self, workers: &mut [Worker<T>], dataset: &Dataset, mix: &Mix) -> Phase
    where
        T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
    {
        match self {
            Self::Load => load(workers, dataset),
            Self::ReadBack => read_back(workers, dataset),
            Self::Mixed => mixed(workers, dataset, mix),
            Self::Delete => delete(workers, dataset),
        }
    }
}

/// Every item is put, each by one of the clients.
fn load<T>(workers: &mut [Worker<T>], dataset: &Dataset) -> Phase
where
    T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
{
    let count = workers.len();
    run(Step::Load, workers, dataset.items.len() as u64, async |worker, progress| {
        for item in share(dataset, worker.id as usize, count) {
            worker.put(&item.key, &item.value).await?;
            progress.step();
        }
        Ok(())
    })
}

/// Every item is got and compared, by another client than the one that put it, if there are two.
fn read_back<T>(workers: &mut [Worker<T>], dataset: &Dataset) -> Phase
where
    T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
{
    let count = workers.len();
    run(Step::ReadBack, workers, dataset.items.len() as u64, async |worker, progress| {
        for item in share(dataset, worker.id as usize + 1, count) {
            let same = |_: &mut History, value: Option<&[u8]>| match value {
                Some(value) if value == item.value => Ok(()),
                Some(value) => Err(Mismatch::Alien(value.len())),
                None => Err(Mismatch::Gone),
            };
            worker.get(&item.key, same).await?;
            progress.step();
        }
        Ok(())
    })
}

/// Items are read and updated at random, the first ones most often.
fn mixed<T>(workers: &mut [Worker<T>], dataset: &Dataset, mix: &Mix) -> Phase
where
    T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
{
    let items = &dataset.items;
    let zipf = Zipf::new(items.len() as f64, mix.skew).expect("there are items, and the option is in range");
    let count = workers.len() as u64;
    run(Step::Mixed, workers, mix.operations, async |worker, progress| {
        let id = u64::from(worker.id);
        let mut rng = SmallRng::seed_from_u64(id);
        let mine = mix.operations / count + u64::from(id < mix.operations % count);
        for _ in 0..mine {
            let index = (zipf.sample(&mut rng) as usize - 1).min(items.len() - 1);
            let item = &items[index];
            if rng.random_bool(mix.read_share) {
                worker.get(&item.key, |history, value| history.check(index, item, value)).await?;
            } else {
                worker.update(index, item).await?;
            }
            progress.step();
        }
        Ok(())
    })
}

/// Every item is deleted, and then is gone.
fn delete<T>(workers: &mut [Worker<T>], dataset: &Dataset) -> Phase
where
    T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
{
    let count = workers.len();
    run(Step::Delete, workers, dataset.items.len() as u64, async |worker, progress| {
        for item in share(dataset, worker.id as usize, count) {
            worker.delete(&item.key).await?;
            let gone = |_: &mut History, value: Option<&[u8]>| value.map_or(Ok(()), |_| Err(Mismatch::NotGone));
            worker.get(&item.key, gone).await?;
            progress.step();
        }
        Ok(())
    })
}

/// The items of client `id` among `count`.
fn share(dataset: &Dataset, id: usize, count: usize) -> impl Iterator<Item = &Item> {
    dataset.items.iter().skip(id % count).step_by(count)
}

/// Has every worker do `work`, at once, and waits for all of them. A worker's error ends its part alone.
fn run<T, W>(step: Step, workers: &mut [Worker<T>], total: u64, work: W) -> Phase
where
    T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
    W: AsyncFn(&mut Worker<T>, &Progress) -> Result<(), StoreError> + Sync,
{
    let progress = Progress::new(step.name(), total);
    let start = Instant::now();
    thread::scope(|scope| {
        for worker in &mut *workers {
            let (work, progress) = (&work, &progress);
            scope.spawn(move || {
                if let Err(error) = block_on(work(worker, progress)) {
                    worker.ended = true;
                    worker.problems.error(worker.id, &error);
                }
            });
        }
    });
    let took = start.elapsed();
    progress.finish();
    let (mut samples, mut problems) = (Samples::new(), Problems::default());
    for worker in workers {
        samples.merge(&std::mem::replace(&mut worker.samples, Samples::new()));
        problems.merge(std::mem::take(&mut worker.problems));
    }
    Phase { step, took, samples, problems }
}

impl<T: Track<Delivery: Lossless + InOrder>> Worker<T> {
    pub(crate) fn new(id: u32, client: Client<T>) -> Self {
        Self {
            id,
            client,
            ended: false,
            writes: 0,
            history: History::default(),
            scratch: Vec::new(),
            samples: Samples::new(),
            problems: Problems::default(),
        }
    }

    /// Says goodbye, unless the connection has ended already: why is counted by then.
    pub(crate) async fn close(self, problems: &mut Problems) {
        if self.ended {
            return;
        }
        if let Err(error) = self.client.close().await {
            problems.error(self.id, &error);
        }
    }

    async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let start = Instant::now();
        let outcome = self.client.put(key, value).await;
        self.count(Operation::Put, start, value.len(), outcome)?;
        Ok(())
    }

    async fn update(&mut self, index: usize, item: &Item) -> Result<(), StoreError> {
        self.writes += 1;
        let stamp = Stamp { writer: self.id, version: self.writes };
        let mut value = std::mem::take(&mut self.scratch);
        record::write(&mut value, &item.key, stamp, item.value.len());
        let start = Instant::now();
        let outcome = self.client.put(&item.key, &value).await;
        if self.count(Operation::Put, start, value.len(), outcome)?.is_some() {
            self.history.saw(index, stamp);
        }
        self.scratch = value;
        Ok(())
    }

    async fn get(
        &mut self,
        key: &[u8],
        check: impl FnOnce(&mut History, Option<&[u8]>) -> Result<(), Mismatch>,
    ) -> Result<(), StoreError> {
        let start = Instant::now();
        let outcome = self.client.get(key).await;
        let len = outcome.as_ref().map_or(0, |value| value.as_ref().map_or(0, |value| value.len()));
        if let Some(value) = self.count(Operation::Get, start, len, outcome)? {
            if let Err(mismatch) = check(&mut self.history, value.as_deref()) {
                self.problems.mismatch(self.id, key, &mismatch);
            }
        }
        Ok(())
    }

    async fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        let start = Instant::now();
        let outcome = self.client.delete(key).await;
        if self.count(Operation::Delete, start, 0, outcome)? == Some(false) {
            self.problems.mismatch(self.id, key, &Mismatch::Gone);
        }
        Ok(())
    }

    /// Counts an operation. What it gave, or `None` where it was rejected: that is counted as an error, and the
    /// connection is as good as before.
    fn count<V>(
        &mut self,
        operation: Operation,
        start: Instant,
        bytes: usize,
        outcome: Result<V, StoreError>,
    ) -> Result<Option<V>, StoreError> {
        match outcome {
            Ok(answer) => {
                self.samples.record(operation, start.elapsed(), bytes);
                Ok(Some(answer))
            }
            Err(error) if error.kind().is_none() => {
                self.problems.error(self.id, &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
