//! The engine that reads the rules.

use super::markers::{Markers, look_up};
use super::rules::{Leaf, RULES, Rule, Step, TaskEnd};
use crate::runtime::{Classification, Role, RuleName, State};
use crate::symbolize::{Frame, FrameRef, Naming, Origin, Space, normalise};
use crate::units::{Addr, Svma};
use std::collections::HashSet;
use std::sync::Arc;

/// Where std's thread entry is, into which LTO and opt-level s inline the pool's run loop.
const THREAD_ENTRY: &str = "__rust_begin_short_backtrace";

/// Where the main thread enters std.
const MAIN_ENTRY: &str = "std::rt::lang_start";

/// What wakes by the trait `Wake`, with the program's own code inlined. tokio's own wakers are none.
const WAKE_TRAIT: &str = "alloc::task::raw_waker";

/// Turns stacks into verdicts, and learns from the stacks of one recording what names alone do
/// not tell.
///
/// Call [`learn`](Classifier::learn) for every new stack before [`classify`](Classifier::classify).
/// A late `learn` may change earlier verdicts, so classify all stacks (again) at the end.
#[derive(Debug, Default)]
pub struct Classifier {
    pool_bases: HashSet<PoolBase>,
}

/// The function from which a pool thread's jobs are called, known by its place, never by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum PoolBase {
    /// The function of this module starts here.
    Start(Option<Arc<str>>, Svma),
    /// A call of a job returns to this function here; where the function starts is not known.
    Call(Arc<str>, Addr),
}

impl Classifier {
    /// Knows the rules, and nothing of the recording yet.
    #[must_use]
    pub fn new() -> Self {
        Classifier::default()
    }

    /// Learns from a stack (leaf first) that shows a worker: a worker is a job of the blocking
    /// pool, so whoever calls it is a pool thread's base. True if that was news.
    pub fn learn(&mut self, frames: &[FrameRef]) -> bool {
        let mut walk = Walk::new(self, frames);
        let worker = Markers::WORKER;
        let Some(outermost) = (0..frames.len())
            .rev()
            .find(|&i| walk.markers(i).any(worker))
        else {
            return false;
        };
        let launch = (outermost + 1..frames.len()).find(|&i| walk.markers(i).any(Markers::TASK));
        let Some(launch) = launch else { return false };
        for i in launch + 1..frames.len() {
            if walk.markers(i).any(Markers::POOL) {
                return false;
            }
            let Some(frame) = frames.get(i) else {
                return false;
            };
            if frame.function.contains(THREAD_ENTRY) {
                let base = Self::base_by_start(frame)
                    .unwrap_or_else(|| PoolBase::Call(frame.function.clone(), frame.address));
                return self.pool_bases.insert(base);
            }
            // Only what tokio and std put between a job's call and its poll may be in between.
            let path = walk.path(i);
            if !path.starts_with("tokio::")
                && !path.starts_with("core::")
                && !path.starts_with("std::")
            {
                return false;
            }
        }
        false
    }

    /// What a wait with this stack means. `frames` are leaf first, inlined frames before the
    /// physical frame that holds them; kernel frames may come first. `truncated`: the outer end
    /// is missing, so only what the present frames prove is said, else [`State::Unknown`].
    #[must_use]
    pub fn classify(&self, frames: &[FrameRef], truncated: bool) -> Classification {
        let mut walk = Walk::new(self, frames);
        walk.truncated = truncated;
        for i in walk.first_user..frames.len() {
            let here = walk.markers(i);
            for rule in RULES.iter().filter(|r| here.any(r.at)) {
                if let Some(task_end) = walk.holds(rule, i) {
                    return Classification {
                        state: rule.state,
                        role: rule.role,
                        rule: rule.name,
                        frame: u32::try_from(i).ok(),
                        task_frame: task_end.and_then(|end| walk.task_frame(end)),
                    };
                }
            }
        }
        walk.undecided()
    }

    /// How many of the innermost physical user frames prove `verdict`, which was said of all of
    /// `frames`: any stack that begins with them means the same. None where it takes all of them.
    #[must_use]
    pub fn proof(&self, frames: &[FrameRef], verdict: &Classification) -> Option<u32> {
        let mut count = 0;
        for (i, frame) in frames.iter().enumerate() {
            // What it is depends on the frames beyond it.
            if frame.function.contains(THREAD_ENTRY) {
                return None;
            }
            if frame.inlined || frame.space == Space::Kernel {
                continue;
            }
            count += 1;
            let said = self.classify(frames.get(..=i)?, true);
            if (said.state, said.role, said.rule) == (verdict.state, verdict.role, verdict.rule) {
                return Some(count);
            }
        }
        None
    }

