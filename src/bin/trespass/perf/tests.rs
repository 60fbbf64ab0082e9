//! Both ends in this process, on the mock: what is measured is another matter, what is counted has to be right.

use std::io::sink;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use trespass_carriers::{MessageCarrier, MessageConfig};
use trespass_core::{Fabric, RecvSideExt, Role, SendSide, SendSideExt, wait};
use trespass_mock::{MockAddr, MockDatagramConfig, MockDatagrams, MockFabric};

use super::backend::Backend;
use super::backend::mock::{Mock, Parked, addr};
use super::client::Client;
use super::error::PerfError;
use super::pace::Gauge;
use super::plan::tests::terms;
use super::plan::{Layer, Plan, Shape, Terms, Wait, Work};
use super::report::{Row, row_json};
use super::said::{BadFrame, Counts, Said, Why};
use super::server::{Server, TALK};
use super::talk::{Measure, Tally};

/// Long enough for a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

fn mock() -> Mock {
    Mock::new(PATIENCE)
}

/// A server of so many clients on a thread of its own.
fn serve<B: Backend<Addr = MockAddr> + Clone + Send + 'static>(backend: &B, clients: usize) -> JoinHandle<Vec<String>> {
    let (backend, (listening, is_listening)) = (backend.clone(), std::sync::mpsc::channel());
    let server = thread::spawn(move || {
        let mut server = Server::listen(backend, &addr("perf").expect("an address"), PATIENCE).expect("it listens");
        listening.send(()).expect("the test waits");
        let mut log = Vec::new();
        (0..clients).for_each(|_| server.serve(true, &mut log).expect("it serves"));
        String::from_utf8(log).expect("text").lines().map(str::to_owned).collect()
    });
    is_listening.recv().expect("it listens");
    server
}

fn client<B: Backend<Addr = MockAddr> + Clone>(backend: &B) -> Client<B> {
    Client::connect(backend.clone(), &addr("perf").expect("an address"), PATIENCE).expect("a client")
}

fn plan(terms: Terms) -> Plan {
    Plan::new(Terms { patience: PATIENCE, ..terms }).expect("a plan")
}

fn test(client: &mut Client<Mock>, plan: &Plan) -> Result<(Tally, Counts), PerfError> {
    client.test(plan, &Gauge::default(), &mut Measure)
}

fn all_plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for layer in Layer::ALL.into_iter().filter(|layer| *layer != Layer::Shared) {
        for work in [Work::Latency, Work::OneWay, Work::BothWays] {
            for wait in [Wait::Polling, Wait::Events] {
                for size in [1, 8, 64, 5000] {
                    let size = if layer.is_atomic() { 8 } else { size };
                    let terms = Terms { layer, work, wait, size, warmup: 3, count: 40, patience: PATIENCE, ..terms() };
                    plans.extend(Plan::new(terms));
                }
            }
        }
    }
    plans
}

#[test]
fn every_kind_of_test_counts_right() {
    let backend = mock();
    let server = serve(&backend, 1);
    let mut client = client(&backend);
    let plans = all_plans();
    for plan in &plans {
        if plan.terms().layer == Layer::Datagrams && plan.terms().size > 4096 {
            continue;
        }
        let (tally, server) = test(&mut client, plan).unwrap_or_else(|error| panic!("{plan:?}: {error}"));
        counts_are_right(plan, &tally, &server);
    }
    client.close();
    let log = server.join().expect("the server");
    assert_eq!(log.last().map(|line| line.ends_with(": goodbye")), Some(true), "{log:?}");
}

fn counts_are_right(plan: &Plan, tally: &Tally, server: &Counts) {
    let Terms { layer, work, warmup, count, .. } = *plan.terms();
    let all = warmup + count;
    assert_eq!(tally.counts.sent, all, "{plan:?}");
    match (work, layer.is_lossy()) {
        (Work::Latency, false) => {
            assert_eq!((tally.measured, tally.lost, tally.times.len()), (count, 0, count), "{plan:?}");
            assert_eq!((server.received, tally.counts.received), (all, all), "{plan:?}");
        }
        (Work::Latency, true) => {
            assert_eq!((tally.measured + tally.lost, tally.times.len()), (count, tally.measured), "{plan:?}");
            assert!(server.received <= all && tally.counts.received <= server.sent, "{plan:?}");
        }
        (Work::OneWay, false) => assert_eq!((tally.measured, server.received), (count, all), "{plan:?}"),
        (Work::OneWay, true) => assert!(server.received <= all && server.counted <= count, "{plan:?}"),
        (Work::BothWays, _) => {
            assert_eq!((server.sent, server.received, tally.counts.received), (all, all, all), "{plan:?}");
            assert_eq!(tally.measured, 2 * count, "{plan:?}");
        }
    }
}

