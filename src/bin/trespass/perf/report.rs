//! What was measured, for people in perftest's columns, and for machines.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::plan::{Plan, Terms, Wait, Work};
use super::said::Counts;
use super::talk::Tally;

/// What of the JSON there is to rely on, by its version: see `docs/PERF.md`.
pub(crate) const SCHEMA: &str = "trespass-perf/1";

const MIB: f64 = (1 << 20) as f64;

/// Of one test.
pub(crate) struct Row {
    terms: Terms,
    measured: u64,
    lost: u64,
    elapsed: Duration,
    sent: u64,
    received: u64,
    latency: Option<Latency>,
    bandwidth: Bandwidth,
}

/// In microseconds: half a round trip, or an operation from its doorbell to its completion.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    min: f64,
    max: f64,
    pub(crate) typical: f64,
    avg: f64,
    stdev: f64,
    pub(crate) p99: f64,
    p999: f64,
}

/// Of payload; both directions together where both were used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bandwidth {
    /// Bytes a second.
    peak: f64,
    average: f64,
    /// Messages a second.
    rate: f64,
}

impl Row {
    /// `peak` is the rate of the fastest look, if there was one.
    pub(crate) fn new(plan: &Plan, tally: &Tally, server: &Counts, peak: Option<f64>) -> Self {
        let terms = *plan.terms();
        let one_way_lossy = terms.layer.is_lossy() && terms.work == Work::OneWay;
        // What arrived. Nobody confirms it, so the sender's clock says when all was sent, the receiver's when it had come.
        let (measured, elapsed) = match one_way_lossy {
            true => (server.counted, tally.elapsed.max(Duration::from_nanos(server.nanos))),
            false => (tally.measured, tally.elapsed),
        };
        let lost = match one_way_lossy {
            true => tally.counts.sent.saturating_sub(server.received),
            false => tally.lost,
        };
        let (sent, received) = match terms.work {
            Work::OneWay if !terms.layer.is_one_sided() => (tally.counts.sent, server.received),
            _ => (tally.counts.sent, tally.counts.received),
        };
        let rate = measured as f64 / elapsed.as_secs_f64().max(1e-9);
        let peak = if one_way_lossy { rate } else { peak.map_or(rate, |peak| peak.max(rate)) };
        let size = terms.size as f64;
        let bandwidth = Bandwidth { peak: peak * size, average: rate * size, rate };
        let latency = (!tally.times.is_empty()).then(|| Latency::new(tally, &terms));
        Self { terms, measured, lost, elapsed, sent, received, latency, bandwidth }
    }

    pub(crate) fn size(&self) -> usize {
        self.terms.size
    }

    pub(crate) fn latency(&self) -> Option<&Latency> {
        self.latency.as_ref()
    }

    pub(crate) fn bandwidth(&self) -> &Bandwidth {
        &self.bandwidth
    }
}

impl Latency {
    fn new(tally: &Tally, terms: &Terms) -> Self {
        let share = if terms.layer.is_one_sided() { 1e3 } else { 2e3 };
        let times = &tally.times;
        let quantile = |quantile: f64| times.value_at_quantile(quantile) as f64 / share;
        Self {
            min: times.min() as f64 / share,
            max: times.max() as f64 / share,
            typical: quantile(0.5),
            avg: times.mean() / share,
            stdev: times.stdev() / share,
            p99: quantile(0.99),
            p999: quantile(0.999),
        }
    }
}

impl Bandwidth {
    pub(crate) fn mib(&self) -> f64 {
        self.average / MIB
    }

    pub(crate) fn peak_mib(&self) -> f64 {
        self.peak / MIB
    }

    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }
}

