//! The eBPF object in the repository was made from the sources beside it.

use object::{Object as _, ObjectSection as _};
use xtask::ebpf::note::Note;
use xtask::ebpf::{self, inputs, stack_depth};
use xtask::paths;

fn note() -> Note {
    let path = paths::note();
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}\nrun: cargo xtask ebpf", path.display()));
    Note::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn object_is_made_from_these_sources() {
    let now = inputs::hash(paths::root(), &ebpf::recipe()).unwrap();
    assert_eq!(
        now,
        note().inputs_sha256,
        "{} was made from other sources\nrun: cargo xtask ebpf",
        paths::object().display()
    );
}

#[test]
fn object_is_the_file_that_its_note_describes() {
    let object = std::fs::read(paths::object()).unwrap();
    assert_eq!(
        inputs::sha256(&object),
        note().object_sha256,
        "{} was changed without its note\nrun: cargo xtask ebpf",
        paths::object().display()
    );
}

/// It would be three times as large, and would name the folders of the machine that built it.
#[test]
fn object_has_no_dwarf() {
    let object = std::fs::read(paths::object()).unwrap();
    let object = object::File::parse(&*object).unwrap();
    let names: Vec<&str> = object.sections().map(|s| s.name().unwrap()).collect();
    assert!(names.contains(&".BTF"), "{names:?}");
    let debug = names.iter().find(|name| name.contains(".debug_"));
    assert_eq!(debug, None);
}

/// Linux 6.1 would refuse it, while a newer kernel loads it.
#[test]
fn programs_need_no_more_stack_than_linux_6_1_allows() {
    let object = std::fs::read(paths::object()).unwrap();
    let depths = stack_depth::of_programs(&object).unwrap();
    assert!(depths.len() >= 7, "{depths:#?}");
    for depth in depths {
        assert!(depth.is_accepted(), "{depth:#?}");
    }
}
