//! How much of the kernel's stack the eBPF programs need.
//!
//! The verifier adds the frames of nested calls up and refuses a program with more than 512 bytes
//! (`check_max_stack_depth` in the kernel's `kernel/bpf/verifier.c`). Linux 6.1 rounds each frame
//! up to 32 bytes, later kernels to 16 or to less, so that a new kernel may load what an old one
//! refuses. So the sum is made here, as Linux 6.1 makes it, from the object alone.

use anyhow::{Context as _, Result, bail, ensure};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex,
    SectionKind, SymbolKind,
};
use std::collections::{BTreeMap, HashMap};

/// `MAX_BPF_STACK`.
pub const MOST_BYTES: u32 = 512;
/// `MAX_CALL_FRAMES`, the frames of nested calls.
pub const MOST_FRAMES: u32 = 8;
/// What each frame is rounded up to.
const ROUND: u32 = 32;
const INSTRUCTION: usize = 8;

/// What a program needs with its deepest calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    /// The program.
    pub program: String,
    /// Bytes over all frames of the deepest calls.
    pub bytes: u32,
    /// Most frames of nested calls, its own included.
    pub frames: u32,
    /// The functions of the deepest calls, outermost first, each with the bytes of its frame.
    pub chain: Vec<(String, u32)>,
}

impl Depth {
    /// Whether Linux 6.1 accepts it.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.bytes <= MOST_BYTES && self.frames <= MOST_FRAMES
    }
}

/// What every program of an object needs.
///
/// # Errors
/// Where this is no object of eBPF programs, or a function calls itself.
pub fn of_programs(elf: &[u8]) -> Result<Vec<Depth>> {
    let functions = Functions::read(elf)?;
    let programs = functions.all.iter().filter(|(_, f)| f.is_program);
    let mut known = HashMap::new();
    programs
        .map(|(at, function)| {
            let deepest = functions.deepest(*at, &mut known, &mut Vec::new())?;
            Ok(Depth {
                program: function.name.clone(),
                ..deepest
            })
        })
        .collect()
}

/// Where a function is: its section, and its first byte in it.
type Place = (usize, u64);

struct Function {
    name: String,
    /// Bytes below the frame pointer.
    frame: u32,
    calls: Vec<Place>,
    /// Not in the section of the functions that others call.
    is_program: bool,
}

struct Functions {
    all: BTreeMap<Place, Function>,
}

impl Functions {
    fn read(elf: &[u8]) -> Result<Functions> {
        let file = object::File::parse(elf).context("the object is no ELF file")?;
        let mut all = BTreeMap::new();
        for symbol in file.symbols().filter(|s| s.kind() == SymbolKind::Text) {
            let Some(index) = symbol.section_index() else {
                continue;
            };
            let section = file.section_by_index(index)?;
            ensure!(
                section.kind() == SectionKind::Text,
                "a function outside of the code"
            );
            let name = symbol.name()?.to_owned();
            let relocations: HashMap<u64, Place> = section
                .relocations()
                .filter_map(|(at, relocation)| {
                    let RelocationTarget::Symbol(target) = relocation.target() else {
                        return None;
                    };
                    let target = file.symbol_by_index(target).ok()?;
                    Some((at, (target.section_index()?.0, target.address())))
                })
                .collect();
            let begin = symbol.address();
            let code = section
                .data()?
                .get(begin as usize..)
                .and_then(|rest| rest.get(..symbol.size() as usize))
                .with_context(|| format!("the function {name} reaches out of its section"))?;
            let is_code = |place: &Place| {
                let section = file.section_by_index(SectionIndex(place.0));
                section.is_ok_and(|section| section.kind() == SectionKind::Text)
            };
            let function = Function {
                frame: frame(code),
                calls: calls((index.0, begin), code, &relocations)
                    .filter(is_code)
                    .collect(),
                is_program: section.name()? != ".text",
                name,
            };
            all.insert((index.0, begin), function);
        }
        ensure!(!all.is_empty(), "the object has no functions");
        Ok(Functions { all })
    }

    fn deepest(
        &self,
        at: Place,
        known: &mut HashMap<Place, Depth>,
        above: &mut Vec<Place>,
    ) -> Result<Depth> {
        if let Some(known) = known.get(&at) {
            return Ok(known.clone());
        }
        let function = self
            .all
            .get(&at)
            .context("a call to where no function is")?;
        if above.contains(&at) {
            bail!("the function {} calls itself", function.name);
        }
        above.push(at);
        let mut depth = Depth {
            program: String::new(),
            bytes: 0,
            frames: 0,
            chain: Vec::new(),
        };
        for callee in &function.calls {
            let callee = self.deepest(*callee, known, above)?;
            depth.frames = depth.frames.max(callee.frames);
            if callee.bytes > depth.bytes {
                depth.bytes = callee.bytes;
                depth.chain = callee.chain;
            }
        }
        above.pop();
        depth.bytes += function.frame.max(1).next_multiple_of(ROUND);
        depth.frames += 1;
        depth
            .chain
            .insert(0, (function.name.clone(), function.frame));
        known.insert(at, depth.clone());
        Ok(depth)
    }
}

