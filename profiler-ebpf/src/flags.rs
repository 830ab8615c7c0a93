//! Flags of maps and of their updates, from `include/uapi/linux/bpf.h`.

/// `BPF_NOEXIST`: only an entry that is not there yet.
pub(crate) const NO_EXIST: u64 = 1;
/// `BPF_EXIST`: only an entry that is there.
pub(crate) const EXIST: u64 = 2;
/// `BPF_F_MMAPABLE`: userspace maps the array into its memory.
pub(crate) const MMAPABLE: u32 = 0x400;
