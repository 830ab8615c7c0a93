//! Broken images: an error or fewer rows, never a panic, never more rows than bytes.

mod unwind_support;

use holdup::process::module::{Functions, Module, ModuleError};
use holdup::units::{Addr, Svma};
use holdup::unwind::UnwindTable;

/// Marsaglia's xorshift64: the same bytes in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Reads everything there is to read. What comes out must be consistent, whatever went in.
fn read_all(image: &[u8]) -> Result<(), ModuleError> {
    let functions = Functions::from_elf(image);
    let module = Module::from_elf(image)?;
    let _ = module.bias_for(Addr(0x7f00_0000_0000), 0x1000);
    for function in functions?.ranges.iter().take(8) {
        assert!(function.1 > 0);
    }
    let table = UnwindTable::from_elf(image)?;
    assert!(table.rows.len() <= image.len() + 2);
    assert!(table.index.len() <= image.len() / 4 + 2);
    assert!(table.rows.is_sorted());
    assert!(table.index.is_sorted());
    assert_eq!(table.index.last(), Some(&(table.rows.len() as u64)));
    for at in [0, table.base.0, table.base.0.wrapping_add(0x1234), u64::MAX] {
        let _ = table.rule(Svma(at));
    }
    Ok(())
}

fn samples() -> Vec<Vec<u8>> {
    let libgcc = unwind_support::map_file("/lib/x86_64-linux-gnu/libgcc_s.so.1".as_ref());
    vec![unwind_support::vdso(), libgcc.to_vec()]
}

#[test]
fn cut_files_are_refused_or_give_what_is_left() {
    for image in samples() {
        assert_eq!(read_all(&image), Ok(()));
        // Every length within the headers, then ever larger steps.
        let mut len = 0;
        let (mut refused, mut read) = (0, 0);
        while len < image.len() {
            match read_all(&image[..len]) {
                Ok(()) => read += 1,
                Err(_) => refused += 1,
            }
            len += if len < 1024 { 1 } else { 499 };
        }
        assert!(refused >= 64, "{refused} refused, {read} read");
        assert!(read > 0, "{refused} refused, {read} read");
    }
}

#[test]
fn flipped_bits_never_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (image, rounds) in samples().into_iter().zip([3000, 60]) {
        let (mut refused, mut read) = (0, 0);
        for round in 0..rounds {
            let mut broken = image.clone();
            // Some rounds hit the headers, where a byte does most; some hit everything.
            let limit = if round % 3 == 0 { 1024 } else { image.len() };
            for _ in 0..=random.below(24) {
                broken[random.below(limit)] = random.below(256) as u8;
            }
            match read_all(&broken) {
                Ok(()) => read += 1,
                Err(_) => refused += 1,
            }
        }
        assert!(read > 0 && refused > 0, "{refused} refused, {read} read");
    }
}

#[test]
fn every_single_byte_of_the_vdso_may_be_wrong() {
    let mut image = unwind_support::vdso();
    for at in 0..image.len() {
        let was = image[at];
        for wrong in [0xff, was ^ 0x80] {
            image[at] = wrong;
            let _ = read_all(&image);
        }
        image[at] = was;
    }
}

#[test]
fn errors_say_what_the_file_is() {
    let elf = unwind_support::vdso();
    let with = |at: usize, value: u8| {
        let mut image = elf.clone();
        image[at] = value;
        Module::from_elf(&image).unwrap_err()
    };
    assert_eq!(with(0, 0), ModuleError::NotElf);
    assert_eq!(with(4, 1), ModuleError::Bits32);
    assert_eq!(with(5, 2), ModuleError::BigEndian);
    assert_eq!(with(4, 9), ModuleError::Malformed("file class"));
    assert_eq!(with(0x12, 183), ModuleError::Machine(183));
    for (bytes, want) in [
        (&b""[..], ModuleError::NotElf),
        (
            b"#!/bin/sh\necho a script of some length\n",
            ModuleError::NotElf,
        ),
        (b"\x7fELF", ModuleError::Malformed("file header")),
    ] {
        assert_eq!(Module::from_elf(bytes).unwrap_err(), want);
        assert_eq!(UnwindTable::from_elf(bytes).unwrap_err(), want);
    }
    assert_eq!(
        ModuleError::Machine(183).to_string(),
        "ELF image for machine 183; only x86_64 (62) code can be unwound"
    );
}
