//! The processes of a recording: what each executes, where its code is mapped, whether it lives.

mod programs;

use super::address_map::AddressMap;
use super::made_code::MadeCode;
use super::maps::Meanings;
use super::modules::Modules;
use super::stack_table::Owner;
use super::tail_calls::Code;
use crate::bpf::{MappingTable, Tables, monotonic};
use crate::counted::counted;
use crate::decode::TableVersion;
use crate::process::module::Loader;
use crate::process::{CpuQuota, QuotaUse, Target, status_text};
use crate::recording::{self, ProcessId, Throttling};
use crate::runtime::tokio::{ContextsOfProcess, LoadedTokio, TokioImage, is_understood};
use crate::units::{Addr, Nanos, Pid, Timestamp};
use profiler_common::row::{self, Mapping, Rule};
use std::collections::HashSet;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks at the mappings of a target that runs code we do not know, such as that of
/// a JIT: it grows from the first to the second, so that such a target does not cost us a core.
const UNKNOWN_CODE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(2));

/// Between two looks because of code that the kernel reported to us: the loader maps one library
/// after the other.
const NEW_CODE: Duration = Duration::from_millis(1);

/// A look at the mappings that costs more than [`CHEAP`] is rare: for each part of a second beyond that,
/// [`REST_FOR_COST`] such parts pass before the next one, up to [`MAX_REST`].
const CHEAP: Duration = Duration::from_millis(5);
const REST_FOR_COST: u32 = 10;
const MAX_REST: Duration = Duration::from_secs(2);

/// Between two mapping tables that differ in code made at run time alone.
const FRAMED: Duration = Duration::from_millis(100);

/// Between two questions to the loader where it has put a library's thread-local memory: at first,
/// and then twice as long each time, so many times.
const EARLY: Duration = Duration::from_millis(4);
const MAX_EARLY: u32 = 12;

/// After this long without new code a process counts as settled…
const SETTLED: Duration = Duration::from_millis(100);
/// …and in any case after this long.
const SETTLED_ANYWAY: Duration = Duration::from_secs(1);

/// How long the place of a process that ended is kept: its last thread is still about to leave
/// the CPU for good when we learn of the end.
const REST: Duration = Duration::from_millis(100);

/// So long after a process joined, an exec of the same program is taken for the one that it joined by.
const JOINED_BY_EXEC: Duration = Duration::from_secs(1);

/// Whether a look at a process found the program that was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// It goes on.
    Same,
    /// It executed another one.
    New,
}

/// One process.
#[derive(Debug)]
pub(super) struct TracedProcess {
    /// Its id in the recording.
    pub(super) id: ProcessId,
    /// Its entry on the kernel side.
    pub(super) index: u32,
    pub(super) pid: Pid,
    /// None where it had ended before we could pin it.
    pub(super) target: Option<Arc<Target>>,
    /// The kernel side's view of its mappings.
    pub(super) mappings: Vec<Mapping>,
    /// Of the map that is current; 0 where there is none.
    pub(super) table_version: TableVersion,
    pub(super) table: Option<MappingTable>,
    /// What its addresses have meant since the address epoch began.
    meanings: Meanings,
    pub(super) address_epoch: u32,
    /// The kernel side's count of its execs when the mappings were read.
    pub(super) exec_count: u32,
    /// The program that it executes, see [`Owner::program`].
    pub(super) program: usize,
    /// Where its threads have tokio's contexts.
    pub(super) contexts: ContextsOfProcess,
    /// When the loader was last seen not to be ready with them, and how often.
    early: (Instant, u32),
    /// Its code, as it is in its memory.
    pub(super) code: Code,
    /// The names of code that it made at run time.
    pub(super) made: MadeCode,
    /// What the CPU quota had done when the process was found.
    quota: Option<CpuQuota>,
    /// What it did until the process ended.
    quota_used: Option<QuotaUse>,
    /// The part of it that intervals have.
    quota_told: Throttling,
    /// What is said of it, as far as known.
    pub(super) facts: recording::Process,
    pub(super) start: Timestamp,
    /// The mappings are as they were at this time, at least.
    pub(super) read_at: Timestamp,
    last_look: Instant,
    next_look: Duration,
    /// No look before this time has passed since the last one, which was dear.
    rest: Duration,
    /// When the kernel side was told last that code had been made at run time, and no more.
    framed: Instant,
    /// The last look could not be taken: it had ended.
    pub(super) unreadable: bool,
    /// When its code began to change, and when it last did.
    changed: (Instant, Instant),
    /// Processes that ended before this one began, and are summed up in the same row.
    pub(super) before: u64,
    /// When it began to be recorded, where others were already.
    pub(super) joined: Option<Instant>,
    /// It has executed another program since the last look.
    pub(super) exec: bool,
    /// The kernel reported new code since.
    pub(super) new_code: bool,
    /// A stack left the known mappings since.
    pub(super) unknown_code: bool,
    ended: Option<Instant>,
    /// How it did, once that is known.
    status: Option<ExitStatus>,
    released: bool,
}

