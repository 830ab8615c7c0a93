//! The functions of an image that no frame description entry covers, and rows for those whose code
//! says enough; see [`super::synthesis`]. They are found by their symbols, and where there are none by
//! who calls them.

use super::called::Called;
use super::jumps::JumpTables;
use super::relocations::ReadAt;
use super::synthesis::{self, Bounds, Proof};
use crate::process::module::Elf;
use crate::units::Svma;
use profiler_common::row::{self, Rule};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Code looked at of one image, in bytes. musl's libc has some 600 KiB.
const MAX_CODE: usize = 64 << 20;

/// How often functions are looked for anew that others leave for; few take more than three.
const MAX_ROUNDS: usize = 8;

/// Rows made up from code.
#[derive(Debug, Default)]
pub(super) struct Synthesized {
    /// As in [`super::UnwindTable::rows`], in no order.
    pub(super) rows: Vec<u64>,
    /// What they cover, relative to the table's base.
    pub(super) spans: Vec<(u32, u32)>,
}

/// Makes rows for all functions that lie in `executable` and outside `covered`, which is sorted, and
/// that have a symbol; where no function has one, for those in `gaps` that others lead to. `base` is what
/// rows are relative to.
pub(super) fn synthesize(
    elf: &Elf<'_>,
    file: &ReadAt<'_>,
    base: Svma,
    executable: &[Range<u64>],
    covered: &[(u32, u32)],
    gaps: &[Range<u32>],
) -> Synthesized {
    let candidates = candidates(elf, base, executable, covered);
    let tables = JumpTables::new(elf, file);
    let mut prover = Prover {
        elf,
        file,
        base,
        tables: &tables,
        looked_at: HashMap::new(),
    };
    if elf.functions().any(|function| function.name().is_some()) {
        return prover.prove(candidates).0;
    }
    // A stripped program still says where it is entered.
    let entries = candidates.iter().map(|entry| entry.range.start).collect();
    let mut called = Called::find(elf, file, base, covered, gaps, &tables, entries);
    let mut made = Synthesized::default();
    // What was taken for one function may turn out to be two, by who jumps there.
    for _ in 0..MAX_ROUNDS {
        let candidates = called.ranges().map(|range| Candidate {
            range,
            entries: Vec::new(),
            code: Vec::new(),
            bounds: Bounds::Guessed,
        });
        let starts;
        (made, starts) = prover.prove(candidates.collect());
        if !called.add(starts) {
            break;
        }
    }
    made
}

/// What reads functions off their code.
struct Prover<'a, 'data> {
    elf: &'a Elf<'data>,
    file: &'a ReadAt<'a>,
    base: Svma,
    tables: &'a JumpTables<'a, 'data>,
    /// What was proven of those that were looked at, and where others begin that they leave for: few get
    /// other bounds when more are known.
    looked_at: HashMap<Range<u32>, (Proof, Vec<u32>)>,
}

impl Prover<'_, '_> {
    /// Makes rows for those of whose code enough can be proven. Also gives where other functions begin
    /// that they leave for.
    fn prove(&mut self, mut candidates: Vec<Candidate>) -> (Synthesized, Vec<u32>) {
        let mut left = MAX_CODE;
        candidates.retain_mut(|function| {
            let len = function.range.len();
            if len > synthesis::MAX_FUNCTION || len > left {
                return false;
            }
            left -= len;
            let at = Svma(self.base.0 + u64::from(function.range.start));
            let offset = self.elf.file_offset(at);
            function.code = vec![0; len];
            offset.is_some_and(|offset| (self.file)(&mut function.code, offset))
        });
        for function in &candidates {
            self.look_at(function);
        }
        let entered = entered_from_outside(&candidates);
        let (mut proven, mut starts) = (Vec::new(), Vec::new());
        // Where functions are left for another that is none, as the stack shows.
        let mut no_starts = HashSet::new();
        for function in &candidates {
            let Some((proof, leaves_for)) = self.looked_at.get(&function.range) else {
                continue;
            };
            let start = function.range.start;
            match proof {
                Proof::Rules(rules) if !entered.contains(&start) => proven.push((function, rules)),
                Proof::NoStarts(others) => {
                    no_starts.extend(others.iter().map(|at| start.wrapping_add(*at)));
                }
                Proof::Rules(_) | Proof::None => {}
            }
            starts.extend(leaves_for.iter().map(|at| start.wrapping_add(*at)));
        }
        let mut made = Synthesized::default();
        for (function, rules) in proven {
            let Range { start, end } = function.range;
            if no_starts.contains(&start) {
                continue;
            }
            // What follows the last instruction that is reached is another function's.
            let end = match (function.bounds, rules.as_slice()) {
                (Bounds::Guessed, [.., (at, Rule::GAP)]) => start + at,
                _ => end,
            };
            let rules = rules.iter().filter(|(at, _)| start + at < end);
            let rows = rules.map(|(at, rule)| row::row(start + at, *rule));
            made.rows.extend(rows);
            made.spans.push((start, end));
        }
        (made, starts)
    }

