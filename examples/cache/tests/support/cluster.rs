//! A cluster in a simulation: nodes, clients with a load, and an operator who kills, cuts off and brings back, by a script
//! that is made of the seed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select;
use trespass::core::Timer;
use trespass::mock::{
    MockAddr, MockConfig, MockFabric, MockFault, MockNet, MockPlan, MockSim, MockSpawner, MockTimer, MockWhen,
};
use trespass_example_cache::membership::{Member, Membership, NodeId};
use trespass_example_cache::source::{SharedSource, Source, SourceError};
use trespass_example_cache::store::Version;
use trespass_example_cache::{
    CacheError, Client, ClientConfig, HotClient, HotConfig, HotTable, Node, NodeConfig, NodeHandle,
};

use crate::dice::Dice;
use crate::history::{Asked, Came, Operation, check};

pub(crate) const NODES: u16 = 5;
const CLIENTS: u64 = 8;
/// A step of the script has so much time.
const SLOT: Duration = Duration::from_millis(2200);
const LEASE: Duration = Duration::from_millis(400);
/// How much earlier than its time a value may go, where it was handed over.
const EARLY: Duration = Duration::from_millis(500);

/// Something that is done to a node.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// It is killed, taken out of the membership after a while, and started again after another.
    Kill { node: u16, noticed: Duration, back: Duration },
    /// It is killed and started again, and nobody notices.
    Restart { node: u16, back: Duration },
    /// Nothing gets from it to others, or to it, for a while, and it may be taken out meanwhile: is it cut off from clients and from
    /// where memberships come from, too?
    Cut { node: u16, lasting: Duration, noticed: Option<Duration>, clients: bool, source: bool },
    /// It is taken out of the membership, and let in again.
    Leave { node: u16, back: Duration },
}

/// What goes wrong in a run.
struct Script {
    steps: Vec<Step>,
    replicas: usize,
    plan: MockPlan,
    /// Whether the operator goes on before all is well again.
    hasty: bool,
}

impl Script {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x7363_7269_7074);
        let ms = Duration::from_millis;
        let mut plan = MockPlan::default().with_retry(dice.millis(100, 600));
        if !dice.one_in(4) {
            plan = plan.with_delay(ms(0)..dice.millis(1, 12));
        }
        if dice.one_in(3) {
            plan = plan.with_completions(4, ms(1));
        }
        if dice.one_in(3) {
            plan = plan.with_established_late(ms(0)..ms(3));
        }
        // The number of each node's fabric: a node that is started again has the next one.
        let mut numbers: Vec<usize> = (0..usize::from(NODES)).collect();
        let mut fabrics = usize::from(NODES) + CLIENTS as usize + 1;
        let mut steps = Vec::new();
        for slot in 1..=3 + dice.below(3) as u32 {
            let node = dice.below(u64::from(NODES)) as u16;
            let step = match dice.below(8) {
                0..3 => Step::Kill { node, noticed: dice.millis(0, 600), back: dice.millis(0, 1200) },
                3 => Step::Restart { node, back: dice.millis(0, 300) },
                4..7 => {
                    let (lasting, noticed) = (dice.millis(50, 1800), dice.millis(0, 900));
                    let noticed = (!dice.one_in(4)).then_some(noticed);
                    Step::Cut { node, lasting, noticed, clients: dice.one_in(2), source: dice.one_in(2) }
                }
                _ => Step::Leave { node, back: dice.millis(0, 1200) },
            };
            let at = SLOT * slot;
            match step {
                Step::Cut { lasting, clients, .. } => {
                    let others = numbers.iter().copied().filter(|other| *other != numbers[usize::from(node)]);
                    let clients = (clients).then_some(usize::from(NODES)..usize::from(NODES) + CLIENTS as usize + 1);
                    for other in others.chain(clients.into_iter().flatten()) {
                        plan = plan.with_partition(numbers[usize::from(node)], other, at, lasting);
                    }
                    if dice.one_in(3) {
                        let fabric = numbers[usize::from(dice.below(u64::from(NODES)) as u16)];
                        plan = plan
                            .with_event(MockWhen::At(at), MockFault::Stall { fabric, lasting: dice.millis(10, 300) });
                    }
                }
                Step::Kill { .. } | Step::Restart { .. } => {
                    numbers[usize::from(node)] = fabrics;
                    fabrics += 1;
                }
                Step::Leave { .. } => {}
            }
            steps.push(step);
        }
        Self { steps, replicas: 2 + dice.below(2) as usize, plan, hasty: dice.one_in(3) }
    }
}

/// Where one node reads its membership: it may be cut off from there, and answers take time.
#[derive(Clone)]
struct OwnSource {
    shared: SharedSource<MockAddr>,
    cut: Rc<Cell<bool>>,
    timer: MockTimer,
    dice: Rc<RefCell<Dice>>,
}

