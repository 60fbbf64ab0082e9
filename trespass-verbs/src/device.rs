//! The device: open, and what it can do.

use std::sync::Arc;

use sideway::ibverbs::completion::CompletionChannel;
use sideway::ibverbs::device_context::DeviceContext;
use sideway::ibverbs::protection_domain::ProtectionDomain;

use crate::choose::{Chosen, Sources, choose};
use crate::config::VerbsConfig;
use crate::error::VerbsError;
use crate::link::Links;
use crate::raw::cm::CmChannel;
use crate::raw::cq::Cq;
use crate::raw::events::async_fd;
use crate::raw::fd::set_nonblocking;
use crate::raw::port::{completion_vectors, has_atomics, has_immediate};
use crate::raw::qp::{Depths, Qp};

/// An open device with its protection domain: one trust domain.
pub(crate) struct Device {
    pub(crate) name: String,
    /// The addresses of the device to connect from.
    pub(crate) sources: Sources,
    /// What its links went through.
    pub(crate) links: Arc<Links>,
    /// By which completion vector notifications come.
    pub(crate) vector: u32,
    pub(crate) depths: Depths,
    /// How many reads and atomics of a peer may be in flight at once, either way.
    pub(crate) read_atomic: u8,
    /// Whether it has atomic operations.
    pub(crate) atomics: bool,
    /// Whether a word of immediate data goes beside a message.
    pub(crate) immediate: bool,
    pub(crate) channel: Arc<CompletionChannel>,
    pub(crate) pd: Arc<ProtectionDomain>,
    pub(crate) context: Arc<DeviceContext>,
}

impl Device {
    /// Chooses and opens a device, and asks it for what `config` wants.
    pub(crate) fn open(config: &VerbsConfig, cm: &Arc<CmChannel>) -> Result<Self, VerbsError> {
        let Chosen { name, context, ports, sources, .. } = choose(config, cm)?;
        let attr = context.query_device().map_err(|error| VerbsError::sideway("query the device", error))?;
        within("send_slots", config.send_slots, attr.max_qp_wr(), &name)?;
        within("recv_slots", config.recv_slots, attr.max_qp_wr(), &name)?;
        within("send_slots", cq_depth(config.send_slots) as usize, attr.max_cqe(), &name)?;
        within("recv_slots", cq_depth(config.recv_slots) as usize, attr.max_cqe(), &name)?;
        let vector = config.completion_vector;
        let vectors = completion_vectors(&context);
        if vector >= vectors {
            let why = format!("is {vector}, and {name} has {vectors}, numbered from 0");
            return Err(VerbsError::Config { setting: "completion_vector", why });
        }
        let pd = context.alloc_pd().map_err(|error| VerbsError::sideway("make a protection domain", error))?;
        let channel =
            context.create_comp_channel().map_err(|error| VerbsError::sideway("make a completion channel", error))?;
        channel
            .set_nonblocking(true)
            .and_then(|()| set_nonblocking(async_fd(&context)))
            .map_err(|error| VerbsError::os("make the event channels non-blocking", &error))?;
        let depths = probe(config, &context, &channel, &pd)?;
        let read_atomic = attr.max_qp_rd_atom().min(attr.max_qp_init_rd_atom()).clamp(1, 16) as u8;
        let (atomics, immediate) = (has_atomics(&context), has_immediate(&context));
        let links = Links::new(&name, &context, ports.len() as u8, config.retry_time());
        Ok(Self { name, sources, links, vector, depths, read_atomic, atomics, immediate, channel, pd, context })
    }
}

/// Completions that a queue of `slots` can have at once: one each, when all of them fail.
pub(crate) fn cq_depth(slots: usize) -> u32 {
    slots as u32 + 1
}

fn within(setting: &'static str, value: usize, most: i32, device: &str) -> Result<(), VerbsError> {
    if usize::try_from(most).is_ok_and(|most| value <= most) {
        return Ok(());
    }
    Err(VerbsError::Config { setting, why: format!("asks for queues of {value}, and {device} has {most} at most") })
}

/// Makes a queue pair as tracks will have it, to learn how much may go inline: no attribute of a device says so.
fn probe(
    config: &VerbsConfig,
    context: &Arc<DeviceContext>,
    channel: &Arc<CompletionChannel>,
    pd: &Arc<ProtectionDomain>,
) -> Result<Depths, VerbsError> {
    let send_cq = Cq::new(context, channel, cq_depth(config.send_slots), config.completion_vector, 0)?;
    let recv_cq = Cq::new(context, channel, cq_depth(config.recv_slots), config.completion_vector, 0)?;
    let mut depths =
        Depths { send: config.send_slots as u32, recv: config.recv_slots as u32, inline: config.inline as u32 };
    loop {
        match Qp::new(pd, &send_cq, &recv_cq, depths) {
            Ok((qp, got)) => {
                drop(qp);
                return Ok(Depths { inline: got.inline.min(depths.inline), ..depths });
            }
            Err(error) if depths.inline == 0 => return Err(error),
            Err(_) => depths.inline /= 2,
        }
    }
}