impl TracedProcess {
    /// A process that is to be watched, nothing of which has been read yet.
    pub(super) fn new(id: ProcessId, index: u32, target: Arc<Target>) -> TracedProcess {
        let facts = facts(&target);
        TracedProcess {
            code: Code::open(&target),
            quota: CpuQuota::read(&target),
            target: Some(target),
            ..TracedProcess::unread(id, index, facts)
        }
    }

    /// One of which `facts` alone are known.
    fn unread(id: ProcessId, index: u32, facts: recording::Process) -> TracedProcess {
        let now = Instant::now();
        TracedProcess {
            id,
            index,
            pid: facts.pid,
            facts,
            target: None,
            code: Code::default(),
            made: MadeCode::default(),
            quota: None,
            quota_used: None,
            quota_told: no_throttling(),
            mappings: Vec::new(),
            table_version: TableVersion::NONE,
            table: None,
            meanings: Meanings::default(),
            address_epoch: 0,
            exec_count: 0,
            program: usize::MAX,
            contexts: ContextsOfProcess::default(),
            early: (now, 0),
            start: Timestamp(0),
            read_at: Timestamp(0),
            last_look: now,
            framed: now,
            next_look: UNKNOWN_CODE.0,
            rest: Duration::ZERO,
            unreadable: false,
            changed: (now, now),
            before: 0,
            joined: None,
            exec: false,
            new_code: false,
            unknown_code: false,
            ended: None,
            status: None,
            released: false,
        }
    }

    /// Whose its stacks are.
    pub(super) fn owner(&self) -> Owner {
        Owner {
            process: self.id,
            program: self.program,
        }
    }

    /// The rule for an address, by the kernel side's tables; none where nothing is mapped.
    pub(super) fn rule(&self, tables: &&Tables, pc: Addr) -> Option<Rule> {
        let after = self.mappings.partition_point(|m| m.begin <= pc.0);
        let mapping = self.mappings.get(after.checked_sub(1)?)?;
        (pc.0 < mapping.end).then(|| row::find(tables, mapping, pc.0))
    }

    /// Reads the names of code that it made at run time, where some of these addresses are in such code
    /// and have no name.
    pub(super) fn name_made_code(&mut self, addresses: &[Addr]) {
        let Some(target) = self.target.as_ref().filter(|_| self.ended.is_none()) else {
            return;
        };
        let mappings = &self.mappings;
        let is_made = |at: &Addr| {
            let after = mappings.partition_point(|mapping| mapping.begin <= at.0);
            let mapping = after.checked_sub(1).and_then(|at| mappings.get(at));
            mapping.is_some_and(|mapping| at.0 < mapping.end && mapping.has_no_table())
        };
        let made = addresses.iter().copied().filter(is_made);
        self.made.look(target, made);
    }

    /// Whether its mappings are to be read again.
    pub(super) fn wants_look(&self) -> bool {
        let since = self.last_look.elapsed();
        let wanted = self.exec
            || self.new_code && since >= NEW_CODE
            || self.unknown_code && since >= self.next_look
            || self.may_be_loading(since)
            || self.wants_contexts();
        wanted && (self.exec || since >= self.rest) && self.can_be_looked_at()
    }

    /// Whether it joined a moment ago, and is looked at again in any case: it is in the middle of being
    /// loaded then, and news of its next library may have come before we knew it.
    fn may_be_loading(&self, since: Duration) -> bool {
        let joined = self
            .joined
            .is_some_and(|joined| joined.elapsed() < SETTLED_ANYWAY);
        joined && since >= self.next_look
    }

    /// Whether it has mapped code that is to be looked at.
    pub(super) fn has_new_code(&self) -> bool {
        self.new_code && self.last_look.elapsed() >= self.rest && self.can_be_looked_at()
    }

    fn can_be_looked_at(&self) -> bool {
        self.target.is_some() && !self.released
    }

    /// Reads its mappings. None where they cannot be read: it may have ended.
    pub(super) fn look(
        &mut self,
        modules: &mut Modules,
        tables: &mut Tables,
    ) -> Option<(AddressMap, Vec<Mapping>)> {
        let target = self.target.as_ref()?;
        (self.new_code, self.unknown_code) = (false, false);
        self.last_look = Instant::now();
        let now = monotonic();
        let found = modules.update(target, tables);
        self.rest = rest_after(modules.last_cost());
        match found {
            // What is left of a process that has ended maps nothing.
            Ok((_, mappings)) if mappings.is_empty() && target.ended() => {
                self.unreadable = true;
                None
            }
            Ok(found) => {
                self.read_at = now;
                Some(found)
            }
            Err(error) => {
                self.unreadable = true;
                tracing::debug!(
                    "the mappings of process {} cannot be read: {error}",
                    self.pid
                );
                None
            }
        }
    }

