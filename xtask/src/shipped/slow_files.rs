//! A file system that opens files slowly: what a hung disk or network share does to a program, for a
//! time that is known.

use anyhow::{Context as _, Result};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEntry, ReplyOpen, Request,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Nothing is cached by the kernel: each call of the program arrives here.
const TTL: Duration = Duration::ZERO;

/// An open of a file that was answered.
#[derive(Clone, Debug)]
pub(super) struct Open {
    /// From when until when, since the file system was mounted.
    pub(super) time: Range<Duration>,
    /// The process that opened it, and the name of its thread.
    pub(super) process: u32,
    pub(super) thread: String,
}

/// In the order in which they were answered.
type Opens = Arc<Mutex<Vec<Open>>>;

/// A mounted file system whose files are read-only and whose opens take a while. Unmounted when it
/// is dropped.
pub(super) struct SlowFiles {
    opens: Opens,
    _session: BackgroundSession,
    /// After the session: the folder can be removed only when nothing is mounted there.
    folder: tempfile::TempDir,
}

impl SlowFiles {
    /// Mounts `files` (path and text) below a new folder; each open of a file takes `delay`.
    ///
    /// # Errors
    /// The kernel has no FUSE, or this process may not mount.
    pub(super) fn mount(files: &BTreeMap<String, String>, delay: Duration) -> Result<SlowFiles> {
        let folder = tempfile::Builder::new().prefix("slow-").tempdir()?;
        let opens = Opens::default();
        let tree = Tree {
            nodes: nodes(files),
            delay,
            mounted: Instant::now(),
            opens: Arc::clone(&opens),
        };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::RO, MountOption::FSName("slow".to_owned())];
        let session = fuser::spawn_mount(tree, folder.path(), &config)
            .context("cannot mount a FUSE file system")?;
        Ok(SlowFiles {
            opens,
            _session: session,
            folder,
        })
    }

    /// Where it is mounted.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The opens so far.
    pub(super) fn opens(&self) -> Vec<Open> {
        self.opens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A folder or a file.
struct Node {
    path: PathBuf,
    /// None: a folder.
    bytes: Option<Vec<u8>>,
}

/// The root first, then each folder before what is in it.
fn nodes(files: &BTreeMap<String, String>) -> Vec<Node> {
    let mut all: BTreeMap<PathBuf, Option<Vec<u8>>> = BTreeMap::new();
    all.insert(PathBuf::new(), None);
    for (path, text) in files {
        let path = Path::new(path);
        for folder in path.ancestors().skip(1) {
            all.insert(folder.to_owned(), None);
        }
        all.insert(path.to_owned(), Some(contents(text)));
    }
    all.into_iter()
        .map(|(path, bytes)| Node { path, bytes })
        .collect()
}

/// What a file of the list has in it: its text, or bytes written as `hex:` and two digits each.
fn contents(text: &str) -> Vec<u8> {
    let Some(digits) = text.strip_prefix("hex:") else {
        return text.as_bytes().to_vec();
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or_default() as u8;
    let (pairs, _) = digits.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| digit(high) << 4 | digit(low);
    pairs.iter().map(byte).collect()
}

struct Tree {
    nodes: Vec<Node>,
    delay: Duration,
    mounted: Instant,
    opens: Opens,
}

/// The process and the name of a thread that waits, and so cannot end meanwhile.
fn of_thread(thread: u32) -> (u32, String) {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let value = |key: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(key)).map(str::trim)
    };
    let process = value("Tgid:").and_then(|pid| pid.parse().ok());
    let name = value("Name:").unwrap_or_default().to_owned();
    (process.unwrap_or_default(), name)
}

impl Tree {
    fn node(&self, inode: INodeNo) -> Option<&Node> {
        self.nodes
            .get(usize::try_from(inode.0).ok()?.checked_sub(1)?)
    }

    fn find(&self, path: &Path) -> Option<INodeNo> {
        let index = self.nodes.iter().position(|node| node.path == path)?;
        u64::try_from(index + 1).ok().map(INodeNo)
    }

    fn attr(&self, inode: INodeNo) -> Option<FileAttr> {
        let node = self.node(inode)?;
        let size = node.bytes.as_ref().map_or(0, Vec::len) as u64;
        let (kind, perm) = match node.bytes {
            Some(_) => (FileType::RegularFile, 0o444),
            None => (FileType::Directory, 0o555),
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Tree {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let path = self.node(parent).map(|node| node.path.join(name));
        let found = path.and_then(|path| self.attr(self.find(&path)?));
        match found {
            Some(attr) => reply.entry(&TTL, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(inode) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, request: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let (delay, opens) = (self.delay, Arc::clone(&self.opens));
        let (mounted, asked) = (self.mounted, self.mounted.elapsed());
        // FUSE calls it a process, but it is the thread.
        let (process, thread) = of_thread(request.pid());
        // In a thread of its own: other calls, and other opens, go on meanwhile.
        thread::spawn(move || {
            thread::sleep(delay);
            reply.opened(FileHandle(0), FopenFlags::empty());
            let mut opens = opens.lock().unwrap_or_else(PoisonError::into_inner);
            opens.push(Open {
                time: asked..mounted.elapsed(),
                process,
                thread,
            });
        });
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let bytes = self.node(inode).and_then(|node| node.bytes.as_deref());
        let bytes = bytes.unwrap_or_default();
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let end = bytes.len().min(start.saturating_add(size as usize));
        reply.data(bytes.get(start..end).unwrap_or_default());
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some(folder) = self.node(inode) else {
            return reply.error(Errno::ENOENT);
        };
        let inside = self
            .nodes
            .iter()
            .filter(|node| node.path.parent() == Some(&folder.path));
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (place, node) in inside.enumerate().skip(skipped) {
            let kind = match node.bytes {
                Some(_) => FileType::RegularFile,
                None => FileType::Directory,
            };
            let (Some(inode), Some(name)) = (self.find(&node.path), node.path.file_name()) else {
                continue;
            };
            if reply.add(inode, place as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_what_is_in_them() {
        let files = BTreeMap::from([("a/b/c".to_owned(), "text".to_owned())]);
        let paths: Vec<_> = nodes(&files).into_iter().map(|node| node.path).collect();
        assert_eq!(paths, ["", "a", "a/b", "a/b/c"].map(PathBuf::from));
    }

    #[test]
    fn a_thread_is_known_by_its_process_and_name() {
        let (process, _) = of_thread(std::process::id());
        assert_eq!(process, std::process::id());
        assert_eq!(of_thread(u32::MAX), (0, String::new()));
    }
}
