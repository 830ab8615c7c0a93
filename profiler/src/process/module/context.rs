//! Where a program keeps tokio's thread-local context.
//!
//! The context is initialised by a constant, so the program's initial image of thread-local
//! memory (`PT_TLS`) holds a copy: all zero but for two bytes. One is the tag of the
//! runtime's handle (none yet), the other says that no runtime is entered. In 19 builds of tokio
//! 1.35 to 1.54 that pattern occurred exactly once, so no symbols are needed; and as the second
//! byte's place differs, the pattern that occurs also tells the layout.

use super::elf::Elf;
use profiler_common::context::{
    HANDLE, HANDLE_NONE, LAYOUT_A, LAYOUT_B, Layout, RUNTIME_NONE, layout,
};

/// Alignment of the context, in bytes.
const ALIGN: usize = 8;

/// The layouts that are known, with the size of the context.
const LAYOUTS: [(u32, Layout, usize); 2] = [(layout::A, LAYOUT_A, 80), (layout::B, LAYOUT_B, 88)];

/// Where the context is, and how it is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsContext {
    /// One of [`layout`].
    pub layout: u32,
    /// How far below a thread's FS base it lies, in bytes. The executable's thread-local block
    /// ends at the FS base ("variant II", ELF Handling For Thread-Local Storage, §3.4.6).
    pub below_fs: u64,
    /// With [`layout::C`], likewise: `thread_pool::worker::CURRENT`, `basic_scheduler::CURRENT`
    /// and the budget, `coop::CURRENT`.
    pub variables_below_fs: [u32; 3],
    /// Where a worker's core has its tick, in bytes; 0 where that is not known.
    pub tick: u32,
}

/// Where `multi_thread::worker::Core` has its `tick`, by tokio's minor versions: read from DWARF
/// of rustc 1.95 builds of 1.30, 1.35, 1.38, 1.41, 1.44, 1.47, 1.49 and 1.54. Somewhere between
/// 1.44 and 1.47 the member before it grew.
const TICK: [(std::ops::RangeInclusive<u32>, u32); 2] = [(30..=44, 64), (47..=54, 104)];

/// The tick's offset for the one version in `versions` (`1.54.1`); 0 for others, and for several.
fn tick_offset(versions: &[String]) -> u32 {
    let [version] = versions else { return 0 };
    let minor = version
        .strip_prefix("1.")
        .and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    TICK.iter()
        .find(|(minors, _)| minor.is_some_and(|minor| minors.contains(&minor)))
        .map_or(0, |(_, offset)| *offset)
}

/// Symbols of the variables of tokio 1.20, in the legacy mangling (v0 was not tried); the rest
/// of a name is made by `thread_local!` and a hash.
const ENTERED: &str = "_ZN5tokio7runtime5enter7ENTERED";
const VARIABLES: [&str; 3] = [
    "_ZN5tokio7runtime11thread_pool6worker7CURRENT3FOO",
    "_ZN5tokio7runtime15basic_scheduler7CURRENT3FOO",
    "_ZN5tokio4coop7CURRENT",
];

impl TlsContext {
    /// Finds the context in an executable. None where there is no tokio, or one of a layout that
    /// is not known, or several. `versions` are those of tokio that the executable names.
    #[must_use]
    pub fn of_executable(elf: &Elf<'_>, versions: &[String]) -> Option<TlsContext> {
        let block = elf.thread_local()?;
        let size = block.memsz.checked_next_multiple_of(block.align.max(1))?;
        let mut found = Self::of_variables(elf, size);
        for at in (0..block.image.len()).step_by(ALIGN) {
            for (name, fields, len) in LAYOUTS {
                let Some(bytes) = block.image.get(at..at + len) else {
                    continue;
                };
                if !is_initial(bytes, &fields) {
                    continue;
                }
                if found.is_some() {
                    return None;
                }
                let below_fs = size.checked_sub(at as u64)?;
                found = Some(TlsContext {
                    layout: name,
                    below_fs,
                    variables_below_fs: [0; 3],
                    tick: tick_offset(versions),
                });
            }
        }
        found
    }

    /// The separate variables of tokio 1.20. `size` is that of the whole block.
    fn of_variables(elf: &Elf<'_>, size: u64) -> Option<TlsContext> {
        let below = |name: &str| size.checked_sub(elf.thread_local_symbol(name)?);
        let [worker, current_thread, budget] = VARIABLES;
        let narrow = |name: &str| u32::try_from(below(name)?).ok();
        Some(TlsContext {
            layout: layout::C,
            below_fs: below(ENTERED)?,
            variables_below_fs: [narrow(worker)?, narrow(current_thread)?, narrow(budget)?],
            tick: 0,
        })
    }
}

/// Whether the bytes are a context that no thread has used yet.
fn is_initial(bytes: &[u8], fields: &Layout) -> bool {
    bytes.iter().enumerate().all(|(at, byte)| {
        let want = match at {
            HANDLE => HANDLE_NONE,
            at if at == fields.runtime => RUNTIME_NONE,
            _ => 0,
        };
        *byte == want
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(fields: &Layout, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        bytes[HANDLE] = HANDLE_NONE;
        bytes[fields.runtime] = RUNTIME_NONE;
        bytes
    }

    #[test]
    fn layouts_do_not_match_each_other() {
        for (name, fields, len) in LAYOUTS {
            let bytes = context(&fields, len);
            for (other, other_fields, other_len) in LAYOUTS {
                let fits = bytes
                    .get(..other_len)
                    .is_some_and(|b| is_initial(b, &other_fields));
                assert_eq!(fits, name == other, "{name} {other}");
            }
        }
    }

    #[test]
    fn any_other_byte_is_no_context() {
        for (_, fields, len) in LAYOUTS {
            for at in 0..len {
                let mut bytes = context(&fields, len);
                bytes[at] ^= 1;
                assert!(!is_initial(&bytes, &fields), "byte {at}");
            }
        }
    }

    #[test]
    fn ticks_are_known_by_version_or_not_at_all() {
        for (versions, offset) in [
            (&["1.38.2"][..], 64),
            (&["1.44.0"], 64),
            (&["1.45.1"], 0),
            (&["1.54.1"], 104),
            (&["1.55.0"], 0),
            (&["1.x"], 0),
            (&["2.38.0"], 0),
            (&["1.38.2", "1.54.1"], 0),
            (&[], 0),
        ] {
            let versions: Vec<String> = versions.iter().map(|v| (*v).to_owned()).collect();
            assert_eq!(tick_offset(&versions), offset, "{versions:?}");
        }
    }
}