    /// Whether the kernel side is to be told of code that was made at run time, by a look that found
    /// nothing else new. Not too often: such code may come and go all the time.
    pub(super) fn made_code(&mut self, mappings: &[Mapping]) -> bool {
        let due = self.mappings != mappings && self.framed.elapsed() >= FRAMED;
        if due {
            self.framed = Instant::now();
        }
        due
    }

    /// A look found what was known: what is not mapped by a file never will be.
    pub(super) fn found_nothing_new(&mut self, modules: &Modules, map: &AddressMap) {
        self.next_look = (self.next_look * 2).min(UNKNOWN_CODE.1);
        if self.contexts.is_early {
            self.early.1 += 1;
            self.find_contexts(modules, map);
        }
    }

    /// A look found something: a new map of its addresses, of another program where it is `new`.
    pub(super) fn found(&mut self, modules: &Modules, map: &AddressMap, program: Program) {
        let new = program == Program::New;
        if new {
            self.meanings = Meanings::default();
        }
        if self.meanings.learn(map) || new {
            self.address_epoch = self.address_epoch.wrapping_add(1);
        }
        self.next_look = UNKNOWN_CODE.0;
        self.code.forget();
        let now = Instant::now();
        if self.is_settled() {
            self.changed.0 = now;
        }
        self.changed.1 = now;
        let Some(target) = &self.target else { return };
        let exe = modules.of_exe(target, map);
        self.program = exe.unwrap_or(usize::MAX);
        self.early.1 = 0;
        self.find_contexts(modules, map);
        let exe = exe.and_then(|exe| modules.get(exe)?.facts.as_ref());
        let facts = &mut self.facts;
        facts.build_id = exe.and_then(|exe| exe.build_id.clone());
        facts.has_symbols = exe.is_some_and(|exe| exe.has_symtab);
        facts.has_lines = exe.is_some_and(|exe| exe.has_debug_lines);
        let images = || {
            let modules = map.modules().filter_map(|module| modules.get(module));
            modules.map(|module| &module.tokio)
        };
        // What is said of the runtimes is of those that are understood.
        let versions = || images().flat_map(|image| &image.versions);
        let understood = versions().find(|version| is_understood(version));
        facts.tokio_version = understood.or_else(|| versions().next()).cloned();
        let old = images().find_map(TokioImage::not_understood);
        facts.tokio.not_understood = old.map(str::to_owned);
        // What was there and is unmapped by now was there all the same.
        facts.tokio.present |= images().any(|image| image.present);
    }

    /// Finds tokio's contexts, in the executable and in libraries.
    pub(super) fn find_contexts(&mut self, modules: &Modules, map: &AddressMap) {
        if !self.code.is_open() {
            // A process that was forked has its parent's until we have pinned it.
            return;
        }
        let mut musl = false;
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for (_, bias, number) in map.regions() {
            let Some(module) = modules.get(number).filter(|_| seen.insert(number)) else {
                continue;
            };
            let name = &module.source.name;
            musl |= name.starts_with("ld-musl") || name.starts_with("libc.musl");
            let is_executable = number == self.program;
            if module.tokio.present {
                found.push(LoadedTokio {
                    name,
                    image: &module.tokio,
                    thread_local: module.facts.as_ref().and_then(|facts| facts.thread_local),
                    bias,
                    is_executable,
                });
            }
        }
        // Its place is asked first, at every switch.
        found.sort_by_key(|module| !module.is_executable);
        let loader = if musl { Loader::Musl } else { Loader::Glibc };
        self.contexts = ContextsOfProcess::find(found, loader, &self.code);
        self.early.0 = Instant::now();
        self.facts
            .tokio
            .without_context
            .clone_from(&self.contexts.missing);
    }

    /// Whether the loader should be asked again where it has put libraries' thread-local memory:
    /// it maps them first. The more often it was not ready, the later.
    fn wants_contexts(&self) -> bool {
        let (last, tries) = self.early;
        let wait = EARLY.saturating_mul(1 << tries.min(MAX_EARLY));
        self.contexts.is_early && tries < MAX_EARLY && last.elapsed() >= wait
    }

    /// Whether its stacks may be named. Reading the names of a library takes long, and while a
    /// program is loaded there is something more urgent: where its next library is.
    fn is_settled(&self) -> bool {
        let (first, last) = self.changed;
        last.elapsed() >= SETTLED || first.elapsed() >= SETTLED_ANYWAY || self.ended.is_some()
    }

