//! The code mapped into the target: files opened and read once, rows handed to the kernel side.

use super::address_map::AddressMap;
use crate::bpf::{TableError, TableSpan, Tables};
use crate::process::deadline::Reader;
use crate::process::module::{Functions, Module, ModuleError};
use crate::process::{Budget, FileStamp, Mapping, MappingKind, PrivateCopy, Target};
use crate::runtime::tokio::TokioImage;
use crate::symbolize::ModuleSource;
use crate::units::{Addr, Pid, Svma};
use crate::unwind::{Effort, Sections, UnwindTable};
use anyhow::Context;
use profiler_common::row;
use rayon::prelude::*;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// With so many mappings with code the cost of reading them counts.
const MANY_MAPPINGS: usize = 2048;

/// Most files read. A program has some dozens; one that keeps mapping new ones must not use up our
/// descriptors.
const MAX_MODULES: usize = 512;

/// A file (or the vDSO) that code comes from.
#[derive(Debug)]
pub(super) struct Loaded {
    /// For names.
    pub(super) source: ModuleSource,
    /// What the image says of itself; none where it is no ELF file that we can read.
    pub(super) facts: Option<Module>,
    /// What it says of tokio.
    pub(super) tokio: TokioImage,
    /// Where its rows are; none where there are none.
    span: Option<TableSpan>,
    /// What the rows are relative to.
    base: Svma,
    /// Our copy of it, held so that `source.path` (by way of `/proc/self/fd`) stays good.
    copy: Option<File>,
}

/// What tells files apart, also after one has replaced another under the same path, and after it
/// was written to. Their build IDs do not: whoever makes a file chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FileKey {
    File {
        device: (u32, u32),
        inode: u64,
        stamp: Option<FileStamp>,
    },
    Vdso,
}

/// Where a process has mapped which file, by device and inode.
type Mapped = (Pid, Addr, (u32, u32), u64);

/// Stretches of code made at run time that the kernel side is told of, of one process. Such compilers
/// reserve a few large ones.
const MAX_FRAMED: usize = 256;

/// Mappings whose stamps are remembered.
const MAX_STAMPS: usize = 1 << 16;

/// Files whose stamps are asked for in one look: each takes some tens of microseconds.
const MAX_NEW_STAMPS: usize = 4096;

/// What a look has asked for: the stamps of files by what `/proc/PID/maps` says of them.
type Asked<'a> = HashMap<((u32, u32), u64, &'a [u8]), Option<FileStamp>>;

/// So often a file that cannot be opened is tried: while a program is loaded, and where patience has run
/// out, that fails for a moment only. From one look to the next there is more and more time.
const MAX_TRIES: u8 = 8;

/// Every module seen so far.
#[derive(Debug)]
pub(super) struct Modules {
    loaded: Vec<Loaded>,
    by_file: HashMap<FileKey, usize>,
    /// The stamps that files had when they were first seen mapped: a mapping keeps its file.
    stamps: HashMap<Mapped, Option<FileStamp>>,
    /// How often files could not be opened that are to be tried again.
    tries: HashMap<FileKey, u8>,
    /// Rows by a hash of them, so that copies of one file in several places take room once.
    by_rows: HashMap<(u64, u64), TableSpan>,
    /// For that hash. Nobody can make two tables of one hash who does not know them.
    hashers: [RandomState; 2],
    /// Files beyond [`MAX_MODULES`], as many as there were at once.
    left_out: u64,
    /// Modules whose rows found no room.
    rows_full: u64,
    /// Modules whose source lines were not copied.
    lines_left_out: u64,
    functions_by_code: u64,
    /// How long the last reading of mappings took, without the files that were new in it, where there were
    /// [`MANY_MAPPINGS`].
    last_cost: Duration,
    budget: Budget,
    effort: Effort,
}

