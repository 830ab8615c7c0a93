//! The lookup itself: modules opened once, addresses named once.

use super::demangle::{Mangling, demangle};
use super::frame::{Frame, FrameRef, Naming, Origin, Space};
use super::image::Image;
use super::{kernel, origin};
use crate::units::{Addr, Svma};
use blazesym::symbolize::source::Source;
use blazesym::symbolize::{CodeInfo, Input, Sym};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

/// One mapped file, as names need it.
#[derive(Clone, Debug)]
pub struct ModuleSource {
    /// File name for display: `claims_api`, `libc.so.6`, `[vdso]`.
    pub name: Arc<str>,
    /// Where the file can be read: `/proc/PID/map_files/…`, `/proc/PID/root/…`, or a plain path.
    pub path: PathBuf,
    /// In hexadecimal, where the file has one. Two modules with one build ID are one.
    pub build_id: Option<String>,
    /// The bytes, for the vDSO, which has no file; `path` then only tells it apart.
    pub image: Option<Arc<[u8]>>,
    /// Start and length of each function, by ascending start, from the unwinding information:
    /// what is left to name functions by in a stripped file.
    pub functions: Arc<[(u32, u32)]>,
}

impl ModuleSource {
    /// The function around `svma`: its start and its length.
    fn function(&self, svma: Svma) -> Option<(u32, u32)> {
        let svma = u32::try_from(svma.0).ok()?;
        let next = self.functions.partition_point(|&(start, _)| start <= svma);
        let &(start, len) = self.functions.get(next.checked_sub(1)?)?;
        (svma - start < len).then_some((start, len))
    }
}

/// Addresses kept by name. Code has some thousand addresses under which a thread can wait; what
/// goes beyond this is made at run time, and starts over.
const MAX_CACHED: usize = 1 << 18;

/// Files held open. Where more are seen (short-lived processes, one after another), all modules
/// start over, so that neither descriptors nor parsed tables pile up.
const MAX_MODULES: usize = 256;

/// After so many failures a module's debug information is not asked again: opening what is
/// broken costs as much as opening what is not.
const MAX_DEBUG_FAILURES: u32 = 3;

/// Names addresses, and remembers them. Stays on one thread.
pub struct Symbolizer {
    blazesym: blazesym::symbolize::Symbolizer,
    modules: Vec<Module>,
    by_build_id: HashMap<String, usize>,
    by_path: HashMap<PathBuf, usize>,
    user: HashMap<(usize, Svma), Arc<[FrameRef]>>,
    /// Addresses outside every module.
    unmapped: HashSet<Addr>,
    kernel: HashMap<Addr, FrameRef>,
    names: HashSet<Arc<str>>,
    unresolved: u64,
    kernel_warned: bool,
}

struct Module {
    /// None where the file cannot be read or is no ELF file.
    image: Option<Image>,
    debug_failures: u32,
}

impl Default for Symbolizer {
    fn default() -> Self {
        Symbolizer::new()
    }
}

impl fmt::Debug for Symbolizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Symbolizer")
            .field("modules", &self.modules.len())
            .field("addresses", &(self.user.len() + self.kernel.len()))
            .field("unresolved", &self.unresolved)
            .finish_non_exhaustive()
    }
}

impl Symbolizer {
    /// Without any module yet.
    #[must_use]
    pub fn new() -> Symbolizer {
        Symbolizer {
            blazesym: new_blazesym(),
            modules: Vec::new(),
            by_build_id: HashMap::new(),
            by_path: HashMap::new(),
            user: HashMap::new(),
            unmapped: HashSet::new(),
            kernel: HashMap::new(),
            names: HashSet::new(),
            unresolved: 0,
            kernel_warned: false,
        }
    }

    /// Opens the module's file now rather than at its first address: call it at attach, and the
    /// names are safe from the target's exit.
    pub fn open(&mut self, module: &ModuleSource) {
        self.module(module);
    }

