//! The same store, whose clients get values by reading the server's memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use futures_executor::block_on;
use trespass::carriers::MessageConfig;
use trespass::core::{ErrorKind, InOrder, Lossless, ThreadMemoryFabric, Track};
use trespass_example_table::{Layout, ReaderConfig};

use super::store::{Client, GetsStats, Lender, OneSided, Server, ServerConfig, StoreError};
use super::{Ends, NOTICED_WITHIN, PATIENCE, gets_and_puts_of_many, pattern, within};

/// What these tests ask of a fabric.
pub(crate) trait Fabric: ThreadMemoryFabric<Track: Track<Delivery: Lossless + InOrder>> {}
impl<F: ThreadMemoryFabric<Track: Track<Delivery: Lossless + InOrder>>> Fabric for F {}

type Reading<F> = Client<<F as trespass::core::Fabric>::Track, OneSided<F>>;

/// Ends of a fabric, and where the server lends its table.
#[derive(Clone)]
pub(crate) struct LendingEnds<F: Fabric> {
    pub(crate) ends: Ends<F>,
    pub(crate) lend_at: F::Addr,
}

/// A server that lends.
pub(crate) struct Lending<F: Fabric> {
    pub(crate) server: Server<F>,
    pub(crate) lender: Arc<Lender<F>>,
}

/// Entries of 128 bytes: 104 for key and value.
fn narrow() -> Layout {
    Layout::new(1024, 4, 128).expect("a layout")
}

/// Entries of several packets, so that a device is at it for a while.
fn wide() -> Layout {
    Layout::new(16, 4, 6400).expect("a layout")
}

impl<F: Fabric> LendingEnds<F> {
    pub(crate) fn serve(&self) -> Lending<F> {
        self.serve_with(narrow())
    }

    /// A server of long values.
    pub(crate) fn serve_wide(&self) -> Lending<F> {
        self.serve_with(wide())
    }

    fn serve_with(&self, layout: Layout) -> Lending<F> {
        let lender = Lender::start(&self.ends.server, &self.lend_at, layout, 64).expect("lends");
        let config = ServerConfig::default();
        let server = Server::start_with(&self.ends.server, &self.ends.addr, config, Arc::clone(&lender));
        Lending { server: server.expect("listens"), lender }
    }

    fn connect(&self, lending: &Lending<F>) -> Reading<F> {
        connect(&self.ends.client, lending.server.addr()).expect("connects")
    }
}

pub(crate) fn connect<F: Fabric>(fabric: &F, addr: &F::Addr) -> Result<Reading<F>, StoreError> {
    let gets = OneSided::new(fabric, ReaderConfig::default());
    block_on(Client::open(fabric, addr, MessageConfig::default(), gets))
}

fn get<F: Fabric>(client: &mut Reading<F>, key: &[u8]) -> Option<Vec<u8>> {
    block_on(client.get(key)).expect("gets").map(|value| value.to_vec())
}

/// Everything that such a store has to do on a fabric. `ends` makes fresh ends for each case.
pub(crate) fn exercise<F: Fabric>(mut ends: impl FnMut() -> LendingEnds<F>) {
    let mut case = |name, run: fn(&LendingEnds<F>)| {
        eprintln!("case: {name}");
        let ends = ends();
        within(PATIENCE, name, move || run(&ends));
    };
    case("gets are none of the server's business", gets_are_none_of_the_servers_business);
    case("what does not fit is asked for", what_does_not_fit_is_asked_for);
    case("many at once", |ends| gets_and_puts_of_many(&mut ends.connect(&ends.serve())));
    case("eight readers beside writers", |ends| {
        let lending = ends.serve_wide();
        readers_beside_writers(&ends.ends.client, lending.server.addr());
    });
    case("a table that is withdrawn", a_table_that_is_withdrawn);
    case("a server that dies", |ends| {
        let lending = ends.serve();
        let addr = lending.server.addr().clone();
        let mut lending = Some(lending);
        a_server_that_dies(&ends.ends.client, &addr, || {
            drop(lending.take());
            let again = Ends { addr: addr.clone(), ..ends.ends.clone() };
            lending = Some(LendingEnds { ends: again, lend_at: ends.lend_at.clone() }.serve());
        });
    });
}

