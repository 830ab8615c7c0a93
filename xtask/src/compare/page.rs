//! The page.

use super::entry::MISTAKES;
use super::{Args, LeftOut, Seen};
use crate::demo::RATE;
use crate::process;
use anyhow::Result;
use std::fmt::Write as _;
use std::process::Command;

/// Where and when it was measured.
pub(super) struct Conditions {
    date: String,
    kernel: String,
    cpus: usize,
    seconds: u64,
    rounds: u16,
}

impl Conditions {
    pub(super) fn of(args: &Args) -> Result<Conditions> {
        Ok(Conditions {
            date: process::output(Command::new("date").args(["-u", "+%F"]))?,
            kernel: process::output(Command::new("uname").arg("-r"))?,
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            seconds: args.seconds,
            rounds: args.rounds,
        })
    }
}

const HEAD: &str = "# holdup and other tools on the same demo

`cargo xtask compare` has written this page; change `xtask/src/compare`, not the page. Tools that are not
installed are left out with the reason.

";

const HOW: &str = "
How it is counted:

- **found**: mistakes whose function is anywhere in what the tool lists. The demo is built as `cargo build --release`
  builds it, with symbols and without line tables. `thread::sleep` also counts where the stack leads from the sleep to
  a handler: its function ends with the call, and the compiler has made that a jump.
- **beside them**: the share of what the tool lists, in its own unit, that is none of the mistakes: parked workers, the
  blocking pool, `block_in_place`, threads outside tokio, and stacks that are cut off before a name. `/v2` calls
  some of the same functions where they keep nobody from running. Whoever reads the list has to tell them apart; of
  holdup only what it calls blocked is counted, since it lists the rest as allowed.
- **entries**: different stacks, threads or calls. It is how much there is to read.
- **throughput** is that of a ping-pong that switches threads with every message and whose CPU is never idle: the worst
  case, and not what a service loses. Recorded and unrecorded slices alternate. The output of perf and offcputime
  goes to `/dev/null` here, which favours them. On a busy machine slices lie far apart; [cost.md](cost.md) has figures
  of a quiet one for holdup and offcputime.
";

const BETTER: &str = "
## Where the others are better

- **perf** shows where a CPU is busy, to the instruction and with hardware counters, in every program and in the
  kernel; holdup's samples are a by-product. `perf trace` prints every system call with its arguments. Both are in every
  distribution, and perf needs no eBPF.
- **offcputime** covers all processes of the machine at once, whatever they are written in, and sums in the kernel. The
  stacks of a program that is built with frame pointers are whole.
- **tokio-console** shows tasks live: which wait for which `Semaphore` or channel, which were never woken, how long each
  poll took, exactly. It also finds tasks that wait without blocking a worker, of which holdup says nothing.
- **dial9** is always on, needs no privileges, runs in any container, and knows when each poll began and ended and how
  long a task was queued. holdup sees a poll from its first wait or sample to its last.
- **hud** looks at polls that keep a CPU busy, with a screen that is easy to read, and asks for less of the kernel.

If you may rebuild, and the question is which task is slow, take tokio-console or dial9. If the CPU is busy, take perf.
holdup is for the case in which the CPU is idle, requests are slow, and the program must stay as it is.
";

/// All of it.
pub(super) fn page(seen: &[Seen], left_out: &[LeftOut], conditions: &Conditions) -> String {
    let mut text = HEAD.to_owned();
    let Conditions {
        date,
        kernel,
        cpus,
        seconds,
        rounds,
    } = conditions;
    let mistakes = MISTAKES.map(|mistake| mistake.name).join(", ");
    let _ = write!(
        text,
        "Measured on {date}, Linux {kernel}, {cpus} shared CPUs. The demo ([claims_api](../profiler/examples/claims_api/README.md)) makes \
         {} mistakes under `/v1` ({mistakes}) and does the same right under `/v2`. It is asked {RATE} times a second, under both alike, \
         and each tool records it for {seconds} s.\n\n",
        MISTAKES.len(),
    );
    found(&mut text, seen);
    text.push_str(HOW);
    text.push_str("\n## What each tells\n\n");
    told(&mut text, seen, left_out);
    text.push_str("\n## Cost\n\n");
    cost(&mut text, seen, *rounds);
    text.push_str("\n## Not run\n\n");
    for LeftOut { peer, because } in left_out {
        let because = because.lines().next().unwrap_or_default();
        let _ = writeln!(text, "- `{}`: {because}.", peer.name);
    }
    text.push_str(BETTER);
    text
}

