//! What ends a run before its time: a signal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use trespass_core::{Elapsed, Timer, within};

use super::error::PerfError;

/// Set by the first signal, and looked at by whoever works or waits. One for the process, as signals are.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// How often somebody who waits looks whether it is set.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// From now on the first SIGINT or SIGTERM ends things in good order, and a second one ends the process.
pub(crate) fn heed_signals() -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            if STOPPED.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        }
    })?;
    Ok(())
}

#[inline]
pub(crate) fn stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// What `future` comes to, unless that takes longer than `limit`, or the process is told to stop. One alarm for each [`TICK`].
pub(crate) async fn unless_stopped<T: Timer, F: Future>(
    timer: &T,
    limit: Option<Duration>,
    future: F,
) -> Result<F::Output, PerfError> {
    let begun = Instant::now();
    let mut future = std::pin::pin!(future);
    loop {
        match within(timer, TICK, future.as_mut()).await {
            Ok(output) => return Ok(output),
            Err(Elapsed) if stopped() => return Err(PerfError::Interrupted),
            Err(Elapsed) => match limit {
                Some(limit) if begun.elapsed() >= limit => return Err(PerfError::Silent(limit)),
                _ => {}
            },
        }
    }
}
