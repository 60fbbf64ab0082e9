//! The cache as a program: nodes, and clients. See the README beside this package.
#![forbid(unsafe_code)]

mod load;
mod options;
#[path = "../../custom_track/tcp/mod.rs"]
#[allow(dead_code, reason = "the conformance kit uses the rest")]
mod tcp;

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use trespass::core::{InOrder, Lossless, ThreadFabric, Track, wait};
use trespass_example_cache::membership::{Member, Membership, NodeId};
use trespass_example_cache::source::FileSource;
use trespass_example_cache::{Client, ClientConfig, Node, NodeConfig};

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
        Backend::Tcp => on(&tcp::TcpFabric::open(tcp::TcpConfig::default())?, &options),
        #[cfg(feature = "verbs")]
        Backend::Verbs => {
            let mut config = trespass::verbs::VerbsConfig::default();
            if let Some(local) = options.local {
                config = config.with_local(local);
            }
            on(&trespass::verbs::VerbsFabric::open(config)?, &options)
        }
        #[cfg(not(feature = "verbs"))]
        Backend::Verbs => Err("built without verbs: build with `--features verbs`".into()),
    }
}

/// All but `members`, on a fabric.
fn on<F>(fabric: &F, options: &Options) -> Outcome
where
    F: ThreadFabric<Addr = SocketAddr, Track: Track<Delivery: Lossless + InOrder>>,
{
    let source = || FileSource::new(&options.membership);
    let client = || Client::new(fabric.clone(), source(), ClientConfig::default());
    match &options.command {
        Command::Node(noding) => serve(fabric, source(), noding),
        Command::Members(_) => Ok(()),
        Command::Put { key, value, ttl } => {
            let version = wait(client().put(key.as_bytes(), value.clone(), Duration::from_secs(*ttl)))?;
            println!("{}, write {}", version.epoch, version.number);
            Ok(())
        }
        Command::Get { key } => {
            match wait(client().get(key.as_bytes()))? {
                Some((_, value)) => println!("{}", String::from_utf8_lossy(&value)),
                None => println!("(nothing)"),
            }
            Ok(())
        }
        Command::Delete { key } => Ok(wait(client().delete(key.as_bytes())).map(drop)?),
        Command::Status => {
            for report in wait(client().reports())? {
                println!("{report:?}");
            }
            Ok(())
        }
        Command::Load(loading) => load::run(client, loading),
    }
}

fn serve<F>(fabric: &F, source: FileSource<SocketAddr>, noding: &Noding) -> Outcome
where
    F: ThreadFabric<Addr = SocketAddr, Track: Track<Delivery: Lossless + InOrder>>,
{
    // Grows from one start to the next, as long as the clock is not set back by more than a start takes.
    let incarnation = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let mut config = NodeConfig::new(NodeId(noding.id), u64::try_from(incarnation)?);
    config.lease = Duration::from_millis(noding.lease);
    config.capacity = noding.capacity << 20;
    config.longest = config.longest.min(config.capacity / 8);
    let node = Node::bind(fabric.clone(), source, &noding.data, &noding.control, config)?;
    println!("{SERVES}{}", node.member());
    Ok(wait(node.run())?)
}

/// What a node says first, and behind it what the membership has to say of it.
const SERVES: &str = "serves as ";

/// Makes the file of the membership, or its next epoch.
fn change(options: &Options, membering: &Membering) -> Outcome {
    let path = &options.membership;
    let parse = |word: &String| -> Result<Member<SocketAddr>, Box<dyn Error>> {
        Ok(Member::parse(word).ok_or_else(|| format!("`{word}` is no member such as 1=127.0.0.1:7101/127.0.0.1:7201"))?)
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
