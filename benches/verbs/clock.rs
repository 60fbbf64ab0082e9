//! What an end measures, and what it tells of that.

use std::time::{Duration, Instant};

/// What one end measured, printed as one line of JSON.
pub(crate) struct Report {
    messages: u64,
    elapsed: Duration,
    /// CPU time of this process, in its own code and in the kernel on its behalf.
    cpu: Duration,
    /// Of each round trip, in nanoseconds; empty for a stream.
    round_trips: Vec<u64>,
    /// How many reads and atomic operations the device has under way at most; 0 where there are none.
    fetch_slots: usize,
}

/// Runs from the first message that counts to the last.
pub(crate) struct Clock {
    start: Instant,
    cpu: Duration,
    round_trips: Vec<u64>,
}

impl Clock {
    /// Made before the warm-up, so that nothing is allocated afterwards.
    pub(crate) fn new(round_trips: u64) -> Self {
        Self { start: Instant::now(), cpu: cpu_time(), round_trips: Vec::with_capacity(round_trips as usize) }
    }

    pub(crate) fn start(&mut self) {
        self.cpu = cpu_time();
        self.start = Instant::now();
    }

    pub(crate) fn round_trip(&mut self, begin: Instant) {
        self.round_trips.push(begin.elapsed().as_nanos() as u64);
    }

    pub(crate) fn stop(self, messages: u64) -> Report {
        let elapsed = self.start.elapsed();
        let cpu = cpu_time().saturating_sub(self.cpu);
        Report { messages, elapsed, cpu, round_trips: self.round_trips, fetch_slots: 0 }
    }
}

/// User and system time of this process, as exact as /proc has it: a hundredth of a second.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may have spaces in it; see proc(5).
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11);
    let ticks: u64 = fields.take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

impl Report {
    pub(crate) fn with_fetch_slots(self, fetch_slots: usize) -> Self {
        Self { fetch_slots, ..self }
    }

    pub(crate) fn print(mut self) {
        self.round_trips.sort_unstable();
        let quantile = |of: f64| match self.round_trips.len() {
            0 => 0,
            len => self.round_trips[((len - 1) as f64 * of) as usize],
        };
        println!(
            r#"{{"messages": {}, "elapsed_ns": {}, "cpu_ns": {}, "median_ns": {}, "p99_ns": {}, "fetch_slots": {}}}"#,
            self.messages,
            self.elapsed.as_nanos(),
            self.cpu.as_nanos(),
            quantile(0.5),
            quantile(0.99),
            self.fetch_slots,
        );
    }
}

/// The numbers count up from 0; what comes out of order ends the run.
pub(crate) fn expect(number: u64, got: u64) {
    assert_eq!(got, number, "message {number} came as {got}");
}

/// Between two looks. On one CPU the other end needs it.
#[inline]
pub(crate) fn pause() {
    use std::sync::OnceLock;
    static ALONE: OnceLock<bool> = OnceLock::new();
    match ALONE.get_or_init(|| std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1)) {
        true => std::thread::yield_now(),
        false => std::hint::spin_loop(),
    }
}
