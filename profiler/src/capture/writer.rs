//! A capture as it is written: one transaction an interval.

use super::commit::{CommitStore, Failure};
use super::error::{Error, Result};
use super::news::News;
use super::pages::PAGE_BYTES;
use super::rows::Rows;
use super::schema::{APPLICATION_ID, BY_INTERVAL, TABLES, VERSION, VIEW};
use super::vfs::Opened;
use super::words::number;
use crate::recording::{Header, Interval};
use crate::units::{Nanos, Timestamp};
use rusqlite::{Connection, OpenFlags, params};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek as _};

/// What stands under `capture.ended` of a recording that came to its end.
pub(super) const COMPLETE: &str = "complete";

/// Statements kept ready; there are fewer.
const STATEMENTS: usize = 64;

/// What a capture may have at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the file.
    pub max_size: Option<u64>,
    /// How far the intervals go back.
    pub keep: Option<Nanos>,
}

/// An interval that is in the file.
#[derive(Clone, Copy, Debug)]
struct Written {
    id: i64,
    ended: Timestamp,
    /// The ids of its last rows, as in [`BY_INTERVAL`].
    last: [i64; BY_INTERVAL.len()],
}

/// What is in a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// From the first instant to the last.
    pub length: Nanos,
    /// Intervals that were taken out again, see [`Bounds`].
    pub dropped: u64,
    /// Their length.
    pub dropped_length: Nanos,
}

/// Writes a capture.
#[derive(Debug)]
pub struct Writer {
    opened: Opened,
    failure: Failure,
    file: File,
    bounds: Bounds,
    start: Timestamp,
    rows: Rows,
    /// Those that are in the file, oldest first.
    written: VecDeque<Written>,
    /// When the first one of them begins.
    begins: Timestamp,
    next: i64,
    dropped: u64,
    /// Those that the last transaction took out, oldest first.
    taken_out: Vec<Written>,
}

