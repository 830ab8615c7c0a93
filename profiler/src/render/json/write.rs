//! JSON that shows what it holds.

use crate::render::escape::is_deceptive;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};
use serde_json::value::RawValue;
use std::io;

/// Writes any value as JSON that shows what it holds.
///
/// # Errors
/// Those of writing to `out`.
pub(in crate::render) fn write(value: &impl Serialize, out: &mut dyn io::Write) -> io::Result<()> {
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut *out, Escaping(PrettyFormatter::default()));
    value.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// As [`write()`], in one line.
///
/// # Errors
/// Those of writing to `out`.
pub(in crate::render) fn line(value: &impl Serialize, out: &mut dyn io::Write) -> io::Result<()> {
    let mut line = Vec::with_capacity(1024);
    add_line(value, &mut line)?;
    out.write_all(&line)
}

/// As [`line()`], at the end of `out`: pieces of a few bytes are put together without a call each that
/// nobody can inline.
///
/// # Errors
/// Those of the value.
pub(in crate::render) fn add_line(value: &impl Serialize, out: &mut Vec<u8>) -> io::Result<()> {
    let escaping = Escaping(CompactFormatter);
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut *out, escaping,
    ))?;
    out.push(b'\n');
    Ok(())
}

/// A text as JSON, to be written many times: made once, it costs a copy each time.
///
/// # Errors
/// None in practice: any text has a JSON form.
pub(in crate::render) fn raw(text: &str) -> io::Result<Box<RawValue>> {
    row(text)
}

/// Any value as JSON in one line, to be a part of other JSON.
///
/// # Errors
/// Those of the value.
pub(in crate::render) fn row(value: &(impl Serialize + ?Sized)) -> io::Result<Box<RawValue>> {
    let mut json = Vec::with_capacity(256);
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut json,
        Escaping(CompactFormatter),
    ))?;
    let json = String::from_utf8(json).map_err(io::Error::other)?;
    Ok(RawValue::from_string(json)?)
}

/// Without characters that hide others or turn the direction of writing.
struct Escaping<F>(F);

impl<F: Formatter> Formatter for Escaping<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Most are of this kind, and need no look at each character.
        if fragment.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return out.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_deceptive(*c)) {
            let (before, after) = rest.split_at(at);
            out.write_all(before.as_bytes())?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = after.get(c.len_utf8()..).unwrap_or_default();
        }
        out.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_deceives_the_eye_is_escaped_and_read_back_the_same() {
        let names = [
            "plain",
            "a\u{202e}b\u{2066}",
            "\u{7f}\u{9b}31m",
            "\u{e0041}\u{feff}",
            "\n\"\\ü予",
        ];
        let value: BTreeMap<&str, Vec<&str>> =
            BTreeMap::from([("names", names.to_vec()), ("\u{202e}", Vec::new())]);
        let mut out = Vec::new();
        write(&value, &mut out).expect("memory");
        let text = String::from_utf8(out).expect("UTF-8");
        let harmless = |c: char| c == '\n' || !is_deceptive(c);
        assert!(text.chars().all(harmless), "{text:?}");
        assert!(
            text.contains("a\\u202eb\\u2066") && text.contains("\\udb40\\udc41"),
            "{text}"
        );
        let read: BTreeMap<&str, Vec<String>> = serde_json::from_str(&text)
            .map(|read: BTreeMap<String, Vec<String>>| {
                let key = |key: String| if key == "names" { "names" } else { "\u{202e}" };
                read.into_iter().map(|(k, v)| (key(k), v)).collect()
            })
            .expect("JSON");
        assert_eq!(read["names"], names);
        // Nothing else is different from what it was.
        let plain = vec![("a", 1.5), ("b", -2.0)];
        let mut out = Vec::new();
        write(&plain, &mut out).expect("memory");
        let pretty = serde_json::to_string_pretty(&plain).expect("memory") + "\n";
        assert_eq!(String::from_utf8(out).expect("UTF-8"), pretty);
    }
}
