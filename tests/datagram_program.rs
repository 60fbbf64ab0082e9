//! One small program of datagrams, generic over the fabric: on the mock, on a mock that loses, and on real verbs.
#![cfg(feature = "mock")]

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_executor::block_on;
use trespass_core::{Port, PortExt, PortFabric, Sourced, Timer, TransportError};
use trespass_mock::{MockConfig, MockDatagramConfig, MockNet};

#[cfg(feature = "verbs")]
#[path = "support/rdma.rs"]
mod rdma;

const CLIENTS: u32 = 3;
const EACH: u32 = 100;
/// How long an answer is waited for before the question is put again.
const PATIENCE: Duration = Duration::from_millis(20);

/// Counts what clients tell it to, each number once however often it comes, and says how far it is. Ends with all of them.
async fn serve<P: Port>(mut port: P) -> HashMap<P::Peer, u32> {
    let mut counts = HashMap::new();
    let mut done = 0;
    while done < CLIENTS {
        let question = port.recv().await.expect("a port that nobody closes");
        let number = u32::from_le_bytes(question[..].try_into().expect("what clients send"));
        let count = counts.entry(question.source()).or_insert(0);
        if number == *count + 1 {
            *count = number;
            done += u32::from(number == EACH + 1);
        }
        let answer = *count;
        send(&mut port, answer, &question.source()).await;
    }
    // The last answers may be lost: more of them than any network here takes.
    for (peer, count) in &counts {
        for _ in 0..20 {
            send(&mut port, *count, peer).await;
        }
    }
    port.close().await.expect("a clean close");
    counts
}

/// Tells the server each number until it says that it has it.
async fn count<P: Port>(mut port: P, server: P::Peer) {
    let timer = port.timer();
    for number in 1..=EACH + 1 {
        loop {
            send(&mut port, number, &server).await;
            match within(timer.sleep(PATIENCE), answer(&mut port, &server, number)).await {
                Some(()) => break,
                None => continue,
            }
        }
    }
    port.close().await.expect("a clean close");
}

async fn send<P: Port>(port: &mut P, number: u32, to: &P::Peer) {
    let mut buf = port.reserve(4).await.expect("a slot");
    buf.copy_from_slice(&number.to_le_bytes());
    port.send_to(buf, to).unwrap_or_else(|unsent| panic!("{}", unsent.error));
    port.flush().unwrap_or_else(|error| panic!("{error}: {:?}", error.kind()));
}

/// Waits for the answer that says `number`, past those to questions that were put twice.
async fn answer<P: Port>(port: &mut P, server: &P::Peer, number: u32) {
    loop {
        let answer = port.recv().await.expect("a port that nobody closes");
        assert_eq!(answer.source(), *server);
        let said = u32::from_le_bytes(answer[..].try_into().expect("what the server sends"));
        assert!(said <= number, "the server has counted {said}, which nobody told it to");
        if said == number {
            return;
        }
    }
}

/// What `future` gives, if that comes before `alarm`.
async fn within<T>(alarm: impl Future<Output = ()>, future: impl Future<Output = T>) -> Option<T> {
    let (mut alarm, mut future) = (pin!(alarm), pin!(future));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => alarm.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// The server and its clients, on threads of their own.
fn exercise<F>(near: &F, far: &F, addr: &F::Addr, from: impl Fn(u32) -> F::Addr)
where
    F: PortFabric<Port: Send, Resolving: Send> + Sync,
    <F::Port as Port>::Timer: Send,
{
    let server = far.open_port(addr).expect("a port");
    let at = server.local();
    let counts = thread::scope(|scope| {
        for id in 0..CLIENTS {
            let port = near.open_port(&from(id)).expect("a port");
            let server = block_on(near.resolve(&at)).expect("the server");
            scope.spawn(|| block_on(count(port, server)));
        }
        block_on(serve(server))
    });
    let counts: Vec<u32> = counts.into_values().collect();
    assert_eq!(counts, [EACH + 1; CLIENTS as usize]);
}

fn on_the_mock(config: &MockDatagramConfig) {
    let net = MockNet::new();
    let open = || {
        let fabric = net.fabric(MockConfig::default()).expect("the defaults will do");
        fabric.datagrams(config.clone()).expect("a good configuration")
    };
    let client = |id| format!("client-{id}").parse().expect("an address");
    exercise(&open(), &open(), &"server".parse().expect("an address"), client);
}

#[test]
fn on_a_perfect_mock() {
    on_the_mock(&MockDatagramConfig::default());
}

#[test]
fn on_a_mock_that_loses() {
    let config = MockDatagramConfig::default().with_seed(7);
    on_the_mock(&config.with_loss(100).with_duplication(100).with_reordering(100));
}

#[cfg(feature = "verbs")]
#[test]
fn on_verbs() {
    use std::net::SocketAddr;
    use trespass_verbs::{DatagramConfig, VerbsConfig};
    rdma::needs_rdma!();
    let (near, far) = rdma::addresses();
    let open = |ip| rdma::fabric(ip, VerbsConfig::default()).datagrams(DatagramConfig::default()).expect("datagrams");
    exercise(&open(near), &open(far), &SocketAddr::new(far, 0), |_| SocketAddr::new(near, 0));
}
