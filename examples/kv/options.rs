//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};

use crate::app::Place;

/// A key-value store over RDMA, and a load that checks it.
///
/// Loads a tree of files into the store (each file a key, its bytes the value), reads every one back and compares it
/// byte for byte, then reads and updates them at random from several clients, and checks each value that it reads.
/// The exit status says whether anything was wrong.
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
}

fn address<A: FromStr>(text: Option<&str>) -> Result<Option<A>, String> {
    let parse = |text: &str| text.parse().map_err(|_| format!("`{text}` is not an address of this fabric"));
    text.map(parse).transpose()
}
