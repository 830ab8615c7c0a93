//! A file that gets its name only when it is complete.

mod dir;

use super::error::{Error, Result};
use super::hint::shell_word;
use crate::host::privileges::{as_user, is_owner};
use crate::process::Invoker;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, linkat, openat, renameat, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Read and write for the owner, read for the group; the umask may take more away. A report
/// tells what runs on the machine, which is not everybody's to know.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP);

/// A file under construction in the directory it will be in. Dropped uncommitted, it is gone.
#[derive(Debug)]
pub(crate) struct PendingFile {
    file: File,
    dir: OwnedFd,
    name: OsString,
    path: PathBuf,
    /// The name it has meanwhile, on file systems without nameless files.
    temporary: Option<OsString>,
    overwrite: bool,
    /// Who makes it, and gives it its name, where not we ourselves.
    user: Option<Invoker>,
    /// The file that we put at this place last: it may be replaced. It is kept open, so that no other is
    /// taken for it.
    ours: Arc<Mutex<Option<File>>>,
}

impl PendingFile {
    /// Makes a file for `path`. Nothing that is at `path` is touched before
    /// [`PendingFile::commit`]. Where `user` is given, that user does it all, with no right of
    /// ours: finds the directory, makes the file, names it, replaces another.
    ///
    /// # Errors
    /// Where the directory cannot be written to, or something is at `path` that is no regular
    /// file (a symbolic link above all: it might lead anywhere), or a file without `overwrite`,
    /// or one that could not be replaced.
    pub(crate) fn create(
        path: &Path,
        overwrite: bool,
        user: Option<&Invoker>,
    ) -> Result<PendingFile> {
        let Some(user) = user else {
            return PendingFile::create_as_we_are(path, overwrite);
        };
        let cannot = |error: io::Error| {
            let what = format!(
                "cannot write {} as user {}",
                path.display(),
                user.uid.as_raw()
            );
            Error::new(what).because(error).hint(list(parent(path)))
        };
        let mut pending = as_user(user, || {
            let pending = PendingFile::create_as_we_are(path, overwrite)?;
            // Here nothing is kept that would help later.
            pending
                .check_commit()
                .map_err(|errno| cannot(errno.into()))?;
            Ok::<_, Error>(pending)
        })
        .map_err(cannot)??;
        pending.user = Some(user.clone());
        Ok(pending)
    }

    fn create_as_we_are(path: &Path, overwrite: bool) -> Result<PendingFile> {
        let cannot =
            |errno: Errno| Error::new(format!("cannot write {}", path.display())).because(errno);
        let name = file_name(path)?;
        let parent = parent(path);
        let dir = dir::open(parent).map_err(|errno| match errno {
            Errno::NOENT => cannot(errno).hint(format!("mkdir -p {}", word(parent))),
            // Of ours: the kernel has it for too many links.
            Errno::LOOP => cannot(errno).hint(format!(
                "a symbolic link on the way is another user's: give the path that it leads to, {}",
                resolve(parent)
            )),
            _ => cannot(errno).hint(list(parent)),
        })?;
        check_place(&dir, name, path, overwrite)?;

        let (file, temporary) =
            open_unnamed(&dir).map_err(|errno| cannot(errno).hint(list(parent)))?;
        Ok(PendingFile {
            file,
            dir,
            name: name.to_owned(),
            path: path.to_owned(),
            temporary,
            overwrite,
            user: None,
            ours: Arc::default(),
        })
    }

    /// Another file for the same place. Whichever gets the name later replaces the one before.
    pub(crate) fn again(&self) -> io::Result<PendingFile> {
        let (file, temporary) = match &self.user {
            Some(user) => as_user(user, || open_unnamed(&self.dir))??,
            None => open_unnamed(&self.dir)?,
        };
        Ok(PendingFile {
            file,
            dir: self.dir.try_clone()?,
            name: self.name.clone(),
            path: self.path.clone(),
            temporary,
            overwrite: self.overwrite,
            user: self.user.clone(),
            ours: Arc::clone(&self.ours),
        })
    }

