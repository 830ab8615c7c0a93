//! Small ELF images, made byte by byte.

/// Address of the code, and its offset in the file.
pub const TEXT: u64 = 0x1000;
/// Bytes of code, all zero.
pub const TEXT_LEN: u64 = 0x1000;
/// Address of what comes after the code, and its offset in the file.
pub const DATA: u64 = TEXT + TEXT_LEN;

const PT_LOAD: u32 = 1;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const SHT_PROGBITS: u32 = 1;
const SHT_STRTAB: u32 = 3;

/// An image with unwinding information: `place` says how a reader comes to it.
///
/// 0: a section `.eh_frame`. 1: a section `.debug_frame`. Else no sections, and a program header
/// for `.eh_frame_hdr`, with which the content begins.
pub fn with_frames(place: u8, content: &[u8]) -> Vec<u8> {
    match place {
        0 => image(&[(".eh_frame", content)], false),
        1 => image(&[(".debug_frame", content)], false),
        _ => image(&[("", content)], true),
    }
}

/// An executable segment of zeros at [`TEXT`], a read-only one at [`DATA`] with `sections` one
/// after the other, and either section headers or one program header for `.eh_frame_hdr`.
pub fn image(sections: &[(&str, &[u8])], stripped: bool) -> Vec<u8> {
    let mut out = vec![0; DATA as usize];
    let mut names = b"\0.shstrtab\0".to_vec();
    let mut headers = section_header([0, 0], [0, 0, 0]);
    for (name, content) in sections {
        out.resize(out.len().next_multiple_of(8), 0);
        let at = out.len() as u64;
        out.extend_from_slice(content);
        let name_at = names.len() as u32;
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        headers.extend(section_header(
            [name_at, SHT_PROGBITS],
            [at, at, content.len() as u64],
        ));
    }
    let data_len = out.len() as u64 - DATA;
    let names_at = out.len() as u64;
    let names_len = names.len() as u64;
    out.extend(names);
    headers.extend(section_header([1, SHT_STRTAB], [0, names_at, names_len]));
    out.resize(out.len().next_multiple_of(8), 0);
    let headers_at = out.len() as u64;
    let count = (sections.len() + 2) as u16;

    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    for (at, value) in [(0x10, 3u16), (0x12, 62), (0x34, 64), (0x36, 56), (0x38, 3)] {
        put(at, &value.to_le_bytes());
    }
    put(0x14, &1u32.to_le_bytes());
    put(0x20, &64u64.to_le_bytes());
    if !stripped {
        put(0x28, &headers_at.to_le_bytes());
        for (at, value) in [(0x3a, 64u16), (0x3c, count), (0x3e, count - 1)] {
            put(at, &value.to_le_bytes());
        }
    }
    put(64, &program_header([PT_LOAD, 5], TEXT, TEXT_LEN));
    put(120, &program_header([PT_LOAD, 4], DATA, data_len));
    let eh_frame = if stripped { PT_GNU_EH_FRAME } else { 0 };
    put(176, &program_header([eh_frame, 4], DATA, data_len));
    if !stripped {
        out.extend(headers);
    }
    out
}

/// Type and flags; a segment whose address is its offset.
fn program_header(head: [u32; 2], at: u64, len: u64) -> Vec<u8> {
    let mut header: Vec<u8> = head.iter().flat_map(|word| word.to_le_bytes()).collect();
    for word in [at, at, at, len, len, 0x1000] {
        header.extend(word.to_le_bytes());
    }
    header
}

/// Name and type; address, offset and length.
fn section_header(head: [u32; 2], [addr, at, len]: [u64; 3]) -> Vec<u8> {
    let mut header: Vec<u8> = head.iter().flat_map(|word| word.to_le_bytes()).collect();
    for word in [0, addr, at, len, 0, 1, 0] {
        header.extend(word.to_le_bytes());
    }
    header
}
