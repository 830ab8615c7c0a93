//! Names of the things in a recording: indices into its [`Tables`](super::Tables).

use crate::units::Tid;
use serde::{Deserialize, Serialize};

macro_rules! index {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// Position in its table.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

index! {
    /// Index into [`Tables::processes`](super::Tables::processes). Unlike a pid it is never used
    /// twice: a pid that the kernel gives out again is another process.
    ProcessId,
    /// Index into [`Tables::stacks`](super::Tables::stacks).
    StackId,
    /// Index into [`Tables::objects`](super::Tables::objects).
    ObjectId,
    /// Index into [`Tables::wakers`](super::Tables::wakers).
    WakerId,
}

/// A thread of a recorded process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ThreadId {
    /// Its process.
    pub process: ProcessId,
    /// Its thread id. Within one process the kernel may use an id again after a thread has ended;
    /// the two are then one to us.
    pub tid: Tid,
}
