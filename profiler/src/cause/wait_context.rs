//! What is known of one wait.

use crate::symbolize::FrameRef;

/// What the rules look at. Frames are leaf first.
#[derive(Clone, Copy, Debug)]
pub struct WaitContext<'a> {
    /// Number of the system call; none outside any.
    pub syscall: Option<u32>,
    /// Its arguments, where they were recorded.
    pub args: Option<[u64; 6]>,
    /// The kernel's stack; empty where it is not known.
    pub kernel: &'a [FrameRef],
    /// The user stack, up to the outermost frame of the task where that is known.
    pub user: &'a [FrameRef],
}
