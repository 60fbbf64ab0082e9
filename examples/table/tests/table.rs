//! A table and its readers, on the mock.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::thread;

use futures_executor::block_on;
use trespass_core::{ErrorKind, Fabric, Incoming, ListenerExt, RecvSideExt, TransportError, TryError};
use trespass_example_table::{Layout, Lookup, NotPlaced, Reader, ReaderConfig, Secret, Table, TableStats};
use trespass_mock::{MockConfig, MockFabric, MockNet, MockSharedRegion, MockTrack, MockWindow};

type Lent = trespass_example_table::Lent<MockWindow>;

/// A table on one fabric, and a peer on another.
struct World {
    owner: MockFabric,
    peer: MockFabric,
    table: Table<MockSharedRegion>,
    lent: Lent,
}

impl World {
    fn new(buckets: usize, ways: usize, entry: usize) -> Self {
        let net = MockNet::new();
        let fabric = || net.fabric(MockConfig::default()).expect("the defaults will do");
        let (owner, peer) = (fabric(), fabric());
        let layout = Layout::new(buckets, ways, entry).expect("a layout");
        let table = Table::create(&owner, layout, Secret::from_seed(5)).expect("memory");
        let lent = table.lend().expect("a window");
        Self { owner, peer, table, lent }
    }

    /// A reader, and the end of its track that the owner keeps.
    fn reader(&self, config: ReaderConfig) -> (Reader<MockTrack>, MockTrack) {
        let mut listener = self.owner.listen(&"table".parse().expect("an address")).expect("a listener");
        block_on(async {
            let connecting = self.peer.connect(&"table".parse().expect("an address"));
            let kept = listener.incoming().await.expect("a request").accept().await.expect("accepted");
            let track = connecting.await.expect("connected");
            (Reader::new(&self.peer, track, self.lent.directory(), config).expect("memory"), kept)
        })
    }
}

fn find(reader: &mut Reader<MockTrack>, key: &[u8]) -> (Lookup, Vec<u8>) {
    let lookup = block_on(reader.find(key)).expect("the track lives");
    (lookup, reader.value().to_vec())
}

#[test]
fn a_look_up_is_one_read_and_nobody_elses_business() {
    let world = World::new(8, 4, 64);
    let (mut reader, kept) = world.reader(ReaderConfig::default());
    assert_eq!(find(&mut reader, b"key").0, Lookup::Absent);
    let first = world.table.put(b"key", b"value").expect("there is room");
    assert_eq!(find(&mut reader, b"key"), (Lookup::Found { version: first }, b"value".to_vec()));
    let second = world.table.put(b"key", b"").expect("there is room");
    assert!(second > first);
    assert_eq!(find(&mut reader, b"key"), (Lookup::Found { version: second }, Vec::new()));
    assert!(world.table.remove(b"key") && !world.table.remove(b"key"));
    assert_eq!(find(&mut reader, b"key").0, Lookup::Absent);

    assert_eq!(reader.stats().reads, 4);
    // What the owner's end of the track has done: nothing at all.
    let counters = kept.counters();
    assert_eq!((counters.sends, counters.operations, counters.arms), (0, 0, 0));
    let peer = reader.track().counters();
    assert_eq!((peer.sends, peer.operations), (0, 4));
}

#[test]
fn what_does_not_fit_is_elsewhere_until_it_is_removed() {
    let world = World::new(1, 2, 64);
    let (mut reader, _kept) = world.reader(ReaderConfig::default());
    let table = &world.table;
    let too_long = |len| Err(NotPlaced::TooLong { len, longest: 40 });

    // Never here: whatever is not found may be it.
    assert_eq!(table.put(b"long", &[1; 40]), too_long(44));
    assert_eq!(find(&mut reader, b"long").0, Lookup::Elsewhere);
    assert_eq!(find(&mut reader, b"nobody").0, Lookup::Elsewhere);
    assert_eq!(table.put(b"long", b"short"), Err(NotPlaced::Full), "a key does not move while it exists");
    assert!(table.remove(b"long"));
    assert_eq!(find(&mut reader, b"nobody").0, Lookup::Absent);
    assert!(table.put(b"long", b"short").is_ok());

    // Here, then too long: the entry says so, and others are not concerned.
    assert_eq!(table.put(b"long", &[1; 40]), too_long(44));
    assert_eq!(find(&mut reader, b"long").0, Lookup::Elsewhere);
    assert_eq!(find(&mut reader, b"nobody").0, Lookup::Absent);
    assert_eq!(table.stats(), stats(0, 1));
    let version = table.put(b"long", b"short again").expect("it has its entry");
    assert_eq!(find(&mut reader, b"long"), (Lookup::Found { version }, b"short again".to_vec()));

    // One too many.
    assert!(table.put(b"second", b"").is_ok());
    assert_eq!(table.put(b"third", b""), Err(NotPlaced::Full));
    assert_eq!(table.put(b"third", b""), Err(NotPlaced::Full), "noted once");
    assert_eq!(table.stats(), stats(2, 1));
    assert_eq!(find(&mut reader, b"third").0, Lookup::Elsewhere);
    assert!(table.remove(b"second"));
    assert_eq!(find(&mut reader, b"second").0, Lookup::Elsewhere);
    assert!(table.remove(b"third") && table.put(b"third", b"3").is_ok());
    assert_eq!(find(&mut reader, b"second").0, Lookup::Absent);
    let mut value = Vec::new();
    assert!(table.read(b"third", &mut value).is_some_and(|version| version > 0));
    assert_eq!((value.as_slice(), table.read(b"second", &mut Vec::new())), (&b"3"[..], None));
    assert_eq!(table.stats(), stats(2, 0));
}

