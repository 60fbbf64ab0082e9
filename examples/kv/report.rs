//! What is printed: a table for people, JSON for programs.

use serde_json::{Value, json};

use crate::options::{GetPath, Options};
use crate::tally::{Operation, Problems};
use crate::worker::Measured;
use crate::workload::{Phase, Step};
use crate::ycsb::Run;

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
    let measured = &phase.measured;
    println!(
        "{:<10} {:<7} {:>9} {:>9.3} {:>11.0} {:>9.1}",
        phase.step.name(),
        "all",
        measured.samples.operations(),
        measured.took.as_secs_f64(),
        measured.throughput(),
        measured.samples.bytes() as f64 / f64::from(1 << 20) / measured.seconds(),
    );
    for operation in Operation::ALL {
        let times = measured.samples.of(operation);
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
            times.len() as f64 / measured.seconds(),
            "",
        );
    }
}

/// Prints the head of the table of workloads.
pub(crate) fn print_workloads_head(options: &Options, loaded: &Measured) {
    println!();
    println!(
        "{} records of {} bytes loaded, {:.0} per second; {} clients, {} at once each",
        loaded.samples.operations(),
        options.value_bytes,
        loaded.throughput(),
        options.clients,
        options.batch,
    );
    println!();
    println!(
        "{:<8} {:<9} {:<7} {:>8} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>6}",
        "workload", "gets by", "", "count", "per second", "p50", "p99", "p99.9", "server", "messages", "torn", "asked"
    );
    println!("{:<84} {:>9} {:>9}", "", "time/op", "per op");
}

/// Prints the lines of one workload, by one way to get values: one in all, and one for each operation.
pub(crate) fn print_run(path: GetPath, run: &Run) {
    let (measured, operations) = (&run.measured, run.measured.samples.operations());
    let per_operation = |count: u64| count as f64 / operations.max(1) as f64;
    let time = run.effort.and_then(|effort| effort.cpu_ns);
    let time = time.map_or("-".into(), |cpu| format!("{:.2} us", per_operation(cpu) / 1e3));
    let messages = run.effort.map_or("-".into(), |effort| format!("{:.3}", per_operation(effort.messages)));
    println!(
        "{:<8} {:<9} {:<7} {operations:>8} {:>10.0} {:>9} {:>9} {:>9} {time:>9} {messages:>9} {:>7} {:>6}",
        run.workload.name(),
        path.name(),
        "all",
        measured.throughput(),
        "",
        "",
        "",
        run.gets.reads.torn,
        run.gets.asked,
    );
    for operation in Operation::ALL {
        let times = measured.samples.of(operation);
        if times.is_empty() {
            continue;
        }
        let [p50, p99, p999] = QUANTILES.map(|(_, quantile)| microseconds(times.value_at_quantile(quantile)));
        println!(
            "{:<8} {:<9} {:<7} {:>8} {:>10} {p50:>9} {p99:>9} {p999:>9}",
            "",
            "",
            operation.name(),
            times.len(),
            ""
        );
    }
    if let Some((kind, why)) = &run.gets.why {
        println!("{:<8} the table was lost {} times: {kind}: {why}", "", run.gets.lost);
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
pub(crate) fn json(options: &Options, phases: &[Phase], runs: &[(GetPath, Run)], problems: &Problems) -> Value {
    let mixed = phases.iter().find(|phase| phase.step == Step::Mixed);
    let mut report = mixed.map_or_else(|| json!({}), phase_json);
    report["fabric"] = json!(options.fabric.name());
    report["clients"] = json!(options.clients);
    report["read_share"] = json!(options.read_share);
    report["skew"] = json!(options.skew);
    report["phases"] = phases.iter().map(phase_json).collect();
    report["workloads"] = runs.iter().map(|(path, run)| run_json(*path, run)).collect();
    report["errors"] = json!(problems.errors());
    report["errors_by_kind"] = json!(problems.errors_by_kind());
    report["mismatches"] = json!(problems.mismatches());
    report
}

const QUANTILES: [(&str, f64); 3] = [("p50_ns", 0.5), ("p99_ns", 0.99), ("p999_ns", 0.999)];

fn phase_json(phase: &Phase) -> Value {
    let mut report = measured_json(&phase.measured);
    report["phase"] = json!(phase.step.name());
    report
}

fn run_json(path: GetPath, run: &Run) -> Value {
    let mut report = measured_json(&run.measured);
    report["workload"] = json!(run.workload.name());
    report["gets_by"] = json!(path.name());
    report["server_messages"] = json!(run.effort.map(|effort| effort.messages));
    report["server_cpu_ns"] = json!(run.effort.and_then(|effort| effort.cpu_ns));
    report["reads"] = json!(run.gets.reads.reads);
    report["torn"] = json!(run.gets.reads.torn);
    report["asked"] = json!(run.gets.asked);
    report
}

fn measured_json(measured: &Measured) -> Value {
    let mut report = json!({
        "operations": measured.samples.operations(),
        "bytes": measured.samples.bytes(),
        "seconds": measured.seconds(),
        "throughput": measured.throughput(),
    });
    for operation in Operation::ALL {
        let times = measured.samples.of(operation);
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

fn microseconds(nanoseconds: u64) -> String {
    format!("{:.1} us", nanoseconds as f64 / 1e3)
}
