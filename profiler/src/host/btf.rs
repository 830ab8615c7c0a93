//! The kernel's own type information, `/sys/kernel/btf/vmlinux`.
//!
//! The format is documented in the kernel tree, `Documentation/bpf/btf.rst`. One pass over the
//! types notes where each begins; names are compared only when something is asked for, so that
//! loading costs milliseconds.

use std::fmt;
use std::io;
use std::path::Path;

/// Where a kernel built with `CONFIG_DEBUG_INFO_BTF` offers its types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;
/// Bytes that every type has before what its kind adds.
const TYPE_LEN: usize = 12;
/// Length of a chain of modifiers that no sane type exceeds. Malformed data may hold cycles.
const MAX_CHAIN: u32 = 32;
/// Members looked at for one name. The largest structs have some hundreds; malformed data may
/// nest without end, and twice at every step.
const MAX_MEMBERS: u32 = 20_000;
/// Nesting of anonymous structs that no sane type exceeds.
const MAX_DEPTH: u32 = 32;

const KIND_PTR: u32 = 2;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Why type information cannot be used.
#[derive(Debug)]
pub enum BtfError {
    /// The file cannot be read; `NotFound` means a kernel built without BTF.
    Read(io::Error),
    /// The data is not BTF as documented.
    Malformed(&'static str),
}

impl fmt::Display for BtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BtfError::Read(error) => write!(f, "cannot read {VMLINUX}: {error}"),
            BtfError::Malformed(what) => write!(f, "{VMLINUX} is malformed: {what}"),
        }
    }
}

impl std::error::Error for BtfError {}

/// The kernel's types.
pub struct KernelBtf {
    data: Vec<u8>,
    strings: std::ops::Range<usize>,
    /// Where in `data` type `i + 1` begins; type 0 is `void`.
    types: Vec<u32>,
}

impl fmt::Debug for KernelBtf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelBtf")
            .field("types", &self.types.len())
            .finish_non_exhaustive()
    }
}

/// A type's fixed part.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    /// Members, values or parameters that follow.
    count: usize,
    /// Set for structs whose member offsets carry a bitfield size.
    kind_flag: bool,
    /// A size or the id of another type, by kind.
    size_or_type: u32,
    /// Where in the data the members, values or parameters begin.
    rest: usize,
}

impl KernelBtf {
    /// Reads the running kernel's types.
    ///
    /// # Errors
    /// Where the kernel has none, or they are malformed.
    pub fn load() -> Result<KernelBtf, BtfError> {
        let data = std::fs::read(Path::new(VMLINUX)).map_err(BtfError::Read)?;
        KernelBtf::parse(data)
    }

    /// Takes BTF from memory, in the byte order of this machine.
    ///
    /// # Errors
    /// Where the header or the list of types does not add up.
    pub fn parse(data: Vec<u8>) -> Result<KernelBtf, BtfError> {
        use BtfError::Malformed;
        if u16_at(&data, 0) != Some(MAGIC) {
            return Err(Malformed("no BTF magic"));
        }
        let word = |at| u32_at(&data, at).ok_or(Malformed("short header"));
        let header_len = word(4)? as usize;
        if header_len < HEADER_LEN {
            return Err(Malformed("short header"));
        }
        let section = |at| -> Result<std::ops::Range<usize>, BtfError> {
            let start = header_len.checked_add(word(at)? as usize);
            let end = start.and_then(|start| start.checked_add(word(at + 4).ok()? as usize));
            match (start, end) {
                (Some(start), Some(end)) if end <= data.len() => Ok(start..end),
                _ => Err(Malformed("a section ends behind the file")),
            }
        };
        let type_section = section(8)?;
        let strings = section(16)?;

        let mut types = Vec::with_capacity(type_section.len() / 20);
        let mut at = type_section.start;
        while at < type_section.end {
            let this = read_type(&data, at).ok_or(Malformed("a type ends behind the file"))?;
            let extra =
                extra_len(this.kind, this.count).ok_or(Malformed("unknown kind of type"))?;
            let next = this.rest + extra;
            if next > type_section.end {
                return Err(Malformed("a type ends behind its section"));
            }
            types.push(u32::try_from(at).map_err(|_| Malformed("too large"))?);
            at = next;
        }
        Ok(KernelBtf {
            data,
            strings,
            types,
        })
    }

