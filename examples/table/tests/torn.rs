//! Readers beside a writer whose words a device sees in any order: nothing torn is ever taken for a value, nothing older
//! than what was acknowledged is read, and torn reads did happen.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use trespass_core::{Fabric, Incoming, ListenerExt, MemoryFabric, RecvSideExt, Region, Timer};
use trespass_example_table::{Layout, Lookup, Reader, ReaderConfig, ReaderStats, Secret, Table};
use trespass_mock::{MockConfig, MockFabric, MockPlan, MockSim, MockTrack, explore};

use support::Late;

const READERS: usize = 8;
const KEYS: usize = 6;
const PUTS: u64 = 60;
const LOOKUPS: usize = 60;

/// Chance that is the same for the same seed.
#[derive(Clone)]
struct Chance(Rc<Cell<u64>>);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)))
    }

    fn next(&self, below: u64) -> u64 {
        let mut word = self.0.get();
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        self.0.set(word);
        (word >> 11) % below
    }
}

fn key(number: usize) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

/// What was put by which write of the table, and what of each key was acknowledged.
#[derive(Default)]
struct Truth {
    /// By key and version; `None` where that removed it.
    writes: RefCell<HashMap<(usize, u64), Vec<u8>>>,
    /// The version of the write that is done, and whether the key was there after it, by key.
    done: RefCell<[(u64, bool); KEYS]>,
    /// The same of the write that was begun last.
    begun: RefCell<[(u64, bool); KEYS]>,
    writing: Cell<bool>,
}

async fn write<T: Timer>(
    table: Table<Late<trespass_mock::MockSharedRegion>>,
    memory: Late<trespass_mock::MockSharedRegion>,
    truth: Rc<Truth>,
    chance: Chance,
    timer: T,
) {
    for round in 1..=PUTS {
        let number = usize::try_from(chance.next(KEYS as u64)).expect("few");
        let gone = chance.next(5) == 0 && truth.done.borrow()[number].1;
        let version = match gone {
            true => {
                assert!(table.remove(&key(number)));
                // Removals count too, though nobody tells their number.
                truth.begun.borrow()[number].0
            }
            false => {
                // Alike in most words, as what is hard to tell apart.
                let mut value = vec![0; usize::try_from(chance.next(90)).expect("few")];
                value.iter_mut().step_by(17).for_each(|byte| *byte = round as u8);
                let version = table.put(&key(number), &value).expect("there is room");
                truth.writes.borrow_mut().insert((number, version), value);
                version
            }
        };
        truth.begun.borrow_mut()[number] = (version, !gone);
        while memory.pending() > 0 {
            memory.settle_one(chance.next(1 << 40));
            timer.sleep(Duration::from_micros(chance.next(3))).await;
        }
        truth.done.borrow_mut()[number] = (version, !gone);
        timer.sleep(Duration::from_micros(chance.next(20))).await;
    }
    truth.writing.set(false);
}

async fn read<T: Timer>(
    fabric: MockFabric,
    track: MockTrack,
    told: Vec<u8>,
    truth: Rc<Truth>,
    chance: Chance,
    timer: T,
) -> ReaderStats {
    let directory = trespass_example_table::Directory::decode(&told).expect("a directory");
    let config = ReaderConfig::default().with_attempts(1000).with_in_flight(3);
    let mut reader = Reader::new(&fabric, track, directory, config).expect("memory");
    for _ in 0..LOOKUPS {
        let number = usize::try_from(chance.next(KEYS as u64)).expect("few");
        let done = truth.done.borrow()[number];
        let lookup = reader.find(&key(number)).await.expect("the track lives");
        let begun = truth.begun.borrow()[number];
        match lookup {
            Lookup::Found { version } => {
                let writes = truth.writes.borrow();
                let value = writes.get(&(number, version)).expect("such a write was made");
                assert_eq!(reader.value(), value, "it is what that write put");
                assert!(version >= done.0, "version {version}, where {} was acknowledged", done.0);
                assert!(version <= begun.0);
            }
            // Whatever was there when this began was removed since, or is being.
            Lookup::Absent => assert!(!done.1 || begun != done, "the key was there all the time"),
            other => panic!("{other:?}"),
        }
        timer.sleep(Duration::from_micros(chance.next(10))).await;
    }
    reader.stats()
}

/// How many reads there were, and how many of them torn.
fn run(seed: u64) -> Result<(u64, u64), String> {
    let mut sim = MockSim::new(seed, MockPlan::seeded(seed, 2));
    let owner = sim.net().fabric(MockConfig::default()).expect("a fabric");
    let peer = sim.net().fabric(MockConfig::default()).expect("a fabric");
    // Room for all keys, however they fall: they share one bucket or two.
    let layout = Layout::new(2, KEYS, 128).expect("a layout");
    let memory = Late::new(owner.alloc(layout.bytes()).expect("memory").share());
    let table = Table::over(memory.clone(), layout, Secret::from_seed(seed)).expect("it fits");
    memory.settle();
    let lent = table.lend().expect("a window");
    let told = lent.directory().encode().to_vec();

    let (chance, truth) = (Chance::new(seed), Rc::new(Truth::default()));
    truth.writing.set(true);
    let mut listener = owner.listen(&"table".parse().expect("an address")).expect("a listener");
    let (spawner, timer) = (sim.spawner(), sim.timer());
    sim.spawn("owner", async move {
        for number in 0..READERS {
            let mut track = listener.incoming().await.expect("a reader").accept().await.expect("accepted");
            // Nothing is said on it: it is kept until its reader goes.
            spawner.spawn(format!("lent {number}"), async move { assert!(track.recv().await.is_err()) });
        }
    });
    let tasks: Vec<_> = (0..READERS)
        .map(|number| {
            let (peer, told, truth) = (peer.clone(), told.clone(), Rc::clone(&truth));
            let (chance, timer) = (chance.clone(), timer.clone());
            sim.spawn(format!("reader {number}"), async move {
                let track = peer.connect(&"table".parse().expect("an address")).await.expect("connects");
                read(peer, track, told, truth, chance, timer).await
            })
        })
        .collect();
    sim.spawn("writer", write(table, memory, Rc::clone(&truth), chance, timer));
    sim.run().map_err(|failure| failure.to_string())?;
    drop(lent);
    assert!(!truth.writing.get(), "it wrote to its end");
    let stats: Vec<_> = tasks.iter().map(|task| task.output().expect("it read to its end")).collect();
    assert!(stats.iter().all(|stats| stats.given_up == 0));
    Ok((stats.iter().map(|stats| stats.reads).sum(), stats.iter().map(|stats| stats.torn).sum()))
}

#[test]
fn nothing_torn_is_taken_for_a_value() {
    explore(200, |seed| run(seed).map(|_| ()));
}

/// The same seed is the same run, so this is no matter of luck.
#[test]
fn reads_are_torn_here() {
    let (reads, torn) = run(1).expect("it runs");
    eprintln!("{torn} of {reads} reads were torn");
    assert!(torn > 0);
    assert_eq!(run(1), Ok((reads, torn)));
}
