//! Where the cores of runtimes have their fields, by tokio's version.

use super::patch_release;
use profiler_common::scheduler_core::{Core, core_layout};

/// A worker's core and that of a `current_thread` runtime, for the one version in `versions`
/// (`1.54.1`), built with `tokio_unstable` or without. Of others, and of several, no tick is known. A
/// version that is newer than those we know is taken for the newest of them: what is read is checked.
pub(super) fn cores(versions: &[String], is_unstable: bool) -> (Core, Core) {
    let unknown = (core_layout::WORKER, core_layout::SINGLE);
    let [version] = versions else { return unknown };
    match patch_release(version) {
        Some((1, minor, patch)) if is_unstable => unstable(minor, patch),
        Some((1, minor, patch)) => stable(minor, patch),
        _ => unknown,
    }
}

fn stable(minor: u32, patch: u32) -> (Core, Core) {
    let worker = match (minor, patch) {
        (..30, _) => core_layout::WORKER,
        (30..45, _) => core_layout::WORKER_1_30,
        (51, _) | (52, 0..=1) => core_layout::WORKER_1_51,
        (45.., _) => core_layout::WORKER_1_45,
    };
    let single = match minor {
        ..30 => core_layout::SINGLE,
        30..45 => core_layout::SINGLE_1_30,
        45..54 => core_layout::SINGLE_1_45,
        54.. => core_layout::SINGLE_1_54,
    };
    (worker, single)
}

fn unstable(minor: u32, patch: u32) -> (Core, Core) {
    let worker = match (minor, patch) {
        (..30, _) => core_layout::WORKER,
        (30..39, _) => core_layout::UNSTABLE_WORKER_1_30,
        (39..41, _) => core_layout::UNSTABLE_WORKER_1_39,
        (41..49, _) => core_layout::UNSTABLE_WORKER_1_41,
        (51, _) | (52, 0..=1) => core_layout::UNSTABLE_WORKER_1_51,
        (49.., _) => core_layout::UNSTABLE_WORKER_1_49,
    };
    let single = match minor {
        ..30 => core_layout::SINGLE,
        30..39 => core_layout::UNSTABLE_SINGLE_1_30,
        39..41 => core_layout::UNSTABLE_SINGLE_1_39,
        41..54 => core_layout::UNSTABLE_SINGLE_1_41,
        54.. => core_layout::UNSTABLE_SINGLE_1_54,
    };
    (worker, single)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_known_by_version_or_not_at_all() {
        for (named, of_worker, of_single) in [
            (&["1.29.1"][..], 0, 0),
            (&["1.30.0"], 64, 96),
            (&["1.44.0"], 64, 96),
            (&["1.45.1"], 104, 136),
            (&["1.50.0"], 104, 136),
            (&["1.51.1"], 96, 136),
            (&["1.52.1"], 96, 136),
            (&["1.52.2"], 104, 136),
            (&["1.54.1"], 104, 160),
            (&["1.99.0"], 104, 160),
            (&["1.54"], 0, 0),
            (&["1.x"], 0, 0),
            (&["2.38.0"], 0, 0),
            (&["1.38.2", "1.54.1"], 0, 0),
            (&[], 0, 0),
        ] {
            let versions: Vec<String> = named.iter().map(|v| (*v).to_owned()).collect();
            let (worker, single) = cores(&versions, false);
            assert_eq!(
                (worker.tick, single.tick),
                (of_worker, of_single),
                "{named:?}"
            );
        }
    }

    /// The only ones whose worker has its parker elsewhere.
    #[test]
    fn a_parked_worker_is_known_in_every_version() {
        let park = |version: &str| cores(&[version.to_owned()], false).0.park;
        let elsewhere = ["1.51.0", "1.51.3", "1.52.0", "1.52.1"];
        assert_eq!(elsewhere.map(park), [0; 4]);
        let others = [
            "1.29.1", "1.35.1", "1.45.0", "1.50.0", "1.52.2", "1.53.0", "1.60.0", "?",
        ];
        assert_eq!(others.map(park), [8; 8]);
    }

    /// With `tokio_unstable` counters stand in a core, since 1.41 before all else.
    #[test]
    fn ticks_of_unstable_builds_are_elsewhere() {
        for (version, park, of_worker, of_single) in [
            ("1.29.1", 8, 0, 0),
            ("1.30.0", 8, 200, 232),
            ("1.38.2", 8, 200, 232),
            ("1.39.3", 8, 208, 240),
            ("1.40.0", 8, 208, 240),
            ("1.41.0", 208, 224, 256),
            ("1.48.0", 208, 224, 256),
            ("1.49.0", 256, 272, 256),
            ("1.51.1", 248, 264, 256),
            ("1.52.1", 248, 264, 256),
            ("1.53.3", 256, 272, 256),
            ("1.54.1", 256, 272, 280),
            ("1.99.0", 256, 272, 280),
            ("2.38.0", 8, 0, 0),
        ] {
            let (worker, single) = cores(&[version.to_owned()], true);
            let found = (worker.park, worker.tick, single.tick);
            assert_eq!(found, (park, of_worker, of_single), "{version}");
        }
    }
}
