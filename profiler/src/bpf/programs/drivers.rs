//! I/O drivers for whose events nobody waits at an instant.

use super::Programs;
use crate::decode::{DriverGap, ThreadKey};
use crate::units::{Pid, Tid, Timestamp};
use profiler_common::map::{Driver, MIN_DRIVER_GAP};

impl Programs {
    /// The drivers for whose events nobody has waited for some time at `now`.
    #[must_use]
    pub fn unattended_drivers(&self, now: Timestamp) -> Vec<DriverGap> {
        let drivers = (0..self.drivers.len()).filter_map(|index| self.drivers.read(index));
        let unattended = drivers.filter(|driver| {
            let is_left = driver.left != 0 && driver.left != Driver::ATTENDED;
            is_left && now.0.saturating_sub(driver.left) >= MIN_DRIVER_GAP
        });
        unattended
            .map(|driver| DriverGap {
                thread: ThreadKey {
                    pid: Pid(driver.tgid),
                    tid: Tid(driver.tid),
                },
                from: Timestamp(driver.left),
                to: None,
            })
            .collect()
    }
}
