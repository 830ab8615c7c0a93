//! Blind mutations, the same in every run.

/// Marsaglia's xorshift64.
pub(crate) struct Random(u64);

/// Longest input made; longer seeds are not made longer.
const MAX_LEN: usize = 64 << 10;

/// Numbers at which something overflows, wraps or begins.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    7,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fff0,
    0xffff_ffff_ffff_ffff,
];

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `limit`; 0 where that is 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % (limit.max(1) as u64)) as usize
    }
}

/// One of the seeds, changed in one to eight ways.
pub(crate) fn mutated(seeds: &[&Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(8) {
        change(&mut bytes, seeds, random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[&Vec<u8>], random: &mut Random) {
    // What stands at the beginning decides most.
    let limit = if random.below(2) == 0 {
        bytes.len().min(256)
    } else {
        bytes.len()
    };
    let at = random.below(limit);
    let some = 1 + random.below(32);
    let end = (at + some).min(bytes.len());
    match random.below(8) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at.min(end)..end)),
        2 if bytes.len() < MAX_LEN => {
            let piece = bytes[at.min(end)..end].to_vec();
            bytes.splice(at..at, piece.repeat(1 + random.below(20)));
        }
        3 if bytes.len() < MAX_LEN => {
            let other = seeds[random.below(seeds.len())];
            let from = random.below(other.len());
            let to = (from + 16 * some).min(other.len());
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        4 | 5 => {
            // A number of 1, 2, 4 or 8 bytes.
            let len = 1 << random.below(4);
            let number = NUMBERS[random.below(NUMBERS.len())].to_le_bytes();
            let number = number.into_iter().take(len);
            bytes
                .iter_mut()
                .skip(at)
                .zip(number)
                .for_each(|(byte, new)| *byte = new);
        }
        6 => bytes
            .iter_mut()
            .skip(at)
            .take(1)
            .for_each(|byte| *byte ^= 1 << random.below(8)),
        _ => bytes
            .iter_mut()
            .skip(at)
            .take(1)
            .for_each(|byte| *byte = random.next() as u8),
    }
}
