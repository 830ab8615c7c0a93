//! The code mapped into the target: files opened and read once, rows handed to the kernel side.

use crate::bpf::{TableError, TableSpan, Tables};
use crate::process::module::{Functions, Module, ModuleError};
use crate::process::{Budget, Mapping, MappingKind, PrivateCopy, Target};
use crate::runtime::tokio::TokioImage;
use crate::symbolize::ModuleSource;
use crate::units::{Addr, Svma};
use crate::unwind::{Sections, UnwindTable};
use anyhow::Context;
use profiler_common::row;
use rayon::prelude::*;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Memory for what is read of the target's files. Names and unwinding information of a large
/// program take some tens of MiB; its debug information may take hundreds, and is what is left
/// out first.
const BUDGET: u64 = 1 << 30;
/// Of which so much for the debug information of one file.
const BUDGET_DEBUG: u64 = 512 << 20;
/// Most files read. A program has some dozens; one that maps ever new ones must not use up our
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

/// What tells files apart, also after one has replaced another under the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FileKey {
    File { device: (u32, u32), inode: u64 },
    Vdso,
}

/// Every module seen so far.
#[derive(Debug)]
pub(super) struct Modules {
    loaded: Vec<Loaded>,
    by_file: HashMap<FileKey, usize>,
    by_build_id: HashMap<String, TableSpan>,
    /// Files that could not be read or have no place in the tables, told once each.
    problems: Vec<String>,
    /// Files beyond [`MAX_MODULES`], as many as there were at once.
    left_out: u64,
    /// Modules whose rows found no room.
    rows_full: u64,
    functions_by_code: u64,
    budget: Budget,
}

impl Default for Modules {
    fn default() -> Modules {
        Modules {
            loaded: Vec::new(),
            by_file: HashMap::new(),
            by_build_id: HashMap::new(),
            problems: Vec::new(),
            left_out: 0,
            rows_full: 0,
            functions_by_code: 0,
            budget: Budget::new(BUDGET, BUDGET_DEBUG),
        }
    }
}

/// The executable mappings at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AddressMap {
    /// By address, not overlapping.
    regions: Vec<Region>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    begin: Addr,
    end: Addr,
    /// What to take from an address to get the one that the file states.
    bias: u64,
    module: usize,
}

impl AddressMap {
    /// Whether every region of `other` is here too, the same code at the same place.
    pub(super) fn contains(&self, other: &AddressMap) -> bool {
        other.regions.iter().all(|region| {
            let at = self.regions.partition_point(|r| r.begin <= region.begin);
            at.checked_sub(1)
                .and_then(|at| self.regions.get(at))
                .is_some_and(|ours| {
                    region.end <= ours.end
                        && (ours.bias, ours.module) == (region.bias, region.module)
                })
        })
    }

    /// Whether any region has an address of `range`.
    pub(super) fn overlaps(&self, range: &Range<Addr>) -> bool {
        self.regions
            .iter()
            .any(|region| region.begin < range.end && range.start < region.end)
    }

    /// The modules mapped, lowest address first.
    pub(super) fn modules(&self) -> impl Iterator<Item = usize> {
        self.regions.iter().map(|region| region.module)
    }

    /// Every mapping: its addresses, its bias and the index of its module.
    pub(super) fn regions(&self) -> impl Iterator<Item = (Range<Addr>, u64, usize)> {
        let region = |region: &Region| (region.begin..region.end, region.bias, region.module);
        self.regions.iter().map(region)
    }

