//! Facts about modules, read from this test's own binary: it has a tokio runtime linked in.

mod unwind_support;

use holdup::process::module::Module;
use holdup::runtime::tokio::TokioImage;

/// The version of tokio in the lock file: what this test was built with.
fn locked_tokio() -> String {
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let text = std::fs::read_to_string(lock).unwrap();
    let mut lines = text.lines().skip_while(|l| *l != "name = \"tokio\"");
    let version = lines.nth(1).unwrap();
    version
        .strip_prefix("version = \"")
        .and_then(|v| v.strip_suffix('"'))
        .unwrap()
        .to_owned()
}

#[test]
fn the_tokio_version_is_told_with_and_without_section_headers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::spawn(async {}).await.unwrap() });

    let own = std::env::current_exe().unwrap();
    let mut data = std::fs::read(own).unwrap();
    let module = Module::from_elf(&data).unwrap();
    let image = TokioImage::from_elf(&data).unwrap();
    assert!(image.present);
    assert_eq!(image.versions, [locked_tokio()]);
    assert_eq!(image.contexts.found.len(), 1, "{image:?}");
    assert_eq!(image.contexts.missing, None);
    assert_eq!(module.executable.len(), 1);
    assert!(module.has_symtab && module.has_dynsym);

    // As `sstrip` leaves it.
    data[0x28..0x30].fill(0);
    data[0x3c..0x40].fill(0);
    let stripped = Module::from_elf(&data).unwrap();
    assert_eq!(TokioImage::from_elf(&data).unwrap(), image);
    assert_eq!(stripped.build_id, module.build_id);
    assert!(!stripped.has_symtab && !stripped.has_dynsym && !stripped.has_debug_lines);
}

#[test]
fn libc_is_no_tokio() {
    let libc = unwind_support::map_file("/lib/x86_64-linux-gnu/libc.so.6".as_ref());
    let module = Module::from_elf(&libc).unwrap();
    assert_eq!(TokioImage::from_elf(&libc).unwrap(), TokioImage::default());
    assert!(module.has_dynsym);
    assert!(module.build_id.is_some());
}

/// Every executable mapping of this process gets a bias, and by it every function of the image
/// lies where the process has it.
#[test]
fn biases_agree_with_the_process() {
    let modules = unwind_support::loaded(std::process::id());
    let own = biases_agree_with_the_process as *const () as u64;
    let mut found = false;
    for loaded in &modules {
        let module = Module::from_elf(&loaded.image).unwrap();
        let begin = holdup::units::Addr(loaded.begin);
        let bias = module
            .bias_for(begin, loaded.offset)
            .unwrap_or_else(|| panic!("{}", loaded.path));
        if (loaded.begin..loaded.end).contains(&own) {
            let functions = holdup::process::module::Functions::from_elf(&loaded.image).unwrap();
            let svma = holdup::units::Svma(own - bias);
            assert_eq!(functions.containing(svma).map(|f| f.start), Some(svma));
            found = true;
        }
    }
    assert!(found);
}
