//! Publish-subscribe, a carrier of one's own, on the in-process mock: three subscribers, of which one is slow, one comes late,
//! and one dies. See the README beside this file.
#![forbid(unsafe_code)]

#[cfg(feature = "mock")]
#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
mod pubsub;

#[cfg(not(feature = "mock"))]
fn main() {
    eprintln!("built without the mock: build with `--features mock`");
}

#[cfg(feature = "mock")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The one line that names a fabric.
    on_any_fabric(&trespass::mock::MockFabric::new(), &"publisher".parse()?)
}

#[cfg(feature = "mock")]
fn on_any_fabric<F>(fabric: &F, addr: &F::Addr) -> Result<(), Box<dyn std::error::Error>>
where
    F: trespass::core::ThreadFabric<
            Track: trespass::core::Track<Delivery: trespass::core::Lossless + trespass::core::InOrder>,
        >,
{
    use futures_executor::block_on;
    use pubsub::{Publisher, PublisherConfig, Server, Subscriber, message_config};
    use trespass::core::{Carrier, Role};

    let publisher = Publisher::new(PublisherConfig { queue: 16, ..PublisherConfig::default() });
    let server = Server::start(fabric, addr, publisher.clone(), 8)?;
    println!("the publisher listens at {}", server.addr());
    let subscribe = || {
        block_on(async {
            let track = fabric.connect(server.addr()).await?;
            let mut subscriber = Subscriber::open(track, Role::Connector, message_config()).await?;
            subscriber.subscribe("weather").await?;
            Ok::<_, Box<dyn std::error::Error>>(subscriber)
        })
    };
    let publish = |count: u32| (0..count).try_for_each(|n| publisher.publish("weather", &n.to_le_bytes()).map(drop));

    let (mut quick, mut slow, dying) = (subscribe()?, subscribe()?, subscribe()?);
    // The server takes requests in its own time.
    while publisher.publish("weather", b"sun")? < 3 {
        std::thread::yield_now();
    }
    drop(dying);
    println!("three subscribe to `weather`; one of them dies without a goodbye");

    let total = 10_000;
    let reading = std::thread::spawn(move || {
        let (mut got, mut missed, mut last) = (0_u64, 0, 0);
        while let Ok(Some(received)) = block_on(quick.recv()) {
            let Some(event) = received.event() else { break };
            (got, missed) = (got + 1, missed + event.missed);
            last = event.payload.first_chunk().map_or(last, |bytes| u32::from_le_bytes(*bytes));
        }
        (got, missed, last)
    });
    publish(total)?;
    println!("{total} events are published, and nobody was waited for");

    let mut late = subscribe()?;
    let received = block_on(late.recv())?.ok_or("a goodbye")?;
    let event = received.event().ok_or("no event")?;
    println!("one that comes late gets the latest: {:?}, retained: {}", event.payload, event.retained);
    drop(received);

    let stopping = std::thread::spawn(move || drop(server));
    let (mut got, mut missed) = (0_u64, 0);
    while let Some(received) = block_on(slow.recv())? {
        let event = received.event().ok_or("no event")?;
        (got, missed) = (got + 1, missed + event.missed);
    }
    println!("the slow one reads only now: {got} events, and is told that it missed {missed}");
    while block_on(late.recv())?.is_some() {}
    let (got, missed, last) = reading.join().map_err(|_| "the quick one panicked")?;
    println!("the quick one has read {got} events, and missed {missed}; the last was number {last}");
    stopping.join().map_err(|_| "the server panicked")?;
    Ok(())
}
