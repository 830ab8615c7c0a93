//! Keys, from the bytes that a terminal sends for them (ECMA-48, and xterm's control sequences).

use super::state::Key;

const ESCAPE: u8 = 0x1b;

/// The keys of what arrived at once. An escape that nothing follows is the key of that name; what is
/// none of [`Key`] is left out.
#[must_use]
pub fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (ESCAPE, [b'[' | b'O', sequence @ ..]) => {
                let (key, rest) = sequence_key(sequence);
                keys.extend(key);
                rest
            }
            (ESCAPE, _) => {
                keys.push(Key::Escape);
                tail
            }
            _ => {
                let (key, rest) = plain(rest);
                keys.extend(key);
                rest
            }
        };
    }
    keys
}

/// After `ESC [` or `ESC O`: parameters and intermediates, then one final byte.
fn sequence_key(bytes: &[u8]) -> (Option<Key>, &[u8]) {
    let end = bytes.iter().position(|byte| (0x40..=0x7e).contains(byte));
    let Some((parameters, [last, rest @ ..])) = end.and_then(|end| bytes.split_at_checked(end))
    else {
        return (None, &[]);
    };
    let key = match (last, parameters) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'~', b"5") => Key::PageUp,
        (b'~', b"6") => Key::PageDown,
        (b'M', _) => Key::Enter,
        _ => return (None, rest),
    };
    (Some(key), rest)
}

fn plain(bytes: &[u8]) -> (Option<Key>, &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else {
        return (None, &[]);
    };
    let key = match first {
        b'\r' | b'\n' => Some(Key::Enter),
        0x03 => Some(Key::Interrupt),
        0x0c => Some(Key::Redraw),
        0x08 | 0x7f => Some(Key::Backspace),
        0x20..=0x7e => Some(Key::Char(char::from(first))),
        0x80.. => return wide(bytes),
        _ => None,
    };
    (key, rest)
}

/// A character of several bytes.
fn wide(bytes: &[u8]) -> (Option<Key>, &[u8]) {
    for length in 2..=4 {
        if let Some((character, rest)) = bytes.split_at_checked(length)
            && let Ok(text) = str::from_utf8(character)
        {
            let key = text
                .chars()
                .next()
                .filter(|c| !c.is_control())
                .map(Key::Char);
            return (key, rest);
        }
    }
    (None, bytes.get(1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_send_keys_in_many_ways() {
        for (bytes, expected) in [
            (&b"q"[..], vec![Key::Char('q')]),
            (b"\x1b", vec![Key::Escape]),
            (b"\x1b[A\x1bOB", vec![Key::Up, Key::Down]),
            (b"\x1b[1;5A", vec![Key::Up]),
            (b"\x1b[5~\x1b[6~", vec![Key::PageUp, Key::PageDown]),
            (b"\x1b[H\x1b[4~", vec![Key::Home, Key::End]),
            (b"\x1b[200~x", vec![Key::Char('x')]),
            (
                b"\x03\r\x7f\x0c",
                vec![Key::Interrupt, Key::Enter, Key::Backspace, Key::Redraw],
            ),
            ("ß予".as_bytes(), vec![Key::Char('ß'), Key::Char('予')]),
            (b"\xff\xffa", vec![Key::Char('a')]),
            (b"\x00\x01", vec![]),
            (b"\x1b[", vec![]),
            (b"\x1b[12", vec![]),
            (b"", vec![]),
        ] {
            assert_eq!(keys(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn no_bytes_are_too_much() {
        let mut seed = 1_u32;
        let bytes: Vec<u8> = (0..20_000)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                [ESCAPE, b'[', (seed >> 24) as u8][(seed >> 16) as usize % 3]
            })
            .collect();
        assert!(keys(&bytes).len() <= bytes.len());
    }
}
