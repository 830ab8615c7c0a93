//! Tables that all intervals of a recording share. They only grow, so that an index stays good.

use super::{Object, ObjectId, ProcessId, StackId, ThreadId, TokioFacts, WakerId};
use crate::runtime::tokio::RuntimeHandle;
use crate::runtime::{Classification, StoppedBy};
use crate::symbolize::FrameRef;
use crate::units::{Pid, Tid};
use crate::unwind::Truncation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that intervals name by index.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tables {
    /// The recorded processes in the order in which they came; the first is the one asked for.
    pub processes: Vec<Process>,
    /// Names of threads, raw; the last one where a thread changed its name.
    pub thread_names: BTreeMap<ThreadId, Arc<str>>,
    /// Every distinct stack.
    pub stacks: Vec<Stack>,
    /// Every distinct object that was waited for.
    pub objects: Vec<WaitObject>,
    /// Threads that ended waits, of any process.
    pub wakers: Vec<Waker>,
}

impl Tables {
    /// A stack.
    #[must_use]
    pub fn stack(&self, id: StackId) -> Option<&Stack> {
        self.stacks.get(id.index())
    }

    /// An object.
    #[must_use]
    pub fn object(&self, id: ObjectId) -> Option<&WaitObject> {
        self.objects.get(id.index())
    }

    /// A process.
    #[must_use]
    pub fn process(&self, id: ProcessId) -> Option<&Process> {
        self.processes.get(id.index())
    }

    /// A waker.
    #[must_use]
    pub fn waker(&self, id: WakerId) -> Option<&Waker> {
        self.wakers.get(id.index())
    }

    /// The name of a thread, empty where it is not known.
    #[must_use]
    pub fn thread_name(&self, thread: ThreadId) -> &str {
        self.thread_names.get(&thread).map_or("", |name| name)
    }
}

/// A recorded process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Process id in the initial pid namespace.
    pub pid: Pid,
    /// Path of the executable as the process's own namespace names it.
    pub exe: String,
    /// GNU build ID of the executable in hex; none where it has none.
    pub build_id: Option<String>,
    /// Command line, one entry an argument.
    pub cmdline: Vec<String>,
    /// The tokio version found in the executable (`1.54.1`), where one was.
    pub tokio_version: Option<String>,
    /// What else was found of tokio.
    pub tokio: TokioFacts,
    /// The process that forked this one, where it was forked during the recording.
    pub parent: Option<Pid>,
    /// Paths of the programs that the process executed before `exe` during the recording, the
    /// first one first.
    pub earlier: Vec<String>,
    /// How the process ended, if it ended during the recording (`exited`, `killed by SIGKILL`).
    pub ended: Option<String>,
    /// Whether the executable has a symbol table; without one, functions are named by address.
    pub has_symbols: bool,
    /// Whether the executable has line tables.
    pub has_lines: bool,
    /// Where panics are counted; none where they were not asked for.
    #[serde(skip)]
    pub panic_probes: Option<PanicProbes>,
}

impl Process {
    /// A process of which nothing but its id is known.
    #[must_use]
    pub fn unknown(pid: Pid) -> Process {
        Process {
            pid,
            exe: String::new(),
            build_id: None,
            cmdline: Vec::new(),
            tokio_version: None,
            tokio: TokioFacts::default(),
            parent: None,
            earlier: Vec::new(),
            ended: None,
            has_symbols: false,
            has_lines: false,
            panic_probes: None,
        }
    }

    /// File name of the executable, raw.
    #[must_use]
    pub fn exe_name(&self) -> &str {
        self.exe.rsplit('/').next().unwrap_or(&self.exe)
    }
}

/// Where panics of a process are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PanicProbes {
    /// The functions that were probed, demangled, with their modules (`std::panicking::… in app`).
    /// Where there are none, panics could not be counted.
    pub probed: Vec<String>,
    /// Why some could not be counted, in a sentence.
    pub problem: Option<String>,
}

/// A distinct stack, and how it was classified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stack {
    /// Whose it is.
    pub process: ProcessId,
    /// User frames, leaf first; inlined frames stand before the physical frame they are in. Equal
    /// frames of different stacks are one in memory.
    pub frames: Vec<FrameRef>,
    /// Kernel frames, leaf first, of the first wait seen with this stack.
    pub kernel: Vec<FrameRef>,
    /// Why the unwind ended early, if it did.
    pub truncated: Option<Truncation>,
    /// Frames that were passed by frame pointers alone: code made at run time, and programs without
    /// unwinding information that keep frame pointers.
    #[serde(default)]
    pub pointer_steps: u32,
    /// Number of the system call the thread was in; none outside any (a page fault).
    pub syscall: Option<u32>,
    /// The system call's arguments at the first wait with this stack; none outside any.
    pub args: Option<[u64; 6]>,
    /// The runtime that the thread had entered, by the address of its scheduler's handle; none where
    /// it had entered none, or where that is not known.
    pub runtime: Option<RuntimeHandle>,
    /// What held the thread, where it did not wait of its own accord.
    pub stopped_by: Option<StoppedBy>,
    /// What a thread with this stack does. It may still change while the recording goes on and
    /// more is learned of the program.
    pub class: Classification,
}

/// An object as one descriptor (or none) stands for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WaitObject {
    /// What it is.
    pub object: Object,
    /// The descriptor by which the system call named it.
    pub fd: Option<u32>,
    /// How many different things this entry stands for: 1, or more where connections to one peer
    /// beyond a number of them share an entry.
    pub many: u32,
}

/// A thread that ended waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Waker {
    /// Its process id; 0 for an interrupt.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Its name, raw.
    pub name: Arc<str>,
}

/// The name of whoever reads memory and mappings of targets for holdup: a thread (`process/deadline.rs`) or a
/// process (`process/reader.rs`). Threads that map memory may have to wait meanwhile.
const OWN_READER: &str = "holdup-read";

/// Whether a waker of this name is holdup itself. What is recorded may call its threads as it likes.
#[must_use]
pub fn is_holdup(pid: Pid, name: &str, mut recorded: impl Iterator<Item = Pid>) -> bool {
    name == OWN_READER && pid != Pid(0) && !recorded.any(|known| known == pid)
}
