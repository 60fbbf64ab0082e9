//! Two ends and what is under way between them: every state that they can reach.
//!
//! At each step anything may happen that the rules allow, in any order: a frame is sent or arrives, an application holds or
//! lets go, the track posts again what was given back, an end reports its credits. In every state that this leads to
//! - no frame that is under way lacks a receive, and none that arrives is a violation;
//! - once all that is under way has arrived, and ends that wait have reported what is due, whatever applications hold there
//!   is a credit for a Fin, for a Bye, and for a Credit;
//! - if applications hold no more than they may, both ends may send data again: no deadlock can be reached.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{CONTROL_RESERVE, Credits, Rank};
use crate::wire::MIN_WINDOW;

#[derive(Clone, PartialEq, Eq, Hash)]
struct End {
    credits: Credits,
    posted: u64,
    /// Messages in the hands of the application.
    held: u64,
    /// Given back, and not posted again.
    returned: u64,
    /// A message is begun: it may be withdrawn.
    open: bool,
    finished: bool,
    left: bool,
    /// Under way to the other end: whether it is data, and what it says is posted.
    sent: VecDeque<(bool, u64)>,
}

#[derive(Clone, Copy)]
struct Rules {
    window: u32,
    /// With so many in hand the track posts them again; fewer may wait while the device has half its receives.
    batch: u64,
    /// Which ends have data to send, which may end.
    data: [bool; 2],
    ends: [bool; 2],
}

type Pair = [End; 2];

impl End {
    /// Right after the handshake: one frame each way.
    fn new(rules: Rules, connector: bool) -> Self {
        let window = u64::from(rules.window);
        let mut credits = Credits::new(rules.window, rules.window);
        match connector {
            true => {
                credits.on_sent(window);
                credits.on_received(window as u32).unwrap();
            }
            false => {
                credits.on_received(window as u32).unwrap();
                credits.on_sent(window);
            }
        }
        Self {
            credits,
            posted: window,
            held: 0,
            returned: 1,
            open: false,
            finished: false,
            left: false,
            sent: VecDeque::new(),
        }
    }

    fn send(&mut self, data: bool) {
        self.sent.push_back((data, self.posted));
        self.credits.on_sent(self.posted);
    }

    fn receive(&mut self, (data, posted): (bool, u64)) {
        self.credits.on_received(posted as u32).expect("an honest peer breaks no rule");
        match data {
            true => self.held += 1,
            false => self.returned += 1,
        }
    }

    fn post(&mut self) {
        self.posted += self.returned;
        self.returned = 0;
    }
}

/// All that one end may do next.
fn moves(pair: &Pair, at: usize, rules: Rules) -> Vec<Pair> {
    let mut next = Vec::new();
    let mut add = |act: &dyn Fn(&mut Pair)| {
        let mut pair = pair.clone();
        act(&mut pair);
        next.push(pair);
    };
    let end = &pair[at];
    let talking = rules.data[at] && !end.finished && !end.left;
    if talking && end.credits.may_send(Rank::Data) {
        add(&|pair| {
            pair[at].send(true);
            pair[at].open = rules.ends[at];
        });
    }
    if !end.left && end.credits.may_send(Rank::Data) {
        // A beat.
        add(&|pair| pair[at].send(false));
    }
    if talking && end.open && end.credits.may_send(Rank::Abort) {
        add(&|pair| {
            pair[at].send(false);
            pair[at].open = false;
        });
    }
    if rules.ends[at] && !end.finished && !end.left && end.credits.may_send(Rank::Fin) {
        add(&|pair| {
            pair[at].send(false);
            (pair[at].finished, pair[at].open) = (true, false);
        });
    }
    if rules.ends[at] && !end.left && end.credits.may_send(Rank::Bye) {
        add(&|pair| {
            pair[at].send(false);
            (pair[at].left, pair[at].open) = (true, false);
        });
    }
    if end.credits.due_before_wait(end.posted) && end.credits.may_send(Rank::Credit) {
        add(&|pair| pair[at].send(false));
    }
    if end.held > 0 {
        add(&|pair| {
            pair[at].held -= 1;
            pair[at].returned += 1;
        });
    }
    if end.returned >= rules.batch {
        add(&|pair| pair[at].post());
    }
    if !pair[1 - at].sent.is_empty() {
        add(&|pair| arrive(pair, at));
    }
    next
}

