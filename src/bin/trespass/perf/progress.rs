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
    let mut peak: Option<f64> = None;
    // The last look at which the warm-up was over, and the first.
    let mut last: Option<(Instant, u64)> = None;
    let mut first: Option<Instant> = None;
    loop {
        let left = match (run.duration, first) {
            (Some(duration), Some(first)) if !run.gauge.is_over() => duration.saturating_sub(first.elapsed()).min(LOOK),
            _ => LOOK,
        };
        let waited = is_over.recv_timeout(left);
        let (now, done) = (Instant::now(), run.gauge.done());
        if done > run.warmup {
            first.get_or_insert(now);
            if let Some((then, before)) = last {
                let rate = (done - before) as f64 / (now - then).as_secs_f64().max(1e-9);
                // A look that was cut short says little.
                if now - then >= LOOK / 2 {
                    peak = Some(peak.map_or(rate, |peak| peak.max(rate)));
                }
            }
            last = Some((now, done));
        }
        if run.duration.zip(first).is_some_and(|(duration, first)| first.elapsed() >= duration) {
            run.gauge.end();
        }
        if let Err(RecvTimeoutError::Disconnected) = waited {
            return peak;
        }
        if begun.elapsed() >= WORTH_A_BAR && bar.is_none() {
            bar = Some(new_bar(run));
        }
        if let Some(Some(bar)) = &bar {
            bar.set_position(position(run, done, first));
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
