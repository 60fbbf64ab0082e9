//! A sequence of operations, made of a seed, on the two ends of any reliable track; and what there is to see of it.
//!
//! What is seen must not depend on time: nothing is looked for that may be under way, and nothing is sent that may have to wait
//! for a receive. So the same sequence gives the same lines on every fabric that keeps the contract.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use futures_util::future::join;
use trespass_carriers::{Message, MessageCarrier, MessageConfig};
use trespass_core::{
    ErrorKind, Fabric, InOrder, Incoming, Listener, ListenerExt, Lossless, RecvSideExt, Role, SendSideExt, Track,
    TransportError, TryError, wait_within,
};

pub(crate) const SEND_SLOTS: usize = 8;
pub(crate) const RECV_SLOTS: usize = 16;
pub(crate) const MAX_MESSAGE: usize = 512;

/// How many messages may wait at a receiver or be held there: what it has posted for sure, with a quarter not posted again.
const ROOM: usize = RECV_SLOTS / 2;

/// Longer than anything here takes, on a machine that is emulated.
const PATIENCE: Duration = Duration::from_secs(60);

fn now<T>(future: impl Future<Output = T>) -> T {
    wait_within(PATIENCE, future).expect("what must come did not, within a minute")
}

/// Numbers by chance, from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.roll() % len as u64).expect("below a usize")
    }
}

fn bytes(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ number.wrapping_mul(131)) as u8).collect()
}

/// A short name for what arrived.
fn digest(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte) + 1));
    format!("{} bytes, {sum:x}", bytes.len())
}

/// Two ends of a track: the one that connected, and the one that accepted.
pub(crate) fn tracks<F: Fabric>(client: &F, server: &F, addr: &F::Addr) -> [F::Track; 2] {
    let mut listener = server.listen(addr).expect("a listener");
    let at = listener.local();
    now(async {
        let accepting = async { listener.incoming().await?.accept().await };
        let (connected, accepted) = join(client.connect(&at), accepting).await;
        match (connected, accepted) {
            (Ok(connected), Ok(accepted)) => [connected, accepted],
            (connected, accepted) => panic!("connecting: {:?}; accepting: {:?}", connected.err(), accepted.err()),
        }
    })
}

/// One end of a track, and what its user has of it.
struct End<T: Track> {
    track: Option<T>,
    reserved: VecDeque<T::SendBuf>,
    held: VecDeque<T::RecvBuf>,
    /// Messages that are queued, and not flushed.
    queued: usize,
    /// Messages that have been flushed, and that the other end has not received.
    under_way: usize,
}

impl<T: Track> End<T> {
    fn new(track: T) -> Self {
        Self { track: Some(track), reserved: VecDeque::new(), held: VecDeque::new(), queued: 0, under_way: 0 }
    }

    fn track(&mut self) -> &mut T {
        self.track.as_mut().expect("a track, until the end")
    }
}

/// What there is to see of the operations that `seed` makes, on two fresh tracks.
pub(crate) fn of_tracks<T>(tracks: [T; 2], seed: u64) -> Vec<String>
where
    T: Track<Delivery: Lossless + InOrder>,
{
    let mut dice = Dice(seed);
    let mut ends = tracks.map(End::new);
    let mut seen = Vec::new();
    for number in 0..dice.index(80) {
        let at = dice.index(2);
        let line = operate(&mut ends, at, number, &mut dice);
        seen.push(format!("{number} at {at}: {line}"));
    }
    let last = dice.index(2);
    seen.extend(end(ends, last, dice.index(3) == 0));
    seen
}

fn operate<T: Track>(ends: &mut [End<T>; 2], at: usize, number: usize, dice: &mut Dice) -> String {
    let [one, other] = ends;
    let (here, there) = if at == 0 { (one, other) } else { (other, one) };
    match dice.index(12) {
        0 | 1 if here.reserved.len() + here.queued + 1 < SEND_SLOTS => {
            let len = [0, 1, 64, MAX_MESSAGE, dice.index(MAX_MESSAGE)][dice.index(5)];
            // A slot comes back when what was flushed has arrived, for which there is room.
            let buf = now(here.track().reserve(len)).expect("a slot");
            let line = format!("reserved {}", buf.len());
            here.reserved.push_back(buf);
            line
        }
        2 => format!("too long: {:?}", outcome(here.track().try_reserve(MAX_MESSAGE + 1).map(drop))),
        3 | 4 if here.queued + here.under_way + there.held.len() < ROOM => {
            let Some(mut buf) = here.reserved.pop_front() else { return "nothing reserved".into() };
            let data = bytes(number, buf.len());
            buf.copy_from_slice(&data);
            let sent = here.track().send(buf).map_err(|unsent| unsent.error.kind());
            here.queued += usize::from(sent.is_ok());
            format!("queued {}: {sent:?}", digest(&data))
        }
        5 => {
            let Some(buf) = here.reserved.pop_back() else { return "nothing to give away".into() };
            match there.track().send(buf) {
                Ok(()) => "a foreign buffer was taken".into(),
                Err(unsent) => {
                    here.reserved.push_back(unsent.buf);
                    format!("foreign: {:?}", unsent.error.kind())
                }
            }
        }
        6 => {
            here.reserved.pop_front();
            "dropped what was reserved".into()
        }
        7 => flush(here),
        8 | 9 => receive(here, there, dice.index(3) == 0),
        10 => {
            here.held.pop_front();
            format!("holds {}", here.held.len())
        }
        _ => exhaust(here),
    }
}

