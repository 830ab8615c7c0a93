//! Names of real binaries, built here with what a release build leaves in and takes out.

use holdup::symbolize::{Crates, FrameRef, ModuleSource, Naming, Origin, Symbolizer, origin};
use holdup::units::{Addr, Svma};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Prints `label svma` of places in itself; on x86 one byte back from the instruction that
/// follows, as callers do with return addresses. `__ehdr_start` is the linker's name for the start of
/// the image, whose address in the file is 0 in a position-independent executable.
const PROGRAM: &str = r#"
use std::{future::Future, hint::black_box, pin::Pin, task::{Context, Poll, Waker}};
unsafe extern "C" { static __ehdr_start: u8; }
fn say(label: &str, address: usize) {
    println!("{label} {}", address - &raw const __ehdr_start as usize);
}
#[inline(always)]
fn here() -> usize {
    let address: usize;
    #[cfg(target_arch = "x86_64")]
    unsafe { std::arch::asm!("lea {0}, [rip]", "dec {0}", out(reg) address) }
    #[cfg(target_arch = "aarch64")]
    unsafe { std::arch::asm!("adr {}, .", out(reg) address) }
    address
}
pub mod handlers {
    #[inline(never)]
    pub fn upstream(n: u32) -> u32 {
        crate::say("upstream", crate::here());
        std::hint::black_box(n)
    }
    #[inline(always)]
    pub fn quote() { crate::say("inlined", crate::here()) }
    pub async fn body(n: u32) -> u32 {
        crate::say("async", crate::here());
        std::hint::black_box(n)
    }
    pub struct Job;
    impl std::future::Future for Job {
        type Output = ();
        #[inline(never)]
        fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>)
            -> std::task::Poll<()> {
            crate::say("poll", crate::here());
            std::task::Poll::Ready(())
        }
    }
    #[inline(never)]
    pub fn generic<T>(value: T) -> T {
        crate::say("generic", crate::here());
        std::hint::black_box(value)
    }
}
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn exported_c_name() { say("exported", here()) }
#[inline(never)]
fn outer() { handlers::quote(); black_box(()); }
fn main() {
    handlers::upstream(3);
    outer();
    exported_c_name();
    handlers::generic(vec![1u8]);
    let mut cx = Context::from_waker(Waker::noop());
    let mut job = handlers::Job;
    let _: Poll<()> = Pin::new(&mut job).poll(&mut cx);
    let mut body: Pin<Box<dyn Future<Output = u32>>> = Box::pin(handlers::body(3));
    let _ = black_box(&mut body).as_mut().poll(&mut cx);
    say("std", std::thread::park as fn() as usize);
}
"#;

struct Built {
    _dir: tempfile::TempDir,
    path: PathBuf,
    places: BTreeMap<String, Svma>,
}

/// Compiles [`PROGRAM`] as `claims-api` and runs it for its addresses.
fn build(flags: &[&str]) -> Built {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("main.rs");
    std::fs::write(&source, PROGRAM).unwrap();
    let path = dir.path().join("claims-api");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--edition=2024", "--crate-name=claims_api", "-Copt-level=2"])
        .args(flags)
        .arg("-o")
        .args([&path, &source])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = Command::new(&path).output().unwrap();
    let places = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let (label, svma) = line.split_once(' ').unwrap();
            (label.to_owned(), Svma(svma.parse().unwrap()))
        })
        .collect();
    Built {
        _dir: dir,
        path,
        places,
    }
}

fn source(path: &Path) -> ModuleSource {
    ModuleSource {
        name: path.file_name().unwrap().to_string_lossy().into(),
        path: path.to_owned(),
        build_id: None,
        image: None,
        in_place: None,
        may_hold_tokio: false,
        functions: functions(path).into(),
    }
}

