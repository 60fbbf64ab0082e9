//! Many runs, one for each seed, and how to have one of them again.

use std::fmt::Display;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::run::said;
use crate::sync::{Mutex, lock};

/// The seed to replay.
const SEED: &str = "TRESPASS_SEED";
/// How many seeds to try, instead of what the test says.
const SEEDS: &str = "TRESPASS_SEEDS";

/// The seeds that a test is to try: 0 to `count`, or to the number in `TRESPASS_SEEDS`; only that in `TRESPASS_SEED`, where it is
/// set.
///
/// # Panics
/// Where one of these is set and is no number.
pub fn seeds(count: u64) -> Range<u64> {
    match (number(SEED), number(SEEDS)) {
        (Some(seed), _) => seed..seed.saturating_add(1),
        (None, Some(count)) => 0..count,
        (None, None) => 0..count,
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, and must be a number")))
}

/// Runs `test` with each of [`seeds`]`(count)`, on as many threads as there are processors.
///
/// # Panics
/// Where `test` fails or panics for a seed: with what it said, the seed, and the line that replays it alone, unless it said
/// `replay it: …` itself. Of several, the smallest that was found.
///
/// ```
/// use trespass_mock::{MockPlan, MockSim, explore};
///
/// explore(20, |seed| {
///     let mut sim = MockSim::new(seed, MockPlan::seeded(seed, 2));
///     // … fabrics, tasks …
///     sim.run().map(|_| ())
/// });
/// ```
pub fn explore<E: Display>(count: u64, test: impl Fn(u64) -> Result<(), E> + Sync) {
    if let Err((seed, why)) = try_explore(seeds(count), &test) {
        // A run that failed has said it, or a test that knows better how it was built.
        match why.contains("replay it: ") {
            true => panic!("{why}"),
            false => panic!("{why}\nseed {seed}\nreplay it: {}", replay_line(seed)),
        }
    }
}

fn try_explore<E: Display>(
    seeds: Range<u64>,
    test: &(impl Fn(u64) -> Result<(), E> + Sync),
) -> Result<(), (u64, String)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || lock(&failed).is_some() {
                return;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| test(seed)));
            let why = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(panic) => said(panic.as_ref()),
            };
            let mut failed = lock(&failed);
            if failed.as_ref().is_none_or(|(other, _)| seed < *other) {
                *failed = Some((seed, why));
            }
        }
    };
    match seeds.end.saturating_sub(seeds.start) {
        // On this thread, which the test's output belongs to.
        0 | 1 => work(),
        _ => std::thread::scope(|scope| {
            let name = std::thread::current().name().unwrap_or("main").to_owned();
            for _ in 0..threads {
                // Where no thread is to be had this one does it.
                let spawned = std::thread::Builder::new().name(name.clone()).spawn_scoped(scope, work);
                if spawned.is_err() {
                    work();
                }
            }
        }),
    }
    failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}

/// The line that replays `seed`, as far as a test can know how it is run.
pub(super) fn replay_line(seed: u64) -> String {
    let mut line = format!("{SEED}={seed} cargo test");
    let package = std::env::var("CARGO_PKG_NAME").ok();
    if let Some(package) = &package {
        line += &format!(" --package {package}");
    }
    let program = std::env::current_exe().ok();
    let stem = program.as_deref().and_then(Path::file_stem).and_then(|stem| stem.to_str());
    if let Some((target, _)) = stem.and_then(|stem| stem.rsplit_once('-')) {
        match package.is_some_and(|package| package.replace('-', "_") == target) {
            true => line += " --lib",
            false => line += &format!(" --test {target}"),
        }
    }
    match std::thread::current().name() {
        // The test harness names its threads after the tests, and so does `explore`.
        Some(test) if test != "main" => line + " " + test,
        _ => line,
    }
}
