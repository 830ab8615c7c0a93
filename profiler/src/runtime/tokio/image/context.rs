//! Where a module keeps tokio's thread-local context.
//!
//! The context is initialised by a constant, so the module's initial image of thread-local
//! memory (`PT_TLS`) holds a copy. In it all is zero but for two things: the tag of the runtime's
//! handle, which says that there is none yet, and the byte that says that no runtime is entered.
//! So the search states what must agree (a borrow count of zero, a tag that is no handle's, no
//! handle, a depth of zero, no scheduler, no task, no budget, no runtime), and demands that one
//! place agrees for each tokio that the module names. How far the two are apart tells the
//! arrangement of what is between them, which is the compiler's choice and tokio's options'.
//!
//! What comes after the context says nothing: there std keeps whether the variable was destroyed,
//! which begins as 0 in images by rustc up to 1.97 and as 1 from 1.98 on, and before 1.79 was
//! elsewhere.

use super::cores::cores;
use super::release;
use super::signs::Signs;
use crate::process::module::Elf;
use profiler_common::context::{Fields, PLACES, RUNTIME_NONE, layout};
use profiler_common::scheduler_core::Core;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Alignment of the context, in bytes.
const ALIGN: usize = 8;

/// How much of an initial image is searched, in bytes. Real ones have some KiB.
const MAX_IMAGE: usize = 1 << 20;

/// The arrangements whose handle has a tag.
const TAGGED: [Fields; 3] = [layout::NEW, layout::OLD, layout::NEW_TASKDUMP];

/// What the tag is where there is no handle: one more than the last kind of runtime, of which there
/// are two, or three in some versions with `tokio_unstable`; turbo's build of 1.50.0 and lancedb's
/// of 1.53.1 have -1.
const NO_HANDLE: [u64; 3] = [2, 3, u64::MAX];

/// The first version that has one context for all, and initialises it by a constant.
const FIRST_CONSTANT: (u32, u32) = (1, 29);
/// The first version of [`layout::NEW`].
const FIRST_NEW: (u32, u32) = (1, 40);

/// A context in a module's thread-local memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextAt {
    /// Bytes from the start of the module's block.
    pub offset: u64,
    /// Where its fields are.
    pub fields: Fields,
    /// Where a worker's core has its fields.
    pub worker: Core,
    /// Likewise a `current_thread` runtime's.
    pub single: Core,
}

/// The variables of tokio 1.20, in bytes from the start of the module's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variables {
    /// `runtime::enter::ENTERED`.
    pub entered: u64,
    /// `thread_pool::worker::CURRENT`.
    pub worker: u64,
    /// `basic_scheduler::CURRENT`.
    pub current_thread: u64,
    /// The budget, `coop::CURRENT`.
    pub budget: u64,
    /// The tag of the handle in `runtime::context::CONTEXT`, where the image shows where it is.
    pub handle: Option<u64>,
}

/// Where a module's contexts are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contexts {
    /// Those that were found.
    pub found: Vec<ContextAt>,
    /// Those of tokio 1.20.
    pub variables: Option<Variables>,
    /// Why there is none where there is tokio.
    pub missing: Option<NoContext>,
}

/// Why a tokio was found whose context was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "reason", content = "detail", rename_all = "snake_case")]
pub enum NoContext {
    /// The image has no thread-local memory.
    NoThreadLocals,
    /// This version makes its context when it is first used, so that no image shows it, and there
    /// are no symbols that do.
    MadeAtFirstUse(String),
    /// Nothing in the initial image agrees with an arrangement that is known.
    UnknownArrangement,
    /// More places agree than there are tokios.
    Ambiguous(usize),
    /// The loader's number of the module's thread-local memory was not found in the process.
    NoModuleNumber,
    /// There is no place for it: so many copies of tokio are read at most.
    TooMany,
}

impl fmt::Display for NoContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoContext::NoThreadLocals => f.write_str("it has no thread-local memory"),
            NoContext::MadeAtFirstUse(version) => {
                write!(
                    f,
                    "tokio {version} makes it at its first use, and there are no symbols"
                )
            }
            NoContext::UnknownArrangement => {
                f.write_str("its thread-local memory agrees with no known arrangement")
            }
            NoContext::Ambiguous(places) => {
                write!(f, "{places} places in its thread-local memory look like it")
            }
            NoContext::NoModuleNumber => {
                f.write_str("the loader's number of its thread-local memory was not found")
            }
            NoContext::TooMany => write!(f, "more than {PLACES} copies of tokio in one process"),
        }
    }
}

/// Parts of the symbols of the variables of tokio 1.20 that both manglings have; the rest is made by
/// `thread_local!` and a hash.
const VARIABLES: [&str; 4] = [
    "5tokio7runtime5enter7ENTERED",
    "5tokio7runtime11thread_pool6worker7CURRENT3FOO",
    "5tokio7runtime15basic_scheduler7CURRENT3FOO",
    "5tokio4coop7CURRENT",
];

/// Likewise of the variable with the runtime's handle: a borrow count, the handle, and what the
/// library keeps of its destructor.
const HANDLE: &str = "5tokio7runtime7context7CONTEXT";

/// Words of that variable. The last one cannot be the tag, behind which the pointer is.
const HANDLE_WORDS: usize = 4;

/// Of the handle's tag: none.
const VARIABLES_NO_HANDLE: u64 = 2;