/// Starts and lengths of functions, by the file's own unwinding information.
fn functions(path: &Path) -> Vec<(u32, u32)> {
    use gimli::UnwindSection;
    use object::{Object, ObjectSection};
    let bytes = std::fs::read(path).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let section = elf.section_by_name(".eh_frame").unwrap();
    let eh_frame = gimli::EhFrame::new(section.data().unwrap(), gimli::LittleEndian);
    let bases = gimli::BaseAddresses::default().set_eh_frame(section.address());
    let mut functions = Vec::new();
    let mut entries = eh_frame.entries(&bases);
    while let Some(entry) = entries.next().unwrap() {
        if let gimli::CieOrFde::Fde(fde) = entry {
            let fde = fde.parse(gimli::EhFrame::cie_from_offset).unwrap();
            functions.push((fde.initial_address() as u32, fde.len() as u32));
        }
    }
    functions.sort_unstable();
    functions
}

fn frames(symbolizer: &mut Symbolizer, module: &ModuleSource, svma: Svma) -> Vec<FrameRef> {
    let mut out = Vec::new();
    let address = Addr(0x5555_0000_0000 + svma.0);
    symbolizer.user(Some(module), svma, address, &mut out);
    out
}

/// The physical frame at `label`.
fn physical(symbolizer: &mut Symbolizer, built: &Built, label: &str) -> FrameRef {
    let module = source(&built.path);
    frames(symbolizer, &module, built.places[label])
        .pop()
        .unwrap()
}

fn without_line_tables(flags: &[&str], closure: &str, generic: &str) {
    let built = build(&[flags, &["-Cstrip=debuginfo"]].concat());
    let mut symbolizer = Symbolizer::new();
    let job = "<claims_api::handlers::Job as core::future::future::Future>::poll";
    for (label, function, origin) in [
        (
            "upstream",
            "claims_api::handlers::upstream",
            Origin::Application,
        ),
        ("inlined", "claims_api::outer", Origin::Application),
        ("async", closure, Origin::Application),
        ("poll", job, Origin::Application),
        ("generic", generic, Origin::Application),
        ("exported", "exported_c_name", Origin::System),
    ] {
        let svma = built.places[label];
        let all = frames(&mut symbolizer, &source(&built.path), svma);
        let [frame] = &all[..] else {
            panic!("{label}: {all:?}");
        };
        assert_eq!(&*frame.function, function);
        assert_eq!(
            (frame.naming, frame.origin),
            (Naming::Symbol, origin),
            "{label}"
        );
        assert_eq!(
            (&frame.file, frame.line, frame.inlined),
            (&None, None, false)
        );
        assert_eq!(frame.module.as_deref(), Some("claims-api"));
        assert_eq!(frame.address.0, 0x5555_0000_0000 + svma.0);
    }
    let park = physical(&mut symbolizer, &built, "std");
    assert!(park.function.starts_with("std::thread::"), "{park:?}");
    assert_eq!(park.origin, Origin::Library);
    assert_eq!(symbolizer.unresolved(), 0);
}

#[test]
fn symbol_table_alone() {
    without_line_tables(
        &[],
        "claims_api::handlers::body::{{closure}}",
        "claims_api::handlers::generic",
    );
    without_line_tables(
        &["-Csymbol-mangling-version=v0"],
        "claims_api::handlers::body::{closure#0}",
        "claims_api::handlers::generic::<alloc::vec::Vec<u8>>",
    );
}

/// The line of [`PROGRAM`] that contains `text`.
fn line_of(text: &str) -> Option<u32> {
    let index = PROGRAM.lines().position(|line| line.contains(text))?;
    u32::try_from(index + 1).ok()
}

