//! Who ended the waits of a site.

use super::location::waker_location;
use super::whole::Whole;
use crate::recording::{Process, StackId, Waker, is_holdup};
use crate::report::WakerTotal;
use crate::units::Pid;
use std::collections::HashMap;
use std::sync::Arc;

/// What makes wakers the same to a reader.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct WakerKey {
    pid: Pid,
    thread: Arc<str>,
    function: Option<Arc<str>>,
    file: Option<Arc<str>>,
    line: Option<u32>,
    call: Option<Arc<str>>,
}

impl WakerKey {
    fn of(whole: &Whole<'_>, waker: &Waker, stack: Option<StackId>) -> WakerKey {
        let location = stack
            .and_then(|id| whole.tables.stack(id))
            .filter(|stack| !stack.frames.is_empty())
            .map(waker_location);
        let (function, file, line, call) = match location {
            Some(location) => (
                Some(location.function),
                location.file,
                location.line,
                Some(location.wait),
            ),
            None => (None, None, None, None),
        };
        WakerKey {
            pid: waker.pid,
            thread: waker.name.clone(),
            function,
            file,
            line,
            call,
        }
    }
}

/// Wakers of one site.
#[derive(Default)]
pub(super) struct Wakers {
    by_key: HashMap<WakerKey, u64>,
    /// Waits whose waker is not known any more.
    others: u64,
}

impl Wakers {
    /// Adds waits that `waker` ended with a stack.
    pub(super) fn add(
        &mut self,
        whole: &Whole<'_>,
        waker: &Waker,
        stack: Option<StackId>,
        waits: u64,
    ) {
        let sum = self.by_key.entry(WakerKey::of(whole, waker, stack));
        *sum.or_default() += waits;
    }

    /// Adds waits that were ended by somebody.
    pub(super) fn add_others(&mut self, waits: u64) {
        self.others += waits;
    }

    /// Those that ended most waits first.
    pub(super) fn totals(self, recorded: &[Process]) -> Vec<WakerTotal> {
        let mut wakers: Vec<(WakerKey, u64)> = self.by_key.into_iter().collect();
        wakers.sort_by(|(a, a_waits), (b, b_waits)| b_waits.cmp(a_waits).then_with(|| a.cmp(b)));
        let wakers = wakers.into_iter().map(|(key, waits)| WakerTotal {
            thread: key.thread.to_string(),
            pid: key.pid,
            function: key.function,
            file: key.file,
            line: key.line,
            call: key.call,
            is_holdup: is_holdup(key.pid, &key.thread, recorded.iter().map(|known| known.pid)),
            waits,
        });
        let others = (self.others > 0).then(|| WakerTotal {
            thread: "others".to_owned(),
            pid: Pid(0),
            function: None,
            file: None,
            line: None,
            call: None,
            is_holdup: false,
            waits: self.others,
        });
        wakers.chain(others).collect()
    }
}