fn stats(entries: u64, elsewhere: u64) -> TableStats {
    let mut stats = TableStats::default();
    (stats.entries, stats.elsewhere) = (entries, elsewhere);
    stats
}

#[test]
fn what_cannot_be_noted_is_never_called_absent() {
    let world = World::new(1, 1, 64);
    let (mut reader, _kept) = world.reader(ReaderConfig::default());
    let key = |number: u32| [&number.to_le_bytes()[..], &[0; 96]].concat();
    for number in 0..1000 {
        assert!(world.table.put(&key(number), b"").is_err());
    }
    assert!(world.table.stats().elsewhere < 100, "what is noted is bounded");
    for number in 0..1000 {
        world.table.remove(&key(number));
    }
    assert_eq!(world.table.stats(), stats(0, 0));
    assert_eq!(find(&mut reader, &key(999)).0, Lookup::Elsewhere);
}

/// What the documents say of how many keys find their bucket full.
#[test]
fn half_full_tables_have_few_full_buckets() {
    for (ways, in_a_thousand) in [(1, 200..230), (2, 95..125), (4, 30..50), (8, 4..15)] {
        let world = World::new(16_384 / ways, ways, 40);
        for number in 0..8192_u32 {
            // Whether it was placed is counted.
            let _ = world.table.put(&number.to_le_bytes(), b"");
        }
        let TableStats { entries, elsewhere, .. } = world.table.stats();
        assert_eq!(entries + elsewhere, 8192);
        let full = 1000 * elsewhere / 8192;
        assert!(in_a_thousand.contains(&full), "{full} in a thousand with {ways} ways");
    }
}

#[test]
fn many_at_once() {
    let world = World::new(500, 4, 64);
    let keys: Vec<Vec<u8>> = (0..1000_u32).map(|number| number.to_string().into_bytes()).collect();
    let mut values = HashMap::new();
    for key in keys.iter().step_by(2) {
        match world.table.put(key, &[&key[..], b" is there"].concat()) {
            Ok(version) => drop(values.insert(key.clone(), Some(version))),
            Err(_) => drop(values.insert(key.clone(), None)),
        }
    }
    let placed = values.values().filter(|version| version.is_some()).count();
    assert!(placed > 480, "a quarter full, few find their bucket full: {placed}");
    for in_flight in [1, 2, 7, 100] {
        let (mut reader, _kept) = world.reader(ReaderConfig::default().with_in_flight(in_flight));
        let mut heard = vec![0; keys.len()];
        block_on(reader.find_many(&keys, |index, lookup, value| {
            heard[index] += 1;
            match (lookup, values.get(&keys[index])) {
                (Lookup::Found { version }, Some(Some(wanted))) if version == *wanted => {
                    assert_eq!(value, [&keys[index][..], b" is there"].concat());
                }
                (Lookup::Absent, None) | (Lookup::Elsewhere, Some(None) | None) => assert!(value.is_empty()),
                (lookup, wanted) => panic!("{lookup:?}, not {wanted:?}"),
            }
        }))
        .expect("the track lives");
        assert!(heard.iter().all(|count| *count == 1));
        assert_eq!(reader.stats().reads, keys.len() as u64);
        // As many as go share a doorbell.
        let counters = reader.track().counters();
        let at_most = keys.len().div_ceil(in_flight.min(4)) as u64 + 1;
        assert!(counters.doorbells <= at_most, "{} doorbells with {in_flight} under way", counters.doorbells);
    }
}

#[test]
fn a_look_up_that_is_dropped_comes_to_nobody_else() {
    let world = World::new(8, 4, 64);
    let version = world.table.put(b"a", b"of a").expect("there is room");
    world.table.put(b"b", b"of b").expect("there is room");
    for in_flight in [1, 3] {
        let (mut reader, _kept) = world.reader(ReaderConfig::default().with_in_flight(in_flight));
        for _ in 0..20 {
            let _ = pin!(reader.find(b"b")).poll(&mut Context::from_waker(Waker::noop()));
            reader.try_begin(b"b", 7).expect("there is room for one");
            let _ = pin!(reader.find_many(&[b"b"; 9], |_, _, _| {})).poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(find(&mut reader, b"a"), (Lookup::Found { version }, b"of a".to_vec()));
        }
    }
}

