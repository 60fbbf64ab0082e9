//! The key-value store of `examples/kv`, exercised over any fabric.

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass::carriers::{MessageCarrier, MessageConfig};
use trespass::core::{ErrorKind, InOrder, Lossless, RecvSideExt, Role, SendSide, SendSideExt, ThreadFabric, Track};

#[cfg(any(feature = "mock", feature = "verbs"))]
#[allow(dead_code, reason = "fabrics without memory have no use for it")]
pub(crate) mod one_sided;
#[path = "../../examples/kv/store/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the example uses the rest")]
pub(crate) mod store;

use store::protocol::{MAX_KEY, Rejection, Reply};
use store::{Client, Gets, Server, ServerConfig, StoreError};

/// No case takes longer, or it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How soon a client knows that its server is gone.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

/// Two ends of a fabric, and where the server listens. They may be two handles of one fabric, or two devices.
#[derive(Clone)]
pub(crate) struct Ends<F: ThreadFabric> {
    pub(crate) server: F,
    pub(crate) client: F,
    pub(crate) addr: F::Addr,
}

/// Everything that the store has to do on a fabric. `ends` makes fresh ends for each case.
pub(crate) fn exercise<F>(mut ends: impl FnMut() -> Ends<F>)
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let mut case = |name, run: fn(&Ends<F>)| {
        eprintln!("case: {name}");
        let ends = ends();
        within(PATIENCE, name, move || run(&ends));
    };
    case("put, get and delete", put_get_delete);
    case("values of every size", values_of_every_size);
    case("clients at once", clients_at_once);
    case("a call dropped half-way", a_call_dropped_half_way);
    case("many at once", many_at_once);
    case("scans", scans);
    case("malformed requests", malformed_requests);
    case("what is too long", what_is_too_long);
    case("a full store", a_full_store);
    case("garbage instead of a handshake", garbage_instead_of_a_handshake);
    case("a peer that says nothing", a_peer_that_says_nothing);
    case("a client that vanishes", a_client_that_vanishes);
    case("as many connections as there may be", as_many_connections_as_there_may_be);
    case("a server that dies", |ends| {
        let server = ends.serve();
        let addr = server.addr().clone();
        let mut server = Some(server);
        a_server_that_dies(&ends.client, &addr, || {
            drop(server.take());
            server = Some(Ends { addr: addr.clone(), ..ends.clone() }.serve());
        });
    });
}

/// Runs `work`, and panics if it takes longer than `limit`.
fn within(limit: Duration, what: &str, work: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let worker = thread::spawn(move || {
        work();
        // Nobody listens any more where it was too late.
        let _ = done.send(());
    });
    match finished.recv_timeout(limit) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: not done after {limit:?}"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            if let Err(panic) = worker.join() {
                eprintln!("in the case: {what}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> Ends<F> {
    pub(crate) fn serve(&self) -> Server<F> {
        self.serve_with(ServerConfig::default())
    }

    fn serve_with(&self, config: ServerConfig) -> Server<F> {
        Server::start(&self.server, &self.addr, config).expect("listens")
    }

    fn try_connect(&self, server: &Server<F>) -> Result<Client<F::Track>, StoreError> {
        block_on(Client::connect(&self.client, server.addr(), MessageConfig::default()))
    }

    fn connect(&self, server: &Server<F>) -> Client<F::Track> {
        self.try_connect(server).expect("connects")
    }

    /// A carrier without a client on it: to send what no client would.
    fn carrier(&self, server: &Server<F>) -> MessageCarrier<F::Track> {
        block_on(MessageCarrier::open(self.track(server), Role::Connector, MessageConfig::default()))
            .expect("shakes hands")
    }

    /// A track without a carrier on it.
    fn track(&self, server: &Server<F>) -> F::Track {
        block_on(self.client.connect(server.addr())).expect("connects")
    }
}

fn put<T: Track<Delivery: Lossless + InOrder>>(client: &mut Client<T>, key: &[u8], value: &[u8]) {
    block_on(client.put(key, value)).expect("puts");
}

fn get<T: Track<Delivery: Lossless + InOrder>>(client: &mut Client<T>, key: &[u8]) -> Option<Vec<u8>> {
    block_on(client.get(key)).expect("gets").map(|value| value.to_vec())
}

/// Puts and gets, to show that it works.
fn assert_works<T: Track<Delivery: Lossless + InOrder>>(client: &mut Client<T>) {
    put(client, b"does it work", b"it does");
    assert_eq!(get(client, b"does it work").as_deref(), Some(&b"it does"[..]));
}

fn assert_rejected<V: Debug>(outcome: Result<V, StoreError>, wanted: Rejection) {
    match outcome {
        Err(StoreError::Rejected(why, _)) if why == wanted => {}
        other => panic!("{wanted:?} was expected, not {other:?}"),
    }
}

/// Bytes that differ by length and place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ len) as u8).collect()
}

