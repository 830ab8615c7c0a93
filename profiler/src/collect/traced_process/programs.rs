//! What a process executes: its parent's program after a fork, and another one after an exec.

use super::{TracedProcess, facts};
use crate::collect::births::began_at;
use crate::collect::made_code::MadeCode;
use crate::collect::tail_calls::Code;
use crate::process::{CpuQuota, Target};
use crate::recording::{self, ProcessId, TokioFacts};
use crate::units::{Pid, Timestamp};
use std::sync::Arc;
use std::time::Instant;

impl TracedProcess {
    /// A process that this one has forked, with a copy of its memory. It is to be pinned yet.
    pub(in crate::collect) fn child(
        &self,
        id: ProcessId,
        index: u32,
        pid: Pid,
        start: Timestamp,
    ) -> TracedProcess {
        let facts = recording::Process {
            pid,
            parent: Some(self.pid),
            ended: None,
            earlier: Vec::new(),
            panic_probes: None,
            ..self.facts.clone()
        };
        TracedProcess {
            mappings: self.mappings.clone(),
            table_version: self.table_version,
            table: self.table,
            meanings: self.meanings.clone(),
            address_epoch: self.address_epoch,
            exec_count: self.exec_count,
            program: self.program,
            contexts: self.contexts.clone(),
            early: self.early,
            read_at: self.read_at,
            start,
            // So that it comes to have a table of its own.
            new_code: true,
            ..TracedProcess::unread(id, index, facts)
        }
    }

    /// Pins a process that was forked, if it is not yet.
    pub(in crate::collect) fn pin(&mut self) {
        if self.target.is_some() || self.ended.is_some() {
            return;
        }
        match Target::open(self.pid) {
            // By its number: another may have it by now.
            Ok(target) if began_at(&target, self.start) => {
                self.facts.cmdline = target.cmdline_text();
                if String::from_utf8_lossy(target.exe()) != self.facts.exe {
                    self.left_its_program();
                }
                self.code = Code::open(&target);
                self.quota = CpuQuota::read(&target);
                self.target = Some(Arc::new(target));
            }
            Ok(_) => self.has_vanished(),
            Err(error) => {
                tracing::debug!("process {} is not pinned: {error}", self.pid);
                if !Target::lives(self.pid) {
                    self.has_vanished();
                }
            }
        }
    }

    fn has_vanished(&mut self) {
        self.ended = Some(Instant::now());
        self.unreadable = true;
    }

    /// Learns which program it executes by now.
    pub(in crate::collect) fn became_another(&mut self) {
        let Some(target) = &self.target else { return };
        match target.reopen() {
            Ok(target) => {
                let before = self.facts.clone();
                // Who was forked had its parent's program for a moment, and none of its threads.
                let tokio = TokioFacts {
                    present: before.tokio.present && before.parent.is_none(),
                    ..TokioFacts::default()
                };
                self.facts = recording::Process {
                    tokio,
                    parent: before.parent,
                    earlier: before.earlier,
                    panic_probes: before.panic_probes,
                    ..facts(&target)
                };
                if before.exe != self.facts.exe || !self.joined_just_now() {
                    self.facts.earlier.push(before.exe);
                }
                self.code = Code::open(&target);
                self.made = MadeCode::default();
                self.target = Some(Arc::new(target));
            }
            Err(error) => {
                tracing::debug!("process {} after its exec: {error}", self.pid);
                if self.facts.parent.is_some() {
                    self.left_its_program();
                }
            }
        }
    }

    /// What it executes is not known yet, only that it is not its parent's program any more.
    fn left_its_program(&mut self) {
        self.facts.tokio = TokioFacts::default();
        self.facts.tokio_version = None;
    }
}