#[test]
fn one_doorbell_for_many_messages_rings_before_anybody_waits() {
    let backend = mock();
    let server = serve(&backend, 1);
    let mut client = client(&backend);
    for layer in [Layer::Track, Layer::Message, Layer::Rendezvous, Layer::Stream] {
        for work in [Work::OneWay, Work::BothWays] {
            for wait in [Wait::Polling, Wait::Events] {
                let plan =
                    plan(Terms { layer, work, wait, depth: 100, receives: 100, batch: 99, count: 250, ..terms() });
                let (tally, server) = test(&mut client, &plan).unwrap_or_else(|error| panic!("{plan:?}: {error}"));
                counts_are_right(&plan, &tally, &server);
            }
        }
    }
    client.close();
    server.join().expect("the server");
}

#[test]
fn a_run_that_is_told_its_time_is_over_ends_and_counts_right() {
    let backend = mock();
    let server = serve(&backend, 1);
    let mut client = client(&backend);
    for (layer, work) in [
        (Layer::Track, Work::Latency),
        (Layer::Message, Work::OneWay),
        (Layer::Stream, Work::BothWays),
        (Layer::Read, Work::Latency),
        (Layer::Write, Work::OneWay),
    ] {
        let plan = plan(Terms { layer, work, count: 0, warmup: 5, ..terms() });
        let gauge = Arc::new(Gauge::default());
        let watched = Arc::clone(&gauge);
        let watcher = thread::spawn(move || {
            while watched.done() < 50 {
                thread::yield_now();
            }
            watched.end();
        });
        let (tally, server) = client.test(&plan, &gauge, &mut Measure).expect("a test");
        watcher.join().expect("it watches");
        // Both ways it may have received nearly all of the fifty that it was let do.
        let received = if work == Work::BothWays { tally.counts.received } else { 0 };
        assert!(tally.counts.sent + received >= 50 && tally.measured > 0, "{layer:?}");
        assert_eq!(tally.counts.sent, server.received, "{layer:?}");
    }
    client.close();
    server.join().expect("the server");
}

/// A client that says what it likes.
struct Rude {
    carrier: MessageCarrier<<MockFabric as Fabric>::Track>,
}

impl Rude {
    fn new(backend: &Mock) -> Self {
        let fabric = backend.control(TALK, None).expect("a fabric");
        let track = wait(fabric.connect(&addr("perf").expect("an address"))).expect("a track");
        let carrier =
            wait(MessageCarrier::open(track, Role::Connector, MessageConfig::default().with_max_message(1024)));
        Self { carrier: carrier.expect("a carrier") }
    }

    /// What the server answers to it.
    fn say(&mut self, bytes: &[u8]) -> Said {
        wait(self.carrier.send(bytes)).expect("sent");
        let answer = wait(self.carrier.recv()).expect("an answer").expect("one message");
        Said::decode(&answer).expect("words")
    }
}

