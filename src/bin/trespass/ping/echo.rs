//! The questions: when they are asked, which answers are theirs, and what comes of it.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use trespass_core::{Timer, within};

use crate::perf::error::PerfError;
use crate::perf::link::{Link, STRANGE, Word, failed};
use crate::perf::pace::{Gauge, Halt, Pace};
use crate::perf::plan::Plan;
use crate::perf::session::Leader;
use crate::perf::stop::stopped;
use crate::perf::talk::{self, Tally};

/// When questions are asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rhythm {
    pub(crate) count: Option<u64>,
    pub(crate) interval: Duration,
    pub(crate) flood: bool,
    /// After so long an answer is lost.
    pub(crate) wait: Duration,
}

/// Between two questions of a flood, where the first is not answered.
const FLOOD: Duration = Duration::from_millis(10);
/// Questions without an answer at once; the next waits until one is answered or lost.
const OPEN: usize = 4096;

/// The part of one who asks. Time is the fabric's.
pub(crate) struct Echo<T: Timer, W> {
    rhythm: Rhythm,
    /// Who answers, as it is shown.
    peer: String,
    clock: T,
    out: Option<W>,
    /// Asked, and neither answered nor lost: number and when, the oldest first.
    open: VecDeque<(u64, Duration)>,
    next: Duration,
    statistics: Statistics,
    began: Duration,
}

/// What came of all questions; times in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Statistics {
    sent: u64,
    answered: u64,
    lost: u64,
    elapsed: Duration,
    min: f64,
    max: f64,
    sum: f64,
    squares: f64,
}

impl<T: Timer, W: Write> Echo<T, W> {
    pub(crate) fn new(rhythm: Rhythm, peer: String, clock: T, out: Option<W>) -> Self {
        let began = clock.now();
        let statistics = Statistics::default();
        Self { rhythm, peer, clock, out, open: VecDeque::new(), next: began, statistics, began }
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let mut all = self.statistics;
        // Nobody will answer them any more.
        all.lost = all.sent - all.answered;
        all.elapsed = self.clock.now().saturating_sub(self.began);
        all
    }

    fn asked_all(&self) -> bool {
        stopped() || self.rhythm.count.is_some_and(|count| self.statistics.sent >= count)
    }

    /// Whether a question is due.
    fn is_due(&self, now: Duration) -> bool {
        let early = self.rhythm.flood && self.open.is_empty();
        !self.asked_all() && self.open.len() < OPEN && (early || now >= self.next)
    }

    /// Until when there is nothing to do but to wait for answers.
    fn quiet_until(&self) -> Duration {
        let lost = self.open.front().map(|(_, asked)| *asked + self.rhythm.wait);
        let due = (!self.asked_all() && self.open.len() < OPEN).then_some(self.next);
        lost.into_iter().chain(due).min().unwrap_or(self.next)
    }

    fn ask(&mut self, now: Duration) -> Word {
        let number = self.statistics.sent;
        self.statistics.sent += 1;
        self.open.push_back((number, now));
        self.next = now + if self.rhythm.flood { FLOOD } else { self.rhythm.interval };
        self.dot(b".");
        Word::number(number)
    }

    /// An answer, if it is one that is waited for.
    fn take(&mut self, word: Word, plan: &Plan) {
        let size = plan.terms().size;
        let Some(at) = self.open.iter().position(|(number, _)| word.is(Word::number(*number), size)) else { return };
        let Some((number, asked)) = self.open.remove(at) else { return };
        let took = self.clock.now().saturating_sub(asked).as_secs_f64() * 1e6;
        self.statistics.add(took);
        self.dot(b"\x08");
        if let (Some(out), false) = (&mut self.out, self.rhythm.flood) {
            let _ = writeln!(out, "{size} bytes from {}: seq={number} time={took:.1} us", self.peer);
        }
    }

