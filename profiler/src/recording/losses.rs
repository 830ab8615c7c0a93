//! What a recording lacks, counted where it was lost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was lost, by what it means for the report. All zero is a perfect recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Losses {
    /// Records that did not fit into the ring buffer or could not be decoded, and switches that
    /// were not seen.
    pub events: u64,
    /// Waits that are in no sum or have no stack: a table was full.
    pub stacks: u64,
    /// Waits whose stack does not reach the thread's start.
    pub truncated: u64,
    /// Distinct frames without a symbol.
    pub unresolved: u64,
    /// Waits whose state is unknown. A later interval may tell more of a stack, so it is counted when
    /// the intervals are summed up; in an interval it is 0.
    pub unknown_waits: u64,
    /// Finished waits left out of the timeline because it was full; they are in the sums.
    pub timeline: u64,
    /// Waits of which the object is not known, or that were summed without it, because a table or
    /// the ring buffer was full. The waits themselves are not lost.
    #[serde(default)]
    pub objects: u64,
    /// User stacks walked, the whole of which `truncated` is a part.
    pub walked: u64,
    /// Functions without unwinding information that are unwound by what their code was found to do,
    /// in all modules of the targets.
    #[serde(default)]
    pub functions_by_code: u64,
    /// Distinct stacks in which frames were passed by frame pointers alone, as in code made at run time:
    /// those are as good as the code that set the pointers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stacks_by_frame_pointers: u64,
    /// Samples of threads on a CPU that were lost, and long polls beyond those that are kept.
    #[serde(default)]
    pub samples: u64,
    /// Long system calls and panics that were lost.
    #[serde(default)]
    pub calls: u64,
    /// Waits taken for a park that was recognised, of those that were checked, wrongly: never
    /// seen, and a reason to distrust the idle times.
    #[serde(default)]
    pub mistaken_parks: u64,
    /// Finished waits of known threads, by the kernel side's own count.
    #[serde(default)]
    pub waits: u64,
    /// Those of them that are in the sums, and so at some site or idle. The difference was lost to
    /// full tables, see `by_cause`.
    #[serde(default)]
    pub summed: u64,
    /// The same losses and some more, by where they happened.
    #[serde(default)]
    pub by_cause: LossCauses,
    /// What the shadow check found; none where it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowCheck>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Losses {
    /// What was lost since these counts were `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Losses) -> Losses {
        let less = |of: fn(&Losses) -> u64| of(self).saturating_sub(of(earlier));
        Losses {
            events: less(|losses| losses.events),
            stacks: less(|losses| losses.stacks),
            truncated: less(|losses| losses.truncated),
            unresolved: less(|losses| losses.unresolved),
            unknown_waits: less(|losses| losses.unknown_waits),
            timeline: less(|losses| losses.timeline),
            objects: less(|losses| losses.objects),
            walked: less(|losses| losses.walked),
            functions_by_code: less(|losses| losses.functions_by_code),
            stacks_by_frame_pointers: less(|losses| losses.stacks_by_frame_pointers),
            samples: less(|losses| losses.samples),
            calls: less(|losses| losses.calls),
            mistaken_parks: less(|losses| losses.mistaken_parks),
            waits: less(|losses| losses.waits),
            summed: less(|losses| losses.summed),
            by_cause: self.by_cause.since(&earlier.by_cause),
            shadow: self
                .shadow
                .map(|shadow| shadow.since(&earlier.shadow.unwrap_or_default())),
        }
    }

    /// Adds what was lost in the interval that follows.
    pub fn add(&mut self, more: &Losses) {
        let Losses {
            events,
            stacks,
            truncated,
            unresolved,
            unknown_waits,
            timeline,
            objects,
            walked,
            functions_by_code,
            stacks_by_frame_pointers,
            samples,
            calls,
            mistaken_parks,
            waits,
            summed,
            by_cause,
            shadow,
        } = more;
        for (sum, more) in [
            (&mut self.events, events),
            (&mut self.stacks, stacks),
            (&mut self.truncated, truncated),
            (&mut self.unresolved, unresolved),
            (&mut self.unknown_waits, unknown_waits),
            (&mut self.timeline, timeline),
            (&mut self.objects, objects),
            (&mut self.walked, walked),
            (&mut self.functions_by_code, functions_by_code),
            (&mut self.stacks_by_frame_pointers, stacks_by_frame_pointers),
            (&mut self.samples, samples),
            (&mut self.calls, calls),
            (&mut self.mistaken_parks, mistaken_parks),
            (&mut self.waits, waits),
            (&mut self.summed, summed),
        ] {
            *sum = sum.saturating_add(*more);
        }
        self.by_cause.add(by_cause);
        if let Some(more) = shadow {
            self.shadow.get_or_insert_default().add(more);
        }
    }
}

