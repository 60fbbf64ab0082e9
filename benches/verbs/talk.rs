//! The conversations, and what the client tells of them.

use std::error::Error;
use std::time::{Duration, Instant};

use trespass::core::{Drive, block_on};

use crate::link::{Link, Result};
use crate::options::{Options, Side, Wait, Work};

/// What one end measured, printed as one line of JSON.
struct Report {
    messages: u64,
    elapsed: Duration,
    /// CPU time of this process, in its own code and in the kernel on its behalf.
    cpu: Duration,
    /// Of each round trip, in nanoseconds; empty for a stream.
    round_trips: Vec<u64>,
}

pub(crate) fn run<L: Link, D: Drive>(
    mut link: L,
    driver: &mut D,
    options: &Options,
) -> std::result::Result<(), Box<dyn Error>> {
    let report = match (options.work, options.side, options.wait) {
        (Work::PingPong, Side::Client, Wait::Events) => block_on(driver, ask(&mut link, options))?,
        (Work::PingPong, Side::Server, Wait::Events) => block_on(driver, answer(&mut link, options))?,
        (Work::PingPong, Side::Client, Wait::Polling) => ask_polling(&mut link, options)?,
        (Work::PingPong, Side::Server, Wait::Polling) => answer_polling(&mut link, options)?,
        (Work::Stream, Side::Client, Wait::Events) => block_on(driver, pour(&mut link, options))?,
        (Work::Stream, Side::Server, Wait::Events) => block_on(driver, drain(&mut link, options))?,
        (Work::Stream, Side::Client, Wait::Polling) => pour_polling(&mut link, options)?,
        (Work::Stream, Side::Server, Wait::Polling) => drain_polling(&mut link, options)?,
    };
    report.print();
    // The other end may be the first to go, which makes this end's close a failure that means nothing here.
    let _ = block_on(driver, link.close());
    Ok(())
}

/// Runs from the first message that counts to the last.
struct Clock {
    start: Instant,
    cpu: Duration,
    round_trips: Vec<u64>,
}

impl Clock {
    /// Made before the warm-up, so that nothing is allocated afterwards.
    fn new(round_trips: u64) -> Self {
        Self { start: Instant::now(), cpu: cpu_time(), round_trips: Vec::with_capacity(round_trips as usize) }
    }

    fn start(&mut self) {
        self.cpu = cpu_time();
        self.start = Instant::now();
    }

    fn stop(self, messages: u64) -> Report {
        let elapsed = self.start.elapsed();
        Report { messages, elapsed, cpu: cpu_time().saturating_sub(self.cpu), round_trips: self.round_trips }
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
    fn print(mut self) {
        self.round_trips.sort_unstable();
        let quantile = |of: f64| match self.round_trips.len() {
            0 => 0,
            len => self.round_trips[((len - 1) as f64 * of) as usize],
        };
        println!(
            r#"{{"messages": {}, "elapsed_ns": {}, "cpu_ns": {}, "median_ns": {}, "p99_ns": {}}}"#,
            self.messages,
            self.elapsed.as_nanos(),
            self.cpu.as_nanos(),
            quantile(0.5),
            quantile(0.99),
        );
    }
}

/// The numbers count up from 0; what comes out of order ends the run.
fn expect(number: u64, got: u64) {
    assert_eq!(got, number, "message {number} came as {got}");
}

async fn ask<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    for number in 0..options.warmup + options.count {
        if number == options.warmup {
            clock.start();
        }
        link.send(options.size, number).await?;
        link.flush()?;
        expect(number, link.recv().await?);
    }
    Ok(clock.stop(options.count))
}

async fn answer<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    for number in 0..options.warmup + options.count {
        if number == options.warmup {
            clock.start();
        }
        expect(number, link.recv().await?);
        link.send(options.size, number).await?;
        link.flush()?;
    }
    Ok(clock.stop(options.count))
}

fn ask_polling<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(options.count);
    for number in 0..options.warmup + options.count {
        if number == options.warmup {
            clock.start();
        }
        let begin = Instant::now();
        send_polling(link, options, number)?;
        link.flush()?;
        expect(number, recv_polling(link)?);
        if number >= options.warmup {
            clock.round_trips.push(begin.elapsed().as_nanos() as u64);
        }
    }
    Ok(clock.stop(options.count))
}

fn answer_polling<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    for number in 0..options.warmup + options.count {
        if number == options.warmup {
            clock.start();
        }
        expect(number, recv_polling(link)?);
        send_polling(link, options, number)?;
        link.flush()?;
    }
    Ok(clock.stop(options.count))
}

async fn pour<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    let total = options.warmup + options.count;
    for number in 0..total {
        if number == options.warmup {
            clock.start();
        }
        link.send(options.size, number).await?;
        if is_last_of_batch(number, options) {
            link.flush()?;
        }
    }
    link.flush()?;
    expect(total, link.recv().await?);
    Ok(clock.stop(options.count))
}

async fn drain<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    let total = options.warmup + options.count;
    for number in 0..total {
        if number == options.warmup {
            clock.start();
        }
        expect(number, link.recv().await?);
    }
    link.send(8, total).await?;
    link.flush()?;
    Ok(clock.stop(options.count))
}

fn pour_polling<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    let total = options.warmup + options.count;
    for number in 0..total {
        if number == options.warmup {
            clock.start();
        }
        send_polling(link, options, number)?;
        if is_last_of_batch(number, options) {
            link.flush()?;
        }
    }
    link.flush()?;
    expect(total, recv_polling(link)?);
    Ok(clock.stop(options.count))
}

fn drain_polling<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    let total = options.warmup + options.count;
    for number in 0..total {
        if number == options.warmup {
            clock.start();
        }
        expect(number, recv_polling(link)?);
    }
    send_polling(link, &Options { size: 8, ..options.clone() }, total)?;
    link.flush()?;
    Ok(clock.stop(options.count))
}

fn is_last_of_batch(number: u64, options: &Options) -> bool {
    (number + 1) % options.batch == 0
}

#[inline]
fn send_polling<L: Link>(link: &mut L, options: &Options, number: u64) -> Result<(), L> {
    while !link.try_send(options.size, number)? {
        // There may be slots only once what was queued is on its way.
        link.flush()?;
        pause();
    }
    Ok(())
}

#[inline]
fn recv_polling<L: Link>(link: &mut L) -> Result<u64, L> {
    loop {
        if let Some(number) = link.try_recv()? {
            return Ok(number);
        }
        pause();
    }
}

/// Between two looks. On one CPU the other end needs it.
#[inline]
fn pause() {
    use std::sync::OnceLock;
    static ALONE: OnceLock<bool> = OnceLock::new();
    match ALONE.get_or_init(|| std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1)) {
        true => std::thread::yield_now(),
        false => std::hint::spin_loop(),
    }
}
