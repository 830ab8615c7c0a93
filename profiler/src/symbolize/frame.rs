//! One frame of a stack, named as well as the binary allows.

use crate::units::{Addr, Svma};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which side of the system call boundary a frame is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// The program's own code and its libraries.
    User,
    /// The kernel.
    Kernel,
}

/// How a frame got its name, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Naming {
    /// From a symbol table or from debug information.
    Symbol,
    /// From line tables alone, which give an inlined function no path (`{closure#0}`): the crate and
    /// the modules are those that its source file stands for, as far as that is known. Functions of one
    /// file that are called the same have the same name.
    SourcePath,
    /// The binary is stripped: the name is the module and the start of the function, which the
    /// unwinding information gives. The same function has the same name in every stack.
    FunctionStart,
    /// Module and offset: not even the function's bounds are known.
    Offset,
    /// Code made at run time, by the name that its compiler wrote down: the target's owner's word.
    PerfMap,
    /// The address lies in no known mapping.
    Unmapped,
}

impl Naming {
    /// Whether the name is the function's own, and no address put into words.
    #[must_use]
    pub const fn is_name(self) -> bool {
        matches!(self, Naming::Symbol | Naming::SourcePath)
    }
}

/// Whose code a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The application's own crates, and every crate that is none of those below.
    Application,
    /// A third-party crate (a database driver, a serializer). A site only where no frame of the
    /// application stands further out.
    Dependency,
    /// tokio, mio, and the frameworks and glue around polling (futures, tower, hyper, axum,
    /// tracing's instrumentation).
    Runtime,
    /// std, core, alloc, locks and channels (parking_lot, crossbeam): code that waits on behalf
    /// of its caller.
    Library,
    /// libc, ld.so, the vDSO and other shared objects in C.
    System,
    /// The kernel.
    Kernel,
    /// Not named, so not known.
    Unknown,
}

/// One frame: a physical one, or one that the compiler inlined into the next physical frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Demangled, with its module path and generic arguments, without hash, disambiguator and
    /// `.llvm.` suffix; `module+0x…` where there is no symbol.
    pub function: Arc<str>,
    /// Kernel or user.
    pub space: Space,
    /// How `function` was found.
    pub naming: Naming,
    /// Whose code it is.
    pub origin: Origin,
    /// Whether the compiler inlined this frame into the one after it (its caller).
    pub inlined: bool,
    /// Source file, as the line table states it; none without line tables.
    pub file: Option<Arc<str>>,
    /// Source line, 1-based.
    pub line: Option<u32>,
    /// File name of the mapping (`claims_api`, `libc.so.6`), none in the kernel.
    pub module: Option<Arc<str>>,
    /// The address in the process that was looked up.
    pub address: Addr,
    /// Where the physical function around the address starts, as its file states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Svma>,
    /// Where a physical frame without a name or a line is, so that it can get one later; none where
    /// the module has no build ID to be known again by.
    #[serde(skip)]
    pub place: Option<ModulePlace>,
}

/// A place in the code of a module, wherever that is mapped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModulePlace {
    /// The module's build ID in hexadecimal.
    pub build_id: Arc<str>,
    /// The address that its file states.
    pub svma: Svma,
}

impl Frame {
    /// Code made at run time, at an address of the process: by the name that its compiler wrote down.
    #[must_use]
    pub fn made(name: &Arc<str>, at: Addr) -> Frame {
        Frame {
            naming: Naming::PerfMap,
            function: Arc::clone(name),
            address: at,
            ..Frame::named("", Origin::Application)
        }
    }

    /// What stands for frames of a stack that were not kept.
    #[must_use]
    pub fn left_out() -> Frame {
        Frame::named("[frames left out]", Origin::Unknown)
    }

    /// A physical frame of a user function of which nothing but its name and `origin` is known.
    #[must_use]
    pub fn named(function: &str, origin: Origin) -> Frame {
        Frame {
            function: function.into(),
            space: Space::User,
            naming: Naming::Symbol,
            origin,
            inlined: false,
            file: None,
            line: None,
            module: None,
            address: Addr(0),
            start: None,
            place: None,
        }
    }
}

/// A frame that equal frames of other stacks share.
pub type FrameRef = std::sync::Arc<Frame>;
