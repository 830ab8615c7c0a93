use super::*;
use crate::testing::skipped;

/// Builds small BTF images; ids count from 1 in the order of `add`.
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Builder {
    fn new() -> Builder {
        Builder {
            types: Vec::new(),
            strings: vec![0],
        }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn add(&mut self, name: &str, info: u32, size_or_type: u32, rest: &[u32]) {
        let name = self.string(name);
        for word in [name, info, size_or_type].iter().chain(rest) {
            self.types.extend_from_slice(&word.to_ne_bytes());
        }
    }

    fn build(self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC.to_ne_bytes());
        out.extend_from_slice(&[1, 0]);
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        for word in [24, 0, types, types, strings] {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        out.extend_from_slice(&self.types);
        out.extend_from_slice(&self.strings);
        out
    }
}

/// A kernel that lacks this counts BPF's memory as locked.
pub(in crate::host) const NEWER_ACCOUNTING: &str = "accounting by cgroup";

/// The types of a kernel with all that recordings need, but for those called one of `lacking`.
pub(in crate::host) fn kernel_image(lacking: &[&str]) -> Vec<u8> {
    let mut b = Builder::new();
    let mut strings = |names: &[&str]| -> Vec<u32> {
        let kept = names.iter().filter(|name| !lacking.contains(name));
        kept.map(|name| b.string(name)).collect()
    };
    let fields = strings(&["pid", "tgid", "comm", "on_cpu", "nvcsw", "stack", "__state"]);
    let helpers = strings(&["BPF_FUNC_ringbuf_output", "BPF_FUNC_task_pt_regs"]);
    let members: Vec<u32> = fields
        .iter()
        .zip(0..)
        .flat_map(|(&name, at)| [name, 1, at * 32])
        .collect();
    b.add("int", info(1, 0), 4, &[32]); // 1
    b.add(
        "task_struct",
        info(KIND_STRUCT, fields.len() as u32),
        64,
        &members,
    );
    let values: Vec<u32> = helpers.iter().flat_map(|&name| [name, 1]).collect();
    b.add(
        "bpf_func_id",
        info(KIND_ENUM, helpers.len() as u32),
        4,
        &values,
    );
    b.add(
        "",
        info(KIND_FUNC_PROTO, 5),
        0,
        &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1],
    ); // 4
    b.add("", info(KIND_PTR, 0), 4, &[]); // 5
    for name in [
        "sched_switch",
        "sched_waking",
        "sched_process_fork",
        "sched_process_exec",
        "sys_enter",
        "sys_exit",
    ] {
        if !lacking.contains(&name) {
            b.add(&format!("btf_trace_{name}"), info(KIND_TYPEDEF, 0), 5, &[]);
        }
    }
    if lacking.contains(&NEWER_ACCOUNTING) {
        let memory = b.string("memory");
        b.add("bpf_map", info(KIND_STRUCT, 1), 4, &[memory, 1, 0]);
    }
    if !lacking.contains(&"bpf_iter_task") {
        b.add("bpf_iter_task", info(KIND_FUNC, 0), 4, &[]);
    }
    b.build()
}

fn info(kind: u32, count: u32) -> u32 {
    kind << 24 | count
}

/// `struct outer { int a; struct { union { int b; long c; }; int d:3; }; const inner_t e; }` and
/// `typedef void (*btf_trace_hit)(void *, int, int)`.
fn sample() -> Vec<u8> {
    let mut b = Builder::new();
    let [a, bb, c, d, e, x] = ["a", "b", "c", "d", "e", "x"].map(|name| b.string(name));
    b.add("int", info(1, 0), 4, &[32]); // 1
    b.add("", info(KIND_UNION, 2), 8, &[bb, 1, 0, c, 1, 0]); // 2
    b.add(
        "",
        info(KIND_STRUCT, 2) | 1 << 31,
        16,
        &[0, 2, 64, d, 1, 128 | 3 << 24],
    ); // 3
    b.add("inner", info(KIND_STRUCT, 1), 8, &[x, 1, 32]); // 4
    b.add("inner_t", info(KIND_TYPEDEF, 0), 4, &[]); // 5
    b.add("", info(KIND_CONST, 0), 5, &[]); // 6
    b.add(
        "outer",
        info(KIND_STRUCT, 3),
        40,
        &[a, 1, 0, 0, 3, 64, e, 6, 256],
    ); // 7
    b.add("", info(KIND_FUNC_PROTO, 3), 0, &[0, 1, 0, 1, 0, 1]); // 8
    b.add("", info(KIND_PTR, 0), 8, &[]); // 9
    b.add("btf_trace_hit", info(KIND_TYPEDEF, 0), 9, &[]); // 10
    b.add("loop", info(KIND_TYPEDEF, 0), 11, &[]); // 11, its own target
    let [v, w] = ["VALUE", "WIDE"].map(|name| b.string(name));
    b.add("small", info(KIND_ENUM, 1), 4, &[v, 1]); // 12
    b.add("wide", info(KIND_ENUM64, 1), 8, &[w, 1, 1]); // 13
    b.add("knot", info(KIND_STRUCT, 2), 8, &[0, 14, 0, 0, 14, 0]); // 14, holds itself, twice
    b.build()
}

