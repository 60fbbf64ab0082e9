//! What is between the two sides of a choice: addresses, errors, buffers.

mod support;

use std::collections::HashSet;
use std::net::SocketAddr;

use futures_executor::block_on;
use support::{fresh_addr, mocks};
use toy_fabric::{Toy, ToyConfig};
use trespass_core::{Endpoint, ErrorKind, Fabric, Incoming, Listener, ListenerExt, RecvSide, SendSide, TransportError};
use trespass_layers::either::EitherError;
use trespass_layers::{Either, Metered};
use trespass_mock::{MockAddr, MockConfig, MockError, MockFabric};

type Chosen = Either<MockFabric, Metered<MockFabric>>;
type Addr = Either<SocketAddr, MockAddr>;

#[test]
fn an_address_is_of_the_first_side_that_can_read_it() {
    let parsed: Addr = "127.0.0.1:80".parse().expect("an address");
    assert!(matches!(parsed, Either::Left(_)));
    let parsed: Addr = "server".parse().expect("an address");
    assert!(matches!(parsed, Either::Right(_)));
    let unreadable = "with a space".parse::<Addr>().expect_err("no address of either");
    assert!(unreadable.to_string().contains("with a space"), "{unreadable}");
}

#[test]
fn addresses_with_the_same_text_are_equal() {
    let of = |text: &str| text.parse::<MockAddr>().expect("an address");
    let left: Addr = "127.0.0.1:80".parse().expect("an address");
    let right: Addr = Either::Right(of("127.0.0.1:80"));
    assert_eq!(left, right);
    assert_ne!(left, Either::Right(of("127.0.0.1:8080")));
    let set: HashSet<Addr> = [left.clone(), right.clone()].into();
    assert_eq!(set.len(), 1, "equal addresses with different hashes");
    assert!(set.contains(&left) && set.contains(&right));
    // No text is the beginning of another's hash.
    let pairs: HashSet<(Addr, Addr)> =
        [("a", "bc"), ("ab", "c")].map(|(a, b)| (Either::Right(of(a)), Either::Right(of(b)))).into();
    assert_eq!(pairs.len(), 2);
}

#[test]
fn an_address_that_the_chosen_side_cannot_read_is_an_error_of_kind_config() {
    type WithToy = Either<MockFabric, Toy>;
    let fabric: WithToy = Either::Right(Toy::new(ToyConfig::default()));
    let addr: <WithToy as Fabric>::Addr = "there".parse().expect("an address");
    assert!(matches!(addr, Either::Left(_)));
    let errors = [fabric.listen(&addr).err(), block_on(fabric.connect(&addr)).err()];
    for error in errors {
        let error = error.expect("no address of the toy");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("there"), "{error}");
    }
    // Read anew where it can be.
    let addr: <WithToy as Fabric>::Addr = "toy:77".parse().expect("an address");
    assert!(matches!(addr, Either::Left(_)));
    let listener = fabric.listen(&addr).expect("a listener");
    assert!(matches!(listener.local(), Either::Right(_)));
    assert_eq!(listener.local(), addr);
}

#[test]
fn kind_and_text_of_an_error_pass_through() {
    let inner: MockError = "".parse::<MockAddr>().expect_err("no address");
    for error in [EitherError::<_, MockError>::Left(inner.clone()), EitherError::Right(inner.clone())] {
        assert_eq!((error.kind(), error.to_string()), (inner.kind(), inner.to_string()));
    }
}

#[test]
fn a_buffer_of_the_other_side_comes_back() {
    let [one, other] = mocks(MockConfig::default());
    let fabrics: [Chosen; 2] = [Either::Left(one), Either::Right(Metered::over(other))];
    let pairs = fabrics.map(|fabric| {
        let addr = Either::Left(fresh_addr());
        let mut listener = fabric.listen(&addr).expect("a listener");
        let connecting = fabric.connect(&addr);
        block_on(async {
            let server = listener.incoming().await.expect("a request").accept().await.expect("an accept");
            (connecting.await.expect("a connect"), server)
        })
    });
    let [(mut left, mut left_end), (mut right, mut right_end)] = pairs;
    let mut buf = right.try_reserve(3).expect("a slot");
    buf.copy_from_slice(b"abc");
    let unsent = left.send(buf).expect_err("a buffer of the other side");
    assert_eq!((unsent.error.kind(), &unsent.buf[..]), (ErrorKind::ForeignBuffer, &b"abc"[..]));
    right.send(unsent.buf).expect("it is good where it belongs");
    right.flush().expect("a flush");
    assert_eq!(&*right_end.try_recv().expect("a message"), b"abc");
    let buf = left.try_reserve(1).expect("a slot");
    assert_eq!(right.send(buf).expect_err("foreign").error.kind(), ErrorKind::ForeignBuffer);
    drop(left_end.try_recv());
    assert!(matches!(left.peer(), Either::Left(_)) && matches!(right.peer(), Either::Right(_)));
}
