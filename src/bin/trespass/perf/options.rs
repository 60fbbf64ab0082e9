//! The command line of `trespass perf`, in perftest's words where perftest has one.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::error::PerfError;
use super::plan::{Layer, MAX_DEPTH, Plan, Terms, Wait, Work};

/// Measure latency and bandwidth of tracks and carriers on this machine's fabric
///
/// Without --listen and --connect both ends are threads of this process, on the fabric in process. On NICs one machine runs
/// `trespass perf --listen ADDR`, another `trespass perf … --connect ADDR`; the client says what is measured. What the columns
/// mean, and the JSON, is in docs/PERF.md.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// What to measure
    #[arg(value_enum, default_value_t = Test::Lat)]
    pub(crate) test: Test,

    /// The layer that is measured; `all` is the table of `layers`
    #[arg(long, value_name = "LAYER", default_value = "track", value_parser = layers())]
    layer: String,

    /// The length of a message, or of an operation on memory: bytes, with K or M behind it for KiB and MiB [default: 64]
    #[arg(short = 's', long, value_name = "BYTES", value_parser = bytes)]
    size: Option<usize>,

    /// Sweep over all powers of two up to 8 MiB, or to --size where that is given
    #[arg(short = 'a', long)]
    all: bool,

    /// How many messages, round trips or operations are measured
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    iters: u64,

    /// Measure for so long, in seconds, instead of --iters
    #[arg(short = 'D', long, value_name = "SECONDS", conflicts_with = "iters", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: Option<u64>,

    /// How many messages before those are sent and not measured
    #[arg(short = 'w', long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=1 << 40))]
    warmup: u64,

    /// Messages or operations under way at once [default: 128, or fewer where they are long]
    #[arg(short = 't', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=MAX_DEPTH as u64))]
    tx_depth: Option<u64>,

    /// Messages for each doorbell (bw)
    #[arg(short = 'l', long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_DEPTH as u64))]
    post_list: u64,

    /// Both ways at once (bw)
    #[arg(short = 'b', long)]
    bidirectional: bool,

    /// Sleep until the device tells of an event, at both ends, instead of polling
    #[arg(short = 'e', long)]
    events: bool,

    /// The slots of a carrier's track; longer messages go in pieces, or are lent
    #[arg(long, value_name = "BYTES", default_value = "16K", value_parser = bytes)]
    slot: usize,

    /// How often each layer has its turn (layers)
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) turns: u32,

    /// Draw what was measured to this file, as SVG (with --all)
    #[arg(long, value_name = "FILE", requires = "all")]
    pub(crate) plot: Option<PathBuf>,

    /// Print JSON, for machines
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) ends: Ends,
}

/// Where the two ends are: the same for `perf` and `ping`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Ends {
    /// What to run on [default: verbs with --listen or --connect, else mock]
    #[arg(long, value_enum)]
    pub(crate) fabric: Option<Kind>,

    /// Be the server, at this address, until killed
    #[arg(long, value_name = "ADDR", conflicts_with = "connect")]
    pub(crate) listen: Option<String>,

    /// Be the client of the server at this address
    #[arg(long, value_name = "ADDR")]
    pub(crate) connect: Option<String>,

    /// Serve one client, and end
    #[arg(long, requires = "listen")]
    pub(crate) once: bool,

    /// The RDMA device to use, by name
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<String>,

    /// The local address to use, and so the device that has it
    #[arg(long, value_name = "IP")]
    pub(crate) local: Option<IpAddr>,

    /// For how long nothing may happen until an end gives the other up, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Test {
    /// Latency: one message there, one back
    Lat,
    /// Bandwidth: messages one way, as many as there are slots
    Bw,
    /// Latency and bandwidth of every layer at one size, beside each other
    Layers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// In process
    Mock,
    /// Real NICs, or soft-RoCE
    Verbs,
}