impl Source<MockAddr> for OwnSource {
    async fn read(&self) -> Result<Membership<MockAddr>, SourceError> {
        let sleep = || self.timer.sleep(self.dice.borrow_mut().millis(0, 20));
        sleep().await;
        let read = self.shared.now();
        sleep().await;
        match self.cut.get() {
            true => Err(SourceError::Unavailable("cut off".to_owned())),
            false => Ok(read),
        }
    }
}

type Handle = NodeHandle<MockFabric, OwnSource>;

/// One that runs.
struct Running {
    fabric: MockFabric,
    handle: Handle,
    cut: Rc<Cell<bool>>,
}

struct Cluster {
    net: MockNet,
    spawner: MockSpawner,
    timer: MockTimer,
    seed: u64,
    source: SharedSource<MockAddr>,
    running: RefCell<BTreeMap<u16, Running>>,
    starts: Cell<u64>,
    history: RefCell<Vec<Operation>>,
    values: Cell<u64>,
    over: Cell<bool>,
    /// Clients that are not done.
    working: Cell<u64>,
    spared: Cell<u32>,
    one_sided: Cell<u64>,
}

fn member(node: u16) -> Member<MockAddr> {
    let addr = |what: &str| format!("{what}-{node}").parse().expect("an address");
    Member { id: NodeId(node), data: addr("data"), control: addr("control") }
}

impl Cluster {
    fn start(&self, node: u16, fabric: MockFabric) {
        let start = self.starts.get() + 1;
        self.starts.set(start);
        let mut dice = Dice::new(self.seed ^ start);
        let cut = Rc::<Cell<bool>>::default();
        let mut config = NodeConfig::new(NodeId(node), start);
        config.lease = LEASE;
        config.patience = Duration::from_millis(200);
        config.zero = dice.millis(0, 1_000_000);
        config.seed = Some(dice.next());
        let source = OwnSource {
            shared: self.source.clone(),
            cut: Rc::clone(&cut),
            timer: self.timer.clone(),
            dice: Rc::new(RefCell::new(dice)),
        };
        let Member { data, control, .. } = member(node);
        let mut hot = HotConfig::default();
        (hot.reads, hot.keys, hot.longest, hot.seed) = (2, 8, 64, Some(self.seed));
        let hot_addr = format!("hot-{node}").parse().expect("an address");
        let table = HotTable::open(&fabric, &hot_addr, hot).expect("a table");
        let started =
            Node::lending(fabric.clone(), source, &data, &control, config, Some(table.hot())).expect("a node");
        let handle = started.handle();
        self.spawner.spawn(format!("node {node}, start {start}"), async move {
            // It ends when it is stopped, or its fabric is killed; and nobody reads its table then.
            select(pin!(started.run()), pin!(table.run())).await;
        });
        self.running.borrow_mut().insert(node, Running { fabric, handle, cut });
    }

    /// Whether all that was acknowledged outlives `node`: somebody else who is a member, and not cut off, knows of it.
    fn may_lose(&self, node: u16) -> bool {
        let running = self.running.borrow();
        let membership = self.source.now();
        let others = || {
            running.iter().filter(|(other, running)| {
                **other != node && !running.cut.get() && membership.member(NodeId(**other)).is_some()
            })
        };
        let known = |key: u64, version: Version| {
            let key = key_of(key);
            others().any(|(_, running)| running.handle.look(|state| state.knows(&key, version)))
        };
        let history = self.history.borrow();
        let acknowledged = history.iter().filter_map(|operation| match operation.came {
            Came::Acknowledged(version) | Came::Read(Some((version, _))) => Some((operation.key, version)),
            _ => None,
        });
        // What it has done as primary may be acknowledged, and the client has not heard yet.
        let done = (0..KEYS).filter_map(|key| {
            let own =
                running.get(&node)?.handle.look(|state| state.store().entry(&key_of(key)).map(|entry| entry.version));
            Some((key, own?))
        });
        let mut newest = BTreeMap::<u64, Version>::new();
        for (key, version) in acknowledged.chain(done) {
            let known = newest.entry(key).or_insert(version);
            *known = version.max(*known);
        }
        newest.into_iter().all(|(key, version)| known(key, version))
    }

    fn publish(&self, change: impl FnOnce(&mut Vec<Member<MockAddr>>)) {
        let now = self.source.now();
        let mut members = now.members().to_vec();
        change(&mut members);
        self.source.publish(now.followed_by(members).expect("members"));
    }

