//! The contexts of all copies of tokio in one process: each found in its module's image, and by the
//! process's memory where each thread has its own.

use super::image::{ContextAt, NoContext, TokioImage, Variables};
use crate::process::module::{Block, Loader, ReadMemory, TlsSegment};
use profiler_common::context::{PLACES, Place, base};
use profiler_common::scheduler_core::core_layout;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A tokio whose context was not found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissingContext {
    /// File name of its module, raw.
    pub module: String,
    /// Why.
    #[serde(flatten)]
    pub reason: NoContext,
}

/// A module of a process in which tokio is.
#[derive(Clone, Copy, Debug)]
pub struct LoadedTokio<'a> {
    /// Its file name.
    pub name: &'a str,
    /// What its image says.
    pub image: &'a TokioImage,
    /// Its thread-local memory.
    pub thread_local: Option<TlsSegment>,
    /// What is to be added to an address that the image states.
    pub bias: u64,
    /// Whether the process executes it; else it is a library.
    pub is_executable: bool,
}

/// Where the contexts of one process are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContextsOfProcess {
    /// For the kernel side: those that are there come first.
    pub places: [Place; PLACES],
    /// With [`base::VARIABLES`], how far below a thread's FS base the other variables are: the worker,
    /// the runtime of one thread, the budget and the handle's tag, which is 0 where it is not known.
    pub variables_below_fs: [u32; 4],
    /// Each tokio that is there and has no place.
    pub missing: Vec<MissingContext>,
    /// Whether the loader may not be ready yet, so that another look may find more.
    pub is_early: bool,
}

impl ContextsOfProcess {
    /// Finds the contexts of the modules of a process.
    #[must_use]
    pub fn find<'a>(
        modules: impl IntoIterator<Item = LoadedTokio<'a>>,
        loader: Loader,
        memory: &impl ReadMemory,
    ) -> ContextsOfProcess {
        let mut process = ContextsOfProcess::default();
        let mut free = 0;
        for module in modules {
            let contexts = &module.image.contexts;
            if let Some(reason) = &contexts.missing {
                process.misses(&module, reason.clone());
            }
            if contexts.found.is_empty() && contexts.variables.is_none() {
                continue;
            }
            let Some(block) = module.block(memory) else {
                process.is_early |= !module.is_executable;
                process.misses(&module, NoContext::NoModuleNumber);
                continue;
            };
            if let Some(variables) = contexts.variables
                && let Some((place, others)) = of_variables(block, variables)
            {
                process.put(&module, &mut free, place);
                process.variables_below_fs = others;
            }
            for context in &contexts.found {
                match place(block, context, loader) {
                    Some(place) => process.put(&module, &mut free, place),
                    None => process.misses(&module, NoContext::UnknownArrangement),
                }
            }
        }
        process
    }

    fn misses(&mut self, module: &LoadedTokio<'_>, reason: NoContext) {
        self.missing.push(MissingContext {
            module: module.name.to_owned(),
            reason,
        });
    }

    fn put(&mut self, module: &LoadedTokio<'_>, free: &mut usize, place: Place) {
        match self.places.get_mut(*free) {
            Some(room) => {
                *room = place;
                *free += 1;
            }
            None => self.misses(module, NoContext::TooMany),
        }
    }

    /// The places that are there.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.places
            .iter()
            .take_while(|place| place.base != base::NONE)
    }
}

impl LoadedTokio<'_> {
    fn block(&self, memory: &impl ReadMemory) -> Option<Block> {
        let segment = self.thread_local.as_ref()?;
        if self.is_executable {
            segment.of_executable()
        } else {
            segment.of_library(self.bias, memory)
        }
    }
}

fn place(block: Block, context: &ContextAt, loader: Loader) -> Option<Place> {
    let at = |base, module, offset| Place {
        base,
        module,
        offset,
        worker: context.worker,
        single: context.single,
        fields: context.fields,
    };
    Some(match (block, loader) {
        (Block::BelowFs(begin), _) => at(base::BELOW_FS, 0, begin.checked_sub(context.offset)?),
        (Block::Numbered(module), Loader::Glibc) => at(base::GLIBC_VECTOR, module, context.offset),
        (Block::Numbered(module), Loader::Musl) => at(base::MUSL_VECTOR, module, context.offset),
    })
}

/// The variables of tokio 1.20: of an executable only, where they have names.
fn of_variables(block: Block, variables: Variables) -> Option<(Place, [u32; 4])> {
    let Block::BelowFs(begin) = block else {
        return None;
    };
    let below = |offset: u64| u32::try_from(begin.checked_sub(offset)?).ok();
    let place = Place {
        base: base::VARIABLES,
        offset: begin.checked_sub(variables.entered)?,
        worker: core_layout::WORKER,
        ..Place::default()
    };
    Some((
        place,
        [
            below(variables.worker)?,
            below(variables.current_thread)?,
            below(variables.budget)?,
            variables.handle.and_then(below).unwrap_or(0),
        ],
    ))
}

#[cfg(test)]
#[path = "contexts_tests.rs"]
mod tests;