    /// Whether it is being loaded, or has mapped code that we have not looked at.
    pub(super) fn is_loading(&self) -> bool {
        let wants = self.has_new_code() || self.exec && self.target.is_some();
        !self.is_settled() || wants && self.ended.is_none()
    }

    /// Whether it joined so short a time ago that the exec by which it did may have been told of only
    /// now: the new program's first mappings come before that.
    fn joined_just_now(&self) -> bool {
        let joined = self.joined.map(|joined| joined.elapsed());
        joined.is_some_and(|since| since < JOINED_BY_EXEC)
    }

    /// Whether it has ended; asks the kernel.
    pub(super) fn has_ended(&mut self) -> bool {
        if self.ended.is_none() && self.target.as_ref().is_some_and(|target| target.ended()) {
            self.ended = Some(Instant::now());
            self.quota_used = self.quota_use();
        }
        if self.ended.is_some() && self.status.is_none() {
            // Between its end and the moment at which it is waited for some kernels do not say.
            let target = self.target.as_ref();
            self.status = target.and_then(|target| target.exit_status());
            self.facts.ended = Some(self.how_it_ended());
        }
        self.ended.is_some()
    }

    fn how_it_ended(&self) -> String {
        let ended = status_text(self.status);
        match self.before {
            0 => ended,
            before => {
                let before = counted(before, "process", "processes");
                format!("{ended}, with {before} before it summed up here")
            }
        }
    }

    /// The program that it executed at first.
    pub(super) fn first_exe(&self) -> &str {
        self.facts.earlier.first().unwrap_or(&self.facts.exe)
    }

    fn quota_use(&self) -> Option<QuotaUse> {
        let so_far = || self.quota.as_ref().and_then(CpuQuota::since);
        self.quota_used.clone().or_else(so_far)
    }

    /// What the CPU quota did to it since this was asked before, where its control group has one.
    pub(super) fn take_throttling(&mut self) -> Option<Throttling> {
        if self.released && self.quota_used.is_none() {
            return None;
        }
        let used = self.quota_use()?;
        if self.released {
            self.quota_used = None;
        }
        let told = &mut self.quota_told;
        let new = Throttling {
            group: used.group.clone(),
            periods: used.periods.saturating_sub(told.periods),
            throttled_periods: used
                .throttled_periods
                .saturating_sub(told.throttled_periods),
            throttled: used.throttled.saturating_sub(told.throttled),
        };
        *told = Throttling {
            group: used.group,
            periods: used.periods,
            throttled_periods: used.throttled_periods,
            throttled: used.throttled,
        };
        Some(new)
    }

    /// Whether its place on the kernel side is to be given up now; says so once.
    pub(super) fn release(&mut self) -> bool {
        let due = !self.released && self.ended.is_some_and(|ended| ended.elapsed() >= REST);
        self.released |= due;
        if due {
            // Of its memory, nothing is left.
            self.code = Code::default();
            self.mappings = Vec::new();
            self.meanings = Meanings::default();
            self.quota = None;
        }
        due
    }

    pub(super) fn is_released(&self) -> bool {
        self.released
    }

    /// As though it had ended and its place had been given up.
    #[cfg(test)]
    pub(super) fn release_for_test(&mut self) {
        self.released = true;
    }

    /// Whether its end was noted.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.is_some()
    }
}

/// How long no other look may follow one that cost so much.
fn rest_after(cost: Duration) -> Duration {
    let rest = cost.saturating_sub(CHEAP).saturating_mul(REST_FOR_COST);
    rest.min(MAX_REST)
}

const fn no_throttling() -> Throttling {
    Throttling {
        group: String::new(),
        periods: 0,
        throttled_periods: 0,
        throttled: Nanos::ZERO,
    }
}

/// What a process tells of itself, without a look at its code.
fn facts(target: &Target) -> recording::Process {
    recording::Process {
        exe: String::from_utf8_lossy(target.exe()).into_owned(),
        cmdline: target.cmdline_text(),
        ..recording::Process::unknown(target.pid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_are_dear_are_rare() {
        let rest = |millis| rest_after(Duration::from_millis(millis)).as_millis();
        assert_eq!([1, 5, 6, 25, 105].map(rest), [0, 0, 10, 200, 1000]);
        assert_eq!(rest(60_000), 2000);
    }

    #[test]
    fn news_of_code_waits_for_the_rest_after_a_dear_look_and_an_exec_does_not() {
        let own = Target::open(Pid(std::process::id())).expect("we live");
        let mut process = TracedProcess::new(ProcessId(0), 0, Arc::new(own));
        process.new_code = true;
        process.last_look = Instant::now() - Duration::from_millis(100);
        assert!(process.wants_look() && process.has_new_code());
        process.rest = Duration::from_secs(60);
        assert!(!process.wants_look() && !process.has_new_code());
        process.exec = true;
        assert!(process.wants_look());
    }
}
