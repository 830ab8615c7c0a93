//! Which site to mend first.

use crate::report::{BlameEnd, BlameLink, RuntimeReport, Site};
use crate::runtime::{Role, State};
use crate::units::Nanos;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A site is to blame for another one's waits if it is for this share of their time…
const ROOT_SHARE: f64 = 0.5;
/// …and is to be mended first if that brings this share of what the other one would bring.
const ROOT_HARM: f64 = 0.8;

/// The site to mend first, and the longest of the runtime's blocked waits.
pub(super) fn worst_site(runtime: &RuntimeReport, sites: &[Site]) -> (Option<usize>, Nanos) {
    let shares = || {
        let blocked = sites.iter().enumerate();
        let blocked = blocked.filter(|(_, site)| {
            site.state == State::Blocked && matches!(site.role, Role::Worker(_))
        });
        blocked.filter_map(|(index, site)| {
            let mut own = site.runtimes.iter();
            let share = own.find(|share| share.runtime == runtime.id)?;
            Some((index, share))
        })
    };
    let longest = shares().map(|(_, share)| share.max_ns).max();
    let totals: BTreeMap<usize, Nanos> = shares()
        .map(|(index, share)| (index, share.total_ns))
        .collect();
    let harm = |site: &Site| harm_to(site, &runtime.id);
    let concerned = sites
        .iter()
        .enumerate()
        .filter(|(index, site)| harm(site) > Nanos::ZERO || totals.contains_key(index));
    let worst =
        concerned.max_by_key(|(index, site)| (harm(site), totals.get(index), Reverse(*index)));
    let worst = worst.map(|(index, site)| root(sites, site, &runtime.id).unwrap_or(index));
    (worst, longest.unwrap_or_default())
}

/// By how much the starved time of a runtime would shrink without the waits of a site.
fn harm_to(site: &Site, runtime: &str) -> Nanos {
    let mut harm = site.harm.iter();
    let harm = harm.find(|harm| harm.runtime == runtime);
    harm.map_or(Nanos::ZERO, |harm| harm.starved_ns)
}

/// The site that is to blame for most of another one's waits, if mending it brings nearly as much.
/// Who waits for a lock is helped by what its holder does.
fn root(sites: &[Site], of: &Site, runtime: &str) -> Option<usize> {
    let blame = of.blame.as_ref()?;
    let mut times: BTreeMap<usize, Nanos> = BTreeMap::new();
    // Of those that wait for each other none is the root.
    let chains = blame.chains.iter();
    for chain in chains.filter(|chain| chain.end != BlameEnd::Cycle) {
        let place = |site: &Site, link: &BlameLink| {
            site.pid == link.pid
                && (&site.function, &site.file, site.line)
                    == (&link.function, &link.file, link.line)
        };
        let link = chain.links.last();
        let root = link.and_then(|link| sites.iter().position(|site| place(site, link)));
        if let Some(root) = root {
            *times.entry(root).or_default() += chain.total_ns;
        }
    }
    let (root, time) = times
        .into_iter()
        .max_by_key(|(index, time)| (*time, Reverse(*index)))?;
    let harm = sites.get(root).map(|site| harm_to(site, runtime))?;
    let is_most = time.share_of(of.total_ns) >= ROOT_SHARE;
    let is_as_good = harm.share_of(harm_to(of, runtime)) >= ROOT_HARM;
    (is_most && is_as_good).then_some(root)
}
