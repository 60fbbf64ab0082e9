//! Two fabrics, one connection.
use std::net::{IpAddr, SocketAddr};
use trespass_core::*;
use trespass_verbs::*;

fn fabrics() -> (VerbsFabric, VerbsFabric) {
    let a: IpAddr = "10.9.0.1".parse().unwrap();
    let b: IpAddr = "10.9.0.2".parse().unwrap();
    (
        VerbsFabric::open(VerbsConfig::default().with_local(a)).unwrap(),
        VerbsFabric::open(VerbsConfig::default().with_local(b)).unwrap(),
    )
}

#[test]
fn ping_pong() {
    let (client, server) = fabrics();
    let mut listener = server.listen(&SocketAddr::new("10.9.0.2".parse().unwrap(), 0)).unwrap();
    let addr = listener.local();
    eprintln!("listening at {addr}");
    let t = std::thread::spawn(move || {
        futures_executor::block_on(async {
            let mut track = listener.incoming().await.unwrap().accept().await.unwrap();
            loop {
                match track.recv().await {
                    Ok(buf) => {
                        let mut out = track.reserve(buf.len()).await.unwrap();
                        out.copy_from_slice(&buf);
                        track.send(out).unwrap();
                        track.flush().unwrap();
                    }
                    Err(e) => {
                        eprintln!("server end: {e}");
                        break;
                    }
                }
            }
        })
    });
    futures_executor::block_on(async {
        if std::env::var_os("SL").is_some() {
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        let mut track = client.connect(&addr).await.unwrap();
        eprintln!("{:?} {:?}", track, track.limits());
        for i in 0..1000usize {
            let mut out = track.reserve(i).await.unwrap();
            out.fill(i as u8);
            track.send(out).unwrap();
            let back = track.recv().await.unwrap();
            assert_eq!(back.len(), i);
            assert!(back.iter().all(|b| *b == i as u8));
        }
        eprintln!("{:?}", track.counters());
        track.close().await.unwrap();
    });
    t.join().unwrap();
}