/// What the columns of `row`, and of all like it, are.
pub(crate) fn head(plan: &Plan) -> String {
    let Terms { layer, work, wait, depth, .. } = *plan.terms();
    let what = match (work, layer.is_one_sided()) {
        (Work::Latency, false) => "latency: half of a round trip",
        (Work::Latency, true) => "latency: an operation, from its doorbell to its completion",
        (Work::OneWay, _) => "bandwidth",
        (Work::BothWays, _) => "bandwidth, both ways together",
    };
    let wait = if wait == Wait::Polling { "polling" } else { "events" };
    let under_way = if work == Work::Latency { String::new() } else { format!(", {depth} under way") };
    let columns: &[&str] = match work {
        Work::Latency => {
            &["t_min[us]", "t_max[us]", "t_typical[us]", "t_avg[us]", "t_stdev[us]", "99%[us]", "99.9%[us]"]
        }
        _ => &["peak[MiB/s]", "average[MiB/s]", "rate[Mmsg/s]"],
    };
    let mut text = format!("{}, {what}; {wait}{under_way}\n{:>9} {:>12}", layer.name(), "#bytes", "#iterations");
    for column in columns {
        let _ = write!(text, " {column:>14}");
    }
    if layer.is_lossy() {
        let _ = write!(text, " {:>9}", "lost");
    }
    text
}

pub(crate) fn line(row: &Row) -> String {
    let mut text = format!("{:>9} {:>12}", row.terms.size, row.measured);
    match (row.terms.work, &row.latency) {
        (Work::Latency, Some(l)) => {
            for time in [l.min, l.max, l.typical, l.avg, l.stdev, l.p99, l.p999] {
                let _ = write!(text, " {time:>14.2}");
            }
        }
        (Work::Latency, None) => text.push_str("  none was answered"),
        _ => {
            let Bandwidth { rate, .. } = row.bandwidth;
            let (peak, average) = (row.bandwidth.peak_mib(), row.bandwidth.mib());
            let _ = write!(text, " {peak:>14.2} {average:>14.2} {:>14.6}", rate / 1e6);
        }
    }
    if row.terms.layer.is_lossy() {
        let _ = write!(text, " {:>9}", row.lost);
    }
    text
}

pub(crate) fn row_json(row: &Row) -> Value {
    let Terms { layer, work, wait, size, depth, slot, batch, warmup, .. } = row.terms;
    let latency = row.latency.map(|l| {
        json!({
            "of": if layer.is_one_sided() { "operation" } else { "half_round_trip" },
            "t_min_us": l.min,
            "t_max_us": l.max,
            "t_typical_us": l.typical,
            "t_avg_us": l.avg,
            "t_stdev_us": l.stdev,
            "p99_us": l.p99,
            "p999_us": l.p999,
        })
    });
    let bandwidth = (work != Work::Latency).then(|| {
        json!({
            "peak_mib_per_s": row.bandwidth.peak_mib(),
            "average_mib_per_s": row.bandwidth.mib(),
            "messages_per_s": row.bandwidth.rate,
        })
    });
    json!({
        "layer": layer.name(),
        "work": match work {
            Work::Latency => "latency",
            Work::OneWay => "one_way",
            Work::BothWays => "both_ways",
        },
        "wait": if wait == Wait::Polling { "polling" } else { "events" },
        "bytes": size,
        "depth": depth,
        "post_list": batch,
        "slot_bytes": layer.has_slots().then_some(slot),
        "warmup": warmup,
        "iterations": row.measured,
        "lost": row.lost,
        "seconds": row.elapsed.as_secs_f64(),
        "sent": row.sent,
        "received": row.received,
        "latency": latency,
        "bandwidth": bandwidth,
    })
}

/// All of a run: `more` has what the kind of run has beside.
pub(crate) fn json(fabric: &str, device: Option<&str>, more: Value) -> String {
    let mut whole = json!({ "schema": SCHEMA, "fabric": fabric, "device": device });
    if let (Some(whole), Value::Object(more)) = (whole.as_object_mut(), more) {
        whole.extend(more);
    }
    format!("{whole:#}\n")
}