fn with_line_tables(flags: &[&str], quote: &str, closure: &str) {
    let built = build(flags);
    let file = built.path.with_file_name("main.rs");
    let mut symbolizer = Symbolizer::new();
    let all = frames(
        &mut symbolizer,
        &source(&built.path),
        built.places["inlined"],
    );
    let [here, inner, outer] = &all[..] else {
        panic!("{all:?}");
    };
    assert!(here.function.ends_with("here"), "{here:?}");
    assert_eq!(&*inner.function, quote);
    assert_eq!(&*outer.function, "claims_api::outer");
    let inlined = [here.inlined, inner.inlined, outer.inlined];
    assert_eq!(inlined, [true, true, false]);
    assert_eq!(inner.line, line_of("pub fn quote()"));
    assert_eq!(outer.line, line_of("fn outer()"));
    for frame in &all {
        assert_eq!(frame.origin, Origin::Application, "{frame:?}");
        assert_eq!(frame.file.as_deref(), file.to_str());
    }
    let body = physical(&mut symbolizer, &built, "async");
    assert_eq!(&*body.function, closure);
    let park = physical(&mut symbolizer, &built, "std");
    assert!(park.function.starts_with("std::thread::"), "{park:?}");
    assert_eq!(park.origin, Origin::Library);
    assert!(park.file.as_deref().unwrap().starts_with("/rustc/"));
}

#[test]
fn line_tables_add_lines_and_inlined_frames() {
    let closure = "claims_api::handlers::body::{{closure}}";
    // Line tables have no modules: the crate is that of the function around it.
    let by_crate = "claims_api::quote";
    with_line_tables(&["-Cdebuginfo=line-tables-only"], by_crate, closure);
    with_line_tables(&["-Cdebuginfo=1"], "claims_api::handlers::quote", closure);
    with_line_tables(&["-Cdebuginfo=2"], "claims_api::handlers::quote", closure);
    with_line_tables(
        &["-Cdebuginfo=2", "-Csymbol-mangling-version=v0"],
        "claims_api::handlers::quote",
        "claims_api::handlers::body::{closure#0}",
    );
}

/// The inlined frames at all places of a program that have a source file.
fn inlined_frames(symbolizer: &mut Symbolizer, module: &ModuleSource) -> Vec<FrameRef> {
    let functions = module.functions.iter();
    let places = functions.flat_map(|&(start, len)| (start..start + len).step_by(32));
    let all = places.flat_map(|svma| frames(symbolizer, module, Svma(svma.into())));
    let is_of_rust = |frame: &FrameRef| {
        let file = frame.file.as_deref();
        frame.inlined && file.is_some_and(|file| file.ends_with(".rs"))
    };
    all.filter(is_of_rust).collect()
}

/// Functions of std that were inlined, and of the program: all have a path.
#[test]
fn no_inlined_function_is_without_a_path() {
    for flags in [
        "-Cdebuginfo=line-tables-only",
        "-Cdebuginfo=1",
        "-Cdebuginfo=2",
    ] {
        let built = build(&[flags]);
        let module = source(&built.path);
        let mut symbolizer = Symbolizer::new();
        let inlined = inlined_frames(&mut symbolizer, &module);
        let left_out = symbolizer.left_out();
        assert_eq!((left_out.lines, left_out.names), (0, 0), "{flags}");
        for frame in &inlined {
            let name = frame.function.split('<').next().unwrap_or_default();
            assert!(name.is_empty() || name.contains("::"), "{flags}: {frame:?}");
        }
        if flags == "-Cdebuginfo=line-tables-only" {
            let begins = |text: &str| inlined.iter().any(|frame| frame.function.starts_with(text));
            assert!(begins("core::") && begins("std::") && begins("claims_api::"));
        }
    }
}

