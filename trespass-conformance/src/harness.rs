//! What the one who tests a fabric tells the kit about it.

use std::cell::RefCell;
use std::time::Duration;

use trespass_core::{
    Datagram, Delivery, ErrorKind, Fabric, InOrder, Lossless, ThreadFabric, ThreadMemoryFabric, Track,
};

/// Two fabrics that reach each other. They may be two handles of the same one.
#[derive(Debug, Clone)]
pub struct Fabrics<F> {
    /// Listens.
    pub server: F,
    /// Connects.
    pub client: F,
}

impl<F: Clone> Fabrics<F> {
    /// One fabric that plays both parts.
    pub fn same(fabric: F) -> Self {
        Self { server: fabric.clone(), client: fabric }
    }
}

/// The times within which a fabric says that things end, from its configuration. One second is short, and long enough for
/// a busy machine.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// A handshake ends within this, one way or another.
    pub handshake: Duration,
    /// A close ends within this, one way or another.
    pub close: Duration,
}

/// A fabric under test.
///
/// # For implementers
/// - Four methods are owed; the others state optional abilities. A property that needs an ability that is not there is
///   skipped, loudly.
/// - [`fabrics`](Harness::fabrics) is called once or more by every property, and gives fresh fabrics where that is
///   possible at a fair price: only then do the properties about buffers and tracks that outlive their fabric show
///   something.
/// - Use few slots, 8 to 16 of each sort, and small messages, of 512 bytes to some KiB: the properties fill what there is,
///   and carriers need 8 receives.
///
/// # A complete one
/// ```
/// use std::time::Duration;
/// use trespass_conformance::{Deadlines, Fabrics, Harness, run_all};
/// use trespass_mock::{MockAddr, MockConfig, MockFabric, MockNet};
///
/// struct MockHarness;
///
/// impl Harness for MockHarness {
///     type Fabric = MockFabric;
///     fn fabrics(&self) -> Fabrics<MockFabric> {
///         let config = MockConfig::default().with_send_slots(8).with_recv_slots(8).with_max_message(4096);
///         Fabrics::same(MockNet::new().fabric(config).unwrap())
///     }
///     fn listen_addr(&self) -> MockAddr {
///         "server".parse().unwrap() // each net has its own
///     }
///     fn vacant_addr(&self) -> MockAddr {
///         "nobody".parse().unwrap()
///     }
///     fn deadlines(&self) -> Deadlines {
///         let config = MockConfig::default();
///         Deadlines { handshake: config.handshake_timeout, close: config.close_timeout }
///     }
/// }
///
/// let summary = run_all(&MockHarness, &["buffers::truncate".into()]);
/// assert_eq!((summary.passed.len(), summary.failed.len()), (1, 0), "{summary}");
/// ```
pub trait Harness: Sync {
    /// The fabric. What its tracks promise decides which properties there are for it.
    type Fabric: ThreadFabric;

    /// Two fabrics that reach each other.
    fn fabrics(&self) -> Fabrics<Self::Fabric>;

    /// Where the server may listen: another address at each call, or one that makes the fabric choose (a port of zero).
    /// The kit connects to what the listener's `local()` says then, and listens there again. Where addresses that are freed go
    /// to others at once, as TCP ports of one IP address do, give each call a range of its own.
    fn listen_addr(&self) -> <Self::Fabric as Fabric>::Addr;

    /// A well-formed address that the client can try and where nobody listens.
    fn vacant_addr(&self) -> <Self::Fabric as Fabric>::Addr;

    /// Two fabrics with the short deadlines that [`deadlines`](Harness::deadlines) states, for the properties that let
    /// deadlines pass. By default those of [`fabrics`](Harness::fabrics); where these have deadlines of many seconds, no
    /// busy machine makes another property fail.
    fn hasty_fabrics(&self) -> Fabrics<Self::Fabric> {
        self.fabrics()
    }

    /// What the fabrics of [`hasty_fabrics`](Harness::hasty_fabrics) state about time.
    fn deadlines(&self) -> Deadlines;

    /// How long anything may take that ought to happen soon. Past it a property fails. By default 30 seconds, times
    /// `TRESPASS_TIME_SCALE`.
    fn patience(&self) -> Duration {
        Duration::from_secs(30).mul_f64(time_scale())
    }

    /// How long a receiver holds its sender up in the property about that. The contract sets no limit; some devices have
    /// one. By default half a second.
    fn stall(&self) -> Duration {
        Duration::from_millis(500)
    }

    /// Scales the number of messages and rounds of the longer properties: 1 for a fabric in process, less for an emulated
    /// machine.
    fn scale(&self) -> f64 {
        1.0
    }

