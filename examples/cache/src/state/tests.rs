use bytes::Bytes;

use super::*;
use crate::membership::Member;
use crate::store::Version;
use crate::wire::{Item, Read, Replicate, Write};

const LEASE: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_secs(3600);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn state(node: u16, incarnation: u64) -> State<String> {
    let settings = Settings { node: NodeId(node), incarnation, lease: LEASE, capacity: 1 << 20, longest: 1 << 10 };
    State::new(settings, None)
}

fn members(ids: &[u16]) -> Vec<Member<String>> {
    ids.iter().map(|id| Member { id: NodeId(*id), data: format!("d{id}"), control: format!("c{id}") }).collect()
}

/// Epochs from 1 on.
fn epochs(lines: &[&[u16]]) -> Membership<String> {
    let first = Membership::first(2, members(lines[0])).expect("a first");
    lines[1..].iter().fold(first, |before, line| before.followed_by(members(line)).expect("a next"))
}

/// A key of which `primary` is the primary and `other` has it, too, with these members.
fn key_of(membership: &Membership<String>, primary: u16, other: u16) -> Bytes {
    let view = View::new(membership.clone(), None);
    let mut keys = (0..10_000).map(|number| Bytes::from(format!("key {number}")));
    keys.find(|key| *view.replicas(key) == [NodeId(primary), NodeId(other)]).expect("there is one")
}

/// Each hears of the other, as by a beat.
fn beat(one: &mut State<String>, other: &mut State<String>, now: Duration) {
    let _ = other.heard(&one.presence(now), None, now);
    let _ = one.heard(&other.presence(now), Some(now), now);
    let _ = other.heard(&one.presence(now), Some(now), now);
}

/// `to` gets its keys from all of `from`.
fn get_keys(to: &mut State<String>, from: &mut [&mut State<String>], now: Duration) -> Result<(), Refusal> {
    let epoch = to.epoch().expect("an epoch");
    let by = to.presence(now);
    let presences = from.iter_mut().map(|other| other.pulled(&by, epoch, now)).collect::<Result<Vec<_>, _>>()?;
    for presence in &presences {
        to.heard(presence, Some(now), now)?;
    }
    let merge = to.merge(epoch, &presences)?;
    for other in from {
        for key in other.keys_of(by.node) {
            let clocks = Clocks { mine: now, theirs: now };
            let item: Option<Item> = other.item(epoch, &key)?;
            to.merged(epoch, &merge, other.settings.node, clocks, item.expect("it is there"))?;
        }
    }
    to.synced(epoch, now)
}

/// Nodes 1 and 2, who have their keys and know of each other.
fn pair(membership: &Membership<String>, now: Duration) -> (State<String>, State<String>) {
    let (mut one, mut two) = (state(1, 1), state(2, 1));
    for node in [&mut one, &mut two] {
        node.confirm(membership.clone(), now, now);
    }
    beat(&mut one, &mut two, now);
    get_keys(&mut one, &mut [&mut two], now).expect("they are there");
    get_keys(&mut two, &mut [&mut one], now).expect("they are there");
    beat(&mut one, &mut two, now);
    assert!(one.report().settled && two.report().settled);
    (one, two)
}

fn write(epoch: u64, key: &Bytes, value: Option<&'static str>) -> Write {
    Write { epoch: Epoch(epoch), key: key.clone(), value: value.map(Bytes::from), ttl: HOUR }
}

fn replicate(from: &State<String>, pending: &Pending, link: u64) -> Replicate {
    let Settings { node, incarnation, .. } = *from.settings();
    Replicate {
        epoch: pending.epoch,
        from: node,
        incarnation,
        link,
        key: pending.key.clone(),
        version: pending.entry.version,
        expires: pending.entry.expires,
        value: pending.entry.value.clone(),
    }
}

fn put(one: &mut State<String>, two: &mut State<String>, write: Write, now: Duration) -> Result<Version, Refusal> {
    let pending = one.begin(write, now)?;
    let replicated = two.replicate(replicate(one, &pending, 0), now)?;
    one.finish(pending, &[(two.settings().node, replicated.incarnation)], now)
}

fn read(node: &mut State<String>, epoch: u64, key: &Bytes, now: Duration) -> Result<Option<Bytes>, Refusal> {
    let found = node.read(&Read { epoch: Epoch(epoch), key: key.clone() }, now)?;
    Ok(found.value.map(|(_, value)| value))
}

const fn unready<T>(why: Unready) -> Result<T, Refusal> {
    Err(Refusal::NotReady(why))
}