#[test]
fn a_binary_tells_its_dependencies() {
    let path = std::env::current_exe().unwrap();
    let crates = Crates::of_binary("claims-api", &std::fs::read(&path).unwrap());
    assert!(crates.dependencies.contains("blazesym"), "{crates:?}");
    for (function, expected) in [
        ("blazesym::elf::parser::ElfParser::open", Origin::Dependency),
        ("tokio::runtime::park::Inner::park", Origin::Runtime),
        ("claims_core::slow", Origin::Application),
    ] {
        assert_eq!(origin(function, None, &crates), expected);
    }
    // The same by the whole way, for a function of a dependency in this very process.
    let function = rustc_demangle::demangle as fn(&'static str) -> _ as usize as u64;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let start = maps
        .lines()
        .find(|line| line.ends_with(path.to_str().unwrap()))
        .and_then(|line| u64::from_str_radix(line.split('-').next()?, 16).ok())
        .unwrap();
    let frame = frames(
        &mut Symbolizer::new(),
        &source(&path),
        Svma(function - start),
    )
    .pop()
    .unwrap();
    assert_eq!(&*frame.function, "rustc_demangle::demangle");
    assert_eq!(frame.origin, Origin::Dependency);
    assert_eq!(frame.start, Some(Svma(function - start)));
}

#[test]
fn stripped_functions_have_one_name_each() {
    let built = build(&[
        "-Cstrip=symbols",
        "-Clink-arg=-Wl,--export-dynamic-symbol=exported_c_name",
    ]);
    let mut module = source(&built.path);
    let mut symbolizer = Symbolizer::new();
    let svma = built.places["upstream"];
    let &(start, len) = module
        .functions
        .iter()
        .find(|(start, len)| (u64::from(*start)..u64::from(start + len)).contains(&svma.0))
        .unwrap();
    for at in [start, start + len - 1] {
        let frame = &frames(&mut symbolizer, &module, Svma(at.into()))[0];
        assert_eq!(&*frame.function, format!("claims-api@{start:#x}"));
        assert_eq!(frame.naming, Naming::FunctionStart);
        assert_eq!(frame.origin, Origin::Unknown);
    }
    assert_eq!(symbolizer.unresolved(), 2);
    // An exported symbol names its own function and nothing behind it.
    let exported = physical(&mut symbolizer, &built, "exported");
    assert_eq!(&*exported.function, "exported_c_name");
    assert_eq!(exported.naming, Naming::Symbol);
    module.functions = Arc::new([]);
    let frame = &frames(&mut Symbolizer::new(), &module, svma)[0];
    assert_eq!(&*frame.function, format!("claims-api+{:#x}", svma.0));
    assert_eq!(frame.naming, Naming::Offset);
}

#[test]
fn a_replaced_executable_keeps_its_names() {
    let built = build(&["-Cstrip=debuginfo"]);
    let module = source(&built.path);
    let mut symbolizer = Symbolizer::new();
    symbolizer.open(&module);
    std::fs::remove_file(&built.path).unwrap();
    std::fs::write(&built.path, "no longer an executable").unwrap();
    let frame = &frames(&mut symbolizer, &module, built.places["upstream"])[0];
    assert_eq!(&*frame.function, "claims_api::handlers::upstream");
}

#[test]
fn bytes_without_a_file_are_named_too() {
    let built = build(&["-Cstrip=debuginfo"]);
    let mut module = source(&built.path);
    module.image = Some(std::fs::read(&built.path).unwrap().into());
    module.path = "[vdso]".into();
    let frame = &frames(&mut Symbolizer::new(), &module, built.places["upstream"])[0];
    assert_eq!(&*frame.function, "claims_api::handlers::upstream");
}

#[test]
fn damaged_files_cost_names_only() {
    let built = build(&["-Cdebuginfo=line-tables-only"]);
    let whole = std::fs::read(&built.path).unwrap();
    let path = built.path.with_file_name("damaged");
    let mut module = source(&built.path);
    module.functions = Arc::new([]);
    module.path = path.clone();
    let svma = built.places["inlined"];
    for length in [0, 1, 63, 64, 100, 4096, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let named = frames(&mut Symbolizer::new(), &module, svma);
        let [frame] = &named[..] else {
            panic!("{length}: {named:?}");
        };
        assert_eq!(&*frame.function, format!("claims-api+{:#x}", svma.0));
        assert_eq!(frame.naming, Naming::Offset);
    }
    // No file at all, a directory, and a pipe that nobody writes to.
    let pipe = built.path.with_file_name("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for path in [built.path.with_file_name("absent"), "/proc".into(), pipe] {
        module.path = path;
        let named = frames(&mut Symbolizer::new(), &module, svma);
        assert_eq!(named[0].naming, Naming::Offset, "{:?}", module.path);
    }
    // Any byte of the headers and tables may be any byte.
    module.path = path.clone();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let tables = whole.len() / 4;
    for round in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..200 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let random = random as usize;
            let at = match round % 3 {
                0 => 16 + random % 48,
                1 => bytes.len() - 1 - random % 4096,
                _ => tables + random % (bytes.len() - tables),
            };
            bytes[at] = (random >> 32) as u8;
        }
        std::fs::write(&path, &bytes).unwrap();
        assert!(!frames(&mut Symbolizer::new(), &module, svma).is_empty());
    }
}

