//! `--fail-if`: what makes a recording a failure, for continuous integration.

use super::accepted::Accepted;
use super::values;
use crate::render::{duration, percent};
use crate::report::{Asked, CheckedCondition, ConditionSite, Report, RuntimeReport, Site};
use crate::runtime::{Role, State};
use crate::units::Nanos;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What `--fail-if` and `--accept` ask.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Gate {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) accept: Option<PathBuf>,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Quantity {
    /// The longest time in which a worker, or all of them, could take no other task.
    Stall,
    /// The time in which no task of a runtime could run.
    Starved,
    /// The time in which workers waited in polls.
    Blocked,
    /// The same of sites whose function, or whose cause, is called so.
    OfSites { by: By, name: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Function,
    Cause,
}

impl By {
    fn fits(self, site: &Site, name: &str) -> bool {
        match self {
            By::Function => site.function.contains(name),
            By::Cause => site.cause.name() == name,
        }
    }
}

/// How much is too much.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    Time(Nanos),
    /// Of the recording, or of the time of all workers; 0 to 1.
    Share(f64),
}

/// One condition: `stall>10ms`, `starved>1%`, `blocked>5%`, `site=reserve:blocked>1ms`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    text: String,
    quantity: Quantity,
    limit: Limit,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Condition, String> {
        let wrong = || {
            "a condition is like stall>10ms, starved>1%, blocked>5%, site=NAME:blocked>1ms or \
             cause=lock:blocked>1ms"
                .to_owned()
        };
        let (what, limit) = text.rsplit_once('>').ok_or_else(wrong)?;
        let quantity = match what.trim() {
            "stall" => Quantity::Stall,
            "starved" => Quantity::Starved,
            "blocked" => Quantity::Blocked,
            sites => {
                let (by, rest) = match sites.split_once('=').ok_or_else(wrong)? {
                    ("site", rest) => (By::Function, rest),
                    ("cause", rest) => (By::Cause, rest),
                    _ => return Err(wrong()),
                };
                let name = rest.strip_suffix(":blocked").ok_or_else(wrong)?;
                if name.is_empty() {
                    return Err(wrong());
                }
                // The name of a function may come with the next deploy; causes are known.
                if by == By::Cause {
                    values::cause(name)?;
                }
                let name = name.to_owned();
                Quantity::OfSites { by, name }
            }
        };
        let limit = limit.trim();
        let limit = match limit.strip_suffix('%') {
            Some(share) => {
                let share: f64 = share.trim().parse().map_err(|_| wrong())?;
                if !(0.0..=100.0).contains(&share) {
                    return Err("a share is from 0% to 100%".to_owned());
                }
                Limit::Share(share / 100.0)
            }
            // Of a time or a share.
            None if limit.parse::<f64>().is_ok() => {
                return Err("the unit is missing: 10ms, 5s, 5%".into());
            }
            None => Limit::Time(values::limit(limit)?),
        };
        if quantity == Quantity::Stall && matches!(limit, Limit::Share(_)) {
            return Err("a stall is compared with a time: stall>10ms".to_owned());
        }
        Ok(Condition {
            text: text.to_owned(),
            quantity,
            limit,
        })
    }
}

/// Sites named on standard error for each condition that holds.
const NAMED: usize = 3;
/// Sites told of in reports.
const LISTED: usize = 50;
/// Sites with less than this of what the worst has are not to blame.
const LEAST: f64 = 0.05;

/// What is found of sites that are not there: what was written may be a mistake.
pub(super) const NO_SITE: &str = "no blocked site has the name or the cause";

/// What was found: whether it is too much, in words, and the sites to blame.
type Found<'a> = (bool, String, Vec<&'a Site>);

impl Condition {
    /// What a report has of what is asked. Accepted sites count for nothing.
    pub(crate) fn check(&self, report: &Report, accepted: &mut Accepted) -> CheckedCondition {
        let concerned = report.sites.iter();
        let concerned = concerned.filter(|site| is_blocked(site) || site.harm_ns > Nanos::ZERO);
        let (known, mut sites): (Vec<&Site>, Vec<&Site>) =
            concerned.partition(|site| accepted.accepts(site));
        if self.quantity != Quantity::Starved {
            sites.retain(|site| is_blocked(site));
        }
        let (asks, (holds, found, to_blame)) = match &self.quantity {
            Quantity::Starved => (Asked::Starved, self.starved(report, &sites, &known)),
            Quantity::Stall => (Asked::Stall, self.stall(report, &sites)),
            Quantity::Blocked => (Asked::Blocked, self.blocked(report, &sites)),
            Quantity::OfSites { by, name } => {
                sites.retain(|site| by.fits(site, name));
                let found = match sites.is_empty() {
                    true => (false, format!("{NO_SITE} {name}"), Vec::new()),
                    false => self.blocked(report, &sites),
                };
                (Asked::Blocked, found)
            }
        };
        let to_blame = to_blame.into_iter().filter(|_| holds).take(LISTED);
        CheckedCondition {
            condition: self.text.clone(),
            asks,
            holds,
            found,
            sites: to_blame.map(ConditionSite::of).collect(),
        }
    }

