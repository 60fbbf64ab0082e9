//! The cache as a program: nodes, and clients. See the README beside this package.
#![forbid(unsafe_code)]

mod load;
mod options;
#[path = "../../custom_track/tcp/mod.rs"]
#[allow(dead_code, reason = "the conformance kit uses the rest")]
mod tcp;

use std::error::Error;
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use futures_util::future::{Either, select};
use trespass::core::{InOrder, Lossless, ThreadFabric, Track, wait};
#[cfg(feature = "etcd")]
use trespass_example_cache::etcd::EtcdSource;
use trespass_example_cache::hot::Hot;
use trespass_example_cache::membership::{Member, Membership, NodeId};
#[cfg(feature = "etcd")]
use trespass_example_cache::source::EitherSource;
use trespass_example_cache::source::FileSource;
use trespass_example_cache::wire::Lent;
use trespass_example_cache::{Client, ClientConfig, Node, NodeConfig, NodeHandle};

use options::{Backend, Command, Membering, Noding, Options};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cache: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Outcome {
    if let Command::Members(membering) = &options.command {
        return change(&options, membering);
    }
    match options.fabric {
        Backend::Tcp => {
            let fabric = tcp::TcpFabric::open(tcp::TcpConfig::default())?;
            match &options.command {
                Command::Node(noding) if noding.hot.is_some() => Err("TCP has no memory that others read".into()),
                Command::Node(noding) => serve(&fabric, &options, noding, None, std::future::pending()),
                _ => ask(&fabric, &options, &source(&options)?),
            }
        }
        #[cfg(feature = "verbs")]
        Backend::Verbs => {
            let mut config = trespass::verbs::VerbsConfig::default().with_slots(16 << 10, 32, 32);
            if let Some(local) = options.local {
                config = config.with_local(local);
            }
            let fabric = trespass::verbs::VerbsFabric::open(config)?;
            match &options.command {
                Command::Node(noding) => lend(&fabric, &options, noding),
                _ => ask(&fabric, &options, &source(&options)?),
            }
        }
        #[cfg(not(feature = "verbs"))]
        Backend::Verbs => Err("built without verbs: build with `--features verbs`".into()),
    }
}

/// A node that lends its hot keys, where it is told to.
#[cfg(feature = "verbs")]
fn lend<F>(fabric: &F, options: &Options, noding: &Noding) -> Outcome
where
    F: trespass::core::ThreadMemoryFabric<Addr = SocketAddr, Track: Track<Delivery: Lossless + InOrder>>,
{
    use trespass_example_cache::{HotConfig, HotTable};

    match &noding.hot {
        Some(addr) => {
            let table = HotTable::open(fabric, addr, HotConfig::default())?;
            let hot = table.hot();
            serve(fabric, options, noding, Some(hot), table.run())
        }
        None => serve(fabric, options, noding, None, std::future::pending()),
    }
}

/// Serves until it is killed, or something ends, `beside` perhaps.
fn serve<F>(
    fabric: &F,
    options: &Options,
    noding: &Noding,
    hot: Option<(Hot, Lent)>,
    beside: impl Future<Output = String>,
) -> Outcome
where
    F: ThreadFabric<Addr = SocketAddr, Track: Track<Delivery: Lossless + InOrder>>,
{
    // Grows from one start to the next, as long as the clock is not set back by more than a start takes.
    let incarnation = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let mut config = NodeConfig::new(NodeId(noding.id), u64::try_from(incarnation)?);
    config.lease = Duration::from_millis(noding.lease);
    config.capacity = noding.capacity << 20;
    config.longest = config.longest.min(config.capacity / 8);
    let source = source(options)?;
    let node = Node::lending(fabric.clone(), source.clone(), &noding.data, &noding.control, config, hot)?;
    println!("{SERVES}{}", node.member());
    let attending = attend(&source, node.handle(), node.member(), noding);
    match wait(select(pin!(node.run()), select(pin!(beside), pin!(attending)))) {
        Either::Left((ended, _)) => Ok(ended?),
        Either::Right((Either::Left((why, _)), _)) => Err(why.into()),
        Either::Right((Either::Right((never, _)), _)) => match never {},
    }
}

