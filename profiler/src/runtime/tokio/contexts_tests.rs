use super::*;
use crate::runtime::tokio::Contexts;
use profiler_common::context::layout;
use profiler_common::scheduler_core::core_layout;

/// No memory at all.
struct Nothing;

impl ReadMemory for Nothing {
    fn read(&self, _: u64, _: &mut [u8]) -> bool {
        false
    }
}

fn image(offsets: &[u64]) -> TokioImage {
    let context = |offset: &u64| ContextAt {
        offset: *offset,
        fields: layout::NEW,
        worker: core_layout::WORKER_1_45,
        single: core_layout::SINGLE_1_54,
    };
    TokioImage {
        versions: vec!["1.54.1".into()],
        present: true,
        contexts: Contexts {
            found: offsets.iter().map(context).collect(),
            ..Contexts::default()
        },
    }
}

#[test]
fn a_library_that_the_loader_is_not_done_with_is_asked_again() {
    let image = image(&[80]);
    let library = LoadedTokio {
        name: "libwork.so",
        image: &image,
        thread_local: None,
        bias: 0,
        is_executable: false,
    };
    let found = ContextsOfProcess::find([library], Loader::Glibc, &Nothing);
    assert_eq!(found.places().count(), 0);
    let missing = MissingContext {
        module: "libwork.so".into(),
        reason: NoContext::NoModuleNumber,
    };
    assert_eq!(found.missing, [missing]);
    assert!(found.is_early);
    let executable = LoadedTokio {
        is_executable: true,
        ..library
    };
    let found = ContextsOfProcess::find([executable], Loader::Glibc, &Nothing);
    assert!(!found.is_early, "nothing will change");
}

#[test]
fn each_kind_of_block_has_its_place() {
    let context = image(&[80]).contexts.found[0];
    let of = |block, loader| place(block, &context, loader).map(|p| (p.base, p.module, p.offset));
    let below = (base::BELOW_FS, 0, 400);
    assert_eq!(of(Block::BelowFs(480), Loader::Glibc), Some(below));
    assert_eq!(of(Block::BelowFs(40), Loader::Glibc), None);
    let numbered = Block::Numbered(3);
    assert_eq!(
        of(numbered, Loader::Glibc),
        Some((base::GLIBC_VECTOR, 3, 80))
    );
    assert_eq!(of(numbered, Loader::Musl), Some((base::MUSL_VECTOR, 3, 80)));
}

#[test]
fn more_copies_than_there_is_room_for_are_told() {
    let image = image(&[]);
    let module = LoadedTokio {
        name: "app",
        image: &image,
        thread_local: None,
        bias: 0,
        is_executable: true,
    };
    let mut process = ContextsOfProcess::default();
    let mut free = 0;
    for n in 0..PLACES + 1 {
        let place = Place {
            base: base::BELOW_FS,
            offset: n as u64,
            ..Place::default()
        };
        process.put(&module, &mut free, place);
    }
    assert_eq!(process.places().count(), PLACES);
    let reasons = process.missing.iter().map(|missing| &missing.reason);
    assert_eq!(reasons.collect::<Vec<_>>(), [&NoContext::TooMany]);
}

#[test]
fn the_variables_of_tokio_1_20_are_an_executables() {
    let variables = Variables {
        entered: 8,
        worker: 16,
        current_thread: 24,
        budget: 32,
        handle: Some(48),
    };
    let (place, others) = of_variables(Block::BelowFs(100), variables).expect("a place");
    assert_eq!((place.base, place.offset), (base::VARIABLES, 92));
    assert_eq!(others, [84, 76, 68, 52]);
    let no_handle = Variables {
        handle: None,
        ..variables
    };
    let (_, others) = of_variables(Block::BelowFs(100), no_handle).expect("a place");
    assert_eq!(others, [84, 76, 68, 0]);
    assert!(of_variables(Block::Numbered(1), variables).is_none());
    assert!(of_variables(Block::BelowFs(30), variables).is_none());
}