#[test]
fn a_server_refuses_what_cannot_be_and_goes_on() {
    let good = Said::Test(plan(terms())).encode();
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        bad
    };
    let cases: Vec<(Vec<u8>, Why, &str)> = vec![
        (b"GET / HTTP/1.1".to_vec(), Why::Protocol, "no words"),
        (Vec::new(), Why::Protocol, "no words"),
        (with(0, b"x"), Why::Protocol, "no words"),
        (with(4, &[9]), Why::Version, "version 9"),
        (with(5, &[77]), Why::Protocol, "kind 77"),
        (with(7, &[1]), Why::Protocol, "no words"),
        (good[..good.len() - 1].to_vec(), Why::Protocol, "cannot have 63 bytes"),
        (with(8, &[99]), Why::Plan, "layer is 99"),
        (with(9, &[99]), Why::Plan, "work is 99"),
        (with(10, &[99]), Why::Plan, "wait is 99"),
        (with(11, &[99]), Why::Plan, "has to be 0"),
        (with(12, &[255; 4]), Why::Plan, "size is"),
        (with(12, &[0, 0, 0, 64]), Why::Plan, "bytes of memory"),
        (with(16, &[0; 4]), Why::Plan, "depth is 0"),
        (with(20, &[255; 4]), Why::Plan, "receives is"),
        (with(24, &[0; 4]), Why::Plan, "slot is 0"),
        (with(28, &[0; 4]), Why::Plan, "batch is 0"),
        (with(32, &[255; 8]), Why::Plan, "warm-up is"),
        (with(40, &[255; 8]), Why::Plan, "count is"),
        (with(48, &[255; 8]), Why::Plan, "patience in ms is"),
        (with(56, &[255; 8]), Why::Plan, "has to be 0"),
        (Said::Finish(Counts::default()).encode(), Why::Protocol, "may not say now"),
        (with(8, &[Layer::Shared as u8]), Why::Unsupported, "share their queues"),
    ];
    let backend = mock();
    let server = serve(&backend, cases.len() + 1);
    for (bytes, why, part) in &cases {
        match Rude::new(&backend).say(bytes) {
            Said::No(refusal) => {
                assert!(refusal.why == *why && refusal.text.contains(part), "{refusal:?} for {part:?}")
            }
            other => panic!("{other:?} for {part:?}"),
        }
    }
    let mut client = client(&backend);
    test(&mut client, &plan(terms())).expect("it serves whoever comes next");
    client.close();
    let log = server.join().expect("the server");
    assert_eq!(log.len(), cases.len() + 2, "{log:?}");
}

#[test]
fn a_server_outlives_those_who_are_no_clients() {
    let backend = mock();
    let server = serve(&backend, 4);
    let connect = || {
        let fabric = backend.control(TALK, None).expect("a fabric");
        wait(fabric.connect(&addr("perf").expect("an address"))).expect("a track")
    };
    // Gone at once; no carrier; and a carrier without a word.
    drop(connect());
    let mut track = connect();
    let mut buf = wait(track.reserve(100)).expect("a slot");
    buf.fill(0xee);
    track.send(buf).expect("queued");
    track.flush().expect("sent");
    while wait(track.recv()).is_ok() {}
    drop(Rude::new(&backend));
    let mut client = client(&backend);
    test(&mut client, &plan(terms())).expect("it serves whoever comes next");
    client.close();
    server.join().expect("the server");
}

#[test]
fn a_server_that_says_no_sense_is_told_apart() {
    let backend = mock();
    for (answer, meant) in [
        (b"\x00\x01".to_vec(), BadFrame::Head),
        (Said::Done(Counts::default()).encode(), BadFrame::Turn),
        (Said::Go { addr: "two words".into(), window: None }.encode(), BadFrame::Text),
    ] {
        let fabric = backend.control(TALK, None).expect("a fabric");
        let mut listener = fabric.listen(&addr("perf").expect("an address")).expect("it listens");
        let server = thread::spawn(move || {
            wait(async {
                use trespass_core::{Incoming, ListenerExt};
                let track = listener.incoming().await.expect("a request").accept().await.expect("a track");
                let config = MessageConfig::default().with_max_message(1024);
                let mut carrier = MessageCarrier::open(track, Role::Acceptor, config).await.expect("a carrier");
                carrier.recv().await.expect("a test").expect("a message");
                carrier.send(&answer).await.expect("said");
                // Until the client has gone.
                let _ = carrier.recv().await;
            });
        });
        let mut client = client(&backend);
        match test(&mut client, &plan(terms())) {
            Err(PerfError::Frame(bad)) => assert_eq!(bad, meant),
            other => panic!("{:?} for {meant:?}", other.map(drop)),
        }
        drop(client);
        server.join().expect("the server");
    }
}

/// A backend whose fabrics can be killed, as by SIGKILL of their process.
#[derive(Clone)]
struct Mortal {
    mock: Mock,
    made: Arc<Mutex<Vec<MockFabric>>>,
}

impl Mortal {
    fn new(mock: &Mock) -> Self {
        Self { mock: mock.clone(), made: Arc::default() }
    }

