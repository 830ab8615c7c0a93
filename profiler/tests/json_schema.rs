//! The JSON Schema in the repository: it is what the code says, and every report holds to it.
//!
//! After a change of the report: `HOLDUP_UPDATE=1 cargo test -p profiler --test json_schema`.

#[allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

use holdup::analyze;
use holdup::render::{Format, Options, json, render};
use serde_json::Value;
use std::path::Path;

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/report-2.schema.json");

fn schema() -> String {
    let mut text = Vec::new();
    json::schema(&mut text).expect("memory");
    String::from_utf8(text).expect("UTF-8")
}

#[test]
fn the_schema_is_that_of_the_code() {
    let path = Path::new(SCHEMA);
    if std::env::var_os("HOLDUP_UPDATE").is_some() {
        std::fs::write(path, schema()).expect("the schema");
    }
    let known = std::fs::read_to_string(path).expect("the schema");
    assert!(known == schema(), "HOLDUP_UPDATE=1 writes {SCHEMA} anew");
}

#[test]
fn every_report_holds_to_it() {
    let schema: Value = serde_json::from_str(&schema()).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    for (name, recording) in recordings::all() {
        let report = analyze::build(&recording);
        let mut text = Vec::new();
        render(Format::Json, &report, &Options::default(), &mut text).expect("memory");
        let value: Value = serde_json::from_slice(&text).expect("JSON");
        let errors: Vec<String> = schema
            .iter_errors(&value)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
        let missing = Value::Object(serde_json::Map::new());
        assert!(!schema.is_valid(&missing));
    }
}

/// What each member means is said there.
#[test]
fn every_member_is_explained() {
    let schema: Value = serde_json::from_str(&schema()).expect("JSON");
    let mut silent = Vec::new();
    let definitions = schema["$defs"].as_object().expect("definitions");
    for (name, definition) in definitions {
        let members = definition["properties"].as_object();
        for (member, of) in members.into_iter().flatten() {
            let is_named = of.get("$ref").is_some() || of.get("const").is_some();
            if of.get("description").is_none() && !is_named {
                silent.push(format!("{name}.{member}"));
            }
        }
    }
    assert!(silent.is_empty(), "{silent:?}");
}
