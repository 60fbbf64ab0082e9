//! TLS between two ends: both in this process, or one here and one elsewhere. See the README beside this package.
#![forbid(unsafe_code)]

use std::error::Error;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;
use tokio_rustls::rustls::pki_types::CertificateDer;
use trespass::core::{Fabric, InOrder, Incoming, Listener, ListenerExt, Lossless, ThreadFabric, Track};
use trespass_example_tls::identity::{Identity, connector};
use trespass_example_tls::{echo, secure};

/// Says a few MiB over TLS over RDMA, and hears them again.
#[derive(Debug, Parser)]
#[command(name = "tls")]
struct Options {
    /// Be the server, at this address of an RDMA device (verbs)
    #[arg(long, value_name = "ADDR", requires = "certificate", conflicts_with = "connect")]
    listen: Option<String>,

    /// Be the client of the server at this address (verbs)
    #[arg(long, value_name = "ADDR", requires = "certificate")]
    connect: Option<String>,

    /// Where the server writes its certificate, and what the client trusts
    #[arg(long, value_name = "FILE")]
    #[cfg_attr(not(feature = "verbs"), allow(dead_code, reason = "the mock is in one process"))]
    certificate: Option<PathBuf>,

    /// The local address whose RDMA device the client uses (verbs)
    #[arg(long, value_name = "IP", requires = "connect")]
    #[cfg_attr(not(feature = "verbs"), allow(dead_code, reason = "the mock has no devices"))]
    local: Option<IpAddr>,
}

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn main() -> Outcome {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    match (&options.listen, &options.connect) {
        (None, None) => runtime.block_on(in_process()),
        _ => runtime.block_on(between_processes(&options)),
    }
}

#[cfg(feature = "mock")]
async fn in_process() -> Outcome {
    // The one line that names a fabric.
    let fabric = trespass::mock::MockFabric::new();
    let identity = Identity::self_signed()?;
    let certificate = identity.certificate().clone();
    let mut listener = fabric.listen(&"server".parse()?)?;
    let addr = listener.local();
    let server = tokio::spawn(async move { serve_one(&mut listener, identity).await });
    ask(&fabric, &addr, certificate).await?;
    server.await?
}

#[cfg(not(feature = "mock"))]
async fn in_process() -> Outcome {
    Err("built without the mock: build with it, or give --listen or --connect".into())
}

#[cfg(feature = "verbs")]
async fn between_processes(options: &Options) -> Outcome {
    use std::net::SocketAddr;
    use trespass::verbs::{VerbsConfig, VerbsFabric};

    let path = options.certificate.as_ref().ok_or("--certificate says where the certificate is")?;
    if let Some(listen) = &options.listen {
        let addr: SocketAddr = listen.parse()?;
        // And the other line.
        let fabric = VerbsFabric::open(VerbsConfig::default().with_local(addr.ip()))?;
        let identity = Identity::self_signed()?;
        std::fs::write(path, identity.certificate())?;
        let mut listener = fabric.listen(&addr)?;
        println!("listening on {}", listener.local());
        return serve_one(&mut listener, identity).await;
    }
    let addr: SocketAddr = options.connect.as_ref().ok_or("--connect says where the server is")?.parse()?;
    let config = VerbsConfig::default();
    let fabric = VerbsFabric::open(match options.local {
        Some(ip) => config.with_local(ip),
        None => config,
    })?;
    ask(&fabric, &addr, CertificateDer::from(std::fs::read(path)?)).await
}

#[cfg(not(feature = "verbs"))]
async fn between_processes(_: &Options) -> Outcome {
    Err("built without verbs: build with `--features verbs`".into())
}

/// Serves one client.
async fn serve_one<L>(listener: &mut L, identity: Identity) -> Outcome
where
    L: Listener<Track: Track<Delivery: Lossless + InOrder>>,
{
    let tls = identity.acceptor()?;
    let track = listener.incoming().await?.accept().await?;
    let stream = secure::accept(track, &tls).await?;
    let said = echo::serve(stream).await?;
    println!("the server has heard {said} bytes, and said them again");
    Ok(())
}

async fn ask<F>(fabric: &F, addr: &F::Addr, certificate: CertificateDer<'static>) -> Outcome
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let (tls, name) = connector(certificate)?;
    let stream = secure::connect(fabric.connect(addr).await?, &tls, name).await?;
    let (_, session) = stream.get_ref();
    println!("encrypted by {:?} with {:?}", session.protocol_version(), session.negotiated_cipher_suite());
    let data: Vec<u8> = (0..4_u32 << 20).map(|at| (at ^ at >> 8) as u8).collect();
    if !echo::ask(stream, &data).await? {
        return Err("what came back is not what was said".into());
    }
    println!("the client has heard all {} bytes that it said", data.len());
    Ok(())
}
