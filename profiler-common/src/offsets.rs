//! Where kernel structs have the fields that name what a wait waits for. Userspace takes them
//! from BTF and sets them as one read-only global.

/// The value of a field that this kernel does not have.
pub const MISSING: u32 = u32::MAX;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident = $strukt:literal . $member:literal;)*) => {
        /// Offsets in bytes, or [`MISSING`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
        #[repr(C)]
        pub struct Offsets { $($(#[$doc])* pub $name: u32,)* }

        impl Offsets {
            /// What the kernel side has before userspace sets it.
            pub const ZERO: Offsets = Offsets { $($name: 0,)* };

            /// Asks `find(struct, member)` for every field.
            pub fn new(mut find: impl FnMut(&str, &str) -> Option<u32>) -> Offsets {
                Offsets { $($name: find($strukt, $member).unwrap_or(MISSING),)* }
            }
        }
    };
}

offsets! {
    /// The task's table of descriptors.
    task_files = "task_struct"."files";
    /// The task's root and working directory.
    task_fs = "task_struct"."fs";
    /// The task that a child reports to.
    task_real_parent = "task_struct"."real_parent";
    /// The task's id in each of its namespaces.
    task_thread_pid = "task_struct"."thread_pid";
    /// How deep its namespace is.
    pid_level = "pid"."level";
    /// The ids, from the initial namespace down.
    pid_numbers = "pid"."numbers";
    /// The table in use.
    files_fdt = "files_struct"."fdt";
    /// Its length.
    fdt_max = "fdtable"."max_fds";
    /// Its entries.
    fdt_fd = "fdtable"."fd";
    /// Mount and dentry of an open file.
    file_path = "file"."f_path";
    /// Its inode.
    file_inode = "file"."f_inode";
    /// What its kind keeps of it: a socket.
    file_private = "file"."private_data";
    /// The root directory.
    fs_root = "fs_struct"."root";
    /// Its mount.
    path_mnt = "path"."mnt";
    /// Its dentry.
    path_dentry = "path"."dentry";
    /// The directory that a dentry is in.
    dentry_parent = "dentry"."d_parent";
    /// Its name: hash and length, then a pointer.
    dentry_name = "dentry"."d_name";
    /// Where in a `mount` its public half lies.
    mount_mnt = "mount"."mnt";
    /// The mount on which this one is mounted.
    mount_parent = "mount"."mnt_parent";
    /// Where.
    mount_point = "mount"."mnt_mountpoint";
    /// The root of what is mounted.
    vfsmount_root = "vfsmount"."mnt_root";
    /// Number of an inode.
    inode_number = "inode"."i_ino";
    /// Its type and permissions.
    inode_mode = "inode"."i_mode";
    /// Its file system.
    inode_super = "inode"."i_sb";
    /// The file system's device number.
    super_dev = "super_block"."s_dev";
    /// The file system's type.
    super_magic = "super_block"."s_magic";
    /// The protocol's half of a socket.
    socket_sock = "socket"."sk";
    /// Address family.
    sock_family = "sock"."__sk_common.skc_family";
    /// Peer address; the own one follows it.
    sock_peer = "sock"."__sk_common.skc_daddr";
    /// Peer port, in network order; the own one follows it.
    sock_peer_port = "sock"."__sk_common.skc_dport";
    /// Peer address, IPv6.
    sock_peer6 = "sock"."__sk_common.skc_v6_daddr";
    /// Own address, IPv6.
    sock_own6 = "sock"."__sk_common.skc_v6_rcv_saddr";
    /// Protocol number.
    sock_protocol = "sock"."sk_protocol";
    /// Stream, datagram, …
    sock_type = "sock"."sk_type";
    /// Address of a Unix socket.
    unix_addr = "unix_sock"."addr";
    /// The other end of a Unix socket.
    unix_peer = "unix_sock"."peer";
    /// Length of the address.
    unix_addr_len = "unix_address"."len";
    /// The address.
    unix_addr_name = "unix_address"."name";
    /// The file that is mapped in an area of memory.
    area_file = "vm_area_struct"."vm_file";
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, words without padding, valid for every bit pattern.
unsafe impl aya::Pod for Offsets {}