/// Stacks walked a second time, by framehop, on the same registers and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowCheck {
    /// One stack in this many was to be copied.
    pub every: u32,
    /// Stacks copied in the kernel.
    pub copied: u64,
    /// Copies of which all frames were compared.
    pub compared: u64,
    /// Of these the ones that differ: the sites of some waits are wrong.
    pub differing: u64,
    /// Copies that framehop could not unwind to the end, equal as far as it came.
    pub given_up: u64,
    /// Copies that were not compared: a part of them or the walk's own record was lost.
    pub lost: u64,
}

impl ShadowCheck {
    /// What came since these counts were `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &ShadowCheck) -> ShadowCheck {
        ShadowCheck {
            every: self.every,
            copied: self.copied.saturating_sub(earlier.copied),
            compared: self.compared.saturating_sub(earlier.compared),
            differing: self.differing.saturating_sub(earlier.differing),
            given_up: self.given_up.saturating_sub(earlier.given_up),
            // What a lost piece would have belonged to may come yet.
            lost: self.lost.saturating_sub(earlier.lost),
        }
    }

    /// Adds the counts of `more`.
    pub fn add(&mut self, more: &ShadowCheck) {
        let ShadowCheck {
            every,
            copied,
            compared,
            differing,
            given_up,
            lost,
        } = *more;
        self.every = every;
        self.copied = self.copied.saturating_add(copied);
        self.compared = self.compared.saturating_add(compared);
        self.differing = self.differing.saturating_add(differing);
        self.given_up = self.given_up.saturating_add(given_up);
        self.lost = self.lost.saturating_add(lost);
    }
}

