//! What there is on a fabric beside messages: chosen by type.

use std::error::Error;
use std::sync::Arc;

use trespass::core::{Fabric, ThreadFabric, ThreadMemoryFabric};
use trespass_example_table::{Layout, ReaderConfig};

use crate::options::{GetPath, Options};
use crate::store::{ByMessage, Gets, Lender, NoShelf, OneSided, Shelf};

/// How values are to be had on a fabric.
pub(crate) trait Means<F: ThreadFabric> {
    /// What a server puts values on.
    type Shelf: Shelf;
    /// How clients get them from there.
    type Gets: Gets + Send;
    /// Whether that is another way than by message.
    const READS: bool;

    /// For a server.
    ///
    /// # Errors
    /// Why there is none.
    fn shelf(&self, fabric: &F, readers: usize) -> Result<Self::Shelf, Box<dyn Error>>;

    /// For a client.
    fn gets(&self, fabric: &F) -> Self::Gets;
}

/// Messages, and nothing else.
pub(crate) struct Messages;

impl<F: ThreadFabric> Means<F> for Messages {
    type Shelf = NoShelf;
    type Gets = ByMessage;
    const READS: bool = false;

    fn shelf(&self, _: &F, _: usize) -> Result<NoShelf, Box<dyn Error>> {
        Ok(NoShelf)
    }

    fn gets(&self, _: &F) -> ByMessage {
        ByMessage
    }
}

/// A table in memory that is lent, on a fabric that has memory.
pub(crate) struct Memory<A> {
    /// Whether a server lends.
    lends: bool,
    /// Where it takes readers in.
    lend_at: Option<A>,
    layout: Layout,
    reader: ReaderConfig,
}

impl<A> Memory<A> {
    /// # Errors
    /// Options that will not do.
    pub(crate) fn new(options: &Options, lend_at: Option<A>) -> Result<Self, String> {
        let reader = ReaderConfig::default().with_in_flight((options.batch as usize).max(1));
        let lends = options.get != Some(GetPath::Message);
        Ok(Self { lends, lend_at, layout: options.layout()?, reader })
    }
}

impl<F: ThreadMemoryFabric> Means<F> for Memory<<F as Fabric>::Addr> {
    type Shelf = Option<Arc<Lender<F>>>;
    type Gets = OneSided<F>;
    const READS: bool = true;

    fn shelf(&self, fabric: &F, readers: usize) -> Result<Option<Arc<Lender<F>>>, Box<dyn Error>> {
        if !self.lends {
            return Ok(None);
        }
        let nowhere =
            "a server that listens at any address has to be told at which to lend: --lend ADDR, or --get message";
        let addr = self.lend_at.as_ref().ok_or(nowhere)?;
        Ok(Some(Lender::start(fabric, addr, self.layout, readers)?))
    }

    fn gets(&self, fabric: &F) -> OneSided<F> {
        OneSided::new(fabric, self.reader)
    }
}
