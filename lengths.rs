//! How long the waits are: repeatable, uneven, never in step with each other.

use std::time::Duration;

/// `count` lengths of 1 to 10 ms by a fixed seed, and the last one of about 25 ms, so that the
/// longest wait of a site stands out.
pub fn lengths(seed: u64, count: usize) -> impl Iterator<Item = Duration> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count).map(move |index| {
        // Marsaglia's xorshift64: all that is asked of it is to be uneven.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let uneven = state % 9_000;
        let micros = if index + 1 == count { 22_000 + uneven / 3 } else { 1_000 + uneven };
        Duration::from_micros(micros)
    })
}
