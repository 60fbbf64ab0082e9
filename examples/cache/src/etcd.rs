//! Membership from etcd: one key has it, others say who lives. All consensus is etcd's.
//!
//! Every node holds a key with a lease of etcd's, and takes part in the office of seeing to the membership: whose key is gone is
//! taken out, and who has one and is no member is let in, one at a time, each when all members have their keys. Several may
//! try at once; etcd takes one change, since each names the revision that it changes. Where more than half of the members are
//! gone at once nobody is taken out: somebody has to look.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::FutureExt;
use serde_json::{Value, json};
use trespass::core::{Address, InOrder, Lossless, ThreadFabric, Timer, Track, wait};

use crate::membership::{Epoch, Member, Membership, NodeId};
use crate::node::NodeHandle;
use crate::source::{Source, SourceError};

/// An etcd, of version 3.4 or later, over HTTP. Clones share a thread, in which the requests wait for their answers.
#[derive(Clone)]
pub struct EtcdSource {
    shared: Arc<Shared>,
}

struct Shared {
    prefix: String,
    endpoints: Vec<String>,
    agent: ureq::Agent,
    errands: Mutex<mpsc::Sender<Errand>>,
}

type Errand = Box<dyn FnOnce() + Send>;

/// A membership, and the revision of its key; `None` where there is none yet.
type Known<A> = Option<(Membership<A>, i64)>;

impl EtcdSource {
    /// The etcd at `endpoints`, such as `http://192.0.2.1:2379`, of which one has to answer; keys begin with `prefix`. A request takes
    /// `limit` at most.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn new(endpoints: Vec<String>, prefix: impl Into<String>, limit: Duration) -> Result<Self, SourceError> {
        let agent = ureq::Agent::config_builder().timeout_global(Some(limit)).build().into();
        let (errands, errand) = mpsc::channel::<Errand>();
        let work = move || errand.into_iter().for_each(|errand| errand());
        let spawned = std::thread::Builder::new().name("etcd".into()).spawn(work);
        spawned.map_err(|error| SourceError::Unavailable(error.to_string()))?;
        let shared = Shared { prefix: prefix.into(), endpoints, agent, errands: Mutex::new(errands) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Does `work` in the thread, and waits for it.
    async fn elsewhere<T, W>(&self, work: W) -> Result<T, SourceError>
    where
        T: Send + 'static,
        W: FnOnce(&Shared) -> Result<T, SourceError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let (errand, done) = async move { work(&shared) }.remote_handle();
        let sent = {
            let errands = self.shared.errands.lock().unwrap_or_else(PoisonError::into_inner);
            errands.send(Box::new(move || wait(errand)))
        };
        match sent {
            Ok(()) => done.await,
            Err(_) => Err(SourceError::Unavailable("the thread that speaks to etcd is gone".to_owned())),
        }
    }

    /// Takes part for a node, as long as this is polled, beside [`Node::run`](crate::Node::run): says that it lives, where `member` says
    /// that it is, and sees to the membership, of which each key is to have so many `replicas`. A node that says nothing for `ttl`, which is
    /// 2 s at least, is taken out.
    pub async fn attend<F, S>(
        &self,
        node: &NodeHandle<F, S>,
        member: Member<F::Addr>,
        replicas: usize,
        ttl: Duration,
    ) -> Infallible
    where
        F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
    {
        let seconds = ttl.as_secs().max(2);
        let timer = node.timer();
        let mut lease = None;
        loop {
            let report = node.report();
            let ready = report.epoch.filter(|_| report.settled).map_or(0, |epoch| epoch.0);
            let (member, known) = (member.clone(), lease);
            let attended = self.elsewhere(move |etcd| {
                let lease = etcd.live(known, &member, ready, seconds)?;
                etcd.see_to::<F::Addr>(replicas)?;
                Ok(lease)
            });
            // A lease that is gone is asked for anew.
            lease = attended.await.ok();
            timer.sleep(Duration::from_millis(seconds * 1000 / 8)).await;
        }
    }
}