fn put_get_delete<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let server = ends.serve();
    let (mut one, mut other) = (ends.connect(&server), ends.connect(&server));

    assert_eq!(get(&mut one, b"key"), None);
    assert!(!block_on(one.delete(b"key")).unwrap(), "there is nothing to delete");
    put(&mut one, b"key", b"first");
    assert_eq!(get(&mut other, b"key").as_deref(), Some(&b"first"[..]));
    put(&mut other, b"key", b"second, and longer");
    assert_eq!(get(&mut one, b"key").as_deref(), Some(&b"second, and longer"[..]));
    assert!(block_on(one.delete(b"key")).unwrap());
    assert_eq!(get(&mut other, b"key"), None);

    // Keys are bytes: none of them is special.
    for key in [&b""[..], b"\0", b"\xff\xfe", &pattern(MAX_KEY)] {
        put(&mut one, key, key);
        assert_eq!(get(&mut other, key).as_deref(), Some(key));
    }
    block_on(one.close()).expect("closes");
    block_on(other.close()).expect("closes");
}

fn values_of_every_size<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let server = ends.serve();
    let mut client = ends.connect(&server);
    // Around powers of two is where slots and segments end.
    let around = |power: u32| (1_usize << power).saturating_sub(40)..=(1 << power) + 2;
    let small = (0..=20).chain(around(6)).chain(around(12)).chain(around(14));
    for len in small.chain([100_000, 1 << 20, (5 << 20) + 3]) {
        let value = pattern(len);
        put(&mut client, b"value", &value);
        assert!(get(&mut client, b"value").as_deref() == Some(&value), "{len} bytes come back as they were");
    }
}

fn clients_at_once<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let server = ends.serve();
    thread::scope(|scope| {
        for id in 0..4_u8 {
            let mut client = ends.connect(&server);
            scope.spawn(move || {
                for round in 0..100_usize {
                    let value = [vec![id; round * 97], pattern(round)].concat();
                    put(&mut client, &[id], &value);
                    assert!(get(&mut client, &[id]).as_deref() == Some(&value), "client {id} gets what it put");
                }
            });
        }
    });
}

fn a_call_dropped_half_way<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let server = ends.serve();
    let mut client = ends.connect(&server);
    put(&mut client, b"a", b"value of a");
    put(&mut client, b"b", b"value of b");
    for _ in 0..50 {
        // Polled once, it has most likely been sent and not been answered: the answer must not become another's.
        let _ = pin!(client.get(b"a")).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(get(&mut client, b"b").as_deref(), Some(&b"value of b"[..]));
    }
}

/// Values that fit a frame and such that do not, keys that are there and such that are not, and some that cannot be asked for.
fn many_at_once<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let server = ends.serve();
    let mut client = ends.connect(&server);
    gets_and_puts_of_many(&mut client);
}

fn gets_and_puts_of_many<T: Track<Delivery: Lossless + InOrder>, G: Gets>(client: &mut Client<T, G>) {
    let len = |number: usize| if number % 10 == 9 { 50_000 + number } else { number % 90 };
    let too_long = pattern(MAX_KEY + 1);
    let key = |number: usize| match number % 37 {
        36 => too_long.clone(),
        _ => format!("many {number}").into_bytes(),
    };
    for count in [0, 1, 300] {
        let pairs: Vec<_> = (0..count).map(|number| (key(number), pattern(len(number)))).collect();
        let mut order = Vec::new();
        let put = client.put_many(&pairs, |number, outcome| order.push((number, outcome.is_ok())));
        block_on(put).expect("the connection lives");
        let wanted: Vec<_> = (0..count).map(|number| (number, number % 37 != 36)).collect();
        assert_eq!(order, wanted, "of each once, in their order");
    }
    let keys: Vec<_> = (0..400).map(key).collect();
    let mut heard = vec![0; keys.len()];
    let get = client.get_many(&keys, |number, outcome| {
        heard[number] += 1;
        match (outcome, number) {
            (Err(StoreError::KeyTooLong(_)), number) if number % 37 == 36 => {}
            (Ok(None), 300..) => {}
            (Ok(Some(value)), 0..300) => assert!(value == pattern(len(number)), "value {number}"),
            (outcome, number) => panic!("{number}: {:?}", outcome.map(|value| value.map(<[u8]>::len))),
        }
    });
    block_on(get).expect("the connection lives");
    assert!(heard.iter().all(|count| *count == 1), "of each once");
    // Half-way: what was sent is answered, and is nobody else's answer.
    for _ in 0..5 {
        let _ = pin!(client.get_many(&keys, |_, _| {})).poll(&mut Context::from_waker(Waker::noop()));
        assert!(block_on(client.get(&keys[7])).expect("gets").as_deref() == Some(&pattern(7)[..]));
    }
}

