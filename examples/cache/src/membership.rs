//! Who the members are, in numbered epochs: plain data, as a file or a key of etcd has it.
//!
//! ```text
//! # Comments are skipped. How many nodes have each key; then a line for each epoch, the newest last.
//! replicas 2
//! 1 1=127.0.0.1:7101/127.0.0.1:7201 2=127.0.0.1:7102/127.0.0.1:7202
//! 2 1=127.0.0.1:7101/127.0.0.1:7201
//! ```
//! Earlier epochs are kept for a while: a node tells by them whether what it has is still all there is to have of a key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use trespass::core::Address;

/// The number of a membership. Each is another than the one before, and there is one at a time: who publishes it sees to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}", self.0)
    }
}

/// What a node is called. It keeps its name when it is started again, at another address too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u16);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// One node, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<A> {
    /// Its name.
    pub id: NodeId,
    /// Where it takes requests, as messages.
    pub data: A,
    /// Where it takes streams: beats, and what is handed over in bulk.
    pub control: A,
}

/// The members of one epoch, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<A> {
    /// Which.
    pub epoch: Epoch,
    /// Who.
    pub members: Vec<Member<A>>,
}

/// The members now, and in the epochs before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership<A> {
    replicas: usize,
    /// The newest last; never empty.
    lines: Vec<Line<A>>,
}

/// How many epochs are kept. A node that has been away for longer begins anew.
pub const MOST_LINES: usize = 16;
/// As many nodes may there be.
pub const MOST_MEMBERS: usize = 256;
/// As many nodes may have a key.
pub const MOST_REPLICAS: usize = 7;

/// Why a text is no membership.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadMembership {
    /// The line that says how many replicas there are is missing, or out of range.
    #[error("the first line has to be `replicas N`, with N from 1 to {MOST_REPLICAS}")]
    Replicas,
    /// There is no epoch at all.
    #[error("there is no line with an epoch and its members, such as `1 1=127.0.0.1:7101/127.0.0.1:7201`")]
    Empty,
    /// A line that cannot be read.
    #[error("line {0}: not an epoch followed by members such as `1=127.0.0.1:7101/127.0.0.1:7201`")]
    Line(usize),
    /// Epochs have to grow from line to line, and start above 0.
    #[error("{0} does not come after the one before it")]
    Order(Epoch),
    /// No members, or too many, or one twice.
    #[error("{0} has no members, or one of them twice, or more than {MOST_MEMBERS}")]
    Members(Epoch),
}

impl<A> Membership<A> {
    /// A first membership: epoch 1.
    ///
    /// # Errors
    /// No members, too many, one of them twice; replicas out of range.
    pub fn first(replicas: usize, members: Vec<Member<A>>) -> Result<Self, BadMembership> {
        Self { replicas, lines: vec![Line { epoch: Epoch(1), members }] }.checked()
    }

    /// The next one: the same epochs and one more, with these members.
    ///
    /// # Errors
    /// As [`first`](Self::first).
    pub fn followed_by(mut self, members: Vec<Member<A>>) -> Result<Self, BadMembership> {
        let epoch = Epoch(self.epoch().0.saturating_add(1));
        self.lines.push(Line { epoch, members });
        self.checked()
    }

    /// How many nodes have each key, where there are so many.
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// The newest epoch.
    pub fn epoch(&self) -> Epoch {
        self.lines.last().map_or(Epoch(0), |line| line.epoch)
    }

    /// The members in the newest epoch.
    pub fn members(&self) -> &[Member<A>] {
        self.lines.last().map_or(&[], |line| &line.members)
    }

    /// One of them.
    pub fn member(&self, id: NodeId) -> Option<&Member<A>> {
        self.members().iter().find(|member| member.id == id)
    }

    /// All epochs that are kept, the newest last.
    pub fn lines(&self) -> &[Line<A>] {
        &self.lines
    }

    /// Whether no epoch before the first line was forgotten.
    pub fn is_whole(&self) -> bool {
        self.lines.first().is_some_and(|line| line.epoch == Epoch(1))
    }