    /// Reads the tables in which `svma` of `module` is looked up, so that the first lookup that
    /// counts is as fast as the others.
    pub fn warm_up(&mut self, module: &ModuleSource, svma: Svma) {
        let index = self.module(module);
        let _frames = self.look_up(index, module, svma);
    }

    /// Names `svma` of `module` and appends its frames to `out`: inlined ones first, innermost
    /// first, the physical one last. Without a module, one frame that shows the address.
    ///
    /// `address` is what the process had it at; it goes into the frames. Return addresses are
    /// to be decremented by the caller, so that they lie in the call.
    pub fn user(
        &mut self,
        module: Option<&ModuleSource>,
        svma: Svma,
        address: Addr,
        out: &mut Vec<FrameRef>,
    ) {
        let Some(source) = module else {
            if self.unmapped.len() >= MAX_CACHED {
                self.unmapped.clear();
            }
            self.unresolved += u64::from(self.unmapped.insert(address));
            out.push(unmapped(Space::User, address).into());
            return;
        };
        let index = self.module(source);
        let frames = match self.user.get(&(index, svma)) {
            Some(frames) => Arc::clone(frames),
            None => {
                let found = self.look_up(index, source, svma).into_iter();
                let at = |frame| FrameRef::new(Frame { address, ..frame });
                let frames: Arc<[FrameRef]> = found.map(at).collect();
                let named = frames.last().is_some_and(|f| f.naming == Naming::Symbol);
                self.unresolved += u64::from(!named);
                if self.user.len() >= MAX_CACHED {
                    self.user.clear();
                    self.names.clear();
                }
                self.user.insert((index, svma), Arc::clone(&frames));
                frames
            }
        };
        // The file may be mapped elsewhere by now.
        out.extend(frames.iter().map(|frame| match frame.address {
            known if known == address => FrameRef::clone(frame),
            _ => FrameRef::new(Frame {
                address,
                ..Frame::clone(frame)
            }),
        }));
    }

