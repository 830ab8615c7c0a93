//! A capture as it is read. Whoever made it may have made it to do harm: its tables must be made as
//! ours are, every number is checked, and SQLite may take only so much memory. `PRAGMA quick_check`
//! would read the whole file and find less: rows are read in the order of their ids, which must rise,
//! so that pages which lead in circles are found as well.

use super::committed::{CommittedStore, check_form};
use super::error::{Error, Result};
use super::limits::{MAX_HEAP, MAX_ROW, MAX_TIME};
use super::names;
use super::pages::{LockFor, Locked, counter_in_place};
use super::schema::{APPLICATION_ID, VERSION, definitions};
use super::stream::Stream;
use super::vfs::Opened;
use super::writer::COMPLETE;
use crate::recording::{Header, Host, Interval, Sampling, Tables, ThreadId, Tool};
use crate::units::{Nanos, Timestamp};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags, Row};
use std::fs::File;
use std::time::Duration;

/// For how long a recording that writes the file is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a capture came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With the recording.
    Complete,
    /// Before it, and why.
    Early(String),
    /// It is being written, or holdup was killed.
    Open,
}

/// A capture, but for its intervals.
#[derive(Debug)]
pub struct Capture {
    opened: Opened,
    source: Source,
    /// By what, where and how it was made.
    pub header: Header,
    /// What its intervals name by index.
    pub tables: Tables,
    /// How it ended.
    pub end: End,
    /// Intervals that were dropped while it was recorded, since there were too many.
    pub dropped: u64,
    threads: Vec<ThreadId>,
}

/// Intervals to read, by the time since the beginning of the recording. Those that overlap with it
/// are read as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first instant.
    pub from: Nanos,
    /// The last one.
    pub to: Nanos,
}

impl Range {
    /// All of them.
    pub const ALL: Range = Range {
        from: Nanos(0),
        to: Nanos(u64::MAX),
    };

    fn has(self, start: Nanos, end: Nanos) -> bool {
        start < self.to && end > self.from || self == Range::ALL
    }
}

impl Capture {
    /// Reads all but the intervals. A recording that writes the file waits some seconds until this is
    /// dropped.
    ///
    /// # Errors
    /// Where it is no capture, or not a whole one.
    pub fn open(file: File) -> Result<Capture> {
        let source = Source::new(file.try_clone().map_err(Error::Read)?);
        let (mut store, stamp) = CommittedStore::open(file)?;
        if stamp.application != APPLICATION_ID {
            return Err(Error::Foreign);
        }
        if stamp.version > VERSION {
            return Err(Error::Newer(stamp.version));
        }
        check_form(&mut store)?;
        let opened = Opened::new(Box::new(store), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let read = || {
            let connection = opened.connection()?;
            distrust(connection)?;
            check_schema(connection)?;
            let (header, end, dropped) = header(connection)?;
            let names = names::read(connection)?;
            Ok((header, end, dropped, names))
        };
        let (header, end, dropped, names) = source.unless_changed(read())?;
        Ok(Capture {
            opened,
            source,
            header,
            tables: names.tables,
            end,
            dropped,
            threads: names.threads,
        })
    }

    /// Reads the intervals of a range, one after another. Returns the length of the whole recording.
    ///
    /// # Errors
    /// Where one of them cannot be; those before it have been handed out.
    pub fn intervals(&self, range: Range, mut each: impl FnMut(Interval)) -> Result<Nanos> {
        let mut stream = || {
            let start = self.header.start;
            let begun = (start, self.header.min_block);
            let connection = self.opened.connection()?;
            let mut stream = Stream::new(connection, begun, &self.tables, &self.threads)?;
            let end = stream.each(|interval| {
                if range.has(interval.start - start, interval.end - start) {
                    each(interval);
                }
            })?;
            Ok(end - start)
        };
        self.source.unless_changed(stream())
    }
}

/// The file, and whether it stays as it is.
#[derive(Debug)]
struct Source {
    file: File,
    counter: Option<[u8; 4]>,
    /// Keeps a recording from changing it.
    _locked: Option<Locked>,
}

impl Source {
    fn new(file: File) -> Source {
        let locked = Locked::get(&file, LockFor::Reading, PATIENCE);
        Source {
            counter: counter_in_place(&file).ok(),
            file,
            _locked: locked,
        }
    }

    /// What was read; an error where the file was written to meanwhile.
    fn unless_changed<T>(&self, read: Result<T>) -> Result<T> {
        match counter_in_place(&self.file).ok() == self.counter {
            true => read,
            false => Err(Error::Changed),
        }
    }
}

/// Lets nothing in the file do more than be read.
fn distrust(connection: &Connection) -> Result<()> {
    connection.execute_batch(&format!(
        "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA query_only = ON;
         PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0; PRAGMA cache_size = -8192;
         PRAGMA hard_heap_limit = {MAX_HEAP};"
    ))?;
    for (config, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
    ] {
        connection.set_db_config(config, on)?;
    }
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_LENGTH, MAX_ROW),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 1 << 16),
        (Limit::SQLITE_LIMIT_COLUMN, 64),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 32),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 2),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, most)?;
    }
    Ok(())
}

/// Whether each table is made as ours.
fn check_schema(connection: &Connection) -> Result<()> {
    let mut expected = definitions();
    let mut objects = connection.prepare("SELECT type, name, sql FROM sqlite_schema")?;
    let mut rows = objects.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
        let Some(definition) = expected.remove(name.as_str()) else {
            continue;
        };
        let sql: Option<String> = row.get(2)?;
        if kind != "table" || sql.as_deref() != Some(definition) {
            return Err(Error::damaged(format!(
                "its table {name} is not as holdup makes it"
            )));
        }
    }
    match expected.keys().next() {
        Some(name) => Err(Error::damaged(format!("it has no table {name}"))),
        None => Ok(()),
    }
}

fn header(connection: &Connection) -> Result<(Header, End, u64)> {
    let mut all = connection.prepare("SELECT * FROM capture")?;
    let mut rows = all.query([])?;
    let Some(row) = rows.next()? else {
        return Err(Error::damaged("its table capture is empty"));
    };
    let time = |row: &Row<'_>, column: &str| -> Result<u64> {
        let number: u64 = row.get(column)?;
        match number <= MAX_TIME {
            true => Ok(number),
            false => Err(Error::damaged("a time that cannot be")),
        }
    };
    let period: Option<u64> = row.get("sample_period")?;
    let started_at: f64 = row.get("started_at")?;
    if !(0.0..1e11).contains(&started_at) {
        return Err(Error::damaged("a date that cannot be"));
    }
    let header = Header {
        tool: Tool {
            name: row.get("tool")?,
            version: row.get("tool_version")?,
        },
        host: Host {
            kernel: row.get("kernel")?,
            cpus: row.get("cpus")?,
        },
        started_at,
        start: Timestamp(time(row, "start")?),
        min_block: Nanos(time(row, "min_block")?),
        long_poll: Nanos(time(row, "long_poll")?),
        sampling: period.map(|period| Sampling {
            period: Nanos(period.min(MAX_TIME)),
        }),
        calls_measured: row.get("calls_measured")?,
        panics_counted: row.get("panics_counted")?,
    };
    let ended: Option<String> = row.get("ended")?;
    let end = match ended {
        Some(how) if how == COMPLETE => End::Complete,
        Some(why) => End::Early(why),
        None => End::Open,
    };
    Ok((header, end, row.get("dropped_intervals")?))
}
