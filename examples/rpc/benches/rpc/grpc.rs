//! The same calls by gRPC: tonic over TCP, with messages that are their bytes, so that no time goes to a codec.

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::options::{Options, Work};
use crate::{nanos, report, share};

/// What ends the server.
const STOP: &[u8] = b"stop";

#[derive(Debug, Clone, Copy)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[derive(Debug, Clone)]
struct Echo {
    stop: Arc<Notify>,
}

impl tonic::server::UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = std::future::Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let bytes = request.into_inner();
        if bytes == STOP {
            self.stop.notify_one();
        }
        std::future::ready(Ok(Response::new(bytes)))
    }
}

impl tonic::server::NamedService for Echo {
    const NAME: &'static str = "bench.Echo";
}

impl tower::Service<http::Request<tonic::body::Body>> for Echo {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(tonic::server::Grpc::new(Plain).unary(service, request).await) })
    }
}

fn runtime(options: &Options) -> std::io::Result<Runtime> {
    match options.threads {
        1 => Builder::new_current_thread().enable_all().build(),
        threads => Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    }
}

pub(crate) fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let addr = SocketAddr::new(options.local, options.peer.port());
    runtime(options)?.block_on(async move {
        let incoming = TcpIncoming::bind(addr)?.with_nodelay(Some(true));
        println!("listening");
        let stop = Arc::new(Notify::new());
        let server = Server::builder().add_service(Echo { stop: Arc::clone(&stop) });
        Ok(server.serve_with_incoming_shutdown(incoming, stop.notified()).await?)
    })
}

pub(crate) fn call(options: &Options) -> Result<(), Box<dyn Error>> {
    runtime(options)?.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{}", options.peer))?.local_address(Some(options.local));
        let channel = endpoint.connect().await?;
        let request = Bytes::from(vec![7; options.size]);
        match options.work {
            Work::RoundTrip => {
                callers(&channel, &request, 1, options.warmup).await?;
                let began = Instant::now();
                let taken = callers(&channel, &request, 1, options.count).await?;
                report(options.count, began.elapsed(), taken);
            }
            Work::Rate => {
                callers(&channel, &request, options.under_way, 1 + options.warmup / options.under_way).await?;
                let began = Instant::now();
                callers(&channel, &request, options.under_way, share(options)).await?;
                report(share(options) * options.under_way, began.elapsed(), Vec::new());
            }
        }
        one(&mut tonic::client::Grpc::new(channel), Bytes::from_static(STOP)).await?;
        Ok(())
    })
}

/// So many callers at once, each with so many calls: how long each call took.
async fn callers(channel: &Channel, request: &Bytes, callers: u64, calls: u64) -> Result<Vec<u64>, Box<dyn Error>> {
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (mut client, request) = (tonic::client::Grpc::new(channel.clone()), request.clone());
            tokio::spawn(async move {
                let mut taken = Vec::with_capacity(calls as usize);
                for _ in 0..calls {
                    let begin = Instant::now();
                    one(&mut client, request.clone()).await?;
                    taken.push(nanos(begin));
                }
                Ok::<_, Status>(taken)
            })
        })
        .collect();
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await??);
    }
    Ok(taken)
}

async fn one(client: &mut tonic::client::Grpc<Channel>, request: Bytes) -> Result<Bytes, Status> {
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/bench.Echo/Echo");
    Ok(client.unary(Request::new(request), path, Plain).await?.into_inner())
}
