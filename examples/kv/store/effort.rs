//! How busy a server is: what it was asked, and the processor time of its threads.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use super::protocol::Effort;

/// What the names of a server's threads begin with: clients may be in the same process.
pub(crate) const THREADS: &str = "kv-";

#[derive(Debug)]
pub(crate) struct Counters {
    messages: AtomicU64,
    alone: bool,
}

impl Counters {
    /// For a server that is `alone` in its process, or not.
    pub(crate) fn new(alone: bool) -> Self {
        Self { messages: AtomicU64::new(0), alone }
    }

    pub(crate) fn count_message(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn effort(&self) -> Effort {
        Effort { messages: self.messages.load(Ordering::Relaxed), cpu_ns: cpu_ns(self.alone) }
    }
}

/// The processor time of the server's threads that live, in nanoseconds; where the system tells.
fn cpu_ns(alone: bool) -> Option<u64> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").ok()? {
        let task = task.ok()?.path();
        // A thread may end in between: then its time is nobody's.
        let Ok(name) = fs::read_to_string(task.join("comm")) else { continue };
        let Ok(times) = fs::read_to_string(task.join("schedstat")) else { continue };
        if alone || name.starts_with(THREADS) {
            sum += times.split_whitespace().next()?.parse::<u64>().ok()?;
        }
    }
    // A kernel that does not count says that nobody ever ran.
    (sum > 0).then_some(sum)
}
