use super::*;
use profiler_common::scheduler_core::core_layout;

/// See there.
const IMAGES: &str = include_str!("../../../../tests/data/tls-images.txt");

/// An initial image, and what is to be found in it.
struct Image {
    origin: &'static str,
    signs: Signs,
    expected: &'static str,
    bytes: Vec<u8>,
}

fn images() -> Vec<Image> {
    let lines = IMAGES.lines().filter(|line| !line.starts_with('#'));
    let image = |line: &'static str| {
        let [origin, _, version, expected, bytes] = line
            .split(" | ")
            .collect::<Vec<_>>()
            .try_into()
            .expect("five columns");
        let mut words = bytes.split(' ');
        let len = words.next().unwrap().parse().unwrap();
        let mut bytes = vec![0; len];
        for run in words {
            let (at, hex) = run.split_once(':').unwrap();
            let at: usize = at.parse().unwrap();
            for (n, digits) in hex.as_bytes().chunks(2).enumerate() {
                let digits = std::str::from_utf8(digits).unwrap();
                bytes[at + n] = u8::from_str_radix(digits, 16).unwrap();
            }
        }
        let version = (version != "-").then(|| version.to_owned());
        Image {
            origin,
            signs: Signs {
                versions: version.into_iter().collect(),
                present: true,
                taskdump: origin.contains("taskdump"),
                unstable: origin.contains("tokio_unstable"),
            },
            expected,
            bytes,
        }
    };
    lines.map(image).collect()
}

#[test]
fn contexts_are_found_in_images_of_every_compiler() {
    let images = images();
    assert!(images.len() >= 27);
    for image in images {
        let found = in_image(&image.bytes, &image.signs);
        let name = match found.found.as_slice() {
            [context] => {
                let fields = context.fields;
                let name = match (Fields {
                    no_handle: 2,
                    ..fields
                }) {
                    layout::NEW => "new",
                    layout::OLD => "old",
                    layout::NEW_TASKDUMP => "taskdump",
                    _ if fields == layout::NEW_SINGLE => "new-single",
                    _ if fields == layout::OLD_SINGLE => "old-single",
                    _ => "?",
                };
                assert_eq!(found.missing, None);
                format!("{name} {} {}", context.offset, fields.no_handle)
            }
            _ => match found.missing {
                Some(NoContext::UnknownArrangement) => "unknown".into(),
                Some(NoContext::MadeAtFirstUse(_)) => "first-use".into(),
                other => format!("{other:?}"),
            },
        };
        assert_eq!(name, image.expected, "{}", image.origin);
    }
}

/// A context in the midst of other variables.
fn image_of(fields: &Fields, tag: u64) -> Vec<u8> {
    let begin = 24;
    let mut bytes = vec![0; begin + usize::from(fields.words) * 8 + 8];
    let tag_at = begin + usize::from(fields.tag);
    bytes[tag_at..tag_at + 8].copy_from_slice(&tag.to_le_bytes());
    bytes[begin + usize::from(fields.runtime)] = RUNTIME_NONE;
    bytes[8] = 3;
    bytes
}

fn versions(versions: &[&str]) -> Signs {
    Signs {
        versions: versions.iter().map(|v| (*v).to_owned()).collect(),
        present: true,
        taskdump: false,
        unstable: false,
    }
}

#[test]
fn one_arrangement_is_not_taken_for_another() {
    for fields in TAGGED {
        for tag in NO_HANDLE {
            let image = image_of(&fields, tag);
            let found = in_image(&image, &versions(&["1.54.1"])).found;
            let no_handle = tag.to_le_bytes()[0];
            let fields = Fields {
                no_handle,
                ..fields
            };
            assert_eq!(
                found,
                [ContextAt {
                    offset: 24,
                    fields,
                    worker: core_layout::WORKER_1_45,
                    single: core_layout::SINGLE_1_54,
                }]
            );
        }
    }
}