/// Counted, not timed: what the server was asked.
fn gets_are_none_of_the_servers_business<F: Fabric>(ends: &LendingEnds<F>) {
    let lending = ends.serve();
    let mut client = ends.connect(&lending);
    let mut other = ends.connect(&lending);
    for number in 0..50_u8 {
        block_on(client.put(&[number], &pattern(number.into()))).expect("puts");
    }
    let before = lending.server.effort().messages;
    for _ in 0..4 {
        for number in 0..50_u8 {
            assert_eq!(get(&mut client, &[number]), Some(pattern(number.into())));
            assert_eq!(get(&mut other, &[number]), Some(pattern(number.into())));
            assert_eq!(get(&mut other, &[number, number]), None);
        }
    }
    let stats = [client.gets_stats(), other.gets_stats()];
    let asked = stats[0].asked + stats[1].asked;
    // Of 50 keys in 1,024 buckets of four none finds its bucket full, but for a secret that is one in millions: then it is asked for.
    assert_eq!(lending.server.effort().messages - before, asked);
    assert_eq!(lending.lender.stats().elsewhere == 0, asked == 0);
    assert_eq!(stats[0].reads.reads + stats[1].reads.reads, 600);
    assert_eq!(stats[0].opened + stats[1].opened, 2);

    // What a client puts it finds, and whoever reads after it.
    for round in 0..100_usize {
        block_on(client.put(b"again", &pattern(round % 90))).expect("puts");
        assert_eq!(get(&mut client, b"again"), Some(pattern(round % 90)));
        assert_eq!(get(&mut other, b"again"), Some(pattern(round % 90)));
    }
    assert!(block_on(client.delete(b"again")).expect("deletes"));
    assert_eq!(get(&mut other, b"again"), None);
}

fn what_does_not_fit_is_asked_for<F: Fabric>(ends: &LendingEnds<F>) {
    let lending = ends.serve();
    let mut client = ends.connect(&lending);
    for len in [0, 95, 96, 97, 98, 99, 5000, 100_000, 3, 0] {
        block_on(client.put(b"of seven", &pattern(len))).expect("puts");
        assert!(get(&mut client, b"of seven").as_deref() == Some(&pattern(len)), "{len} bytes");
    }
    assert_eq!(client.gets_stats().asked, 5, "97 bytes and more");
    // Keys that are longer than an entry.
    let long = pattern(2000);
    assert_eq!(get(&mut client, &long), None);
    block_on(client.put(&long, b"value")).expect("puts");
    assert_eq!(get(&mut client, &long).as_deref(), Some(&b"value"[..]));
    assert!(block_on(client.delete(&long)).expect("deletes"));
    assert_eq!(get(&mut client, &long), None);
    assert_eq!(client.gets_stats().asked, 6);
    assert_eq!(client.gets_stats().lost, 0);
}

const KEYS: u64 = 4;

/// The value of a key in a round: each byte depends on both, so that no other value has many of them.
fn value(key: u64, round: u64) -> Vec<u8> {
    let len = 8 + (key * 7 + round * 13) % 80 * 79;
    let filling = (0..len).map(|at| (key * 31 + round * 17 + at * (1 + round % 5)) as u8);
    round.to_le_bytes().into_iter().chain(filling).collect()
}

/// How often a reader beside writers reads.
pub(crate) const ROUNDS: u64 = 200;

/// Eight clients that read, and two that write the same keys. Every value that is read is compared with what its round put:
/// the table's own checksum is not asked.
fn readers_beside_writers<F: Fabric>(fabric: &F, addr: &F::Addr) {
    let stats = beside_writers(fabric, addr, || {
        thread::scope(|scope| {
            let readers: Vec<_> = (0..8)
                .map(|_| {
                    let client = connect(fabric, addr).expect("connects");
                    scope.spawn(move || read_beside_writers(client, ROUNDS))
                })
                .collect();
            let mut sum = GetsStats::default();
            readers.into_iter().for_each(|reader| sum.add(reader.join().expect("no panic")));
            sum
        })
    });
    let GetsStats { reads, asked, lost, .. } = stats;
    eprintln!("{} reads, {} of them torn and made again; {asked} asked for", reads.reads, reads.torn);
    assert_eq!(lost, 0);
    assert!(reads.reads - reads.torn + asked >= 8 * ROUNDS);
}

/// Does `work` while two clients write all keys, whose values are there before.
pub(crate) fn beside_writers<F: Fabric, R>(fabric: &F, addr: &F::Addr, work: impl FnOnce() -> R) -> R {
    let mut writer = connect(fabric, addr).expect("connects");
    for key in 0..KEYS {
        block_on(writer.put(&key.to_le_bytes(), &value(key, 0))).expect("puts");
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // However the work ends, the writers do.
        let _done = Raise(&done);
        for half in 0..2 {
            let (mut client, done) = (connect(fabric, addr).expect("connects"), &done);
            scope.spawn(move || {
                // Each has keys of its own, whose rounds grow.
                for round in (1..).take_while(|_| !done.load(Ordering::Relaxed)) {
                    let key = 2 * (round % (KEYS / 2)) + half;
                    block_on(client.put(&key.to_le_bytes(), &value(key, round))).expect("puts");
                }
            });
        }
        work()
    })
}

