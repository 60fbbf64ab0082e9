//! How a client gets values: by message alone, or by reading the server's table itself where that can be.

use trespass::core::{ErrorKind, MemoryFabric, TransportError};
use trespass_example_table::{Directory, Lookup, Reader, ReaderConfig, ReaderStats};

/// A way to get values beside messages, which remain for what it does not find.
pub(crate) trait Gets {
    /// Whether it is time to ask the server where its table is. Called when a client is opened, and for each get.
    fn wants_table(&mut self) -> bool;

    /// What the server said to that.
    async fn open(&mut self, place: Option<(Directory, &str)>);

    /// Looks `key` up. `None`, where nothing is known of it: it has to be asked for.
    async fn find(&mut self, key: &[u8]) -> Option<Lookup>;

    /// The value of the last look-up that found one.
    fn value(&self) -> &[u8];

    /// Looks all `keys` up at once, as far as that goes.
    async fn find_many<K: AsRef<[u8]>>(&mut self, keys: &[K], each: impl FnMut(usize, Lookup, &[u8]));

    fn stats(&self) -> GetsStats;
}

/// What was done, and what went wrong, which is nobody's problem: messages did instead.
#[derive(Debug, Clone, Default)]
pub(crate) struct GetsStats {
    /// READs, and torn ones among them.
    pub(crate) reads: ReaderStats,
    /// Keys that were looked up and had to be asked for all the same.
    pub(crate) asked: u64,
    /// How often a table was opened.
    pub(crate) opened: u64,
    /// How often an open table was lost, or could not be opened.
    pub(crate) lost: u64,
    /// Why, the last time.
    pub(crate) why: Option<(ErrorKind, String)>,
}

impl GetsStats {
    /// What another client did, too.
    pub(crate) fn add(&mut self, more: Self) {
        add(&mut self.reads, more.reads);
        self.asked += more.asked;
        self.opened += more.opened;
        self.lost += more.lost;
        self.why = self.why.take().or(more.why);
    }
}

/// By message alone.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ByMessage;

impl Gets for ByMessage {
    fn wants_table(&mut self) -> bool {
        false
    }

    async fn open(&mut self, _: Option<(Directory, &str)>) {}

    async fn find(&mut self, _: &[u8]) -> Option<Lookup> {
        None
    }

    fn value(&self) -> &[u8] {
        b""
    }

    async fn find_many<K: AsRef<[u8]>>(&mut self, _: &[K], _: impl FnMut(usize, Lookup, &[u8])) {}

    fn stats(&self) -> GetsStats {
        GetsStats::default()
    }
}

/// By READs of the server's table, over a track of their own: one that is refused ends its track, and messages go on.
pub(crate) struct OneSided<F: MemoryFabric> {
    fabric: F,
    config: ReaderConfig,
    reader: Option<Reader<F::Track>>,
    /// Gets until the server is asked for a table again, and how many it will be if it has none.
    patience: (u32, u32),
    stats: GetsStats,
}

/// Gets before a server that had no table is asked again: at first, and at most.
const PATIENCE: (u32, u32) = (16, 4096);

impl<F: MemoryFabric> OneSided<F> {
    pub(crate) fn new(fabric: &F, config: ReaderConfig) -> Self {
        let fabric = fabric.clone();
        Self { fabric, config, reader: None, patience: (0, PATIENCE.0), stats: GetsStats::default() }
    }

    async fn connect(&self, directory: Directory, addr: &str) -> Result<Reader<F::Track>, (ErrorKind, String)> {
        let addr = addr.parse().map_err(|_| (ErrorKind::Protocol, format!("`{addr}` is not an address")))?;
        let failed = |error: F::Error| (error.kind(), error.to_string());
        let track = self.fabric.connect(&addr).await.map_err(failed)?;
        Reader::new(&self.fabric, track, directory, self.config).map_err(failed)
    }

    fn lost(&mut self, why: (ErrorKind, String)) {
        self.stats.lost += 1;
        self.stats.why = Some(why);
        if let Some(reader) = self.reader.take() {
            add(&mut self.stats.reads, reader.stats());
        }
    }
}

impl<F: MemoryFabric> Gets for OneSided<F> {
    fn wants_table(&mut self) -> bool {
        if self.reader.is_some() {
            return false;
        }
        match self.patience.0.checked_sub(1) {
            Some(left) => self.patience.0 = left,
            None => {
                let (_, next) = self.patience;
                self.patience = (next, (2 * next).min(PATIENCE.1));
                return true;
            }
        }
        false
    }

    async fn open(&mut self, place: Option<(Directory, &str)>) {
        let Some((directory, addr)) = place else { return };
        match self.connect(directory, addr).await {
            Ok(reader) => {
                self.reader = Some(reader);
                self.stats.opened += 1;
                // When it is lost, the server is asked at once.
                self.patience = (0, PATIENCE.0);
            }
            Err(why) => self.lost(why),
        }
    }

    async fn find(&mut self, key: &[u8]) -> Option<Lookup> {
        match self.reader.as_mut()?.find(key).await {
            Ok(lookup @ (Lookup::Found { .. } | Lookup::Absent)) => return Some(lookup),
            Ok(_) => {}
            Err(error) => self.lost((error.kind(), error.to_string())),
        }
        self.stats.asked += 1;
        None
    }

    fn value(&self) -> &[u8] {
        self.reader.as_ref().map_or(b"", Reader::value)
    }

    async fn find_many<K: AsRef<[u8]>>(&mut self, keys: &[K], mut each: impl FnMut(usize, Lookup, &[u8])) {
        let Some(reader) = &mut self.reader else { return };
        let mut known = 0;
        let outcome = reader.find_many(keys, |index, lookup, value| {
            if matches!(lookup, Lookup::Found { .. } | Lookup::Absent) {
                known += 1;
                each(index, lookup, value);
            }
        });
        let outcome = outcome.await;
        self.stats.asked += keys.len() as u64 - known;
        if let Err(error) = outcome {
            self.lost((error.kind(), error.to_string()));
        }
    }

    fn stats(&self) -> GetsStats {
        let mut stats = self.stats.clone();
        if let Some(reader) = &self.reader {
            add(&mut stats.reads, reader.stats());
        }
        stats
    }
}

fn add(sum: &mut ReaderStats, more: ReaderStats) {
    sum.reads += more.reads;
    sum.torn += more.torn;
    sum.given_up += more.given_up;
}
