//! The wire format of protocol buffers, as far as messages are written here: variable-length
//! integers, fields with a length, and numbers of eight bytes. Source: <https://protobuf.dev/programming-guides/encoding/>.

use crate::fast_hash::FastMap;

/// A message being written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Message(Vec<u8>);

/// Texts by their places in a table, which is a repeated field of a message.
#[derive(Clone, Debug, Default)]
pub(super) struct Strings(FastMap<String, u64>);

impl Strings {
    /// The place of a text; a new one is written to `field` of `table`.
    pub(super) fn place(&mut self, text: &str, table: &mut Message, field: u32) -> u64 {
        if let Some(place) = self.0.get(text) {
            return *place;
        }
        let place = self.0.len() as u64;
        self.0.insert(text.to_owned(), place);
        table.bytes_field(field, text.as_bytes());
        place
    }
}

const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;

impl Message {
    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn tag(&mut self, field: u32, wire_type: u64) {
        self.varint(u64::from(field) << 3 | wire_type);
    }

    /// A number; zero is what a reader takes for a field that is not there.
    pub(super) fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.tag(field, VARINT);
            self.varint(value);
        }
    }

    /// A number, also zero: in a choice it says which one it is.
    pub(super) fn number_or_zero(&mut self, field: u32, value: u64) {
        self.tag(field, VARINT);
        self.varint(value);
    }

    /// A number of eight bytes.
    pub(super) fn fixed(&mut self, field: u32, value: u64) {
        self.tag(field, EIGHT_BYTES);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// `true`; `false` is what a reader takes for a field that is not there.
    pub(super) fn flag(&mut self, field: u32, value: bool) {
        self.number(field, value.into());
    }

    /// A string or bytes, also an empty one: in a repeated field it has its place.
    pub(super) fn bytes_field(&mut self, field: u32, bytes: &[u8]) {
        self.tag(field, LENGTH_DELIMITED);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A message in this one.
    pub(super) fn message(&mut self, field: u32, message: &Message) {
        self.bytes_field(field, &message.0);
    }

    /// The fields of another part of the same message.
    pub(super) fn append(&mut self, more: &Message) {
        self.0.extend_from_slice(&more.0);
    }

    /// Repeated numbers, one after another.
    pub(super) fn packed(&mut self, field: u32, values: impl IntoIterator<Item = u64>) {
        let mut packed = Message::default();
        values.into_iter().for_each(|value| packed.varint(value));
        if !packed.0.is_empty() {
            self.message(field, &packed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the format's own description.
    #[test]
    fn bytes_are_the_published_ones() {
        let mut message = Message::default();
        message.number(1, 150);
        assert_eq!(message.bytes(), [0x08, 0x96, 0x01]);
        let mut message = Message::default();
        message.bytes_field(2, b"testing");
        assert_eq!(message.bytes(), b"\x12\x07testing");
        let mut message = Message::default();
        message.packed(6, [3, 270, 86_942]);
        assert_eq!(
            message.bytes(),
            [0x32, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05]
        );
        let mut message = Message::default();
        message.number(1, u64::MAX);
        assert_eq!(message.bytes().len(), 11);
        let mut outer = Message::default();
        outer.number(3, 0);
        outer.flag(4, false);
        outer.packed(5, []);
        assert!(outer.bytes().is_empty());
        outer.message(3, &message);
        assert_eq!(outer.bytes().len(), 13);
    }
}
