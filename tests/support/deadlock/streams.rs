//! Streams: whole in one task that looks after both directions, in halves with a task for each. Nobody reads before both
//! ends can write no more.

use std::future::poll_fn;
use std::io::IoSlice;
use std::sync::Arc;
use std::task::Poll;

use trespass_carriers::{StreamCarrier, StreamConfig};
use trespass_core::{Endpoint, InOrder, Lossless, ThreadFabric, Timer, Track};

use super::{End, Gate, Hold, Task, pattern};

/// How the bytes of a write are given.
#[derive(Clone, Copy)]
enum Pieces {
    One,
    Many,
}

pub(super) async fn whole<F>(end: End<F>, coalesce: bool) -> Vec<Task>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    in_one_task(end, coalesce, Pieces::One).await
}

pub(super) async fn vectored<F>(end: End<F>, coalesce: bool) -> Vec<Task>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    in_one_task(end, coalesce, Pieces::Many).await
}

async fn in_one_task<F>(end: End<F>, coalesce: bool, pieces: Pieces) -> Vec<Task>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let data = pattern(7, end.count(end.frame()) * end.frame());
    let (hold, full) = (end.hold(), end.full.clone());
    let config = StreamConfig::default().with_coalesce(coalesce);
    let stream = StreamCarrier::open(end.track, end.role, config).await.expect("opened");
    vec![Box::pin(relay(stream, data, pieces, hold, full))]
}

/// Writes all of `data` and reads what the peer writes, whichever goes on.
async fn relay<T: Track<Delivery: Lossless + InOrder>>(
    mut stream: StreamCarrier<T>,
    data: Vec<u8>,
    pieces: Pieces,
    mut hold: Hold<impl Timer>,
    full: Arc<Gate>,
) {
    let mut heard = Vec::with_capacity(data.len());
    let (mut sent, mut is_full, mut finished, mut ended) = (0, false, false, false);
    poll_fn(|cx| {
        loop {
            let mut moved = false;
            if sent < data.len() {
                let written = match pieces {
                    Pieces::One => stream.poll_put(cx, &[IoSlice::new(&data[sent..])]),
                    Pieces::Many => stream.poll_put(cx, &cut(&data[sent..])),
                };
                if let Poll::Ready(written) = written {
                    sent += written.expect("written");
                    moved = true;
                } else if stream.stats().stalls > 0 && !is_full {
                    is_full = true;
                    full.say();
                }
            } else if !finished && stream.poll_finish(cx).map(|end| end.expect("finished")).is_ready() {
                (finished, moved) = (true, true);
            }
            if !ended && hold.poll(cx).is_ready() {
                if let Poll::Ready(bytes) = stream.poll_fill(cx) {
                    let bytes = bytes.expect("read");
                    (ended, moved) = (bytes.is_empty(), true);
                    heard.extend_from_slice(bytes);
                    let len = bytes.len();
                    stream.consume(len);
                }
            }
            match (ended && finished, moved) {
                (true, _) => return Poll::Ready(()),
                (false, true) => {}
                (false, false) => return Poll::Pending,
            }
        }
    })
    .await;
    assert!(heard == data);
    stream.close().await.expect("closed");
}

/// The beginning of `bytes` in pieces of many lengths, of which some are empty.
fn cut(mut bytes: &[u8]) -> [IoSlice<'_>; 6] {
    [0, 1, 100, 0, 700, 3].map(|len| {
        let (piece, rest) = bytes.split_at(len.min(bytes.len()));
        bytes = rest;
        IoSlice::new(piece)
    })
}

pub(super) async fn halves<F>(end: End<F>, coalesce: bool, chunk: usize) -> Vec<Task>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    // Where it coalesces a slot takes a whole frame.
    let slot = if coalesce { end.frame() } else { chunk.min(end.frame()) };
    let data = Arc::new(pattern(3, end.count(slot) * slot));
    // A half does not say why it waits: after so many frames that nobody reads it is the credits, or will be.
    let enough = end.track.limits().recv_slots / 2 - 1;
    let (hold, full) = (end.hold(), end.full.clone());
    let config = StreamConfig::default().with_coalesce(coalesce);
    let stream = StreamCarrier::open(end.track, end.role, config).await.expect("opened");
    let (mut reader, mut writer) = stream.into_split();
    let written = data.clone();
    let writing = async move {
        let (mut sent, mut is_full) = (0, false);
        while sent < written.len() {
            let bytes = &written[sent..(sent + chunk).min(written.len())];
            sent += poll_fn(|cx| {
                let put = writer.poll_put(cx, &[IoSlice::new(bytes)]);
                if put.is_pending() && !is_full && sent.div_ceil(slot) >= enough {
                    is_full = true;
                    full.say();
                }
                put
            })
            .await
            .expect("written");
        }
        // All has arrived then: who drops it takes nothing from the peer.
        writer.finish().await.expect("finished");
    };
    let reading = async move {
        hold.over().await;
        let mut heard = Vec::with_capacity(data.len());
        loop {
            let bytes = reader.fill().await.expect("read");
            if bytes.is_empty() {
                break;
            }
            heard.extend_from_slice(bytes);
            let len = bytes.len();
            reader.consume(len);
        }
        assert!(heard == *data);
    };
    vec![Box::pin(writing), Box::pin(reading)]
}