    fn checked(mut self) -> Result<Self, BadMembership> {
        if !(1..=MOST_REPLICAS).contains(&self.replicas) {
            return Err(BadMembership::Replicas);
        }
        if self.lines.is_empty() {
            return Err(BadMembership::Empty);
        }
        let mut before = Epoch(0);
        for line in &mut self.lines {
            if line.epoch <= before {
                return Err(BadMembership::Order(line.epoch));
            }
            before = line.epoch;
            line.members.sort_by_key(|member| member.id);
            let twice = line.members.windows(2).any(|pair| matches!(pair, [one, other] if one.id == other.id));
            if line.members.is_empty() || line.members.len() > MOST_MEMBERS || twice {
                return Err(BadMembership::Members(line.epoch));
            }
        }
        let forgotten = self.lines.len().saturating_sub(MOST_LINES);
        self.lines.drain(..forgotten);
        Ok(self)
    }
}

impl<A: Address> FromStr for Membership<A> {
    type Err = BadMembership;

    fn from_str(text: &str) -> Result<Self, BadMembership> {
        let mut lines = text.lines().map(str::trim).enumerate();
        let mut lines = lines.by_ref().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let replicas = lines.next().and_then(|(_, line)| line.strip_prefix("replicas ")?.trim().parse().ok());
        let replicas = replicas.ok_or(BadMembership::Replicas)?;
        let lines = lines.map(|(at, line)| parse_line(line).ok_or(BadMembership::Line(at + 1)));
        Self { replicas, lines: lines.collect::<Result<_, _>>()? }.checked()
    }
}

fn parse_line<A: Address>(line: &str) -> Option<Line<A>> {
    let mut words = line.split_whitespace();
    let epoch = Epoch(words.next()?.parse().ok()?);
    Some(Line { epoch, members: words.map(Member::parse).collect::<Option<_>>()? })
}

impl<A: Address> Member<A> {
    /// Of `ID=DATA/CONTROL`, as it is shown; `None` where it is none.
    pub fn parse(word: &str) -> Option<Self> {
        let (id, places) = word.split_once('=')?;
        let (data, control) = places.split_once('/')?;
        Some(Self { id: NodeId(id.parse().ok()?), data: data.parse().ok()?, control: control.parse().ok()? })
    }
}

impl<A: fmt::Display> fmt::Display for Member<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}/{}", self.id.0, self.data, self.control)
    }
}

/// As it is parsed.
impl<A: fmt::Display> fmt::Display for Membership<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "replicas {}", self.replicas)?;
        for line in &self.lines {
            write!(f, "{}", line.epoch.0)?;
            for member in &line.members {
                write!(f, " {member}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Text = Membership<String>;

    const TWO: &str = "# who\n\nreplicas 2\n3 2=c/d 1=a/b\n5 1=a/b\n";

    #[test]
    fn what_is_written_is_read() {
        let read: Text = TWO.parse().expect("it is one");
        assert_eq!((read.replicas(), read.epoch(), read.members().len()), (2, Epoch(5), 1));
        assert_eq!(read.lines()[0].members[0].id, NodeId(1), "in the order of names");
        assert!(!read.is_whole());
        assert_eq!(read.to_string().parse(), Ok(read));
    }

    #[test]
    fn what_is_none_says_why() {
        let refused = |text: &str| text.parse::<Text>().expect_err(text);
        assert_eq!(refused(""), BadMembership::Replicas);
        assert_eq!(refused("replicas 0\n1 1=a/b"), BadMembership::Replicas);
        assert_eq!(refused("replicas 2"), BadMembership::Empty);
        assert_eq!(refused("replicas 2\n1 1=a"), BadMembership::Line(2));
        assert_eq!(refused("replicas 2\n2 1=a/b\n2 1=a/b"), BadMembership::Order(Epoch(2)));
        assert_eq!(refused("replicas 2\n1"), BadMembership::Members(Epoch(1)));
        assert_eq!(refused("replicas 2\n1 1=a/b 1=c/d"), BadMembership::Members(Epoch(1)));
    }

    #[test]
    fn old_epochs_are_forgotten() {
        let member = |id| Member { id: NodeId(id), data: "a".to_owned(), control: "b".to_owned() };
        let mut membership = Membership::first(2, vec![member(1)]).expect("a first");
        assert!(membership.is_whole());
        for _ in 0..20 {
            membership = membership.followed_by(vec![member(2), member(1)]).expect("a next");
        }
        assert_eq!((membership.epoch(), membership.lines().len()), (Epoch(21), MOST_LINES));
        assert!(!membership.is_whole());
    }
}