#[test]
fn a_thread_that_polls() {
    let world = World::new(8, 4, 64);
    let version = world.table.put(b"a", b"of a").expect("there is room");
    let (mut reader, _kept) = world.reader(ReaderConfig::default().with_in_flight(2));
    assert_eq!(reader.try_finish(), Err(TryError::WouldBlock));
    for _ in 0..3 {
        assert_eq!(reader.try_begin(b"a", 1), Ok(()));
        assert_eq!(reader.try_begin(b"b", 2), Ok(()));
        // Memory there may be, a permit there is none.
        while reader.try_begin(b"a", 3) == Ok(()) {}
        reader.flush().expect("the track lives");
        assert_eq!(reader.try_finish(), Ok((1, Lookup::Found { version })));
        assert_eq!(reader.value(), b"of a");
        assert_eq!(reader.try_finish(), Ok((2, Lookup::Absent)));
        assert_eq!(reader.value(), b"");
        while reader.try_finish().is_ok() {}
    }
}

#[test]
fn a_table_that_is_withdrawn_ends_its_readers_with_an_error_that_says_so() {
    let World { owner, peer, table, lent } = World::new(8, 4, 64);
    table.put(b"a", b"of a").expect("there is room");
    let world = World { lent: table.lend().expect("another window"), owner, peer, table };
    let (mut other, _other_kept) = world.reader(ReaderConfig::default());
    let world = World { lent, ..world };
    let (mut reader, mut kept) = world.reader(ReaderConfig::default());
    assert!(matches!(find(&mut reader, b"a").0, Lookup::Found { .. }));
    world.lent.revoke().expect("never fails here");
    for _ in 0..3 {
        let error = block_on(reader.find(b"a")).expect_err("nobody may read");
        assert_eq!(error.kind(), ErrorKind::RemoteAccess, "{error}");
        let error = block_on(reader.find_many(&[b"a"; 40], |_, _, _| {})).expect_err("nobody may read");
        assert_eq!(error.kind(), ErrorKind::RemoteAccess, "{error}");
    }
    assert!(block_on(kept.recv()).is_err(), "the owner hears of it");
    assert!(matches!(find(&mut other, b"a").0, Lookup::Found { .. }), "who has another window reads on");
}

#[test]
fn an_owner_that_dies_ends_its_readers() {
    let world = World::new(8, 4, 64);
    let (mut reader, _kept) = world.reader(ReaderConfig::default());
    world.owner.kill();
    let error = block_on(reader.find(b"a")).expect_err("nobody is there");
    assert!(matches!(error.kind(), ErrorKind::Closed | ErrorKind::Disconnected), "{error}");
}

/// Threads: every value says what it is, and is checked without the table's help.
#[test]
fn eight_readers_beside_two_writers() {
    const KEYS: u64 = 16;
    // Each writer has keys of its own, whose versions grow.
    fn value(key: u64, round: u64) -> Vec<u8> {
        let len = 8 + (key * 7 + round * 13) % 80;
        (0..len).map(|at| (key * 31 + round * 17 + at) as u8).chain(round.to_le_bytes()).collect()
    }
    let world = World::new(4, 16, 128);
    for key in 0..KEYS {
        world.table.put(&key.to_le_bytes(), &value(key, 0)).expect("there is room");
    }
    let table = &world.table;
    let torn: u64 = thread::scope(|scope| {
        for writer in 0..2 {
            scope.spawn(move || {
                for round in 1..2000 {
                    let key = 2 * (round % (KEYS / 2)) + writer;
                    table.put(&key.to_le_bytes(), &value(key, round)).expect("there is room");
                }
            });
        }
        let readers: Vec<_> = (0..8)
            .map(|_| {
                let (mut reader, kept) = world.reader(ReaderConfig::default());
                scope.spawn(move || {
                    let mut latest = [0; KEYS as usize];
                    for round in 0..2000 {
                        let key = round % KEYS;
                        match block_on(reader.find(&key.to_le_bytes())).expect("the track lives") {
                            Lookup::Found { .. } => {}
                            other => panic!("{other:?}"),
                        }
                        let (_, stamp) = reader.value().split_last_chunk().expect("a stamp");
                        let stamp = u64::from_le_bytes(*stamp);
                        assert_eq!(reader.value(), value(key, stamp));
                        assert!(stamp >= latest[key as usize], "round {stamp} after {}", latest[key as usize]);
                        latest[key as usize] = stamp;
                    }
                    drop(kept);
                    reader.stats().torn
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("no panic")).sum()
    });
    eprintln!("{torn} of 16000 reads were torn");
}