    /// The module at an address, and the address as its file states it.
    pub(super) fn resolve(&self, addr: Addr) -> Option<(usize, Svma)> {
        let after = self.regions.partition_point(|region| region.begin <= addr);
        let region = self.regions.get(after.checked_sub(1)?)?;
        (addr < region.end).then(|| (region.module, Svma(addr.0.wrapping_sub(region.bias))))
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

    fn table(&self) -> Result<UnwindTable, ModuleError> {
        match self {
            Image::Copy(copy, Some(file)) => {
                let read = |into: &mut [u8], offset| file.read_exact_at(into, offset).is_ok();
                UnwindTable::from_elf_and_file(copy.bytes(), &read)
            }
            Image::Copy(..) | Image::Memory(_) => UnwindTable::from_elf(self.bytes()),
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
        let mappings = target.mappings()?;
        let code: Vec<&Mapping> = mappings
            .iter()
            .filter(|m| m.executable && matches!(m.kind, MappingKind::File | MappingKind::Vdso))
            .collect();
        let mut new: Vec<(FileKey, &Mapping)> = Vec::new();
        for mapping in &code {
            let key = key(mapping);
            if !self.by_file.contains_key(&key) && !new.iter().any(|(k, _)| *k == key) {
                new.push((key, mapping));
            }
        }
        // Every copy is an open file, and somebody has to open the report in the end.
        let room = MAX_MODULES.saturating_sub(self.loaded.len());
        let beyond = new.len().saturating_sub(room) as u64;
        let first = self.left_out == 0;
        self.left_out = self.left_out.max(beyond);
        if beyond > 0 && first {
            let problem = format!("more than {MAX_MODULES} modules: the others are not read");
            tracing::warn!("{problem}");
            self.problems.push(problem);
        }
        new.truncate(room);
        let budget = &self.budget;
        let read: Vec<Read> = new
            .par_iter()
            .map(|(_, mapping)| {
                let image = open(target, mapping, &mappings)
                    .and_then(|original| Image::of(original, budget));
                match image {
                    Ok(image) => read(image),
                    Err(error) => Read {
                        problem: Some(format!("cannot be read: {error}")),
                        ..Read::default()
                    },
                }
            })
            .collect();
        for ((key, mapping), read) in new.into_iter().zip(read) {
            self.add(key, mapping, read, tables);
        }
        Ok(self.view(&code))
    }

    fn add(&mut self, key: FileKey, mapping: &Mapping, read: Read, tables: &mut Tables) {
        let name: Arc<str> = mapping.file_name().into();
        let mut problem = read.problem;
        let build_id = read.facts.as_ref().and_then(|facts| facts.build_id.clone());
        let known = build_id
            .as_ref()
            .and_then(|id| self.by_build_id.get(id))
            .copied();
        let (mut span, mut base) = (known, Svma(0));
        if let Some(table) = &read.table {
            base = table.base;
            self.functions_by_code += table.synthesized.len() as u64;
            if !table.synthesized.is_empty() {
                tracing::debug!(
                    module = %name.escape_debug(),
                    "{} functions without unwinding information, unwound by their code",
                    table.synthesized.len()
                );
            }
            if span.is_none() {
                span = match tables.add(&table.rows, &table.index) {
                    Ok(span) => Some(span),
                    Err(error) => {
                        self.rows_full += u64::from(matches!(error, TableError::Full));
                        problem = Some(error.to_string());
                        None
                    }
                };
            }
        }
        if let (Some(id), Some(span)) = (&build_id, span) {
            self.by_build_id.insert(id.clone(), span);
        }
        if let Some(problem) = problem {
            tracing::warn!(module = %name.escape_debug(), "{problem}");
            self.problems.push(format!("{name}: {problem}"));
        }
        let (copy, image, path) = match read.image {
            Some(Image::Copy(copy, _)) => {
                let file = copy.into_file();
                let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                (Some(file), None, path)
            }
            Some(Image::Memory(bytes)) => (None, Some(bytes), PathBuf::from(name.as_ref())),
            None => (None, None, PathBuf::from(name.as_ref())),
        };
        let functions = absolute(&read.functions);
        self.by_file.insert(key, self.loaded.len());
        self.loaded.push(Loaded {
            source: ModuleSource {
                name,
                path,
                build_id,
                image,
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
    fn view(&self, code: &[&Mapping]) -> (AddressMap, Vec<row::Mapping>) {
        let mut map = AddressMap::default();
        let mut rows = Vec::new();
        for mapping in code {
            let Some(&module) = self.by_file.get(&key(mapping)) else {
                continue;
            };
            let Some(loaded) = self.loaded.get(module) else {
                continue;
            };
            let Some(bias) = loaded.bias(mapping) else {
                continue;
            };
            let (begin, end) = (mapping.range.start, mapping.range.end);
            map.regions.push(Region {
                begin,
                end,
                bias,
                module,
            });
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

fn key(mapping: &Mapping) -> FileKey {
    match mapping.kind {
        MappingKind::Vdso => FileKey::Vdso,
        _ => FileKey::File {
            device: (mapping.device.major, mapping.device.minor),
            inode: mapping.inode,
        },
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

fn read(mut image: Image) -> Read {
    let table = image.table().context("cannot be unwound");
    // Descriptors are few.
    if let Image::Copy(_, file) = &mut image {
        *file = None;
    }
    let bytes = image.bytes();
    let facts = Module::from_elf(bytes);
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
        && !table.synthesized.is_empty()
    {
        // Symbols of hand-written code state no size: this is how far they reach.
        functions.base = table.base;
        functions.ranges.extend(&table.synthesized);
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

#[cfg(test)]
impl AddressMap {
    /// A map in which every range is a module of its own.
    pub(super) fn of_regions(ranges: &[(u64, u64)]) -> AddressMap {
        let region = |(module, &(begin, end)): (usize, &(u64, u64))| Region {
            begin: Addr(begin),
            end: Addr(end),
            bias: begin,
            module,
        };
        AddressMap {
            regions: ranges.iter().enumerate().map(region).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_contains_another_where_it_has_the_same_code_at_the_same_places() {
        let map = AddressMap::of_regions(&[(0x1000, 0x2000), (0x5000, 0x6000)]);
        assert!(map.contains(&map));
        assert!(map.contains(&AddressMap::of_regions(&[(0x1000, 0x2000)])));
        assert!(!AddressMap::of_regions(&[(0x1000, 0x2000)]).contains(&map));
        let mut other = map.clone();
        other.regions[1].module = 9;
        assert!(!map.contains(&other), "another file");
        other = map.clone();
        other.regions[1].bias = 0;
        assert!(!map.contains(&other), "the file elsewhere");
        assert!(map.overlaps(&(Addr(0x1fff)..Addr(0x3000))));
        assert!(!map.overlaps(&(Addr(0x2000)..Addr(0x5000))));
    }

    #[test]
    fn addresses_resolve_within_their_region_only() {
        let region = |begin, end, bias, module| Region {
            begin: Addr(begin),
            end: Addr(end),
            bias,
            module,
        };
        let map = AddressMap {
            regions: vec![
                region(0x1000, 0x2000, 0x1000, 7),
                region(0x5000, 0x6000, 0x4000, 8),
            ],
        };
        assert_eq!(map.resolve(Addr(0xfff)), None);
        assert_eq!(map.resolve(Addr(0x1000)), Some((7, Svma(0))));
        assert_eq!(map.resolve(Addr(0x1fff)), Some((7, Svma(0xfff))));
        assert_eq!(map.resolve(Addr(0x2000)), None);
        assert_eq!(map.resolve(Addr(0x5800)), Some((8, Svma(0x1800))));
        assert_eq!(map.resolve(Addr(u64::MAX)), None);
    }
}