fn flush<T: Track>(end: &mut End<T>) -> String {
    let flushed = end.track().flush().map_err(|error| error.kind());
    end.under_way += std::mem::take(&mut end.queued);
    format!("flushed: {flushed:?}")
}

fn receive<T: Track>(here: &mut End<T>, there: &mut End<T>, hold: bool) -> String {
    if there.under_way == 0 {
        return format!("nothing came: {:?}", outcome(here.track().try_recv().map(drop)));
    }
    let message = now(here.track().recv()).expect("a message");
    there.under_way -= 1;
    let line = format!("received {}", digest(&message));
    if hold {
        here.held.push_back(message);
    }
    line
}

/// All slots, and not one more.
fn exhaust<T: Track>(end: &mut End<T>) -> String {
    let free = SEND_SLOTS - end.reserved.len() - end.queued;
    let bufs: Vec<_> = (0..free).map(|_| now(end.track().reserve(1)).expect("a slot")).collect();
    let more = outcome(end.track().try_reserve(1).map(drop));
    drop(bufs);
    // What was queued may have gone out while slots were waited for: have it so.
    format!("{free} slots, and then {more:?}; {}", flush(end))
}

/// Ends the track at one end, by a close or by a drop, and says what both ends are told.
fn end<T: Track>(ends: [End<T>; 2], at: usize, drops: bool) -> Vec<String> {
    let [one, other] = ends;
    let (mut here, mut there) = if at == 0 { (one, other) } else { (other, one) };
    let mut seen = Vec::new();
    // What is still to come of what was sent: all of it before a clean close; before a drop some, so it is received first.
    flush(&mut here);
    let mut come = here.under_way;
    if drops {
        for _ in 0..come {
            seen.push(format!("received {}", digest(&now(there.track().recv()).expect("a message"))));
        }
        come = 0;
        here.track = None;
    } else {
        let closed = now(here.track().close()).map_err(|error| error.kind());
        let again = now(here.track().close()).map_err(|error| error.kind());
        seen.push(format!(
            "closed: {closed:?}, {again:?}; reserve: {:?}",
            outcome(here.track().try_reserve(1).map(drop))
        ));
    }
    there.held.clear();
    for _ in 0..come {
        seen.push(format!("received {}", digest(&now(there.track().recv()).expect("a message"))));
    }
    let [first, second] =
        [(); 2].map(|()| now(there.track().recv()).map(|message| message.len()).map_err(|error| error.kind()));
    seen.push(format!("then {first:?}, {second:?}"));
    // Told to the receiving side, it is told to the other too.
    seen.push(format!("reserve there: {:?}", sending_ends(there.track())));
    seen
}

fn sending_ends<T: Track>(track: &mut T) -> Option<ErrorKind> {
    let mut kept = Vec::new();
    for _ in 0..=SEND_SLOTS {
        match track.try_reserve(1) {
            Ok(buf) => kept.push(buf),
            Err(TryError::WouldBlock) => return None,
            Err(TryError::Failed(error)) => return Some(error.kind()),
        }
    }
    None
}

/// What a `try_` call gave, without what differs from fabric to fabric.
fn outcome<T: Debug, E: TransportError>(tried: Result<T, TryError<E>>) -> Result<T, Option<ErrorKind>> {
    tried.map_err(|error| error.failed().map(|error| error.kind()))
}

/// One end of a conversation.
struct Talker<T: Track<Delivery: Lossless + InOrder>> {
    carrier: MessageCarrier<T>,
    held: VecDeque<Message<T>>,
    under_way: usize,
    finished: bool,
}