    /// How many types there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.types.len()
    }

    /// Whether there is no type at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// Whether the kernel has a function of this name that BPF may know of.
    #[must_use]
    pub fn has_function(&self, name: &str) -> bool {
        self.named(name, &[KIND_FUNC]).next().is_some()
    }

    /// Byte offset of `member` in `struct strukt`. Members of anonymous structs and unions count
    /// as the kernel's own code sees them; `a.b` goes into a member that is itself a struct.
    /// `None` where there is no such member, or it is a bitfield.
    #[must_use]
    pub fn member_offset(&self, strukt: &str, member: &str) -> Option<u32> {
        // A name may also stand for an unrelated struct of one driver: the first with the member
        // wins, and pahole puts the core kernel's first.
        self.named(strukt, &[KIND_STRUCT]).find_map(|mut ty| {
            let mut offset = 0u32;
            let mut parts = member.split('.').peekable();
            while let Some(part) = parts.next() {
                let (bits, id) = self.find_member(&ty, part, 0, &mut { MAX_MEMBERS })?;
                if bits % 8 != 0 {
                    return None;
                }
                offset = offset.checked_add(bits / 8)?;
                if parts.peek().is_some() {
                    ty = self.resolve(id)?;
                }
            }
            Some(offset)
        })
    }

    /// Whether `enum name` has a value called `value`.
    #[must_use]
    pub fn has_enum_value(&self, name: &str, value: &str) -> bool {
        self.named(name, &[KIND_ENUM, KIND_ENUM64]).any(|ty| {
            let step = if ty.kind == KIND_ENUM { 8 } else { 12 };
            (0..ty.count).any(|i| {
                u32_at(&self.data, ty.rest + i * step).is_some_and(|at| self.is_name(at, value))
            })
        })
    }

    /// Whether BPF programs may call the helper `bpf_NAME`.
    #[must_use]
    pub fn has_helper(&self, name: &str) -> bool {
        self.has_enum_value("bpf_func_id", &format!("BPF_FUNC_{name}"))
    }

    /// Bytes of a thread's kernel stack: `THREAD_SIZE` of `arch/x86/include/asm/page_64_types.h`,
    /// which is twice as large where KASAN is built in.
    #[must_use]
    pub fn kernel_stack_size(&self) -> u32 {
        let kasan = self.member_offset("task_struct", "kasan_depth").is_some();
        (16 << 10) << u32::from(kasan)
    }

    /// Whether BPF's memory counts as locked memory of its maker (before Linux 5.11), which
    /// `struct bpf_map` notes.
    #[must_use]
    pub fn charges_memlock(&self) -> bool {
        self.member_offset("bpf_map", "memory").is_some()
    }

    /// How many arguments a `tp_btf` program at this tracepoint gets: the parameters of the
    /// function type `btf_trace_NAME`, without its first (`void *__data`). `None` where there is
    /// no such tracepoint.
    #[must_use]
    pub fn tracepoint_args(&self, tracepoint: &str) -> Option<u32> {
        let name = format!("btf_trace_{tracepoint}");
        self.named(&name, &[KIND_TYPEDEF]).find_map(|ty| {
            let pointer = self.resolve(ty.size_or_type)?;
            if pointer.kind != KIND_PTR {
                return None;
            }
            let proto = self.resolve(pointer.size_or_type)?;
            if proto.kind != KIND_FUNC_PROTO {
                return None;
            }
            u32::try_from(proto.count).ok()?.checked_sub(1)
        })
    }

    /// Every type of one of `kinds` with this name.
    fn named<'a>(&'a self, name: &'a str, kinds: &'a [u32]) -> impl Iterator<Item = Type> + 'a {
        self.types.iter().filter_map(move |&at| {
            let ty = read_type(&self.data, at as usize)?;
            (kinds.contains(&ty.kind) && self.is_name(ty.name, name)).then_some(ty)
        })
    }

    /// The type behind `id`, past typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_CHAIN {
            let index = (id as usize).checked_sub(1)?;
            let ty = read_type(&self.data, *self.types.get(index)? as usize)?;
            match ty.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = ty.size_or_type;
                }
                _ => return Some(ty),
            }
        }
        None
    }

    /// Offset in bits and type of a member, looking into anonymous members.
    fn find_member(
        &self,
        ty: &Type,
        name: &str,
        depth: u32,
        budget: &mut u32,
    ) -> Option<(u32, u32)> {
        if depth > MAX_DEPTH || !matches!(ty.kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for i in 0..ty.count {
            *budget = budget.checked_sub(1)?;
            let at = ty.rest + i * 12;
            let member_name = u32_at(&self.data, at)?;
            let id = u32_at(&self.data, at + 4)?;
            let offset = u32_at(&self.data, at + 8)?;
            let (bits, is_bitfield) = if ty.kind_flag {
                (offset & 0x00ff_ffff, offset >> 24 != 0)
            } else {
                (offset, false)
            };
            if self.is_name(member_name, name) {
                return (!is_bitfield).then_some((bits, id));
            }
            if self.is_name(member_name, "")
                && let Some(inner) = self.resolve(id)
                && let Some((inner_bits, inner_id)) =
                    self.find_member(&inner, name, depth + 1, budget)
            {
                return Some((bits.checked_add(inner_bits)?, inner_id));
            }
        }
        None
    }

    /// Whether the string at `offset` of the string section is exactly `name`.
    fn is_name(&self, offset: u32, name: &str) -> bool {
        let strings = self.data.get(self.strings.clone()).unwrap_or_default();
        strings
            .get(offset as usize..)
            .and_then(|rest| rest.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..at.checked_add(2)?)?
        .try_into()
        .ok()
        .map(u16::from_ne_bytes)
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..at.checked_add(4)?)?
        .try_into()
        .ok()
        .map(u32::from_ne_bytes)
}

fn read_type(data: &[u8], at: usize) -> Option<Type> {
    let info = u32_at(data, at + 4)?;
    Some(Type {
        name: u32_at(data, at)?,
        kind: (info >> 24) & 0x1f,
        count: (info & 0xffff) as usize,
        kind_flag: info >> 31 != 0,
        size_or_type: u32_at(data, at + 8)?,
        rest: at + TYPE_LEN,
    })
}

/// Bytes that a kind adds behind the fixed part; `None` for a kind that we do not know, behind
/// which nothing can be found.
fn extra_len(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // INT, VAR, DECL_TAG
        1 | 14 | 17 => 4,
        // ARRAY
        3 => 12,
        KIND_STRUCT | KIND_UNION | KIND_ENUM64 => 12 * count,
        KIND_ENUM | KIND_FUNC_PROTO => 8 * count,
        // DATASEC
        15 => 12 * count,
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
        KIND_PTR | 7..=KIND_FUNC | 16 | KIND_TYPE_TAG => 0,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "btf_tests.rs"]
pub(super) mod tests;
