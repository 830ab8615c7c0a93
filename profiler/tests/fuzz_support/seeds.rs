//! The seeds that are made by code. `fuzz/seeds` holds them, because the fuzzer reads files, and
//! beside them what the fuzzer found.

use super::image::{DATA, TEXT, image, with_frames};
use gimli::write::{
    Address, CallFrameInstruction as Cfi, CommonInformationEntry, EhFrame, EndianVec,
    FrameDescriptionEntry, FrameTable,
};
use gimli::{Encoding, Format, LittleEndian, X86_64};
use profiler_common::record::{
    CallRecord, ChildRecord, ExecRecord, ForkRecord, Header, KIND_CALL, KIND_CHILD, KIND_EXEC,
    KIND_FORK, KIND_OBJECT, KIND_PANIC, KIND_RAW_STACK, KIND_SAMPLE, KIND_SNAPSHOT, KIND_STACK,
    KIND_THREAD_END, KIND_WAIT, ObjectRecord, PanicRecord, RawStackRecord, SampleRecord,
    SnapshotRecord, StackRecord, ThreadEndRecord, WaitRecord,
};

/// One file: target, name, content.
pub(crate) type Seed = (&'static str, &'static str, Vec<u8>);

pub(crate) fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    seeds.extend(elf());
    seeds.extend(frames());
    seeds.push(("btf", "types", btf()));
    seeds.extend(events());
    seeds.extend(maps());
    seeds.extend(perf_maps());
    seeds.extend(crates());
    seeds.extend(names());
    seeds.extend(texts());
    seeds.push(("copy", "cut", crates().remove(0).2));
    seeds
}

fn elf() -> Vec<Seed> {
    let frames = eh_frame();
    let note = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0twenty bytes of an id";
    let constants =
        b"/home/u/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/tokio-1.54.1/src/\
        runtime/park.rs tokio-rt-worker /vendor/tokio/src/lib.rs";
    let whole = image(
        &[
            (".eh_frame", &frames),
            (".note.gnu.build-id", note),
            (".rodata", constants),
            (".comment", b"crafted"),
        ],
        false,
    );
    let mut big_endian = whole.clone();
    big_endian[5] = 2;
    let mut arm = whole.clone();
    arm[0x12] = 183;
    let mut far = whole.clone();
    // The address of the last segment with code is not that of any file.
    far[136..144].copy_from_slice(&(u64::MAX - 0x10).to_le_bytes());
    far[124..128].copy_from_slice(&5u32.to_le_bytes());
    vec![
        ("elf", "cut", whole[..DATA as usize + 40].to_vec()),
        ("elf", "crafted", whole),
        ("elf", "stripped", image(&[("", &frames)], true)),
        ("elf", "big-endian", big_endian),
        ("elf", "arm", arm),
        ("elf", "far", far),
        (
            "elf",
            "script",
            b"#!/bin/sh\nexec tokio-rt-worker\n".to_vec(),
        ),
    ]
}

fn frames() -> Vec<Seed> {
    let section = eh_frame();
    let with = |place: u8, content: &[u8]| [&[place][..], content].concat();
    // Version 1, then how the pointer, the count and the table are encoded, for one function.
    let mut header = vec![1, 0x1b, 0x03, 0x3b];
    header.extend(16i32.to_le_bytes());
    header.extend(1u32.to_le_bytes());
    let relative = |to: u64| (to.wrapping_sub(DATA) as u32).to_le_bytes();
    header.extend(relative(TEXT + 0x10));
    let cie = 4 + u64::from(u32::from_le_bytes(*section.first_chunk().unwrap()));
    header.extend(relative(DATA + 20 + cie));
    header.extend(&section);
    let seeds = vec![
        ("eh_frame", "section", with(0, &section)),
        ("eh_frame", "debug", with(1, &section)),
        ("eh_frame", "header", with(2, &header)),
    ];
    // The header is of use only if it is understood.
    let found = |content: &[u8]| {
        let table = holdup::unwind::UnwindTable::from_elf(&with_frames(content[0], &content[1..]));
        table.unwrap().entries
    };
    assert_eq!(found(&seeds[0].2), 8);
    assert_eq!(found(&seeds[2].2), 1);
    seeds
}