impl<A: Address> Source<A> for EtcdSource {
    async fn read(&self) -> Result<Membership<A>, SourceError> {
        let known: Known<A> = self.elsewhere(|etcd| etcd.known()).await?;
        known.map(|(membership, _)| membership).ok_or_else(|| SourceError::Unavailable("there is none yet".to_owned()))
    }
}

impl fmt::Debug for EtcdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdSource").field("prefix", &self.shared.prefix).finish_non_exhaustive()
    }
}

fn unavailable(why: impl fmt::Display) -> SourceError {
    SourceError::Unavailable(format!("etcd: {why}"))
}

/// A field of an answer, which etcd leaves out where it is the default.
fn number(value: &Value) -> i64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn text(value: &Value) -> Result<String, SourceError> {
    let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).map_err(unavailable)?;
    String::from_utf8(bytes).map_err(unavailable)
}

impl Shared {
    fn ask(&self, path: &str, question: &Value) -> Result<Value, SourceError> {
        let mut last = unavailable("there are no endpoints");
        for endpoint in &self.endpoints {
            let asked = self.agent.post(format!("{endpoint}/v3/{path}")).send(question.to_string());
            match asked.and_then(|mut answer| answer.body_mut().read_to_string()) {
                Ok(answer) => return serde_json::from_str(&answer).map_err(unavailable),
                Err(error) => last = unavailable(error),
            }
        }
        Err(last)
    }

    fn key(&self, name: &str) -> String {
        STANDARD.encode(format!("{}/{name}", self.prefix))
    }

    /// A range is read as of now, by all of etcd's members, unless it is asked for otherwise: the leases of nodes rest on that.
    fn known<A: Address>(&self) -> Result<Known<A>, SourceError> {
        let answer = self.ask("kv/range", &json!({ "key": self.key("membership") }))?;
        let Some(found) = answer["kvs"].get(0) else { return Ok(None) };
        Ok(Some((text(&found["value"])?.parse()?, number(&found["mod_revision"]))))
    }

    /// Puts `next` in place of what had that revision, or of nothing. Whether it did: somebody else may have been first.
    fn change<A: Address>(&self, revision: Option<i64>, next: &Membership<A>) -> Result<bool, SourceError> {
        let key = self.key("membership");
        let compare = json!({ "key": key, "target": "MOD", "mod_revision": revision.unwrap_or(0).to_string() });
        let put = json!({ "request_put": { "key": key, "value": STANDARD.encode(next.to_string()) } });
        let answer = self.ask("kv/txn", &json!({ "compare": [compare], "success": [put] }))?;
        Ok(answer["succeeded"].as_bool().unwrap_or(false))
    }

    /// Says that a node lives, and in which epoch it knew last that all had their keys. By which lease.
    fn live<A: Address>(
        &self,
        lease: Option<i64>,
        member: &Member<A>,
        ready: u64,
        ttl: u64,
    ) -> Result<i64, SourceError> {
        let lease = match lease {
            Some(lease) => {
                let kept = self.ask("lease/keepalive", &json!({ "ID": lease.to_string() }))?;
                match number(&kept["result"]["TTL"]) {
                    ..=0 => return Err(unavailable("the lease is over")),
                    _ => lease,
                }
            }
            None => number(&self.ask("lease/grant", &json!({ "TTL": ttl.to_string() }))?["ID"]),
        };
        let value = STANDARD.encode(format!("{member} {ready}"));
        let key = self.key(&format!("alive/{}", member.id.0));
        self.ask("kv/put", &json!({ "key": key, "value": value, "lease": lease.to_string() }))?;
        Ok(lease)
    }

    /// Who lives, and in which epoch each knew last that all had their keys.
    fn alive<A: Address>(&self) -> Result<BTreeMap<NodeId, (Member<A>, Epoch)>, SourceError> {
        // All keys that begin so: up to the first that does not.
        let range = json!({ "key": self.key("alive/"), "range_end": self.key("alive0") });
        let answer = self.ask("kv/range", &range)?;
        let mut alive = BTreeMap::new();
        for found in answer["kvs"].as_array().into_iter().flatten() {
            let value = text(&found["value"])?;
            let parsed = value
                .split_once(' ')
                .and_then(|(member, ready)| Some((Member::<A>::parse(member)?, Epoch(ready.parse().ok()?))));
            let (member, ready) = parsed.ok_or_else(|| unavailable(format!("`{value}` is no sign of life")))?;
            alive.insert(member.id, (member, ready));
        }
        Ok(alive)
    }

