//! The arguments: `SIDE OVER WORK key=value…`.

use std::error::Error;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

pub(crate) const USAGE: &str = "usage: verbs server|client track|carrier|segments|lent|bytes|datagrams|port|shared \
pingpong|bursts|stream|many|read|write|add|get local=IP peer=IP:PORT [size=64] [count=1000] [warmup=100] \
[wait=events|polling] [batch=1] [burst=1] [send-slots=64] [recv-slots=64] [inline=BYTES] [tracks=1] [under-way=1] \
[ways=1]";

const INTERFACES: &[(&str, Over)] = &[
    ("track", Over::Track),
    ("carrier", Over::Carrier),
    ("segments", Over::Segments),
    ("lent", Over::Lent),
    ("bytes", Over::Bytes),
    ("datagrams", Over::Datagrams),
    ("port", Over::Port),
    ("shared", Over::Shared),
];

const WORKS: &[(&str, Work)] = &[
    ("pingpong", Work::PingPong),
    ("bursts", Work::Bursts),
    ("stream", Work::Stream),
    ("many", Work::Many),
    ("read", Work::Read),
    ("write", Work::Write),
    ("add", Work::Add),
    ("get", Work::Get),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Track,
    Carrier,
    /// A carrier whose messages are longer than a slot.
    Segments,
    /// A carrier that lends its messages.
    Lent,
    /// A stream of bytes.
    Bytes,
    /// A track of datagrams.
    Datagrams,
    /// Datagrams in their addressed form.
    Port,
    /// Tracks that share their queues.
    Shared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// One message there, one back.
    PingPong,
    /// Some messages there, as many back.
    Bursts,
    /// Messages one way, as many as there are slots; at the end one back.
    Stream,
    /// Messages one way over all tracks, so many on each; both ends poll.
    Many,
    /// Reads of the server's memory.
    Read,
    /// Writes to it.
    Write,
    /// Atomic additions to a word of it.
    Add,
    /// Look-ups in a table that lies there.
    Get,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Asleep until the completion channel says something.
    Events,
    /// Never asleep.
    Polling,
}

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) side: Side,
    pub(crate) over: Over,
    pub(crate) work: Work,
    pub(crate) wait: Wait,
    pub(crate) local: IpAddr,
    /// The server's address, on both sides.
    pub(crate) peer: SocketAddr,
    pub(crate) size: usize,
    pub(crate) count: u64,
    /// Not counted, before the others.
    pub(crate) warmup: u64,
    /// Messages for each doorbell.
    pub(crate) batch: u64,
    /// Messages there before as many come back.
    pub(crate) burst: u64,
    pub(crate) send_slots: usize,
    pub(crate) recv_slots: usize,
    pub(crate) inline: Option<usize>,
    /// Connections, between the same two ends.
    pub(crate) tracks: usize,
    /// Operations at once; fewer where the device takes fewer.
    pub(crate) under_way: usize,
    /// Entries in what one look-up reads.
    pub(crate) ways: usize,
}

impl Options {
    /// `None` without arguments: cargo passes `--bench`.
    pub(crate) fn from_args() -> Result<Option<Self>, Box<dyn Error>> {
        let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
        let [side, over, work, settings @ ..] = args.as_slice() else { return Ok(None) };
        let mut options = Self {
            side: choice("side", side, &[("server", Side::Server), ("client", Side::Client)])?,
            over: choice("interface", over, INTERFACES)?,
            work: choice("work", work, WORKS)?,
            wait: Wait::Events,
            local: IpAddr::from([0, 0, 0, 0]),
            peer: SocketAddr::from(([0, 0, 0, 0], 0)),
            size: 64,
            count: 1000,
            warmup: 100,
            batch: 1,
            burst: 1,
            send_slots: 64,
            recv_slots: 64,
            inline: None,
            tracks: 1,
            under_way: 1,
            ways: 1,
        };
        for setting in settings {
            let (key, value) =
                setting.split_once('=').ok_or_else(|| format!("`{setting}` is not key=value\n{USAGE}"))?;
            options.set(key, value)?;
        }
        if options.size < 8 {
            return Err("size: at least 8, each message has a number".into());
        }
        let several = options.over == Over::Shared || options.tracks > 1;
        if several && options.work != Work::Many {
            return Err("over several tracks, or shared ones, there is only `many`".into());
        }
        if options.over == Over::Bytes && !matches!(options.work, Work::PingPong | Work::Bursts) {
            return Err("over a stream of bytes all messages are of one size: pingpong or bursts".into());
        }
        if options.work == Work::Bursts && options.wait == Wait::Events {
            return Err("bursts are polled for: wait=polling".into());
        }
        if [options.tracks, options.under_way, options.ways].contains(&0) || options.batch == 0 || options.burst == 0 {
            return Err("tracks, under-way, ways, batch and burst: at least 1".into());
        }
        Ok(Some(options))
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), Box<dyn Error>> {
        match key {
            "local" => self.local = parsed(key, value)?,
            "peer" => self.peer = parsed(key, value)?,
            "size" => self.size = parsed(key, value)?,
            "count" => self.count = parsed(key, value)?,
            "warmup" => self.warmup = parsed(key, value)?,
            "wait" => self.wait = choice(key, value, &[("events", Wait::Events), ("polling", Wait::Polling)])?,
            "batch" => self.batch = parsed(key, value)?,
            "burst" => self.burst = parsed(key, value)?,
            "send-slots" => self.send_slots = parsed(key, value)?,
            "recv-slots" => self.recv_slots = parsed(key, value)?,
            "tracks" => self.tracks = parsed(key, value)?,
            "under-way" => self.under_way = parsed(key, value)?,
            "ways" => self.ways = parsed(key, value)?,
            "inline" => self.inline = Some(parsed(key, value)?),
            _ => return Err(format!("no setting `{key}`\n{USAGE}").into()),
        }
        Ok(())
    }
}

fn choice<T: Copy>(what: &str, word: &str, of: &[(&str, T)]) -> Result<T, String> {
    let found = of.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    found.ok_or_else(|| format!("`{word}` is no {what}\n{USAGE}"))
}

fn parsed<T: FromStr<Err: Display>>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{key}={value}: {error}"))
}