/// One function for each kind of rule.
fn eh_frame() -> Vec<u8> {
    let mut table = FrameTable::default();
    let encoding = Encoding {
        format: Format::Dwarf32,
        version: 1,
        address_size: 8,
    };
    let mut cie = CommonInformationEntry::new(encoding, 1, -8, X86_64::RA);
    cie.add_instruction(Cfi::Cfa(X86_64::RSP, 8));
    cie.add_instruction(Cfi::Offset(X86_64::RA, -8));
    let cie = table.add_cie(cie);
    let functions: [&[(u32, Cfi)]; 8] = [
        &[(1, Cfi::CfaOffset(16)), (9, Cfi::CfaOffset(8))],
        &[
            (1, Cfi::CfaOffset(16)),
            (1, Cfi::Offset(X86_64::RBP, -16)),
            (4, Cfi::CfaRegister(X86_64::RBP)),
            (9, Cfi::Cfa(X86_64::RSP, 8)),
            (9, Cfi::Restore(X86_64::RBP)),
        ],
        &[(0, Cfi::Undefined(X86_64::RA))],
        &[
            (2, Cfi::RememberState),
            (4, Cfi::CfaOffset(64)),
            (8, Cfi::RestoreState),
        ],
        &[(0, Cfi::Cfa(X86_64::RBX, 16))],
        &[(0, Cfi::CfaOffset(1 << 20))],
        &[(3, Cfi::RestoreState)],
        &[(200, Cfi::ArgsSize(8)), (250, Cfi::CfaOffset(4096))],
    ];
    for (number, instructions) in (0..).zip(functions) {
        let start = Address::Constant(TEXT + 0x10 + 0x110 * number);
        let mut fde = FrameDescriptionEntry::new(start, 0x108);
        for (offset, instruction) in instructions {
            fde.add_instruction(*offset, instruction.clone());
        }
        table.add_fde(cie, fde);
    }
    let mut section = EhFrame(EndianVec::new(LittleEndian));
    table.write_eh_frame(&mut section).unwrap();
    section.0.into_vec()
}

/// Types of every kind that is asked for, under the names that are asked for: see `harness::btf`.
fn btf() -> Vec<u8> {
    let mut strings = vec![0];
    let mut types = Vec::new();
    let mut string = |text: &str| -> u32 {
        let at = strings.len() as u32;
        strings.extend(text.as_bytes());
        strings.push(0);
        if text.is_empty() { 0 } else { at }
    };
    let mut add = |name: u32, kind: u32, count: u32, size_or_type: u32, rest: &[u32]| {
        for word in [name, kind << 24 | count, size_or_type].iter().chain(rest) {
            types.extend(word.to_le_bytes());
        }
    };
    let [a, b, d, e, x] = ["a", "b", "d", "e", "x"].map(&mut string);
    add(string("int"), 1, 0, 4, &[32]);
    add(0, 5, 1, 8, &[b, 1, 0]);
    // Bit 7 of the kind: member offsets with a bitfield's size.
    add(0, 4 | 1 << 7, 2, 16, &[0, 2, 64, d, 1, 128 | 3 << 24]);
    add(string("inner"), 4, 1, 8, &[x, 1, 32]);
    add(string("inner_t"), 8, 0, 4, &[]);
    add(0, 10, 0, 5, &[]);
    add(string("outer"), 4, 3, 40, &[a, 1, 0, 0, 3, 64, e, 6, 256]);
    add(0, 13, 3, 0, &[0, 1, 0, 1, 0, 1]);
    add(0, 2, 0, 8, &[]);
    add(string("btf_trace_hit"), 8, 0, 9, &[]);
    let [small, value, wide, long] = ["small", "VALUE", "wide", "WIDE"].map(&mut string);
    add(small, 6, 1, 4, &[value, 1]);
    add(wide, 19, 1, 8, &[long, 1, 1]);
    add(string("knot"), 4, 2, 8, &[0, 13, 0, 0, 13, 0]);
    add(string("array"), 3, 0, 0, &[1, 1, 4]);
    let pid = string("pid");
    add(string("task_struct"), 4, 1, 8, &[pid, 1, 0]);

    let mut out = vec![0x9f, 0xeb, 1, 0];
    let (types_len, strings_len) = (types.len() as u32, strings.len() as u32);
    for word in [24, 0, types_len, types_len, strings_len] {
        out.extend(word.to_le_bytes());
    }
    out.extend(types);
    out.extend(strings);
    out
}

