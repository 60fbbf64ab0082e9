//! What the tests in simulations share.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::future::Future;
use std::time::Duration;

use trespass::carriers::ServerHandle;
use trespass::core::Fabric;
use trespass::mock::{MockAddr, MockConfig, MockFabric, MockPlan, MockSim};
use trespass_example_rpc::{Channel, ChannelConfig, RpcServer, ServeConfig, Service, arith};

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn addr() -> MockAddr {
    "rpc".parse().expect("an address")
}

/// A server and a client's fabric in a simulation.
pub(crate) struct World {
    pub(crate) sim: MockSim,
    pub(crate) server: MockFabric,
    pub(crate) client: MockFabric,
}

impl World {
    pub(crate) fn new(seed: u64, plan: MockPlan) -> Self {
        let sim = MockSim::new(seed, plan);
        let config = MockConfig::default();
        let server = sim.net().fabric(config.clone()).expect("a good configuration");
        let client = sim.net().fabric(config).expect("a good configuration");
        Self { sim, server, client }
    }

    /// With messages up to 2 ms on their way.
    pub(crate) fn slow(seed: u64) -> Self {
        Self::new(seed, MockPlan::default().with_delay(ms(0)..ms(2)))
    }

    /// Starts a server of its own service.
    pub(crate) fn serve<S: Service + 'static>(&self, service: S, config: ServeConfig) -> ServerHandle<MockAddr> {
        let listener = self.server.listen(&addr()).expect("a listener");
        let mut server = RpcServer::new(listener, self.server.timer(), service, config).expect("a good configuration");
        let handle = server.handle();
        self.sim.spawn("server", async move { server.run().await.expect("nothing ends the listener") });
        handle
    }

    pub(crate) fn serve_arith(&self, config: ServeConfig) -> ServerHandle<MockAddr> {
        self.serve(arith::service(self.server.timer()), config)
    }

    pub(crate) fn channel(&self, config: ChannelConfig) -> Channel<MockFabric> {
        Channel::new(self.client.clone(), addr(), config.with_seed(7))
    }

    /// Runs `client`, then drains the server, to the end of the simulation. What the client gave.
    pub(crate) fn run<T: 'static>(
        mut self,
        handle: ServerHandle<MockAddr>,
        client: impl Future<Output = T> + 'static,
    ) -> T {
        let output = self.sim.spawn("client", async move {
            let output = client.await;
            handle.drain(ms(100));
            output
        });
        let report = self.sim.run();
        report.unwrap_or_else(|failure| panic!("{failure}"));
        output.output().expect("the client has ended")
    }
}
