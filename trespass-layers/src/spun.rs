//! Tracks that look for a while before they sleep: the layer.

use trespass_core::{Fabric, Role, Spin, Spinning};

use crate::layer::{Layer, Layered};

/// A fabric whose tracks look for a while before they sleep: each is a [`Spinning`] one, which states what that costs.
///
/// ```
/// use trespass_core::{Fabric, Incoming, ListenerExt, RecvSide, RecvSideExt, SendSide, SendSideExt, Spin};
/// use trespass_layers::Spun;
/// use trespass_mock::{MockError, MockFabric};
///
/// let fabric = Spun::over(MockFabric::new(), Spin::default());
/// trespass_core::wait(async {
///     let mut listener = fabric.listen(&"server".parse()?)?;
///     let connecting = fabric.connect(&"server".parse()?);
///     let mut server = listener.incoming().await?.accept().await?;
///     let mut client = connecting.await?;
///     let buf = client.reserve(5).await?;
///     client.send(buf).map_err(|unsent| unsent.error)?;
///     client.flush()?;
///     assert_eq!(server.recv().await?.len(), 5);
///     Ok::<_, MockError>(())
/// })?;
/// # Ok::<_, MockError>(())
/// ```
pub type Spun<F> = Layered<Spin, F>;

impl<F: Fabric> Spun<F> {
    /// Has the waits of every track of `fabric` look first, as `spin` says.
    pub fn over(fabric: F, spin: Spin) -> Self {
        Self::new(fabric, spin)
    }
}

impl<F: Fabric> Layer<F> for Spin {
    type Error = F::Error;
    type Track = Spinning<F::Track>;
    type Listening = ();

    fn track(&self, track: F::Track, _: Role, _: &F::Addr) -> Spinning<F::Track> {
        Spinning::new(track, *self)
    }
}
