//! Names of threads and processes as the kernel keeps them.

/// A thread's name out of `/proc/…/comm`, or out of the kernel's zero-padded array.
#[must_use]
pub fn parse_comm(comm: &[u8]) -> String {
    let end = comm
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(comm.len());
    let name = comm.get(..end).unwrap_or_default();
    String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(name)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_the_newline_and_the_padding_only() {
        assert_eq!(parse_comm(b"tokio-runtime-w\n"), "tokio-runtime-w");
        assert_eq!(parse_comm(b"abc\0\0\0\0"), "abc");
        assert_eq!(parse_comm(b"a\nb\n"), "a\nb");
        assert_eq!(parse_comm(b"\xff\x1b[31m"), "\u{fffd}\x1b[31m");
        assert_eq!(parse_comm(b""), "");
    }
}