#[cfg(feature = "etcd")]
type AnySource = EitherSource<FileSource<SocketAddr>, EtcdSource>;
#[cfg(not(feature = "etcd"))]
type AnySource = FileSource<SocketAddr>;

/// Where the membership comes from.
#[cfg(feature = "etcd")]
fn source(options: &Options) -> Result<AnySource, Box<dyn Error>> {
    Ok(match options.etcd.is_empty() {
        true => EitherSource::Left(FileSource::new(&options.membership)),
        false => EitherSource::Right(EtcdSource::new(options.etcd.clone(), "/trespass-cache", Duration::from_secs(2))?),
    })
}

#[cfg(not(feature = "etcd"))]
fn source(options: &Options) -> Result<AnySource, Box<dyn Error>> {
    Ok(FileSource::new(&options.membership))
}

/// With etcd nodes see to the membership themselves; else whoever runs them does.
#[cfg(feature = "etcd")]
async fn attend<F>(
    source: &AnySource,
    handle: NodeHandle<F, AnySource>,
    member: Member<SocketAddr>,
    noding: &Noding,
) -> std::convert::Infallible
where
    F: ThreadFabric<Addr = SocketAddr, Track: Track<Delivery: Lossless + InOrder>>,
{
    match source {
        EitherSource::Left(_) => std::future::pending().await,
        EitherSource::Right(etcd) => etcd.attend(&handle, member, noding.replicas, Duration::from_secs(4)).await,
    }
}

#[cfg(not(feature = "etcd"))]
async fn attend<F>(
    _: &AnySource,
    _: NodeHandle<F, AnySource>,
    _: Member<SocketAddr>,
    _: &Noding,
) -> std::convert::Infallible
where
    F: ThreadFabric<Addr = SocketAddr, Track: Track<Delivery: Lossless + InOrder>>,
{
    std::future::pending().await
}

/// What clients do.
fn ask<F>(fabric: &F, options: &Options, source: &AnySource) -> Outcome
where
    F: ThreadFabric<Addr = SocketAddr, Track: Track<Delivery: Lossless + InOrder>>,
{
    let client = || Client::new(fabric.clone(), source.clone(), ClientConfig::default());
    match &options.command {
        Command::Put { key, value, ttl } => {
            let version = wait(client().put(key.as_bytes(), value.clone(), Duration::from_secs(*ttl)))?;
            println!("{}, write {}", version.epoch, version.number);
        }
        Command::Get { key } => match wait(client().get(key.as_bytes()))? {
            Some((_, value)) => println!("{}", String::from_utf8_lossy(&value)),
            None => println!("(nothing)"),
        },
        Command::Delete { key } => drop(wait(client().delete(key.as_bytes()))?),
        Command::Status => {
            for report in wait(client().reports())? {
                println!("{report:?}");
            }
        }
        Command::Load(loading) => load::run(client, loading)?,
        Command::Node(_) | Command::Members(_) => {}
    }
    Ok(())
}

/// What a node says first, and behind it what the membership has to say of it.
const SERVES: &str = "serves as ";

/// Makes the file of the membership, or its next epoch.
fn change(options: &Options, membering: &Membering) -> Outcome {
    let path = &options.membership;
    let parse = |word: &String| -> Result<Member<SocketAddr>, Box<dyn Error>> {
        Ok(Member::parse(word)
            .ok_or_else(|| format!("`{word}` is no member such as 1=127.0.0.1:7101/127.0.0.1:7201"))?)
    };
    let added: Vec<Member<SocketAddr>> = membering.add.iter().map(parse).collect::<Result<_, _>>()?;
    let next = match path.exists() {
        true => {
            let now = FileSource::<SocketAddr>::new(path).now()?;
            let goes = |id: NodeId| membering.remove.contains(&id.0) || added.iter().any(|member| member.id == id);
            let stay = now.members().iter().filter(|member| !goes(member.id)).cloned();
            let members = stay.chain(added.iter().cloned()).collect();
            now.followed_by(members)?
        }
        false => Membership::first(membering.replicas, added)?,
    };
    FileSource::publish(path, &next)?;
    print!("{next}");
    Ok(())
}