fn scans<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let server = ends.serve();
    let mut client = ends.connect(&server);
    let scan = |client: &mut Client<F::Track>, from: &[u8], most| {
        let mut pairs = Vec::new();
        let count = block_on(client.scan(from, most, |key, value| pairs.push((key.to_vec(), value.to_vec()))));
        assert_eq!(count.expect("scans"), pairs.len());
        pairs
    };
    assert_eq!(scan(&mut client, b"", 10), []);
    let keys: [&[u8]; 6] = [b"", b"\0", b"a", b"aa", b"b", b"\xff"];
    for key in [3, 0, 5, 1, 4, 2] {
        put(&mut client, keys[key], &[keys[key], keys[key]].concat());
    }
    let pairs: Vec<_> = keys.iter().map(|key| (key.to_vec(), [*key, *key].concat())).collect();
    assert_eq!(scan(&mut client, b"", 10), pairs);
    assert_eq!(scan(&mut client, b"", 0), []);
    assert_eq!(scan(&mut client, b"a", 2), pairs[2..4]);
    assert_eq!(scan(&mut client, b"aaa", 10), pairs[4..]);
    assert!(block_on(client.delete(b"b")).expect("deletes"));
    assert_eq!(scan(&mut client, b"aaa", 10), pairs[5..]);

    // What is too long together comes in several: from the last key on.
    for number in 0..10_u8 {
        put(&mut client, &[b'z', number], &pattern(300_000));
    }
    let (mut from, mut seen) = (b"z".to_vec(), 0);
    loop {
        let some = scan(&mut client, &from, 100);
        let new: Vec<_> = some.iter().filter(|(key, _)| key.starts_with(b"z") && *key > from).collect();
        seen += new.len();
        assert!(new.iter().all(|(_, value)| *value == pattern(300_000)));
        match new.last() {
            Some((key, _)) => from.clone_from(key),
            None => break,
        }
    }
    assert_eq!(seen, 10);
}

fn malformed_requests<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let server = ends.serve();
    let mut bystander = ends.connect(&server);
    let mut carrier = ends.carrier(&server);
    let long_key = pattern(1 + MAX_KEY + 1);
    let malformed: [&[u8]; 11] = [
        b"",
        b"\0",
        b"\x07key",
        b"\xff",
        b"\x04\0\0\0",                           // a scan of half a number,
        b"\x05key",                              // what has no key,
        b"\x02",                                 // a put without a length,
        b"\x02\x04\0\0",                         // with half of one,
        b"\x02\x04\0\0\0key",                    // with more key than there is,
        b"\x02\xff\xff\xff\xffkey",              // much more,
        &[&b"\x01"[..], &long_key[..]].concat(), // a get of a key that is too long
    ];
    for request in malformed {
        block_on(carrier.send(request)).expect("sends");
        let reply = block_on(carrier.recv()).expect("the connection lives on").expect("a reply");
        match Reply::parse(&reply) {
            Ok(Reply::Rejected(Rejection::Malformed, reason)) => assert!(!reason.is_empty()),
            other => panic!("the reply to {request:?} is {other:?}"),
        }
    }
    // The same connection goes on: a put, of the key `k`.
    block_on(carrier.send(b"\x02\x01\0\0\0kvalue")).expect("sends");
    let reply = block_on(carrier.recv()).expect("receives").expect("a reply");
    assert_eq!(Reply::parse(&reply), Ok(Reply::Done));
    drop(reply);
    assert_eq!(get(&mut bystander, b"k").as_deref(), Some(&b"value"[..]));
    block_on(carrier.close()).expect("closes");
}

fn what_is_too_long<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let server = ends.serve();
    let mut client = ends.connect(&server);
    let longest = Client::<F::Track>::longest_value(&MessageConfig::default());
    match block_on(client.put(&pattern(MAX_KEY), &vec![0; longest + 1])) {
        Err(StoreError::Transport(ErrorKind::Oversize, _)) => {}
        other => panic!("Oversize was expected, not {other:?}"),
    }
    match block_on(client.get(&pattern(MAX_KEY + 1))) {
        Err(StoreError::KeyTooLong(_)) => {}
        other => panic!("KeyTooLong was expected, not {:?}", other.map(|value| value.map(|value| value.len()))),
    }
    assert_works(&mut client);

    // An answer that does not fit into a message of another client's.
    put(&mut client, b"long", &pattern(5000));
    let config = MessageConfig::default().with_max_message(1000);
    let mut narrow = block_on(Client::connect(&ends.client, server.addr(), config)).expect("connects");
    assert_rejected(block_on(narrow.get(b"long")).map(drop), Rejection::TooLong);
    assert_works(&mut narrow);
}

