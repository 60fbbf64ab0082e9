//! `trespass ping`: whether a peer answers over a real track, and how soon.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

mod echo;
#[cfg(all(test, feature = "mock"))]
mod tests;

use crate::perf::backend::Backend;
use crate::perf::client::Client;
use crate::perf::error::PerfError;
use crate::perf::options::{Ends, bytes};
use crate::perf::pace::Gauge;
use crate::perf::plan::{Layer, MAX_PATIENCE, Plan, Terms, Wait, Work};
use crate::perf::{Errand, between, say, stop};
use echo::{Echo, Rhythm, Statistics};

/// Ask a peer over a track or carrier, again and again, and tell how long its answers took
///
/// The peer runs `trespass ping --listen ADDR`, or `trespass perf --listen ADDR`, which is the same. The exit status is 0 when
/// answers came, and 1 when none did, or the peer went.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The peer to ask
    #[arg(value_name = "ADDR", conflicts_with_all = ["listen", "connect"])]
    peer: Option<String>,

    /// Over what
    #[arg(long, value_enum, default_value_t = Over::Track)]
    carrier: Over,

    /// The length of a message: bytes, with K or M behind it for KiB and MiB
    #[arg(short = 's', long, value_name = "BYTES", default_value = "64", value_parser = bytes)]
    size: usize,

    /// So many, and then no more [default: until interrupted]
    #[arg(short = 'c', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Between one and the next, in seconds
    #[arg(short = 'i', long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,

    /// The next as soon as the one before is answered, or after 10 ms; a dot for each that is not answered yet
    #[arg(short = 'f', long, conflicts_with = "interval")]
    flood: bool,

    /// For how long to wait for an answer, in seconds
    #[arg(short = 'W', long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    wait: Duration,

    /// Print JSON at the end, for machines, and nothing else
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    ends: Ends,
}

/// What a question goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Over {
    /// A reliable track, without a carrier
    Track,
    /// A track of datagrams, which may lose some
    Datagrams,
    /// A message carrier
    Message,
    /// A rendezvous carrier
    Rendezvous,
    /// A stream carrier
    Stream,
    /// A carrier over datagrams
    DatagramCarrier,
}

impl Over {
    fn layer(self) -> Layer {
        match self {
            Self::Track => Layer::Track,
            Self::Datagrams => Layer::Datagrams,
            Self::Message => Layer::Message,
            Self::Rendezvous => Layer::Rendezvous,
            Self::Stream => Layer::Stream,
            Self::DatagramCarrier => Layer::DatagramCarrier,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.001..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "seconds from 0.001 to 3600".into())
}

pub(crate) fn run(options: &Options) -> ExitCode {
    let mut ends = options.ends.clone();
    ends.connect = ends.connect.or_else(|| options.peer.clone());
    let heeded = stop::heed_signals().map_err(|error| PerfError::Options(error.to_string()));
    match heeded.and_then(|()| between(&ends, &Ping { options })) {
        Ok(()) => ExitCode::SUCCESS,
        // What the statistics say already.
        Err(PerfError::NoAnswers) => ExitCode::from(1),
        Err(error) => {
            eprintln!("trespass ping: {error}");
            error.exit_code()
        }
    }
}

struct Ping<'a> {
    options: &'a Options,
}

/// Slots, for questions whose answers are late; fewer where they would take more memory than this.
const DEPTH: usize = 64;
const SLOTS: usize = 16 << 20;

impl Ping<'_> {
    fn plan(&self) -> Result<Plan, PerfError> {
        let Options { carrier, size, interval, wait, ref ends, .. } = *self.options;
        // As long as it is silent between two questions nothing is wrong.
        let patience = (ends.patience() + interval * 2 + wait).min(MAX_PATIENCE);
        let depth = (SLOTS / size).clamp(4, DEPTH);
        Ok(Plan::new(Terms {
            layer: carrier.layer(),
            work: Work::Latency,
            wait: Wait::Events,
            size,
            depth,
            receives: depth,
            slot: 16 << 10,
            batch: 1,
            warmup: 0,
            count: 0,
            patience,
        })?)
    }
}

impl Errand for Ping<'_> {
    fn run<B: Backend + Clone>(
        &self,
        addr: &B::Addr,
        connect: &dyn Fn() -> Result<Client<B>, PerfError>,
    ) -> Result<(), PerfError> {
        let plan = self.plan()?;
        let mut client = connect()?;
        let Options { count, interval, flood, wait, json, size, .. } = *self.options;
        let (layer, device) = (plan.terms().layer.name(), client.device().map(str::to_owned));
        if !json {
            let from = device.as_deref().map_or(String::new(), |device| format!(", {device}"));
            say(&format!("PING {addr} ({layer}, {}{from}): {size} bytes", B::NAME));
        }
        let rhythm = Rhythm { count, interval, flood, wait };
        let mut echo =
            Echo::new(rhythm, addr.to_string(), client.clock(), if json { None } else { Some(std::io::stdout()) });
        let asked = client.test(&plan, &Gauge::default(), &mut echo);
        let statistics = echo.statistics();
        match json {
            false => say(&format!("\n--- {addr} ping statistics ---\n{}", statistics.text())),
            true => {
                let mut whole = json!({
                    "schema": "trespass-ping/1",
                    "fabric": B::NAME,
                    "device": device,
                    "peer": addr.to_string(),
                    "carrier": layer,
                    "bytes": size,
                });
                if let (Some(whole), serde_json::Value::Object(more)) = (whole.as_object_mut(), statistics.json()) {
                    whole.extend(more);
                }
                say(&format!("{whole:#}"));
            }
        }
        ended(asked.map(drop), &statistics)?;
        client.close();
        Ok(())
    }
}

/// What to say of it at the end. An interruption is how most end, of which the server may have heard first.
fn ended(asked: Result<(), PerfError>, statistics: &Statistics) -> Result<(), PerfError> {
    match asked {
        Err(error) if !stop::stopped() => Err(error),
        _ if statistics.answered() > 0 => Ok(()),
        _ => Err(PerfError::NoAnswers),
    }
}