    fn kill(&self) {
        self.made.lock().expect("no panic").iter().for_each(MockFabric::kill);
    }

    fn note(&self, fabric: &MockFabric) {
        self.made.lock().expect("no panic").push(fabric.clone());
    }
}

impl Backend for Mortal {
    const NAME: &'static str = "mortal";
    const SHARED: bool = false;
    type Addr = MockAddr;
    type Fabric = MockFabric;
    type Shared = MockFabric;
    type Datagrams = MockDatagrams;
    type Driver = Parked;

    fn control(&self, shape: Shape, here: Option<&MockAddr>) -> Result<MockFabric, PerfError> {
        self.mock.control(shape, here).inspect(|fabric| self.note(fabric))
    }

    fn open(&self, shape: Shape, here: &MockAddr) -> Result<(MockFabric, Parked), PerfError> {
        self.mock.open(shape, here).inspect(|(fabric, _)| self.note(fabric))
    }

    fn shared(&self, fabric: &MockFabric, shape: Shape) -> Result<MockFabric, PerfError> {
        self.mock.shared(fabric, shape)
    }

    fn datagrams(&self, fabric: &MockFabric, shape: Shape) -> Result<MockDatagrams, PerfError> {
        self.mock.datagrams(fabric, shape)
    }

    fn place(&self, here: &MockAddr) -> Result<MockAddr, PerfError> {
        self.mock.place(here)
    }

    fn device(&self, _: &MockFabric) -> Option<String> {
        None
    }
}

/// Kills `whom` once the run is under way.
fn kill_in_the_middle(gauge: &Arc<Gauge>, whom: &Mortal) -> JoinHandle<()> {
    let (gauge, whom) = (Arc::clone(gauge), whom.clone());
    thread::spawn(move || {
        while gauge.done() < 20 {
            thread::yield_now();
        }
        whom.kill();
    })
}

fn endless(layer: Layer, work: Work, wait: Wait) -> Plan {
    plan(Terms { layer, work, wait, count: 0, warmup: 0, ..terms() })
}

const KILLED: [(Layer, Work); 6] = [
    (Layer::Track, Work::Latency),
    (Layer::Message, Work::OneWay),
    (Layer::Stream, Work::BothWays),
    (Layer::Rendezvous, Work::OneWay),
    (Layer::Datagrams, Work::Latency),
    (Layer::Write, Work::OneWay),
];

#[test]
fn a_server_that_is_killed_ends_a_test_with_an_error() {
    for (layer, work) in KILLED {
        for wait in [Wait::Polling, Wait::Events] {
            let backend = mock();
            let doomed = Mortal::new(&backend);
            let server = {
                let (doomed, (listening, is_listening)) = (doomed.clone(), std::sync::mpsc::channel());
                let server = thread::spawn(move || {
                    let addr = addr("perf").expect("an address");
                    let mut server = Server::listen(doomed, &addr, PATIENCE).expect("it listens");
                    listening.send(()).expect("the test waits");
                    let _ = server.serve(true, &mut sink());
                });
                is_listening.recv().expect("it listens");
                server
            };
            let mut client = client(&backend);
            let gauge = Arc::new(Gauge::default());
            let killer = kill_in_the_middle(&gauge, &doomed);
            let ended = client.test(&endless(layer, work, wait), &gauge, &mut Measure);
            assert!(ended.is_err(), "{layer:?} {work:?} {wait:?}");
            killer.join().expect("it kills");
            server.join().expect("it ends");
        }
    }
}

#[test]
fn a_client_that_is_killed_leaves_a_server_that_serves() {
    let backend = mock();
    let server = serve(&backend, 2 * KILLED.len() + 1);
    for (layer, work) in KILLED {
        for wait in [Wait::Polling, Wait::Events] {
            let doomed = Mortal::new(&backend);
            let mut client = client(&doomed);
            let gauge = Arc::new(Gauge::default());
            let killer = kill_in_the_middle(&gauge, &doomed);
            let ended = client.test(&endless(layer, work, wait), &gauge, &mut Measure);
            assert!(ended.is_err(), "{layer:?} {work:?} {wait:?}");
            killer.join().expect("it kills");
        }
    }
    let mut client = client(&backend);
    test(&mut client, &plan(terms())).expect("it serves whoever comes next");
    client.close();
    server.join().expect("the server");
}

