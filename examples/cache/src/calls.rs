//! Requests and their answers over messages: a stand-in for a framework of calls, one call at a time on each connection.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use trespass::carriers::{Accepted, MessageCarrier, MessageConfig, Server, ServerConfig};
use trespass::core::{Fabric, InOrder, Lossless, Role, Track, within};

use crate::store::Version;
use crate::wire::{Answer, Found, Lent, Read, Replicate, Replicated, Report, Write};

/// What can be asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    Read(Read),
    Write(Write),
    Replicate(Replicate),
    Report,
    Lend,
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Reply {
    Read(Answer<Found>),
    Write(Answer<Version>),
    Replicate(Answer<Replicated>),
    Report(Report),
    Lend(Option<Lent>),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}")]
pub struct CallFailure {
    /// Whether the other end may have done what it was asked to.
    pub maybe_done: bool,
    /// What went wrong.
    pub what: String,
}

/// Calls one node.
pub(crate) struct Caller<F: Fabric<Track: Track<Delivery: Lossless + InOrder>>> {
    fabric: F,
    addr: F::Addr,
    idle: Mutex<Vec<MessageCarrier<F::Track>>>,
}

/// So many connections are kept.
const MOST_IDLE: usize = 8;

impl<F: Fabric<Track: Track<Delivery: Lossless + InOrder>>> Caller<F> {
    pub(crate) fn new(fabric: F, addr: F::Addr) -> Self {
        Self { fabric, addr, idle: Mutex::default() }
    }

    pub(crate) fn addr(&self) -> &F::Addr {
        &self.addr
    }

    async fn call(&self, request: Request, limit: Duration) -> Result<Reply, CallFailure> {
        let sent = std::cell::Cell::new(false);
        let failed = |what: String| CallFailure { maybe_done: sent.get(), what };
        let calling = async {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut carrier = match idle {
                Some(carrier) => carrier,
                None => {
                    let track = self.fabric.connect(&self.addr).await.map_err(|error| failed(error.to_string()))?;
                    let opening = MessageCarrier::open(track, Role::Connector, MessageConfig::default());
                    opening.await.map_err(|error| failed(error.to_string()))?
                }
            };
            let bytes = postcard::to_stdvec(&request).map_err(|error| failed(error.to_string()))?;
            sent.set(true);
            carrier.send(&bytes).await.map_err(|error| failed(error.to_string()))?;
            let reply = carrier.recv().await.map_err(|error| failed(error.to_string()))?;
            let reply = reply.ok_or_else(|| failed("the node has gone".to_owned()))?;
            let reply = postcard::from_bytes(&reply).map_err(|error| failed(error.to_string()))?;
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MOST_IDLE {
                idle.push(carrier);
            }
            Ok(reply)
        };
        within(&self.fabric.timer(), limit, calling).await.unwrap_or_else(|_| Err(failed("no answer in time".to_owned())))
    }

    pub(crate) async fn read(&self, read: Read, limit: Duration) -> Result<Answer<Found>, CallFailure> {
        match self.call(Request::Read(read), limit).await? {
            Reply::Read(answer) => Ok(answer),
            _ => Err(nonsense()),
        }
    }

    pub(crate) async fn write(&self, write: Write, limit: Duration) -> Result<Answer<Version>, CallFailure> {
        match self.call(Request::Write(write), limit).await? {
            Reply::Write(answer) => Ok(answer),
            _ => Err(nonsense()),
        }
    }

    pub(crate) async fn replicate(&self, write: Replicate, limit: Duration) -> Result<Answer<Replicated>, CallFailure> {
        match self.call(Request::Replicate(write), limit).await? {
            Reply::Replicate(answer) => Ok(answer),
            _ => Err(nonsense()),
        }
    }

    pub(crate) async fn report(&self, limit: Duration) -> Result<Report, CallFailure> {
        match self.call(Request::Report, limit).await? {
            Reply::Report(report) => Ok(report),
            _ => Err(nonsense()),
        }
    }

    pub(crate) async fn lend(&self, limit: Duration) -> Result<Option<Lent>, CallFailure> {
        match self.call(Request::Lend, limit).await? {
            Reply::Lend(lent) => Ok(lent),
            _ => Err(nonsense()),
        }
    }
}

fn nonsense() -> CallFailure {
    CallFailure { maybe_done: true, what: "the node answered something else".to_owned() }
}

/// Answers until the listener ends.
pub(crate) async fn serve<F, H, R>(fabric: &F, listener: F::Listener, handler: H) -> String
where
    F: Fabric<Track: Track<Delivery: Lossless + InOrder>>,
    H: Fn(Request) -> R,
    R: Future<Output = Reply>,
{
    let server = Server::new(listener, fabric.timer(), ServerConfig::default(), MessageConfig::default());
    let mut server = match server {
        Ok(server) => server,
        Err(fault) => return fault.to_string(),
    };
    let handler = &handler;
    let served = server.serve(|Accepted { mut carrier, peer }: Accepted<MessageCarrier<F::Track>, F::Addr>| async move {
        while let Ok(Some(bytes)) = carrier.recv().await {
            let Ok(request) = postcard::from_bytes(&bytes) else { break };
            drop(bytes);
            let Ok(reply) = postcard::to_stdvec(&handler(request).await) else { break };
            if carrier.send(&reply).await.is_err() {
                break;
            }
        }
        drop(peer);
    });
    match served.await {
        Ok(_) => "it was drained".to_owned(),
        Err(error) => error.to_string(),
    }
}
