//! Where a program keeps tokio's thread-local context.
//!
//! The context is initialised by a constant, so the program's initial image of thread-local
//! memory (`PT_TLS`) holds a copy: all zero but for two bytes. One is the tag of the random
//! number generator (none yet), the other says that no runtime is entered. In 19 builds of tokio
//! 1.35 to 1.54 that pattern occurred exactly once, so no symbols are needed; and as the second
//! byte's place differs, the pattern that occurs also tells the layout.

use super::elf::Elf;
use profiler_common::context::{LAYOUT_A, LAYOUT_B, Layout, RUNTIME_NONE, layout};

/// Alignment of the context, in bytes.
const ALIGN: usize = 8;
/// Offset of the generator's tag, in either layout.
const GENERATOR: usize = 8;
/// Value of the tag where there is no generator yet.
const NO_GENERATOR: u8 = 2;

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
    /// is not known, or several.
    #[must_use]
    pub fn of_executable(elf: &Elf<'_>) -> Option<TlsContext> {
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
        })
    }
}

/// Whether the bytes are a context that no thread has used yet.
fn is_initial(bytes: &[u8], fields: &Layout) -> bool {
    bytes.iter().enumerate().all(|(at, byte)| {
        let want = match at {
            GENERATOR => NO_GENERATOR,
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
        bytes[GENERATOR] = NO_GENERATOR;
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
}