#[test]
fn members_are_found_through_anonymous_and_named_structs() {
    let btf = KernelBtf::parse(sample()).expect("valid");
    assert_eq!(btf.member_offset("outer", "a"), Some(0));
    assert_eq!(btf.member_offset("outer", "b"), Some(16));
    assert_eq!(btf.member_offset("outer", "c"), Some(16));
    assert_eq!(btf.member_offset("outer", "e"), Some(32));
    assert_eq!(btf.member_offset("outer", "e.x"), Some(36));
    assert_eq!(
        btf.member_offset("outer", "d"),
        None,
        "a bitfield has no byte offset"
    );
    assert_eq!(btf.member_offset("outer", "e.y"), None);
    assert_eq!(
        btf.member_offset("outer", "a.x"),
        None,
        "an int has no members"
    );
    assert_eq!(btf.member_offset("oute", "a"), None, "a prefix is no name");
    assert_eq!(btf.member_offset("knot", "nothing"), None, "a cycle ends");
}

#[test]
fn enums_and_tracepoints() {
    let btf = KernelBtf::parse(sample()).expect("valid");
    assert!(btf.has_enum_value("small", "VALUE"));
    assert!(btf.has_enum_value("wide", "WIDE"));
    assert!(!btf.has_enum_value("small", "WIDE"));
    assert_eq!(btf.tracepoint_args("hit"), Some(2));
    assert_eq!(btf.tracepoint_args("miss"), None);
    assert!(btf.resolve(11).is_none(), "a typedef of itself ends");
}

#[test]
fn this_kernel_has_what_every_kernel_has() {
    let btf = match KernelBtf::load() {
        Ok(btf) => btf,
        // A container may hide /sys; the other tests cover the parser.
        Err(error) => return skipped(&error.to_string()),
    };
    let tgid = btf
        .member_offset("task_struct", "tgid")
        .expect("task_struct.tgid");
    let pid = btf
        .member_offset("task_struct", "pid")
        .expect("task_struct.pid");
    assert_eq!(tgid, pid + 4, "tgid follows pid since long ago");
    assert!(btf.member_offset("task_struct", "thread.fsbase").is_some());
    assert!(btf.member_offset("task_struct", "no_such_member").is_none());
    assert!(btf.has_enum_value("bpf_func_id", "BPF_FUNC_ringbuf_output"));
    assert!(!btf.has_enum_value("bpf_func_id", "BPF_FUNC_of_a_dream"));
    assert!(btf.has_function("bpf_iter_task"));
    assert!(!btf.has_function("bpf_iter_of_a_dream"));
    assert!(!btf.is_empty() && btf.len() > 1000);
    let args = btf.tracepoint_args("sched_switch").expect("sched_switch");
    assert!((3..=4).contains(&args), "{args} arguments");
}

#[test]
fn truncated_data_is_refused_or_safe() {
    let whole = sample();
    for len in 0..whole.len() {
        if let Ok(btf) = KernelBtf::parse(whole.get(..len).unwrap_or_default().to_vec()) {
            panic!("{len} of {} bytes passed for whole: {btf:?}", whole.len());
        }
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let whole = sample();
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut data = whole.clone();
            if let Some(byte) = data.get_mut(at) {
                *byte ^= flip;
            }
            ask_everything(data);
        }
    }
}

#[test]
fn live_data_with_flipped_bytes_never_panics() {
    let whole = match std::fs::read(VMLINUX) {
        Ok(whole) => whole,
        Err(error) => return skipped(&format!("{VMLINUX}: {error}")),
    };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..3 {
        let mut data = whole.clone();
        for _ in 0..64 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = (state >> 33) as usize % data.len();
            if let Some(byte) = data.get_mut(at) {
                *byte = (state >> 17) as u8;
            }
        }
        ask_everything(data);
    }
}

fn ask_everything(data: Vec<u8>) {
    if let Ok(btf) = KernelBtf::parse(data) {
        for (strukt, member) in [
            ("outer", "e.x"),
            ("outer", "b"),
            ("knot", "q"),
            ("task_struct", "tgid"),
        ] {
            let _ = btf.member_offset(strukt, member);
        }
        let _ = btf.has_enum_value("small", "VALUE");
        let _ = btf.has_enum_value("wide", "WIDE");
        let _ = btf.tracepoint_args("hit");
    }
}