    fn is_more(&self, time: Nanos, whole: Nanos) -> bool {
        match self.limit {
            Limit::Time(limit) => time > limit,
            Limit::Share(share) => time.share_of(whole) > share,
        }
    }

    fn stall<'a>(&self, report: &Report, sites: &[&'a Site]) -> Found<'a> {
        // A poll belongs to the site of its longest part.
        let of_polls = |site: &Site| {
            let polls = report.long_polls.iter();
            let polls = polls.filter(|of| of.function == site.function && of.pid == site.pid);
            polls.map(|polls| polls.longest.length_ns).max()
        };
        let longest = |site: &&Site| site.max_ns.max(of_polls(site).unwrap_or_default());
        let mut worst = sites.to_vec();
        worst.sort_by_cached_key(|site| std::cmp::Reverse(longest(site)));
        let Some(length) = worst.first().map(longest) else {
            return (false, "no worker stood still".to_owned(), worst);
        };
        worst.retain(|site| self.is_more(longest(site), Nanos(1)));
        let text = format!("a worker stood still for {}", duration(length));
        (self.is_more(length, Nanos(1)), text, worst)
    }

    /// Of accepted sites the one with the most harm counts for nothing: what several do to the same
    /// time is not to be taken off twice.
    fn starved<'a>(&self, report: &Report, sites: &[&'a Site], accepted: &[&Site]) -> Found<'a> {
        let harm = |site: &Site, runtime: &RuntimeReport| {
            let mut harm = site.harm.iter();
            let harm = harm.find(|harm| harm.runtime == runtime.id);
            harm.map_or(Nanos::ZERO, |harm| harm.starved_ns)
        };
        let starved = |runtime: &RuntimeReport| {
            let accepted = accepted.iter().map(|site| harm(site, runtime)).max();
            runtime
                .starved_ns
                .saturating_sub(accepted.unwrap_or_default())
        };
        let runtimes = report.runtimes.iter();
        let Some(most) = runtimes.max_by_key(|runtime| starved(runtime)) else {
            return (false, "there was no runtime".to_owned(), Vec::new());
        };
        let time = starved(most);
        let text = format!(
            "no task of {} could run for {} ({} of the time)",
            most.id,
            duration(time),
            percent(time.share_of(report.duration_ns))
        );
        let worst = worst(sites, time, |site| harm(site, most));
        (self.is_more(time, report.duration_ns), text, worst)
    }

    fn blocked<'a>(&self, report: &Report, sites: &[&'a Site]) -> Found<'a> {
        let time: Nanos = sites.iter().map(|site| site.total_ns).sum();
        let states = report
            .runtimes
            .iter()
            .flat_map(|runtime| runtime.states.values());
        let whole: Nanos = states.copied().sum();
        let share = percent(time.share_of(whole));
        let text = format!(
            "blocked for {}, {share} of the workers' time",
            duration(time)
        );
        let worst = worst(sites, time, |site| site.total_ns);
        (self.is_more(time, whole), text, worst)
    }
}

/// The sites with the most of the time that was found, without those that have next to nothing of it.
fn worst<'a>(sites: &[&'a Site], found: Nanos, of: impl Fn(&Site) -> Nanos) -> Vec<&'a Site> {
    let mut worst = sites.to_vec();
    worst.sort_by_cached_key(|site| std::cmp::Reverse(of(site)));
    let most = worst.first().map_or(Nanos::ZERO, |site| of(site));
    let most = most.min(found);
    worst.retain(|site| of(site) > Nanos::ZERO && of(site).share_of(most) >= LEAST);
    worst
}

/// A condition that holds, on standard error: `stall>10ms holds: a worker stood still for 2.00 s; …`.
pub(crate) fn told(checked: &CheckedCondition) -> String {
    let mut text = format!("{} holds: {}", checked.condition, checked.found);
    for site in checked.sites.iter().take(NAMED) {
        text.push_str(&format!("; {}", described(site)));
    }
    text
}

fn is_blocked(site: &Site) -> bool {
    site.state == State::Blocked && matches!(site.role, Role::Worker(_))
}

/// `app::reserve at src/ledger.rs:88: lock, 24.2 s, 2.00 s at the longest`.
fn described(site: &ConditionSite) -> String {
    let at = match (&site.file, site.line) {
        (Some(file), Some(line)) => format!(" at {file}:{line}"),
        _ => String::new(),
    };
    format!(
        "{}{at}: {}, {}, {} at the longest",
        site.function,
        site.cause.name(),
        duration(site.total_ns),
        duration(site.max_ns)
    )
}

