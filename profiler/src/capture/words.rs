//! Values of a recording as a database has them, and back.

use super::error::{Error, Result};
use crate::recording::{Classified, HIST_BUCKETS, LossCauses, Losses};
use crate::runtime::{Flavor, Role};
use serde::Serialize;
use serde::de::value::{Error as WordError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_json::{Map, Value};

/// A number of which all 64 bits count, as SQLite keeps it: addresses, ids.
pub(super) const fn bits(number: u64) -> i64 {
    number.cast_signed()
}

/// A count or a length of time. What is more than 292 years is none.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The word that stands for a variant without data.
pub(super) fn word(variant: &impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// The variant that a word stands for.
pub(super) fn variant<T: DeserializeOwned>(word: &str) -> Result<T> {
    let deserializer: StrDeserializer<'_, WordError> = word.into_deserializer();
    T::deserialize(deserializer).map_err(|error| Error::damaged(error.to_string()))
}

/// The role that [`Role::name`] stands for.
pub(super) fn role(name: &str) -> Result<Role> {
    let all = [
        Role::Worker(Flavor::MultiThread),
        Role::Worker(Flavor::CurrentThread),
        Role::PoolThread,
        Role::BlockOn,
        Role::None,
    ];
    let found = all.into_iter().find(|role| role.name() == name);
    found.ok_or_else(|| Error::damaged("a role that no thread has"))
}

/// As JSON text.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Out of JSON text.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::damaged(error.to_string()))
}

/// As JSON text, without what is as in `T::default()`: of a hundred counters hardly one is not zero.
fn sparse<T: Serialize + Default>(value: &T) -> Option<Value> {
    let mut own = serde_json::to_value(value).ok()?;
    let default = serde_json::to_value(T::default()).ok()?;
    if let (Value::Object(own), Value::Object(default)) = (&mut own, &default) {
        own.retain(|key, value| default.get(key) != Some(value));
    }
    Some(own)
}

/// The value of which [`sparse`] made this.
fn full<T: Serialize + DeserializeOwned + Default>(sparse: Map<String, Value>) -> Result<T> {
    let failed = |error: serde_json::Error| Error::damaged(error.to_string());
    let mut all = serde_json::to_value(T::default()).map_err(failed)?;
    if let Value::Object(all) = &mut all {
        all.extend(sparse);
    }
    serde_json::from_value(all).map_err(failed)
}

/// Losses as JSON text, without zeros.
pub(super) fn losses_json(losses: &Losses) -> String {
    let Some(Value::Object(mut all)) = sparse(losses) else {
        return "{}".into();
    };
    if all.contains_key("by_cause")
        && let Some(causes) = sparse(&losses.by_cause)
    {
        all.insert("by_cause".into(), causes);
    }
    Value::Object(all).to_string()
}

/// Losses out of such text.
pub(super) fn losses(text: &str) -> Result<Losses> {
    let mut all: Map<String, Value> = from_json(text)?;
    if let Some(Value::Object(causes)) = all.remove("by_cause") {
        let causes: LossCauses = full(causes)?;
        let causes = serde_json::to_value(causes).map_err(|e| Error::damaged(e.to_string()))?;
        all.insert("by_cause".into(), causes);
    }
    full(all)
}

/// A histogram as JSON text: how many waits are in which bucket, without empty ones.
pub(super) fn histogram_json(histogram: &[u32]) -> String {
    use std::fmt::Write;
    let mut text = String::from("{");
    for (bucket, count) in histogram
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
    {
        let comma = if text.len() > 1 { "," } else { "" };
        let _ = write!(text, "{comma}\"{bucket}\":{count}");
    }
    text.push('}');
    text
}

/// A histogram out of such text. There are as many of them as waits, or nearly, so that this is no
/// parser of all of JSON.
pub(super) fn histogram(text: &str) -> Result<Vec<u32>> {
    let wrong = || Error::damaged("a histogram that cannot be");
    let inner = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    let mut histogram = Vec::new();
    for entry in inner
        .ok_or_else(wrong)?
        .split(',')
        .filter(|entry| !entry.is_empty())
    {
        let entry = entry
            .strip_prefix('"')
            .and_then(|entry| entry.split_once("\":"));
        let (bucket, count) = entry.ok_or_else(wrong)?;
        let bucket: usize = bucket.parse().map_err(|_| wrong())?;
        // Ascending, and each once.
        if bucket < histogram.len() || bucket >= HIST_BUCKETS {
            return Err(wrong());
        }
        histogram.resize(bucket, 0);
        histogram.push(count.parse().map_err(|_| wrong())?);
    }
    Ok(histogram)
}

/// Counts as JSON text, without zeros.
pub(super) fn classified_json(classified: &Classified) -> String {
    sparse(classified).map_or_else(|| "{}".into(), |all| all.to_string())
}

/// Counts out of such text.
pub(super) fn classified(text: &str) -> Result<Classified> {
    full(from_json(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{PollEvidence, ShadowCheck};
    use crate::runtime::State;
    use crate::unwind::Truncation;

    #[test]
    fn words_stand_for_variants() {
        for state in State::ALL {
            assert_eq!(word(&state), state.name());
            assert_eq!(variant::<State>(state.name()).expect("known"), state);
        }
        assert_eq!(word(&Truncation::TooDeep), "too-deep");
        assert_eq!(
            variant::<PollEvidence>("tick").expect("known"),
            PollEvidence::Tick
        );
        assert!(variant::<State>("asleep").is_err());
        assert!(role("king").is_err());
    }

    #[test]
    fn a_histogram_comes_back_without_its_zeros() {
        for buckets in [&[][..], &[1], &[0, 0, 7], &[1, 0, u32::MAX]] {
            assert_eq!(
                histogram(&histogram_json(buckets)).expect("the same"),
                buckets
            );
        }
        assert_eq!(histogram_json(&[0, 2, 0, 3, 0]), "{\"1\":2,\"3\":3}");
        for text in [
            "",
            "{",
            "{1:2}",
            "{\"3\":1,\"3\":1}",
            "{\"40\":1}",
            "{\"1\":-1}",
            "[]",
        ] {
            assert!(histogram(text).is_err(), "{text}");
        }
    }

    #[test]
    fn losses_come_back_without_their_zeros() {
        assert_eq!(losses_json(&Losses::default()), "{}");
        let some = Losses {
            events: 3,
            by_cause: LossCauses {
                no_row: 3,
                ..LossCauses::default()
            },
            shadow: Some(ShadowCheck {
                every: 7,
                ..ShadowCheck::default()
            }),
            ..Losses::default()
        };
        let text = losses_json(&some);
        assert!(text.len() < 160, "{text}");
        assert_eq!(losses(&text).expect("the same"), some);
        assert!(losses("[]").is_err());
        assert!(losses("{\"events\":-1}").is_err());
    }
}
