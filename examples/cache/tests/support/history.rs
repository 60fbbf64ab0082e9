//! What clients did and saw, and whether it may have been so.
//!
//! Of each key, by the versions that acknowledgements and reads tell:
//! - a read gives what was written, of the version that was acknowledged, and never what was said not to be done;
//! - a read that begins after a write was acknowledged, or after another read had ended, gives nothing older;
//! - it gives nothing only where there is a reason: a deletion, or a time that was up;
//! - no read that begins later than the acknowledgement of a write and its time to live gives its value.

use std::collections::BTreeMap;
use std::time::Duration;

use trespass_example_cache::store::Version;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Values are numbers, each written once.
    Put {
        value: u64,
        ttl: Duration,
    },
    Delete,
    Get,
}

/// What it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    Acknowledged(Version),
    Read(Option<(Version, u64)>),
    /// Perhaps it was done, or will be.
    InDoubt,
    /// It was not.
    NotDone,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) key: u64,
    pub(crate) asked: Asked,
    pub(crate) came: Came,
    pub(crate) start: Duration,
    pub(crate) end: Duration,
}

/// What is wrong with a history, if anything is. A value may go so much `early`: where it was handed over each hand takes a round
/// trip off its time.
pub(crate) fn check(history: &[Operation], early: Duration) -> Result<(), String> {
    let mut keys = BTreeMap::<u64, Vec<Operation>>::new();
    for operation in history {
        keys.entry(operation.key).or_default().push(*operation);
    }
    keys.into_values().try_for_each(|operations| check_key(&operations, early))
}

