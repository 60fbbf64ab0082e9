//! What is printed: a table for people, JSON for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::options::Options;
use crate::tally::{Operation, Problems};
use crate::workload::{Phase, Step};

/// Prints the head of the table.
pub(crate) fn print_head() {
    println!();
    println!(
        "{:<10} {:<7} {:>9} {:>9} {:>11} {:>9} {:>10} {:>10} {:>10}",
        "phase", "", "count", "seconds", "per second", "MiB/s", "p50", "p99", "p99.9"
    );
}

/// Prints the lines of one phase: one in all, and one for each operation.
pub(crate) fn print_phase(phase: &Phase) {
    println!(
        "{:<10} {:<7} {:>9} {:>9.3} {:>11.0} {:>9.1}",
        phase.step.name(),
        "all",
        phase.samples.operations(),
        phase.took.as_secs_f64(),
        phase.throughput(),
        phase.samples.bytes() as f64 / f64::from(1 << 20) / phase.seconds(),
    );
    for operation in Operation::ALL {
        let times = phase.samples.of(operation);
        if times.is_empty() {
            continue;
        }
        let [p50, p99, p999] = QUANTILES.map(|(_, quantile)| microseconds(times.value_at_quantile(quantile)));
        println!(
            "{:<10} {:<7} {:>9} {:>9} {:>11.0} {:>9} {p50:>10} {p99:>10} {p999:>10}",
            "",
            operation.name(),
            times.len(),
            "",
            times.len() as f64 / phase.seconds(),
            "",
        );
    }
}

/// Prints what was wrong, if anything was.
pub(crate) fn print_problems(problems: &Problems) {
    println!();
    println!("errors      {}", problems.errors());
    for (kind, count) in problems.errors_by_kind() {
        println!("  {kind}: {count}");
    }
    println!("mismatches  {}", problems.mismatches());
    for line in problems.described() {
        println!("  {line}");
    }
}

/// All the numbers. The mixed load's are at the top; every phase's own are in `phases`.
pub(crate) fn json(options: &Options, phases: &[Phase], problems: &Problems) -> Value {
    let mixed = phases.iter().find(|phase| phase.step == Step::Mixed);
    let mut report = mixed.map_or_else(|| json!({}), phase_json);
    report["fabric"] = json!(options.fabric.name());
    report["clients"] = json!(options.clients);
    report["read_share"] = json!(options.read_share);
    report["skew"] = json!(options.skew);
    report["phases"] = phases.iter().map(phase_json).collect();
    report["errors"] = json!(problems.errors());
    report["errors_by_kind"] = json!(problems.errors_by_kind());
    report["mismatches"] = json!(problems.mismatches());
    report
}

const QUANTILES: [(&str, f64); 3] = [("p50_ns", 0.5), ("p99_ns", 0.99), ("p999_ns", 0.999)];

fn phase_json(phase: &Phase) -> Value {
    let mut report = json!({
        "phase": phase.step.name(),
        "operations": phase.samples.operations(),
        "bytes": phase.samples.bytes(),
        "seconds": phase.seconds(),
        "throughput": phase.throughput(),
    });
    for operation in Operation::ALL {
        let times = phase.samples.of(operation);
        if times.is_empty() {
            continue;
        }
        let mut numbers = json!({ "count": times.len(), "max_ns": times.max() });
        for (name, quantile) in QUANTILES {
            numbers[name] = json!(times.value_at_quantile(quantile));
        }
        report[operation.name()] = numbers;
    }
    report
}

impl Phase {
    /// At least a nanosecond: something to divide by.
    fn seconds(&self) -> f64 {
        self.took.max(Duration::from_nanos(1)).as_secs_f64()
    }

    fn throughput(&self) -> f64 {
        self.samples.operations() as f64 / self.seconds()
    }
}

fn microseconds(nanoseconds: u64) -> String {
    format!("{:.1} us", nanoseconds as f64 / 1e3)
}
