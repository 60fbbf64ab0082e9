//! How far a phase is: a bar on a terminal, a line per tenth elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

pub(crate) struct Progress {
    name: &'static str,
    total: u64,
    done: AtomicU64,
    bar: Option<ProgressBar>,
}

/// Below this many steps a phase is over before a line could be read.
const WORTH_LINES: u64 = 100_000;

impl Progress {
    pub(crate) fn new(name: &'static str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg:>10} {wide_bar} {pos}/{len} {eta}");
            ProgressBar::new(total).with_message(name).with_style(style.expect("a constant template"))
        });
        Self { name, total, done: AtomicU64::new(0), bar }
    }

    /// One step more is done. Called from every worker.
    pub(crate) fn step(&self) {
        if let Some(bar) = &self.bar {
            return bar.inc(1);
        }
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let tenths = |steps: u64| steps * 10 / self.total;
        if self.total >= WORTH_LINES && tenths(done) != tenths(done - 1) {
            eprintln!("{}: {} % of {}", self.name, 10 * tenths(done), self.total);
        }
    }

    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
