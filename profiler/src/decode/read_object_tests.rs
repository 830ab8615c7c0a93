use super::tests::{THREAD, assert_whole, header};
use super::*;

fn raw_object(kind: u32, fd: i32, numbers: [u64; 6], text: &[u8]) -> Vec<u8> {
    let record = ObjectRecord {
        header: header(KIND_OBJECT),
        time: 1,
        object: 2,
        kind,
        fd,
        numbers,
        text: text.len() as u32,
        partial: 0,
    };
    let mut whole = bytemuck::bytes_of(&record).to_vec();
    whole.extend(text);
    whole
}

fn object_of(kind: u32, numbers: [u64; 6], text: &[u8]) -> RawObject {
    match decode(&raw_object(kind, -1, numbers, text)) {
        Ok(Event::Object(seen)) => seen.object,
        other => panic!("not an object: {other:?}"),
    }
}

#[test]
fn an_object_has_the_text_that_it_says() {
    let whole = raw_object(OBJECT_PATH, 3, [0; 6], b"/a\0");
    assert_whole(&whole);
    let Ok(Event::Object(seen)) = decode(&whole) else {
        panic!("not an object");
    };
    assert_eq!(seen.object, RawObject::Path(b"/a".to_vec()));
    assert_eq!(
        (seen.thread, seen.fd, seen.partial),
        (THREAD, Some(3), false)
    );
    let at = std::mem::offset_of!(ObjectRecord, text);
    let mut long = whole;
    long[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    long.extend([0; 4096]);
    assert_eq!(decode(&long), Err(DecodeError::Text));
}

#[test]
fn objects_of_every_kind_are_told() {
    let file = object_of(OBJECT_FILE, [5, 6, 0x8_81a4, 0xef53, 0, 0], b"x\0var\0");
    let wanted = RawObject::File {
        inode: 5,
        mode: 0x8_81a4,
        magic: 0xef53,
        parts: b"x\0var\0".to_vec(),
    };
    assert_eq!(file, wanted);
    let numbers = [
        2 | 1 << 16 | 6 << 32,
        80 | 90 << 16,
        0x0807_0605_0403_0201,
        9,
        3,
        4,
    ];
    let RawObject::Socket(socket) = object_of(OBJECT_SOCKET, numbers, b"") else {
        panic!("not a socket");
    };
    assert_eq!((socket.family, socket.kind, socket.protocol), (2, 1, 6));
    assert_eq!((socket.own_port, socket.peer_port), (80, 90));
    assert_eq!(socket.own, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((socket.peer[0], socket.peer[8]), (3, 4));
    let numbers = [77, 0, 0, 0, 0, 0];
    for (kind, wanted) in [
        (OBJECT_FUTEX, RawObject::Futex(Addr(77))),
        (OBJECT_TIMER, RawObject::Timer(Nanos(77))),
        (OBJECT_CHILD, RawObject::Child(Some(77))),
        (OBJECT_POLL, RawObject::Poll(77)),
        (OBJECT_MEMORY, RawObject::Memory(Addr(77))),
    ] {
        assert_eq!(object_of(kind, numbers, b""), wanted);
    }
    for any in [0, u64::MAX] {
        let child = object_of(OBJECT_CHILD, [any, 0, 0, 0, 0, 0], b"");
        assert_eq!(child, RawObject::Child(None));
    }
    for kind in [0, 9, u32::MAX] {
        let bytes = raw_object(kind, -1, [0; 6], b"");
        assert_eq!(decode(&bytes), Err(DecodeError::Object(kind)));
    }
}
