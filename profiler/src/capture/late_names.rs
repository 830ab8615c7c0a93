//! Names for what had none when it was recorded: the program was stripped, and its debug files are
//! at hand now.

use super::build_id::build_id;
use super::debuginfod::{Debuginfod, Questions};
use crate::recording::{Stack, Tables};
use crate::runtime::State;
use crate::runtime::tokio::Classifier;
use crate::symbolize::{Frame, FrameRef, ModulePlace, ModuleSource, Naming, Symbolizer};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files of a folder that are looked into for their build ID.
const MAX_FILES: usize = 1 << 14;

/// Debug files by the build ID of what they are of.
#[derive(Debug, Default)]
pub struct DebugFiles {
    /// None where there is only what servers have.
    dir: Option<PathBuf>,
    /// Those that lie in the folder itself, by their own word.
    flat: BTreeMap<String, PathBuf>,
}

impl DebugFiles {
    /// Looks through a folder. Files are found as `.build-id/ab/cdef.debug` or `ab/cdef.debug`, and in
    /// the folder itself under any name.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn of(dir: &Path) -> io::Result<DebugFiles> {
        let mut flat = BTreeMap::new();
        for entry in fs::read_dir(dir)?.take(MAX_FILES) {
            let path = entry?.path();
            if let Some(build_id) = build_id(&path) {
                flat.insert(build_id, path);
            }
        }
        Ok(DebugFiles {
            dir: Some(dir.to_owned()),
            flat,
        })
    }

    /// The file of a module with this build ID.
    fn find(&self, wanted: &str) -> Option<PathBuf> {
        if let Some(path) = self.flat.get(wanted) {
            return Some(path.clone());
        }
        let (folder, name) = wanted.split_at_checked(2)?;
        // It is a part of a path, and may come from anywhere.
        if name.is_empty() || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let within = Path::new(folder).join(format!("{name}.debug"));
        let dir = self.dir.as_ref()?;
        let places = [dir.join(".build-id").join(&within), dir.join(&within)];
        let is_it = |path: &PathBuf| build_id(path).is_some_and(|own| own == wanted);
        places.into_iter().find(is_it)
    }
}

/// What became of frames without a name or a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LateNames {
    /// Distinct frames that had no name and have one now.
    pub named: u64,
    /// Names of modules for which there was a file.
    pub found: BTreeSet<String>,
    /// Modules with nameless frames for which there was none, with their build IDs.
    pub missing: BTreeMap<String, String>,
    /// What went wrong with servers.
    pub remarks: Vec<String>,
}

/// Gives names and lines to frames that have none, and looks again at what that says of the stacks. Servers
/// are asked for modules of which there are frames without a name, and no file.
pub fn name_late(
    tables: &mut Tables,
    files: &DebugFiles,
    servers: Option<&Debuginfod>,
) -> LateNames {
    let mut naming = Renaming::new(files, servers.map(Questions::new));
    let stacks = std::mem::take(&mut tables.stacks);
    tables.stacks = stacks
        .into_iter()
        .map(|stack| naming.stack(stack))
        .collect();
    for process in &mut tables.processes {
        let own = process.build_id.as_deref().unwrap_or_default();
        if let Some(Source::File(_)) = naming.sources.get(own) {
            process.has_symbols = true;
            process.has_lines |= naming.with_lines.contains(own);
        }
    }
    naming.outcome
}

/// What is known of where a module's debug file is.
enum Source {
    /// It is there.
    File(ModuleSource),
    /// Not in the folder, and no server has been asked.
    NotInFolder,
    /// Nowhere.
    Nowhere,
}

struct Renaming<'a> {
    files: &'a DebugFiles,
    servers: Option<Questions<'a>>,
    symbolizer: Symbolizer,
    classifier: Classifier,
    /// By build ID.
    sources: HashMap<String, Source>,
    /// What stands for a frame now.
    frames: HashMap<FrameRef, Arc<[FrameRef]>>,
    with_lines: BTreeSet<String>,
    outcome: LateNames,
}

