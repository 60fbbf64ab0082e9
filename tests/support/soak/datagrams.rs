//! The lane over datagrams. Nothing is promised to arrive: what does arrives whole and once, and what is acknowledged was
//! received.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use trespass_carriers::{CarrierError, DatagramCarrier, DatagramConfig};
use trespass_core::{Datagram, Incoming, Listener, Role, ThreadFabric, Timer, Track, TransportError};

use super::desk::Desk;
use super::record::{self, Kind};
use super::{Load, Task, Trouble, judged, judged_handshake, within};

const LANE: u64 = 7;

/// The longest body: some datagrams.
const LONGEST: usize = 12_000;

/// How long an acknowledgement is waited for.
const PATIENCE: Duration = Duration::from_millis(20);
/// How many records may be without one before a connection is given up.
const DEAF: u32 = 100;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct DatagramTally {
    pub(crate) sent: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) sessions: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// The end that sends. What is wrong panics.
pub(crate) async fn run<D>(fabric: D, desk: D::Addr, load: Load, tally: Arc<DatagramTally>)
where
    D: ThreadFabric<Track: Track<Delivery = Datagram>>,
{
    let timer = fabric.timer();
    let mut number = 0;
    while !load.is_over() {
        match session(&fabric, &desk, &load, &tally, &mut number).await {
            Ok(()) => {}
            Err(Trouble::Broken(_)) => {
                tally.failed.fetch_add(1, Ordering::SeqCst);
                timer.sleep(Duration::from_millis(200)).await;
            }
            Err(Trouble::Wrong(why)) => panic!("datagrams: {why}"),
        }
    }
}

async fn session<D>(
    fabric: &D,
    desk: &D::Addr,
    load: &Load,
    tally: &DatagramTally,
    number: &mut u64,
) -> Result<(), Trouble>
where
    D: ThreadFabric<Track: Track<Delivery = Datagram>>,
{
    let timer = fabric.timer();
    let track = fabric.connect(desk).await.map_err(|error| judged_handshake("connect", error.kind()))?;
    let mut carrier =
        DatagramCarrier::open(track, Role::Connector, DatagramConfig::default()).await.map_err(trouble)?;
    tally.sessions.fetch_add(1, Ordering::SeqCst);
    let (first, mut record, mut deaf) = (*number, Vec::new(), 0);
    let mut acked = BTreeSet::new();
    while !load.is_over() && deaf < DEAF {
        *number += 1;
        let body = record::body_of(LANE, *number, record::len_of(LANE, *number, LONGEST));
        let sum = record::write(&mut record, Kind::Data, *number, 0, body);
        carrier.send(&record).await.map_err(trouble)?;
        tally.sent.fetch_add(1, Ordering::SeqCst);
        deaf += 1;
        // Its own acknowledgement, or a late one; or none, and then it may be lost.
        while let Some(received) = within(&timer, PATIENCE, carrier.recv()).await {
            let Some(message) = received.map_err(trouble)? else {
                return Err(Trouble::Broken("a goodbye".into()));
            };
            let ack = record::read(&message).map_err(Trouble::Wrong)?;
            let of_this_session = (first + 1..=*number).contains(&ack.number);
            if ack.kind != Kind::Ack || !of_this_session || !acked.insert(ack.number) {
                return Err(Trouble::Wrong(format!("{:?} {} of {first} to {number}", ack.kind, ack.number)));
            }
            deaf = 0;
            tally.acked.fetch_add(1, Ordering::SeqCst);
            if ack.number == *number {
                match ack.digest == sum {
                    true => break,
                    false => return Err(Trouble::Wrong(format!("record {number} was received as another"))),
                }
            }
        }
        if !load.rest.is_zero() {
            timer.sleep(load.rest).await;
        }
    }
    match deaf < DEAF {
        true => carrier.close().await.map_err(trouble),
        false => Err(Trouble::Broken("nobody hears".into())),
    }
}

/// The end that receives, until the desk is stopped. What is wrong panics.
pub(crate) async fn serve<D>(mut listener: D::Listener, desk: Arc<Desk>, spawn: impl Fn(Task))
where
    D: ThreadFabric<Track: Track<Delivery = Datagram>>,
{
    while let Some(incoming) = desk.next(&mut listener).await {
        let incoming = incoming.unwrap_or_else(|error| panic!("datagrams: the listener: {error}"));
        let desk = Arc::clone(&desk);
        spawn(Box::pin(async move {
            match attend::<D>(incoming, &desk).await {
                Ok(()) | Err(Trouble::Broken(_)) => {}
                Err(Trouble::Wrong(why)) => panic!("datagrams, at the desk: {why}"),
            }
        }));
    }
}

async fn attend<D>(incoming: <D::Listener as Listener>::Incoming, desk: &Desk) -> Result<(), Trouble>
where
    D: ThreadFabric<Track: Track<Delivery = Datagram>>,
{
    let track = incoming.accept().await.map_err(|error| judged_handshake("accept", error.kind()))?;
    let carrier = DatagramCarrier::open(track, Role::Acceptor, DatagramConfig::default()).await.map_err(trouble)?;
    let seat = desk.sit();
    seat.hold(receive(carrier, desk)).await.unwrap_or(Ok(()))
}

async fn receive<T: Track<Delivery = Datagram>>(mut carrier: DatagramCarrier<T>, desk: &Desk) -> Result<(), Trouble> {
    let (mut seen, mut answer) = (BTreeSet::new(), Vec::new());
    while let Some(message) = poll_fn(|cx| carrier.poll_recv(cx)).await.map_err(trouble)? {
        let record = record::read(&message).map_err(Trouble::Wrong)?;
        if record.body != record::body_of(LANE, record.number, record::len_of(LANE, record.number, LONGEST)) {
            return Err(Trouble::Wrong(format!("record {} is not what was sent", record.number)));
        }
        if !seen.insert(record.number) {
            return Err(Trouble::Wrong(format!("record {} came twice", record.number)));
        }
        // What is older than the newest by far is never taken by the carrier.
        while seen.len() > 4096 {
            seen.pop_first();
        }
        desk.bytes.fetch_add(record.body.len() as u64, Ordering::Relaxed);
        record::write(&mut answer, Kind::Ack, record.number, record.sum, &[]);
        drop(message);
        carrier.send(&answer).await.map_err(trouble)?;
    }
    Ok(())
}

fn trouble<E: TransportError>(error: CarrierError<E>) -> Trouble {
    judged("datagrams", error.kind())
}