/// An instruction as the parts that matter here (`struct bpf_insn` of `linux/bpf.h`).
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    dst: usize,
    src: usize,
    off: i64,
    imm: i64,
}

fn instructions(code: &[u8]) -> impl Iterator<Item = Instruction> {
    code.as_chunks::<INSTRUCTION>().0.iter().map(|bytes| {
        let [code, registers, off0, off1, imm @ ..] = *bytes;
        Instruction {
            code,
            dst: (registers & 15) as usize,
            src: (registers >> 4) as usize,
            off: i16::from_le_bytes([off0, off1]).into(),
            imm: i32::from_le_bytes(imm).into(),
        }
    })
}

const CLASS: u8 = 7;
const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;
const JMP: u8 = 5;
const JMP32: u8 = 6;
const CALL: u8 = 0x85;
const MOV64_REGISTER: u8 = 0xbf;
const ADD64_NUMBER: u8 = 0x07;
/// The register that points to the end of the frame.
const FRAME_POINTER: usize = 10;
/// Registers that a call leaves undefined: from 0 on, so many.
const CLOBBERED: usize = 6;

/// How far below its end a function uses its frame: the lowest address that it reads or writes by
/// the frame pointer, or makes a pointer to.
///
/// The instructions are read in the order in which they lie, which is good enough for what LLVM
/// makes: it adds to a copy of the frame pointer right after the copy.
fn frame(code: &[u8]) -> u32 {
    let mut registers: [Option<i64>; 16] = [None; 16];
    registers[FRAME_POINTER] = Some(0);
    let mut lowest = 0;
    for Instruction {
        code,
        dst,
        src,
        off,
        imm,
    } in instructions(code)
    {
        match code & CLASS {
            LDX => {
                if let Some(at) = registers[src] {
                    lowest = lowest.min(at + off);
                }
                registers[dst] = None;
            }
            ST | STX => {
                if let Some(at) = registers[dst] {
                    lowest = lowest.min(at + off);
                }
            }
            JMP | JMP32 => {
                if code == CALL {
                    registers[..CLOBBERED].fill(None);
                }
            }
            // Arithmetic, and constants of 64 bits.
            _ => {
                registers[dst] = match code {
                    MOV64_REGISTER => registers[src],
                    ADD64_NUMBER => registers[dst].map(|at| at + imm),
                    _ => None,
                };
                if let Some(at) = registers[dst] {
                    lowest = lowest.min(at);
                }
            }
        }
        registers[FRAME_POINTER] = Some(0);
    }
    u32::try_from(-lowest).unwrap_or(u32::MAX)
}

/// `BPF_PSEUDO_CALL`, the source register of a call that is none of a helper.
const PSEUDO_CALL: usize = 1;
const LOAD64: u8 = 0x18;