/// The same through a message carrier.
pub(crate) fn of_carriers<T>(tracks: [T; 2], seed: u64) -> Vec<String>
where
    T: Track<Delivery: Lossless + InOrder>,
{
    let mut dice = Dice(!seed);
    let config = MessageConfig::default().with_max_message(2000);
    let [left, right] = tracks;
    let (left, right) = now(join(
        MessageCarrier::open(left, Role::Connector, config.clone()),
        MessageCarrier::open(right, Role::Acceptor, config),
    ));
    let talker = |carrier| Talker { carrier, held: VecDeque::new(), under_way: 0, finished: false };
    let mut ends = [talker(left.expect("a carrier")), talker(right.expect("a carrier"))];
    let mut seen = vec![format!("{} and {}", ends[0].carrier.eager_limit(), ends[0].carrier.max_message())];
    for number in 0..dice.index(60) {
        let at = dice.index(2);
        let [one, other] = &mut ends;
        let (here, there) = if at == 0 { (one, other) } else { (other, one) };
        let line = talk(here, there, number, &mut dice);
        seen.push(format!("{number} at {at}: {line}"));
    }
    seen.extend(say_goodbye(ends, dice.index(2), dice.index(3) == 0));
    seen
}

fn talk<T>(here: &mut Talker<T>, there: &mut Talker<T>, number: usize, dice: &mut Dice) -> String
where
    T: Track<Delivery: Lossless + InOrder>,
{
    // A message has five frames at most, and the window is of sixteen.
    let may_send = here.under_way == 0 && there.held.len() < 2;
    match dice.index(10) {
        0..=2 if may_send => {
            let data = bytes(number, [0, 1, 400, 2000, dice.index(2000)][dice.index(5)]);
            let sent = now(here.carrier.send(&data)).map_err(|error| error.kind());
            here.under_way += usize::from(sent.is_ok());
            format!("sent {}: {sent:?}", digest(&data))
        }
        3 if may_send => {
            let data = bytes(number, dice.index(400));
            let sent = outcome(here.carrier.try_send(&data));
            let flushed = here.carrier.flush().map_err(|error| error.kind());
            here.under_way += usize::from(sent.is_ok());
            format!("tried {}: {sent:?}, {flushed:?}", digest(&data))
        }
        4 => format!("too long: {:?}", now(here.carrier.send(&[0; 2001])).map_err(|error| error.kind())),
        5 => {
            drop(here.carrier.send(&bytes(number, 2000)));
            "withdrew one before it began".into()
        }
        6 | 7 => hear(here, there, dice.index(3) == 0),
        8 => {
            here.held.pop_front();
            format!("holds {}", here.held.len())
        }
        _ if dice.index(6) == 0 => {
            here.finished = true;
            format!("finished: {:?}", now(here.carrier.finish()).map_err(|error| error.kind()))
        }
        _ => "nothing".into(),
    }
}

fn hear<T>(here: &mut Talker<T>, there: &mut Talker<T>, hold: bool) -> String
where
    T: Track<Delivery: Lossless + InOrder>,
{
    if there.under_way == 0 && !there.finished {
        let tried = outcome(here.carrier.try_recv().map(|message| message.map(|message| message.to_vec())));
        return format!("nothing came: {tried:?}");
    }
    let Some(message) = now(here.carrier.recv()).expect("a message, or a goodbye") else {
        return "heard a goodbye".into();
    };
    there.under_way -= 1;
    let line = format!("heard {}", digest(&message));
    if hold {
        here.held.push_back(message);
    }
    line
}

fn say_goodbye<T>(ends: [Talker<T>; 2], at: usize, drops: bool) -> Vec<String>
where
    T: Track<Delivery: Lossless + InOrder>,
{
    let [one, other] = ends;
    let (mut here, mut there) = if at == 0 { (one, other) } else { (other, one) };
    let mut seen = Vec::new();
    while here.under_way > 0 {
        seen.push(hear(&mut there, &mut here, false));
    }
    let finished = here.finished;
    if drops {
        drop(here);
    } else {
        seen.push(format!("closed: {:?}", now(here.carrier.close()).map_err(|error| error.kind())));
        seen.push(format!("send: {:?}", now(here.carrier.send(b"late")).map_err(|error| error.kind())));
    }
    let told = now(there.carrier.recv()).map(|message| message.map(|message| message.to_vec()));
    let told = told.map_err(|error| error.kind());
    seen.push(format!("dropped {drops}, finished {finished}; then {told:?}"));
    let closed = now(there.carrier.close()).map_err(|error| error.kind());
    // An end that finished, and dies at once after it: whether the other's goodbye still gets there is a matter of time.
    if !(drops && finished) {
        seen.push(format!("close there: {closed:?}"));
    }
    seen
}