    /// The file, to write to.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What two pending files of the same place have in common.
    pub(crate) fn place(&self) -> io::Result<(u64, u64, &OsStr)> {
        let dir = rustix::fs::fstat(&self.dir)?;
        Ok((dir.st_dev, dir.st_ino, &self.name))
    }

    /// Gives the file its name. What is at that name is replaced as a whole or, without
    /// `overwrite`, left as it is; a link there is never followed.
    pub(crate) fn commit(self) -> io::Result<()> {
        match self.user.clone() {
            Some(user) => as_user(&user, || self.commit_as_we_are())?,
            None => self.commit_as_we_are(),
        }
    }

    fn commit_as_we_are(mut self) -> io::Result<()> {
        let own = self.file.try_clone()?;
        let ours = Arc::clone(&self.ours);
        let mut ours = ours.lock().unwrap_or_else(PoisonError::into_inner);
        self.overwrite |= ours.as_ref().is_some_and(|ours| self.is_there(ours));
        self.name_it()?;
        *ours = Some(own);
        Ok(())
    }

    /// Whether this file, and no other, has the name now.
    fn is_there(&self, file: &File) -> bool {
        let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let there = statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        let file = rustix::fs::fstat(file).map(identity);
        there.is_ok_and(|there| file == Ok(identity(there)))
    }

    fn name_it(&mut self) -> io::Result<()> {
        let temporary = match self.temporary.take() {
            None if !self.overwrite => return Ok(link(&self.file, &self.dir, &self.name)?),
            None => {
                // A nameless file cannot replace one: by way of a temporary name.
                let name = temporary_name();
                link(&self.file, &self.dir, &name)?;
                name
            }
            Some(name) => name,
        };
        let renamed = if self.overwrite {
            renameat(&self.dir, &temporary, &self.dir, &self.name)
        } else {
            rename_to_free(&self.dir, &temporary, &self.name)
        };
        renamed.map_err(|errno| {
            let _ = unlinkat(&self.dir, &temporary, AtFlags::empty());
            errno.into()
        })
    }

    /// Whether [`PendingFile::commit`] would be permitted to this thread now: another file is
    /// made and named (a nameless one gets a name only once), and named again.
    pub(crate) fn can_commit(&self) -> bool {
        match &self.user {
            Some(user) => as_user(user, || self.check_commit()).is_ok_and(|can| can.is_ok()),
            None => self.check_commit().is_ok(),
        }
    }

    fn check_commit(&self) -> rustix::io::Result<()> {
        if !self.may_replace() {
            return Err(Errno::PERM);
        }
        self.rehearse()
    }

    fn rehearse(&self) -> rustix::io::Result<()> {
        // Under protected_hardlinks, proc_sys_fs(5), only its owner gives a file a name.
        if !is_owner(rustix::fs::fstat(&self.file)?.st_uid) {
            return Err(Errno::PERM);
        }
        let (file, temporary) = match self.temporary {
            None => open_unnamed(&self.dir)?,
            Some(_) => open_named(&self.dir)?,
        };
        let from = match temporary {
            Some(name) => name,
            None => {
                let name = temporary_name();
                link(&file, &self.dir, &name)?;
                name
            }
        };
        let to = temporary_name();
        let renamed = renameat(&self.dir, &from, &self.dir, &to);
        let left = if renamed.is_ok() { &to } else { &from };
        renamed.and(unlinkat(&self.dir, left, AtFlags::empty()))
    }

    /// In a directory with the sticky bit, only its owner and the owner of a file may replace
    /// that; see inode(7).
    fn may_replace(&self) -> bool {
        let Ok(dir) = rustix::fs::fstat(&self.dir) else {
            return false;
        };
        if dir.st_mode & libc::S_ISVTX == 0 {
            return true;
        }
        match statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(file) => is_owner(file.st_uid) || is_owner(dir.st_uid),
            Err(errno) => errno == Errno::NOENT,
        }
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if let Some(name) = &self.temporary {
            let _ = unlinkat(&self.dir, name, AtFlags::empty());
        }
    }
}