    /// What can be proven of one, if that is not known yet.
    fn look_at(&mut self, function: &Candidate) {
        if self.looked_at.contains_key(&function.range) {
            return;
        }
        let start = function.range.start;
        let at = self.base.0 + u64::from(start);
        let targets = |table: u64| {
            let range = at..at + function.range.len() as u64;
            let targets = self.tables.targets(at.wrapping_add(table), &range);
            targets.into_iter().map(|target| target - at).collect()
        };
        let entries = function.entries.iter();
        let entries: Vec<usize> = entries.map(|entry| (entry - start) as usize).collect();
        let mut leaves_for = Vec::new();
        let bounds = function.bounds;
        let proof = synthesis::rules(&function.code, &entries, bounds, &targets, &mut leaves_for);
        self.looked_at
            .insert(function.range.clone(), (proof, leaves_for));
    }
}

/// A function without unwinding information.
#[derive(Debug)]
struct Candidate {
    range: Range<u32>,
    /// Symbols within it: it is called there as well.
    entries: Vec<u32>,
    /// Its bytes.
    code: Vec<u8>,
    /// Whether it is known how far it reaches.
    bounds: Bounds,
}

/// Functions by their symbols, sorted, none overlapping another or `covered`.
fn candidates(
    elf: &Elf<'_>,
    base: Svma,
    executable: &[Range<u64>],
    covered: &[(u32, u32)],
) -> Vec<Candidate> {
    let mut symbols: Vec<Range<u32>> = elf
        .functions()
        .filter_map(|function| {
            let (svma, size) = (function.svma, function.size);
            let segment = executable.iter().find(|range| range.contains(&svma.0))?;
            let end = match size {
                0 => segment.end,
                size => svma.0.checked_add(size)?.min(segment.end),
            };
            let start = u32::try_from(svma.0.checked_sub(base.0)?).ok()?;
            let end = u32::try_from(end.checked_sub(base.0)?).ok()?;
            // The FDE before it may reach over it, or begin within it.
            let after = covered.partition_point(|span| span.0 <= start);
            let inside = after > 0 && covered.get(after - 1).is_some_and(|span| span.1 > start);
            let next = covered.get(after).map_or(u32::MAX, |span| span.0);
            let cut = size != 0 && next < end;
            // Hand-written code states no size: up to what follows, see below.
            (!inside && !cut && !function.is_part()).then_some(match size {
                0 => start..start,
                _ => start..end,
            })
        })
        .collect();
    symbols.sort_unstable_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
    symbols.dedup_by_key(|range| range.start);
    let mut found: Vec<Candidate> = Vec::new();
    for (i, symbol) in symbols.iter().enumerate() {
        if let Some(last) = found.last_mut()
            && symbol.start < last.range.end
        {
            last.entries.push(symbol.start);
            continue;
        }
        let mut range = symbol.clone();
        if range.is_empty() {
            let segment = executable
                .iter()
                .find(|segment| segment.contains(&(base.0 + u64::from(range.start))));
            let end = segment.map_or(0, |segment| segment.end - base.0);
            let next = symbols.get(i + 1).map_or(u32::MAX, |next| next.start);
            let after = covered.partition_point(|span| span.0 <= range.start);
            let fde = covered.get(after).map_or(u32::MAX, |span| span.0);
            range.end = u32::try_from(end).unwrap_or(u32::MAX).min(next).min(fde);
        }
        if !range.is_empty() {
            found.push(Candidate {
                range,
                entries: Vec::new(),
                code: Vec::new(),
                bounds: Bounds::Known,
            });
        }
    }
    found
}

/// Starts of the functions into whose middle the code of another one leads: what is known there
/// is not known from the function alone.
fn entered_from_outside(candidates: &[Candidate]) -> HashSet<u32> {
    let mut entered = HashSet::new();
    for function in candidates {
        for target in synthesis::targets(&function.code) {
            let target = u64::from(function.range.start).wrapping_add(target);
            let Ok(target) = u32::try_from(target) else {
                continue;
            };
            let after = candidates.partition_point(|other| other.range.start <= target);
            let Some(other) = after.checked_sub(1).and_then(|at| candidates.get(at)) else {
                continue;
            };
            let is_entry = other.range.start == target || other.entries.contains(&target);
            if other.range.contains(&target)
                && other.range.start != function.range.start
                && !is_entry
            {
                entered.insert(other.range.start);
            }
        }
    }
    entered
}