    fn base_by_start(frame: &Frame) -> Option<PoolBase> {
        Some(PoolBase::Start(frame.module.clone(), frame.start?))
    }

    /// Whether a thread entry in this frame's module that is no known base is known to be none:
    /// a binary has one, so with starts the first that is seen is all.
    fn knows_pool(&self, frame: &Frame) -> bool {
        self.pool_bases
            .iter()
            .any(|b| matches!(b, PoolBase::Start(module, _) if *module == frame.module))
    }

    fn is_pool_base(&self, frame: &Frame) -> bool {
        !self.pool_bases.is_empty()
            && (self
                .pool_bases
                .contains(&PoolBase::Call(frame.function.clone(), frame.address))
                || Self::base_by_start(frame).is_some_and(|b| self.pool_bases.contains(&b)))
    }
}

/// One stack under examination.
struct Walk<'a> {
    classifier: &'a Classifier,
    frames: &'a [FrameRef],
    first_user: usize,
    truncated: bool,
    markers: Vec<Option<Markers>>,
    path: String,
    /// Number of frames from the first user frame on that are known to be clean, and whether
    /// the one after them is known to be dirty.
    clean: (usize, bool),
}

impl<'a> Walk<'a> {
    fn new(classifier: &'a Classifier, frames: &'a [FrameRef]) -> Self {
        let first_user = frames
            .iter()
            .take_while(|f| f.space == Space::Kernel)
            .count();
        Walk {
            classifier,
            frames,
            first_user,
            truncated: false,
            markers: vec![None; frames.len()],
            path: String::new(),
            clean: (first_user, false),
        }
    }

    fn path(&mut self, i: usize) -> &str {
        self.path.clear();
        if let Some(f) = self.frames.get(i) {
            normalise(&f.function, f.file.as_deref(), &mut self.path);
        }
        &self.path
    }

    fn markers(&mut self, i: usize) -> Markers {
        if let Some(known) = self.markers.get(i).copied().flatten() {
            return known;
        }
        let Some(frame) = self.frames.get(i) else {
            return Markers::default();
        };
        let mut found = Markers::default();
        if frame.space == Space::User {
            if frame.naming.is_name() {
                self.path(i);
                found = look_up(&self.path);
                if frame.function.contains(THREAD_ENTRY) {
                    found |= self.thread_entry(i, frame);
                }
            } else if is_libc(frame) {
                // A static function of libc between a named one and the kernel.
                found = Markers::WAITS;
            }
        }
        if let Some(slot) = self.markers.get_mut(i) {
            *slot = Some(found);
        }
        found
    }

    /// What std's thread entry at frame `i` is to tokio.
    fn thread_entry(&mut self, i: usize, frame: &Frame) -> Markers {
        if self.classifier.is_pool_base(frame) {
            return Markers::POOL;
        }
        // The pool's run loop calls jobs itself, so where it was inlined into the entry nothing
        // is between them; and the main thread is never the pool's.
        let calls_job = i > self.first_user
            && self.markers(i - 1).any(Markers::TASK)
            && !self
                .frames
                .iter()
                .skip(i)
                .any(|f| f.function.starts_with(MAIN_ENTRY));
        if calls_job && !self.classifier.knows_pool(frame) {
            Markers::THREAD_ENTRY
        } else {
            Markers::default()
        }
    }

    /// Whether every user frame nearer the leaf than `end` does nothing but wait.
    fn is_clean(&mut self, end: usize) -> bool {
        while self.clean.0 < end && !self.clean.1 {
            let m = self.markers(self.clean.0);
            if m.any(Markers::WAITS) && !m.any(Markers::WAKES) {
                self.clean.0 += 1;
            } else {
                self.clean.1 = true;
            }
        }
        self.clean.0 >= end
    }

