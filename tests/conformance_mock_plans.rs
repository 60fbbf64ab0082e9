//! The mock keeps the contract also where a plan slows it down: what is late is neither lost nor overtaken.
#![cfg(feature = "mock")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use trespass_conformance::{Deadlines, Fabrics, Harness, MemoryHarness};
use trespass_core::ErrorKind;
use trespass_mock::{MockAddr, MockConfig, MockFabric, MockNet, MockPlan, MockTrack};

const DEADLINES: Deadlines = Deadlines { handshake: Duration::from_secs(1), close: Duration::from_secs(1) };

static NEXT: AtomicU64 = AtomicU64::new(0);

fn fabrics(plan: MockPlan, config: MockConfig) -> Fabrics<MockFabric> {
    let net = MockNet::with_plan(NEXT.fetch_add(1, Ordering::Relaxed), plan).expect("a plan that slows down");
    let config = config.with_max_message(4096).with_send_slots(8).with_recv_slots(8);
    let fabric = || net.fabric(config.clone()).expect("a good configuration");
    Fabrics { server: fabric(), client: fabric() }
}

fn hasty() -> MockConfig {
    MockConfig::default().with_handshake_timeout(DEADLINES.handshake).with_close_timeout(DEADLINES.close)
}

macro_rules! conforms_with {
    ($name:ident, $plan:expr) => {
        mod $name {
            use super::*;

            struct Slowed;

            impl Harness for Slowed {
                type Fabric = MockFabric;

                fn fabrics(&self) -> Fabrics<MockFabric> {
                    fabrics($plan, MockConfig::default())
                }

                fn hasty_fabrics(&self) -> Fabrics<MockFabric> {
                    fabrics($plan, hasty())
                }

                fn listen_addr(&self) -> MockAddr {
                    let number = NEXT.fetch_add(1, Ordering::Relaxed);
                    MockAddr::new(&format!("server-{number}")).expect("an address")
                }

                fn vacant_addr(&self) -> MockAddr {
                    "nobody".parse().expect("an address")
                }

                fn deadlines(&self) -> Deadlines {
                    DEADLINES
                }

                fn scale(&self) -> f64 {
                    0.1
                }

                fn doorbells(&self, track: &MockTrack) -> Option<u64> {
                    Some(track.counters().doorbells)
                }

                fn arms(&self, track: &MockTrack) -> Option<u64> {
                    Some(track.counters().arms)
                }

                fn cut(&self, track: &MockTrack) -> Option<ErrorKind> {
                    track.break_link();
                    Some(ErrorKind::Disconnected)
                }
            }

            impl MemoryHarness for Slowed {}

            trespass_conformance::conformance_tests!(Slowed);
            trespass_conformance::memory_conformance_tests!(Slowed);
        }
    };
}

const fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

conforms_with!(delayed, MockPlan::default().with_delay(us(0)..us(300)));
conforms_with!(batched, MockPlan::default().with_completions(4, us(500)));
conforms_with!(
    both,
    MockPlan::default().with_delay(us(0)..us(200)).with_completions(3, us(200)).with_established_late(us(0)..us(2000))
);
