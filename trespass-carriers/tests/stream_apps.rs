//! What knows nothing of streams runs over them unmodified: hyper, with HTTP/1.1 and HTTP/2, and tonic.
#![cfg(feature = "tokio")]

#[path = "support/streams.rs"]
mod streams;
mod support;

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use streams::{Stream, streams};
use support::{Pair, pattern, small};
use tokio::time::timeout;
use trespass_carriers::StreamConfig;
use trespass_mock::MockConfig;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

/// Runs `work` for each of: streams whose writes go out at once, and streams whose writes wait for each other; tracks where
/// everything fills up, and tracks where not.
fn each_way<W: Future<Output = ()>>(work: impl Fn(Stream, Stream) -> W) {
    for coalesce in [false, true] {
        for track in [small(), MockConfig::default()] {
            let Pair { left, right, .. } = streams(track, StreamConfig::default().with_coalesce(coalesce));
            let work = work(left, right);
            runtime().block_on(async { timeout(Duration::from_secs(60), work).await.expect("a deadlock") });
        }
    }
}

/// Says everything again, thrice.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let body = body.repeat(3);
    Ok(Response::builder().header("x-path", path).body(Full::new(body.into())).unwrap())
}

fn post(len: usize) -> Request<Full<Bytes>> {
    let body = Full::new(pattern(len, len).into());
    Request::post(format!("/{len}")).header("host", "there").body(body).unwrap()
}

async fn check(response: Response<Incoming>, len: usize) {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-path"], format!("/{len}"));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body == pattern(len, len).repeat(3), "{len} bytes");
}

#[test]
fn http_1_runs_over_a_stream() {
    each_way(|client, server| async {
        let serving = tokio::spawn(async move {
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service_fn(echo)).await
        });
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
        let connection = tokio::spawn(connection);
        for len in [0, 1, 300, 100_000, 5] {
            sender.ready().await.unwrap();
            check(sender.send_request(post(len)).await.unwrap(), len).await;
        }
        drop(sender);
        connection.await.unwrap().unwrap();
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn http_2_runs_over_a_stream_with_many_requests_at_once() {
    each_way(|client, server| async {
        let serving = tokio::spawn(async move {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.serve_connection(TokioIo::new(server), service_fn(echo)).await
        });
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client));
        let (sender, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        let requests = (0..20).map(|at| {
            let mut sender = sender.clone();
            tokio::spawn(async move {
                let len = at * 1777;
                check(sender.send_request(post(len)).await.unwrap(), len).await;
            })
        });
        for request in requests.collect::<Vec<_>>() {
            request.await.unwrap();
        }
        drop(sender);
        connection.await.unwrap().unwrap();
        serving.await.unwrap().unwrap();
    });
}

/// A service without generated code: its messages are bytes as they are.
mod grpc {
    use std::task::{Context, Poll};

    use bytes::{Buf, BufMut, Bytes};
    use tonic::Status;
    use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

    #[derive(Debug, Clone, Copy, Default)]
    pub(crate) struct Plain;

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

    /// Doubles every message.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Doubling;

    impl tonic::server::UnaryService<Bytes> for Doubling {
        type Response = Bytes;
        type Future = std::future::Ready<Result<tonic::Response<Bytes>, Status>>;

        fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
            std::future::ready(match request.into_inner() {
                refused if &refused[..] == b"no" => Err(Status::permission_denied("said no")),
                bytes => Ok(tonic::Response::new(bytes.repeat(2).into())),
            })
        }
    }

    impl tonic::server::NamedService for Doubling {
        const NAME: &'static str = "test.Doubling";
    }

    impl tower::Service<hyper::Request<tonic::body::Body>> for Doubling {
        type Response = hyper::Response<tonic::body::Body>;
        type Error = std::convert::Infallible;
        type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: hyper::Request<tonic::body::Body>) -> Self::Future {
            let service = *self;
            Box::pin(async move { Ok(tonic::server::Grpc::new(Plain).unary(service, request).await) })
        }
    }
}

/// tonic's server takes what says where it comes from; a stream of a test has nothing to say.
struct Connected(Stream);

impl tonic::transport::server::Connected for Connected {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for Connected {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Connected {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[test]
fn grpc_runs_over_a_stream() {
    each_way(|client, server| async {
        let serving = tokio::spawn(async move {
            let incoming = futures_util::stream::iter([Ok::<_, std::io::Error>(Connected(server))]);
            tonic::transport::Server::builder().add_service(grpc::Doubling).serve_with_incoming(incoming).await
        });
        let mut client = Some(client);
        let connector = tower::service_fn(move |_| {
            let client = client.take().ok_or_else(|| std::io::Error::other("one connection is all there is"));
            std::future::ready(client.map(TokioIo::new))
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://there");
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        let calls = (0..20_usize).map(|at| {
            let mut client = tonic::client::Grpc::new(channel.clone());
            tokio::spawn(async move {
                client.ready().await.unwrap();
                let path = hyper::http::uri::PathAndQuery::from_static("/test.Doubling/Double");
                let request = tonic::Request::new(Bytes::from(pattern(at, at * 3000)));
                let answer = client.unary(request, path, grpc::Plain).await.unwrap().into_inner();
                assert!(answer == pattern(at, at * 3000).repeat(2));
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let path = hyper::http::uri::PathAndQuery::from_static("/test.Doubling/Double");
        let refused =
            client.unary(tonic::Request::new(Bytes::from_static(b"no")), path, grpc::Plain).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (tonic::Code::PermissionDenied, "said no"));
        drop(client);
        serving.await.unwrap().unwrap();
    });
}