impl Default for Modules {
    fn default() -> Modules {
        Modules {
            loaded: Vec::new(),
            by_file: HashMap::new(),
            stamps: HashMap::new(),
            tries: HashMap::new(),
            by_rows: HashMap::new(),
            hashers: [RandomState::new(), RandomState::new()],
            left_out: 0,
            rows_full: 0,
            lines_left_out: 0,
            functions_by_code: 0,
            last_cost: Duration::ZERO,
            budget: Budget::of_machine(),
            effort: Effort::default(),
        }
    }
}

/// An image read but not yet in the tables.
#[derive(Default)]
struct Read {
    image: Option<Image>,
    facts: Option<Module>,
    tokio: TokioImage,
    table: Option<UnwindTable>,
    functions: Functions,
    problem: Option<String>,
}

impl Read {
    /// Nothing, because of `error`.
    fn without(error: io::Error) -> Read {
        Read {
            problem: Some(format!("cannot be read: {error}")),
            ..Read::default()
        }
    }
}

/// Where an image is.
enum Original {
    File(File),
    Memory(Arc<[u8]>),
}

/// Bytes to read an image from, which nobody but us can change.
enum Image {
    /// The copy, and while it is read the file that it is of, in which alone the code is.
    Copy(PrivateCopy, Option<File>),
    Memory(Arc<[u8]>),
}

impl Image {
    fn of(original: Original, budget: &Budget) -> io::Result<Image> {
        Ok(match original {
            Original::File(file) => Image::Copy(PrivateCopy::of(&file, budget)?, Some(file)),
            Original::Memory(bytes) => Image::Memory(bytes),
        })
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Image::Copy(copy, _) => copy.bytes(),
            Image::Memory(bytes) => bytes,
        }
    }

    fn module(&self) -> Result<Module, ModuleError> {
        match self {
            Image::Copy(copy, _) => copy.module(),
            Image::Memory(bytes) => Module::from_elf(bytes),
        }
    }

    fn table(&self, effort: &Effort) -> Result<UnwindTable, ModuleError> {
        match self {
            Image::Copy(copy, Some(file)) => {
                let file = Reader::of(file).ok();
                let read = |into: &mut [u8], offset| {
                    let read = file.as_ref().map(|file| file.read_exact_at(into, offset));
                    read.is_some_and(|read| read.is_ok())
                };
                UnwindTable::from_elf_and_file(copy.bytes(), &read, effort)
            }
            Image::Copy(..) | Image::Memory(_) => UnwindTable::from_memory(self.bytes(), effort),
        }
    }
}

impl Modules {
    /// Reads the target's mappings, opens the files that are new (in parallel: a build takes
    /// tens of milliseconds for a large one), and gives the kernel side's view of them.
    ///
    /// # Errors
    /// Where the mappings cannot be read at all.
    pub(super) fn update(
        &mut self,
        target: &Target,
        tables: &mut Tables,
    ) -> io::Result<(AddressMap, Vec<row::Mapping>)> {
        let begun = Instant::now();
        let mappings = target.code_mappings()?;
        let mut asked = Asked::new();
        let code: Vec<(FileKey, &Mapping)> = mappings
            .iter()
            .filter(|m| matches!(m.kind, MappingKind::File | MappingKind::Vdso))
            .map(|mapping| (self.key(target, mapping, &mut asked), mapping))
            .collect();
        let mut new: Vec<(FileKey, &Mapping)> = Vec::new();
        for &(key, mapping) in &code {
            if !self.by_file.contains_key(&key) && !new.iter().any(|(k, _)| *k == key) {
                new.push((key, mapping));
            }
        }
        // A slow machine is no reason to know less of a program that maps no more than others do.
        self.last_cost = match mappings.len() >= MANY_MAPPINGS {
            true => begun.elapsed(),
            false => Duration::ZERO,
        };
        // Every copy is an open file, and somebody has to open the report in the end.
        let room = MAX_MODULES.saturating_sub(self.loaded.len());
        let beyond = new.len().saturating_sub(room) as u64;
        let first = self.left_out == 0;
        self.left_out = self.left_out.max(beyond);
        if beyond > 0 && first {
            tracing::warn!("more than {MAX_MODULES} modules: the others are not read");
        }
        new.truncate(room);
        let (budget, effort) = (&self.budget, &self.effort);
        let opened: Vec<io::Result<Read>> = new
            .par_iter()
            .map(|(_, mapping)| {
                let original = open(target, mapping, &mappings)?;
                // What cannot be copied now is too much, and will be.
                let image = Image::of(original, budget);
                Ok(image.map_or_else(Read::without, |image| read(image, effort)))
            })
            .collect();
        for ((key, mapping), opened) in new.into_iter().zip(opened) {
            match opened {
                Ok(read) => self.add(key, mapping, read, tables),
                Err(error) if self.is_to_be_tried_again(key) => {
                    let name = mapping.file_name();
                    tracing::debug!(name = %name.escape_debug(), "not opened yet: {error}");
                }
                Err(error) => self.add(key, mapping, Read::without(error), tables),
            }
        }
        let (map, mut rows) = self.view(&code);
        add_framed(&mappings, &mut rows);
        Ok((map, rows))
    }

