//! Stacks and frames, each once.

use crate::symbolize::{Frame, FrameRef, Naming, Origin, Space};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;

/// One frame: a physical one, or one that the compiler inlined into the one after it.
#[derive(Serialize, JsonSchema)]
pub(super) struct FrameEntry<'a> {
    /// Demangled, with its module path and generic arguments; `module+0x…` where there is no
    /// symbol. Raw.
    function: &'a str,
    /// Source file, as the line table states it.
    file: Option<&'a str>,
    /// Source line, from 1.
    line: Option<u32>,
    /// File name of the mapping; none in the kernel.
    module: Option<&'a str>,
    /// The address in the process.
    address: String,
    /// Kernel or user.
    space: Space,
    /// How the frame got its name.
    naming: Naming,
    /// Whose code it is.
    origin: Origin,
    /// Whether the compiler inlined this frame into the one after it (its caller).
    inlined: bool,
}

impl<'a> FrameEntry<'a> {
    fn new(frame: &'a Frame) -> FrameEntry<'a> {
        FrameEntry {
            function: &frame.function,
            file: frame.file.as_deref(),
            line: frame.line,
            module: frame.module.as_deref(),
            address: frame.address.to_string(),
            space: frame.space,
            naming: frame.naming,
            origin: frame.origin,
            inlined: frame.inlined,
        }
    }
}

/// The tables, being filled.
#[derive(Default)]
pub(super) struct Stacks<'a> {
    /// By the frame's address in our memory: equal frames are mostly one there.
    by_pointer: HashMap<*const Frame, u32>,
    by_frame: HashMap<&'a Frame, u32>,
    by_stack: HashMap<Vec<u32>, u32>,
    pub(super) frames: Vec<FrameEntry<'a>>,
    pub(super) stacks: Vec<Vec<u32>>,
}

impl<'a> Stacks<'a> {
    /// The index of a stack.
    pub(super) fn add(&mut self, frames: &'a [FrameRef]) -> u32 {
        let stack: Vec<u32> = frames.iter().map(|frame| self.frame(frame)).collect();
        if let Some(index) = self.by_stack.get(&stack) {
            return *index;
        }
        let index = next(&self.stacks);
        self.stacks.push(stack.clone());
        self.by_stack.insert(stack, index);
        index
    }

    fn frame(&mut self, frame: &'a FrameRef) -> u32 {
        if let Some(index) = self.by_pointer.get(&Arc::as_ptr(frame)) {
            return *index;
        }
        let new = next(&self.frames);
        let index = *self.by_frame.entry(&**frame).or_insert(new);
        if index == new {
            self.frames.push(FrameEntry::new(frame));
        }
        self.by_pointer.insert(Arc::as_ptr(frame), index);
        index
    }
}

fn next<T>(all: &[T]) -> u32 {
    u32::try_from(all.len()).unwrap_or(u32::MAX)
}