impl Writer {
    /// Begins a capture in `file`, which is empty, readable and writable. When this returns, the file
    /// is a capture without intervals.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn create(file: File, header: &Header, bounds: Bounds) -> Result<Writer> {
        let cannot = |error| Error::Write("it cannot be written".into(), Some(error));
        let copy = file.try_clone().map_err(cannot)?;
        let failure = Failure::default();
        let store = Box::new(CommitStore::new(file, failure.clone()));
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let opened = Opened::new(store, flags).map_err(|error| failed(&failure, error))?;
        let mut writer = Writer {
            opened,
            failure,
            file: copy,
            bounds,
            start: header.start,
            rows: Rows::new(header.start),
            written: VecDeque::new(),
            taken_out: Vec::new(),
            begins: header.start,
            next: 0,
            dropped: 0,
        };
        let set = writer.set_up();
        set.map_err(|error| failed(&writer.failure, error))?;
        writer.transaction(|writer| writer.begin(header))?;
        Ok(writer)
    }

    /// The undo information is kept in memory: see [`super::pages`] for what that means. A transaction
    /// is written when SQLite syncs, which it does at the end of each.
    fn set_up(&self) -> rusqlite::Result<()> {
        let connection = self.opened.connection()?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.execute_batch(
            "PRAGMA page_size = 4096; PRAGMA journal_mode = MEMORY; PRAGMA synchronous = NORMAL;
             PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = OFF;",
        )
    }

    fn begin(&mut self, header: &Header) -> rusqlite::Result<()> {
        let connection = self.opened.connection()?;
        connection.pragma_update(None, "application_id", APPLICATION_ID.cast_signed())?;
        connection.pragma_update(None, "user_version", VERSION)?;
        for (_, table) in TABLES {
            connection.execute(table, [])?;
        }
        connection.execute(VIEW, [])?;
        // Every field by name: a new one must not be forgotten here.
        let Header {
            tool,
            host,
            started_at,
            start,
            min_block,
            long_poll,
            sampling,
            calls_measured,
            panics_counted,
        } = header;
        connection.execute(
            "INSERT INTO capture VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, NULL, 0, NULL)",
            params![
                tool.name,
                tool.version,
                host.kernel,
                host.cpus,
                started_at,
                number(start.0),
                number(min_block.0),
                number(long_poll.0),
                sampling.map(|sampling| number(sampling.period.0)),
                calls_measured,
                panics_counted,
            ],
        )?;
        Ok(())
    }

    /// Appends the interval that follows, with what is new in the tables that it names.
    ///
    /// # Errors
    /// Where it does not fit or cannot be written. The intervals before it stay; nothing can be
    /// appended any more.
    pub fn append(&mut self, news: &News, interval: &Interval) -> Result<()> {
        self.appending(|writer| writer.append_rows(news, interval))?;
        self.check_size()
    }

    /// Appends the last interval, and says that it is the last one.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn finish(&mut self, news: &News, interval: &Interval) -> Result<()> {
        self.appending(|writer| {
            writer.append_rows(news, interval)?;
            writer.set_ended(COMPLETE)
        })?;
        let cannot = |error| Error::Write("it may not be on the disk".into(), Some(error));
        self.file.sync_data().map_err(cannot)
    }

    /// Says why the capture ends before the recording does, as far as that can be written.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn end_early(&mut self, why: &str) -> Result<()> {
        self.transaction(|writer| writer.set_ended(why))
    }

    /// Copies the capture, as it is now, to an empty file. The copy is one that came to its end, unless this
    /// one ended early.
    ///
    /// # Errors
    /// Where either file cannot be written or read.
    pub fn copy(&mut self, to: &File) -> Result<()> {
        let before = self.ended()?;
        if before.is_none() {
            self.transaction(|writer| writer.set_ended(COMPLETE))?;
        }
        let copied = self.copy_file(to);
        if before.is_none() {
            self.transaction(|writer| {
                let connection = writer.opened.connection()?;
                connection.execute("UPDATE capture SET ended = NULL", [])?;
                Ok(())
            })?;
        }
        copied.map_err(|error| Error::Write("it cannot be copied".into(), Some(error)))
    }

    /// Between two transactions nothing is in the file but the database; see [`super::pages`].
    fn copy_file(&self, mut to: &File) -> io::Result<()> {
        // The pages are written and read at given places: where the file stands is nobody else's concern.
        let mut from = &self.file;
        from.rewind()?;
        io::copy(&mut from, &mut to)?;
        Ok(())
    }

    fn ended(&self) -> Result<Option<String>> {
        let ask = || {
            let connection = self.opened.connection()?;
            connection.query_row("SELECT ended FROM capture", [], |row| row.get(0))
        };
        ask().map_err(|error| failed(&self.failure, error))
    }

    /// What is in the file.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let end = self.written.back().map_or(self.begins, |last| last.ended);
        Summary {
            length: end - self.begins,
            dropped: self.dropped,
            dropped_length: self.begins - self.start,
        }
    }

    fn append_rows(&mut self, news: &News, interval: &Interval) -> rusqlite::Result<()> {
        self.drop_oldest(interval.end)?;
        if self.written.is_empty() {
            self.begins = interval.start;
        }
        let connection = self.opened.connection()?;
        self.rows.news(connection, news)?;
        let id = self.next;
        self.rows.interval(connection, id, interval)?;
        self.next += 1;
        self.written.push_back(Written {
            id,
            ended: interval.end,
            last: self.rows.last(),
        });
        Ok(())
    }

    /// Takes out the oldest intervals where there are too many. The last one stays.
    fn drop_oldest(&mut self, now: Timestamp) -> rusqlite::Result<()> {
        let before = self.dropped;
        while let Some(oldest) = self.written.front().copied() {
            let is_old = self
                .bounds
                .keep
                .is_some_and(|keep| now - oldest.ended >= keep);
            if !is_old && (self.written.len() < 2 || !self.is_filling_up()?) {
                break;
            }
            let connection = self.opened.connection()?;
            for (table, last) in BY_INTERVAL.iter().zip(oldest.last) {
                let sql = format!("DELETE FROM {table} WHERE id <= ?1");
                connection.prepare_cached(&sql)?.execute([last])?;
            }
            let mut intervals = connection.prepare_cached("DELETE FROM intervals WHERE id = ?1")?;
            intervals.execute([oldest.id])?;
            self.written.pop_front();
            self.taken_out.push(oldest);
            self.begins = oldest.ended;
            self.dropped += 1;
        }
        if self.dropped > before {
            let connection = self.opened.connection()?;
            let mut capture = connection
                .prepare_cached("UPDATE capture SET dropped_intervals = ?1, dropped_until = ?2")?;
            let until = number((self.begins - self.start).0);
            capture.execute([number(self.dropped), until])?;
        }
        Ok(())
    }

    /// Whether the pages in use take most of the room. A quarter is left for the interval that comes,
    /// and for what a transaction writes behind the end.
    fn is_filling_up(&self) -> rusqlite::Result<bool> {
        let Some(max) = self.bounds.max_size else {
            return Ok(false);
        };
        let connection = self.opened.connection()?;
        let used =
            pages(connection, "page_count")?.saturating_sub(pages(connection, "freelist_count")?);
        Ok(used.saturating_mul(PAGE_BYTES) > max / 4 * 3)
    }

    /// Whether the file is still within its bounds: names are never taken out.
    fn check_size(&self) -> Result<()> {
        let Some(max) = self.bounds.max_size else {
            return Ok(());
        };
        let connection = self
            .opened
            .connection()
            .map_err(|e| failed(&self.failure, e))?;
        let all = pages(connection, "page_count").map_err(|e| failed(&self.failure, e))?;
        if all.saturating_mul(PAGE_BYTES) > max {
            return Err(Error::Write(
                "--max-size leaves no room for the next second".into(),
                None,
            ));
        }
        Ok(())
    }

    fn set_ended(&self, how: &str) -> rusqlite::Result<()> {
        let connection = self.opened.connection()?;
        connection.execute("UPDATE capture SET ended = ?1", [how])?;
        Ok(())
    }

    /// As [`Writer::transaction`]. Where it fails, what is known of the file is what was known before, too.
    fn appending(&mut self, act: impl FnOnce(&mut Writer) -> rusqlite::Result<()>) -> Result<()> {
        let before = (self.begins, self.next, self.dropped);
        self.taken_out.clear();
        let done = self.transaction(act);
        if done.is_err() {
            if self.next > before.1 {
                self.written.pop_back();
            }
            for oldest in std::mem::take(&mut self.taken_out).into_iter().rev() {
                self.written.push_front(oldest);
            }
            (self.begins, self.next, self.dropped) = before;
        }
        done
    }

    /// Does something as a whole or not at all.
    fn transaction(&mut self, act: impl FnOnce(&mut Writer) -> rusqlite::Result<()>) -> Result<()> {
        let done = self.run("BEGIN IMMEDIATE").and_then(|()| act(self));
        let done = done.and_then(|()| self.run("COMMIT"));
        done.map_err(|error| {
            let failed = failed(&self.failure, error);
            // SQLite may have done so itself.
            let _ = self.run("ROLLBACK");
            failed
        })
    }

    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.opened.connection()?.execute_batch(sql)
    }
}

fn pages(connection: &Connection, pragma: &str) -> rusqlite::Result<u64> {
    connection.pragma_query_value(None, pragma, |row| row.get(0))
}

/// The error of the file where there was one, else SQLite's.
fn failed(failure: &Failure, error: rusqlite::Error) -> Error {
    match failure.take() {
        Some(error) => Error::Write("it cannot be written".into(), Some(error)),
        None => Error::Write(format!("it cannot be written: {error}"), None),
    }
}
