//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};
use trespass_example_table::Layout;

use crate::app::Place;
use crate::ycsb::Workload;

/// A key-value store over RDMA, and a load that checks it.
///
/// Loads a tree of files into the store (each file a key, its bytes the value), reads every one back and compares it
/// byte for byte, then reads and updates them at random from several clients, and checks each value that it reads.
/// After that it runs the core workloads of YCSB, with values that are got by message, and by clients that read the
/// server's memory. The exit status says whether anything was wrong.
#[derive(Debug, Parser)]
#[command(name = "kv")]
pub(crate) struct Options {
    /// What to load: a directory, or one file [default: the repository that this was built from]
    #[arg(long, value_name = "PATH")]
    pub(crate) load: Option<PathBuf>,

    /// Reads and updates in the mixed load, of all clients together
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    pub(crate) operations: u64,

    /// Clients at once, each with a connection and a thread of its own
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) clients: u32,

    /// The part of the mixed load that is reads, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, value_parser = share)]
    pub(crate) read_share: f64,

    /// How unequal the keys' popularity is: the exponent of the Zipf distribution
    #[arg(long, value_name = "EXPONENT", default_value_t = 0.99, value_parser = exponent)]
    pub(crate) skew: f64,

    /// No files: these workloads of YCSB alone, such as `a,c`
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST", conflicts_with = "files_only")]
    pub(crate) workload: Vec<Workload>,

    /// Files alone, no workloads
    #[arg(long)]
    pub(crate) files_only: bool,

    /// How values are got in workloads [default: both, one after the other, where the fabric has memory]. A server that is told
    /// `message` lends no memory
    #[arg(long, value_enum)]
    pub(crate) get: Option<GetPath>,

    /// Records that the workloads begin with
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub(crate) records: u64,

    /// Bytes of a record's value
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) value_bytes: u32,

    /// Operations in each workload, of all clients together
    #[arg(long, value_name = "COUNT", default_value_t = 20_000)]
    pub(crate) workload_operations: u64,

    /// Operations at once of each client: gets and updates that share doorbells, and READs under way
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) batch: u32,

    /// Bytes of an entry of the table that clients read: 24, and key and value of what is to be in it
    #[arg(long, value_name = "BYTES", default_value_t = 160)]
    pub(crate) entry_bytes: usize,

    /// Entries in a bucket of the table: what one READ fetches
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    pub(crate) ways: usize,

    /// Buckets of the table
    #[arg(long, value_name = "COUNT", default_value_t = 16_384)]
    pub(crate) buckets: usize,

    /// Where the table is lent [default: at a port of its own, beside the address of --listen] (verbs)
    #[arg(long, value_name = "ADDR")]
    pub(crate) lend: Option<String>,

    /// What to run on: in process, TCP, or real RDMA
    #[arg(long, value_enum, default_value_t = Backend::Mock)]
    pub(crate) fabric: Backend,

    /// Serve at this address; without --connect, until killed (tcp, verbs)
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,

    /// Be the clients of the server at this address (tcp, verbs)
    #[arg(long, value_name = "ADDR")]
    pub(crate) connect: Option<String>,

    /// The RDMA device to use, by name (verbs)
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<String>,

    /// The local address whose RDMA device to use (verbs)
    #[arg(long, value_name = "IP")]
    pub(crate) local: Option<IpAddr>,

    /// Write the numbers to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// How a client gets a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GetPath {
    /// It asks the server
    Message,
    /// It reads the server's memory, and asks where that does not tell
    OneSided,
}

impl GetPath {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::OneSided => "one-sided",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// In process: needs no hardware
    Mock,
    /// TCP, by the fabric of `examples/custom_track`: between processes, without hardware
    Tcp,
    /// Real RDMA, or soft-RoCE: needs to be built with `--features verbs`
    Verbs,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mock => "mock",
            Self::Tcp => "tcp",
            Self::Verbs => "verbs",
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    number_in(text, 0.0, 1.0)
}

fn exponent(text: &str) -> Result<f64, String> {
    number_in(text, 0.0, 10.0)
}

fn number_in(text: &str, least: f64, most: f64) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("a number from {least} to {most} is needed")),
    }
}

impl Options {
    /// Which parts of the store this process is, by `--listen` and `--connect`.
    pub(crate) fn place<A: FromStr>(&self) -> Result<Place<A>, String> {
        match (address(self.listen.as_deref())?, address(self.connect.as_deref())?) {
            (Some(listen), None) => Ok(Place::Server { listen }),
            (None, Some(connect)) => Ok(Place::Clients { connect }),
            (Some(listen), connect) => Ok(Place::Both { listen, connect }),
            (None, None) => Err("this fabric needs --listen ADDR, --connect ADDR, or both".into()),
        }
    }

    /// Which workloads to run.
    pub(crate) fn workloads(&self) -> &[Workload] {
        match (self.files_only, self.workload.is_empty()) {
            (true, _) => &[],
            (false, true) => Workload::value_variants(),
            (false, false) => &self.workload,
        }
    }

    /// Whether the files are loaded, too.
    pub(crate) fn files(&self) -> bool {
        self.workload.is_empty()
    }

    /// How the table is to lie in memory.
    pub(crate) fn layout(&self) -> Result<Layout, String> {
        Layout::new(self.buckets, self.ways, self.entry_bytes).map_err(|error| error.to_string())
    }
}

pub(crate) fn address<A: FromStr>(text: Option<&str>) -> Result<Option<A>, String> {
    let parse = |text: &str| text.parse().map_err(|_| format!("`{text}` is not an address of this fabric"));
    text.map(parse).transpose()
}
