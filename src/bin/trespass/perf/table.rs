//! Every layer beside the others, at one size: what each costs.
//!
//! All have their turn, one after the other, and then again: what the machine does meanwhile, it does to all. What is shown are
//! medians of the turns.

use serde_json::{Value, json};

use super::error::PerfError;
use super::plan::{Layer, Work};
use super::report::Row;

/// What a layer came to.
pub(crate) struct Entry {
    layer: Layer,
    turns: Vec<Turn>,
    /// Why there is nothing, where there is not.
    why_not: Option<String>,
}

struct Turn {
    typical: f64,
    p99: f64,
    mib: f64,
    rate: f64,
}

/// What there is of a layer in the table.
struct Medians {
    typical: f64,
    p99: f64,
    mib: f64,
    rate: f64,
}

/// Measures `layers`, `turns` times, by `measure`. What a layer's fabric or device cannot is noted; what else goes wrong ends it.
///
/// # Errors
/// As of `measure`.
pub(crate) fn measure(
    layers: &[Layer],
    turns: u32,
    mut measure: impl FnMut(Layer, Work) -> Result<Row, PerfError>,
) -> Result<Vec<Entry>, PerfError> {
    let mut entries: Vec<_> =
        layers.iter().map(|layer| Entry { layer: *layer, turns: Vec::new(), why_not: None }).collect();
    for _ in 0..turns {
        for entry in entries.iter_mut().filter(|entry| entry.why_not.is_none()) {
            match turn(entry.layer, &mut measure) {
                Ok(turn) => entry.turns.push(turn),
                Err(error) if error.is_lack() || matches!(error, PerfError::NoAnswers) => {
                    entry.why_not = Some(error.to_string())
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(entries)
}

fn turn(layer: Layer, measure: &mut impl FnMut(Layer, Work) -> Result<Row, PerfError>) -> Result<Turn, PerfError> {
    let latency = measure(layer, Work::Latency)?;
    let bandwidth = measure(layer, Work::OneWay)?;
    let Some(latency) = latency.latency() else { return Err(PerfError::NoAnswers) };
    let (mib, rate) = (bandwidth.bandwidth().mib(), bandwidth.bandwidth().rate());
    Ok(Turn { typical: latency.typical, p99: latency.p99, mib, rate })
}

impl Entry {
    fn medians(&self) -> Option<Medians> {
        let median = |of: fn(&Turn) -> f64| {
            let mut values: Vec<_> = self.turns.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        };
        Some(Medians {
            typical: median(|turn| turn.typical)?,
            p99: median(|turn| turn.p99)?,
            mib: median(|turn| turn.mib)?,
            rate: median(|turn| turn.rate)?,
        })
    }
}

pub(crate) fn text(entries: &[Entry], size: usize, turns: u32) -> String {
    let track = entries.iter().find(|entry| entry.layer == Layer::Track).and_then(Entry::medians);
    let mut lines = vec![
        format!("every layer at {size} bytes (atomic operations at 8): medians of {turns} alternating turns"),
        format!(
            "{:<17} {:>13} {:>9} {:>10} {:>15} {:>9} {:>12}",
            "layer", "t_typical[us]", "x track", "99%[us]", "average[MiB/s]", "x track", "messages/s"
        ),
    ];
    for entry in entries {
        let name = entry.layer.name();
        lines.push(match (entry.medians(), &track, &entry.why_not) {
            (_, _, Some(why)) => format!("{name:<17} {why}"),
            (None, ..) => format!("{name:<17} not measured"),
            (Some(m), track, None) => {
                let ratio = |of: fn(&Medians) -> f64| {
                    track.as_ref().map_or("".into(), |track| format!("{:.2}", of(&m) / of(track).max(1e-9)))
                };
                format!(
                    "{name:<17} {:>13.2} {:>9} {:>10.2} {:>15.2} {:>9} {:>12.0}",
                    m.typical,
                    ratio(|m| m.typical),
                    m.p99,
                    m.mib,
                    ratio(|m| m.mib),
                    m.rate
                )
            }
        });
    }
    lines.join("\n")
}

pub(crate) fn json(entries: &[Entry], size: usize, turns: u32) -> Value {
    let layers = entries.iter().map(|entry| {
        let medians = entry.medians().filter(|_| entry.why_not.is_none()).map(|m| {
            json!({
                "t_typical_us": m.typical,
                "p99_us": m.p99,
                "average_mib_per_s": m.mib,
                "messages_per_s": m.rate,
            })
        });
        let bytes = if entry.layer.is_atomic() { 8 } else { size };
        json!({ "layer": entry.layer.name(), "bytes": bytes, "medians": medians, "why_not": entry.why_not })
    });
    json!({ "test": "layers", "turns": turns, "layers": layers.collect::<Value>() })
}
