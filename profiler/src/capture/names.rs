//! The tables of names of a capture, as they are read.

use super::error::{Error, Result};
use super::limits::{
    MAX_FRAMES, MAX_OBJECTS, MAX_PROCESSES, MAX_STACK_FRAMES, MAX_STACKS, MAX_THREADS, MAX_WAKERS,
    Sum, Text, at_most,
};
use super::words::{from_json, role, variant};
use crate::recording::{
    Object, ObjectKind, Process, ProcessId, Stack, Tables, ThreadId, TokioFacts, WaitObject, Waker,
};
use crate::runtime::tokio::RuntimeHandle;
use crate::runtime::{Classification, RuleName};
use crate::symbolize::{Frame, FrameRef, ModulePlace};
use crate::units::{Addr, Pid, Svma, Tid};
use rusqlite::{Connection, Row};
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::sync::Arc;

/// Rules that a capture may name: they are kept for good.
const MAX_RULES: usize = 256;

/// What the intervals name.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) tables: Tables,
    /// By the ids that the capture has of them.
    pub(super) threads: Vec<ThreadId>,
}

/// Reads all tables of names.
pub(super) fn read(connection: &Connection) -> Result<Names> {
    let mut reader = Reader::default();
    let mut names = Names::default();
    let tables = &mut names.tables;
    each_row(connection, "processes", MAX_PROCESSES, |row| {
        tables.processes.push(reader.process(row)?);
        Ok(())
    })?;
    let processes = tables.processes.len();
    each_row(connection, "threads", MAX_THREADS, |row| {
        let thread = ThreadId {
            process: ProcessId(index(row, "process", processes)?),
            tid: Tid(row.get("tid")?),
        };
        if let Some(name) = reader.maybe_text(row, "name")? {
            tables.thread_names.insert(thread, name);
        }
        names.threads.push(thread);
        Ok(())
    })?;
    let mut frames: Vec<FrameRef> = Vec::new();
    each_row(connection, "frames", MAX_FRAMES, |row| {
        frames.push(reader.frame(row)?.into());
        Ok(())
    })?;
    each_row(connection, "stacks", MAX_STACKS, |row| {
        tables.stacks.push(reader.stack(row, processes, &frames)?);
        Ok(())
    })?;
    each_row(connection, "objects", MAX_OBJECTS, |row| {
        tables.objects.push(reader.object(row)?);
        Ok(())
    })?;
    each_row(connection, "wakers", MAX_WAKERS, |row| {
        tables.wakers.push(Waker {
            pid: Pid(row.get("pid")?),
            tid: Tid(row.get("tid")?),
            name: reader.text(row, "name")?,
        });
        Ok(())
    })?;
    Ok(names)
}

/// Reads a table whose ids count from 0 on.
fn each_row(
    connection: &Connection,
    table: &str,
    most: usize,
    mut read: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<()> {
    let mut all = connection.prepare(&format!("SELECT * FROM {table} ORDER BY id"))?;
    let mut rows = all.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let id: usize = row.get("id")?;
        if id != count {
            return Err(Error::damaged(format!(
                "rows of its table {table} are missing"
            )));
        }
        count += 1;
        at_most(count, most, table)?;
        read(row)?;
    }
    Ok(())
}

/// An index into a table of `len` rows.
fn index(row: &Row<'_>, column: &str, len: usize) -> Result<u32> {
    let index: u32 = row.get(column)?;
    match (index as usize) < len {
        true => Ok(index),
        false => Err(Error::damaged(format!("a {column} that is not there"))),
    }
}

/// Reads rows, and keeps equal texts once.
#[derive(Debug, Default)]
struct Reader {
    texts: HashSet<Arc<str>>,
    len: Text,
    rules: HashSet<Arc<str>>,
    stack_frames: usize,
    many: Sum,
}

impl Reader {
    fn kept(&mut self, text: &str) -> Result<Arc<str>> {
        if let Some(known) = self.texts.get(text) {
            return Ok(Arc::clone(known));
        }
        self.len.add(text.len())?;
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        Ok(text)
    }

    fn text(&mut self, row: &Row<'_>, column: &str) -> Result<Arc<str>> {
        self.kept(text(row, column)?)
    }

    fn maybe_text(&mut self, row: &Row<'_>, column: &str) -> Result<Option<Arc<str>>> {
        let text = row.get_ref(column)?.as_str_or_null();
        let text = text.map_err(|error| Error::damaged(error.to_string()))?;
        text.map(|text| self.kept(text)).transpose()
    }

    /// A text of its own.
    fn string(&mut self, row: &Row<'_>, column: &str) -> Result<String> {
        let text = text(row, column)?;
        self.len.add(text.len())?;
        Ok(text.to_owned())
    }

    fn maybe_string(&mut self, row: &Row<'_>, column: &str) -> Result<Option<String>> {
        let text: Option<String> = row.get(column)?;
        self.len.add(text.as_ref().map_or(0, String::len))?;
        Ok(text)
    }

    fn json<T: DeserializeOwned>(&mut self, row: &Row<'_>, column: &str) -> Result<T> {
        let text = text(row, column)?;
        self.len.add(text.len())?;
        from_json(text)
    }

