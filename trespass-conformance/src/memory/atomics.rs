//! Atomic operations: on one word, from many tracks.

use std::sync::Barrier;
use std::thread;

use trespass_core::{Access, SharedRegion};

use super::{Loan, content, loan, put_add, put_swap, sync, told, word_of};
use crate::harness::{MemoryHarness, skip};
use crate::traffic::{Pair, join};
use crate::wait::Waits;

const TRACKS: usize = 4;

fn without<H: MemoryHarness>(h: &H) -> bool {
    if !h.has_atomics() {
        skip("this fabric has no atomic operations");
    }
    !h.has_atomics()
}

/// Additions and exchanges do what they say, say what was there before, and touch nothing beside the word.
pub fn atomics_say_what_was_there<H: MemoryHarness>(h: &H) {
    if without(h) {
        return;
    }
    let Loan { pair: Pair { mut client, mut server, .. }, lent } = loan(h, 40, Access::ReadWrite);
    let word = lent.remote.word(16).expect("an aligned word");
    let mut expected = 0_u64;
    let mut tag = 0;
    let adds = [1, 0, 41, u64::MAX, 1 << 63, 1 << 63, u64::MAX - 5];
    let swaps = [(true, 5), (false, 6), (true, u64::MAX), (false, 0), (true, 0), (true, 0)];
    for add in adds {
        tag += 1;
        let was = h.wait("an addition", async {
            put_add(&mut client, word, add, tag).await;
            word_of(&mut client, tag).await
        });
        assert_eq!(was.unwrap_or_else(|error| panic!("cannot add: {error}")), expected, "what an addition found");
        expected = expected.wrapping_add(add);
    }
    for (right, new) in swaps {
        tag += 1;
        let guess = if right { expected } else { expected.wrapping_add(1) };
        let was = h.wait("an exchange", async {
            put_swap(&mut client, word, guess, new, tag).await;
            word_of(&mut client, tag).await
        });
        assert_eq!(was.unwrap_or_else(|error| panic!("cannot exchange: {error}")), expected, "what an exchange found");
        expected = if right { new } else { expected };
        sync(h, &mut client, &mut server);
        assert_eq!(lent.shared.load(16), Ok(expected), "the word after an exchange with a {right} guess");
    }
    let all = content(&lent.shared);
    assert!(all[..16].iter().chain(&all[24..]).all(|byte| *byte == 0), "an atomic operation touched other words");
    // And what the owner writes is what is found.
    lent.shared.store(16, 99).expect("a word");
    let was = h.wait("an addition", async {
        put_add(&mut client, word, 1, 0).await;
        word_of(&mut client, 0).await
    });
    assert_eq!(was.ok(), Some(99), "an addition to a word that its owner wrote");
}

/// Additions from several tracks, each on a thread of its own, sum up exactly, and each found a sum that no other did.
pub fn additions_sum_exactly<H: MemoryHarness>(h: &H) {
    if without(h) {
        return;
    }
    let Loan { mut pair, lent } = loan(h, 64, Access::ReadWrite);
    let count = h.many(1000) as u64;
    let word = lent.remote.word(8).expect("an aligned word");
    let tracks: Vec<_> = (0..TRACKS).map(|_| join(h, &pair.fabrics.client, &mut pair.listener)).collect();
    let mut found: Vec<u64> = thread::scope(|scope| {
        let adders = tracks.into_iter().map(|(mut client, server)| {
            scope.spawn(move || {
                let mut found = Vec::new();
                let batch = trespass_core::RemoteMemory::fetch_slots(&client).min(4) as u64;
                let mut first = 0;
                while first < count {
                    let tags = first..(first + batch).min(count);
                    h.wait("additions", async {
                        for tag in tags.clone() {
                            put_add(&mut client, word, 3, tag).await;
                        }
                        for tag in tags.clone() {
                            found.push(word_of(&mut client, tag).await.unwrap_or_else(|error| panic!("{error}")));
                        }
                    });
                    first = tags.end;
                }
                drop((client, server));
                found
            })
        });
        let adders: Vec<_> = adders.collect();
        adders.into_iter().flat_map(|adder| adder.join().expect("an adder")).collect()
    });
    let total = TRACKS as u64 * count;
    assert_eq!(lent.shared.load(8), Ok(3 * total), "the sum of {total} additions of 3");
    found.sort_unstable();
    assert!(found.into_iter().eq((0..total).map(|at| 3 * at)), "two additions found the same");
}

/// Of several exchanges at once exactly one finds what all expect, and the others find what it wrote.
pub fn an_exchange_elects_one<H: MemoryHarness>(h: &H) {
    if without(h) {
        return;
    }
    let Loan { mut pair, lent } = loan(h, 4096, Access::ReadWrite);
    let rounds = h.many(200).min(512);
    let tracks: Vec<_> = (0..TRACKS).map(|_| join(h, &pair.fabrics.client, &mut pair.listener)).collect();
    let start = Barrier::new(TRACKS);
    let found: Vec<Vec<u64>> = thread::scope(|scope| {
        let voters = tracks.into_iter().zip(1..).map(|((mut client, server), name)| {
            let (start, remote) = (&start, told(&lent.window));
            scope.spawn(move || {
                start.wait();
                let vote = |round: usize| {
                    let word = remote.word(8 * round as u64).expect("an aligned word");
                    h.wait("an exchange", async {
                        put_swap(&mut client, word, 0, name, round as u64).await;
                        word_of(&mut client, round as u64).await.unwrap_or_else(|error| panic!("{error}"))
                    })
                };
                let found: Vec<_> = (0..rounds).map(vote).collect();
                drop(server);
                found
            })
        });
        let voters: Vec<_> = voters.collect();
        voters.into_iter().map(|voter| voter.join().expect("a voter")).collect()
    });
    for round in 0..rounds {
        let found: Vec<u64> = found.iter().map(|found| found[round]).collect();
        let winners: Vec<_> = (0..TRACKS).filter(|voter| found[*voter] == 0).collect();
        assert_eq!(winners.len(), 1, "in round {round} these found the word free: {winners:?}");
        let name = winners[0] as u64 + 1;
        assert_eq!(lent.shared.load(8 * round), Ok(name), "the word after round {round}");
        let others = (0..TRACKS).filter(|voter| *voter != winners[0]);
        assert!(others.map(|voter| found[voter]).all(|was| was == name), "losers of round {round} found others");
    }
}