fn events() -> Vec<Seed> {
    let header = |kind, len: usize| Header {
        kind,
        len: len as u32,
        tgid: 1000,
        tid: 1001,
    };
    let comm = *b"tokio-rt-worker\0";
    let mut stack: StackRecord = bytemuck::Zeroable::zeroed();
    stack.header = header(KIND_STACK, size_of::<StackRecord>() + 24);
    (stack.syscall, stack.user_frames, stack.kernel_frames) = (202, 2, 1);
    stack.comm = comm;
    let mut stack = bytemuck::bytes_of(&stack).to_vec();
    for frame in [0x5555_0000_1000u64, 0x7f00_0000_2000, 0xffff_ffff_8100_0000] {
        stack.extend(frame.to_le_bytes());
    }
    let mut wait: WaitRecord = bytemuck::Zeroable::zeroed();
    wait.header = header(KIND_WAIT, size_of::<WaitRecord>());
    (wait.start, wait.wakeup, wait.end, wait.stack) = (5, 6, 7, 8);
    wait.waker_comm = comm;
    let mut end: ThreadEndRecord = bytemuck::Zeroable::zeroed();
    end.header = header(KIND_THREAD_END, size_of::<ThreadEndRecord>());
    let exec = ExecRecord {
        header: header(KIND_EXEC, size_of::<ExecRecord>()),
        time: 9,
    };
    let mut snapshot: SnapshotRecord = bytemuck::Zeroable::zeroed();
    snapshot.header = header(KIND_SNAPSHOT, size_of::<SnapshotRecord>());
    snapshot.comm = [0xff; 16];
    let mut fork: ForkRecord = bytemuck::Zeroable::zeroed();
    fork.header = header(KIND_FORK, size_of::<ForkRecord>());
    let mut object: ObjectRecord = bytemuck::Zeroable::zeroed();
    let text = b"x\0lib\0var\0";
    object.header = header(KIND_OBJECT, size_of::<ObjectRecord>() + text.len());
    (object.kind, object.fd, object.text) = (1, 3, text.len() as u32);
    let mut object = bytemuck::bytes_of(&object).to_vec();
    object.extend(text);
    let mut child: ChildRecord = bytemuck::Zeroable::zeroed();
    child.header = header(KIND_CHILD, size_of::<ChildRecord>());
    let mut call: CallRecord = bytemuck::Zeroable::zeroed();
    call.header = header(KIND_CALL, size_of::<CallRecord>());
    (call.start, call.end, call.on_cpu, call.stack) = (5, 9, 3, 8);
    let mut panic: PanicRecord = bytemuck::Zeroable::zeroed();
    panic.header = header(KIND_PANIC, size_of::<PanicRecord>());
    (panic.time, panic.stack, panic.task_id) = (5, 8, 17);
    let mut sample: SampleRecord = bytemuck::Zeroable::zeroed();
    sample.header = header(KIND_SAMPLE, size_of::<SampleRecord>() + stack.len());
    (sample.task_id, sample.tick) = (17, 0);
    let mut sample = bytemuck::bytes_of(&sample).to_vec();
    sample.extend(&stack);
    let mut raw: RawStackRecord = bytemuck::Zeroable::zeroed();
    raw.header = header(KIND_RAW_STACK, size_of::<RawStackRecord>() + 16);
    (raw.sp, raw.address, raw.bytes, raw.last) = (0x7ffe_0000_0ff0, 0x7ffe_0000_0ff0, 16, 1);
    let mut raw = bytemuck::bytes_of(&raw).to_vec();
    raw.extend([0x5a; 16]);
    vec![
        ("events", "object", object),
        ("events", "child", bytemuck::bytes_of(&child).to_vec()),
        ("events", "call", bytemuck::bytes_of(&call).to_vec()),
        ("events", "panic", bytemuck::bytes_of(&panic).to_vec()),
        ("events", "sample", sample),
        ("events", "stack", stack),
        ("events", "wait", bytemuck::bytes_of(&wait).to_vec()),
        ("events", "thread-end", bytemuck::bytes_of(&end).to_vec()),
        ("events", "exec", bytemuck::bytes_of(&exec).to_vec()),
        ("events", "snapshot", bytemuck::bytes_of(&snapshot).to_vec()),
        ("events", "fork", bytemuck::bytes_of(&fork).to_vec()),
        ("events", "raw-stack", raw),
    ]
}

fn maps() -> Vec<Seed> {
    let text = b"55e0c8a00000-55e0c8a22000 r-xp 00022000 fe:00 1835017    /usr/bin/claims_api\n\
        55e0c9000000-55e0c9021000 rw-p 00000000 00:00 0          [heap]\n\
        7f1bc8000000-7f1bc8021000 rwxs 00000000 00:01 99         /memfd:code\\012\xff (deleted)\n\
        7f1bc9000000-7f1bc9001000 r-xp 00000000 00:00 0 \n\
        7ffd2a5fe000-7ffd2a600000 r-xp 00000000 00:00 0          [vdso]\n\
        7ffd2a600000-7ffd2a601000 rw-p 00000000 00:00 0          [anon: stack of a worker]\n\
        ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]\n";
    vec![("maps", "process", text.to_vec())]
}

