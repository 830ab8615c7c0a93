//! What a tool lists, and which of it is one of the demo's mistakes.

/// One line of what a tool shows: a stack or a name, and how much it says of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// Names of functions, innermost first; or whatever else the tool names.
    pub(super) frames: Vec<String>,
    /// In the tool's own unit: seconds, samples or events.
    pub(super) weight: f64,
}

/// A mistake that is planted in the demo under `/v1`.
pub(super) struct Mistake {
    /// What it is, in the page.
    pub(super) name: &'static str,
    /// Names of the function that makes it.
    functions: &'static [&'static str],
    /// Another way to know it: all of these in one stack.
    or_all: &'static [&'static str],
}

const fn mistake(name: &'static str, functions: &'static [&'static str]) -> Mistake {
    Mistake {
        name,
        functions,
        or_all: &[],
    }
}

/// All that the demo makes; `profiler/examples/claims_api/README.md` describes them.
pub(super) const MISTAKES: [Mistake; 8] = [
    mistake("std socket", &["Gateway::ask_blocking"]),
    mistake("std::fs", &["LetterWriter::write_with_std_fs"]),
    mistake("std::sync::Mutex", &["Ledger::price_under_std_mutex"]),
    Mistake {
        name: "thread::sleep",
        functions: &["pause_with_thread_sleep", "submit_with_thread_sleep"],
        // The function ends with the call, which a release build makes a jump: it is on no stack.
        or_all: &["std::thread::functions::sleep", "axum::handler::Handler"],
    },
    mistake("block_on", &["FraudScorer::score_with_block_on"]),
    mistake("SQLite reads", &["ClaimStore::charges_of"]),
    mistake("SQLite writes", &["ClaimStore::record_claim"]),
    mistake("getaddrinfo", &["Directory::resolve_with_getaddrinfo"]),
];

/// Frames below which a wait keeps no task from running: `/v2` calls some of the same functions there.
const HARMLESS: [&str; 4] = [
    "block_in_place",
    "tokio::runtime::blocking::pool",
    "BlockingTask",
    "spawn_blocking",
];

impl Mistake {
    fn is_in(&self, entry: &Entry) -> bool {
        let has = |name: &&str| entry.frames.iter().any(|frame| frame.contains(*name));
        self.functions.iter().any(has) || !self.or_all.is_empty() && self.or_all.iter().all(has)
    }
}

/// How well a tool's list names the mistakes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Score {
    /// Those of [`MISTAKES`] that some entry names.
    pub(super) found: Vec<&'static str>,
    /// How many entries there are.
    pub(super) entries: usize,
    /// The share of all weight that is in entries that name none, from 0 to 1.
    pub(super) beside: f64,
}

impl Score {
    pub(super) fn of(entries: &[Entry]) -> Score {
        let names_one = |entry: &&Entry| {
            let is_harmless = |frame: &String| HARMLESS.iter().any(|name| frame.contains(name));
            !entry.frames.iter().any(is_harmless)
                && MISTAKES.iter().any(|mistake| mistake.is_in(entry))
        };
        let named: Vec<&Entry> = entries.iter().filter(names_one).collect();
        let found = MISTAKES
            .iter()
            .filter(|mistake| named.iter().any(|entry| mistake.is_in(entry)));
        let sum =
            |weights: &mut dyn Iterator<Item = f64>| weights.fold(0.0, |sum, weight| sum + weight);
        let all = sum(&mut entries.iter().map(|entry| entry.weight));
        let of_named = sum(&mut named.iter().map(|entry| entry.weight));
        Score {
            found: found.map(|mistake| mistake.name).collect(),
            entries: entries.len(),
            beside: if all > 0.0 { 1.0 - of_named / all } else { 0.0 },
        }
    }
}

/// Entries with the same frames as one, the heaviest first.
pub(super) fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    let mut sums = std::collections::BTreeMap::<Vec<String>, f64>::new();
    for entry in entries {
        *sums.entry(entry.frames).or_default() += entry.weight;
    }
    let mut merged: Vec<Entry> = sums
        .into_iter()
        .map(|(frames, weight)| Entry { frames, weight })
        .collect();
    merged.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    merged
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
    fn a_stack_names_a_mistake_unless_it_holds_nobody_up() {
        let entries = [
            entry(
                &[
                    "recv",
                    "claims_api::upstream::Gateway::ask_blocking",
                    "poll",
                ],
                6.0,
            ),
            entry(
                &[
                    "fsync",
                    "claims_api::store::ClaimStore::record_claim",
                    "tokio::x::block_in_place",
                ],
                1.0,
            ),
            entry(
                &[
                    "std::thread::functions::sleep",
                    "<F as axum::handler::Handler<M>>::call",
                ],
                2.0,
            ),
            entry(&["std::thread::functions::sleep", "adjustments"], 1.0),
        ];
        let score = Score::of(&entries);
        assert_eq!(score.found, ["std socket", "thread::sleep"]);
        assert_eq!(score.entries, 4);
        assert!((score.beside - 0.2).abs() < 1e-9, "{score:?}");
        assert_eq!(Score::of(&[]), Score::default());
    }

    #[test]
    fn equal_stacks_are_one_entry() {
        let entries = vec![entry(&["a"], 1.0), entry(&["b"], 3.0), entry(&["a"], 4.0)];
        assert_eq!(merged(entries), [entry(&["a"], 5.0), entry(&["b"], 3.0)]);
    }
}