    /// Names kernel addresses, all at once, and appends one frame for each to `out`.
    ///
    /// Without permission to see kernel addresses (`kernel.kptr_restrict`, no `CAP_SYSLOG`) the
    /// frames show addresses, and a warning tells it once.
    pub fn kernel(&mut self, addresses: &[Addr], out: &mut Vec<FrameRef>) {
        let mut missing: Vec<u64> = addresses
            .iter()
            .filter(|address| !self.kernel.contains_key(address))
            .map(|address| address.0)
            .collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            if self.kernel.len() + missing.len() > MAX_CACHED {
                self.kernel.clear();
                missing = addresses.iter().map(|address| address.0).collect();
            }
            let warned = &mut self.kernel_warned;
            let names = kernel::names(&self.blazesym, &missing, |why| {
                if !std::mem::replace(warned, true) {
                    tracing::warn!(
                        "kernel functions are shown as addresses: {why}; try as root, \
                         or `sysctl kernel.kptr_restrict=0`"
                    );
                }
            });
            for (&address, name) in missing.iter().zip(names) {
                let mut frame = unmapped(Space::Kernel, Addr(address));
                match name {
                    Some(name) => {
                        frame.function = intern(&mut self.names, &name);
                        frame.naming = Naming::Symbol;
                    }
                    None => self.unresolved += 1,
                }
                self.kernel.insert(Addr(address), frame.into());
            }
        }
        out.extend(addresses.iter().map(|address| {
            let known = self.kernel.get(address).cloned();
            known.unwrap_or_else(|| unmapped(Space::Kernel, *address).into())
        }));
    }

    /// How many distinct addresses had no symbol. After 262,144 addresses the memory starts
    /// over, and an address may count again.
    #[must_use]
    pub fn unresolved(&self) -> u64 {
        self.unresolved
    }

    fn module(&mut self, source: &ModuleSource) -> usize {
        let known = match &source.build_id {
            Some(id) => self.by_build_id.get(id),
            None => self.by_path.get(&source.path),
        };
        if let Some(&index) = known {
            return index;
        }
        let image = Image::open(source)
            .inspect_err(|error| {
                tracing::debug!(path = %source.path.display(), %error, "no symbols");
            })
            .ok();
        if self.modules.len() >= MAX_MODULES {
            // The library knows files by descriptor, and those will name other files.
            self.blazesym = new_blazesym();
            self.modules.clear();
            self.by_build_id.clear();
            self.by_path.clear();
            self.user.clear();
            self.names.clear();
        }
        let index = self.modules.len();
        self.modules.push(Module {
            image,
            debug_failures: 0,
        });
        match &source.build_id {
            Some(id) => self.by_build_id.insert(id.clone(), index),
            None => self.by_path.insert(source.path.clone(), index),
        };
        index
    }

    fn look_up(&mut self, index: usize, source: &ModuleSource, svma: Svma) -> Vec<Frame> {
        let mut frames = Vec::new();
        let Some(module) = self.modules.get_mut(index) else {
            return frames;
        };
        let Some(image) = &mut module.image else {
            return vec![self.unnamed(source, svma)];
        };
        let symbolize = |table| find(&self.blazesym, table, svma);
        let physical = image
            .tables
            .iter()
            .filter_map(|table| symbolize(table).ok().flatten())
            .find(|symbol| !symbol.name.is_empty() && covers(symbol, source, svma));
        let debug = match &image.debug {
            Some(table) if module.debug_failures < MAX_DEBUG_FAILURES => symbolize(table)
                .unwrap_or_else(|error| {
                    module.debug_failures += 1;
                    tracing::debug!(module = &*source.name, error, "no debug information");
                    None
                }),
            _ => None,
        };
        let symbol = physical
            .as_ref()
            .or(debug.as_ref())
            .map(|symbol| Svma(symbol.addr));

        let mut names = Namer {
            names: &mut self.names,
            image,
            module: &source.name,
        };
        if let Some(symbol) = &debug {
            // Outermost first there, innermost first here.
            // A made-up file may leave out names, which are all that an inlined frame is.
            let named = symbol.inlined.iter().filter(|frame| !frame.name.is_empty());
            for inlined in named.rev() {
                frames.push(names.frame(&inlined.name, inlined.code_info.as_ref(), true));
            }
        }
        let code_info = debug
            .as_ref()
            .and_then(|symbol| symbol.code_info.as_deref());
        // With line tables alone debug information has short names (`{closure#0}`): the symbol
        // table goes first.
        let debug_name = || {
            let symbol = debug.as_ref()?;
            (!symbol.name.is_empty() && covers(symbol, source, svma)).then_some(&*symbol.name)
        };
        let name = physical
            .as_ref()
            .map(|symbol| &*symbol.name)
            .or_else(debug_name);
        match name {
            Some(name) => frames.push(names.frame(name, code_info, false)),
            None => {
                let (file, line) = names.location(code_info);
                let mut frame = self.unnamed(source, svma);
                (frame.file, frame.line) = (file, line);
                frames.push(frame);
            }
        }
        let start = symbol.or_else(|| source.function(svma).map(|(start, _)| Svma(start.into())));
        for frame in &mut frames {
            frame.start = start;
        }
        frames
    }

    /// A frame named by where it is.
    fn unnamed(&mut self, source: &ModuleSource, svma: Svma) -> Frame {
        let (name, naming) = match source.function(svma) {
            Some((start, _)) => (format!("{}@{start:#x}", source.name), Naming::FunctionStart),
            None => (format!("{}+{:#x}", source.name, svma.0), Naming::Offset),
        };
        Frame {
            function: intern(&mut self.names, &name),
            naming,
            // Applications in Rust are executables; what is shared is C, nearly always.
            origin: if source.name.contains(".so") || source.name.contains("vdso") {
                Origin::System
            } else {
                Origin::Unknown
            },
            module: Some(Arc::clone(&source.name)),
            ..unmapped(Space::User, Addr(0))
        }
    }
}