impl Contexts {
    /// Finds the contexts in an image that holds tokio, by the signs of which it is.
    #[must_use]
    pub(super) fn of(elf: &Elf<'_>, signs: &Signs) -> Contexts {
        let Some(block) = elf.thread_local() else {
            return missing(NoContext::NoThreadLocals);
        };
        let image = block.image.get(..MAX_IMAGE).unwrap_or(block.image);
        let mut contexts = in_image(image, signs);
        let [entered, worker, current_thread, budget] =
            VARIABLES.map(|name| elf.thread_local_symbol(name));
        if let (Some(entered), Some(worker), Some(current_thread), Some(budget)) =
            (entered, worker, current_thread, budget)
        {
            let handle = elf.thread_local_symbol(HANDLE);
            contexts.variables = Some(Variables {
                entered,
                worker,
                current_thread,
                budget,
                handle: handle.and_then(|at| tag_of_handle(image, at)),
            });
            contexts.missing = None;
        }
        contexts
    }
}

/// Where the handle's tag is: the one word in the variable at `at` that says something, and it says that
/// there is no handle.
fn tag_of_handle(image: &[u8], at: u64) -> Option<u64> {
    let begin = usize::try_from(at).ok()?;
    let bytes = image.get(begin..begin.checked_add(8 * HANDLE_WORDS)?)?;
    let (words, _) = bytes.as_chunks::<8>();
    let mut said = (0..).zip(words.iter().map(|word| u64::from_le_bytes(*word)));
    let (index, word) = said.find(|(_, word)| *word != 0)?;
    let is_alone = said.all(|(_, word)| word == 0);
    let is_tag = word == VARIABLES_NO_HANDLE && is_alone && index < HANDLE_WORDS as u64 - 1;
    is_tag.then_some(at + 8 * index)
}

fn missing(reason: NoContext) -> Contexts {
    Contexts {
        missing: Some(reason),
        ..Contexts::default()
    }
}

/// The contexts in an initial image of thread-local memory.
fn in_image(image: &[u8], signs: &Signs) -> Contexts {
    let versions = &signs.versions;
    let mut found = tagged(image);
    let releases: Vec<(u32, u32)> = versions.iter().filter_map(|v| release(v)).collect();
    // Without a tag there is less that must agree, so the version has to say which it is.
    if let (true, [version]) = (found.is_empty(), releases.as_slice())
        && *version >= FIRST_CONSTANT
        && !signs.taskdump
    {
        found = untagged(image, *version >= FIRST_NEW);
    }
    // A module that names no version has one tokio all the same.
    let most = versions.len().max(1);
    if found.len() > most {
        return missing(NoContext::Ambiguous(found.len()));
    }
    if found.is_empty() {
        let old = versions
            .iter()
            .find(|version| release(version).is_some_and(|release| release < FIRST_CONSTANT));
        return missing(match old {
            Some(version) => NoContext::MadeAtFirstUse(version.clone()),
            None => NoContext::UnknownArrangement,
        });
    }
    // Of two versions in one module, which is which is not known.
    let (worker, single) = cores(versions, signs.unstable);
    Contexts {
        found: found
            .into_iter()
            .map(|(offset, fields)| ContextAt {
                offset,
                fields,
                worker,
                single,
            })
            .collect(),
        variables: None,
        missing: None,
    }
}

/// Every place that is a context whose handle has a tag.
fn tagged(image: &[u8]) -> Vec<(u64, Fields)> {
    let mut found = Vec::new();
    for at in (0..image.len()).step_by(ALIGN) {
        for fields in TAGGED {
            let bytes = image.get(at..at + usize::from(fields.words) * 8);
            if let Some(no_handle) = bytes.and_then(|bytes| unused(bytes, &fields)) {
                found.push((
                    at as u64,
                    Fields {
                        no_handle,
                        ..fields
                    },
                ));
            }
        }
    }
    found
}

/// How far before a place there must be no tag, in bytes: with one, it may be the end of a context
/// of another arrangement.
const NO_TAG_BEFORE: usize = 64;

/// Every place that is a context of a runtime of one thread only, by the one byte in it.
fn untagged(image: &[u8], new: bool) -> Vec<(u64, Fields)> {
    let fields = if new {
        layout::NEW_SINGLE
    } else {
        layout::OLD_SINGLE
    };
    (0..image.len())
        .step_by(ALIGN)
        .filter_map(|at| {
            let bytes = image.get(at..at + usize::from(fields.words) * 8)?;
            let [before @ .., last, end] = bytes else {
                return None;
            };
            let is_one = *last == RUNTIME_NONE && *end == 0 && before.iter().all(|b| *b == 0);
            let before = image.get(at.saturating_sub(NO_TAG_BEFORE)..at)?;
            let mut words = before.as_chunks::<8>().0.iter();
            let has_tag = words.any(|word| NO_HANDLE.contains(&u64::from_le_bytes(*word)));
            (is_one && !has_tag).then_some((at as u64, fields))
        })
        .collect()
}

/// The low byte of the tag where the bytes are a context that no thread has used yet.
fn unused(bytes: &[u8], fields: &Fields) -> Option<u8> {
    let tag = usize::from(fields.tag);
    let word = bytes.get(tag..tag + 8)?.first_chunk::<8>()?;
    if !NO_HANDLE.contains(&u64::from_le_bytes(*word)) {
        return None;
    }
    let agrees = bytes.iter().enumerate().all(|(at, byte)| {
        (tag..tag + 8).contains(&at)
            || if at == usize::from(fields.runtime) {
                *byte == RUNTIME_NONE
            } else {
                *byte == 0
            }
    });
    agrees.then_some(word[0])
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
