//! What tools write, as entries.

use super::entry::Entry;
use anyhow::{Context as _, Result};
use serde_json::Value;

/// holdup's report in JSON: the sites that it calls blocked; the others it lists as allowed.
pub(super) fn holdup(json: &str) -> Result<Vec<Entry>> {
    let report: Value = serde_json::from_str(json).context("holdup's report is no JSON")?;
    let sites = report["sites"]
        .as_array()
        .context("holdup's report has no sites")?;
    let blocked = sites.iter().filter(|site| site["state"] == "blocked");
    Ok(blocked
        .map(|site| Entry {
            frames: [&site["wait"], &site["function"]]
                .iter()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            weight: site["total_ns"].as_f64().unwrap_or_default() / 1e9,
        })
        .collect())
}

/// libbpf-tools' `offcputime`: a frame a line, then `-  NAME (TID)`, then microseconds.
pub(super) fn offcputime(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut frames = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.parse::<f64>() {
            Ok(micros) => entries.push(Entry {
                frames: std::mem::take(&mut frames),
                weight: micros / 1e6,
            }),
            Err(_) if line.starts_with("- ") => (),
            // It leaves the names as the compiler made them.
            Err(_) => frames.push(rustc_demangle::demangle(line).to_string()),
        }
    }
    entries
}

/// `perf script -F comm,tid,ip,sym`: a line for the thread, then `ADDRESS FUNCTION` for each frame, then an
/// empty one. Each weighs one.
pub(super) fn perf_script(text: &str) -> Vec<Entry> {
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty());
    let stack = |block: &str| Entry {
        frames: block
            .lines()
            .filter(|line| line.starts_with([' ', '\t']))
            .filter_map(|line| Some(line.trim().split_once(' ')?.1.to_owned()))
            .collect(),
        weight: 1.0,
    };
    blocks.map(stack).collect()
}

/// `perf trace -s`: for each thread a table of system calls, whose fourth column is milliseconds.
pub(super) fn perf_trace(text: &str) -> Vec<Entry> {
    let rows = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, calls, _, total, ..] = words.as_slice() else {
            return None;
        };
        calls.parse::<u64>().ok()?;
        Some(Entry {
            frames: vec![(*name).to_owned()],
            weight: total.parse::<f64>().ok()? / 1e3,
        })
    });
    rows.collect()
}

/// `perf sched timehist`: time, CPU, `NAME[TID/PID]`, then milliseconds of wait, of delay and of run.
pub(super) fn perf_sched(text: &str, pid: u32) -> Vec<Entry> {
    let of_target = format!("/{pid}]");
    let rows = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| word.ends_with(&of_target))?;
        Some(Entry {
            frames: vec![(*words.get(at)?).to_owned()],
            weight: words.get(at + 1)?.parse::<f64>().ok()? / 1e3,
        })
    });
    rows.collect()
}

/// hud's export, in the form of Chrome's traces: an event begins with a name, and ends.
pub(super) fn hud(json: &str) -> Result<Vec<Entry>> {
    let trace: Value = serde_json::from_str(json).context("hud's export is no JSON")?;
    let events = trace["traceEvents"]
        .as_array()
        .context("hud's export has no events")?;
    let begun = events.iter().filter(|event| event["ph"] == "B");
    Ok(begun
        .map(|event| {
            // Whatever else it says of the place counts as well.
            let args = event["args"].as_object().into_iter().flatten();
            let words = args.filter_map(|(_, value)| value.as_str().map(str::to_owned));
            let name = event["name"].as_str().unwrap_or_default().to_owned();
            Entry {
                frames: std::iter::once(name).chain(words).collect(),
                weight: 1.0,
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(frames: &[&str], weight: f64) -> Entry {
        Entry {
            frames: frames.iter().map(|&frame| frame.to_owned()).collect(),
            weight,
        }
    }

    #[test]
    fn each_form_is_read() -> Result<()> {
        let json = r#"{"sites": [
            {"state": "blocked", "function": "f", "wait": "read", "total_ns": 2e9},
            {"state": "pool", "function": "g", "wait": "read", "total_ns": 9e9}]}"#;
        assert_eq!(holdup(json)?, [entry(&["read", "f"], 2.0)]);
        let text = "    schedule\n    _ZN1a5fsync17h94b221c73b039739E\n    -                worker (7)\n        1500000\n\n    [unknown]\n    -   w (8)\n        250000\n";
        assert_eq!(
            offcputime(text),
            [
                entry(&["schedule", "a::fsync::h94b221c73b039739"], 1.5),
                entry(&["[unknown]"], 0.25)
            ]
        );
        let text =
            "w 7 1.5: \n\tff80 schedule\n\t 1c0 a::b<C, D>\n\nw 8 1.6: \n\tff80 schedule\n\n";
        assert_eq!(
            perf_script(text),
            [
                entry(&["schedule", "a::b<C, D>"], 1.0),
                entry(&["schedule"], 1.0)
            ]
        );
        let text = " w (7), 25 events, 9.8%\n\n   syscall  calls  errors  total  min\n            (msec)\n   ---- --- ---\n   futex  103      0  2730.112     0.011\n";
        assert_eq!(perf_trace(text), [entry(&["futex"], 2.730_112)]);
        let text = "  1.5 [0000]  w x[8/7]   12.500  0.1 0.4  next: a[9/9]\n  1.6 [0000]  b[9/9]  1.0 1.0 1.0\n";
        assert_eq!(perf_sched(text, 7), [entry(&["x[8/7]"], 0.0125)]);
        let json = r#"{"traceEvents": [{"ph": "B", "name": "f", "args": {"file": "a.rs", "line": 1}}, {"ph": "E", "name": "f"}]}"#;
        assert_eq!(hud(json)?, [entry(&["f", "a.rs"], 1.0)]);
        assert!(hud("[]").is_err());
        Ok(())
    }
}