impl Ends {
    pub(crate) fn kind(&self) -> Kind {
        let apart = self.listen.is_some() || self.connect.is_some();
        self.fabric.unwrap_or(if apart { Kind::Verbs } else { Kind::Mock })
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// The longest message of a sweep, as of perftest.
const SWEEP: usize = 8 << 20;
/// The longest datagram of a sweep: no MTU is longer.
const LONGEST_DATAGRAM: usize = 4096;
/// What all slots of one end may take by default.
const SLOTS: usize = 128 << 20;

impl Options {
    pub(crate) fn is_table(&self) -> bool {
        self.test == Test::Layers || self.layer == "all"
    }

    /// Of a single test.
    pub(crate) fn size(&self) -> usize {
        self.size.unwrap_or(64)
    }

    pub(crate) fn layer(&self) -> Layer {
        // It was parsed from these names.
        Layer::ALL.into_iter().find(|layer| layer.name() == self.layer).unwrap_or(Layer::Track)
    }

    pub(crate) fn duration(&self) -> Option<Duration> {
        self.duration.map(Duration::from_secs)
    }

    /// The tests, in order.
    ///
    /// # Errors
    /// What of them cannot be.
    pub(crate) fn plans(&self) -> Result<Vec<Plan>, PerfError> {
        let (layer, work) = (self.layer(), self.work(self.test));
        self.sizes(layer).into_iter().map(|size| self.plan(layer, work, size)).collect()
    }

    fn work(&self, test: Test) -> Work {
        match (test, self.bidirectional) {
            (Test::Bw, true) => Work::BothWays,
            (Test::Bw, false) => Work::OneWay,
            _ => Work::Latency,
        }
    }

    fn sizes(&self, layer: Layer) -> Vec<usize> {
        if layer.is_atomic() {
            return vec![8];
        }
        if !self.all {
            return vec![self.size()];
        }
        let asked = self.size.unwrap_or(SWEEP);
        let most = if layer == Layer::Datagrams { asked.min(LONGEST_DATAGRAM) } else { asked };
        std::iter::successors(Some(1), |size| Some(size * 2)).take_while(|size| *size <= most).collect()
    }

    /// # Errors
    /// Why there is no such test.
    pub(crate) fn plan(&self, layer: Layer, work: Work, size: usize) -> Result<Plan, PerfError> {
        if self.bidirectional && work == Work::Latency && self.test != Test::Layers {
            return Err(PerfError::Options("-b goes with bw: a round trip goes both ways".into()));
        }
        let size = if layer.is_atomic() { 8 } else { size };
        let slot = if layer.has_slots() { self.slot } else { size };
        // A fifth for sends, four fifths for receives; memory that is lent comes beside the slots.
        let fitting = |memory: usize, each: usize, most: usize| (memory / each.max(1)).clamp(4, most);
        let depth = match self.tx_depth {
            Some(depth) => depth as usize,
            None => fitting(SLOTS / 5, slot.max(size), 128),
        };
        let receives = fitting(SLOTS * 4 / 5, slot, 4 * depth.max(4)).max(depth).min(MAX_DEPTH);
        Ok(Plan::new(Terms {
            layer,
            work,
            wait: if self.events { Wait::Events } else { Wait::Polling },
            size,
            depth,
            receives: receives.max(4),
            slot: self.slot,
            batch: (self.post_list as usize).min(depth),
            warmup: self.warmup,
            count: if self.duration.is_some() { 0 } else { self.iters },
            patience: self.ends.patience(),
        })?)
    }
}

fn layers() -> clap::builder::PossibleValuesParser {
    Layer::ALL.map(Layer::name).into_iter().chain(["all"]).collect::<Vec<_>>().into()
}

/// Bytes, with a binary unit.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let number = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    number.filter(|bytes| (1..=1 << 30).contains(bytes)).ok_or_else(|| "bytes from 1 to 1024M, as 64, 4K or 1M".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(args: &[&str]) -> Options {
        Line::try_parse_from([&["perf"], args].concat()).unwrap_or_else(|error| panic!("{error}")).options
    }

    #[test]
    fn bytes_have_units() {
        let all = [("1", 1), ("64", 64), ("4K", 4096), ("4k", 4096), ("1M", 1 << 20), ("1024M", 1 << 30)];
        assert!(all.into_iter().all(|(text, number)| bytes(text) == Ok(number)));
        for bad in ["", "K", "0", "-1", "1G", "1.5K", "1025M", "99999999999999999999", "18014398509481984K"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_says_which_tests() {
        let plans = options(&["bw", "--layer", "message", "-s", "4K", "-n", "7", "-t", "9", "-l", "3", "-e"]).plans();
        let terms = *plans.expect("a plan")[0].terms();
        assert_eq!((terms.layer, terms.work, terms.wait), (Layer::Message, Work::OneWay, Wait::Events));
        assert_eq!((terms.size, terms.count, terms.depth, terms.batch, terms.slot), (4096, 7, 9, 3, 16384));
        let timed = *options(&["-D", "2"]).plans().expect("a plan")[0].terms();
        assert_eq!((timed.count, timed.work, timed.wait), (0, Work::Latency, Wait::Polling));
    }

    #[test]
    fn a_sweep_goes_over_all_sizes() {
        let sizes = |args: &[&str]| {
            let plans = options(args).plans().expect("plans");
            plans.iter().map(|plan| plan.terms().size).collect::<Vec<_>>()
        };
        let all = sizes(&["-a"]);
        assert_eq!((all.len(), all[0], all[23]), (24, 1, 8 << 20));
        assert_eq!(sizes(&["-a", "-s", "1K"]).last(), Some(&1024));
        assert_eq!(sizes(&["-a", "-s", "64"]).last(), Some(&64));
        assert_eq!(sizes(&["-a", "--layer", "datagrams"]).last(), Some(&4096));
        assert_eq!(sizes(&["-a", "--layer", "add"]), [8]);
    }

    #[test]
    fn every_layer_and_size_fits_memory_by_default() {
        for layer in Layer::ALL {
            for test in ["lat", "bw"] {
                let plans = options(&[test, "-a", "--layer", layer.name()]).plans();
                assert!(plans.is_ok_and(|plans| !plans.is_empty()), "{} of {test}", layer.name());
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refused = |args: &[&str]| match Line::try_parse_from([&["perf"], args].concat()) {
            Err(error) => error.to_string(),
            Ok(line) => line.options.plans().expect_err("it cannot be").to_string(),
        };
        for (args, part) in [
            (&["-n", "0"][..], "0"),
            (&["-D", "0"], "0"),
            (&["-D", "1", "-n", "1"], "cannot be used with"),
            (&["-s", "0"], "bytes from 1"),
            (&["--layer", "carrier-pigeon"], "carrier-pigeon"),
            (&["--listen", "a", "--connect", "b"], "cannot be used with"),
            (&["--once"], "--listen"),
            (&["--plot", "x.svg"], "--all"),
            (&["-b"], "-b goes with bw"),
            (&["bw", "-b", "--layer", "read"], "-b"),
            (&["-s", "1024M", "-t", "128"], "memory"),
            (&["--layer", "message", "--slot", "8"], "slot is 8"),
        ] {
            let said = refused(args);
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
    }
}
