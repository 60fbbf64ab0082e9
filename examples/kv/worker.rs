//! The clients: each with a connection of its own, and a thread while it has work.

use std::thread;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass::core::{InOrder, Lossless, ThreadTrack, Track};

use crate::progress::Progress;
use crate::record::{self, History, Mismatch, Stamp};
use crate::store::protocol::Effort;
use crate::store::{Client, Gets, GetsStats, StoreError};
use crate::tally::{Operation, Problems, Samples};

/// One client, with its own connection, in a thread of its own while there is work.
pub(crate) struct Worker<T: Track<Delivery: Lossless + InOrder>, G> {
    pub(crate) id: u32,
    /// As whom its values name it.
    writer: u32,
    client: Client<T, G>,
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

/// What came of some work.
pub(crate) struct Measured {
    pub(crate) took: Duration,
    pub(crate) samples: Samples,
    pub(crate) problems: Problems,
}

impl Measured {
    /// At least a nanosecond: something to divide by.
    pub(crate) fn seconds(&self) -> f64 {
        self.took.max(Duration::from_nanos(1)).as_secs_f64()
    }

    pub(crate) fn throughput(&self) -> f64 {
        self.samples.operations() as f64 / self.seconds()
    }
}

/// Has every worker do `work`, at once, and waits for all of them. A worker's error ends its part alone.
pub(crate) fn run<T, G, W>(name: &'static str, workers: &mut [Worker<T, G>], total: u64, work: W) -> Measured
where
    T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
    G: Gets + Send,
    W: AsyncFn(&mut Worker<T, G>, &Progress) -> Result<(), StoreError> + Sync,
{
    let progress = Progress::new(name, total);
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
    Measured { took, samples, problems }
}

impl<T: Track<Delivery: Lossless + InOrder>, G: Gets> Worker<T, G> {
    /// Client `id`, whose values say that `writer` wrote them: no other client of this server does.
    pub(crate) fn new(id: u32, writer: u32, client: Client<T, G>) -> Self {
        Self {
            id,
            writer,
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

    pub(crate) async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let start = Instant::now();
        let outcome = self.client.put(key, value).await;
        self.count(Operation::Put, start, value.len(), outcome)?;
        Ok(())
    }

    /// Puts a new value, of `len` bytes or what its head needs, that says what it is.
    pub(crate) async fn update(
        &mut self,
        operation: Operation,
        index: usize,
        key: &[u8],
        len: usize,
    ) -> Result<(), StoreError> {
        let stamp = self.next_stamp();
        let mut value = std::mem::take(&mut self.scratch);
        record::write(&mut value, key, stamp, len);
        let start = Instant::now();
        let outcome = self.client.put(key, &value).await;
        if self.count(operation, start, value.len(), outcome)?.is_some() {
            self.history.saw(index, stamp);
        }
        self.scratch = value;
        Ok(())
    }

    pub(crate) async fn get(
        &mut self,
        key: &[u8],
        check: impl FnOnce(&mut History, Option<&[u8]>) -> Result<(), Mismatch>,
    ) -> Result<(), StoreError> {
        let start = Instant::now();
        let outcome = self.client.get(key).await;
        let took = start.elapsed();
        let checked = outcome.map(|value| {
            let value = value.as_deref();
            (value.map_or(0, <[u8]>::len), check(&mut self.history, value))
        });
        match checked {
            Ok((len, verdict)) => {
                self.samples.record(Operation::Get, took, len);
                self.judge(key, verdict);
                Ok(())
            }
            Err(error) => self.rejected(error),
        }
    }

    pub(crate) async fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        let start = Instant::now();
        let outcome = self.client.delete(key).await;
        if self.count(Operation::Delete, start, 0, outcome)? == Some(false) {
            self.problems.mismatch(self.id, key, &Mismatch::Gone);
        }
        Ok(())
    }

    /// Reads a record and puts a new one in its place.
    pub(crate) async fn modify(&mut self, index: usize, key: &[u8], len: usize) -> Result<(), StoreError> {
        let start = Instant::now();
        let verdict = {
            let value = self.client.get(key).await?;
            self.history.check_record(index, key, value.as_deref())
        };
        self.judge(key, verdict);
        let stamp = self.next_stamp();
        let mut value = std::mem::take(&mut self.scratch);
        record::write(&mut value, key, stamp, len);
        let outcome = self.client.put(key, &value).await;
        if self.count(Operation::Modify, start, value.len(), outcome)?.is_some() {
            self.history.saw(index, stamp);
        }
        self.scratch = value;
        Ok(())
    }

    /// Reads up to `most` records from `from` on, whose keys begin with `prefix`.
    pub(crate) async fn scan(&mut self, from: &[u8], most: u32, prefix: &[u8]) -> Result<(), StoreError> {
        let start = Instant::now();
        let (mut bytes, mut last, mut verdict) = (0, from.to_vec(), Ok(()));
        let mut first = true;
        let outcome = self.client.scan(from, most, |key, value| {
            bytes += value.len();
            let in_order = if first { *key >= *last } else { *key > *last };
            first = false;
            last.clear();
            last.extend_from_slice(key);
            if !in_order {
                verdict = Err(Mismatch::OutOfOrder);
            } else if let (true, Err(mismatch)) = (key.starts_with(prefix), record::read(value, key)) {
                verdict = Err(mismatch);
            }
        });
        let outcome = outcome.await;
        self.count(Operation::Scan, start, bytes, outcome)?;
        self.judge(from, verdict);
        Ok(())
    }

    /// Reads all of these at once, each a record of its key. Which of several values that a key had meanwhile is not asked.
    pub(crate) async fn get_many(&mut self, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        let start = Instant::now();
        let mut outcomes = Vec::with_capacity(keys.len());
        let outcome = self.client.get_many(keys, |number, value| {
            let checked = value.map(|value| {
                let verdict = value.ok_or(Mismatch::Gone).and_then(|value| record::read(value, &keys[number]));
                (value.map_or(0, <[u8]>::len), verdict.map(drop))
            });
            outcomes.push((number, checked));
        });
        outcome.await?;
        let took = start.elapsed();
        for (number, checked) in outcomes {
            match checked {
                Ok((len, verdict)) => {
                    self.samples.record(Operation::Get, took, len);
                    self.judge(&keys[number], verdict);
                }
                Err(error) => self.rejected(error)?,
            }
        }
        Ok(())
    }

    /// Puts a new record of each of these keys, all at once.
    pub(crate) async fn update_many(&mut self, keys: &[Vec<u8>], len: usize) -> Result<(), StoreError> {
        let records: Vec<_> = keys
            .iter()
            .map(|key| {
                let mut value = Vec::new();
                record::write(&mut value, key, self.next_stamp(), len);
                (key, value)
            })
            .collect();
        let start = Instant::now();
        let mut outcomes = Vec::with_capacity(keys.len());
        self.client.put_many(&records, |number, outcome| outcomes.push((number, outcome))).await?;
        for (number, outcome) in outcomes {
            self.count(Operation::Put, start, records[number].1.len(), outcome)?;
        }
        Ok(())
    }

    pub(crate) async fn effort(&mut self) -> Result<Effort, StoreError> {
        self.client.effort().await
    }

    pub(crate) fn gets_stats(&self) -> GetsStats {
        self.client.gets_stats()
    }

    fn next_stamp(&mut self) -> Stamp {
        self.writes += 1;
        Stamp { writer: self.writer, version: self.writes }
    }

    fn judge(&mut self, key: &[u8], verdict: Result<(), Mismatch>) {
        if let Err(mismatch) = verdict {
            self.problems.mismatch(self.id, key, &mismatch);
        }
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
            Err(error) => self.rejected(error).map(|()| None),
        }
    }

    /// Counts an operation that was rejected; an error where the connection has failed.
    fn rejected(&mut self, error: StoreError) -> Result<(), StoreError> {
        if error.kind().is_some() {
            return Err(error);
        }
        self.problems.error(self.id, &error);
        Ok(())
    }
}
