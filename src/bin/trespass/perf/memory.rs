//! Operations on the server's memory, by a client; the server's processor sleeps meanwhile.

use std::task::{Context, Poll, ready};
use std::time::Instant;

use trespass_core::{
    Access, Completed, Endpoint, MemoryFabric, Region, RemoteMemory, RemoteWindow, SharedRegion, TryError, Window,
};

use super::error::PerfError;
use super::link::{Word, failed};
use super::pace::{Gauge, Halt, Pace};
use super::plan::{Layer, Plan, Terms, Work};
use super::said::Counts;
use super::talk::{Course, Tally};

/// What the server's memory begins with, for those who read it.
const MARK: Word = Word::MARK;

/// The server's part: memory that is lent until this is dropped.
pub(crate) struct Loan<F: MemoryFabric> {
    // Before the memory, so that the peer's access ends first.
    window: <SharedOf<F> as SharedRegion>::Window,
    memory: SharedOf<F>,
}

type CompletedOf<T> = Completed<<T as RemoteMemory>::Region, <T as Endpoint>::Error>;
type SharedOf<F> = <<F as MemoryFabric>::Region as Region>::Shared;

impl<F: MemoryFabric> Loan<F> {
    pub(crate) fn new(fabric: &F, plan: &Plan) -> Result<Self, PerfError> {
        let Terms { layer, size, .. } = *plan.terms();
        let lending = |error: &F::Error| PerfError::transport("lending memory", error);
        let mut region = fabric.alloc(size).map_err(|error| lending(&error))?;
        if layer == Layer::Read {
            MARK.put(&mut region);
        }
        let memory = region.share();
        let access = if layer == Layer::Read { Access::ReadOnly } else { Access::ReadWrite };
        let window = memory.export(0..size, access).map_err(|error| lending(&error))?;
        Ok(Self { window, memory })
    }

    pub(crate) fn remote(&self) -> RemoteWindow {
        self.window.remote()
    }

    /// How many operations the memory has seen, by what is in it, if that tells: `claimed` is what the client says.
    pub(crate) fn count(&self, plan: &Plan, claimed: u64) -> Result<u64, PerfError> {
        let Terms { layer, size, .. } = *plan.terms();
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..size.min(8)];
        let read = self.memory.read_at(0, bytes);
        read.map_err(|error| PerfError::Options(error.to_string()))?;
        match layer {
            Layer::Add | Layer::Swap => self.memory.load(0).map_err(|error| PerfError::Options(error.to_string())),
            // Writes are there in order, and each begins with its number.
            Layer::Write if claimed > 0 && !Word::take(bytes).is(Word::number(claimed - 1), size) => {
                Ok(Word::take(bytes).to_number().wrapping_add(1))
            }
            _ => Ok(claimed),
        }
    }
}

/// The client's part.
pub(crate) struct Operations<'a, T: RemoteMemory> {
    track: &'a mut T,
    window: RemoteWindow,
    plan: &'a Plan,
    /// Memory of ours that no operation has.
    idle: Vec<T::Region>,
    /// Operations at once.
    at_once: u64,
    begun: u64,
    done: u64,
}

impl<'a, T: RemoteMemory> Operations<'a, T> {
    pub(crate) fn new<F>(fabric: &F, track: &'a mut T, window: RemoteWindow, plan: &'a Plan) -> Result<Self, PerfError>
    where
        F: MemoryFabric<Region = T::Region>,
    {
        let Terms { layer, size, depth, work, .. } = *plan.terms();
        // Checked here, so that no operation finds it too short.
        window.slice(0, size).map_err(|error| PerfError::Options(format!("the server's window: {error}")))?;
        let at_once = match (work, layer) {
            (Work::Latency, _) => 1,
            (_, Layer::Write) => depth,
            _ => depth.min(track.fetch_slots()),
        };
        let regions = if layer.is_atomic() { 0 } else { at_once };
        let idle = (0..regions).map(|_| fabric.alloc(size)).collect::<Result<_, _>>();
        let idle = idle.map_err(|error| PerfError::transport("registering memory", &error))?;
        Ok(Self { track, window, plan, idle, at_once: at_once as u64, begun: 0, done: 0 })
    }