fn new_blazesym() -> blazesym::symbolize::Symbolizer {
    blazesym::symbolize::Symbolizer::builder()
        // The mangled name tells what the demangled one does not: see `v0_crate`.
        .enable_demangling(false)
        // Files are held open and cannot change under their path.
        .enable_auto_reload(false)
        .build()
}

/// Looks `svma` up in one table.
///
/// The tables are the target's file, which may be anything: where the library panics on it (it
/// adds numbers of the file's unchecked, which builds with overflow checks notice), that is one
/// more way for the file to be unreadable.
fn find<'a>(
    blazesym: &'a blazesym::symbolize::Symbolizer,
    table: &Source<'_>,
    svma: Svma,
) -> Result<Option<Sym<'a>>, String> {
    // What a lookup leaves half done it does again: its caches hold finished tables only.
    let lookup = AssertUnwindSafe(|| blazesym.symbolize_single(table, Input::VirtOffset(svma.0)));
    match catch_unwind(lookup) {
        Ok(Ok(symbolized)) => Ok(symbolized.into_sym()),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err("the symbol reader panicked".to_owned()),
    }
}

/// Whether the symbol is known to reach as far as `svma`.
///
/// A symbol without a size (hand-written assembly) is reported for everything that comes after
/// it. A wrong name is worse than none: it counts only at its very address, or where the
/// unwinding information says that the function around the address begins there.
fn covers(symbol: &Sym<'_>, source: &ModuleSource, svma: Svma) -> bool {
    match symbol.size {
        Some(_) => true,
        None => {
            symbol.addr == svma.0
                || source
                    .function(svma)
                    .is_some_and(|(start, _)| u64::from(start) == symbol.addr)
        }
    }
}

/// Makes frames of one module out of symbols.
struct Namer<'a> {
    names: &'a mut HashSet<Arc<str>>,
    image: &'a mut Image,
    module: &'a Arc<str>,
}

impl Namer<'_> {
    fn frame(&mut self, symbol: &str, code_info: Option<&CodeInfo<'_>>, inlined: bool) -> Frame {
        let demangled = demangle(symbol);
        let (file, line) = self.location(code_info);
        let origin = match demangled.mangling {
            Mangling::Cpp => Origin::System,
            // Nothing in C needs the crates, and finding those takes time.
            Mangling::None if demangled.krate.is_none() && file.is_none() => Origin::System,
            _ => origin::of_crate(
                demangled.krate.as_deref(),
                file.as_deref(),
                self.image.crates(self.module),
            ),
        };
        // Code that was merged from several places has a file and line 0: any of theirs. It only
        // serves to tell the crate of what has no path.
        let file = file.filter(|_| line.is_some() || demangled.krate.is_none());
        Frame {
            function: intern(self.names, &demangled.name),
            space: Space::User,
            naming: Naming::Symbol,
            origin,
            inlined,
            file,
            line,
            module: Some(Arc::clone(self.module)),
            address: Addr(0),
            start: None,
        }
    }

    fn location(&mut self, code_info: Option<&CodeInfo<'_>>) -> (Option<Arc<str>>, Option<u32>) {
        match code_info {
            Some(info) => {
                let path = info.to_path();
                let file = intern(self.names, &path.to_string_lossy());
                // Line 0 is DWARF's "no line" (DWARF 5, 6.2.2).
                (Some(file), info.line.filter(|&line| line > 0))
            }
            None => (None, None),
        }
    }
}

fn unmapped(space: Space, address: Addr) -> Frame {
    Frame {
        function: address.to_string().into(),
        space,
        naming: Naming::Unmapped,
        origin: match space {
            Space::User => Origin::Unknown,
            Space::Kernel => Origin::Kernel,
        },
        inlined: false,
        file: None,
        line: None,
        module: None,
        address,
        start: None,
    }
}

/// One copy of each name, however many frames bear it.
fn intern(names: &mut HashSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return Arc::clone(known);
    }
    let name: Arc<str> = name.into();
    names.insert(Arc::clone(&name));
    name
}