#[test]
fn a_write_is_read_once_all_have_it_and_not_before() {
    let membership = epochs(&[&[1, 2]]);
    let key = key_of(&membership, 1, 2);
    let (mut one, mut two) = pair(&membership, secs(1));
    let pending = one.begin(write(1, &key, Some("value")), secs(1)).expect("begun");
    assert_eq!(read(&mut one, 1, &key, secs(1)), Ok(None));
    assert_eq!(one.finish(pending.clone(), &[], secs(1)), Err(Refusal::InDoubt));
    assert_eq!(read(&mut one, 1, &key, secs(1)), Ok(None));
    let replicated = two.replicate(replicate(&one, &pending, 0), secs(1)).expect("it has it");
    one.finish(pending, &[(NodeId(2), replicated.incarnation)], secs(1)).expect("all have it");
    assert_eq!(read(&mut one, 1, &key, secs(1)), Ok(Some("value".into())));
    assert_eq!(read(&mut two, 1, &key, secs(1)), Err(Refusal::Misplaced), "it is not the primary");
}

#[test]
fn requests_of_another_epoch_are_refused() {
    let membership = epochs(&[&[1, 2], &[1, 2]]);
    let key = key_of(&membership, 1, 2);
    let (mut one, mut two) = pair(&membership, secs(1));
    assert_eq!(read(&mut one, 1, &key, secs(1)), Err(Refusal::StaleEpoch { known: Epoch(2) }));
    assert_eq!(read(&mut one, 3, &key, secs(1)), Err(Refusal::Behind));
    let pending = one.begin(write(2, &key, Some("value")), secs(1)).expect("begun");
    two.confirm(epochs(&[&[1, 2], &[1, 2], &[1, 2]]), secs(1), secs(1));
    let refused = two.replicate(replicate(&one, &pending, 0), secs(1));
    assert_eq!(refused, Err(Refusal::StaleEpoch { known: Epoch(3) }), "it has moved on");
}

#[test]
fn nothing_is_served_when_the_lease_is_over() {
    let membership = epochs(&[&[1, 2]]);
    let key = key_of(&membership, 1, 2);
    let (mut one, mut two) = pair(&membership, secs(1));
    put(&mut one, &mut two, write(1, &key, Some("value")), secs(2)).expect("in time");
    let pending = one.begin(write(1, &key, Some("late")), secs(2)).expect("begun in time");
    assert_eq!(read(&mut one, 1, &key, secs(3)), unready(Unready::Lease));
    let replicated = two.replicate(replicate(&one, &pending, 0), secs(3)).expect("that does no harm");
    let finished = one.finish(pending, &[(NodeId(2), replicated.incarnation)], secs(3));
    assert_eq!(finished, Err(Refusal::InDoubt), "nor is anything acknowledged");
    // From when it was asked, and not from when there was an answer.
    one.confirm(membership.clone(), secs(3), secs(4));
    assert!(read(&mut one, 1, &key, secs(5) - Duration::from_nanos(1)).is_ok());
    assert_eq!(read(&mut one, 1, &key, secs(5)), unready(Unready::Lease));
}

#[test]
fn an_epoch_is_served_once_nobody_can_serve_an_earlier_one() {
    let (before, after) = (epochs(&[&[1, 2, 3]]), epochs(&[&[1, 2, 3], &[1, 2]]));
    let key = key_of(&after, 1, 2);
    let (mut one, mut two) = pair(&epochs(&[&[1, 2]]), secs(1));
    let mut three = state(3, 1);
    three.confirm(before, secs(10), secs(10));
    // It says nothing: its lease is waited for, and a little more.
    for node in [&mut one, &mut two] {
        node.confirm(after.clone(), secs(10), secs(10));
    }
    beat(&mut one, &mut two, secs(10));
    for now in [secs(10), secs(10) + LEASE] {
        one.confirm(after.clone(), now, now);
        one.turn(now);
        assert_eq!(read(&mut one, 2, &key, now), unready(Unready::Waiting));
    }
    let now = secs(10) + LEASE + LEASE / 16;
    one.turn(now);
    assert_ne!(read(&mut one, 2, &key, now), unready(Unready::Waiting));

    // The other waits too, until it hears that the third knows as well.
    assert_eq!(two.active, Some(Epoch(1)));
    three.confirm(after, secs(11), secs(11));
    beat(&mut two, &mut three, secs(11));
    assert_eq!(two.active, Some(Epoch(2)));
}

#[test]
fn what_an_earlier_start_has_confirmed_does_not_count() {
    let membership = epochs(&[&[1, 2]]);
    let key = key_of(&membership, 1, 2);
    let (mut one, mut two) = pair(&membership, secs(1));
    let pending = one.begin(write(1, &key, Some("value")), secs(1)).expect("begun");
    let replicated = two.replicate(replicate(&one, &pending, 0), secs(1)).expect("it has it");
    // It dies, is started again, and asks for its keys, before the write is there.
    let mut anew = state(2, 2);
    anew.confirm(membership, secs(1), secs(1));
    get_keys(&mut anew, &mut [&mut one], secs(1)).expect("they are there");
    let finished = one.finish(pending, &[(NodeId(2), replicated.incarnation)], secs(1));
    assert_eq!(finished, Err(Refusal::InDoubt), "the one that confirmed it is gone");
    assert_eq!(two.heard(&anew.presence(secs(1)), None, secs(1)), Err(Refusal::Superseded), "two of one name");
    let from_before = one.heard(&two.presence(secs(1)), None, secs(1));
    assert_eq!(from_before, Err(Refusal::Superseded));
}

