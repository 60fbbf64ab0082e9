//! What can be called: methods, as types that both ends share.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Which way a method's messages go. Each shape is a type, so that a method is called only in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The client sends any number of requests, after the call itself; else the call carries the one.
    pub requests: bool,
    /// The server sends any number of replies; else there is one, which ends the call.
    pub replies: bool,
}

/// The shape of a method: [`Unary`], [`ServerStreaming`], [`ClientStreaming`] or [`BidiStreaming`].
pub trait Shape {
    /// The same, as a value.
    const FLOW: Flow;
}

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident: $requests:literal, $replies:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub enum $name {}

        impl Shape for $name {
            const FLOW: Flow = Flow { requests: $requests, replies: $replies };
        }
    )*};
}

shapes! {
    /// One request, one reply.
    Unary: false, false;
    /// One request, any number of replies.
    ServerStreaming: false, true;
    /// Any number of requests, one reply.
    ClientStreaming: true, false;
    /// Any number of each, in any order.
    BidiStreaming: true, true;
}

/// A method: what [`methods!`](crate::methods) makes.
pub trait Method {
    /// Its number on the wire: one for each method of a server, for ever.
    const ID: u32;
    /// Its name, for people.
    const NAME: &'static str;
    /// Which way its messages go.
    type Shape: Shape;
    /// What the client says.
    type Request: Serialize + DeserializeOwned;
    /// What the server says.
    type Reply: Serialize + DeserializeOwned;
}

/// Declares methods, each as a unit struct that is a [`Method`].
///
/// ```
/// use trespass_example_rpc::{Method, methods};
///
/// methods! {
///     /// The sum of two numbers.
///     pub Add = 1, "arith.add": unary((i64, i64)) -> i64;
///     /// All numbers below one.
///     pub Count = 2, "arith.count": server_streaming(u64) -> u64;
/// }
/// assert_eq!(Add::NAME, "arith.add");
/// ```
#[macro_export]
macro_rules! methods {
    ($($(#[$doc:meta])* $vis:vis $name:ident = $id:literal, $label:literal: $shape:ident($request:ty) -> $reply:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis struct $name;

        impl $crate::Method for $name {
            const ID: u32 = $id;
            const NAME: &'static str = $label;
            type Shape = $crate::methods!(@shape $shape);
            type Request = $request;
            type Reply = $reply;
        }
    )*};
    (@shape unary) => { $crate::Unary };
    (@shape server_streaming) => { $crate::ServerStreaming };
    (@shape client_streaming) => { $crate::ClientStreaming };
    (@shape bidi_streaming) => { $crate::BidiStreaming };
}
