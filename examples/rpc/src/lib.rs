//! Remote procedure calls over trespass: typed methods, unary and streaming, with deadlines, cancellation and back-pressure, on any
//! fabric. See the README beside this package.
#![forbid(unsafe_code)]
// Signatures are written out: an alias would hide what can go wrong.
#![allow(clippy::type_complexity)]

pub mod arith;
mod client;
mod codec;
mod core;
mod hub;
mod link;
mod method;
mod server;
mod status;

use trespass::core::{Fabric, InOrder, Lossless, Track};

pub use client::{
    CallOptions, Channel, ChannelConfig, Driving, Receiving, ReplyStream, RequestSink, SendingRequest, UnaryCall,
    Upload,
};
pub use core::wire::Fault;
pub use method::{BidiStreaming, ClientStreaming, Flow, Method, ServerStreaming, Shape, Unary};
pub use server::{
    CallContext, NextRequest, Replies, Requests, Route, Router, RpcServer, SendingReply, ServeConfig, ServeFault,
    Service, serve_connection,
};
pub use status::{CallError, Code, Ran, Rejection, Status};

/// A fabric whose tracks lose nothing and keep order: what a [`Channel`] needs. Implemented for all that fit.
pub trait RpcFabric: Fabric<Track: Track<Delivery: Lossless + InOrder>> {}

impl<F: Fabric<Track: Track<Delivery: Lossless + InOrder>>> RpcFabric for F {}