macro_rules! causes {
    ($($(#[$doc:meta])* $field:ident: $one:literal, $many:literal, $rest:literal,)*) => {
        /// One counter for each place in which something can be lost.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(default)]
        pub struct LossCauses {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl LossCauses {
            /// What came since these counts were `earlier`.
            #[must_use]
            pub fn since(&self, earlier: &LossCauses) -> LossCauses {
                LossCauses {
                    $($field: self.$field.saturating_sub(earlier.$field),)*
                }
            }

            /// Adds the counts of `more`.
            pub fn add(&mut self, more: &LossCauses) {
                $(self.$field = self.$field.saturating_add(more.$field);)*
            }

            /// Every count, in the order of the flow, with what it counts: said of one and of
            /// several.
            pub fn named(&self) -> impl Iterator<Item = (u64, [&'static str; 2])> {
                [$((self.$field, [concat!($one, " ", $rest), concat!($many, " ", $rest)]),)*]
                    .into_iter()
            }
        }
    };
}

causes! {
    /// Switch-ins that the kernel kept from us and that could not be made up for.
    missed_switch_ins: "switch-in", "switch-ins", "not seen",
    /// Switch-ins of threads that were not seen to switch out.
    missed_switch_outs: "switch-out", "switch-outs", "not seen",
    /// Switches of threads that found no place in the kernel side's thread table.
    thread_table_full: "switch", "switches", "of threads beyond the thread table",
    /// The waits among them: they are in no sum and in no thread's times.
    waits_of_no_thread: "wait", "waits", "of threads beyond the thread table",
    /// Waits whose stack found no place in the kernel side's table; they are in the sums, as
    /// unknown.
    stack_table_full: "wait", "waits", "whose stack found the stack table full",
    /// Wakers are in the report all the same, without what they did.
    waker_stack_table_full: "waker", "wakers", "whose stack found the stack table full",
    /// Waits that are in no sum, only in the thread's times, as unknown.
    aggregate_full: "wait", "waits", "that found the table of sums full",
    /// Stacks whose record found the ring buffer full; sent again with their next wait.
    ring_full_stacks: "stack", "stacks", "that found the ring buffer full",
    /// Waits that are in no timeline since the ring buffer was full; they are in the sums.
    ring_full_waits: "wait", "waits", "that found the ring buffer full",
    /// Ends of threads, execs and snapshots that found the ring buffer full.
    ring_full_other: "other record", "other records", "that found the ring buffer full",
    /// Copies of stacks that found the ring buffer full.
    ring_full_copies: "copy", "copies", "of stacks that found the ring buffer full",
    /// Samples of threads on a CPU that found the ring buffer full.
    ring_full_samples: "sample", "samples", "that found the ring buffer full",
    /// Samples with stacks, and long polls, that were not kept since there were too many.
    samples_left_out: "sample or long poll", "samples and long polls", "beyond those that are kept",
    /// Samples whose stack does not reach the thread's start; they are in the sums.
    samples_truncated: "sample", "samples", "with a stack cut off",
    /// Long system calls that found the ring buffer full.
    ring_full_calls: "long system call", "long system calls", "that found the ring buffer full",
    /// Long system calls whose sums were not kept since there were too many.
    calls_left_out: "long system call", "long system calls", "beyond those that are kept",
    /// Long system calls whose stack does not reach the thread's start; they are in the sums.
    calls_truncated: "long system call", "long system calls", "with a stack cut off",
    /// Panics that found the ring buffer full.
    ring_full_panics: "panic", "panics", "that found the ring buffer full",
    /// Panics whose sums were not kept since there were too many.
    panics_left_out: "panic", "panics", "beyond those that are kept",
    /// Long system calls and panics whose stack found no place in the kernel side's table; they are
    /// in the report, without what they did.
    call_stack_table_full: "long system call or panic", "long system calls or panics", "whose stack found the stack table full",
    /// Records that could not be decoded.
    undecodable: "record", "records", "that could not be decoded",
    /// Walks cut off: deeper than the longest stack kept.
    too_deep: "stack", "stacks", "deeper than the longest one kept",
    /// Walks cut off: code outside every known mapping.
    unmapped: "stack", "stacks", "through code outside every known mapping",
    /// Walks cut off: code without unwinding information.
    no_row: "stack", "stacks", "through code without unwinding information",
    /// Walks cut off: a rule that rows cannot express.
    unsupported: "stack", "stacks", "through a rule that rows cannot express",
    /// Walks cut off: memory that could not be read.
    unreadable: "stack", "stacks", "in memory that could not be read",
    /// Walks cut off: a broken chain of frames.
    no_progress: "stack", "stacks", "with a broken chain of frames",
    /// Threads without a user stack.
    no_stack: "wait", "waits", "of threads without a user stack",
    /// Walks cut off: they would have had too much of a CPU's time.
    too_costly: "stack", "stacks", "whose walk would take too much of a CPU",
    /// Executable mappings of the target beyond those that the kernel side has room for.
    mappings_left_out: "executable mapping", "executable mappings", "beyond the mapping table",
    /// Modules whose unwinding rows found the tables full.
    rows_full: "module", "modules", "whose rows found no room",
    /// Modules beyond those that are read.
    modules_left_out: "module", "modules", "beyond those that are read",
    /// Modules of which no source lines and no inlined functions are known, since reading them would
    /// take too much time or memory.
    lines_left_out: "module", "modules", "whose source lines take too much time or memory",
    /// Modules whose functions are shown by their addresses, since reading their names would take
    /// too much time.
    names_left_out: "module", "modules", "whose names take too much time",
    /// Reads of the target's files and memory that were not waited for any longer: whoever serves
    /// them does not answer.
    reads_given_up: "read", "reads", "given up without an answer",
    /// Intervals that ended while a kernel program seemed to be at work for seconds: what it has
    /// added to their sums since is in none.
    unfinished_cuts: "interval", "intervals", "that ended before a kernel program had",
    /// Stacks that were not kept since there were too many; their waits are of unknown state.
    stacks_left_out: "stack", "stacks", "beyond those that are kept",
    /// Stacks beyond those that are kept whole, of which some callers were left out; state, site, cause
    /// and task of their waits are known.
    stacks_shortened: "stack", "stacks", "without some of their callers, beyond those that are kept whole",
    /// Threads that are summed up with others of their process since there were too many.
    threads_left_out: "thread", "threads", "beyond those that are kept apart",
    /// Waits whose sums were not kept since there were too many in one interval; in the threads'
    /// times, as unknown.
    sums_left_out: "wait", "waits", "whose sums are beyond those that are kept",
    /// Forked processes that were to be watched and found no place.
    processes_left_out: "forked process", "forked processes", "beyond those that are watched, or that nobody was told of",
    /// Waits whose waker was not kept since there were too many.
    wakers_left_out: "waker", "wakers", "beyond those that are kept",
    /// Stretches in which no worker watched sockets and timers, that were not kept since there were too many.
    driver_gaps_left_out: "gap of an I/O driver", "gaps of I/O drivers", "beyond those that are kept",
    /// Finished waits beyond those that the timeline holds.
    timeline_full: "wait", "waits", "beyond the timeline",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_what_was_lost_since_the_one_before() {
        let so_far = |events: u64| Losses {
            events,
            waits: 10 * events,
            by_cause: LossCauses {
                no_row: events,
                ..LossCauses::default()
            },
            shadow: Some(ShadowCheck {
                every: 7,
                copied: 3 * events,
                ..ShadowCheck::default()
            }),
            ..Losses::default()
        };
        let new = so_far(5).since(&so_far(2));
        assert_eq!(new, so_far(3));
        assert_eq!(so_far(2).since(&Losses::default()), so_far(2));
    }
}
