//! What is counted while a load runs: times, errors and mismatches.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::record::Mismatch;
use crate::store::StoreError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    Put,
    Delete,
    Insert,
    Scan,
    /// A get, and a put of the same key after it.
    Modify,
}

impl Operation {
    pub(crate) const ALL: [Self; 6] = [Self::Get, Self::Put, Self::Delete, Self::Insert, Self::Scan, Self::Modify];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Insert => "insert",
            Self::Scan => "scan",
            Self::Modify => "modify",
        }
    }
}

/// The operations that were answered, how long each took, and the bytes of their values.
pub(crate) struct Samples {
    nanoseconds: [Histogram<u64>; Operation::ALL.len()],
    bytes: u64,
}

/// The longest time that a histogram can tell from a longer one.
const LONGEST: u64 = 100_000_000_000;

impl Samples {
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 3).expect("constant bounds that are in order");
        Self { nanoseconds: std::array::from_fn(|_| histogram()), bytes: 0 }
    }

    pub(crate) fn record(&mut self, operation: Operation, took: Duration, bytes: usize) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(LONGEST);
        self.nanoseconds[operation as usize].saturating_record(nanoseconds);
        self.bytes += bytes as u64;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.nanoseconds.iter_mut().zip(&other.nanoseconds) {
            mine.add(theirs).expect("equal bounds");
        }
        self.bytes += other.bytes;
    }

    pub(crate) fn of(&self, operation: Operation) -> &Histogram<u64> {
        &self.nanoseconds[operation as usize]
    }

    pub(crate) fn operations(&self) -> u64 {
        self.nanoseconds.iter().map(Histogram::len).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What went wrong. All of it is counted, and the first few are described.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    errors: BTreeMap<String, u64>,
    mismatches: u64,
    described: Vec<String>,
}

const DESCRIBED: usize = 10;

impl Problems {
    pub(crate) fn error(&mut self, client: u32, error: &StoreError) {
        let kind = match (error.kind(), error) {
            (Some(kind), _) => format!("{kind:?}"),
            (None, StoreError::Rejected(why, _)) => format!("Rejected: {why:?}"),
            (None, _) => "Oversize".to_owned(),
        };
        *self.errors.entry(kind).or_default() += 1;
        self.describe(format!("client {client}: {error}"));
    }

    pub(crate) fn mismatch(&mut self, client: u32, key: &[u8], mismatch: &Mismatch) {
        self.mismatches += 1;
        self.describe(format!("client {client}: {}: {mismatch}", String::from_utf8_lossy(key)));
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (kind, count) in other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        self.mismatches += other.mismatches;
        other.described.into_iter().for_each(|line| self.describe(line));
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    pub(crate) fn errors_by_kind(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    pub(crate) fn mismatches(&self) -> u64 {
        self.mismatches
    }

    pub(crate) fn described(&self) -> &[String] {
        &self.described
    }

    fn describe(&mut self, line: String) {
        if self.described.len() < DESCRIBED {
            self.described.push(line);
        }
    }
}