    /// How many doorbells `track` has rung since its start.
    fn doorbells(&self, track: &<Self::Fabric as Fabric>::Track) -> Option<u64> {
        let _ = track;
        None
    }

    /// How often `track` has armed its device for a notification since its start. Where nothing is armed: how often one of its
    /// `poll_` functions has looked.
    fn arms(&self, track: &<Self::Fabric as Fabric>::Track) -> Option<u64> {
        let _ = track;
        None
    }

    /// Cuts the link of `track`, as a pulled cable would, and says of which kind the error must be then.
    fn cut(&self, track: &<Self::Fabric as Fabric>::Track) -> Option<ErrorKind> {
        let _ = track;
        None
    }

    /// Why nothing can be tested here, if so: no device, say. Every property is skipped then, loudly. A harness that must
    /// not be skipped panics here instead.
    fn unavailable(&self) -> Option<String> {
        None
    }
}

/// A harness for tracks that lose nothing and keep order. Implemented for all that fit.
pub trait ReliableHarness: Harness<Fabric: Fabric<Track: Track<Delivery: Lossless + InOrder>>> {}

impl<H> ReliableHarness for H where H: Harness<Fabric: Fabric<Track: Track<Delivery: Lossless + InOrder>>> {}

/// A harness for datagram tracks. Implemented for all that fit.
///
/// The network between the two fabrics may lose, duplicate and reorder: what has to arrive is sent again until it does.
/// But one that loses everything shows nothing.
///
/// ```
/// use trespass_conformance::{Deadlines, Fabrics, Harness, run_all_for_datagrams};
/// use trespass_mock::{MockAddr, MockConfig, MockDatagramConfig, MockDatagrams, MockNet};
///
/// struct MockHarness;
///
/// impl Harness for MockHarness {
///     type Fabric = MockDatagrams;
///     fn fabrics(&self) -> Fabrics<MockDatagrams> {
///         let fabric = MockNet::new().fabric(MockConfig::default()).unwrap();
///         Fabrics::same(fabric.datagrams(MockDatagramConfig::default()).unwrap())
///     }
///     fn listen_addr(&self) -> MockAddr {
///         "server".parse().unwrap()
///     }
///     fn vacant_addr(&self) -> MockAddr {
///         "nobody".parse().unwrap()
///     }
///     fn deadlines(&self) -> Deadlines {
///         let config = MockConfig::default();
///         Deadlines { handshake: config.handshake_timeout, close: config.close_timeout }
///     }
/// }
///
/// let summary = run_all_for_datagrams(&MockHarness, &["buffers::truncate".into()]);
/// assert_eq!((summary.passed.len(), summary.failed.len()), (1, 0), "{summary}");
/// ```
pub trait DatagramHarness: Harness<Fabric: Fabric<Track: Track<Delivery = Datagram>>> {}

impl<H> DatagramHarness for H where H: Harness<Fabric: Fabric<Track: Track<Delivery = Datagram>>> {}

/// Whether all that is flushed arrives, on the tracks of `H`: properties for any track ask.
pub(crate) const fn lossless<H: Harness>() -> bool {
    <<<H::Fabric as Fabric>::Track as Track>::Delivery as Delivery>::LOSSLESS
}

/// A fabric under test that has one-sided memory: there are more properties then.
///
/// # For implementers
/// Tracks want four fetch slots or more, and regions up to some hundreds of KiB. Nothing has to be written where the device
/// has atomic operations: `impl MemoryHarness for MyHarness {}`, beside its [`Harness`], and
/// `memory_conformance_tests!(MyHarness)` or [`run_memory`](crate::run_memory).
pub trait MemoryHarness: ReliableHarness<Fabric: ThreadMemoryFabric> {
    /// Whether the device has atomic operations.
    fn has_atomics(&self) -> bool {
        true
    }
}

/// `TRESPASS_TIME_SCALE`, by which an emulated machine is given more time; 1 where it is not set.
///
/// # Panics
/// When it is not a positive number.
pub fn time_scale() -> f64 {
    match std::env::var("TRESPASS_TIME_SCALE") {
        Err(_) => 1.0,
        Ok(text) => match text.parse::<f64>() {
            Ok(scale) if scale.is_finite() && scale > 0.0 => scale,
            _ => panic!("TRESPASS_TIME_SCALE is {text:?}, which is not a positive number"),
        },
    }
}

thread_local! {
    static SKIPPED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes that the property that runs on this thread shows nothing, or not everything, here.
pub(crate) fn skip(why: impl Into<String>) {
    SKIPPED.with(|skipped| _ = skipped.borrow_mut().get_or_insert(why.into()));
}

/// Why the property that just ran on this thread was skipped, if it was.
pub(crate) fn take_skipped() -> Option<String> {
    SKIPPED.with(|skipped| skipped.borrow_mut().take())
}