/// Where a function calls to, callbacks that it hands to helpers included (which the verifier
/// counts alike).
fn calls<'a>(
    (section, begin): Place,
    code: &'a [u8],
    relocations: &'a HashMap<u64, Place>,
) -> impl Iterator<Item = Place> + 'a {
    instructions(code)
        .enumerate()
        .filter_map(move |(n, instruction)| {
            let at = begin + (n * INSTRUCTION) as u64;
            let relative = |from: u64, instructions: i64| {
                from.wrapping_add_signed(instructions * INSTRUCTION as i64)
            };
            let is_call = instruction.code == CALL && instruction.src == PSEUDO_CALL;
            match relocations.get(&at) {
                // Against a function, or against its section and then by the number as well.
                Some(&(section, address)) if is_call && address == 0 => {
                    Some((section, relative(0, instruction.imm + 1)))
                }
                Some(&place) if is_call => Some(place),
                Some(&(section, address)) if instruction.code == LOAD64 => {
                    Some((section, address.wrapping_add_signed(instruction.imm)))
                }
                None if is_call => Some((section, relative(at, instruction.imm + 1))),
                _ => None,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::write::{Object, Relocation, StandardSection, Symbol, SymbolSection};
    use object::{
        Architecture, BinaryFormat, Endianness, RelocationFlags, SymbolFlags, SymbolScope,
    };

    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

    fn instruction(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> [u8; 8] {
        let ([o0, o1], [i0, i1, i2, i3]) = (off.to_le_bytes(), imm.to_le_bytes());
        [code, dst | src << 4, o0, o1, i0, i1, i2, i3]
    }

    /// Writes a word at the lowest address of a frame of so many bytes.
    fn uses(frame: i16) -> [u8; 8] {
        instruction(0x7b, 10, 1, -frame, 0)
    }

    const CALL_FUNCTION: [u8; 8] = [CALL, 0x10, 0, 0, 0xff, 0xff, 0xff, 0xff];

    /// An object with a program `outer` that calls `middle`, which calls `inner`, each with a
    /// frame of so many bytes.
    fn object(frames: [i16; 3], recursive: bool) -> Vec<u8> {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
        let text = object.section_id(StandardSection::Text);
        let program = object.add_section(vec![], b"tp_btf/outer".to_vec(), SectionKind::Text);
        let [outer, middle, inner] = frames;
        let mut last = [uses(inner), EXIT].concat();
        if recursive {
            last = [uses(inner), CALL_FUNCTION, EXIT].concat();
        }
        let places = [
            (
                "outer",
                program,
                [uses(outer), CALL_FUNCTION, EXIT].concat(),
            ),
            ("middle", text, [uses(middle), CALL_FUNCTION, EXIT].concat()),
            ("inner", text, last),
        ]
        .map(|(name, section, code)| {
            let at = object.append_section_data(section, &code, 8);
            let symbol = object.add_symbol(Symbol {
                name: name.as_bytes().to_vec(),
                value: at,
                size: code.len() as u64,
                kind: SymbolKind::Text,
                scope: SymbolScope::Linkage,
                weak: false,
                section: SymbolSection::Section(section),
                flags: SymbolFlags::None,
            });
            (section, at, symbol)
        });
        let [outer, middle, inner] = places;
        let mut call = |from: (_, u64, _), to: (_, _, object::write::SymbolId)| {
            let relocation = Relocation {
                offset: from.1 + 8,
                symbol: to.2,
                addend: 0,
                flags: RelocationFlags::Elf {
                    r_type: object::elf::R_BPF_64_32,
                },
            };
            object
                .add_relocation(from.0, relocation)
                .expect("a relocation");
        };
        call(outer, middle);
        call(middle, inner);
        if recursive {
            call(inner, middle);
        }
        object.write().expect("an object")
    }

    fn depth(frames: [i16; 3]) -> Depth {
        let mut depths = of_programs(&object(frames, false)).expect("programs");
        assert_eq!(depths.len(), 1, "{depths:?}");
        depths.remove(0)
    }

    #[test]
    fn the_frames_of_nested_calls_are_added_up() {
        let most = depth([128, 256, 128]);
        assert_eq!((most.bytes, most.frames), (512, 3));
        assert!(most.is_accepted());
        let chain = ["outer", "middle", "inner"].map(str::to_owned);
        assert_eq!(most.program, "outer");
        assert!(most.chain.iter().map(|(name, _)| name).eq(&chain));
    }

    #[test]
    fn too_much_is_found() {
        let over = depth([128, 256, 136]);
        assert_eq!(over.bytes, 544);
        assert!(!over.is_accepted());
        // No frame is too large by itself, and not even all of them before they are rounded up.
        assert!(!depth([8, 264, 200]).is_accepted());
    }

    #[test]
    fn functions_without_a_frame_take_room_too() {
        assert_eq!(depth([0, 0, 8]).bytes, 3 * 32);
    }

    #[test]
    fn a_function_that_calls_itself_is_refused() {
        let error = of_programs(&object([8, 8, 8], true)).expect_err("endless");
        assert!(error.to_string().contains("calls itself"), "{error}");
    }

    #[test]
    fn pointers_into_the_frame_count() {
        let copy = instruction(MOV64_REGISTER, 2, 10, 0, 0);
        let add = instruction(ADD64_NUMBER, 2, 0, 0, -96);
        assert_eq!(frame(&[copy, add, EXIT].concat()), 96);
        // By the copy, and below it.
        let store = instruction(0x7b, 2, 1, -8, 0);
        assert_eq!(frame(&[copy, add, store, EXIT].concat()), 104);
        // After a call the register is another one's.
        let call = instruction(CALL, 0, 0, 0, 1);
        assert_eq!(frame(&[copy, call, add, store, EXIT].concat()), 0);
        // A load into it likewise.
        let load = instruction(0x79, 2, 1, 0, 0);
        assert_eq!(frame(&[copy, load, add, EXIT].concat()), 0);
    }
}
