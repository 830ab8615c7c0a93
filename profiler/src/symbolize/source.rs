//! What names are looked up in.

use crate::process::InPlace;
use crate::units::Svma;
use std::path::PathBuf;
use std::sync::Arc;

/// One mapped file, as names need it.
#[derive(Clone, Debug)]
pub struct ModuleSource {
    /// File name for display: `claims_api`, `libc.so.6`, `[vdso]`.
    pub name: Arc<str>,
    /// Where the file can be read: `/proc/PID/map_files/…`, `/proc/PID/root/…`, or a plain path.
    /// Two modules of one path are one, and only those: whoever makes a file chooses its build ID.
    pub path: PathBuf,
    /// In hexadecimal, where the file has one. Debug files are found by it.
    pub build_id: Option<String>,
    /// The bytes, for the vDSO, which has no file; `path` then only tells it apart.
    pub image: Option<Arc<[u8]>>,
    /// The file that has the debug information, where the one at `path` has only the headers of it.
    pub in_place: Option<Arc<InPlace>>,
    /// Whether it may hold tokio: there is a sign of it, or its code was not read. Functions without a name are
    /// nobody's then.
    pub may_hold_tokio: bool,
    /// Start and length of each function, by ascending start, from the unwinding information:
    /// what is left to name functions by in a stripped file.
    pub functions: Arc<[(u32, u32)]>,
}

impl ModuleSource {
    /// The function around `svma`: its start and its length.
    pub(super) fn function(&self, svma: Svma) -> Option<(u32, u32)> {
        let svma = u32::try_from(svma.0).ok()?;
        let next = self.functions.partition_point(|&(start, _)| start <= svma);
        let &(start, len) = self.functions.get(next.checked_sub(1)?)?;
        (svma - start < len).then_some((start, len))
    }
}