    fn leaves(&self, node: u16) -> bool {
        let is_member = self.source.now().member(NodeId(node)).is_some();
        if !is_member || !self.may_lose(node) {
            return false;
        }
        self.publish(|members| members.retain(|member| member.id != NodeId(node)));
        true
    }

    fn returns(&self, node: u16) {
        if self.source.now().member(NodeId(node)).is_none() {
            self.publish(|members| members.push(member(node)));
        }
    }

    async fn sleep(&self, time: Duration) {
        self.timer.sleep(time).await;
    }

    async fn operate(self: Rc<Self>, script: Script) {
        for (slot, step) in (1..).zip(script.steps) {
            // Cuts are in the plan, at fixed times.
            self.sleep((SLOT * slot).saturating_sub(self.timer.now())).await;
            if !script.hasty {
                let begun = self.timer.now();
                while !self.is_well() && self.timer.now() < begun + SLOT / 3 {
                    self.sleep(LEASE / 16).await;
                }
            }
            self.do_step(step).await;
        }
        while !self.is_well() {
            self.sleep(LEASE / 16).await;
        }
        self.over.set(true);
    }

    async fn do_step(&self, step: Step) {
        match step {
            Step::Kill { node, noticed, back } => {
                // Made in any case: fabrics are numbered in the plan.
                let fabric = fabric(&self.net);
                if !self.kills(node) {
                    return;
                }
                self.sleep(noticed).await;
                self.leaves(node);
                self.sleep(back).await;
                self.start(node, fabric);
                self.returns(node);
            }
            Step::Restart { node, back } => {
                let fabric = fabric(&self.net);
                if !self.kills(node) {
                    return;
                }
                self.sleep(back).await;
                self.start(node, fabric);
            }
            Step::Cut { node, lasting, noticed, source, .. } => {
                let cut = self.running.borrow().get(&node).map(|running| Rc::clone(&running.cut));
                let Some(cut) = cut else { return };
                cut.set(source);
                let begun = self.timer.now();
                if let Some(noticed) = noticed.filter(|noticed| *noticed < lasting) {
                    self.sleep(noticed).await;
                    self.leaves(node);
                }
                self.sleep((begun + lasting).saturating_sub(self.timer.now())).await;
                cut.set(false);
                self.returns(node);
            }
            Step::Leave { node, back } => {
                self.leaves(node);
                self.sleep(back).await;
                self.returns(node);
            }
        }
    }

    fn kills(&self, node: u16) -> bool {
        if !self.may_lose(node) {
            self.spared.set(self.spared.get() + 1);
            return false;
        }
        if let Some(killed) = self.running.borrow_mut().remove(&node) {
            killed.fabric.kill();
            killed.handle.stop();
        }
        true
    }

    /// Whether every node runs, is a member, and knows that all have their keys.
    fn is_well(&self) -> bool {
        let running = self.running.borrow();
        let epoch = self.source.now().epoch();
        let well = |running: &Running| {
            let report = running.handle.report();
            report.settled && report.epoch == Some(epoch)
        };
        running.len() == usize::from(NODES) && running.values().all(well)
    }

    async fn load(self: Rc<Self>, number: u64, fabric: MockFabric) {
        let mut dice = Dice::new(self.seed.rotate_left(17) ^ number);
        let client = client(&fabric, &self.source);
        while !self.over.get() {
            self.sleep(dice.millis(0, 160)).await;
            let key = if dice.one_in(2) { dice.below(3) } else { dice.below(KEYS) };
            let asked = match dice.below(16) {
                0..7 => Asked::Get,
                7 => Asked::Delete,
                _ => {
                    let value = self.values.get() + 1;
                    self.values.set(value);
                    let ttl = if dice.one_in(3) { dice.millis(100, 2500) } else { Duration::from_secs(3600) };
                    Asked::Put { value, ttl }
                }
            };
            self.ask(&client, key, asked).await;
        }
        self.one_sided.set(self.one_sided.get() + client.one_sided());
        self.working.set(self.working.get() - 1);
    }

    async fn ask(&self, client: &HotClient<MockFabric, SharedSource<MockAddr>>, key: u64, asked: Asked) {
        let start = self.timer.now();
        let name = key_of(key);
        let written = |came: Result<Version, CacheError>| match came {
            Ok(version) => Came::Acknowledged(version),
            Err(CacheError::InDoubt(_)) => Came::InDoubt,
            Err(CacheError::Unavailable { .. }) => Came::NotDone,
            Err(other) => panic!("{other}"),
        };
        let came = match asked {
            Asked::Put { value, ttl } => written(client.client().put(&name, value.to_le_bytes().to_vec(), ttl).await),
            Asked::Delete => written(client.client().delete(&name).await),
            Asked::Get => match client.get(&name).await {
                Ok(found) => Came::Read(found.map(|(version, value)| {
                    (version, u64::from_le_bytes(value[..].try_into().expect("a value of ours")))
                })),
                Err(CacheError::Unavailable { .. }) => Came::NotDone,
                Err(other) => panic!("{other}"),
            },
        };
        self.history.borrow_mut().push(Operation { key, asked, came, start, end: self.timer.now() });
    }
}