#[test]
fn a_symbol_without_end_is_no_panic() {
    use object::{Object, ObjectSection};
    let built = build(&["-Cstrip=debuginfo"]);
    let mut bytes = std::fs::read(&built.path).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let table = elf.section_by_name(".symtab").unwrap();
    let (start, len) = table.file_range().unwrap();
    // `st_size`, the last word of a 64-bit symbol.
    for entry in (start..start + len).step_by(24) {
        let size = usize::try_from(entry).unwrap() + 16;
        bytes[size..size + 8].fill(0xff);
    }
    let mut module = source(&built.path);
    module.image = Some(bytes.into());
    let frame = &frames(&mut Symbolizer::new(), &module, built.places["upstream"])[0];
    // Whether the sum wraps or is caught, the symbol does not reach the address.
    assert_eq!(frame.naming, Naming::FunctionStart);
}

#[test]
fn outside_every_module_the_address_is_the_name() {
    let mut symbolizer = Symbolizer::new();
    let mut out = Vec::new();
    for _ in 0..2 {
        symbolizer.user(None, Svma(0), Addr(0x7f12_3456_7000), &mut out);
    }
    assert_eq!(&*out[0].function, "0x7f1234567000");
    assert_eq!(out[0].naming, Naming::Unmapped);
    assert_eq!(out[0].origin, Origin::Unknown);
    assert_eq!(out[0], out[1]);
    assert_eq!(symbolizer.unresolved(), 1);
}

#[test]
fn kernel_functions_by_kallsyms() {
    // A function that every kernel has; its address is 0 to those who may not see it.
    let kallsyms = std::fs::read_to_string("/proc/kallsyms").unwrap();
    let address = kallsyms
        .lines()
        .find_map(|line| line.strip_suffix(" T schedule"))
        .map_or(0, |address| u64::from_str_radix(address, 16).unwrap());
    let asked = [Addr(address + 1), Addr(1), Addr(address + 1)];
    let mut symbolizer = Symbolizer::new();
    let mut out = Vec::new();
    symbolizer.kernel(&asked, &mut out);
    symbolizer.kernel(&asked[..1], &mut out);
    assert_eq!(out.len(), 4);
    for frame in &out {
        assert_eq!(frame.origin, Origin::Kernel);
        assert_eq!(frame.module, None);
    }
    assert_eq!(out[1].naming, Naming::Unmapped);
    assert_eq!(&*out[1].function, "0x1");
    if address == 0 {
        assert_eq!(out[0].naming, Naming::Unmapped);
    } else {
        assert_eq!(&*out[0].function, "schedule");
        assert_eq!(out[0].naming, Naming::Symbol);
        assert_eq!(symbolizer.unresolved(), 1);
    }
    assert_eq!(out[0], out[2]);
    assert_eq!(out[0], out[3]);
}