/// Gives a nameless file a name.
fn link(file: &File, dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(rustix::fs::CWD, own, dir, name, AtFlags::SYMLINK_FOLLOW)
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent();
    parent
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// A path as a shell takes it for one word.
fn word(path: &Path) -> String {
    shell_word(&path.to_string_lossy())
}

/// Shows who may write to a directory.
fn list(dir: &Path) -> String {
    format!("ls -ld {}", word(dir))
}

/// Shows where links lead.
fn resolve(path: &Path) -> String {
    format!("readlink -f {}", word(path))
}

/// The option that names a file in this directory.
fn option_within(dir: &Path) -> String {
    format!("-o {}", word(&as_template(dir).join("report.txt")))
}

/// The option by which the name has the time in it.
fn option_with_time(path: &Path) -> String {
    let mut path = as_template(path);
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push("-%t");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.set_file_name(name);
    format!("-o {}", word(&path))
}

/// The template that is this path and no other.
fn as_template(path: &Path) -> PathBuf {
    path.to_string_lossy().replace('%', "%%").into()
}

fn file_name(path: &Path) -> Result<&OsStr> {
    let text = path.as_os_str().as_encoded_bytes();
    match path.file_name() {
        // `Path` overlooks a slash at the end.
        Some(name) if !text.ends_with(b"/") && !text.ends_with(b"/.") => Ok(name),
        _ => Err(Error::new(format!(
            "cannot write {}: it names a directory",
            path.display()
        ))
        .hint(option_within(path))),
    }
}

fn check_place(dir: &OwnedFd, name: &OsStr, path: &Path, overwrite: bool) -> Result<()> {
    let refuse = |why: &str| Error::new(format!("will not write {}: {why}", path.display()));
    let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => {
            let error = Error::new(format!("cannot write {}", path.display()));
            return Err(error.because(errno).hint(list(parent(path))));
        }
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if overwrite => Ok(()),
        FileType::RegularFile => {
            Err(refuse("it exists").hint(format!("add --force, or {}", option_with_time(path))))
        }
        FileType::Symlink if path == Path::new("/dev/stdout") => {
            Err(refuse("it is a symbolic link").hint(STANDARD_OUTPUT))
        }
        FileType::Symlink => Err(refuse("it is a symbolic link")
            .hint(format!("give the path it leads to: {}", resolve(path)))),
        FileType::Directory => Err(refuse("it is a directory").hint(option_within(path))),
        _ => Err(refuse("it is no regular file").hint(STANDARD_OUTPUT)),
    }
}

/// What is meant by the names of devices.
const STANDARD_OUTPUT: &str = "for standard output: -o -";

/// A file in `dir` without a name, or with a temporary one where that cannot be.
fn open_unnamed(dir: &OwnedFd) -> rustix::io::Result<(File, Option<OsString>)> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match openat(dir, ".", flags | OFlags::TMPFILE, MODE) {
        Ok(file) => return Ok((file.into(), None)),
        // The file system, or the kernel, knows no O_TMPFILE: see open(2).
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {}
        Err(errno) => return Err(errno),
    }
    open_named(dir)
}

fn open_named(dir: &OwnedFd) -> rustix::io::Result<(File, Option<OsString>)> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let name = temporary_name();
    let file = openat(dir, &name, flags, MODE)?;
    Ok((file.into(), Some(name)))
}

fn temporary_name() -> OsString {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // The time keeps apart what a killed process of the same id left behind.
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    format!(
        ".holdup-{}-{number}-{:x}{:08x}.tmp",
        std::process::id(),
        now.tv_sec,
        now.tv_nsec
    )
    .into()
}

/// Renames unless something has the new name.
fn rename_to_free(dir: &OwnedFd, from: &OsStr, to: &OsStr) -> rustix::io::Result<()> {
    match renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        // The file system does not know the flag. A link fails likewise where the name is taken.
        Err(Errno::INVAL | Errno::NOSYS) => {
            linkat(dir, from, dir, to, AtFlags::empty())?;
            unlinkat(dir, from, AtFlags::empty())
        }
        other => other,
    }
}

#[cfg(test)]
#[path = "pending_file_tests.rs"]
mod tests;