#[cfg(test)]
mod tests {
    use super::super::captured::{self, HowToRead};
    use super::*;
    use crate::capture::Range;
    use crate::report::{Harm, Keep};

    #[test]
    fn conditions_are_read() {
        let of = |text: &str| text.parse::<Condition>().map(|c| (c.quantity, c.limit));
        let site = |by, name: &str| Quantity::OfSites {
            by,
            name: name.to_owned(),
        };
        let ms = |n: u64| Limit::Time(Nanos(n * 1_000_000));
        for (text, quantity, limit) in [
            ("stall>10ms", Quantity::Stall, ms(10)),
            ("starved > 1%", Quantity::Starved, Limit::Share(0.01)),
            ("blocked>0.5%", Quantity::Blocked, Limit::Share(0.005)),
            ("blocked>0s", Quantity::Blocked, ms(0)),
            (
                "site=a::b<c>:blocked>1ms",
                site(By::Function, "a::b<c>"),
                ms(1),
            ),
            ("cause=lock:blocked>2s", site(By::Cause, "lock"), ms(2_000)),
        ] {
            assert_eq!(of(text), Ok((quantity, limit)), "{text}");
        }
        for text in [
            "",
            "stall",
            "stall>",
            "stall>x",
            "stall>5%",
            "blocked>101%",
            "blocked>-1%",
            "stall<1ms",
            "site=:blocked>1ms",
            "site=a>1ms",
            "cpu>1%",
            "blocked>NaN%",
            "blocked>5",
        ] {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn causes_are_those_that_there_are() {
        let error = "cause=lok:blocked>0us"
            .parse::<Condition>()
            .expect_err("no cause");
        assert!(error.contains("lock, "), "{error}");
        let condition: Condition = "site=nobody:blocked>0us".parse().expect("a condition");
        let checked = condition.check(&report(), &mut Accepted::default());
        assert!(
            !checked.holds && checked.found.starts_with(NO_SITE),
            "{checked:?}"
        );
    }

    /// The report of the capture that is kept for tests.
    fn report() -> Report {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/captures/version-1.holdup"
        );
        let how = HowToRead {
            range: Range::ALL,
            filter: &crate::report::Filter::default(),
            symbols: None,
            servers: None,
            keep: Keep::NOTHING,
            invoker: None,
        };
        captured::read(path.as_ref(), &how)
            .expect("a capture")
            .reports
            .into_whole()
    }

    /// A thread of the blocking pool that holds the workers up is at no site of theirs, and was accepted
    /// by nobody.
    #[test]
    fn starved_time_counts_whoever_is_to_blame() {
        let mut report = report();
        let runtime = report.runtimes.first_mut().expect("a runtime");
        runtime.starved_ns = Nanos(1_000);
        let harm = |starved: u64| Harm {
            runtime: runtime.id.clone(),
            starved_ns: Nanos(starved),
            starved_left_ns: Nanos(1_000 - starved),
            longest_left_ns: Nanos::ZERO,
        };
        let site = report
            .sites
            .iter()
            .find(|site| is_blocked(site))
            .expect("a site");
        let mut of_pool = site.clone();
        of_pool.state = State::Pool;
        of_pool.function = "app::in_the_pool".into();
        of_pool.harm = vec![harm(1_000)];
        of_pool.harm_ns = Nanos(1_000);
        report.sites.push(of_pool);
        let condition: Condition = "starved>500ns".parse().expect("a condition");
        let checked = condition.check(&report, &mut Accepted::default());
        assert!(checked.holds, "{checked:?}");
        let mut sites = checked.sites.iter();
        assert!(
            sites.any(|site| site.function.contains("in_the_pool")),
            "{checked:?}"
        );
        let mut accepted = Accepted::of("in_the_pool");
        let checked = condition.check(&report, &mut accepted);
        assert!(!checked.holds && checked.sites.is_empty(), "{checked:?}");
    }

    /// Sites whose waits were short enough are not told of as the reason.
    #[test]
    fn a_stall_blames_those_that_stood_still_for_so_long() {
        let mut report = report();
        let site = report.sites.iter().find(|site| is_blocked(site));
        let site = site.expect("a site").clone();
        report.long_polls.clear();
        report.sites = [("long", 20), ("short", 5)]
            .map(|(function, max)| Site {
                function: function.into(),
                max_ns: Nanos(max * 1_000_000),
                ..site.clone()
            })
            .to_vec();
        let condition: Condition = "stall>10ms".parse().expect("a condition");
        let checked = condition.check(&report, &mut Accepted::default());
        let to_blame: Vec<&str> = checked.sites.iter().map(|site| &*site.function).collect();
        assert_eq!(to_blame, ["long"]);
    }
}
