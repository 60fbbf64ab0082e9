//! Who watches a run from outside: ends it when its time is over, shows how far it is, and looks how fast it is at best.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::pace::Gauge;
use super::plan::{Plan, Work};

/// Between two looks at a run. The loops that measure pay for it by one store for each message.
const LOOK: Duration = Duration::from_millis(50);
/// A run that is over by then is worth no bar.
const WORTH_A_BAR: Duration = Duration::from_millis(500);

pub(crate) struct Watcher {
    over: Sender<()>,
    thread: JoinHandle<Option<f64>>,
}

/// What is to be watched of a run.
struct Run {
    gauge: Arc<Gauge>,
    warmup: u64,
    /// Messages under way.
    depth: u64,
    /// Messages in all, where that is known.
    total: Option<u64>,
    duration: Option<Duration>,
    name: String,
}

impl Watcher {
    pub(crate) fn start(gauge: &Arc<Gauge>, plan: &Plan, duration: Option<Duration>) -> std::io::Result<Self> {
        let terms = *plan.terms();
        // A gauge counts what both ends send, where both do.
        let ends = if terms.work == Work::BothWays { 2 } else { 1 };
        let run = Run {
            gauge: Arc::clone(gauge),
            warmup: ends * terms.warmup,
            depth: ends * terms.depth as u64,
            total: (terms.count > 0).then_some(ends * (terms.warmup + terms.count)),
            duration,
            name: format!("{} {} B", terms.layer.name(), terms.size),
        };
        let (over, is_over) = mpsc::channel();
        let thread = std::thread::Builder::new().name("watcher".into()).spawn(move || watch(&run, &is_over))?;
        Ok(Self { over, thread })
    }

    /// The run is over. How many messages a second went in its fastest look, if it was long enough to be looked at twice.
    pub(crate) fn finish(self) -> Option<f64> {
        drop(self.over);
        self.thread.join().ok().flatten()
    }
}

fn watch(run: &Run, is_over: &mpsc::Receiver<()>) -> Option<f64> {
    let begun = Instant::now();
    let mut bar = None;
    let mut peak = Peak::new(run.depth);
    // The first look at which the warm-up was over.
    let mut first: Option<Instant> = None;
    loop {
        let left = match (run.duration, first) {
            (Some(duration), Some(first)) if !run.gauge.is_over() => duration.saturating_sub(first.elapsed()).min(LOOK),
            _ => LOOK,
        };
        let waited = is_over.recv_timeout(left);
        let (now, done) = (Instant::now(), run.gauge.done());
        if done > run.warmup {
            let first = *first.get_or_insert(now);
            peak.look(now - first, done);
        }
        if run.duration.zip(first).is_some_and(|(duration, first)| first.elapsed() >= duration) {
            run.gauge.end();
        }
        if let Err(RecvTimeoutError::Disconnected) = waited {
            return peak.rate;
        }
        if begun.elapsed() >= WORTH_A_BAR && bar.is_none() {
            bar = Some(new_bar(run));
        }
        if let Some(Some(bar)) = &bar {
            bar.set_position(position(run, done, first));
        }
    }
}

/// How fast a run is at best. What is counted is what was queued, so a stretch has to be much longer than the queue: a quarter of
/// it at most is what only filled that.
struct Peak {
    least: u64,
    /// When the stretch under way began, and how many were done then.
    begun: Option<(Duration, u64)>,
    rate: Option<f64>,
}

impl Peak {
    fn new(depth: u64) -> Self {
        Self { least: 4 * depth, begun: None, rate: None }
    }

    /// So many are done at this time.
    fn look(&mut self, now: Duration, done: u64) {
        let (then, before) = *self.begun.get_or_insert((now, done));
        let (took, more) = (now.saturating_sub(then), done.saturating_sub(before));
        if took >= LOOK && more >= self.least {
            let rate = more as f64 / took.as_secs_f64();
            self.rate = Some(self.rate.map_or(rate, |peak| peak.max(rate)));
            self.begun = Some((now, done));
        }
    }
}

/// Messages; or milliseconds, where time is what ends it.
fn position(run: &Run, done: u64, first: Option<Instant>) -> u64 {
    match run.duration {
        Some(_) => first.map_or(0, |first| first.elapsed().as_millis() as u64),
        None => done,
    }
}

/// None where nobody sees it.
fn new_bar(run: &Run) -> Option<Bar> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let length = run.total.or(run.duration.map(|duration| duration.as_millis() as u64));
    let style = ProgressStyle::with_template("{msg:>24} {wide_bar} {percent:>3} % {eta}").ok()?;
    Some(Bar(ProgressBar::new(length.unwrap_or(0)).with_message(run.name.clone()).with_style(style)))
}

/// Gone from the screen when it is dropped.
struct Bar(ProgressBar);

impl Bar {
    fn set_position(&self, position: u64) {
        self.0.set_position(position);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_that_of_a_stretch_and_not_of_a_queue_that_fills() {
        let mut peak = Peak::new(100);
        let mut look = |millis, done| {
            peak.look(Duration::from_millis(millis), done);
            peak.rate
        };
        assert_eq!(look(0, 0), None);
        assert_eq!(look(50, 100), None, "only the queue was filled");
        assert_eq!(look(400, 400), Some(1000.0));
        assert_eq!(look(410, 900), Some(1000.0), "too short to say anything");
        assert_eq!(look(600, 1000), Some(3000.0));
        assert_eq!(look(2600, 2000), Some(3000.0), "it was faster before");
    }
}
