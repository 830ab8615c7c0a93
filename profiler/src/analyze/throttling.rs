//! What CPU quotas did to the processes.

use super::verdict::throttled_share;
use super::whole::Whole;
use crate::report::{RuntimeReport, ThrottlingReport, Verdict};
use crate::units::Pid;

/// By process, of those that have a quota.
pub(super) fn throttling(whole: &Whole<'_>) -> Vec<(Pid, ThrottlingReport)> {
    let all = whole.totals.throttling.iter();
    all.map(|(process, throttling)| {
        let report = ThrottlingReport {
            group: throttling.group.clone(),
            periods: throttling.periods,
            throttled_periods: throttling.throttled_periods,
            throttled_ns: throttling.throttled,
        };
        (whole.pid(*process), report)
    })
    .collect()
}

/// The quota that the verdict speaks of, or else the one that was used up in the largest share of
/// its periods; of equals the first.
pub(super) fn told(
    verdict: &Verdict,
    runtimes: &[RuntimeReport],
    throttling: Vec<(Pid, ThrottlingReport)>,
) -> Option<ThrottlingReport> {
    if let Verdict::CpuStarved { runtime: id, .. } = verdict {
        let judged = runtimes.iter().find(|runtime| runtime.id == *id);
        let of = |(pid, _): &&(Pid, _)| judged.is_some_and(|runtime| runtime.pid == *pid);
        if let Some((_, quota)) = throttling.iter().find(of) {
            return Some(quota.clone());
        }
    }
    let share = |of: &ThrottlingReport| throttled_share(of).unwrap_or_default();
    let quotas = throttling.into_iter().map(|(_, quota)| quota);
    quotas.reduce(|worst, next| {
        if share(&next) > share(&worst) {
            next
        } else {
            worst
        }
    })
}