    /// What nobody answered in time is lost.
    fn expire(&mut self, now: Duration) {
        while self.open.front().is_some_and(|(_, asked)| now >= *asked + self.rhythm.wait) {
            let Some((number, _)) = self.open.pop_front() else { return };
            if let (Some(out), false) = (&mut self.out, self.rhythm.flood) {
                let _ = writeln!(out, "no answer: seq={number}");
            }
        }
    }

    /// Of a flood there is a dot for each question, which its answer takes back.
    fn dot(&mut self, mark: &[u8]) {
        if let (Some(out), true) = (&mut self.out, self.rhythm.flood) {
            let _ = out.write_all(mark).and_then(|()| out.flush());
        }
    }
}

impl<T: Timer, W: Write> Leader for Echo<T, W> {
    async fn lead<L: Link, P: Pace>(
        &mut self,
        link: &mut L,
        pace: &mut P,
        plan: &Plan,
        gauge: &Gauge,
        tally: &mut Tally,
    ) -> Result<(), Halt> {
        self.next = self.clock.now();
        let ended = self.echo(link, pace, plan, gauge).await;
        tally.counts.sent = self.statistics.sent;
        tally.counts.received = self.statistics.answered;
        match ended {
            // How most of them end.
            Err(Halt::Failed(error)) if matches!(*error, PerfError::Interrupted) => Ok(()),
            ended => ended,
        }
    }
}

impl<T: Timer, W: Write> Echo<T, W> {
    async fn echo<L: Link, P: Pace>(
        &mut self,
        link: &mut L,
        pace: &mut P,
        plan: &Plan,
        gauge: &Gauge,
    ) -> Result<(), Halt> {
        loop {
            let now = self.clock.now();
            self.expire(now);
            if self.is_due(now) {
                let word = self.ask(now);
                talk::send(link, pace, word).await?;
                link.flush().map_err(|error| failed(&error))?;
            }
            if self.asked_all() && self.open.is_empty() {
                return Ok(());
            }
            let quiet = self.quiet_until().saturating_sub(self.clock.now());
            if let Ok(answer) = within(&self.clock, quiet, pace.until(|cx| link.recv(cx))).await {
                match answer?.map_err(|error| failed(&error))? {
                    STRANGE => return Err(PerfError::Strange.into()),
                    word => self.take(word, plan),
                }
            }
            gauge.note(self.statistics.sent + self.statistics.answered);
        }
    }
}

impl Statistics {
    pub(super) fn add(&mut self, took: f64) {
        self.min = if self.answered == 0 { took } else { self.min.min(took) };
        self.max = self.max.max(took);
        self.sum += took;
        self.squares += took * took;
        self.answered += 1;
    }

    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    fn avg(&self) -> f64 {
        self.sum / self.answered.max(1) as f64
    }

    /// The standard deviation, as ping has it.
    fn mdev(&self) -> f64 {
        (self.squares / self.answered.max(1) as f64 - self.avg().powi(2)).max(0.0).sqrt()
    }

    fn loss(&self) -> f64 {
        100.0 * self.lost as f64 / self.sent.max(1) as f64
    }

    pub(crate) fn text(&self) -> String {
        let Self { sent, answered, elapsed, min, max, .. } = *self;
        let mut text =
            format!("{sent} sent, {answered} answered, {:.4} % lost, time {} ms", self.loss(), elapsed.as_millis());
        if answered > 0 {
            text += &format!("\nrtt min/avg/max/mdev = {min:.1}/{:.1}/{max:.1}/{:.1} us", self.avg(), self.mdev());
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let times = (self.answered > 0)
            .then(|| json!({ "min_us": self.min, "avg_us": self.avg(), "max_us": self.max, "mdev_us": self.mdev() }));
        json!({
            "sent": self.sent,
            "answered": self.answered,
            "lost": self.lost,
            "loss_percent": self.loss(),
            "seconds": self.elapsed.as_secs_f64(),
            "rtt": times,
        })
    }
}
