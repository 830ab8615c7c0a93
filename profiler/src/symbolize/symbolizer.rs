//! The lookup itself: modules opened once, addresses named once.

use super::debug_process::{DebugProcess, DebugSymbol, Failure, Whose};
use super::frame::{Frame, FrameRef, ModulePlace, Naming, Origin, Space};
use super::image::Image;
use super::kernel;
use super::left_out::LeftOut;
use super::library::{find, new_blazesym};
use super::limits::TotalTime;
use super::names::{Around, Namer, Names};
use super::origin;
use super::source::ModuleSource;
use super::time::thread_time;
use crate::process::memory;
use crate::units::{Addr, Svma};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Addresses kept by name. Code has some thousand addresses under which a thread can wait; what
/// goes beyond this is made at run time, and starts over.
const MAX_CACHED: usize = 1 << 18;

/// Files held open. Where more are seen (short-lived processes, one after another), all modules
/// start over, so that neither descriptors nor parsed tables pile up.
const MAX_MODULES: usize = 256;

/// After this many failures a module's debug information is not asked again: opening what is
/// broken costs as much as opening what is not.
const MAX_DEBUG_FAILURES: u32 = 3;

/// Most processes that read debug information at a time.
const MAX_READERS: usize = 8;

const WRITTEN_TO: &str = "it was written to while it was recorded";
const LINES_TOO_LONG: &str = "its debug information takes too long";

/// Names addresses, and remembers them. Stays on one thread.
pub struct Symbolizer {
    blazesym: blazesym::symbolize::Symbolizer,
    modules: Vec<Module>,
    /// By path, and by whether there are bytes instead of a file.
    by_path: HashMap<(PathBuf, bool), usize>,
    user: HashMap<(usize, Svma), Arc<[FrameRef]>>,
    /// Addresses outside every module.
    unmapped: HashSet<Addr>,
    kernel: HashMap<Addr, FrameRef>,
    names: Names,
    unresolved: u64,
    kernel_warned: bool,
    /// Bytes of memory for reading debug information, of all processes that do so together.
    debug_memory: u64,
    names_time: TotalTime,
    lines_time: TotalTime,
    left_out: LeftOut,
}

struct Module {
    /// None where the file cannot be read or is no ELF file.
    image: Option<Image>,
    debug_failures: u32,
    /// Reads the debug information, from the first address on.
    reader: Option<DebugProcess>,
    /// CPU time that its names have taken.
    names_time: Duration,
    /// CPU time that its source lines have taken: nothing that its names have to pay for.
    lines_time: Duration,
    /// Whether its names take too long: they are not looked up any more.
    too_long: bool,
}

/// An address of a module that is looked up.
#[derive(Clone, Copy)]
struct Lookup<'a> {
    /// The module's place in [`Symbolizer::modules`].
    index: usize,
    source: &'a ModuleSource,
    svma: Svma,
    wanted: Wanted,
}

/// What a lookup is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// The frames of an address.
    Frames,
    /// The tables alone, for the next one. What debug information says is not waited for.
    Tables,
}

impl Module {
    /// Whether its debug information is read in the target's own file.
    fn is_in_place(&self) -> bool {
        let image = self.image.as_ref();
        image.is_some_and(|image| image.in_place.is_some())
    }

    /// Whether its debug information is read in the target's own file, which is not any more what it was.
    fn is_written_to(&self) -> bool {
        let in_place = self
            .image
            .as_ref()
            .and_then(|image| image.in_place.as_ref());
        in_place.is_some_and(|file| !file.is_unchanged())
    }

