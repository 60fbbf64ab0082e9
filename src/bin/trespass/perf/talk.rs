//! The conversations between two ends: what is measured of whatever is a link, written once for both ways to wait.
//!
//! After what is made before a run, nothing here allocates.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::error::PerfError;
use super::link::{Link, STRANGE, Word, failed};
use super::pace::{Gauge, Halt, Pace};
use super::plan::{Plan, Terms, Work};
use super::said::Counts;
use super::session::Leader;
use super::stop::stopped;

/// After so long an answer over a track that may lose it is lost.
const LOST_AFTER: Duration = Duration::from_millis(500);
/// After so long nothing more is under way of what may be lost.
const QUIET: Duration = Duration::from_millis(300);
/// The longest time that is told from a longer one, in nanoseconds.
const LONGEST: u64 = 100_000_000_000;

/// What an end has measured. All its memory is there before it begins.
pub(crate) struct Tally {
    /// All that this end has sent and received, with the warm-up.
    pub(crate) counts: Counts,
    /// Messages (or round trips, or operations) after the warm-up: those that were answered, and those that were not.
    pub(crate) measured: u64,
    pub(crate) lost: u64,
    /// From the first that counts to the end of the last.
    pub(crate) elapsed: Duration,
    /// Of each round trip or operation, in nanoseconds; empty for what goes one way.
    pub(crate) times: Histogram<u64>,
    began: Instant,
}

impl Tally {
    pub(crate) fn new() -> Result<Self, PerfError> {
        let times = Histogram::new_with_bounds(1, LONGEST, 3).map_err(|error| PerfError::Options(error.to_string()))?;
        let (counts, began) = (Counts::default(), Instant::now());
        Ok(Self { counts, measured: 0, lost: 0, elapsed: Duration::ZERO, times, began })
    }

    /// The warm-up is over.
    #[inline]
    pub(crate) fn begin(&mut self) -> Instant {
        self.began = Instant::now();
        self.began
    }

    #[inline]
    pub(crate) fn time(&mut self, took: Duration) {
        self.times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(LONGEST));
    }

    #[inline]
    pub(crate) fn end(&mut self) {
        self.elapsed = self.began.elapsed();
    }
}

/// Which messages come when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    pub(crate) warmup: u64,
    /// With the warm-up; `u64::MAX` where time is what ends it.
    pub(crate) total: u64,
}

impl Course {
    pub(crate) fn of(plan: &Plan) -> Self {
        let Terms { warmup, count, .. } = *plan.terms();
        Self { warmup, total: if count == 0 { u64::MAX } else { warmup + count } }
    }

    /// Whether message `number` is not to be sent any more. One at least counts.
    #[inline]
    pub(crate) fn ends_at(&self, number: u64, gauge: &Gauge) -> Result<bool, Halt> {
        if stopped() {
            return Err(PerfError::Interrupted.into());
        }
        Ok(number >= self.total || (number > self.warmup && gauge.is_over()))
    }
}

/// The client's part over a link: what is measured of it.
pub(crate) struct Measure;

impl Leader for Measure {
    async fn lead<L: Link, P: Pace>(
        &mut self,
        link: &mut L,
        pace: &mut P,
        plan: &Plan,
        gauge: &Gauge,
        tally: &mut Tally,
    ) -> Result<(), Halt> {
        match plan.terms().work {
            Work::Latency => ask(link, pace, plan, gauge, tally).await,
            Work::OneWay => pour(link, pace, plan, gauge, tally).await,
            Work::BothWays => both(link, pace, plan, gauge, tally, true).await,
        }
    }
}

/// The server's part over a link. It ends when the client says so by the other connection.
pub(crate) async fn follow<L: Link, P: Pace>(
    link: &mut L,
    pace: &mut P,
    plan: &Plan,
    gauge: &Gauge,
    tally: &mut Tally,
) -> Result<Counts, PerfError> {
    let done = match plan.terms().work {
        Work::Latency => answer(link, pace, gauge, tally).await,
        Work::OneWay => drain(link, pace, plan, gauge, tally).await,
        Work::BothWays => both(link, pace, plan, gauge, tally, false).await,
    };
    let halt = match done {
        Ok(()) => pace.until(|_| Poll::<()>::Pending).await.err(),
        Err(halt) => Some(halt),
    };
    match halt {
        Some(Halt::Finished(counts)) if plan.terms().layer.is_lossy() && plan.terms().work == Work::OneWay => {
            empty(link, pace, plan, tally).await?;
            Ok(counts)
        }
        Some(Halt::Finished(counts)) => Ok(counts),
        Some(Halt::Failed(error)) => Err(*error),
        None => Err(PerfError::Gone),
    }
}