    fn process(&mut self, row: &Row<'_>) -> Result<Process> {
        let parent: Option<u32> = row.get("parent")?;
        let tokio: TokioFacts = self.json(row, "tokio")?;
        let probes = self.maybe_string(row, "panic_probes")?;
        Ok(Process {
            pid: Pid(row.get("pid")?),
            exe: self.string(row, "exe")?,
            build_id: self.maybe_string(row, "build_id")?,
            cmdline: self.json(row, "cmdline")?,
            tokio_version: self.maybe_string(row, "tokio_version")?,
            tokio,
            parent: parent.map(Pid),
            earlier: self.json(row, "earlier")?,
            ended: self.maybe_string(row, "ended")?,
            has_symbols: row.get("has_symbols")?,
            has_lines: row.get("has_lines")?,
            panic_probes: probes.map(|text| from_json(&text)).transpose()?,
        })
    }

    fn frame(&mut self, row: &Row<'_>) -> Result<Frame> {
        let address: i64 = row.get("address")?;
        let start: Option<i64> = row.get("function_start")?;
        let svma: Option<i64> = row.get("module_address")?;
        let build_id = self.maybe_text(row, "build_id")?;
        let place = build_id.zip(svma).map(|(build_id, svma)| ModulePlace {
            build_id,
            svma: Svma(svma.cast_unsigned()),
        });
        Ok(Frame {
            function: self.text(row, "function")?,
            space: variant(text(row, "space")?)?,
            naming: variant(text(row, "naming")?)?,
            origin: variant(text(row, "origin")?)?,
            inlined: row.get("inlined")?,
            file: self.maybe_text(row, "file")?,
            line: row.get("line")?,
            module: self.maybe_text(row, "module")?,
            address: Addr(address.cast_unsigned()),
            start: start.map(|start| Svma(start.cast_unsigned())),
            place,
        })
    }

    fn stack(&mut self, row: &Row<'_>, processes: usize, frames: &[FrameRef]) -> Result<Stack> {
        let user = self.frames(row, "frames", frames)?;
        let truncated = row.get_ref("truncated")?.as_str_or_null();
        let stopped_by = row.get_ref("stopped_by")?.as_str_or_null();
        let failed = |error: rusqlite::types::FromSqlError| Error::damaged(error.to_string());
        let runtime: Option<i64> = row.get("runtime")?;
        let args: Option<String> = row.get("args")?;
        let class = Classification {
            state: variant(text(row, "state")?)?,
            role: role(text(row, "role")?)?,
            rule: self.rule(row)?,
            frame: row.get("deciding_frame")?,
            task_frame: row.get("task_frame")?,
        };
        let pointer_steps: u32 = row.get("pointer_steps")?;
        Ok(Stack {
            process: ProcessId(index(row, "process", processes)?),
            frames: user,
            kernel: self.frames(row, "kernel_frames", frames)?,
            truncated: truncated.map_err(failed)?.map(variant).transpose()?,
            pointer_steps,
            syscall: row.get("syscall")?,
            args: args.map(|args| from_json(&args)).transpose()?,
            runtime: runtime.map(|handle| RuntimeHandle(Addr(handle.cast_unsigned()))),
            stopped_by: stopped_by.map_err(failed)?.map(variant).transpose()?,
            class,
        })
    }

    /// A rule's name stays in memory for good.
    fn rule(&mut self, row: &Row<'_>) -> Result<RuleName> {
        let name = text(row, "rule")?;
        if !self.rules.contains(name) {
            if name.len() > 64 {
                return Err(Error::damaged("a rule that cannot be"));
            }
            at_most(self.rules.len() + 1, MAX_RULES, "rules")?;
            self.rules.insert(name.into());
        }
        RuleName::of(name).ok_or_else(|| Error::damaged("a rule that cannot be"))
    }

    fn frames(&mut self, row: &Row<'_>, column: &str, all: &[FrameRef]) -> Result<Vec<FrameRef>> {
        let list: Vec<u32> = from_json(text(row, column)?)?;
        self.stack_frames = self.stack_frames.saturating_add(list.len());
        at_most(self.stack_frames, MAX_STACK_FRAMES, "frames of stacks")?;
        let frame = |id: u32| all.get(id as usize).map(Arc::clone);
        let frames: Option<Vec<FrameRef>> = list.into_iter().map(frame).collect();
        frames.ok_or_else(|| Error::damaged("a frame that is not there"))
    }

    fn object(&mut self, row: &Row<'_>) -> Result<WaitObject> {
        let many: u32 = row.get("many")?;
        self.many.add(many.into())?;
        let kind: ObjectKind = variant(text(row, "kind")?)?;
        let name = self.string(row, "name")?;
        Ok(WaitObject {
            object: Object { kind, name },
            fd: row.get("fd")?,
            many,
        })
    }
}

/// A text, which is not null.
fn text<'a>(row: &'a Row<'_>, column: &str) -> Result<&'a str> {
    let value = row.get_ref(column)?;
    value
        .as_str()
        .map_err(|error| Error::damaged(error.to_string()))
}
