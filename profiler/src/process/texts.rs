//! All texts of the kernel's that hold what a target chose, for those who try every reader of them.

use super::{cgroup, inode, proc_dir, sockets, stat, target};

/// Reads `data` as every text of `/proc` and of control groups that is read of a target, and as the
/// answer about a unix socket. It may be anything.
pub fn read_every(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = stat::parse_stat(data);
    for key in ["Tgid", "Uid", ""] {
        let _ = proc_dir::status_number(data, key);
    }
    inode::read_every(data);
    let _ = target::parse_cmdline(data);
    cgroup::read_every(&text);
    sockets::read_every(data);
}
