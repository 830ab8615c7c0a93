//! The ground truth: what each site measured of itself.

use crate::clock::Counters;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// A function that waits in one place, with its sums. One static for each.
pub struct Site {
    function: &'static str,
    /// States that a profiler may rightly give, the first being the best.
    states: &'static [&'static str],
    file: &'static str,
    line: AtomicU32,
    calls: AtomicU64,
    waits: AtomicU64,
    preempted: AtomicU64,
    wall_ns: AtomicU64,
    cpu_ns: AtomicU64,
    run_delay_ns: AtomicU64,
    max_ns: AtomicU64,
}

/// A wait that is being measured.
pub struct Watch {
    site: &'static Site,
    before: Counters,
    start: Instant,
}

/// Declares a static [`Site`] for a function of this file.
macro_rules! site {
    ($name:ident, $function:ident, [$($state:literal),+]) => {
        pub static $name: $crate::truth::Site =
            $crate::truth::Site::new(stringify!($function), &[$($state),+], file!());
    };
}
pub(crate) use site;

impl Site {
    pub const fn new(
        function: &'static str,
        states: &'static [&'static str],
        file: &'static str,
    ) -> Site {
        Site {
            function,
            states,
            file,
            line: AtomicU32::new(0),
            calls: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            preempted: AtomicU64::new(0),
            wall_ns: AtomicU64::new(0),
            cpu_ns: AtomicU64::new(0),
            run_delay_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
        }
    }

    /// Starts to measure. The blocking call must stand on the line after this one: that is the
    /// line a profiler has to show.
    #[track_caller]
    pub fn start(&'static self) -> Watch {
        self.line.store(Location::caller().line() + 1, Relaxed);
        let before = Counters::now();
        Watch { site: self, before, start: Instant::now() }
    }

    fn json(&self) -> String {
        let states: Vec<String> = self.states.iter().map(|state| format!("\"{state}\"")).collect();
        format!(
            "{{\"function\":\"{}\",\"states\":[{}],\"file\":\"{}\",\"line\":{},\"calls\":{},\
             \"waits\":{},\"preempted\":{},\"wall_ns\":{},\"cpu_ns\":{},\"run_delay_ns\":{},\
             \"max_ns\":{}}}",
            self.function,
            states.join(","),
            self.file,
            self.line.load(Relaxed),
            self.calls.load(Relaxed),
            self.waits.load(Relaxed),
            self.preempted.load(Relaxed),
            self.wall_ns.load(Relaxed),
            self.cpu_ns.load(Relaxed),
            self.run_delay_ns.load(Relaxed),
            self.max_ns.load(Relaxed),
        )
    }
}

impl Watch {
    /// Ends the measurement and adds it to the site's sums.
    pub fn stop(self) {
        let wall = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let after = Counters::now();
        let site = self.site;
        site.calls.fetch_add(1, Relaxed);
        site.wall_ns.fetch_add(wall, Relaxed);
        site.max_ns.fetch_max(wall, Relaxed);
        site.waits.fetch_add(after.voluntary - self.before.voluntary, Relaxed);
        site.preempted.fetch_add(after.involuntary - self.before.involuntary, Relaxed);
        site.cpu_ns.fetch_add(after.cpu_ns - self.before.cpu_ns, Relaxed);
        site.run_delay_ns.fetch_add(after.run_delay_ns - self.before.run_delay_ns, Relaxed);
    }
}

/// The truth as one line of JSON. `open` names the functions in which threads still wait.
pub fn json(sites: &[&Site], workers: usize, open: &[(&str, usize)]) -> String {
    let sites: Vec<String> = sites.iter().map(|site| site.json()).collect();
    let open: Vec<String> = open
        .iter()
        .map(|(function, threads)| format!("{{\"function\":\"{function}\",\"threads\":{threads}}}"))
        .collect();
    format!(
        "{{\"workers\":{workers},\"sites\":[{}],\"open\":[{}]}}",
        sites.join(","),
        open.join(",")
    )
}