#[test]
fn a_replicate_that_was_overtaken_is_refused() {
    let membership = epochs(&[&[1, 2]]);
    let key = key_of(&membership, 1, 2);
    let (mut one, mut two) = pair(&membership, secs(1));
    let given_up = one.begin(write(1, &key, Some("given up")), secs(1)).expect("begun");
    let deleted = one.begin(write(1, &key, None), secs(1)).expect("begun");
    two.replicate(replicate(&one, &deleted, 1), secs(1)).expect("it is deleted");
    let late = two.replicate(replicate(&one, &given_up, 0), secs(1));
    assert_eq!(late, Err(Refusal::OldLink { seen: 1 }));
    assert!(two.store().is_empty());
}

#[test]
fn a_node_that_returns_serves_nothing_before_it_has_its_keys() {
    let membership = epochs(&[&[1, 2]]);
    let key = key_of(&membership, 1, 2);
    let (mut one, mut two) = pair(&membership, secs(1));
    put(&mut one, &mut two, write(1, &key, Some("value")), secs(1)).expect("all have it");
    let mut anew = state(1, 2);
    anew.confirm(membership, secs(1), secs(1));
    assert_eq!(read(&mut anew, 1, &key, secs(1)), unready(Unready::Syncing));
    get_keys(&mut anew, &mut [&mut two], secs(1)).expect("they are there");
    assert_eq!(read(&mut anew, 1, &key, secs(1)), Ok(Some("value".into())));
    let again = anew.begin(write(1, &key, Some("new")), secs(1)).expect("begun").entry.version;
    assert!(again > two.store().entry(&key).expect("it has it").version, "its writes are newer than those before");
}

/// A node is away while a key of its own is written again, and another deleted.
#[test]
fn what_a_node_had_before_it_was_away_does_not_come_back() {
    let lines: [&[u16]; 3] = [&[1, 2], &[1], &[1, 2]];
    let (written, deleted) = (key_of(&epochs(&lines), 1, 2), Bytes::from("of both"));
    let (mut one, mut two) = pair(&epochs(&lines[..1]), secs(1));
    put(&mut one, &mut two, write(1, &written, Some("old")), secs(1)).expect("all have it");
    for node in [&mut one, &mut two] {
        let entry = node.store().entry(&written).cloned().expect("it has it");
        node.store.apply(deleted.clone(), entry, crate::store::Room::Evict);
    }
    one.confirm(epochs(&lines[..2]), secs(10), secs(10));
    one.turn(secs(20));
    one.confirm(epochs(&lines[..2]), secs(20), secs(20));
    get_keys(&mut one, &mut [], secs(20)).expect("there is nobody else");
    let alone = one.begin(write(2, &written, Some("new")), secs(20)).expect("begun");
    one.finish(alone, &[], secs(20)).expect("it is alone");
    one.store.remove(&deleted);

    for node in [&mut one, &mut two] {
        node.confirm(epochs(&lines), secs(30), secs(30));
    }
    get_keys(&mut one, &mut [&mut two], secs(30)).expect("they are there");
    assert!(one.store().entry(&deleted).is_none(), "one knows better");
    get_keys(&mut two, &mut [&mut one], secs(30)).expect("they are there");
    assert!(two.store().entry(&deleted).is_none(), "two has learned");
    for node in [&one, &two] {
        let value = node.store().entry(&written).and_then(|entry| entry.value.clone());
        assert_eq!(value, Some("new".into()));
    }
}

#[test]
fn strangers_are_not_remembered() {
    let (mut one, _) = pair(&epochs(&[&[1, 2]]), secs(1));
    for id in 100..200 {
        let stranger =
            Presence { node: NodeId(id), incarnation: 1, epoch: Some(Epoch(9)), bases: Vec::new(), now: secs(1) };
        assert_eq!(one.heard(&stranger, None, secs(1)), Ok(true), "there may be a newer epoch");
    }
    assert_eq!(one.peers.len(), 1);
}

#[test]
fn times_of_another_clock_never_come_out_late() {
    // Asked at 10 by the own clock, answered at 1000.5 by the other's, which was at 10.2 by the own.
    let clocks = Clocks { mine: secs(10), theirs: Duration::from_millis(1_000_500) };
    let truly = |theirs: u64| Duration::from_millis(theirs - 1_000_500 + 10_200);
    for theirs in [1_000_500, 1_001_000, 1_099_999] {
        let mine = clocks.to_mine(Duration::from_millis(theirs));
        assert!(mine <= truly(theirs), "{mine:?}");
        assert!(clocks.to_theirs(truly(theirs)) >= Duration::from_millis(theirs));
    }
    assert_eq!(clocks.to_mine(secs(995)), Duration::from_millis(4_500), "nor what was before");
    assert_eq!(clocks.to_mine(Duration::ZERO), Duration::ZERO);
}
