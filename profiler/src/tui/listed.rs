//! Which sites are listed, and in which order.

use super::text::process;
use super::view::{View, is_listed};
use crate::render::display_name;
use crate::report::{Report, Site};
use std::cmp::Reverse;

/// By what sites are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// By harm, then by time.
    #[default]
    Harm,
    /// By blocked time.
    Time,
    /// By the number of waits.
    Waits,
    /// By the longest wait.
    Longest,
}

/// The sites that are shown, in their order.
pub(super) fn listed<'a>(view: &'a View, sort: Sort, filter: &str) -> Vec<&'a Site> {
    let filter = filter.to_lowercase();
    let report = &*view.report;
    let mut sites: Vec<&Site> = report
        .sites
        .iter()
        .filter(|site| is_listed(site.state))
        .filter(|site| filter.is_empty() || has(report, site, &filter))
        .collect();
    // The sort is stable: of equals the report's order stays.
    match sort {
        Sort::Harm => sites.sort_by_key(|site| Reverse((site.harm_ns, site.total_ns))),
        Sort::Time => sites.sort_by_key(|site| Reverse(site.total_ns)),
        Sort::Waits => sites.sort_by_key(|site| Reverse(site.waits)),
        Sort::Longest => sites.sort_by_key(|site| Reverse(site.max_ns)),
    }
    sites
}

/// Whether a site has a text in anything that is shown of it.
fn has(report: &Report, site: &Site, filter: &str) -> bool {
    let within = |text: &str| text.to_lowercase().contains(filter);
    within(&display_name(&site.function))
        || within(&site.function)
        || site.task.as_deref().is_some_and(within)
        || site.file.as_deref().is_some_and(within)
        || within(&site.wait)
        || within(&site.call)
        || within(site.cause.name())
        || site.objects.iter().any(|object| within(&object.name))
        || site.wakers.iter().any(|waker| within(&waker.thread))
        || process(report, site.pid).is_some_and(|name| within(&name))
}
