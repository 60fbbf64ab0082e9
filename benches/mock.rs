//! Tracks and carriers in process: what the library itself costs, without a device.
//!
//! As a criterion bench: `cargo bench --bench mock`. And as a program that does one thing so many times, whose
//! instructions `scripts/bench-mock` counts: `mock count OVER WORK SIZE TIMES`.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use criterion::{BenchmarkId, Criterion, Throughput};
use trespass::carriers::{MessageCarrier, MessageConfig, StreamCarrier, StreamConfig};
use trespass::core::{Fabric, InOrder, Incoming, ListenerExt, Lossless, Role, Track};
use trespass::mock::{MockConfig, MockFabric, MockNet};

use halves::{HalvesLink, StreamHalvesLink, StreamLink};
use link::{CarrierLink, Link, TrackLink};

#[path = "support/halves.rs"]
mod halves;
#[path = "support/link.rs"]
mod link;

/// The longest message that is measured, with room for what a carrier adds, so that it is one frame.
const MAX_MESSAGE: usize = (64 << 10) + 64;
const SIZES: [usize; 2] = [64, 64 << 10];
/// Messages for each doorbell of a stream.
const BATCH: u64 = 16;

/// What is measured.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// One message there and one back, by the calls that never wait.
    Polling,
    /// The same, by the calls that wait, each of which is polled once before there is something and once after.
    Waiting,
    /// One message there, of many for each doorbell.
    Stream,
}

const WORKS: [(&str, Work); 3] = [("polling", Work::Polling), ("waiting", Work::Waiting), ("stream", Work::Stream)];

/// The two ends of one connection, driven by one thread.
struct Ends<L> {
    client: L,
    server: L,
    number: u64,
}

impl<L: Link<Error: Debug>> Ends<L> {
    /// Does it once.
    fn once(&mut self, work: Work, size: usize) {
        self.number += 1;
        let number = self.number;
        match work {
            Work::Polling => {
                pass(&mut self.client, &mut self.server, size, number);
                pass(&mut self.server, &mut self.client, size, number);
            }
            Work::Waiting => {
                wait(&mut self.client, &mut self.server, size, number);
                wait(&mut self.server, &mut self.client, size, number);
            }
            Work::Stream => self.stream(size, number),
        }
    }

    fn stream(&mut self, size: usize, number: u64) {
        assert!(self.client.try_send(size, number).unwrap(), "no room for a message");
        if number % BATCH == 0 {
            self.client.flush().unwrap();
            for expected in number - BATCH + 1..=number {
                assert_eq!(self.server.try_recv().unwrap(), Some(expected));
            }
            // The look that finds nothing is where a carrier gives its credits.
            assert_eq!(self.server.try_recv().unwrap(), None);
            assert_eq!(self.client.try_recv().unwrap(), None);
        }
    }
}

fn pass<L: Link<Error: Debug>>(from: &mut L, to: &mut L, size: usize, number: u64) {
    assert!(from.try_send(size, number).unwrap(), "no room for a message");
    from.flush().unwrap();
    assert_eq!(to.try_recv().unwrap(), Some(number));
}

fn wait<L: Link<Error: Debug>>(from: &mut L, to: &mut L, size: usize, number: u64) {
    let mut receiving = pin!(to.recv());
    assert!(poll(receiving.as_mut()).is_pending(), "a message that nobody sent");
    {
        let mut sending = pin!(from.send(size, number));
        assert!(poll(sending.as_mut()).is_ready(), "no room for a message");
    }
    from.flush().unwrap();
    assert!(matches!(poll(receiving), Poll::Ready(Ok(got)) if got == number));
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs two futures of which each needs the other.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut a_out, mut b_out) = (None, None);
    std::future::poll_fn(move |cx| {
        if a_out.is_none() {
            a_out = ready(a.as_mut().poll(cx));
        }
        if b_out.is_none() {
            b_out = ready(b.as_mut().poll(cx));
        }
        match (a_out.take(), b_out.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            outs => {
                (a_out, b_out) = outs;
                Poll::Pending
            }
        }
    })
    .await
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(out) => Some(out),
        Poll::Pending => None,
    }
}

async fn tracks() -> (<MockFabric as Fabric>::Track, <MockFabric as Fabric>::Track) {
    let fabric = MockNet::new().fabric(MockConfig::default().with_max_message(MAX_MESSAGE)).unwrap();
    let addr = "server".parse().unwrap();
    let mut listener = fabric.listen(&addr).unwrap();
    let server = async { listener.incoming().await.unwrap().accept().await.unwrap() };
    let (client, server) = both(fabric.connect(&addr), server).await;
    (client.unwrap(), server)
}

