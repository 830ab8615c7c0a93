//! The record of an object, in the form in which it is sent; and the walk that writes its text.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use profiler_common::record::{MAX_OBJECT_TEXT, ObjectRecord};

/// Room behind the text for one more part of a path, which is cut off then.
pub(crate) const SLACK: usize = 256;

/// Entries of [`OBJECT_MESSAGE`], and of what it is made from: the scheduler may interrupt a program that
/// runs at a system call's return.
pub(crate) const OF_WAIT: u32 = 0;
pub(crate) const OF_CALL: u32 = 1;

/// An object record with room for its text.
#[repr(C)]
pub(crate) struct ObjectMessage {
    pub(crate) record: ObjectRecord,
    pub(crate) text: [u8; MAX_OBJECT_TEXT + SLACK],
    /// Not sent: the walk that writes the text.
    pub(crate) walk: DentryWalk,
}

const _: () = assert!(MAX_OBJECT_TEXT.is_power_of_two(), "used as a mask");

/// The object being looked at, of a wait and of a system call.
#[map]
pub(crate) static OBJECT_MESSAGE: PerCpuArray<ObjectMessage> = PerCpuArray::with_max_entries(2, 0);

/// Where the walk up a path is.
#[repr(C)]
pub(crate) struct DentryWalk {
    pub(crate) dentry: u64,
    /// A `struct mount`.
    pub(crate) mount: u64,
    pub(crate) root_dentry: u64,
    pub(crate) root_mount: u64,
    /// Bytes of text so far.
    pub(crate) at: u64,
    /// 1 where the root was reached.
    pub(crate) done: u64,
}
