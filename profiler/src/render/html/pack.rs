//! Bytes that a page can hold: compressed, and spelled in Base64.

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use std::io::{self, Write as _};
use std::panic::resume_unwind;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// Not the best: a million waits are to be packed in a second, and most of their bits are noise.
const LEVEL: u32 = 4;

/// Bytes that go to the packing at once, and how many times as many may wait for it.
const PIECE: usize = 1 << 16;
const AHEAD: usize = 16;

/// Writes what `fill` writes into the packing. Both take their time, and are done side by side.
pub(super) fn pack(
    out: &mut dyn io::Write,
    fill: impl FnOnce(&mut dyn io::Write) -> io::Result<()> + Send,
) -> io::Result<()> {
    let base64 = Base64::new(out);
    // No name and no time: the same data are the same bytes.
    let mut gzip: GzEncoder<_> = GzBuilder::new().write(base64, Compression::new(LEVEL));
    thread::scope(|scope| {
        let (sender, pieces) = sync_channel(AHEAD);
        let filled = scope.spawn(move || {
            let mut buffered = io::BufWriter::with_capacity(PIECE, Sending(sender));
            fill(&mut buffered)?;
            buffered.flush()
        });
        for piece in pieces {
            gzip.write_all(&piece)?;
        }
        filled.join().unwrap_or_else(|panic| resume_unwind(panic))
    })?;
    gzip.finish()?.finish()
}

/// Sends on what is written.
struct Sending(SyncSender<Vec<u8>>);

impl io::Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Nobody takes it any more after an error of writing, which is told by whoever met it.
        let sent = self.0.send(bytes.to_vec());
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Spells bytes in Base64. Source: RFC 4648, section 4.
struct Base64<'a> {
    out: &'a mut dyn io::Write,
    /// Bytes that are no group of three yet.
    rest: Vec<u8>,
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl<'a> Base64<'a> {
    fn new(out: &'a mut dyn io::Write) -> Base64<'a> {
        Base64 {
            out,
            rest: Vec::new(),
        }
    }

    fn finish(self) -> io::Result<()> {
        match *self.rest {
            [] => Ok(()),
            [one] => {
                let [a, b, ..] = spelled([one, 0, 0]);
                self.out.write_all(&[a, b, b'=', b'='])
            }
            [one, two, ..] => {
                let [a, b, c, _] = spelled([one, two, 0]);
                self.out.write_all(&[a, b, c, b'='])
            }
        }
    }
}

impl io::Write for Base64<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        let (groups, rest) = self.rest.as_chunks::<3>();
        let mut text = Vec::with_capacity(groups.len() * 4);
        for group in groups {
            text.extend_from_slice(&spelled(*group));
        }
        let rest = rest.to_vec();
        self.out.write_all(&text)?;
        self.rest = rest;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn spelled([a, b, c]: [u8; 3]) -> [u8; 4] {
    let bits = u32::from_be_bytes([0, a, b, c]);
    [18, 12, 6, 0].map(|shift| {
        let digit = (bits >> shift) & 63;
        DIGITS.get(digit as usize).copied().unwrap_or(b'A')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base64(pieces: &[&str]) -> String {
        let mut out = Vec::new();
        let mut base64 = Base64::new(&mut out);
        for piece in pieces {
            base64.write_all(piece.as_bytes()).expect("memory");
        }
        base64.finish().expect("memory");
        String::from_utf8(out).expect("ASCII")
    }

    /// The vectors of RFC 4648, section 10.
    #[test]
    fn base64_is_the_published_one() {
        for (text, spelled) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(&[text]), spelled);
        }
        assert_eq!(base64(&["f", "oo", "b", "ar"]), "Zm9vYmFy");
    }

    #[test]
    fn the_first_error_is_told() {
        let data: Vec<u8> = (0..4_000_000_u32)
            .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
            .collect();
        let mut small = [0; 1000];
        let error = pack(&mut &mut small[..], |out| out.write_all(&data)).expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
        let fails = |out: &mut dyn io::Write| {
            out.write_all(&data)?;
            Err(io::Error::other("no more"))
        };
        let error = pack(&mut io::sink(), fails).expect_err("fails");
        assert_eq!(error.to_string(), "no more");
    }

    #[test]
    fn the_same_data_are_the_same_bytes() {
        let packed = || {
            let mut out = Vec::new();
            pack(&mut out, |out| out.write_all(&[7; 100_000])).expect("memory");
            out
        };
        assert_eq!(packed(), packed());
        assert!(packed().len() < 1_000);
    }
}