    /// Whether code that is neither tokio's nor std's is nearer the leaf than `end`.
    fn is_foreign(&mut self, end: usize) -> bool {
        (self.first_user..end).any(|i| {
            let origin = self.frames.get(i).map(|frame| frame.origin);
            matches!(origin, Some(Origin::Application | Origin::Dependency))
                || self.path(i).starts_with(WAKE_TRAIT)
        })
    }

    fn is_parked(&mut self, end: usize) -> bool {
        let evidence = Markers::THREAD_PARK | Markers::DRIVER | Markers::SINGLE_PARK;
        self.is_clean(end) && (self.first_user..=end).any(|i| self.markers(i).any(evidence))
    }

    /// `None` where the rule does not hold at frame `i`, else where the task's frames end.
    #[expect(
        clippy::option_option,
        reason = "the outer one is the answer, the inner its detail"
    )]
    fn holds(&mut self, rule: &Rule, i: usize) -> Option<Option<usize>> {
        let leaf = match rule.leaf {
            Leaf::Any => true,
            Leaf::Clean => self.is_clean(i),
            Leaf::Dirty => !self.is_clean(i),
            Leaf::Foreign => !self.is_clean(i) && self.is_foreign(i),
            Leaf::Parked => self.is_parked(i),
            Leaf::NotParked => !self.is_parked(i),
        };
        if !leaf {
            return None;
        }
        let (mut at, mut first) = (i, None);
        for step in rule.outward {
            at = self.step(step, at)?;
            first = first.or(Some(at));
        }
        Some(match rule.task {
            TaskEnd::None => None,
            TaskEnd::Here => Some(i),
            TaskEnd::FirstStep => first,
        })
    }

    /// Where a step from frame `from` ends, if it holds.
    fn step(&mut self, step: &Step, from: usize) -> Option<usize> {
        for i in from + 1..self.frames.len() {
            let m = self.markers(i);
            if m.any(step.among) {
                return m.any(step.is).then_some(i);
            }
        }
        (step.is.is_empty() && !self.truncated).then_some(self.frames.len())
    }

    /// The outermost application frame nearer the leaf than `end`.
    fn task_frame(&self, end: usize) -> Option<u32> {
        let inside = self.frames.get(..end)?;
        let i = inside
            .iter()
            .rposition(|f| f.origin == Origin::Application)?;
        u32::try_from(i).ok()
    }

    /// No rule held.
    fn undecided(&mut self) -> Classification {
        let verdict = |state, name| Classification {
            state,
            role: Role::None,
            rule: RuleName(name),
            frame: None,
            task_frame: None,
        };
        if self.first_user >= self.frames.len() {
            return verdict(State::Unknown, "no-user-frames");
        }
        if self.truncated {
            return verdict(State::Unknown, "truncated");
        }
        let mut unnamed = false;
        for i in self.first_user..self.frames.len() {
            if self.markers(i).any(Markers::TASK) {
                return verdict(State::Unknown, "task-without-owner");
            }
            let frame = self.frames.get(i);
            // In code made at run time there is no tokio, and without it a stack that goes through
            // addresses outside every mapping would not be whole.
            let made = |f: &Frame| matches!(f.naming, Naming::PerfMap | Naming::Unmapped);
            let named = |f: &Frame| f.naming.is_name() || is_library(f) || made(f);
            unnamed |= frame.is_some_and(|f| !named(f));
        }
        if unnamed {
            // tokio's frames may be among them.
            return verdict(State::Unknown, "unnamed-frames");
        }
        verdict(State::Other, "not-tokio")
    }
}

/// Whether a frame is of a function that the rules look for.
#[must_use]
pub fn tells_the_role(frame: &Frame) -> bool {
    let mut path = String::new();
    normalise(&frame.function, frame.file.as_deref(), &mut path);
    frame.naming.is_name() && !look_up(&path).is_empty()
}

/// Whether a frame is in a library in which there is no tokio, so that it needs no name.
pub(super) fn is_library(frame: &Frame) -> bool {
    is_libc(frame) || frame.origin == Origin::System
}

/// Whether a frame is in the C library, the loader or the vDSO, by the file it is mapped from.
pub(super) fn is_libc(frame: &Frame) -> bool {
    frame.module.as_deref().is_some_and(|m| {
        [
            "libc.so",
            "libc-",
            "ld-linux",
            "ld-musl",
            "libpthread",
            "[vdso]",
            "linux-vdso",
        ]
        .iter()
        .any(|p| m.starts_with(p))
    })
}
