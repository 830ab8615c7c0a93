//! What was found of tokio in a process.

use crate::runtime::tokio::{Certainty, FullPool, MissingContext};
use schemars::JsonSchema;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

/// What was found of tokio in a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokioFacts {
    /// Whether there was any sign of it in the code that the process had mapped.
    pub present: bool,
    /// A version that is too old for the rules, where one was found.
    pub not_understood: Option<String>,
    /// How sure is what its thread-local context says. It holds for all processes of one program.
    pub context: Certainty,
    /// Each tokio whose context was not found.
    #[serde(serialize_with = "in_words")]
    pub without_context: Vec<MissingContext>,
    /// Blocking pools that had no thread to spare when the recording ended, and closures in line. None is known
    /// of pools with any thread idle, and of tokio before 1.24.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub full_pools: Vec<FullPool>,
}

impl TokioFacts {
    /// Whether its context was found, and contradicted.
    #[must_use]
    pub const fn is_contradicted(&self) -> bool {
        matches!(self.context, Certainty::Contradicted { .. })
    }
}

/// With each reason in words.
fn in_words<S: Serializer>(missing: &[MissingContext], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize, JsonSchema)]
    struct InWords<'a> {
        #[serde(flatten)]
        missing: &'a MissingContext,
        text: String,
    }
    let mut all = serializer.serialize_seq(Some(missing.len()))?;
    for missing in missing {
        all.serialize_element(&InWords {
            missing,
            text: missing.reason.to_string(),
        })?;
    }
    all.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::tokio::NoContext;

    #[test]
    fn reasons_are_told_in_words_and_read_back() {
        let missing = |module: &str, reason| MissingContext {
            module: module.into(),
            reason,
        };
        let facts = TokioFacts {
            present: true,
            not_understood: None,
            context: Certainty::CorroboratedByParks { parks: 2 },
            full_pools: vec![FullPool {
                threads: 4,
                queued: 9,
            }],
            without_context: vec![
                missing("app", NoContext::MadeAtFirstUse("1.28.2".into())),
                missing("libwork.so", NoContext::NoModuleNumber),
            ],
        };
        let json = serde_json::to_value(&facts).expect("JSON");
        let first = &json["without_context"][0];
        assert_eq!(first["module"], "app");
        assert_eq!(first["reason"], "made_at_first_use");
        assert_eq!(first["detail"], "1.28.2");
        assert!(first["text"].as_str().expect("text").contains("1.28.2"));
        assert_eq!(json["context"]["kind"], "corroborated_by_parks");
        assert_eq!(json["context"]["parks"], 2);
        let read: TokioFacts = serde_json::from_value(json).expect("the same");
        assert_eq!(read, facts);
    }
}
