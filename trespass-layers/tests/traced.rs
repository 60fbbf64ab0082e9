//! What a metered fabric says through `tracing`. A program of its own: whether somebody listens is kept for each place of the
//! whole process, and another thread that comes to one first, while nobody does, races with the one that begins to.
#![cfg(feature = "tracing")]

mod support;

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use futures_executor::block_on;
use support::fresh_addr;
use support::metered::{fabrics, join, send};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use trespass_core::{Fabric, RecvSideExt, SendSide, SendSideExt};

/// Keeps what is said.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "trespass"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().expect("no panic under this lock").push(line.0);
    }
}

#[test]
fn connections_are_events_and_messages_are_not() {
    let heard = Heard::default();
    let addr = fresh_addr();
    let said = || std::mem::take(&mut *heard.0.lock().expect("no panic under this lock"));
    tracing::subscriber::with_default(heard.clone(), || {
        let fabrics = fabrics();
        let (mut server, mut client) = join(&fabrics, &addr);
        let joined = said();
        for role in ["Connector", "Acceptor"] {
            let is = |line: &String| line.contains("a track has come to be") && line.contains(role);
            assert!(joined.iter().any(is), "{role} in {joined:#?}");
        }
        for _ in 0..5 {
            assert!(send(&mut client, 3));
            client.flush().expect("a flush");
            drop(block_on(server.recv()).expect("a message"));
        }
        assert_eq!(said(), Vec::<String>::new(), "said of messages");
        block_on(client.close()).expect("a clean close");
        assert!(block_on(server.recv()).is_err() && block_on(server.recv()).is_err());
        let ended = said();
        assert_eq!(ended.len(), 2, "{ended:#?}");
        assert!(ended[0].starts_with("DEBUG") && ended[0].contains("a track was closed"), "{ended:#?}");
        assert!(ended[1].starts_with("DEBUG") && ended[1].contains("a track has ended"), "{ended:#?}");
        assert!(block_on(fabrics[1].connect(&"nobody".parse().expect("an address"))).is_err());
        let failed = said();
        let is = |line: &String| line.starts_with("WARN") && line.contains("kind=refused") && line.contains("nobody");
        assert!(failed.iter().any(is), "{failed:#?}");
    });
}
