//! Operations on the server's memory, by a client that polls; the server sleeps meanwhile.

use std::error::Error;
use std::time::Instant;

use trespass::core::{
    Access, Completed, Drive, MemoryFabric, RecvSideExt, Region, RemoteMemory, RemoteWindow, SendSide, SendSideExt,
    SharedRegion, TryError, Window, block_on,
};

use crate::clock::{Clock, Report, expect, pause};
use crate::link::{number, put_number};
use crate::options::{Options, Side, Work};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What the server's memory begins with, for those who read it.
const MARK: u64 = 0x5472_6573_7061_7373;

pub(crate) fn run<F: MemoryFabric, D: Drive>(
    fabric: &F,
    mut track: F::Track,
    driver: &mut D,
    options: &Options,
) -> Outcome<()> {
    match options.side {
        Side::Server => block_on(driver, lend(fabric, &mut track, options))?.print(),
        Side::Client => {
            let window = RemoteWindow::decode(&block_on(driver, track.recv())?)?;
            Operations::new(fabric, &mut track, window, options)?.measure()?.print();
            // Whoever lent the memory may look whether all is there.
            block_on(driver, tell(&mut track, options.warmup + options.count))?;
        }
    }
    // The other end may be the first to go, which makes this end's close a failure that means nothing here.
    let _ = block_on(driver, track.close());
    Ok(())
}

/// Lends memory until the client says that it is done, and looks whether what it did is there.
async fn lend<F: MemoryFabric>(fabric: &F, track: &mut F::Track, options: &Options) -> Outcome<Report> {
    let clock = Clock::new(0);
    let shared = fabric.alloc(options.size)?.share();
    shared.store(0, if options.work == Work::Read { MARK } else { 0 })?;
    let window = shared.export(0..options.size, Access::ReadWrite)?;
    let mut buf = track.reserve(RemoteWindow::ENCODED).await?;
    buf.copy_from_slice(&window.remote().encode());
    track.send(buf)?;
    track.flush()?;
    let total = number(&track.recv().await?);
    expect(options.warmup + options.count, total);
    match options.work {
        // Writes are there in order, and each begins with its number.
        Work::Write => expect(total - 1, shared.load(0)?),
        Work::Add => expect(total, shared.load(0)?),
        _ => {}
    }
    Ok(clock.stop(options.count))
}

async fn tell<T: SendSide>(track: &mut T, number: u64) -> Result<(), T::Error> {
    let mut buf = track.reserve(8).await?;
    put_number(&mut buf, number);
    track.send(buf).map_err(|unsent| unsent.error)?;
    track.flush()
}

struct Operations<'a, T: RemoteMemory> {
    track: &'a mut T,
    window: RemoteWindow,
    options: &'a Options,
    /// Memory of ours that no operation has.
    idle: Vec<T::Region>,
    /// Operations at once.
    at_once: usize,
    begun: u64,
    done: u64,
}

impl<'a, T: RemoteMemory> Operations<'a, T> {
    fn new<F>(fabric: &F, track: &'a mut T, window: RemoteWindow, options: &'a Options) -> Outcome<Self>
    where
        F: MemoryFabric<Region = T::Region>,
    {
        let at_once = match options.work {
            Work::Write => options.under_way,
            _ => options.under_way.min(track.fetch_slots()),
        };
        let mut idle = Vec::with_capacity(at_once);
        if options.work != Work::Add {
            for _ in 0..at_once {
                idle.push(fabric.alloc(options.size)?);
            }
        }
        Ok(Self { track, window, options, idle, at_once, begun: 0, done: 0 })
    }

    fn measure(mut self) -> Outcome<Report> {
        // Of one at a time it is told how long each took.
        let alone = self.at_once == 1;
        let mut clock = Clock::new(if alone { self.options.count } else { 0 });
        let total = self.options.warmup + self.options.count;
        for upto in [self.options.warmup, total] {
            clock.start();
            while self.done < upto {
                let begin = Instant::now();
                self.begin(upto)?;
                self.complete()?;
                if alone && self.done > self.options.warmup {
                    clock.round_trip(begin);
                }
            }
        }
        Ok(clock.stop(self.options.count).with_fetch_slots(self.track.fetch_slots()))
    }

    /// As many as go, a doorbell for each.
    #[inline]
    fn begin(&mut self, upto: u64) -> Outcome<()> {
        while self.begun < upto && self.begun - self.done < self.at_once as u64 {
            if !self.try_begin()? {
                break;
            }
            self.track.flush()?;
            self.begun += 1;
        }
        Ok(())
    }

    #[inline]
    fn try_begin(&mut self) -> Outcome<bool> {
        match self.options.work {
            Work::Write => {
                let Some(permit) = ready(self.track.try_write_permit())? else { return Ok(false) };
                let Some(mut region) = self.idle.pop() else { return Ok(false) };
                put_number(&mut region, self.begun);
                let to = self.window.slice(0, self.options.size)?;
                self.track.write(permit, region, 0, to, self.begun).map_err(|unsent| unsent.error)?;
            }
            Work::Add => {
                let Some(permit) = ready(self.track.try_fetch_permit())? else { return Ok(false) };
                let word = self.window.word(0)?;
                self.track.fetch_add(permit, word, 1, self.begun).map_err(|unsent| unsent.error)?;
            }
            _ => {
                let Some(permit) = ready(self.track.try_fetch_permit())? else { return Ok(false) };
                let Some(region) = self.idle.pop() else { return Ok(false) };
                let from = self.window.slice(0, self.options.size)?;
                self.track.read(permit, region, 0, from, self.begun).map_err(|unsent| unsent.error)?;
            }
        }
        Ok(true)
    }

    /// One at least, and what is over besides.
    #[inline]
    fn complete(&mut self) -> Outcome<()> {
        let before = self.done;
        loop {
            match ready(self.track.try_complete())? {
                Some(completed) => self.take(completed)?,
                None if self.done > before => return Ok(()),
                None => pause(),
            }
        }
    }

    #[inline]
    fn take(&mut self, completed: Completed<T::Region, T::Error>) -> Outcome<()> {
        expect(self.done, completed.tag());
        match completed {
            Completed::Memory { region, result, .. } => {
                result?;
                if self.options.work == Work::Read {
                    expect(MARK, number(&region));
                }
                self.idle.push(region);
            }
            Completed::Word { result, .. } => expect(self.done, result?),
            _ => return Err("an operation of another kind is over".into()),
        }
        self.done += 1;
        Ok(())
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
