//! Bytes of the ring buffer to events. Nothing here trusts a length.

mod event;

pub use event::{DecodeError, Event, ObjectSeen, RawPiece, SampleSeen, StackSeen, decode};