fn perf_maps() -> Vec<Seed> {
    let written = b"7f1bc8000010 20 LazyCompile:~first /srv/app.js:1\n\
        0x7f1bc8000100 0x40 py::handler:/srv/app.py\n\
        7f1bc8000010 20 LazyCompile:*first /srv/app.js:1\n";
    let made_up = b"ffffffffffffffff ffffffffffffffff last\n\
        0 ffffffffffffffff all\n\
        10 0 nothing\n\
        18 8 \xff\xfe\x1b[2J\xe2\x80\xae\n\
        -1 2 sign\n\
        +1 2 sign\n\
        10000000000000000 1 too long\n\
        1 1\n1 1 \n 1 1 x\n\
        20 8 twice\r\n20 8 twice again";
    vec![
        ("perf_map", "written", written.to_vec()),
        ("perf_map", "made-up", made_up.to_vec()),
    ]
}

fn texts() -> Vec<Seed> {
    let mut answer = vec![0; 32];
    (answer[4], answer[0]) = (20, 48);
    answer.extend([8, 0, 2, 0, 7, 0, 0, 0]);
    [
        (
            "stat",
            &b"42 (a) (b)) S 1 42 42 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 3 0 123456 1 2 3"[..],
        ),
        ("status", b"Name:\ta\nTgid:\t42\nUid:\t1\t2\t3\t4\n"),
        (
            "fdinfo",
            b"pos:\t0\nflags:\t02\nmnt_id:\t29\nino:\t4026531840\n",
        ),
        (
            "mountinfo",
            b"29 1 0:26 / /mnt rw - fuse x rw\nmnt_id:\t29\n",
        ),
        (
            "cgroup",
            b"4:cpu,cpuacct:/a/b\n0::/a/../c\nnr_periods 7\nthrottled_usec 8\n",
        ),
        (
            "tcp",
            b"sl\n 0: 0100007F:0016 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 99 1\n",
        ),
        (
            "unix",
            b"Num\nffff: 00000002 00000000 00010000 0001 01 99 /run/x\n",
        ),
        ("answer", &answer),
    ]
    .into_iter()
    .map(|(name, text)| ("texts", name, text.to_vec()))
    .collect()
}

fn crates() -> Vec<Seed> {
    let text = b"/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/tokio-util-0.7.15/src/\
        codec.rs/home/u/.cargo/git/checkouts/axum-8a12d3ee/0123abc/axum-core/src/lib.rs/build/\
        vendor/serde-1.0.0-rc.1+x/src/de.rs/rust/deps/hashbrown-0.15.2/src/raw.rs";
    vec![("crates", "paths", text.to_vec())]
}

fn names() -> Vec<Seed> {
    // Each `dl` doubles the readings of it. With twice as many of them it would take years.
    let readings = format!("_ZD04pairIX{}{}", "dl".repeat(14), "E".repeat(16));
    let names: [(&str, &str); 9] = [
        ("cpp-readings", &readings),
        (
            "legacy",
            "_ZN5tokio7runtime4task3raw4poll17h0123456789abcdefE.llvm.1234",
        ),
        (
            "v0",
            "_RNCINvMs_NtNtCs5tXB8Qz_5tokio7runtime4taskINtB6_4CoreNtCs1_3app1FE4pollB6_0B8_",
        ),
        (
            "v0-back",
            "_RNvXs_CsX_3appNtB4_3FooNtNtCsY_4core3fmt5Debug3fmt",
        ),
        ("cpp", "_ZNSt6vectorIiSaIiEE9push_backERKi.isra.0.cold"),
        (
            "full",
            "<alloc::boxed::Box<dyn core::future::Future<Output = ()> + Send> as \
             core::future::Future>::poll::{{closure}}",
        ),
        (
            "types",
            "<fn(u8) -> (A, [B; 3], &'static mut dyn C<'_> + Send) as app::D<E, <F as G>::H>>::i",
        ),
        ("versioned", "memcpy@@GLIBC_2.14"),
        (
            "brackets",
            "a::<impl b::C for d::E<{f#1}>>::g{{vtable.shim}}<<([",
        ),
    ];
    names
        .into_iter()
        .map(|(name, symbol)| ("names", name, symbol.as_bytes().to_vec()))
        .collect()
}
