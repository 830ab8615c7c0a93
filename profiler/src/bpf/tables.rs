//! The unwinding rows and the mappings of processes, as the kernel side reads them.

use super::banks::{Bank, Banks};
use crate::limits::Limits;
use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::{ArrayOfMaps, MapData};
use profiler_common::map::{INDEX_BANKS, MAX_MAPPINGS, MAX_TABLES, ROW_BANKS};
use profiler_common::row::{BANK_ROWS, BANK_SHIFT, INDEX_BANK, Mapping, Rows};
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// Where the rows of one module lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSpan {
    /// Number of the first row over all banks.
    pub rows: u32,
    /// Rows.
    pub row_count: u32,
    /// Number of the first index entry over all banks.
    pub index: u32,
    /// Index entries.
    pub index_len: u32,
}

/// A table of the mappings of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingTable {
    /// Its number.
    pub number: u32,
    /// Its entries.
    pub mappings: u32,
}

/// For how long a table that was replaced is left alone: a walk, or a fork that copies its number,
/// takes microseconds.
const REST: Duration = Duration::from_millis(100);

/// Why a module's rows have no place.
#[derive(Debug)]
pub enum TableError {
    /// All banks are full: more code is mapped than we have room for.
    Full,
    /// The kernel refused.
    Kernel(anyhow::Error),
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableError::Full => write!(f, "the unwinding tables are full"),
            TableError::Kernel(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for TableError {}

/// Values in banks, numbered through.
#[derive(Debug)]
struct Banked<T: aya::Pod> {
    more: Banks<T>,
    banks: Vec<Bank<T>>,
    /// Values that fit.
    most: usize,
    used: u32,
}

impl<T: aya::Pod + Send> Banked<T> {
    fn new(ebpf: &mut Ebpf, name: &str, banks: usize, most: usize) -> Result<Banked<T>> {
        let outer = take_outer(ebpf, name)?;
        Ok(Banked {
            more: Banks::begin(outer, banks as u32, 1 << BANK_SHIFT)?,
            banks: Vec::new(),
            most,
            used: 0,
        })
    }

    /// Appends values; they may lie across the ends of banks.
    fn append(&mut self, mut values: &[T]) -> Result<u32, TableError> {
        let capacity = 1usize << BANK_SHIFT;
        let first = self.used;
        if self.used as usize + values.len() > self.most {
            return Err(TableError::Full);
        }
        while !values.is_empty() {
            let (bank, at) = (
                self.used as usize >> BANK_SHIFT,
                self.used as usize % capacity,
            );
            if bank == self.banks.len() {
                let (_, new) = self
                    .more
                    .next()
                    .ok_or(TableError::Full)?
                    .map_err(TableError::Kernel)?;
                self.banks.push(new);
            }
            let count = values.len().min(capacity - at);
            let (now, later) = values.split_at(count);
            self.banks[bank].values_mut()[at..at + count].copy_from_slice(now);
            self.used += count as u32;
            values = later;
        }
        Ok(first)
    }

    fn get(&self, n: u32) -> Option<&T> {
        let bank = self.banks.get((n >> BANK_SHIFT) as usize)?;
        bank.values().get((n & ((1 << BANK_SHIFT) - 1)) as usize)
    }
}

fn take_outer(ebpf: &mut Ebpf, name: &str) -> Result<ArrayOfMaps<MapData, MapData>> {
    let map = ebpf
        .take_map(name)
        .with_context(|| format!("the eBPF object has no map {name}"))?;
    map.try_into()
        .with_context(|| format!("map {name} is not an array of maps"))
}

/// Everything the walk looks up.
#[derive(Debug)]
pub struct Tables {
    rows: Banked<u64>,
    index: Banked<u64>,
    unused: Banks<Mapping>,
    /// Mapping tables by their numbers.
    mappings: Vec<Bank<Mapping>>,
    /// Mapping tables that were given up, oldest first.
    retired: VecDeque<(Instant, u32)>,
}

impl Tables {
    pub(super) fn new(ebpf: &mut Ebpf, limits: &Limits) -> Result<Tables> {
        const { assert!(BANK_ROWS == 1 << BANK_SHIFT && INDEX_BANK == 1 << BANK_SHIFT) };
        Ok(Tables {
            rows: Banked::new(
                ebpf,
                "ROWS",
                ROW_BANKS,
                limits.table("rows", ROW_BANKS << BANK_SHIFT),
            )?,
            index: Banked::new(ebpf, "INDEX", INDEX_BANKS, INDEX_BANKS << BANK_SHIFT)?,
            unused: Banks::begin(
                take_outer(ebpf, "MAPPINGS")?,
                MAX_TABLES as u32,
                MAX_MAPPINGS,
            )?,
            mappings: Vec::new(),
            retired: VecDeque::new(),
        })
    }

    /// Adds a module's table. Tables stay: the same module may be mapped again.
    ///
    /// # Errors
    /// Where there is no room.
    pub fn add(&mut self, rows: &[u64], index: &[u64]) -> Result<TableSpan, TableError> {
        Ok(TableSpan {
            rows: self.rows.append(rows)?,
            row_count: rows.len() as u32,
            index: self.index.append(index)?,
            index_len: index.len() as u32,
        })
    }

    /// Makes a new mapping table, which nothing walks by until a process is told to. `mappings`
    /// are in the order of their addresses; those beyond [`MAX_MAPPINGS`] are left out.
    ///
    /// # Errors
    /// Where all tables are in use, or the kernel refuses.
    pub fn install(&mut self, mappings: &[Mapping]) -> Result<MappingTable> {
        let number = self
            .free_table()?
            .context("all mapping tables are in use")?;
        let bank = self.mappings.get_mut(number as usize);
        let bank = bank.context("a mapping table that was never made")?;
        let count = mappings.len().min(MAX_MAPPINGS);
        bank.values_mut()[..count].copy_from_slice(&mappings[..count]);
        Ok(MappingTable {
            number,
            mappings: count as u32,
        })
    }

    /// Gives a mapping table up. No process may be told to walk by it any more; `in_use` are
    /// those that forked processes still do.
    pub fn retire(&mut self, number: u32, in_use: &[u32]) {
        if !in_use.contains(&number) && !self.retired.iter().any(|(_, known)| *known == number) {
            self.retired.push_back((Instant::now(), number));
        }
    }

    /// The number of one that nothing walks by.
    fn free_table(&mut self) -> Result<Option<u32>> {
        if let Some(unused) = self.unused.next() {
            let (number, bank) = unused?;
            self.mappings.push(bank);
            return Ok(Some(number));
        }
        let rested = self.retired.front();
        let rested = rested.is_some_and(|(since, _)| since.elapsed() >= REST);
        let retired = rested.then(|| self.retired.pop_front()).flatten();
        Ok(retired.map(|(_, number)| number))
    }
}

impl Rows for &Tables {
    fn row(&self, n: u32) -> Option<&u64> {
        self.rows.get(n)
    }

    fn index(&self, n: u32) -> Option<&u64> {
        self.index.get(n)
    }
}
