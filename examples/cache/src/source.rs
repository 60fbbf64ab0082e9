//! Where memberships come from: a file, or whatever else there is one of.

use std::fmt;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use trespass::core::Address;

use crate::membership::{BadMembership, Membership};

/// Where memberships come from.
///
/// # For implementers
/// There is one membership at a time: a [`read`](Source::read) that begins after another has returned an epoch returns that or a
/// later one, whoever reads. The leases of nodes rest on that. A file that is copied from machine to machine is no such thing; one
/// that all read is, and so is a key of etcd.
pub trait Source<A>: 'static {
    /// The membership now.
    ///
    /// # Errors
    /// Why it is not known.
    fn read(&self) -> impl Future<Output = Result<Membership<A>, SourceError>>;
}

/// Why a membership is not known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It cannot be read.
    #[error("the membership cannot be read: {0}")]
    Unavailable(String),
    /// What was read is none.
    #[error("what was read is no membership: {0}")]
    Bad(#[from] BadMembership),
}

/// A text, and what it says.
type Parsed<A> = (String, Membership<A>);

/// A file that all nodes and clients read: on one machine, or on storage that machines share. Clones share what was read.
#[derive(Debug, Clone)]
pub struct FileSource<A> {
    path: PathBuf,
    /// What was read last, so that it is parsed once.
    last: Arc<Mutex<Option<Parsed<A>>>>,
}

impl<A: Address> FileSource<A> {
    /// The one at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), last: Arc::default() }
    }

    /// Reads it now. A few hundred bytes: as fast as to look whether it has changed, and surer.
    ///
    /// # Errors
    /// It is not there, or no membership.
    pub fn now(&self) -> Result<Membership<A>, SourceError> {
        let why = |error: std::io::Error| SourceError::Unavailable(format!("{}: {error}", self.path.display()));
        let text = std::fs::read_to_string(&self.path).map_err(why)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, membership)) if *known == text => Ok(membership.clone()),
            _ => {
                let membership: Membership<A> = text.parse()?;
                *last = Some((text, membership.clone()));
                Ok(membership)
            }
        }
    }

    /// Puts `membership` in its place: at once and whole, for whoever reads it meanwhile.
    ///
    /// # Errors
    /// What the file system says.
    pub fn publish(path: &Path, membership: &Membership<A>) -> std::io::Result<()> {
        let new = path.with_extension("new");
        let mut file = std::fs::File::create(&new)?;
        write!(file, "{membership}")?;
        file.sync_all()?;
        std::fs::rename(new, path)
    }
}

impl<A: Address> Source<A> for FileSource<A> {
    async fn read(&self) -> Result<Membership<A>, SourceError> {
        self.now()
    }
}

/// A membership in this process: for tests, and for programs that learn of it by ways of their own.
pub struct SharedSource<A> {
    membership: Arc<Mutex<Membership<A>>>,
}

impl<A: Clone> SharedSource<A> {
    /// One that starts with `membership`. Clones share it.
    pub fn new(membership: Membership<A>) -> Self {
        Self { membership: Arc::new(Mutex::new(membership)) }
    }

    /// The membership now.
    pub fn now(&self) -> Membership<A> {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on it is `membership`.
    pub fn publish(&self, membership: Membership<A>) {
        *self.membership.lock().unwrap_or_else(PoisonError::into_inner) = membership;
    }
}

impl<A> Clone for SharedSource<A> {
    fn clone(&self) -> Self {
        Self { membership: Arc::clone(&self.membership) }
    }
}

impl<A> fmt::Debug for SharedSource<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSource").finish_non_exhaustive()
    }
}

impl<A: Clone + 'static> Source<A> for SharedSource<A> {
    async fn read(&self) -> Result<Membership<A>, SourceError> {
        Ok(self.now())
    }
}

/// One of two sorts, chosen at run time.
#[derive(Debug, Clone)]
pub enum EitherSource<L, R> {
    /// The one.
    Left(L),
    /// The other.
    Right(R),
}

impl<A, L: Source<A>, R: Source<A>> Source<A> for EitherSource<L, R> {
    async fn read(&self) -> Result<Membership<A>, SourceError> {
        match self {
            Self::Left(source) => source.read().await,
            Self::Right(source) => source.read().await,
        }
    }
}
