//! The shortest way through everything.

use static_assertions::assert_impl_all;
use trespass_core::{
    Drive, Fabric, Incoming, ListenerExt, RecvSideExt, SendSide, SendSideExt, ThreadFabric, Timer, block_on,
};
use trespass_mock::{MockAddr, MockConfig, MockDriver, MockFabric, MockNet};

assert_impl_all!(MockFabric: ThreadFabric);
assert_impl_all!(MockDriver: Drive, Send);

#[test]
fn hello_in_virtual_time() {
    let (net, mut driver) = MockNet::virtual_time();
    let fabric = net.fabric(MockConfig::default()).unwrap();
    block_on(&mut driver, async {
        let addr: MockAddr = "server".parse().unwrap();
        let mut listener = fabric.listen(&addr).unwrap();
        let connecting = fabric.connect(&addr);
        let mut server = listener.incoming().await.unwrap().accept().await.unwrap();
        let mut client = connecting.await.unwrap();
        let mut buf = client.reserve(5).await.unwrap();
        buf.copy_from_slice(b"hello");
        client.send(buf).unwrap();
        client.flush().unwrap();
        assert_eq!(&*server.recv().await.unwrap(), b"hello");
        client.close().await.unwrap();
        assert!(server.recv().await.is_err());
        fabric.timer().sleep(std::time::Duration::from_secs(60)).await;
    });
}
