//! Compressed sections: what they unpack to is known before anybody makes room for it.

use flate2::read::ZlibDecoder;
use object::{CompressionFormat, Object, ObjectSection};
use std::io::Read;

/// Whether the compressed sections of debug information claim to hold no more than `most` bytes
/// together, in a format that is read. Whether they hold that is for the process that reads them to
/// find out, whose memory has a limit.
pub(super) fn debug_fits(elf: &object::File<'_>, most: u64) -> bool {
    fit(elf, true, most, |_, _| true)
}

/// Whether all other compressed sections hold what they claim to hold, and no more than `most` bytes
/// together. Whoever reads them takes the memory that they claim, and a few bytes can claim, or be,
/// any number.
pub(super) fn others_are_honest(elf: &object::File<'_>, most: u64) -> bool {
    fit(elf, false, most, holds)
}

fn fit(
    elf: &object::File<'_>,
    debug: bool,
    most: u64,
    is_honest: impl Fn(&[u8], u64) -> bool,
) -> bool {
    let mut left = most;
    elf.sections()
        .filter(|section| {
            let name = section.name().unwrap_or_default();
            debug == (name.starts_with(".debug_") || name.starts_with(".zdebug_"))
        })
        .all(|section| {
            let Ok(range) = section.compressed_file_range() else {
                return false;
            };
            if range.format == CompressionFormat::None {
                return true;
            }
            let Some(rest) = left.checked_sub(range.uncompressed_size) else {
                return false;
            };
            left = rest;
            let data = section.compressed_data().ok();
            range.format == CompressionFormat::Zlib
                && data.is_some_and(|data| is_honest(data.data, range.uncompressed_size))
        })
}

/// Whether a zlib stream unpacks to exactly this many bytes.
fn holds(packed: &[u8], size: u64) -> bool {
    let mut unpacked = ZlibDecoder::new(packed).take(size.saturating_add(1));
    std::io::copy(&mut unpacked, &mut std::io::sink()).is_ok_and(|len| len == size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_stream_is_as_long_as_it_is() {
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(&[0; 1 << 20]).expect("memory");
        let packed = packer.finish().expect("memory");
        assert!(packed.len() < 4096, "a thousandth");
        assert!(holds(&packed, 1 << 20));
        assert!(!holds(&packed, (1 << 20) - 1));
        assert!(!holds(&packed, u64::MAX));
        assert!(!holds(&packed[..100], 1 << 20));
        assert!(!holds(b"nothing of the kind", 19));
    }
}