impl Renaming<'_> {
    fn new<'a>(files: &'a DebugFiles, servers: Option<Questions<'a>>) -> Renaming<'a> {
        Renaming {
            files,
            servers,
            symbolizer: Symbolizer::new(),
            classifier: Classifier::default(),
            sources: HashMap::new(),
            frames: HashMap::new(),
            with_lines: BTreeSet::new(),
            outcome: LateNames::default(),
        }
    }

    fn stack(&mut self, mut stack: Stack) -> Stack {
        if stack.frames.iter().all(|frame| frame.place.is_none()) {
            return stack;
        }
        let mut frames = Vec::with_capacity(stack.frames.len());
        // Where each frame is now: the last of those that stand for it.
        let mut moved = Vec::with_capacity(stack.frames.len());
        for frame in &stack.frames {
            match &frame.place {
                Some(place) => frames.extend(self.named(frame, place).iter().cloned()),
                None => frames.push(FrameRef::clone(frame)),
            }
            moved.push(frames.len().saturating_sub(1) as u32);
        }
        let place = |index: Option<u32>| moved.get(index? as usize).copied();
        stack.class.frame = place(stack.class.frame);
        stack.class.task_frame = place(stack.class.task_frame);
        stack.frames = frames;
        self.classify(&mut stack);
        stack
    }

    /// What the names say now counts where it is the same as before, or nothing was known.
    fn classify(&self, stack: &mut Stack) {
        if stack.stopped_by.is_some() {
            return;
        }
        let by_names = self
            .classifier
            .classify(&stack.frames, stack.truncated.is_some());
        let class = stack.class;
        let is_same = (by_names.state, by_names.role) == (class.state, class.role);
        if by_names.state != State::Unknown && (is_same || class.state == State::Unknown) {
            stack.class = by_names;
        }
    }

    fn named(&mut self, frame: &FrameRef, place: &ModulePlace) -> Arc<[FrameRef]> {
        if let Some(known) = self.frames.get(frame) {
            return Arc::clone(known);
        }
        let named = self.look_up(frame, place);
        let named: Arc<[FrameRef]> = named.unwrap_or_else(|| vec![FrameRef::clone(frame)]).into();
        self.frames
            .insert(FrameRef::clone(frame), Arc::clone(&named));
        named
    }

    /// The frames by which a frame is better told; none where it is not.
    fn look_up(&mut self, frame: &Frame, place: &ModulePlace) -> Option<Vec<FrameRef>> {
        let had_name = frame.naming == Naming::Symbol;
        let module = frame.module.as_deref().unwrap_or_default();
        self.look_for_file(module, place, had_name);
        let source = self.sources.get(&*place.build_id);
        let Some(Source::File(source)) = source else {
            if !had_name {
                let missing = &mut self.outcome.missing;
                missing.insert(module.to_owned(), place.build_id.to_string());
            }
            return None;
        };
        self.outcome.found.insert(module.to_owned());
        let mut frames = Vec::new();
        self.symbolizer
            .user(Some(source), place.svma, frame.address, &mut frames);
        let physical = frames
            .last()
            .filter(|frame| frame.naming == Naming::Symbol)?;
        if physical.line.is_some() {
            self.with_lines.insert(place.build_id.to_string());
        } else if had_name {
            return None;
        }
        self.outcome.named += u64::from(!had_name);
        Some(frames)
    }

    /// Looks once for the file of a module; servers are asked only for the sake of a frame without a name.
    fn look_for_file(&mut self, module: &str, place: &ModulePlace, had_name: bool) {
        let build_id = place.build_id.to_string();
        let mut path = match self.sources.get(&build_id) {
            Some(Source::File(_) | Source::Nowhere) => return,
            Some(Source::NotInFolder) => None,
            None => self.files.find(&build_id),
        };
        let servers = self.servers.as_ref().filter(|_| !had_name);
        if let Some(servers) = servers
            && path.is_none()
        {
            path = servers.find(&build_id, &mut self.outcome.remarks);
        }
        let source = match path {
            Some(path) => Source::File(ModuleSource {
                name: module.into(),
                path,
                build_id: Some(build_id.clone()),
                image: None,
                in_place: None,
                may_hold_tokio: false,
                functions: Arc::default(),
            }),
            None if servers.is_some() => Source::Nowhere,
            None => Source::NotInFolder,
        };
        self.sources.insert(build_id, source);
    }
}
