//! The file that a system call names by a path in its caller's memory.
//!
//! Only the text is read, and links of `/proc` that the kernel answers by itself: a file system that
//! hangs would hang us as well.

use crate::arch::{Subject, subject};
use crate::decode::Syscall;
use crate::process::Target;
use crate::units::Addr;

/// Longest path (`PATH_MAX`), in bytes.
const MAX_PATH: usize = 4096;
const PAGE: u64 = 4096;
/// "The working directory", for a descriptor (`AT_FDCWD`).
const WORKING_DIRECTORY: i32 = -100;

/// What the arguments of a system call name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A file by its path: absolute, where what it is relative to is known.
    Path(String),
    /// Whatever this descriptor stands for.
    Descriptor(u64),
}

/// The file that a system call names; none where it names none, or where that cannot be read.
pub(super) fn named(target: &Target, syscall: &Syscall) -> Option<Named> {
    let [first, second, ..] = syscall.args;
    let (directory, at) = match subject(syscall.number) {
        Subject::Descriptor => return Some(Named::Descriptor(first)),
        Subject::Path => (WORKING_DIRECTORY, first),
        Subject::PathAt => (first as i32, second),
        Subject::Futex | Subject::Other => return None,
    };
    let path = text(at, |at, into| target.read_memory(at, into).is_ok())?;
    if path.is_empty() {
        // `AT_EMPTY_PATH`: the descriptor itself.
        let descriptor = u64::try_from(directory).ok()?;
        return Some(Named::Descriptor(descriptor));
    }
    let link = match directory {
        WORKING_DIRECTORY => "cwd".to_owned(),
        descriptor => format!("fd/{descriptor}"),
    };
    let directory = || target.proc_dir().read_link(&link).ok();
    Some(Named::Path(absolute(path, directory)))
}

/// The text at an address, up to its first zero byte.
fn text(at: u64, mut read: impl FnMut(Addr, &mut [u8]) -> bool) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    while text.len() < MAX_PATH {
        let from = at.checked_add(text.len() as u64)?;
        // The next page may not be there.
        let mut piece = vec![0; usize::try_from(PAGE - from % PAGE).ok()?];
        if !read(Addr(from), &mut piece) {
            return None;
        }
        let end = piece.iter().position(|byte| *byte == 0);
        text.extend(piece.get(..end.unwrap_or(piece.len()))?);
        if end.is_some() {
            text.truncate(MAX_PATH);
            return Some(text);
        }
    }
    None
}

/// A path with the directory that it is relative to, if it is.
fn absolute(path: Vec<u8>, directory: impl FnOnce() -> Option<Vec<u8>>) -> String {
    let directory = if path.starts_with(b"/") {
        None
    } else {
        directory()
    };
    let whole = match directory {
        Some(mut whole) => {
            if !whole.ends_with(b"/") {
                whole.push(b'/');
            }
            whole.extend(path);
            whole
        }
        None => path,
    };
    String::from_utf8_lossy(&whole).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory from 0x1000 on.
    fn memory(bytes: &[u8]) -> impl FnMut(Addr, &mut [u8]) -> bool {
        move |at, into| {
            let from =
                at.0.checked_sub(0x1000)
                    .and_then(|at| usize::try_from(at).ok());
            let bytes = from.and_then(|from| bytes.get(from..from + into.len()));
            bytes.inspect(|bytes| into.copy_from_slice(bytes)).is_some()
        }
    }

    #[test]
    fn a_path_is_read_up_to_its_end_over_the_ends_of_pages() {
        let mut bytes = vec![0; 0x2000];
        bytes[0xffe..0x1003].copy_from_slice(b"/a/bc");
        assert_eq!(text(0x1ffe, memory(&bytes)), Some(b"/a/bc".to_vec()));
        // The second page is missing.
        assert_eq!(text(0x1ffe, memory(&bytes[..0x1000])), None);
        assert_eq!(text(0x1ff0, memory(&bytes[..0x1000])), Some(Vec::new()));
        assert_eq!(text(0x9000, memory(&bytes)), None);
        let endless = vec![b'x'; 0x3000];
        assert_eq!(text(0x1000, memory(&endless)), None);
    }

    #[test]
    fn relative_paths_stand_behind_their_directory() {
        let whole = |path: &[u8], directory: Option<&[u8]>| {
            absolute(path.to_vec(), || directory.map(<[u8]>::to_vec))
        };
        assert_eq!(whole(b"a/b", Some(b"/srv")), "/srv/a/b");
        assert_eq!(whole(b"a", Some(b"/")), "/a");
        assert_eq!(whole(b"/a", Some(b"/srv")), "/a");
        assert_eq!(whole(b"a", None), "a");
    }
}
