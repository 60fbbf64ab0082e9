//! Five nodes as processes, load from eight clients; one node is killed and brought back, one is stopped and goes on, which it
//! does not know of itself: cut off, as far as the others can tell.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use trespass::core::{InOrder, Lossless, ThreadFabric, Track, wait};
use trespass_example_cache::membership::{Epoch, Member, Membership, NodeId};
use trespass_example_cache::source::{FileSource, SharedSource, Source};
use trespass_example_cache::wire::Refusal;
use trespass_example_cache::{CacheError, Client, ClientConfig, Trouble};

use crate::dice::Dice;
use crate::history::{Asked, Came, Operation, check};

const NODES: u16 = 5;
const CLIENTS: u64 = 8;
const KEYS: u64 = 48;
/// How long anything is waited for that must come.
const PATIENCE: Duration = Duration::from_secs(90);
/// How many operations of each client have to be acknowledged before the next thing happens.
const ENOUGH: u64 = 15;
/// How much earlier than its time a value may go: what conversations took when clocks were compared, on a machine with much to do.
const EARLY: Duration = Duration::from_secs(20);

/// A node in a process of its own, killed with SIGKILL when this is dropped.
struct Process {
    child: Child,
    member: Member<SocketAddr>,
}

impl Process {
    fn start(id: u16, ip: IpAddr, membership: &Path, fabric: &[&str]) -> Self {
        let any = SocketAddr::new(ip, 0).to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_cache"))
            .args(["node", "--data", &any, "--control", &any, "--id", &id.to_string()])
            .args(["--lease", "1000", "--capacity", "64"])
            .args(fabric)
            .arg("--membership")
            .arg(membership)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut lines =
            BufReader::new(child.stdout.take().expect("it is piped")).lines().map(|line| line.expect("text"));
        let member = lines.find_map(|line| Member::parse(line.split_once("serves as ")?.1)).expect("the node serves");
        Self { child, member }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success(), "{signal} to {:?}", self.child);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the membership is, until this is dropped. Not beside the program: that may be where nothing can be written.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("trespass-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Nobody needs it any more; what cannot be removed does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What all clients share.
struct Load {
    begun: Instant,
    over: AtomicBool,
    values: AtomicU64,
    /// What each client has had acknowledged.
    acknowledged: Vec<AtomicU64>,
    history: Mutex<Vec<Operation>>,
}

fn key_of(key: u64) -> Vec<u8> {
    format!("key {key}").into_bytes()
}

impl Load {
    async fn ask<F, S>(&self, client: &Client<F, S>, key: u64, asked: Asked) -> Came
    where
        F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
        S: Source<F::Addr>,
    {
        let start = self.begun.elapsed();
        let name = key_of(key);
        let written = |came| match came {
            Ok(version) => Came::Acknowledged(version),
            Err(CacheError::InDoubt(_)) => Came::InDoubt,
            Err(CacheError::Unavailable { .. }) => Came::NotDone,
            Err(other) => panic!("{other}"),
        };
        let came = match asked {
            Asked::Put { value, ttl } => written(client.put(&name, value.to_le_bytes().to_vec(), ttl).await),
            Asked::Delete => written(client.delete(&name).await),
            Asked::Get => match client.get(&name).await {
                Ok(found) => Came::Read(found.map(|(version, value)| {
                    (version, u64::from_le_bytes(value[..].try_into().expect("a value of ours")))
                })),
                Err(CacheError::Unavailable { .. }) => Came::NotDone,
                Err(other) => panic!("{other}"),
            },
        };
        let operation = Operation { key, asked, came, start, end: self.begun.elapsed() };
        self.history.lock().expect("nobody panicked").push(operation);
        came
    }

    async fn work<F>(&self, number: u64, client: Client<F, FileSource<F::Addr>>)
    where
        F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
    {
        let mut dice = Dice::new(number);
        while !self.over.load(Ordering::SeqCst) {
            let asked = match dice.below(16) {
                0..7 => Asked::Get,
                7 => Asked::Delete,
                _ => {
                    let ttl = if dice.one_in(3) { dice.millis(100, 2500) } else { Duration::from_secs(3600) };
                    Asked::Put { value: self.values.fetch_add(1, Ordering::SeqCst), ttl }
                }
            };
            if matches!(self.ask(&client, dice.below(KEYS), asked).await, Came::Acknowledged(_)) {
                self.acknowledged[number as usize].fetch_add(1, Ordering::SeqCst);
            }
            // Enough for a history, and not more than can be checked.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The nodes, and the file that says who they are.
struct Cluster<'a, F> {
    fabric: &'a F,
    path: PathBuf,
    membership: Membership<SocketAddr>,
    load: Arc<Load>,
}

impl<F> Cluster<'_, F>
where
    F: ThreadFabric<Addr = SocketAddr, Track: Track<Delivery: Lossless + InOrder>>,
{
    fn client(&self) -> Client<F, FileSource<SocketAddr>> {
        Client::new(self.fabric.clone(), FileSource::new(&self.path), ClientConfig::default())
    }

    fn publish(&mut self, change: impl FnOnce(&mut Vec<Member<SocketAddr>>)) {
        let mut members = self.membership.members().to_vec();
        change(&mut members);
        self.membership = self.membership.clone().followed_by(members).expect("members");
        FileSource::publish(&self.path, &self.membership).expect("a file");
    }

    /// Waits until all members say that all have their keys, and every client has had enough acknowledged since.
    fn is_well(&self) {
        let begun = Instant::now();
        let (epoch, members) = (self.membership.epoch(), self.membership.members().len());
        let client = self.client();
        loop {
            let reports = wait(client.reports()).expect("a membership");
            if reports.len() == members && reports.iter().all(|report| report.settled && report.epoch == Some(epoch)) {
                assert!(reports.iter().all(|report| report.evictions == 0), "nothing had to go: {reports:?}");
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "not all is well in {epoch}: {reports:?}");
        }
        let count = || self.load.acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect::<Vec<_>>();
        let before = count();
        while count().iter().zip(&before).any(|(now, before)| *now < before + ENOUGH) {
            assert!(begun.elapsed() < PATIENCE, "a client does not go on: {:?}, before {before:?}", count());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The whole test, on the fabric that `fabric` is of: nodes take turns on the addresses, and get these arguments.
pub(crate) fn exercise<F>(name: &str, fabric: &F, nodes: &[(IpAddr, Vec<&str>)])
where
    F: ThreadFabric<Addr = SocketAddr, Track: Track<Delivery: Lossless + InOrder>>,
{
    let directory = Directory::new(name);
    let path = directory.0.join("members.txt");
    let start = |id: u16| {
        let (ip, arguments) = &nodes[usize::from(id) % nodes.len()];
        Process::start(id, *ip, &path, arguments)
    };
    let mut processes: Vec<Process> = (0..NODES).map(start).collect();
    let members = processes.iter().map(|process| process.member.clone()).collect();
    let membership = Membership::first(2, members).expect("a membership");
    FileSource::publish(&path, &membership).expect("a file");
    let load = Arc::new(Load {
        begun: Instant::now(),
        over: AtomicBool::new(false),
        values: AtomicU64::new(1),
        acknowledged: (0..CLIENTS).map(|_| AtomicU64::new(0)).collect(),
        history: Mutex::default(),
    });
    let mut cluster = Cluster { fabric, path: path.clone(), membership, load: Arc::clone(&load) };
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (load, client) = (Arc::clone(&load), cluster.client());
            scope.spawn(move || wait(load.work(number, client)));
        }
        // Whatever fails ends the load, too.
        let _ending = Ending(&load);
        cluster.is_well();

        // One is killed, and comes back.
        let killed = NodeId(1);
        processes[1].child.kill().expect("SIGKILL");
        processes[1].child.wait().expect("it is dead");
        cluster.publish(|members| members.retain(|member| member.id != killed));
        cluster.is_well();
        processes[1] = start(1);
        let back = processes[1].member.clone();
        cluster.publish(|members| members.push(back));
        cluster.is_well();

        // Another is cut off: it stands still, and others move on. Then it goes on, and takes itself for a member as ever.
        let (stopped, before) = (NodeId(3), cluster.membership.clone());
        processes[3].signal("-STOP");
        cluster.publish(|members| members.retain(|member| member.id != stopped));
        cluster.is_well();
        processes[3].signal("-CONT");
        refuses(fabric, before, stopped);
        let back = processes[3].member.clone();
        cluster.publish(|members| members.push(back));
        cluster.is_well();
    });
    conclude(&cluster);
}

struct Ending<'a>(&'a Load);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// A client that has not heard that others moved on, and asks the node that they left behind: it has to be told.
fn refuses<F>(fabric: &F, before: Membership<SocketAddr>, stopped: NodeId)
where
    F: ThreadFabric<Addr = SocketAddr, Track: Track<Delivery: Lossless + InOrder>>,
{
    let known: Epoch = before.epoch();
    let client = Client::new(fabric.clone(), SharedSource::new(before), ClientConfig::default());
    let mut asked = 0;
    for key in 0..KEYS {
        // What the others answer is the matter of everybody else.
        let Err(CacheError::Unavailable { last: Trouble::Refused(node, refusal), .. }) =
            wait(client.get_once(&key_of(key)))
        else {
            continue;
        };
        if node == stopped {
            asked += 1;
            let told = matches!(refusal, Refusal::StaleEpoch { known: newer } if newer > known);
            assert!(told || matches!(refusal, Refusal::NotReady(_)), "{node}: {refusal}");
        }
    }
    assert!(asked > 0, "no key is the stopped node's");
}

fn conclude<F>(cluster: &Cluster<'_, F>)
where
    F: ThreadFabric<Addr = SocketAddr, Track: Track<Delivery: Lossless + InOrder>>,
{
    let client = cluster.client();
    for key in 0..KEYS {
        let came = wait(cluster.load.ask(&client, key, Asked::Get));
        assert!(matches!(came, Came::Read(_)), "all is well, and key {key} cannot be read");
    }
    let history = cluster.load.history.lock().expect("nobody panicked");
    check(&history, EARLY).unwrap_or_else(|wrong| panic!("{wrong}"));
    let count = |wanted: fn(&Came) -> bool| history.iter().filter(|operation| wanted(&operation.came)).count();
    let acknowledged = count(|came| matches!(came, Came::Acknowledged(_)));
    let (in_doubt, not_done) = (count(|came| *came == Came::InDoubt), count(|came| *came == Came::NotDone));
    eprintln!("{} operations: {acknowledged} acknowledged, {in_doubt} in doubt, {not_done} not done", history.len());
    // Two faults. Each may meet a write of each client, and one more by a client that had not heard yet; and where the machine is slow,
    // a client may run out of time before the others have moved on.
    let most = 2 * 2 * CLIENTS as usize;
    assert!(in_doubt <= most && not_done <= most, "{in_doubt} in doubt, {not_done} not done");
}

/// One node that lends its hot keys.
#[cfg(feature = "verbs")]
#[allow(dead_code, reason = "TCP has no memory that others read")]
pub(crate) fn hot<F>(name: &str, fabric: &F, (ip, arguments): &(IpAddr, Vec<&str>))
where
    F: trespass::core::ThreadMemoryFabric<Addr = SocketAddr, Track: Track<Delivery: Lossless + InOrder>>,
{
    use trespass_example_cache::HotClient;

    let directory = Directory::new(name);
    let path = directory.0.join("members.txt");
    let process = Process::start(1, *ip, &path, arguments);
    let membership = Membership::first(1, vec![process.member.clone()]).expect("a membership");
    FileSource::publish(&path, &membership).expect("a file");

    let client = Client::new(fabric.clone(), FileSource::<SocketAddr>::new(&path), ClientConfig::default());
    let client = HotClient::new(client);
    let put =
        |value: &'static str| wait(client.client().put(b"key", value, Duration::from_secs(3600))).expect("it is put");
    let first = put("first");
    let begun = Instant::now();
    while client.one_sided() == 0 {
        assert!(begun.elapsed() < PATIENCE, "the key is never read one-sided");
        assert_eq!(wait(client.get(b"key")).expect("it is read"), Some((first, "first".into())));
    }
    let second = put("second");
    let one_sided = client.one_sided();
    while client.one_sided() == one_sided {
        assert!(begun.elapsed() < PATIENCE, "the key is not read one-sided any more");
        assert_eq!(wait(client.get(b"key")).expect("it is read"), Some((second, "second".into())));
    }

    // Its device answers, and nobody else. In the end its time is up, though its memory says what it said.
    process.signal("-STOP");
    let (mut read, one_sided) = (0, client.one_sided());
    let refused = loop {
        assert!(begun.elapsed() < PATIENCE, "a node that stands still is read for ever");
        match wait(client.get(b"key")) {
            Ok(found) => assert_eq!(found, Some((second, "second".into()))),
            Err(error) => break error,
        }
        read += 1;
    };
    // None where the machine had too much to do between two lines here: then there is nothing to be said of it.
    eprintln!(
        "{read} reads of a node that stands still, {} one-sided; then: {refused}",
        client.one_sided() - one_sided
    );
    assert_eq!(client.one_sided() - one_sided, read, "it cannot have answered itself");
    process.signal("-CONT");
    assert_eq!(wait(client.get(b"key")).expect("it is read again"), Some((second, "second".into())));
}
