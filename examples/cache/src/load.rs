//! Clients who read and write keys of their own, and know so what they may read.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use trespass::core::{InOrder, Lossless, ThreadFabric, Track, wait};
use trespass_example_cache::source::Source;
use trespass_example_cache::{CacheError, Client};

use crate::options::Loading;

/// What one client did and saw.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    reads: u64,
    misses: u64,
    writes: u64,
    in_doubt: u64,
    unavailable: u64,
    /// Reads of something that may not be: an older value than the one that was acknowledged, or nothing.
    wrong: u64,
}

/// No key's time is up in this one.
const TTL: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn run<F, S>(client: impl Fn() -> Client<F, S> + Sync, loading: &Loading) -> Result<(), Box<dyn Error>>
where
    F: ThreadFabric<Addr = SocketAddr, Track: Track<Delivery: Lossless + InOrder>>,
    S: Source<SocketAddr>,
{
    let begun = Instant::now();
    let work = |number| wait(work(&client(), number, loading, begun));
    let tallies = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..loading.clients).map(|number| scope.spawn(move || work(number))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a client panicked")).collect::<Result<Vec<_>, _>>()
    })?;
    let took = begun.elapsed().as_secs_f64();
    let sum = tallies.iter().fold(Tally::default(), |sum, tally| Tally {
        reads: sum.reads + tally.reads,
        misses: sum.misses + tally.misses,
        writes: sum.writes + tally.writes,
        in_doubt: sum.in_doubt + tally.in_doubt,
        unavailable: sum.unavailable + tally.unavailable,
        wrong: sum.wrong + tally.wrong,
    });
    let rate = (sum.reads + sum.writes) as f64 / took;
    println!("{sum:?}: {rate:.0} operations a second, by {} clients in {took:.1} s", loading.clients);
    match sum.wrong {
        0 => Ok(()),
        wrong => Err(format!("{wrong} reads were wrong").into()),
    }
}

async fn work<F, S>(client: &Client<F, S>, number: u32, loading: &Loading, begun: Instant) -> Tally
where
    F: ThreadFabric<Addr = SocketAddr, Track: Track<Delivery: Lossless + InOrder>>,
    S: Source<SocketAddr>,
{
    let mut tally = Tally::default();
    // Of each key: the least value that may be read. Values grow. Another run's are not known: a run begins with writes.
    let mut least = vec![None::<u64>; loading.keys as usize];
    let mut chance = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut value = u64::from(begun.elapsed().subsec_nanos());
    while begun.elapsed() < Duration::from_secs(loading.seconds) {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let at = (chance % u64::from(loading.keys)) as usize;
        let key = format!("client {number} key {at}");
        let known = least.get(at).copied().flatten();
        match known {
            Some(known) if (chance >> 32) % 100 < u64::from(loading.reads) => match client.get(key.as_bytes()).await {
                Ok(Some((_, bytes))) => {
                    tally.reads += 1;
                    let read = bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
                    tally.wrong += u64::from(read.is_none_or(|read| read < known));
                    least[at] = read;
                }
                Ok(None) => tally.misses += 1,
                Err(_) => tally.unavailable += 1,
            },
            _ => {
                value += 1;
                let mut bytes = vec![0; loading.size as usize];
                bytes[..8].copy_from_slice(&value.to_le_bytes());
                match client.put(key.as_bytes(), bytes, TTL).await {
                    Ok(_) => {
                        tally.writes += 1;
                        least[at] = Some(value);
                    }
                    Err(CacheError::InDoubt(_)) => tally.in_doubt += 1,
                    Err(_) => tally.unavailable += 1,
                }
            }
        }
    }
    tally
}