fn a_full_store<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let server = ends.serve_with(ServerConfig { capacity: 1000, ..ServerConfig::default() });
    let mut client = ends.connect(&server);
    put(&mut client, b"k", &pattern(900));
    assert_rejected(block_on(client.put(b"l", &pattern(100))), Rejection::Full);
    assert_eq!(get(&mut client, b"l"), None);
    assert_eq!(get(&mut client, b"k"), Some(pattern(900)), "what was there still is");
    assert!(block_on(client.delete(b"k")).unwrap());
    for _ in 0..10 {
        put(&mut client, b"l", &pattern(400)); // each gives back what the one before took
    }
}

fn garbage_instead_of_a_handshake<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let server = ends.serve();
    let mut bystander = ends.connect(&server);
    for garbage in [&b""[..], b"\0", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64], &pattern(1000)] {
        let mut track = ends.track(&server);
        block_on(async {
            let mut buf = track.reserve(garbage.len()).await.expect("a slot");
            buf.copy_from_slice(garbage);
            track.send(buf).expect("sends");
            track.flush().expect("flushes");
            // Whatever the server says to that, it ends.
            while track.recv().await.is_ok() {}
        });
        assert_works(&mut bystander);
    }
    assert_works(&mut ends.connect(&server));
}

fn a_peer_that_says_nothing<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let server = ends.serve();
    let silent = ends.track(&server);
    // Handshakes go on side by side, so nobody waits for the silent one's.
    assert_works(&mut ends.connect(&server));
    drop(silent);
    assert_works(&mut ends.connect(&server));
}

fn a_client_that_vanishes<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let server = ends.serve();
    let mut bystander = ends.connect(&server);
    put(&mut bystander, b"large", &pattern(3 << 20));
    for polls in 1..5 {
        let mut client = ends.connect(&server);
        let mut call = Box::pin(client.get(b"large"));
        for _ in 0..polls {
            if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        drop(call);
        drop(client); // in the middle of the answer, without a goodbye
        assert_works(&mut bystander);
    }
}

fn as_many_connections_as_there_may_be<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(ends: &Ends<F>) {
    let server = ends.serve_with(ServerConfig { max_connections: 2, ..ServerConfig::default() });
    let mut one = ends.connect(&server);
    let mut two = ends.connect(&server);
    match ends.try_connect(&server) {
        Err(error) => assert_eq!(error.kind(), Some(ErrorKind::Busy), "{error}"),
        Ok(_) => panic!("a third connection was let in"),
    }
    assert_works(&mut one);
    assert_works(&mut two);
    block_on(one.close()).expect("closes");
    // The server's thread notes the end in its own time.
    while ends.try_connect(&server).is_err() {
        thread::sleep(Duration::from_millis(5));
    }
}

/// The server at `addr` has four clients at work and one idle, and is replaced by a new one at the same address by
/// `replace`, without a goodbye.
pub(crate) fn a_server_that_dies<F>(fabric: &F, addr: &F::Addr, replace: impl FnOnce())
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let connect = || block_on(Client::connect(fabric, addr, MessageConfig::default())).expect("connects");
    let mut idle = connect();
    let (started, under_load) = mpsc::channel();
    let loads: Vec<_> = (0..4)
        .map(|id| {
            let (client, started) = (connect(), started.clone());
            thread::spawn(move || load_until_an_error(client, id, &started))
        })
        .collect();
    (0..loads.len()).for_each(|_| under_load.recv().expect("every client gets that far"));

    let died = Instant::now();
    replace();
    for load in loads {
        let (error, noticed) = load.join().expect("no panic");
        let after = noticed - died;
        eprintln!("noticed after {after:?}: {error}");
        assert_eq!(error.kind(), Some(ErrorKind::Disconnected), "{error}");
        assert!(after < NOTICED_WITHIN, "noticed after {after:?}");
    }
    let start = Instant::now();
    let error = block_on(idle.put(b"key", b"value")).expect_err("nobody is there");
    assert_eq!(error.kind(), Some(ErrorKind::Disconnected), "{error}");
    assert!(start.elapsed() < NOTICED_WITHIN);

    let mut client = connect();
    assert_eq!(get(&mut client, &[0]), None, "it is another store");
    assert_works(&mut client);
}

/// Puts and gets until that fails; says so on `started` once it is well under way. Why it failed, and when.
fn load_until_an_error<T>(mut client: Client<T>, id: u8, started: &mpsc::Sender<()>) -> (StoreError, Instant)
where
    T: Track<Delivery: Lossless + InOrder>,
{
    for round in 0_usize.. {
        let outcome = block_on(async {
            client.put(&[id], &pattern(round % 50_000)).await?;
            client.get(&[id]).await.map(drop)
        });
        if let Err(error) = outcome {
            return (error, Instant::now());
        }
        if round == 20 {
            started.send(()).expect("somebody waits");
        }
    }
    unreachable!("rounds do not run out")
}