fn check_key(operations: &[Operation], early: Duration) -> Result<(), String> {
    let versions = versions(operations)?;
    for read in operations {
        let Came::Read(found) = read.came else { continue };
        if let Some((version, value)) = found {
            check_value(operations, read, version, value)?;
        }
        let Some((least, by)) = known_before(operations, read) else { continue };
        match found {
            Some((version, _)) if version < least => return Err(format!("older than known:\n  {read:?}\n  {by:?}")),
            None if !may_be_gone(operations, &versions, read, least, early) => {
                return Err(format!("lost:\n  {read:?}\n  {by:?}\n  written by {:?}", versions.get(&least)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Which write made each version that anybody has seen.
fn versions(operations: &[Operation]) -> Result<BTreeMap<Version, Operation>, String> {
    let mut versions = BTreeMap::new();
    let acknowledged = operations.iter().filter_map(|write| match write.came {
        Came::Acknowledged(version) => Some((version, *write)),
        _ => None,
    });
    let read = operations.iter().filter_map(|read| match read.came {
        Came::Read(Some((version, value))) => Some((version, *writer(operations, value)?)),
        _ => None,
    });
    for (version, write) in acknowledged.chain(read) {
        let other = versions.insert(version, write);
        if let Some(other) = other.filter(|other| other.asked != write.asked) {
            return Err(format!("one version of two writes:\n  {write:?}\n  {other:?}"));
        }
    }
    Ok(versions)
}

fn writer(operations: &[Operation], wanted: u64) -> Option<&Operation> {
    operations.iter().find(|write| matches!(write.asked, Asked::Put { value, .. } if value == wanted))
}

fn check_value(operations: &[Operation], read: &Operation, version: Version, value: u64) -> Result<(), String> {
    let Some(write) = writer(operations, value) else { return Err(format!("never written:\n  {read:?}")) };
    let Asked::Put { ttl, .. } = write.asked else { unreachable!("a writer writes") };
    match write.came {
        Came::Acknowledged(acknowledged) if acknowledged != version => {
            Err(format!("of another version:\n  {read:?}\n  {write:?}"))
        }
        Came::Acknowledged(_) if read.start > write.end.saturating_add(ttl) => {
            Err(format!("past its time:\n  {read:?}\n  {write:?}"))
        }
        Came::NotDone => Err(format!("said not to be done:\n  {read:?}\n  {write:?}")),
        _ => Ok(()),
    }
}

/// The newest version that was there for sure before `read` began, and who knew.
fn known_before(operations: &[Operation], read: &Operation) -> Option<(Version, Operation)> {
    let before = operations.iter().filter(|other| other.end < read.start);
    let known = before.filter_map(|other| match other.came {
        Came::Acknowledged(version) | Came::Read(Some((version, _))) => Some((version, *other)),
        _ => None,
    });
    known.max_by_key(|(version, _)| *version)
}

/// Whether there is a reason that `read` found nothing though `least` had been there.
fn may_be_gone(
    operations: &[Operation],
    versions: &BTreeMap<Version, Operation>,
    read: &Operation,
    least: Version,
    early: Duration,
) -> bool {
    let over = |write: &Operation| match write.asked {
        Asked::Put { ttl, .. } => write.start.saturating_add(ttl) <= read.end.saturating_add(early),
        _ => write.asked == Asked::Delete,
    };
    // A write that was begun in time may have come after it, as far as anybody knows.
    let in_doubt = |write: &&Operation| write.came == Came::InDoubt && write.start < read.end;
    versions.range(least..).any(|(_, write)| write.start < read.end && over(write))
        || operations.iter().filter(in_doubt).any(over)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trespass_example_cache::membership::Epoch;

    const fn at(start: u64, end: u64, asked: Asked, came: Came) -> Operation {
        let [start, end] = [Duration::from_secs(start), Duration::from_secs(end)];
        Operation { key: 1, asked, came, start, end }
    }

    const fn version(number: u64) -> Version {
        Version { epoch: Epoch(1), start: 1, number }
    }

    const fn put(value: u64) -> Asked {
        Asked::Put { value, ttl: Duration::from_secs(100) }
    }

    const FIRST: Operation = at(0, 1, put(7), Came::Acknowledged(version(1)));
    const SECOND: Operation = at(2, 3, put(8), Came::Acknowledged(version(2)));

    fn read(start: u64, found: Option<(u64, u64)>) -> Operation {
        at(start, start + 1, Asked::Get, Came::Read(found.map(|(number, value)| (version(number), value))))
    }

    const EARLY: Duration = Duration::from_millis(500);

    fn check(history: &[Operation]) -> Result<(), String> {
        super::check(history, EARLY)
    }

    fn wrong(history: &[Operation]) -> String {
        check(history).expect_err("it is wrong").lines().next().expect("a line").to_owned()
    }

    #[test]
    fn what_may_be_is_let_be() {
        assert_eq!(check(&[FIRST, SECOND, read(4, Some((2, 8)))]), Ok(()));
        assert_eq!(check(&[FIRST, SECOND, read(2, Some((1, 7))), read(2, Some((2, 8)))]), Ok(()), "at once");
        assert_eq!(check(&[FIRST, read(101, None)]), Ok(()), "its time is up");
        assert_eq!(check(&[FIRST, at(1, 2, Asked::Delete, Came::InDoubt), read(3, None)]), Ok(()));
        assert_eq!(
            check(&[FIRST, at(1, 2, put(9), Came::InDoubt), read(3, Some((1, 7))), read(5, Some((3, 9)))]),
            Ok(())
        );
        assert_eq!(check(&[read(0, None), FIRST]), Ok(()), "it was not there yet");
    }

    #[test]
    fn what_may_not_be_is_found() {
        assert_eq!(wrong(&[FIRST, read(2, None)]), "lost:");
        assert_eq!(wrong(&[FIRST, SECOND, read(4, Some((1, 7)))]), "older than known:");
        assert_eq!(wrong(&[FIRST, read(2, Some((1, 9)))]), "never written:");
        assert_eq!(wrong(&[FIRST, read(2, Some((2, 7)))]), "of another version:");
        assert_eq!(wrong(&[FIRST, read(102, Some((1, 7)))]), "past its time:");
        assert_eq!(wrong(&[at(0, 1, put(7), Came::NotDone), read(2, Some((1, 7)))]), "said not to be done:");
        let doubtful = at(0, 1, put(7), Came::InDoubt);
        assert_eq!(wrong(&[doubtful, read(2, Some((1, 7))), read(4, None)]), "lost:", "once it was read");
        let same = at(2, 3, put(8), Came::Acknowledged(version(1)));
        assert_eq!(wrong(&[FIRST, same]), "one version of two writes:");
    }
}
