//! The end that answers: one client after another, and of each as many tests as it asks for.

use std::io::Write;
use std::time::Duration;

use trespass_core::{Endpoint, Fabric, Incoming, Listener, ListenerExt, Role, wait};

use super::backend::Backend;
use super::error::PerfError;
use super::plan::Shape;
use super::said::{Control, Refusal, Said, Why};
use super::session;
use super::stop::unless_stopped;

type ListenerOf<B> = <<B as Backend>::Fabric as Fabric>::Listener;
type ControlOf<B> = Control<<<B as Backend>::Fabric as Fabric>::Track>;

pub(crate) struct Server<B: Backend> {
    backend: B,
    listener: ListenerOf<B>,
    clock: <B::Fabric as Fabric>::Timer,
    patience: Duration,
}

/// The shape of the connection by which both ends talk of tests.
pub(crate) const TALK: Shape = Shape { message: 2048, sends: 8, receives: 8 };

impl<B: Backend> Server<B> {
    pub(crate) fn listen(backend: B, addr: &B::Addr, patience: Duration) -> Result<Self, PerfError> {
        let fabric = backend.control(TALK, Some(addr))?;
        let listener = fabric.listen(addr).map_err(|error| PerfError::Transport {
            action: "listening",
            kind: trespass_core::TransportError::kind(&error),
            why: error.to_string(),
        })?;
        Ok(Self { backend, listener, clock: fabric.timer(), patience })
    }

    pub(crate) fn local(&self) -> B::Addr {
        self.listener.local()
    }

    /// Serves until it is told to stop, or (`once`) one client. What goes wrong with a client is told to it and to `log`, and ends
    /// neither the server nor the next one.
    pub(crate) fn serve(&mut self, once: bool, log: &mut impl Write) -> Result<(), PerfError> {
        loop {
            let incoming = wait(unless_stopped(&self.clock, None, self.listener.incoming()))?;
            let incoming = incoming.map_err(|error| PerfError::transport("listening", &error))?;
            let peer = incoming.peer();
            // Whoever does not read this misses nothing.
            let _ = match self.client(incoming, log) {
                Ok(()) => writeln!(log, "{peer}: goodbye"),
                Err(PerfError::Interrupted) => return Err(PerfError::Interrupted),
                Err(error) => writeln!(log, "{peer}: {error}"),
            };
            if once {
                return Ok(());
            }
        }
    }

    fn client(&mut self, incoming: IncomingOf<B>, log: &mut impl Write) -> Result<(), PerfError> {
        let mut control = wait(unless_stopped(&self.clock, Some(self.patience), async {
            let track = incoming.accept().await.map_err(|error| PerfError::transport("accepting", &error))?;
            Control::open(track, Role::Acceptor, self.patience).await
        }))??;
        let served = self.tests(&mut control, log);
        if let Err(error) = &served {
            self.refuse(&mut control, error);
        }
        wait(control.close());
        served
    }

    fn tests(&mut self, control: &mut ControlOf<B>, log: &mut impl Write) -> Result<(), PerfError> {
        let peer = control.track().map(|track| track.peer().to_string()).unwrap_or_default();
        loop {
            let heard =
                unless_stopped(&self.clock, Some(self.patience), std::future::poll_fn(|cx| control.poll_hear(cx)));
            match wait(heard)?? {
                Some(Said::Test(plan)) => {
                    let counts = session::follow(&self.backend, control, &plan)?;
                    let (layer, size) = (plan.terms().layer.name(), plan.terms().size);
                    let _ = writeln!(log, "{peer}: {layer}, {size} bytes: {} received", counts.received);
                }
                Some(_) => return Err(PerfError::Frame(super::said::BadFrame::Turn)),
                None => return Ok(()),
            }
        }
    }

    /// Tells a client why not, if it is there to hear it.
    fn refuse(&self, control: &mut ControlOf<B>, error: &PerfError) {
        let refusal = match error {
            PerfError::Gone | PerfError::Refused(_) => return,
            PerfError::Frame(bad) => bad.refusal(),
            error if error.is_lack() => Refusal { why: Why::Unsupported, text: error.to_string() },
            _ => Refusal { why: Why::Failed, text: error.to_string() },
        };
        let _ = wait(unless_stopped(&self.clock, Some(self.patience), control.say(&Said::No(refusal))));
    }
}

type IncomingOf<B> = <ListenerOf<B> as Listener>::Incoming;