#[test]
fn every_byte_of_it_must_agree() {
    for fields in TAGGED {
        let image = image_of(&fields, 2);
        for at in 24..24 + usize::from(fields.words) * 8 {
            let mut other = image.clone();
            other[at] ^= 4;
            let found = in_image(&other, &versions(&["1.54.1"]));
            assert_eq!(
                found.missing,
                Some(NoContext::UnknownArrangement),
                "byte {at}"
            );
        }
    }
}

/// With one word more between tag and end, as some later version may have it.
#[test]
fn the_end_of_an_unknown_arrangement_is_not_one_without_a_tag() {
    for more in 1..=8 {
        if more == 1 || more == 3 {
            continue; // `OLD` and `NEW_TASKDUMP`.
        }
        let image = image_of(
            &Fields {
                runtime: layout::NEW.runtime + 8 * more,
                words: layout::NEW.words + more,
                ..layout::NEW
            },
            2,
        );
        let found = in_image(&image, &versions(&["1.54.1"]));
        assert_eq!(
            found,
            missing(NoContext::UnknownArrangement),
            "{more} words more"
        );
    }
}

/// std's state of the variable, which is not the same in all versions.
#[test]
fn what_follows_says_nothing() {
    for fields in TAGGED {
        let mut image = image_of(&fields, 2);
        let end = 24 + usize::from(fields.words) * 8;
        for state in [0, 1, 2, 0xff] {
            image[end] = state;
            assert_eq!(in_image(&image, &versions(&[])).found.len(), 1);
        }
    }
}

#[test]
fn there_are_no_more_contexts_than_tokios() {
    let mut two = image_of(&layout::NEW, 2);
    two.extend(image_of(&layout::OLD, 2));
    assert_eq!(
        in_image(&two, &versions(&["1.54.1"])),
        missing(NoContext::Ambiguous(2))
    );
    assert_eq!(
        in_image(&two, &versions(&[])),
        missing(NoContext::Ambiguous(2))
    );
    let both = in_image(&two, &versions(&["1.38.2", "1.54.1"]));
    assert_eq!(both.missing, None);
    let places: Vec<_> = both.found.iter().map(|context| context.offset).collect();
    assert_eq!(places, [24, 24 + image_of(&layout::NEW, 2).len() as u64]);
    assert!(both.found.iter().all(|context| context.worker.tick == 0));
}

#[test]
fn reasons_are_told_in_words() {
    for (reason, words) in [
        (
            NoContext::MadeAtFirstUse("1.28.2".into()),
            "tokio 1.28.2 makes it at its first use, and there are no symbols",
        ),
        (
            NoContext::Ambiguous(3),
            "3 places in its thread-local memory look like it",
        ),
        (
            NoContext::TooMany,
            "more than 4 copies of tokio in one process",
        ),
    ] {
        assert_eq!(reason.to_string(), words);
    }
}

#[test]
fn cores_are_those_of_the_build() {
    let image = image_of(&layout::NEW, 2);
    let core = |unstable| {
        let signs = Signs {
            unstable,
            ..versions(&["1.54.1"])
        };
        in_image(&image, &signs)
            .found
            .first()
            .map(|found| found.worker)
    };
    assert_eq!(core(false), Some(core_layout::WORKER_1_45));
    assert_eq!(core(true), Some(core_layout::UNSTABLE_WORKER_1_49));
}

#[test]
fn the_handle_of_tokio_1_20_is_where_the_image_says_that_there_is_none() {
    let image = |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|w| w.to_le_bytes()).collect() };
    let of = |words: &[u64], at| tag_of_handle(&image(words), at);
    assert_eq!(of(&[9, 0, 2, 0, 0], 8), Some(16));
    assert_eq!(of(&[2, 0, 0, 0], 0), Some(0));
    // Behind the last word there is no room for the pointer.
    assert_eq!(of(&[0, 0, 0, 2], 0), None);
    assert_eq!(of(&[0, 2, 2, 0], 0), None, "which of them?");
    assert_eq!(of(&[0, 3, 0, 0], 0), None);
    assert_eq!(of(&[0; 4], 0), None);
    assert_eq!(of(&[0, 2, 0], 0), None, "the image ends");
    assert_eq!(of(&[0, 2, 0, 0], u64::MAX - 4), None);
}