    pub(crate) async fn measure<P: Pace>(mut self, pace: &mut P, gauge: &Gauge, tally: &mut Tally) -> Result<(), Halt> {
        let course = Course::of(self.plan);
        let mut last = tally.begin();
        loop {
            if self.done == course.warmup {
                last = tally.begin();
            }
            self.begin(&course, gauge)?;
            if self.begun == self.done {
                match course.ends_at(self.done, gauge)? {
                    true => break,
                    // With nothing under way there is a permit for the next.
                    false => return Err(PerfError::Gone.into()),
                }
            }
            let completed = pace.until(|cx| poll_complete(self.track, cx)).await?;
            self.take(completed.map_err(|error| failed(&error))?)?;
            // Of one at a time it is told how long each took.
            if self.at_once == 1 && self.done > course.warmup {
                let now = Instant::now();
                tally.time(now - last);
                last = now;
            }
            gauge.note(self.done);
        }
        tally.end();
        tally.measured = self.done.saturating_sub(course.warmup);
        tally.counts = Counts { sent: self.begun, received: self.done, ..Counts::default() };
        Ok(())
    }

    /// As many as go, a doorbell for each. None that counts before the warm-up is over.
    #[inline]
    fn begin(&mut self, course: &Course, gauge: &Gauge) -> Result<(), Halt> {
        let upto = if self.done < course.warmup { course.warmup } else { course.total };
        while self.begun < upto && self.begun - self.done < self.at_once && !course.ends_at(self.begun, gauge)? {
            if !self.try_begin().map_err(|error| failed(&error))? {
                break;
            }
            self.track.flush().map_err(|error| failed(&error))?;
            self.begun += 1;
        }
        Ok(())
    }

    #[inline]
    fn try_begin(&mut self) -> Result<bool, T::Error> {
        let Terms { layer, size, .. } = *self.plan.terms();
        // It was looked at before; a window that has changed has nothing to be done in it.
        let (Ok(slice), number) = (self.window.slice(0, size), self.begun) else { return Ok(false) };
        match layer {
            Layer::Write => {
                let Some(permit) = now(self.track.try_write_permit())? else { return Ok(false) };
                let Some(mut region) = self.idle.pop() else { return Ok(false) };
                Word::number(number).put(&mut region);
                self.track.write(permit, region, 0, slice, number).map_err(|unsent| unsent.error)?;
            }
            Layer::Add | Layer::Swap => {
                let Some(permit) = now(self.track.try_fetch_permit())? else { return Ok(false) };
                let Ok(word) = self.window.word(0) else { return Ok(false) };
                let queued = match layer {
                    Layer::Add => self.track.fetch_add(permit, word, 1, number),
                    _ => self.track.compare_swap(permit, word, number, number + 1, number),
                };
                queued.map_err(|unsent| unsent.error)?;
            }
            _ => {
                let Some(permit) = now(self.track.try_fetch_permit())? else { return Ok(false) };
                let Some(region) = self.idle.pop() else { return Ok(false) };
                self.track.read(permit, region, 0, slice, number).map_err(|unsent| unsent.error)?;
            }
        }
        Ok(true)
    }

    #[inline]
    fn take(&mut self, completed: CompletedOf<T>) -> Result<(), Halt> {
        let tag = completed.tag();
        let got = match completed {
            Completed::Memory { region, result, .. } => {
                result.map_err(|error| failed(&error))?;
                let size = self.plan.terms().size;
                let marked = self.plan.terms().layer != Layer::Read || Word::take(&region).is(MARK, size);
                self.idle.push(region);
                if marked { tag } else { u64::MAX }
            }
            Completed::Word { result, .. } => match result.map_err(|error| failed(&error))? {
                before if before == self.done => tag,
                before => before,
            },
            _ => u64::MAX,
        };
        if got != self.done {
            return Err(PerfError::Order { expected: self.done, got }.into());
        }
        self.done += 1;
        Ok(())
    }
}

#[inline]
fn poll_complete<T: RemoteMemory>(
    track: &mut T,
    mut cx: Option<&mut Context<'_>>,
) -> Poll<Result<CompletedOf<T>, T::Error>> {
    loop {
        match (track.try_complete(), &mut cx) {
            (Ok(completed), _) => return Poll::Ready(Ok(completed)),
            (Err(TryError::Failed(error)), _) => return Poll::Ready(Err(error)),
            (Err(TryError::WouldBlock), Some(cx)) => ready!(track.poll_complete_ready(cx)),
            (Err(TryError::WouldBlock), None) => return Poll::Pending,
        }
    }
}

#[inline]
fn now<T, E>(tried: Result<T, TryError<E>>) -> Result<Option<T>, E> {
    match tried {
        Ok(value) => Ok(Some(value)),
        Err(TryError::WouldBlock) => Ok(None),
        Err(TryError::Failed(error)) => Err(error),
    }
}
