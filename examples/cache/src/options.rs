//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A distributed cache over RDMA, or over TCP where there is none.
#[derive(Debug, Parser)]
#[command(name = "cache")]
pub(crate) struct Options {
    /// The file that says who the members are: all nodes and clients read the same
    #[arg(long, value_name = "FILE", global = true, default_value = "members.txt")]
    pub(crate) membership: PathBuf,

    /// Take the membership from the etcd at this URL instead, such as http://192.0.2.1:2379; several may be given
    #[cfg(feature = "etcd")]
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) etcd: Vec<String>,

    /// What to run on
    #[arg(long, value_enum, global = true, default_value_t = Backend::Tcp)]
    pub(crate) fabric: Backend,

    /// The local address whose RDMA device to use (verbs)
    #[arg(long, value_name = "IP", global = true)]
    #[cfg_attr(not(feature = "verbs"), allow(dead_code, reason = "TCP has no devices"))]
    pub(crate) local: Option<IpAddr>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// TCP, by the fabric of `examples/custom_track`: no hardware is needed
    Tcp,
    /// Real RDMA, or soft-RoCE: needs to be built with `--features verbs`
    Verbs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Be a node, until killed
    Node(Noding),
    /// Make the membership, or its next epoch
    Members(Membering),
    /// Write a key
    Put {
        /// Which
        key: String,
        /// What
        value: String,
        /// For how many seconds it is to be read
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        ttl: u64,
    },
    /// Read a key
    Get {
        /// Which
        key: String,
    },
    /// Delete a key
    Delete {
        /// Which
        key: String,
    },
    /// How the nodes do
    Status,
    /// Be clients, who read and write and look whether what they read may be
    Load(Loading),
}

#[derive(Debug, Args)]
pub(crate) struct Noding {
    /// The node's name: a number
    #[arg(long)]
    pub(crate) id: u16,

    /// Where to take requests
    #[arg(long, value_name = "ADDR")]
    pub(crate) data: SocketAddr,

    /// Where to take streams of other nodes
    #[arg(long, value_name = "ADDR")]
    pub(crate) control: SocketAddr,

    /// Where to take tracks of clients who read hot keys one-sided (verbs)
    #[arg(long, value_name = "ADDR")]
    pub(crate) hot: Option<SocketAddr>,

    /// For how long to serve after a look at the membership: the same for all nodes
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 2000)]
    pub(crate) lease: u64,

    /// How many nodes are to have each key, where this one makes the membership
    #[cfg(feature = "etcd")]
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    pub(crate) replicas: usize,

    /// How much memory to use for entries
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) capacity: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Membering {
    /// Members to add, or to have elsewhere: NAME=DATA/CONTROL
    #[arg(long, value_name = "MEMBER")]
    pub(crate) add: Vec<String>,

    /// Members to take out, by name
    #[arg(long, value_name = "NAME")]
    pub(crate) remove: Vec<u16>,

    /// How many nodes are to have each key, where the file is made
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    pub(crate) replicas: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Loading {
    /// Clients at once, each with a thread of its own
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) clients: u32,

    /// For how long
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) seconds: u64,

    /// Keys of each client, who alone writes them
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keys: u32,

    /// Bytes of each value, 16 at least
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=1 << 20))]
    pub(crate) size: u32,

    /// How many of a hundred operations are reads
    #[arg(long, value_name = "PERCENT", default_value_t = 90, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) reads: u32,
}