    /// Changes the membership, if it has to be.
    fn see_to<A: Address>(&self, replicas: usize) -> Result<(), SourceError> {
        // In this order: who lives is known to as late as the membership that is changed.
        let known: Known<A> = self.known()?;
        let alive = self.alive()?;
        let (revision, next) = match known {
            None => match alive.into_values().next() {
                Some((first, _)) => (None, Some(Membership::first(replicas, vec![first])?)),
                None => return Ok(()),
            },
            Some((membership, revision)) => (Some(revision), next(&membership, &alive)?),
        };
        match next {
            Some(next) => self.change(revision, &next).map(drop),
            None => Ok(()),
        }
    }
}

/// The next membership, where it is to be another.
fn next<A: Address>(
    now: &Membership<A>,
    alive: &BTreeMap<NodeId, (Member<A>, Epoch)>,
) -> Result<Option<Membership<A>>, SourceError> {
    let mut members = now.members().to_vec();
    members.retain(|member| alive.contains_key(&member.id));
    if members.len() < now.members().len() {
        // Where more than half seem dead it may be that they could not say that they live: they are waited for.
        let enough = members.len() * 2 >= now.members().len();
        return Ok(if enough { Some(now.clone().followed_by(members)?) } else { None });
    }
    let settled = members.iter().all(|member| alive.get(&member.id).is_some_and(|(_, ready)| *ready == now.epoch()));
    let elsewhere = |(member, _): &&(Member<A>, Epoch)| now.member(member.id) != Some(member);
    match alive.values().find(elsewhere) {
        // One that is elsewhere now was started anew: as it was a member nobody can settle without it.
        Some((new, _)) if settled || now.member(new.id).is_some() => {
            members.retain(|member| member.id != new.id);
            members.push(new.clone());
            Ok(Some(now.clone().followed_by(members)?))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u16, port: u16) -> Member<String> {
        Member { id: NodeId(id), data: format!("data{port}"), control: format!("control{port}") }
    }

    fn alive(of: &[(u16, u16, u64)]) -> BTreeMap<NodeId, (Member<String>, Epoch)> {
        of.iter().map(|(id, port, ready)| (NodeId(*id), (member(*id, *port), Epoch(*ready)))).collect()
    }

    fn ids(membership: Option<Membership<String>>) -> Option<Vec<u16>> {
        membership.map(|membership| membership.members().iter().map(|member| member.id.0).collect())
    }

    #[test]
    fn the_dead_go_at_once_and_the_living_come_one_at_a_time() {
        let now = Membership::first(2, vec![member(1, 0), member(2, 0)]).expect("a membership");
        let after = |of: &[(u16, u16, u64)]| next(&now, &alive(of)).expect("a next");
        assert_eq!(ids(after(&[(1, 0, 1), (2, 0, 1)])), None, "nothing has changed");
        assert_eq!(ids(after(&[(1, 0, 1), (2, 0, 1), (3, 0, 0), (4, 0, 0)])), Some(vec![1, 2, 3]));
        assert_eq!(ids(after(&[(1, 0, 1), (2, 0, 0), (3, 0, 0)])), None, "not before all have their keys");
        assert_eq!(ids(after(&[(1, 0, 1), (3, 0, 0)])), Some(vec![1]), "who is gone goes first");
        assert_eq!(ids(after(&[(3, 0, 0)])), None, "nobody is left who has anything: somebody has to look");
        let moved = after(&[(1, 7, 0), (2, 0, 0)]).expect("a next");
        assert_eq!(moved.member(NodeId(1)), Some(&member(1, 7)), "started again elsewhere");
    }
}