    fn key<'a>(&mut self, target: &Target, mapping: &'a Mapping, asked: &mut Asked<'a>) -> FileKey {
        if mapping.kind == MappingKind::Vdso {
            return FileKey::Vdso;
        }
        let device = (mapping.device.major, mapping.device.minor);
        let mapped = (target.pid(), mapping.range.start, device, mapping.inode);
        if self.stamps.len() >= MAX_STAMPS {
            self.stamps.clear();
        }
        // A file that is mapped many times is asked for once. What cannot be told now is asked for again at
        // the next look.
        let file = (device, mapping.inode, mapping.path.as_slice());
        let known = self.stamps.get(&mapped).or_else(|| asked.get(&file));
        let stamp = match known.copied() {
            Some(known) => Some(known),
            None if asked.len() < MAX_NEW_STAMPS => target
                .stamp(mapping)
                .inspect(|stamp| {
                    asked.insert(file, *stamp);
                })
                .ok(),
            None => None,
        };
        if let Some(stamp) = stamp {
            self.stamps.insert(mapped, stamp);
        }
        let stamp = stamp.unwrap_or_default();
        FileKey::File {
            device,
            inode: mapping.inode,
            stamp,
        }
    }

    /// Counts that a file could not be opened. Until then its mappings are unknown code, which is a reason
    /// to look again.
    fn is_to_be_tried_again(&mut self, key: FileKey) -> bool {
        if self.tries.len() >= MAX_STAMPS {
            self.tries.clear();
        }
        let tries = self.tries.entry(key).or_default();
        *tries += 1;
        *tries < MAX_TRIES
    }

    fn add(&mut self, key: FileKey, mapping: &Mapping, read: Read, tables: &mut Tables) {
        let name: Arc<str> = mapping.file_name().into();
        let mut problem = read.problem;
        let build_id = read.facts.as_ref().and_then(|facts| facts.build_id.clone());
        let (mut span, mut base) = (None, Svma(0));
        if let Some(table) = &read.table {
            let hash = |hasher: &RandomState| hasher.hash_one((&table.rows, &table.index));
            let [first, second] = &self.hashers;
            let hash = (hash(first), hash(second));
            span = self.by_rows.get(&hash).copied();
            base = table.base;
            self.functions_by_code += table.synthesized.len() as u64;
            if !table.synthesized.is_empty() {
                tracing::debug!(
                    module = %name.escape_debug(),
                    "{} functions without unwinding information, unwound by their code",
                    table.synthesized.len()
                );
            }
            if table.left_out {
                self.rows_full += 1;
                problem = Some("it has more unwinding information than may be read".to_owned());
            }
            self.effort.give_back(table.effort());
            if span.is_none() {
                span = match tables.add(&table.rows, &table.index) {
                    Ok(span) => {
                        self.by_rows.insert(hash, span);
                        Some(span)
                    }
                    Err(error) => {
                        self.rows_full += u64::from(matches!(error, TableError::Full));
                        problem = Some(error.to_string());
                        None
                    }
                };
            }
        }
        if let Some(problem) = problem {
            tracing::warn!(module = %name.escape_debug(), "{problem}");
        }
        let mut in_place = None;
        let (copy, image, path) = match read.image {
            Some(Image::Copy(copy, _)) => {
                in_place = copy.in_place().cloned();
                self.lines_left_out += u64::from(copy.debug_left_out() > 0);
                let file = copy.into_file();
                let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                (Some(file), None, path)
            }
            Some(Image::Memory(bytes)) => (None, Some(bytes), PathBuf::from(name.as_ref())),
            // By its number, since modules are told apart by their paths; there is no such file.
            None => {
                let path = format!("/proc/self/unread/{}", self.loaded.len());
                (None, None, PathBuf::from(path))
            }
        };
        let functions = absolute(&read.functions);
        let may_hold_tokio = read.tokio.present || read.facts.is_none();
        self.by_file.insert(key, self.loaded.len());
        self.loaded.push(Loaded {
            source: ModuleSource {
                name,
                path,
                build_id,
                image,
                in_place,
                may_hold_tokio,
                functions,
            },
            facts: read.facts,
            tokio: read.tokio,
            span,
            base,
            copy,
        });
    }

    /// The mappings, for ourselves and for the kernel side.
    fn view(&self, code: &[(FileKey, &Mapping)]) -> (AddressMap, Vec<row::Mapping>) {
        let mut map = AddressMap::default();
        let mut rows = Vec::new();
        for (key, mapping) in code {
            let Some(&module) = self.by_file.get(key) else {
                continue;
            };
            let Some(loaded) = self.loaded.get(module) else {
                continue;
            };
            let Some(bias) = loaded.bias(mapping) else {
                continue;
            };
            let (begin, end) = (mapping.range.start, mapping.range.end);
            map.push(mapping.range.clone(), bias, module);
            let Some(span) = loaded.span else { continue };
            rows.push(row::Mapping {
                begin: begin.0,
                end: end.0,
                bias: bias.wrapping_add(loaded.base.0),
                rows: span.rows,
                row_count: span.row_count,
                index: span.index,
                index_len: span.index_len,
            });
        }
        (map, rows)
    }

    /// A module by the index that [`AddressMap::resolve`] gave.
    pub(super) fn get(&self, module: usize) -> Option<&Loaded> {
        self.loaded.get(module)
    }

    /// Files that were not read since there were too many.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Modules whose rows found no room.
    pub(super) const fn rows_full(&self) -> u64 {
        self.rows_full
    }

    /// Modules whose source lines were not copied, since they are too long.
    pub(super) const fn lines_left_out(&self) -> u64 {
        self.lines_left_out
    }

    /// How long the last reading of mappings took, without the files that were new in it. Zero where there were
    /// few.
    pub(super) const fn last_cost(&self) -> Duration {
        self.last_cost
    }

    /// Functions that are unwound by what their code does.
    pub(super) const fn functions_by_code(&self) -> u64 {
        self.functions_by_code
    }

    /// Every module.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Loaded> {
        self.loaded.iter()
    }

    /// The module that a process executes, of those in its map: by inode, and where that is not
    /// to be had the one that is mapped lowest.
    pub(super) fn of_exe(&self, target: &Target, map: &AddressMap) -> Option<usize> {
        use std::os::unix::fs::MetadataExt;
        let exe = target.open_exe().and_then(|exe| exe.metadata());
        let inode = exe.ok().map(|exe| exe.ino());
        let is_exe = |module: &usize| {
            self.by_file.iter().any(|(key, index)| {
                index == module
                    && matches!(key, FileKey::File { inode: known, .. } if Some(*known) == inode)
            })
        };
        map.modules().find(is_exe).or_else(|| map.modules().next())
    }
}

