//! `/proc/PID/stat`; see proc_pid_stat(5).

/// The fields of `/proc/PID/stat` that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// `R`, `S`, `D`, `Z`, …
    pub(crate) state: u8,
    /// The kernel's `PF_*` flags of the main thread.
    pub(crate) flags: u32,
    /// Start, in clock ticks since boot.
    pub(crate) start_ticks: u64,
}

impl Stat {
    /// Whether it is of a program: of no thread of the kernel's, and of none that has ended.
    pub(super) const fn is_of_a_program(&self) -> bool {
        self.flags & PF_KTHREAD == 0 && self.state != b'Z'
    }
}

/// `PF_KTHREAD` of `include/linux/sched.h`.
pub(crate) const PF_KTHREAD: u32 = 0x0020_0000;

/// Parses `/proc/PID/stat`; see proc_pid_stat(5).
pub(crate) fn parse_stat(content: &[u8]) -> Option<Stat> {
    // The second field is the name in parentheses and may itself hold parentheses and spaces.
    let name_end = content.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(content.get(name_end + 1..)?).ok()?;
    // Field 3 is the first behind the name.
    let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3);
    Some(Stat {
        state: *field(3)?.as_bytes().first()?,
        flags: field(9)?.parse().ok()?,
        start_ticks: field(22)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_nasty_names() {
        let tail = "S 1 2 3 4 5 4194560 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21";
        for name in ["plain", "a) R 1 (b", "sp ace", ")"] {
            let line = format!("4711 ({name}) {tail}\n");
            let want = Stat {
                state: b'S',
                flags: 4_194_560,
                start_ticks: 777,
            };
            assert_eq!(parse_stat(line.as_bytes()), Some(want), "{name}");
        }
        for broken in ["", "4711", "4711 (x", "4711 (x)", "4711 (x) S 1 2 3"] {
            assert_eq!(parse_stat(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn our_own_is_of_a_program() {
        let own = std::fs::read("/proc/self/stat").expect("our own");
        let own = parse_stat(&own).expect("a stat");
        assert!(own.is_of_a_program());
        let other = |state, flags| Stat {
            state,
            flags,
            ..own
        };
        assert!(!other(b'Z', own.flags).is_of_a_program());
        assert!(!other(b'S', PF_KTHREAD).is_of_a_program());
    }
}