fn track_ends() -> Ends<TrackLink<impl Track>> {
    let (client, server) = futures_executor::block_on(tracks());
    Ends { client: TrackLink::new(client), server: TrackLink::new(server), number: 0 }
}

fn carrier_ends() -> Ends<CarrierLink<impl Track<Delivery: Lossless + InOrder>>> {
    futures_executor::block_on(async {
        let (client, server) = tracks().await;
        let open = |track, role| MessageCarrier::open(track, role, MessageConfig::default());
        let (client, server) = both(open(client, Role::Connector), open(server, Role::Acceptor)).await;
        let [client, server] = [client, server].map(|carrier| CarrierLink::new(carrier.unwrap()));
        Ends { client, server, number: 0 }
    })
}

fn halves_ends() -> Ends<HalvesLink<impl Track<Delivery: Lossless + InOrder>>> {
    futures_executor::block_on(async {
        let (client, server) = tracks().await;
        let open = |track, role| MessageCarrier::open(track, role, MessageConfig::default());
        let (client, server) = both(open(client, Role::Connector), open(server, Role::Acceptor)).await;
        let [client, server] = [client, server].map(|carrier| {
            let (sender, receiver) = carrier.unwrap().split();
            HalvesLink { sender, receiver }
        });
        Ends { client, server, number: 0 }
    })
}

async fn streams() -> [StreamCarrier<<MockFabric as Fabric>::Track>; 2] {
    let (client, server) = tracks().await;
    let open = |track, role| StreamCarrier::open(track, role, StreamConfig::default());
    let (client, server) = both(open(client, Role::Connector), open(server, Role::Acceptor)).await;
    [client.unwrap(), server.unwrap()]
}

fn bytes_ends() -> Ends<StreamLink<impl Track<Delivery: Lossless + InOrder>>> {
    let link = |stream| StreamLink { stream, data: vec![0; MAX_MESSAGE] };
    let [client, server] = futures_executor::block_on(streams()).map(link);
    Ends { client, server, number: 0 }
}

fn bytes_halves_ends() -> Ends<StreamHalvesLink<impl Track<Delivery: Lossless + InOrder>>> {
    let [client, server] = futures_executor::block_on(streams()).map(|stream| {
        let (reader, writer) = stream.into_split();
        StreamHalvesLink { reader, writer, data: vec![0; MAX_MESSAGE] }
    });
    Ends { client, server, number: 0 }
}

fn bench<L: Link<Error: Debug>>(criterion: &mut Criterion, over: &str, make: impl Fn() -> Ends<L>) {
    for (name, work) in WORKS {
        let mut group = criterion.benchmark_group(format!("{over}/{name}"));
        for size in SIZES {
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                let mut ends = make();
                bencher.iter(|| ends.once(work, black_box(size)));
            });
        }
        group.finish();
    }
}

/// `count OVER WORK SIZE TIMES`.
fn count(args: &[String]) -> Result<(), Box<dyn Error>> {
    let [over, work, size, times] = args else { return Err("usage: mock count OVER WORK SIZE TIMES".into()) };
    let (size, times) = (size.parse()?, times.parse::<u64>()?);
    let (_, work) = WORKS.into_iter().find(|(name, _)| name == work).ok_or_else(|| format!("no work {work}"))?;
    match over.as_str() {
        "track" => repeat(track_ends(), work, size, times),
        "carrier" => repeat(carrier_ends(), work, size, times),
        "halves" => repeat(halves_ends(), work, size, times),
        "bytes" => repeat(bytes_ends(), work, size, times),
        "bytes-halves" => repeat(bytes_halves_ends(), work, size, times),
        _ => return Err(format!("nothing is called {over}").into()),
    }
    Ok(())
}

fn repeat<L: Link<Error: Debug>>(mut ends: Ends<L>, work: Work, size: usize, times: u64) {
    for _ in 0..times {
        ends.once(work, black_box(size));
    }
    let Ends { mut client, mut server, .. } = ends;
    let _ = futures_executor::block_on(both(client.close(), server.close()));
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "count") {
        return count(&args[1..]);
    }
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion, "track", track_ends);
    bench(&mut criterion, "carrier", carrier_ends);
    bench(&mut criterion, "halves", halves_ends);
    bench(&mut criterion, "bytes", bytes_ends);
    bench(&mut criterion, "bytes-halves", bytes_halves_ends);
    criterion.final_summary();
    Ok(())
}
