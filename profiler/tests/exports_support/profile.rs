//! Reads pprof's format, and shows it as text.

use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;

/// A value of a field.
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

/// The fields of a message, in their order.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Value)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut bytes)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).expect("a length");
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Value::Bytes(value.to_vec())
            }
            1 => {
                let (value, rest) = bytes.split_at(8);
                bytes = rest;
                Value::Number(u64::from_le_bytes(value.try_into().expect("eight bytes")))
            }
            other => panic!("wire type {other}"),
        };
        fields.push((tag >> 3, value));
    }
    fields
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (first, rest) = bytes.split_first().expect("more bytes");
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return value;
        }
    }
    panic!("a number of more than ten bytes");
}

/// A message by its fields.
pub(crate) struct Message(Vec<(u64, Value)>);

impl Message {
    pub(crate) fn of(bytes: &[u8]) -> Message {
        Message(fields(bytes))
    }

    pub(crate) fn number(&self, field: u64) -> u64 {
        let found = self.0.iter().find_map(|(number, value)| match value {
            Value::Number(value) if *number == field => Some(*value),
            _ => None,
        });
        found.unwrap_or(0)
    }

    pub(crate) fn numbers(&self, field: u64) -> Vec<u64> {
        let values = self.0.iter().filter(|(number, _)| *number == field);
        let values = values.flat_map(|(_, value)| match value {
            Value::Number(value) => vec![*value],
            Value::Bytes(packed) => {
                let mut packed = &packed[..];
                let mut values = Vec::new();
                while !packed.is_empty() {
                    values.push(varint(&mut packed));
                }
                values
            }
        });
        values.collect()
    }

    pub(crate) fn messages(&self, field: u64) -> Vec<Message> {
        self.bytes(field).into_iter().map(Message::of).collect()
    }

    pub(crate) fn bytes(&self, field: u64) -> Vec<&[u8]> {
        let values = self.0.iter().filter(|(number, _)| *number == field);
        let values = values.map(|(_, value)| match value {
            Value::Bytes(bytes) => &bytes[..],
            Value::Number(_) => panic!("field {field} is a number"),
        });
        values.collect()
    }
}

/// A sample: its frames, leaf first, its values and its labels.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) frames: Vec<String>,
    pub(crate) values: Vec<u64>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A profile, its names looked up.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) types: Vec<String>,
    pub(crate) comments: Vec<String>,
    pub(crate) mappings: Vec<String>,
    pub(crate) duration: u64,
    pub(crate) samples: Vec<Sample>,
    pub(crate) strings: Vec<String>,
}

impl Profile {
    /// Reads a gzipped profile. Every id that is named must be there.
    pub(crate) fn read(gzipped: &[u8]) -> Profile {
        let mut bytes = Vec::new();
        let mut gzip = GzDecoder::new(gzipped);
        gzip.read_to_end(&mut bytes).expect("gzip");
        let profile = Message::of(&bytes);
        let strings = profile.bytes(6).into_iter();
        let strings: Vec<String> = strings
            .map(|bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8"))
            .collect();
        assert_eq!(
            strings.first().map(String::as_str),
            Some(""),
            "the first string"
        );
        let text = |index: u64| strings[usize::try_from(index).expect("an index")].clone();
        let by_id = |field: u64| -> BTreeMap<u64, Message> {
            let messages = profile.messages(field).into_iter();
            messages
                .map(|message| (message.number(1), message))
                .collect()
        };
        let (mappings, locations, functions) = (by_id(3), by_id(4), by_id(5));
        let frame = |line: &Message| {
            let function = &functions[&line.number(1)];
            let (name, file) = (text(function.number(2)), text(function.number(4)));
            match line.number(2) {
                0 => format!("{name} {file}"),
                number => format!("{name} {file}:{number}"),
            }
        };
        let samples = profile.messages(2).into_iter().map(|sample| {
            let mut frames = Vec::new();
            for id in sample.numbers(1) {
                let location = &locations[&id];
                assert!(mappings.contains_key(&location.number(2)), "a mapping");
                frames.extend(location.messages(4).iter().map(frame));
            }
            let labels = sample.messages(3).into_iter();
            Sample {
                frames,
                values: sample.numbers(2),
                labels: labels
                    .map(|label| (text(label.number(1)), text(label.number(2))))
                    .collect(),
            }
        });
        let samples = samples.collect();
        let types = profile.messages(1).into_iter();
        Profile {
            types: types
                .map(|of| format!("{}/{}", text(of.number(1)), text(of.number(2))))
                .collect(),
            comments: profile.numbers(13).into_iter().map(text).collect(),
            mappings: mappings
                .values()
                .map(|mapping| format!("{} {}", text(mapping.number(5)), text(mapping.number(6))))
                .collect(),
            duration: profile.number(10),
            samples,
            strings: strings.clone(),
        }
    }

    /// As text, for a golden file.
    pub(crate) fn shown(&self) -> String {
        let mut out = String::new();
        writeln!(out, "types: {}", self.types.join(", ")).expect("memory");
        writeln!(out, "duration: {}", self.duration).expect("memory");
        for comment in &self.comments {
            writeln!(out, "comment: {comment}").expect("memory");
        }
        for mapping in &self.mappings {
            writeln!(out, "mapping: {mapping}").expect("memory");
        }
        for sample in &self.samples {
            writeln!(out, "\n{:?}", sample.values).expect("memory");
            for (key, value) in &sample.labels {
                writeln!(out, "  {key}: {value}").expect("memory");
            }
            for frame in &sample.frames {
                writeln!(out, "    {}", frame.trim_end()).expect("memory");
            }
        }
        out
    }
}