impl Loaded {
    /// What framehop needs of it; none where it cannot be read.
    pub(super) fn sections(&self) -> Option<Sections> {
        if let Some(image) = &self.source.image {
            return Sections::of(image);
        }
        // SAFETY: the copy is in memory of our own, which nobody changes.
        let map = unsafe { memmap2::Mmap::map(self.copy.as_ref()?) }.ok()?;
        Sections::of(&map)
    }

    fn bias(&self, mapping: &Mapping) -> Option<u64> {
        match (&self.facts, mapping.kind) {
            // The kernel maps the whole image, whatever its program headers say of offsets.
            (Some(facts), MappingKind::Vdso) => facts.bias_for(mapping.range.start, 0),
            (Some(facts), _) => facts.bias_for(mapping.range.start, mapping.file_offset),
            // Names by file offset are better than none.
            (None, _) => Some(mapping.range.start.0.wrapping_sub(mapping.file_offset)),
        }
    }
}

/// Code made at run time: its compilers keep frame pointers, so that debuggers and profilers find
/// their way. Where one does not, the walk finds no chain and ends there.
fn add_framed(mappings: &[Mapping], rows: &mut Vec<row::Mapping>) {
    let is_made = |m: &&Mapping| m.executable && m.kind == MappingKind::Anonymous;
    let mut framed: Vec<row::Mapping> = Vec::new();
    for made in mappings.iter().filter(is_made) {
        let (begin, end) = (made.range.start.0, made.range.end.0);
        let room = framed.len() < MAX_FRAMED;
        match framed.last_mut() {
            Some(last) if last.end == begin => last.end = end,
            _ if room => framed.push(row::Mapping::by_frame_pointer(begin, end)),
            _ => {}
        }
    }
    if !framed.is_empty() {
        rows.extend(framed);
        rows.sort_unstable_by_key(|mapping| mapping.begin);
    }
}

