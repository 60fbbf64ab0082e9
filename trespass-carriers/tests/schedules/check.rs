//! What both ends of a carrier know must fit together.

use trespass_core::ErrorKind;

use crate::end::Known;
use crate::subject::{Promise, Subject};

/// What came of an end: what it knows, or why it never opened.
pub(crate) type Outcome = Result<Known, ErrorKind>;

/// What a run was, and what was counted beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// The plan breaks something.
    pub(crate) breaks: bool,
    /// Nothing gets lost, though it may: no faults were asked for, and the receivers had room.
    pub(crate) perfect: bool,
    /// Messages that met a receiver that was not ready.
    pub(crate) rnr: u64,
    /// Accesses to memory that were refused.
    pub(crate) refusals: u64,
    /// Datagrams that arrived with something wrong in them.
    pub(crate) corrupted: u64,
}

/// Whether all fits.
pub(crate) fn check<S: Subject>(pairs: &[(Outcome, Outcome)], mut run: Run) -> Result<(), String> {
    if S::PROMISE != Promise::Some && run.rnr > 0 {
        return Err(format!("{} messages met a receiver that was not ready", run.rnr));
    }
    let dropped = |outcome: &Outcome| outcome.as_ref().is_ok_and(|known| known.dropped);
    run.breaks |= S::PROMISE != Promise::Some && pairs.iter().any(|(left, right)| dropped(left) || dropped(right));
    if !run.breaks && run.refusals > 0 {
        return Err(format!("{} accesses to memory were refused", run.refusals));
    }
    let mut odd = 0;
    for (left, right) in pairs {
        match (left, right) {
            (Ok(left), Ok(right)) => {
                odd += both_ways::<S>(left, right, run).map_err(|why| format!("left to right: {why}"))?;
                odd += both_ways::<S>(right, left, run).map_err(|why| format!("right to left: {why}"))?;
            }
            _ if run.breaks || may_fail_to_open::<S>(run) => {}
            _ => return Err(format!("no carriers: {:?}, {:?}", left.as_ref().err(), right.as_ref().err())),
        }
    }
    match odd <= run.corrupted {
        true => Ok(()),
        false => Err(format!("{odd} messages that nobody sent, where {} datagrams were corrupted", run.corrupted)),
    }
}

/// A handshake over a network that loses may take too long, and one of which the network makes something else be refused.
fn may_fail_to_open<S: Subject>(run: Run) -> bool {
    S::PROMISE == Promise::Some && !run.perfect
}

/// How many messages came that nobody sent: only where the network makes others of them.
fn both_ways<S: Subject>(from: &Known, to: &Known, run: Run) -> Result<u64, String> {
    let told = |what: &str| {
        let (sent, received) = (from.sent.len(), to.received.len());
        format!("{what}: {sent} sent, {received} received\nfrom {}\nto {}", brief(from), brief(to))
    };
    if let Some(wrong) = &from.wrong {
        return Err(told(wrong));
    }
    let odd = match S::PROMISE {
        Promise::Some => strangers(from, to, run).ok_or_else(|| told("lost where nothing gets lost"))?,
        _ if arrived_in_order::<S>(from, to, run) => 0,
        _ => return Err(told("not what was sent")),
    };
    if to.goodbye && !from.finished && run.corrupted == 0 {
        return Err(told("a goodbye that nobody said"));
    }
    if !run.breaks {
        ended_well::<S>(from, to).map_err(|why| told(&why))?;
    }
    Ok(odd)
}

/// Whether all of it came, or, where something broke or the receiver left, the beginning of it.
fn arrived_in_order<S: Subject>(from: &Known, to: &Known, run: Run) -> bool {
    let some_will_do = to.left || (run.breaks && !to.goodbye);
    let maybe = || from.sent.iter().chain(&from.doubtful);
    if S::PROMISE == Promise::Bytes {
        let (got, sent) = (to.received.concat(), from.sent.concat());
        let more: Vec<u8> = maybe().flatten().copied().collect();
        return got == sent || (some_will_do && more.starts_with(&got));
    }
    to.received == from.sent
        || (some_will_do
            && to.received.len() <= maybe().count()
            && to.received.iter().eq(maybe().take(to.received.len())))
}

/// How many of those that came are none of those that were sent, each taken once. `None` where one is missing that cannot be.
fn strangers(from: &Known, to: &Known, run: Run) -> Option<u64> {
    let mut left: Vec<&Vec<u8>> = from.sent.iter().chain(&from.doubtful).collect();
    let mut odd = 0;
    for got in &to.received {
        match left.iter().position(|sent| *sent == got) {
            Some(at) => _ = left.swap_remove(at),
            None => odd += 1,
        }
    }
    let all_must_come = run.perfect && !run.breaks && ![to.left, to.dropped, from.dropped].contains(&true);
    (!all_must_come || left.is_empty()).then_some(odd)
}

/// Whether nothing went wrong at `from`, where nothing broke.
fn ended_well<S: Subject>(from: &Known, to: &Known) -> Result<(), String> {
    // Whoever has heard that the peer left, or has left, can do no more.
    let may_be_closed = from.left || to.left || (S::PROMISE == Promise::Some && from.goodbye);
    match from.error {
        None => {}
        Some(_) if from.dropped => {}
        Some(ErrorKind::Closed) if may_be_closed => {}
        Some(error) => return Err(format!("{error:?} where nothing broke")),
    }
    let clean = match from.closed {
        Some(Ok(())) => true,
        None => from.dropped || from.parted,
        // One that parts leaves no word: that all arrived there, of which this end may not have heard, nobody can tell any more.
        Some(Err(error)) => to.parted && error == ErrorKind::Disconnected,
    };
    if !clean {
        return Err("a close that was not clean, where nothing broke".to_owned());
    }
    let must_hear = S::PROMISE != Promise::Some && !from.left;
    match must_hear && !from.goodbye {
        true => Err("no goodbye was heard, where nothing broke".to_owned()),
        false => Ok(()),
    }
}

fn brief(known: &Known) -> String {
    let Known { goodbye, finished, left, dropped, parted, error, closed, .. } = known;
    format!(
        "goodbye {goodbye}, finished {finished}, left {left}, dropped {dropped}, parted {parted}, {error:?}, closed {closed:?}"
    )
}