    /// Stops asking for source lines.
    fn without_lines(&mut self) {
        self.reader = None;
        if let Some(image) = &mut self.image {
            image.debug = None;
        }
    }
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
            by_path: HashMap::new(),
            user: HashMap::new(),
            unmapped: HashSet::new(),
            kernel: HashMap::new(),
            names: Names::default(),
            unresolved: 0,
            kernel_warned: false,
            debug_memory: memory::share(16, 256 << 20),
            names_time: TotalTime::default(),
            lines_time: TotalTime::default(),
            left_out: LeftOut::default(),
        }
    }

    /// The same, but for the memory that reading debug information may take, in bytes.
    #[must_use]
    pub fn with_debug_memory(bytes: u64) -> Symbolizer {
        Symbolizer {
            debug_memory: bytes,
            ..Symbolizer::new()
        }
    }

    /// What was not read, since it would have cost too much time or memory.
    #[must_use]
    pub const fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// Opens the module's file now rather than at its first address: call it at attach, and the
    /// names are safe from the target's exit. Whether it was not open yet.
    pub fn open(&mut self, module: &ModuleSource) -> bool {
        let known = self.modules.len();
        self.module(module);
        self.modules.len() != known
    }

    /// Reads the tables in which `svma` of `module` is looked up, so that the first lookup that
    /// counts is as fast as the others. Debug information that is long goes on being read meanwhile.
    pub fn warm_up(&mut self, module: &ModuleSource, svma: Svma) {
        let index = self.module(module);
        let _frames = self.look_up(Lookup {
            index,
            source: module,
            svma,
            wanted: Wanted::Tables,
        });
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
                let mut found = self.look_up(Lookup {
                    index,
                    source,
                    svma,
                    wanted: Wanted::Frames,
                });
                self.set_place(&mut found, source, svma);
                let found = found.into_iter();
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
    /// Without permission to see kernel addresses (`CAP_SYSLOG`, or `kernel.kptr_restrict`) the
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
                        "kernel functions are shown as addresses: {why}; `holdup check` tells \
                         what would help"
                    );
                }
            });
            for (&address, name) in missing.iter().zip(names) {
                let mut frame = unmapped(Space::Kernel, Addr(address));
                match name {
                    Some(name) => {
                        frame.function = self.names.intern(&name);
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
        let key = (source.path.clone(), source.image.is_some());
        if let Some(&index) = self.by_path.get(&key) {
            return index;
        }
        let begun = thread_time();
        let image = Image::open(source, self.debug_memory)
            .inspect_err(|error| {
                tracing::debug!(path = %source.path.display(), %error, "no symbols");
            })
            .ok();
        let why = image.as_ref().and_then(|image| image.left_out);
        if self.modules.len() >= MAX_MODULES {
            // The library knows files by descriptor, and those will name other files.
            self.blazesym = new_blazesym();
            self.modules.clear();
            self.by_path.clear();
            self.user.clear();
            self.names.clear();
        }
        let index = self.modules.len();
        self.modules.push(Module {
            image,
            debug_failures: 0,
            reader: None,
            names_time: thread_time().saturating_sub(begun),
            lines_time: Duration::ZERO,
            too_long: false,
        });
        self.by_path.insert(key, index);
        if let Some(why) = why {
            self.left_out.lines(source, why);
        }
        index
    }

    fn look_up(&mut self, lookup: Lookup<'_>) -> Vec<Frame> {
        let Lookup { index, source, .. } = lookup;
        let taken = |module: &Module| (module.names_time, module.lines_time);
        let before = self.modules.get(index).map(taken).unwrap_or_default();
        let frames = self.look_up_within(lookup);
        let Some(module) = self.modules.get_mut(index) else {
            return frames;
        };
        self.names_time.add(before.0, module.names_time);
        self.lines_time.add(before.1, module.lines_time);
        if module.names_time > self.names_time.module() && !module.too_long {
            module.too_long = true;
            module.without_lines();
            self.left_out
                .names(source, "its names take too long to read");
        }
        frames
    }

    fn look_up_within(&mut self, lookup: Lookup<'_>) -> Vec<Frame> {
        let begun = thread_time();
        let debug = self.look_up_debug(lookup);
        let Lookup {
            index,
            source,
            svma,
            ..
        } = lookup;
        let Some(module) = self.modules.get_mut(index) else {
            return Vec::new();
        };
        let asked = thread_time();
        module.lines_time += asked.saturating_sub(begun);
        let Some(image) = module.image.as_mut().filter(|_| !module.too_long) else {
            return vec![self.unnamed(source, svma)];
        };
        let mut frames = Vec::new();
        let physical = image
            .tables
            .iter()
            .filter_map(|table| find(&self.blazesym, table, svma).ok().flatten())
            .find(|symbol| {
                !symbol.name.is_empty() && covers(symbol.addr, symbol.size.is_some(), source, svma)
            });
        let symbol = physical.as_ref().map(|symbol| symbol.addr);
        let symbol = symbol
            .or(debug.as_ref().map(|symbol| symbol.addr))
            .map(Svma);

        let place = debug.as_ref().and_then(|symbol| symbol.place.as_ref());
        let mut names = Namer {
            names: &mut self.names,
            image,
            module: &source.name,
            around: physical
                .as_ref()
                .and_then(|symbol| Around::of(&symbol.name, place)),
        };
        if let Some(symbol) = &debug {
            // Outermost first there, innermost first here.
            // A made-up file may leave out names, which are all that an inlined frame is.
            let named = symbol.inlined.iter().filter(|(name, _)| !name.is_empty());
            for (name, place) in named.rev() {
                frames.push(names.frame(name, place.as_ref(), true));
            }
        }
        // With line tables alone debug information has short names (`{closure#0}`): the symbol
        // table goes first.
        let debug_name = || {
            let symbol = debug.as_ref()?;
            (!symbol.name.is_empty() && covers(symbol.addr, symbol.sized, source, svma))
                .then_some(&*symbol.name)
        };
        let name = physical
            .as_ref()
            .map(|symbol| &*symbol.name)
            .or_else(debug_name);
        match name {
            Some(name) => frames.push(names.frame(name, place, false)),
            None => {
                let (file, line) = names.location(place);
                let mut frame = self.unnamed(source, svma);
                (frame.file, frame.line) = (file, line);
                frames.push(frame);
            }
        }
        let start = symbol.or_else(|| source.function(svma).map(|(start, _)| Svma(start.into())));
        for frame in &mut frames {
            frame.start = start;
        }
        if let Some(module) = self.modules.get_mut(index) {
            module.names_time += thread_time().saturating_sub(asked);
        }
        frames
    }

    /// What debug information says of an address; none where there is none, and where it takes
    /// too much.
    fn look_up_debug(&mut self, lookup: Lookup<'_>) -> Option<DebugSymbol> {
        let Lookup {
            index,
            source,
            svma,
            wanted,
        } = lookup;
        let mut alone = false;
        loop {
            self.make_room(index, alone);
            let (mut reader, others) = self.reader(index, source)?;
            let left = self.debug_memory.saturating_sub(others);
            let most = self.lines_time.module();
            let module = self.modules.get_mut(index)?;
            let is_ahead = reader.reserved() > 0;
            let answer = match wanted {
                // It grows meanwhile, unseen: the others keep some of the memory.
                Wanted::Tables if module.is_in_place() => {
                    reader.limit(left / 4 * 3);
                    reader.ask_ahead(svma).map(|()| None)
                }
                Wanted::Frames | Wanted::Tables => {
                    reader.limit(left);
                    reader.ask(svma, &mut module.lines_time, most)
                }
            };
            let why = match answer {
                Ok(found) => {
                    module.reader = Some(reader);
                    return found;
                }
                Err(Failure::Broken(error)) => {
                    module.reader = Some(reader);
                    module.debug_failures += 1;
                    tracing::debug!(module = &*source.name, error, "no debug information");
                    return None;
                }
                // It had less memory than it may have now.
                Err(Failure::Died) if is_ahead => continue,
                // With the others' memory it might do, if they have much of it.
                Err(Failure::Died) if others > self.debug_memory / 4 && !alone => {
                    alone = true;
                    continue;
                }
                Err(Failure::Died) if module.is_written_to() => WRITTEN_TO,
                Err(Failure::Died) => "its debug information takes too much memory",
                Err(Failure::TooLong) => LINES_TOO_LONG,
            };
            module.without_lines();
            self.left_out.lines(source, why);
            return None;
        }
    }

    /// The process that reads a module's debug information, and how much memory the others of its kind
    /// have. None where there is nothing to read, or no more is to be read.
    fn reader(&mut self, index: usize, source: &ModuleSource) -> Option<(DebugProcess, u64)> {
        let most = self.lines_time.module();
        let module = self.modules.get_mut(index)?;
        let image = module.image.as_ref()?;
        let table = image.debug.as_ref()?;
        if module.debug_failures >= MAX_DEBUG_FAILURES {
            return None;
        }
        let too_late = if module.lines_time > most {
            Some(LINES_TOO_LONG)
        } else {
            module.is_written_to().then_some(WRITTEN_TO)
        };
        if let Some(why) = too_late {
            module.without_lines();
            self.left_out.lines(source, why);
            return None;
        }
        let reader = match (module.reader.take(), &image.in_place) {
            (Some(reader), _) => Ok(reader),
            (None, Some(file)) => DebugProcess::start(table, file.file(), Whose::Targets),
            (None, None) => DebugProcess::start(table, &image.file, Whose::Ours),
        };
        let reader = match reader {
            Ok(reader) => reader,
            Err(error) => {
                module.without_lines();
                let why = format!("no process can be made that reads its lines: {error}");
                self.left_out.lines(source, &why);
                return None;
            }
        };
        let others = self
            .modules
            .iter()
            .filter_map(|module| module.reader.as_ref());
        let others = others.map(|reader| reader.grown().max(reader.reserved()));
        Some((reader, others.sum()))
    }

    /// Ends processes that read other modules, so that there is one to spare, or this one alone.
    fn make_room(&mut self, index: usize, alone: bool) {
        let others = self.modules.iter_mut().enumerate();
        let mut others: Vec<_> = others
            .filter(|(other, module)| *other != index && module.reader.is_some())
            .map(|(_, module)| module)
            .collect();
        let most = if alone { 0 } else { MAX_READERS - 1 };
        let surplus = others.len().saturating_sub(most);
        // The youngest were asked last: programs come before what they load later.
        for module in others.iter_mut().rev().take(surplus) {
            module.reader = None;
        }
    }

    /// Says where the physical frame is, if there may be more to know of it.
    fn set_place(&mut self, frames: &mut [Frame], source: &ModuleSource, svma: Svma) {
        let (Some(frame), Some(build_id)) = (frames.last_mut(), &source.build_id) else {
            return;
        };
        if frame.naming != Naming::Symbol || frame.line.is_none() {
            let build_id = self.names.intern(build_id);
            frame.place = Some(ModulePlace { build_id, svma });
        }
    }

    /// A frame named by where it is.
    fn unnamed(&mut self, source: &ModuleSource, svma: Svma) -> Frame {
        let (name, naming) = match source.function(svma) {
            Some((start, _)) => (format!("{}@{start:#x}", source.name), Naming::FunctionStart),
            None => (format!("{}+{:#x}", source.name, svma.0), Naming::Offset),
        };
        Frame {
            function: self.names.intern(&name),
            naming,
            origin: origin::of_nameless(&source.name, source.may_hold_tokio),
            module: Some(Arc::clone(&source.name)),
            ..unmapped(Space::User, Addr(0))
        }
    }
}

/// Whether the symbol is known to reach as far as `svma`.
///
/// A symbol without a size (hand-written assembly) is reported for everything that comes after
/// it. A wrong name is worse than none: it counts only at its very address, or where the
/// unwinding information says that the function around the address begins there.
fn covers(start: u64, sized: bool, source: &ModuleSource, svma: Svma) -> bool {
    let stated = || source.function(svma);
    sized || start == svma.0 || stated().is_some_and(|(stated, _)| u64::from(stated) == start)
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
        place: None,
    }
}