/// Raises a flag when it is dropped.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads all keys, one at a time and many at once.
pub(crate) fn read_beside_writers<F: Fabric>(mut client: Reading<F>, rounds: u64) -> GetsStats {
    let mut latest = [0; KEYS as usize];
    let mut check = |key: u64, read: &[u8], in_order: bool| {
        let round = u64::from_le_bytes(*read.first_chunk().expect("a round"));
        assert!(read == value(key, round), "key {key} has a value that nobody put, of {} bytes", read.len());
        let latest = &mut latest[key as usize];
        assert!(!in_order || round >= *latest, "round {round} after {latest}");
        *latest = round.max(*latest);
    };
    for round in 0..rounds {
        let key = round % KEYS;
        check(key, &get(&mut client, &key.to_le_bytes()).expect("it is there"), true);
        if round % 10 == 0 {
            let keys: Vec<_> = (0..4 * KEYS).map(|number| (number % KEYS).to_le_bytes()).collect();
            let many = client.get_many(&keys, |number, read| {
                let read = read.expect("gets").expect("it is there");
                // Those that are under way at once may be answered in any order.
                check(number as u64 % KEYS, read, false);
            });
            block_on(many).expect("the connection lives");
        }
    }
    client.gets_stats()
}

fn a_table_that_is_withdrawn<F: Fabric>(ends: &LendingEnds<F>) {
    let lending = ends.serve();
    let mut client = ends.connect(&lending);
    block_on(client.put(b"key", b"value")).expect("puts");
    assert_eq!(get(&mut client, b"key").as_deref(), Some(&b"value"[..]));
    assert_eq!((client.gets_stats().opened, client.gets_stats().lost), (1, 0));

    lending.lender.withdraw().expect("withdrawn");
    for _ in 0..50 {
        assert_eq!(get(&mut client, b"key").as_deref(), Some(&b"value"[..]), "by message");
        block_on(client.get_many(&[b"key"; 3], |_, value| assert_eq!(value.unwrap(), Some(&b"value"[..])))).unwrap();
    }
    let stats = client.gets_stats();
    assert_eq!((stats.opened, stats.lost), (1, 1), "{stats:?}");
    assert_eq!(stats.why.map(|(kind, _)| kind), Some(ErrorKind::RemoteAccess));

    lending.lender.lend().expect("lent again");
    // It is asked for again, the less often the longer there was none.
    for _ in 0..200 {
        assert_eq!(get(&mut client, b"key").as_deref(), Some(&b"value"[..]));
    }
    let stats = client.gets_stats();
    assert_eq!((stats.opened, stats.lost), (2, 1), "{stats:?}");
    let before = lending.server.effort().messages;
    assert_eq!(get(&mut client, b"key").as_deref(), Some(&b"value"[..]));
    assert_eq!(lending.server.effort().messages, before, "by a read");
}

/// Four clients read from the server at `addr`, which is replaced by a new one at the same address by `replace`, without a
/// goodbye.
pub(crate) fn a_server_that_dies<F: Fabric>(fabric: &F, addr: &F::Addr, replace: impl FnOnce()) {
    let mut writer = connect(fabric, addr).expect("connects");
    block_on(writer.put(b"key", b"value")).expect("puts");
    let (started, under_load) = mpsc::channel();
    let loads: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, started) = (connect(fabric, addr).expect("connects"), started.clone());
            thread::spawn(move || {
                for round in 0_usize.. {
                    match block_on(client.get(b"key")) {
                        Ok(value) => assert_eq!(value.as_deref(), Some(&b"value"[..])),
                        Err(error) => return (error, Instant::now(), client.gets_stats()),
                    }
                    if round == 20 {
                        started.send(()).expect("somebody waits");
                    }
                }
                unreachable!("rounds do not run out")
            })
        })
        .collect();
    (0..loads.len()).for_each(|_| under_load.recv().expect("every client gets that far"));

    let died = Instant::now();
    replace();
    for load in loads {
        let (error, noticed, stats) = load.join().expect("no panic");
        let after = noticed - died;
        eprintln!("noticed after {after:?}: {error}; the table was lost for {:?}", stats.why);
        assert_eq!(error.kind(), Some(ErrorKind::Disconnected), "{error}");
        assert_eq!(stats.lost, 1, "{stats:?}");
        assert!(after < NOTICED_WITHIN, "noticed after {after:?}");
    }
    let mut client = connect(fabric, addr).expect("connects");
    assert_eq!(get(&mut client, b"key"), None, "it is another store");
    block_on(client.put(b"key", b"another")).expect("puts");
    assert_eq!(get(&mut client, b"key").as_deref(), Some(&b"another"[..]));
    assert_eq!(client.gets_stats().reads.reads, 2, "by reads");
}