fn open(target: &Target, mapping: &Mapping, all: &[Mapping]) -> io::Result<Original> {
    if mapping.kind == MappingKind::Vdso {
        let image = target.vdso_image(all)?;
        let image = image.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        return Ok(Original::Memory(image.into()));
    }
    target.open_mapped(mapping).map(Original::File)
}

fn read(mut image: Image, effort: &Effort) -> Read {
    let table = image.table(effort).context("cannot be unwound");
    // Descriptors are few.
    if let Image::Copy(_, file) = &mut image {
        *file = None;
    }
    let bytes = image.bytes();
    let facts = image.module();
    let mut problem = None;
    if let Image::Copy(copy, _) = &image
        && copy.debug_left_out() > 0
    {
        problem = Some(format!(
            "its {} MiB of debug information were not read: source lines are missing",
            copy.debug_left_out() >> 20
        ));
    }
    let facts = facts
        .map_err(|error| problem = Some(error.to_string()))
        .ok();
    let table = table
        .map_err(|error| problem = Some(format!("{error:#}")))
        .ok();
    let stripped = facts.as_ref().is_some_and(|facts| !facts.has_symtab);
    let functions = if stripped {
        Functions::from_elf(bytes).ok()
    } else {
        None
    };
    let mut functions = functions.unwrap_or_default();
    if let Some(table) = &table
        && !(table.synthesized.is_empty() && table.framed.is_empty())
    {
        // Symbols of hand-written code state no size: this is how far they reach.
        functions.base = table.base;
        functions.ranges.extend(&table.synthesized);
        functions.ranges.extend(&table.framed);
        functions.ranges.sort_unstable();
    }
    Read {
        facts,
        tokio: TokioImage::from_elf(bytes).unwrap_or_default(),
        table,
        functions,
        problem,
        image: Some(image),
    }
}

/// Function starts as addresses of the file.
fn absolute(functions: &Functions) -> Arc<[(u32, u32)]> {
    functions
        .ranges
        .iter()
        .filter_map(|&(start, len)| {
            u32::try_from(functions.base.0 + u64::from(start))
                .ok()
                .map(|start| (start, len))
        })
        .collect()
}
