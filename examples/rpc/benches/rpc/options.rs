//! The arguments: `SIDE OVER WORK key=value…`.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

pub(crate) const USAGE: &str = "usage: rpc server|client rpc|grpc roundtrip|rate local=IP peer=IP:PORT [size=64] [count=1000] \
[warmup=100] [under-way=64] [threads=1]";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Rpc,
    Grpc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// One call after another.
    RoundTrip,
    /// As many at once as there may be.
    Rate,
}

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) side: Side,
    pub(crate) over: Over,
    pub(crate) work: Work,
    pub(crate) local: IpAddr,
    /// The server's address, on both sides.
    pub(crate) peer: SocketAddr,
    /// Of the request, and of the reply.
    pub(crate) size: usize,
    pub(crate) count: u64,
    /// Not counted, before the others.
    pub(crate) warmup: u64,
    pub(crate) under_way: u64,
    /// Of gRPC's runtime.
    pub(crate) threads: usize,
}

impl Options {
    /// `None` without arguments: cargo passes `--bench`.
    pub(crate) fn from_args() -> Result<Option<Self>, Box<dyn Error>> {
        let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
        let [side, over, work, settings @ ..] = args.as_slice() else { return Ok(None) };
        let mut options = Self {
            side: choice(side, &[("server", Side::Server), ("client", Side::Client)])?,
            over: choice(over, &[("rpc", Over::Rpc), ("grpc", Over::Grpc)])?,
            work: choice(work, &[("roundtrip", Work::RoundTrip), ("rate", Work::Rate)])?,
            local: IpAddr::from([0, 0, 0, 0]),
            peer: SocketAddr::from(([0, 0, 0, 0], 0)),
            size: 64,
            count: 1000,
            warmup: 100,
            under_way: 64,
            threads: 1,
        };
        for setting in settings {
            let (key, value) = setting.split_once('=').ok_or_else(|| format!("{setting} is no setting\n{USAGE}"))?;
            match key {
                "local" => options.local = number(value)?,
                "peer" => options.peer = number(value)?,
                "size" => options.size = number(value)?,
                "count" => options.count = number(value)?,
                "warmup" => options.warmup = number(value)?,
                "under-way" => options.under_way = number(value)?,
                "threads" => options.threads = number(value)?,
                _ => return Err(format!("there is no setting {key}\n{USAGE}").into()),
            }
        }
        Ok(Some(options))
    }
}

fn choice<T: Copy>(word: &str, choices: &[(&str, T)]) -> Result<T, Box<dyn Error>> {
    let found = choices.iter().find(|(name, _)| *name == word);
    found.map(|(_, choice)| *choice).ok_or_else(|| format!("what is {word}?\n{USAGE}").into())
}

fn number<T: FromStr<Err: std::fmt::Display>>(word: &str) -> Result<T, Box<dyn Error>> {
    word.parse().map_err(|error| format!("{word}: {error}").into())
}