const KEYS: u64 = 12;

fn key_of(key: u64) -> Vec<u8> {
    format!("key {key}").into_bytes()
}

fn fabric(net: &MockNet) -> MockFabric {
    net.fabric(MockConfig::default().with_max_message(4096).with_send_slots(16).with_recv_slots(16)).expect("a fabric")
}

fn client(fabric: &MockFabric, source: &SharedSource<MockAddr>) -> HotClient<MockFabric, SharedSource<MockAddr>> {
    let mut config = ClientConfig::default();
    config.deadline = Duration::from_secs(4);
    config.attempt = Duration::from_millis(400);
    config.seed = Some(1);
    HotClient::new(Client::new(fabric.clone(), source.clone(), config))
}

/// What a run was.
#[derive(Debug, Clone, Copy, Default)]
#[allow(dead_code, reason = "for people")]
pub(crate) struct Summary {
    pub(crate) operations: usize,
    pub(crate) acknowledged: usize,
    pub(crate) in_doubt: usize,
    pub(crate) not_done: usize,
    pub(crate) epochs: u64,
    pub(crate) spared: u32,
    pub(crate) one_sided: u64,
    pub(crate) trace: u64,
}

/// A run of `seed`, and what is wrong with its history.
pub(crate) fn run(seed: u64) -> Result<Summary, String> {
    let script = Script::new(seed);
    let mut sim =
        MockSim::new(seed, script.plan.clone()).with_limit(Duration::from_secs(120)).with_most_polls(20_000_000);
    let told = format!("{:?}, {} replicas, hasty: {}", script.steps, script.replicas, script.hasty);
    let fabrics: Vec<MockFabric> = (0..NODES).map(|_| fabric(sim.net())).collect();
    let clients: Vec<MockFabric> = (0..=CLIENTS).map(|_| fabric(sim.net())).collect();
    let membership = Membership::first(script.replicas, (1..=NODES).map(|node| member(node - 1)).collect());
    let cluster = Rc::new(Cluster {
        net: sim.net().clone(),
        spawner: sim.spawner(),
        timer: sim.timer(),
        seed,
        source: SharedSource::new(membership.expect("a membership")),
        running: RefCell::default(),
        starts: Cell::new(0),
        history: RefCell::default(),
        values: Cell::new(0),
        over: Cell::new(false),
        working: Cell::new(CLIENTS),
        spared: Cell::new(0),
        one_sided: Cell::new(0),
    });
    for (node, fabric) in (0..).zip(fabrics) {
        cluster.start(node, fabric);
    }
    let mut clients = clients.into_iter();
    let last = clients.next().expect("one for the end");
    for (number, fabric) in (0..).zip(clients) {
        sim.spawn(format!("client {number}"), Rc::clone(&cluster).load(number, fabric));
    }
    sim.spawn("the operator", Rc::clone(&cluster).operate(script));
    let ending = Rc::clone(&cluster);
    sim.spawn("the end", async move {
        while !ending.over.get() || ending.working.get() > 0 {
            ending.sleep(LEASE).await;
        }
        let client = client(&last, &ending.source);
        for key in 0..KEYS {
            ending.ask(&client, key, Asked::Get).await;
            let read = ending.history.borrow().last().map(|operation| operation.came);
            assert!(matches!(read, Some(Came::Read(_))), "all is well again, and key {key} cannot be read");
        }
        ending.running.borrow().values().for_each(|running| running.handle.stop());
    });
    let report = sim.run().map_err(|failure| format!("{failure}\n{told}"))?;
    let running = cluster.running.borrow();
    if running.values().any(|running| running.handle.report().evictions > 0) {
        return Err(format!("something was evicted, so nothing was shown\n{told}"));
    }
    let history = cluster.history.borrow();
    check(&history, EARLY).map_err(|wrong| format!("{wrong}\n{told}"))?;
    let count = |wanted: fn(&Came) -> bool| history.iter().filter(|operation| wanted(&operation.came)).count();
    Ok(Summary {
        operations: history.len(),
        acknowledged: count(|came| matches!(came, Came::Acknowledged(_))),
        in_doubt: count(|came| *came == Came::InDoubt),
        not_done: count(|came| *came == Came::NotDone),
        epochs: cluster.source.now().epoch().0,
        spared: cluster.spared.get(),
        one_sided: cluster.one_sided.get(),
        trace: report.trace,
    })
}
