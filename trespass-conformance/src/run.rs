//! Properties, and running them.

use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::harness::{Harness, MemoryHarness, take_skipped};

/// One thing that a fabric owes, and how it is checked.
#[derive(Clone, Copy)]
pub struct Property<H> {
    /// The group: a module of this crate.
    pub group: &'static str,
    /// The name: a function of that module.
    pub name: &'static str,
    /// The clauses of `docs/CONTRACT.md` that it checks.
    pub clauses: &'static [&'static str],
    /// The check: panics when the property does not hold.
    pub run: fn(&H),
}

impl<H> fmt::Debug for Property<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} {:?}", self.clauses)
    }
}

impl<H> fmt::Display for Property<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.group, self.name)
    }
}

impl<H: Harness> Property<H> {
    /// Checks it. Why it was skipped, if it was; that is said on the standard error stream too, past the capture of a test
    /// runner.
    ///
    /// # Panics
    /// When the property does not hold.
    pub fn check(&self, h: &H) -> Option<String> {
        let _watch = Watch::start(format!("{self} {:?}", self.clauses), h.patience() * 8);
        let skipped = match h.unavailable() {
            Some(why) => Some(why),
            None => {
                // Of whatever ran on this thread before.
                take_skipped();
                let outcome = catch_unwind(AssertUnwindSafe(|| (self.run)(h)));
                if let Err(panic) = outcome {
                    eprintln!("{self} does not hold: see {} of docs/CONTRACT.md", self.clauses.join(", "));
                    resume_unwind(panic);
                }
                take_skipped()
            }
        };
        if let Some(why) = &skipped {
            say(format_args!("SKIPPED {self}: {why}"));
        }
        skipped
    }
}

/// Ends the process when a property neither returns nor panics: it hangs in a call that ought not to block.
struct Watch(#[expect(dead_code, reason = "dropping it is the signal")] mpsc::Sender<()>);

impl Watch {
    fn start(name: String, limit: Duration) -> Self {
        let (alive, watched) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if watched.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                say(format_args!("{name} has not ended after {limit:?}: it hangs in a call of the fabric. Aborting"));
                std::process::abort();
            }
        });
        Self(alive)
    }
}

/// What became of the properties.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// Those that hold.
    pub passed: Vec<String>,
    /// Those that were skipped, and why.
    pub skipped: Vec<(String, String)>,
    /// Those that do not hold. What is wrong was printed by the panic.
    pub failed: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} skipped, {} failed", self.passed.len(), self.skipped.len(), self.failed.len())?;
        self.failed.iter().try_for_each(|name| write!(f, "\nFAILED {name}"))
    }
}

/// Checks every property whose full name (`group::name`) contains one of `filters`, or all where there are none, and
/// reports each on the standard error stream.
pub fn run_all<H: Harness>(h: &H, filters: &[String]) -> Summary {
    run(h, crate::properties::<H>(), filters)
}

/// The same for the properties of one-sided memory, which [`run_all`] does not check.
pub fn run_memory<H: MemoryHarness>(h: &H, filters: &[String]) -> Summary {
    run(h, crate::memory_properties::<H>(), filters)
}

fn run<H: Harness>(h: &H, properties: Vec<Property<H>>, filters: &[String]) -> Summary {
    let mut summary = Summary::default();
    for property in properties {
        let name = property.to_string();
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| property.check(h)));
        let took = start.elapsed();
        match outcome {
            Ok(None) => {
                say(format_args!("ok {name} ({took:.1?})"));
                summary.passed.push(name);
            }
            Ok(Some(why)) => summary.skipped.push((name, why)),
            Err(_) => {
                say(format_args!("FAILED {name} {:?} ({took:.1?})", property.clauses));
                summary.failed.push(name);
            }
        }
    }
    summary
}

/// Says something to people, past the capture of a test runner.
fn say(what: fmt::Arguments<'_>) {
    // Nothing is left to do where even this stream is closed.
    let _ = writeln!(std::io::stderr(), "{what}");
}