fn found(text: &mut String, seen: &[Seen]) {
    let all = MISTAKES.len();
    text.push_str(
        "| tool | version | found | missed | entries | beside them |\n|---|---|---|---|---|---|\n",
    );
    for Seen {
        peer,
        version,
        score,
        ..
    } in seen
    {
        let missed = MISTAKES.iter().map(|mistake| mistake.name);
        let missed: Vec<&str> = missed.filter(|name| !score.found.contains(name)).collect();
        let missed = match missed.len() {
            0 => "–".to_owned(),
            count if count == all => "all".to_owned(),
            _ => missed.join(", "),
        };
        let _ = writeln!(
            text,
            "| `{}` | {version} | {} of {all} | {missed} | {} | {:.1} % of {} |",
            peer.name,
            score.found.len(),
            score.entries,
            score.beside * 100.0,
            peer.unit,
        );
    }
}

fn told(text: &mut String, seen: &[Seen], left_out: &[LeftOut]) {
    text.push_str("| tool | needs a rebuild | tells harm from idling | what was waited for | who ended the wait | line |\n");
    text.push_str("|---|---|---|---|---|---|\n");
    let peers = seen.iter().map(|seen| seen.peer);
    for peer in peers.chain(left_out.iter().map(|left_out| left_out.peer)) {
        let [object, waker, line] = peer.names;
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {object} | {waker} | {line} |",
            peer.name, peer.rebuild, peer.judges
        );
    }
}

fn cost(text: &mut String, seen: &[Seen], rounds: u16) {
    let _ = writeln!(
        text,
        "| tool | throughput of the ping-pong, median of {rounds} (least to most) | left on the disk |"
    );
    text.push_str("|---|---|---|\n");
    for Seen {
        peer,
        size,
        throughput,
        ..
    } in seen
    {
        let throughput = throughput.map_or_else(
            || "not measured".to_owned(),
            |ratio| format!("{:.3} ({:.3} to {:.3})", ratio.median, ratio.min, ratio.max),
        );
        let _ = writeln!(
            text,
            "| `{}` | {throughput} | {} |",
            peer.name,
            size_text(*size)
        );
    }
}

fn size_text(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes >= 1e6 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.0} kB", bytes / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Score;
    use super::super::peers;
    use super::*;
    use crate::bench::Spread;

    #[test]
    fn every_tool_is_on_the_page() {
        let [first, second, rest @ ..] = peers::ALL else {
            panic!("there are more");
        };
        let seen = |peer, found: &[&'static str]| Seen {
            peer,
            version: "1.2".to_owned(),
            score: Score {
                found: found.to_vec(),
                entries: 12,
                beside: 0.25,
            },
            size: 2_500_000,
            throughput: Some(Spread {
                median: 0.9,
                min: 0.8,
                max: 1.0,
            }),
        };
        let all: Vec<&'static str> = MISTAKES.iter().map(|mistake| mistake.name).collect();
        let left_out: Vec<LeftOut> = rest
            .iter()
            .map(|peer| LeftOut {
                peer,
                because: "not here\nand more".to_owned(),
            })
            .collect();
        let conditions = Conditions {
            date: "2026-11-29".to_owned(),
            kernel: "6".to_owned(),
            cpus: 2,
            seconds: 10,
            rounds: 3,
        };
        let text = page(
            &[seen(first, &all), seen(second, &["block_on"])],
            &left_out,
            &conditions,
        );
        for line in [
            "| `holdup record` | 1.2 | 8 of 8 | – | 12 | 25.0 % of time |",
            "| `holdup record` | 0.900 (0.800 to 1.000) | 2.5 MB |",
            "- `perf trace -s`: not here.",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        assert!(text.contains("| 1 of 8 | std socket, std::fs,"), "{text}");
    }
}
