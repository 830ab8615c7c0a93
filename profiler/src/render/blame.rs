//! Where workers waited, and what the threads did that they waited for: the site at the root, above
//! it where the thread that ended its waits waited meanwhile, and so on, and last what the last of
//! them did. Sums of [`crate::report::Blame`]: waits of the timeline only, and only those that a thread
//! of the target ended.

use super::alike::FunctionNames;
use super::drawn::{Drawn, plain_name};
use super::folded::{Folded, Folding};
use super::palette::Kind;
use super::{Options, display_name, flamegraph, process_name};
use crate::cause::Cause;
use crate::report::{BlameChain, BlameEnd, Report, Site};
use std::io;

/// Writes folded stacks.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn folded(report: &Report, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    fold(report, options).write(out)
}

/// Writes a flamegraph.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn svg(report: &Report, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    let title = "Waits for other threads, and what those did meanwhile";
    flamegraph::draw(report, options, title, &fold(report, options), out)
}

fn fold(report: &Report, options: &Options) -> Folded {
    let names = FunctionNames::of(report);
    let mut folding = Folding::default();
    let sites = report.sites.iter();
    for site in sites.filter(|site| options.states.contains(&site.state)) {
        let Some(blame) = &site.blame else { continue };
        for chain in &blame.chains {
            let mut line = root(report, site, &names);
            line.extend(links(chain, &names));
            folding.add(line, chain.total_ns);
        }
        let mut line = root(report, site, &names);
        line.push(Drawn::mark("[other chains]", Kind::Nameless));
        folding.add(line, blame.more_ns);
    }
    folding.finish()
}

/// The process where there are several, the state, the site and why it waited.
fn root(report: &Report, site: &Site, names: &FunctionNames) -> Vec<Drawn> {
    let mut frames = Vec::new();
    if let Some(process) = process_name(report, site.pid) {
        frames.push(Drawn::mark(plain_name(&display_name(&process)), Kind::Root));
    }
    frames.push(Drawn::mark(site.state.name(), Kind::State(site.state)));
    frames.push(Drawn {
        name: plain_name(&names.of_site(&site.function, site.file.as_deref(), site.line)),
        mark: "",
        kind: Kind::Application { inlined: false },
        place: site.file.clone().zip(site.line),
    });
    frames.push(why(site.cause));
    frames
}

fn links(chain: &BlameChain, names: &FunctionNames) -> impl Iterator<Item = Drawn> {
    let links = chain.links.iter().flat_map(|link| {
        let function = Drawn {
            name: plain_name(&names.of_site(&link.function, link.file.as_deref(), link.line)),
            mark: "",
            kind: Kind::Application { inlined: false },
            place: link.file.clone().zip(link.line),
        };
        [function, why(link.cause)]
    });
    let end = match chain.end {
        // The last link says for what.
        BlameEnd::Outside => None,
        BlameEnd::Running => Some("[running]"),
        BlameEnd::RunQueue => Some("[in line for a CPU]"),
        BlameEnd::ShortWaits => Some("[in short waits]"),
        BlameEnd::Idle => Some("[idle]"),
        BlameEnd::Stopped => Some("[stopped from outside]"),
        BlameEnd::RunningOrIdle => Some("[running, idle, or in short waits]"),
        BlameEnd::Cycle => Some("[a circle]"),
        BlameEnd::Unknown => Some("[no more is known]"),
    };
    links.chain(end.map(|end| Drawn::mark(end, Kind::Waker)))
}

fn why(cause: Cause) -> Drawn {
    Drawn::mark(format!("[{}]", cause.name()), Kind::Cause)
}