#[test]
fn what_is_lost_is_counted() {
    let lossy = MockDatagramConfig::default().with_loss(500).with_seed(7);
    let backend = mock().with_datagrams(lossy);
    let server = serve(&backend, 1);
    let mut client = client(&backend);
    let terms = Terms { layer: Layer::Datagrams, count: 60, warmup: 0, depth: 64, batch: 1, receives: 256, ..terms() };
    let (tally, counts) = test(&mut client, &plan(terms)).expect("a test");
    assert_eq!(tally.counts.sent, 60);
    assert!((1..60).contains(&counts.received), "{counts:?}");
    let row = row_json(&Row::new(&plan(terms), &tally, &counts, None));
    assert_eq!(row["lost"], 60 - counts.received);
    client.close();
    server.join().expect("the server");
}

#[test]
fn no_message_allocates() {
    let backend = mock();
    let server = serve(&backend, 1);
    let mut client = client(&backend);
    for layer in [Layer::Track, Layer::Message, Layer::Stream, Layer::Datagrams, Layer::Read, Layer::Write, Layer::Add]
    {
        for (work, wait) in
            [(Work::Latency, Wait::Polling), (Work::Latency, Wait::Events), (Work::OneWay, Wait::Events)]
        {
            let size = if layer.is_atomic() { 8 } else { 64 };
            let mut allocations = |count| {
                let plan = plan(Terms { layer, work, wait, size, count, ..terms() });
                let begun = Instant::now();
                let info = allocation_counter::measure(|| drop(test(&mut client, &plan).expect("a test")));
                // Waiting takes an alarm each tenth of a second, and a slow machine waits long.
                let alarms = 1 + begun.elapsed().as_millis() as u64 / 100;
                (info.count_total, 20 * alarms)
            };
            let ((few, _), (many, waiting)) = (allocations(100), allocations(2100));
            assert!(many < few + 1000 + waiting, "{layer:?} {work:?} {wait:?}: {few} for 100, {many} for 2100");
        }
    }
    client.close();
    server.join().expect("the server");
}

#[test]
fn a_row_has_what_the_schema_says() {
    let backend = mock();
    let server = serve(&backend, 1);
    let mut client = client(&backend);
    let mut row = |layer, work| {
        let plan = plan(Terms { layer, work, ..terms() });
        let (tally, counts) = test(&mut client, &plan).expect("a test");
        row_json(&Row::new(&plan, &tally, &counts, Some(1.0)))
    };
    let latency = row(Layer::Track, Work::Latency);
    assert_eq!(latency["latency"]["of"], "half_round_trip");
    let times = ["t_min_us", "t_typical_us", "p99_us", "p999_us", "t_max_us"];
    let times = times.map(|name| latency["latency"][name].as_f64().expect(name));
    assert!(times[0] > 0.0 && times.is_sorted(), "{times:?}");
    assert!(["t_avg_us", "t_stdev_us"].iter().all(|name| latency["latency"][name].is_f64()), "{latency}");
    assert_eq!((&latency["bandwidth"], &latency["slot_bytes"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    let bandwidth = row(Layer::Message, Work::OneWay);
    for (name, value) in [("layer", "message"), ("work", "one_way"), ("wait", "events")] {
        assert_eq!(bandwidth[name], value);
    }
    for (name, value) in [
        ("bytes", 64),
        ("depth", 16),
        ("post_list", 2),
        ("slot_bytes", 4096),
        ("warmup", 10),
        ("iterations", 100),
        ("lost", 0),
        ("sent", 110),
        ("received", 110),
    ] {
        assert_eq!(bandwidth[name], value, "{name}");
    }
    let of = |name: &str| bandwidth["bandwidth"][name].as_f64().expect(name);
    assert!(of("peak_mib_per_s") >= of("average_mib_per_s") && of("average_mib_per_s") > 0.0);
    let by_hand = of("messages_per_s") * bandwidth["seconds"].as_f64().expect("seconds");
    assert!((by_hand - 100.0).abs() < 1e-6, "{by_hand}");
    assert_eq!(row(Layer::Read, Work::Latency)["latency"]["of"], "operation");
    client.close();
    server.join().expect("the server");
}