async fn ask<L: Link, P: Pace>(
    link: &mut L,
    pace: &mut P,
    plan: &Plan,
    gauge: &Gauge,
    tally: &mut Tally,
) -> Result<(), Halt> {
    let (course, size, lossy) = (Course::of(plan), plan.terms().size, plan.terms().layer.is_lossy());
    let mut last = tally.begin();
    for number in 0.. {
        if number == course.warmup {
            last = tally.begin();
        }
        if course.ends_at(number, gauge)? {
            break;
        }
        let word = Word::number(number);
        send(link, pace, word).await?;
        link.flush().map_err(|error| failed(&error))?;
        tally.counts.sent += 1;
        let answered = match lossy {
            false => {
                expect(word, recv(link, pace).await?, size)?;
                true
            }
            true => recv_this(link, pace, word, size).await?,
        };
        let now = Instant::now();
        tally.counts.received += u64::from(answered);
        if number >= course.warmup {
            match answered {
                true => tally.time(now - last),
                false => tally.lost += 1,
            }
            tally.measured += u64::from(answered);
        }
        last = now;
        gauge.note(number + 1);
    }
    tally.end();
    Ok(())
}

/// Waits for the answer `word`; what comes late of those before it is not it. `false` where it is lost.
async fn recv_this<L: Link, P: Pace>(link: &mut L, pace: &mut P, word: Word, size: usize) -> Result<bool, Halt> {
    loop {
        match pace.until_within(LOST_AFTER, |cx| link.recv(cx)).await? {
            Some(Ok(got)) if got.is(word, size) => return Ok(true),
            Some(Ok(STRANGE)) => return Err(PerfError::Strange.into()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(failed(&error).into()),
            None => return Ok(false),
        }
    }
}

async fn answer<L: Link, P: Pace>(link: &mut L, pace: &mut P, gauge: &Gauge, tally: &mut Tally) -> Result<(), Halt> {
    loop {
        let word = recv(link, pace).await?;
        tally.counts.received += 1;
        send(link, pace, word).await?;
        link.flush().map_err(|error| failed(&error))?;
        tally.counts.sent += 1;
        gauge.note(tally.counts.received);
        if stopped() {
            return Err(PerfError::Interrupted.into());
        }
    }
}

/// One way. Where nothing is lost the message after the last says so, and the answer to it that all have arrived.
async fn pour<L: Link, P: Pace>(
    link: &mut L,
    pace: &mut P,
    plan: &Plan,
    gauge: &Gauge,
    tally: &mut Tally,
) -> Result<(), Halt> {
    let (course, lossy) = (Course::of(plan), plan.terms().layer.is_lossy());
    let (size, batch) = (plan.terms().size, plan.terms().batch as u64);
    for number in 0.. {
        if number == course.warmup {
            tally.begin();
        }
        if course.ends_at(number, gauge)? {
            break;
        }
        send(link, pace, Word::number(number)).await?;
        tally.counts.sent += 1;
        if (number + 1) % batch == 0 {
            link.flush().map_err(|error| failed(&error))?;
        }
        gauge.note(number + 1);
    }
    let last = Word::last(tally.counts.sent);
    if !lossy {
        send(link, pace, last).await?;
    }
    link.flush().map_err(|error| failed(&error))?;
    if !lossy {
        expect(last, recv(link, pace).await?, size)?;
    }
    tally.end();
    tally.measured = tally.counts.sent - course.warmup.min(tally.counts.sent);
    Ok(())
}

async fn drain<L: Link, P: Pace>(
    link: &mut L,
    pace: &mut P,
    plan: &Plan,
    gauge: &Gauge,
    tally: &mut Tally,
) -> Result<(), Halt> {
    let (lossy, size) = (plan.terms().layer.is_lossy(), plan.terms().size);
    loop {
        let word = recv(link, pace).await?;
        if !lossy {
            let last = word.is_last();
            let expected = if last { Word::last(tally.counts.received) } else { Word::number(tally.counts.received) };
            expect(expected, word, size)?;
            if last {
                send(link, pace, word).await?;
                link.flush().map_err(|error| failed(&error))?;
                return Ok(());
            }
        }
        take(word, plan, tally);
        gauge.note(tally.counts.received);
        if stopped() {
            return Err(PerfError::Interrupted.into());
        }
    }
}

/// Counts what was received of one way. Over a track that may lose it the receiver's clock is the one that says how fast it came.
#[inline]
fn take(word: Word, plan: &Plan, tally: &mut Tally) {
    let Terms { size, warmup, layer, .. } = *plan.terms();
    let counts = &mut tally.counts;
    // Short numbers begin anew: there the warm-up is as many messages, which ones ever.
    let number = if size < 8 { counts.received } else { word.to_number() };
    counts.received += 1;
    if layer.is_lossy() && number >= warmup {
        counts.counted += 1;
        if counts.counted == 1 {
            tally.began = Instant::now();
        }
        counts.nanos = u64::try_from(tally.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    }
}

/// Takes what is still under way after all was sent.
async fn empty<L: Link, P: Pace>(link: &mut L, pace: &mut P, plan: &Plan, tally: &mut Tally) -> Result<(), PerfError> {
    loop {
        match pace.until_within(QUIET, |cx| link.recv(cx)).await {
            Ok(Some(Ok(STRANGE))) => return Err(PerfError::Strange),
            Ok(Some(Ok(word))) => take(word, plan, tally),
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => return Err(failed(&error)),
            Err(Halt::Failed(error)) => return Err(*error),
            Err(Halt::Finished(_)) => return Err(PerfError::Gone),
        }
    }
}

/// Both ways at once. Each end says when it has sent all; the one that follows says so only after the other, and so each knows that all
/// has arrived.
async fn both<L: Link, P: Pace>(
    link: &mut L,
    pace: &mut P,
    plan: &Plan,
    gauge: &Gauge,
    tally: &mut Tally,
    leads: bool,
) -> Result<(), Halt> {
    let (course, size, batch) = (Course::of(plan), plan.terms().size, plan.terms().batch as u64);
    let (mut said_last, mut heard_last) = (false, false);
    while !(said_last && heard_last) {
        if !said_last && tally.counts.sent == course.warmup {
            tally.begin();
        }
        let sent_all = course.ends_at(tally.counts.sent, gauge)? || (heard_last && course.total == u64::MAX);
        let next = match (said_last, sent_all) {
            (true, _) => None,
            (false, false) => Some(Word::number(tally.counts.sent)),
            (false, true) if leads || heard_last => Some(Word::last(tally.counts.sent)),
            (false, true) => None,
        };
        match step(link, pace, next).await? {
            Step::Sent => {
                let last = next.is_some_and(Word::is_last);
                said_last |= last;
                tally.counts.sent += u64::from(!last);
                if last || tally.counts.sent % batch == 0 {
                    link.flush().map_err(|error| failed(&error))?;
                }
            }
            Step::Received(_) if heard_last => return Err(PerfError::Strange.into()),
            Step::Received(word) => {
                heard_last = word.is_last();
                let count = tally.counts.received;
                expect(if heard_last { Word::last(count) } else { Word::number(count) }, word, size)?;
                tally.counts.received += u64::from(!heard_last);
            }
        }
        gauge.note(tally.counts.sent + tally.counts.received);
    }
    tally.end();
    let counted = |count: u64| count.saturating_sub(course.warmup);
    tally.measured = counted(tally.counts.sent) + counted(tally.counts.received);
    Ok(())
}

enum Step {
    Sent,
    Received(Word),
}

/// Takes a message if there is one; else sends `next`, if any.
async fn step<L: Link, P: Pace>(link: &mut L, pace: &mut P, next: Option<Word>) -> Result<Step, Halt> {
    let long = link.is_long();
    let stepped = pace
        .until(|mut cx| {
            // What is long is sent by a future, below: a message that is there comes first.
            let looks_only = long && next.is_some();
            if let Poll::Ready(word) = link.recv(if looks_only { None } else { cx.as_deref_mut() }) {
                return Poll::Ready(word.map(|word| Some(Step::Received(word))));
            }
            match next {
                Some(_) if long => Poll::Ready(Ok(None)),
                Some(word) => link.send(word, cx).map_ok(|()| Some(Step::Sent)),
                None => Poll::Pending,
            }
        })
        .await?;
    match (stepped, next) {
        (Ok(Some(step)), _) => Ok(step),
        (Ok(None), Some(word)) => send(link, pace, word).await.map(|()| Step::Sent),
        (Ok(None), None) => Err(PerfError::Gone.into()),
        (Err(error), _) => Err(failed(&error).into()),
    }
}

#[inline]
pub(crate) async fn send<L: Link, P: Pace>(link: &mut L, pace: &mut P, word: Word) -> Result<(), Halt> {
    let sent = match link.is_long() {
        false => pace.until(|cx| link.send(word, cx)).await?,
        true => {
            let mut sending = pin!(link.send_long(word));
            pace.until(|cx| match cx {
                Some(cx) => sending.as_mut().poll(cx),
                None => sending.as_mut().poll(&mut Context::from_waker(Waker::noop())),
            })
            .await?
        }
    };
    sent.map_err(|error| failed(&error).into())
}

#[inline]
async fn recv<L: Link, P: Pace>(link: &mut L, pace: &mut P) -> Result<Word, Halt> {
    match pace.until(|cx| link.recv(cx)).await? {
        Ok(STRANGE) => Err(PerfError::Strange.into()),
        Ok(word) => Ok(word),
        Err(error) => Err(failed(&error).into()),
    }
}

#[inline]
fn expect(word: Word, got: Word, size: usize) -> Result<(), Halt> {
    match got.is(word, size) {
        true => Ok(()),
        false => Err(PerfError::Order { expected: word.to_number(), got: got.to_number() }.into()),
    }
}
