//! What the clients do with the files: load, read back, read and update at random, delete.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use trespass::core::{InOrder, Lossless, ThreadTrack, Track};

use crate::dataset::{Dataset, Item};
use crate::record::{History, Mismatch};
use crate::store::Gets;
use crate::tally::Operation;
use crate::worker::{Measured, Worker, run};

/// What came of a phase.
pub(crate) struct Phase {
    pub(crate) step: Step,
    pub(crate) measured: Measured,
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

    pub(crate) fn run<T, G>(self, workers: &mut [Worker<T, G>], dataset: &Dataset, mix: &Mix) -> Phase
    where
        T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
        G: Gets + Send,
    {
        let measured = match self {
            Self::Load => load(workers, dataset),
            Self::ReadBack => read_back(workers, dataset),
            Self::Mixed => mixed(workers, dataset, mix),
            Self::Delete => delete(workers, dataset),
        };
        Phase { step: self, measured }
    }
}

/// Every item is put, each by one of the clients.
fn load<T, G>(workers: &mut [Worker<T, G>], dataset: &Dataset) -> Measured
where
    T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
    G: Gets + Send,
{
    let count = workers.len();
    run(Step::Load.name(), workers, dataset.items.len() as u64, async |worker, progress| {
        for item in share(dataset, worker.id as usize, count) {
            worker.put(&item.key, &item.value).await?;
            progress.step();
        }
        Ok(())
    })
}

/// Every item is got and compared, by another client than the one that put it, if there are two.
fn read_back<T, G>(workers: &mut [Worker<T, G>], dataset: &Dataset) -> Measured
where
    T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
    G: Gets + Send,
{
    let count = workers.len();
    run(Step::ReadBack.name(), workers, dataset.items.len() as u64, async |worker, progress| {
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
fn mixed<T, G>(workers: &mut [Worker<T, G>], dataset: &Dataset, mix: &Mix) -> Measured
where
    T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
    G: Gets + Send,
{
    let items = &dataset.items;
    let zipf = Zipf::new(items.len() as f64, mix.skew).expect("there are items, and the option is in range");
    let count = workers.len() as u64;
    run(Step::Mixed.name(), workers, mix.operations, async |worker, progress| {
        let id = u64::from(worker.id);
        let mut rng = SmallRng::seed_from_u64(id);
        let mine = mix.operations / count + u64::from(id < mix.operations % count);
        for _ in 0..mine {
            let index = (zipf.sample(&mut rng) as usize - 1).min(items.len() - 1);
            let item = &items[index];
            if rng.random_bool(mix.read_share) {
                worker.get(&item.key, |history, value| history.check(index, item, value)).await?;
            } else {
                worker.update(Operation::Put, index, &item.key, item.value.len()).await?;
            }
            progress.step();
        }
        Ok(())
    })
}

/// Every item is deleted, and then is gone.
fn delete<T, G>(workers: &mut [Worker<T, G>], dataset: &Dataset) -> Measured
where
    T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
    G: Gets + Send,
{
    let count = workers.len();
    run(Step::Delete.name(), workers, dataset.items.len() as u64, async |worker, progress| {
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