fn arrive(pair: &mut Pair, at: usize) {
    if let Some(frame) = pair[1 - at].sent.pop_front() {
        pair[at].receive(frame);
    }
}

/// Lets everything come to rest, with each application holding up to `hold` messages, and each track keeping back what it
/// may.
fn rest(mut pair: Pair, hold: u64, rules: Rules) -> Pair {
    for _ in 0..1000 {
        let mut moved = false;
        for at in [0, 1] {
            while !pair[1 - at].sent.is_empty() {
                arrive(&mut pair, at);
                moved = true;
            }
            let end = &mut pair[at];
            if end.held > hold {
                end.returned += end.held - hold;
                end.held = hold;
            }
            let with_device = end.posted - end.credits.received;
            if end.returned >= rules.batch || with_device < u64::from(rules.window / 2) {
                end.post();
            }
            if end.credits.due_before_wait(end.posted) && end.credits.may_send(Rank::Credit) {
                end.send(false);
                moved = true;
            }
        }
        if !moved {
            return pair;
        }
    }
    panic!("the exchange of credits does not die out");
}

fn check(pair: &Pair, rules: Rules) {
    for at in [0, 1] {
        let (from, to) = (&pair[at], &pair[1 - at]);
        assert!(
            to.credits.received + from.sent.len() as u64 <= to.posted,
            "a frame is under way for which no receive is posted"
        );
    }
    for hold in [0, u64::from(rules.window) - CONTROL_RESERVE - 1 - rules.batch] {
        for end in &rest(pair.clone(), hold, rules) {
            assert!(end.credits.may_send(Rank::Data), "a deadlock");
        }
    }
    for end in &rest(pair.clone(), u64::MAX, rules) {
        assert!(end.finished || end.left || end.credits.may_send(Rank::Fin), "no credit for a Fin");
        assert!(end.left || end.credits.may_send(Rank::Bye), "no credit for a Bye");
        assert!(end.credits.may_send(Rank::Credit), "no credit for a Credit");
    }
}

/// The same state, whenever it comes: counts are taken from the last frame that arrived.
fn relative(pair: &Pair) -> Pair {
    let base = [pair[1].credits.received, pair[0].credits.received];
    let mut pair = pair.clone();
    for at in [0, 1] {
        let (out, inward) = (base[at], base[1 - at]);
        let end = &mut pair[at];
        end.credits.sent -= out;
        end.credits.granted -= out;
        end.credits.received -= inward;
        end.credits.advertised -= inward;
        end.credits.report_at = 0;
        end.posted -= inward;
        end.sent.iter_mut().for_each(|(_, posted)| *posted -= inward);
    }
    pair
}

/// 128 bits of a state: that two of the states here share them will not happen.
fn fingerprint(pair: &Pair) -> u128 {
    let state = relative(pair);
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, &state).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

/// Walks all that can be reached, and returns how many states that are.
fn explore(rules: Rules) -> usize {
    let start = [End::new(rules, true), End::new(rules, false)];
    let mut seen = HashSet::from([fingerprint(&start)]);
    let mut front = vec![start];
    while let Some(pair) = front.pop() {
        check(&pair, rules);
        let next = [0, 1].iter().flat_map(|at| moves(&pair, *at, rules));
        front.extend(next.filter(|pair| seen.insert(fingerprint(pair))));
    }
    seen.len()
}

#[test]
fn both_talk() {
    let states = explore(Rules { window: MIN_WINDOW, batch: 2, data: [true, true], ends: [false, false] });
    assert!(states > 10_000, "only {states} states: the model is too tame");
}

#[test]
fn one_talks_and_ends() {
    let states = explore(Rules { window: MIN_WINDOW, batch: 2, data: [true, false], ends: [true, false] });
    assert!(states > 10_000, "only {states} states: the model is too tame");
}

/// Some minutes in a release build: `cargo test --release -p trespass-carriers --lib credit -- --ignored`.
#[test]
#[ignore = "walks ten million states"]
fn everything_may_happen() {
    explore(Rules { window: MIN_WINDOW, batch: 1, data: [true, true], ends: [false, false] });
    explore(Rules { window: MIN_WINDOW, batch: 1, data: [true, false], ends: [true, true] });
    explore(Rules { window: MIN_WINDOW, batch: 2, data: [true, true], ends: [true, true] });
}
