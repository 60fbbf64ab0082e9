//! Look-ups in the server's table by READs, of a client that polls; the server sleeps meanwhile.

use std::error::Error;
use std::time::Instant;

use trespass::core::{Drive, MemoryFabric, RecvSideExt, RemoteMemory, SendSide, SendSideExt, TryError, block_on};
use trespass_example_table::{Directory, Layout, Lookup, Reader, ReaderConfig, Secret, Table};

use crate::clock::{Clock, Report, expect, pause};
use crate::link::number;
use crate::options::{Options, Side};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Keys that are looked up in turns: more than a processor keeps in its nearest cache, as a store has.
const KEYS: u64 = 4096;

pub(crate) fn run<F: MemoryFabric, D: Drive>(
    fabric: &F,
    mut track: F::Track,
    driver: &mut D,
    options: &Options,
) -> Outcome<()> {
    match options.side {
        Side::Server => block_on(driver, lend(fabric, &mut track, options))?.print(),
        Side::Client => {
            let directory = Directory::decode(&block_on(driver, track.recv())?)?;
            let config = ReaderConfig::default().with_in_flight(options.under_way);
            let reader = Reader::new(fabric, track, directory, config)?;
            let (report, reader) = Gets::new(reader, options)?.measure()?;
            report.print();
            track = reader.into_track();
        }
    }
    // The other end may be the first to go, which makes this end's close a failure that means nothing here.
    let _ = block_on(driver, track.close());
    Ok(())
}

/// A READ is of `size` bytes: a bucket of as many entries as were asked for.
fn layout(options: &Options) -> Outcome<Layout> {
    let entry = options.size.saturating_sub(8) / options.ways;
    let layout = Layout::new(usize::try_from(KEYS)?, options.ways, entry - entry % 8)?;
    match layout.bucket_bytes() == options.size {
        true => Ok(layout),
        false => Err(format!("size: 8 and {} entries of a multiple of 8", options.ways).into()),
    }
}

/// Lends a table, until the client has gone.
async fn lend<F: MemoryFabric>(fabric: &F, track: &mut F::Track, options: &Options) -> Outcome<Report> {
    let clock = Clock::new(0);
    let layout = layout(options)?;
    let table = Table::create(fabric, layout, Secret::random())?;
    let value = vec![0xa5; layout.longest() - size_of::<u64>()];
    for key in 0..KEYS {
        // Of those whose bucket is taken the client does not make use.
        let _ = table.put(&key.to_le_bytes(), &with_number(key, &value));
    }
    let lent = table.lend()?;
    let mut buf = track.reserve(Directory::ENCODED).await?;
    buf.copy_from_slice(&lent.directory().encode());
    track.send(buf)?;
    track.flush()?;
    while track.recv().await.is_ok() {}
    Ok(clock.stop(options.count))
}

/// The value of a key begins with its number, so that a look-up that got another's would show.
fn with_number(key: u64, filling: &[u8]) -> Vec<u8> {
    let mut value = filling.to_vec();
    if let Some(place) = value.first_chunk_mut() {
        *place = key.to_le_bytes();
    }
    value
}

struct Gets<'a, M: RemoteMemory> {
    reader: Reader<M>,
    options: &'a Options,
    /// Those that are in the table.
    keys: Vec<u64>,
    /// Look-ups at once.
    at_once: u64,
    begun: u64,
    done: u64,
}

impl<'a, M: RemoteMemory> Gets<'a, M> {
    fn new(reader: Reader<M>, options: &'a Options) -> Outcome<Self> {
        let at_once = options.under_way.min(reader.track().fetch_slots()) as u64;
        let mut gets = Self { reader, options, keys: Vec::new(), at_once, begun: 0, done: 0 };
        for key in 0..KEYS {
            gets.reader.try_begin(&key.to_le_bytes(), key).map_err(|error| error.to_string())?;
            gets.reader.flush()?;
            if let (_, Lookup::Found { .. }) = gets.wait()? {
                gets.keys.push(key);
            }
        }
        match gets.keys.is_empty() {
            false => Ok(gets),
            true => Err("no key is in the table".into()),
        }
    }

    fn measure(mut self) -> Outcome<(Report, Reader<M>)> {
        // Of one at a time it is told how long each took.
        let alone = self.at_once == 1;
        let mut clock = Clock::new(if alone { self.options.count } else { 0 });
        let total = self.options.warmup + self.options.count;
        for upto in [self.options.warmup, total] {
            clock.start();
            while self.done < upto {
                let begin = Instant::now();
                self.begin(upto)?;
                self.finish()?;
                if alone && self.done > self.options.warmup {
                    clock.round_trip(begin);
                }
            }
        }
        let report = clock.stop(self.options.count).with_fetch_slots(self.reader.track().fetch_slots());
        Ok((report, self.reader))
    }

    /// As many as go, and a doorbell for all.
    #[inline]
    fn begin(&mut self, upto: u64) -> Outcome<()> {
        let before = self.begun;
        while self.begun < upto && self.begun - self.done < self.at_once {
            let key = self.key(self.begun);
            match self.reader.try_begin(&key.to_le_bytes(), self.begun) {
                Ok(()) => self.begun += 1,
                Err(TryError::WouldBlock) => break,
                Err(TryError::Failed(error)) => return Err(error.into()),
            }
        }
        if self.begun > before {
            self.reader.flush()?;
        }
        Ok(())
    }

    /// One at least, and what is over besides.
    #[inline]
    fn finish(&mut self) -> Outcome<()> {
        let mut finished = Some(self.wait()?);
        while let Some((tag, lookup)) = finished {
            let key = self.key(tag);
            match lookup {
                Lookup::Found { .. } => expect(key, number(self.reader.value())),
                // Nobody writes.
                other => return Err(format!("key {key} is {other:?}").into()),
            }
            self.done += 1;
            finished = ready(self.reader.try_finish())?;
        }
        Ok(())
    }

    #[inline]
    fn wait(&mut self) -> Outcome<(u64, Lookup)> {
        loop {
            match ready(self.reader.try_finish())? {
                Some(finished) => return Ok(finished),
                None => pause(),
            }
        }
    }

    #[inline]
    fn key(&self, number: u64) -> u64 {
        self.keys[number as usize % self.keys.len()]
    }
}

#[inline]
fn ready<T, E>(tried: Result<T, TryError<E>>) -> Result<Option<T>, E> {
    match tried {
        Ok(value) => Ok(Some(value)),
        Err(TryError::WouldBlock) => Ok(None),
        Err(TryError::Failed(error)) => Err(error),
    }
}
