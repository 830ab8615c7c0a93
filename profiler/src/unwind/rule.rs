//! A row of DWARF call frame information as a [`Rule`].

use crate::process::module::Bytes;
use gimli::{
    CfaRule, Encoding, Expression, Operation, RegisterRule, UnwindContextStorage, UnwindExpression,
    UnwindSection, UnwindTableRow, X86_64,
};
use profiler_common::row::{Rule, kind};

/// Where a signal frame keeps the interrupted registers, from the `ucontext` at rsp. The
/// offsets are the kernel's (see [`profiler_common::walk`]); glibc states the same in the
/// hand-written entry for `__restore_rt` (`sysdeps/unix/sysv/linux/x86_64/libc_sigaction.c`).
const SIGNAL_RBP: i64 = 120;
const SIGNAL_RSP: i64 = 160;
const SIGNAL_RIP: i64 = 168;

/// Longest expression looked at, in operations; the longest that we know has nine.
const MAX_OPERATIONS: usize = 9;

/// The rule of one row. `signal` says whether the row's entry is marked as a signal frame.
pub(super) fn rule_of<'data, Section, Storage>(
    section: &Section,
    encoding: Encoding,
    signal: bool,
    row: &UnwindTableRow<usize, Storage>,
) -> Rule
where
    Section: UnwindSection<Bytes<'data>>,
    Storage: UnwindContextStorage<usize>,
{
    if signal {
        return signal_rule(section, encoding, row);
    }
    match row.register(X86_64::RA) {
        None | Some(RegisterRule::Undefined) => return Rule::END,
        Some(RegisterRule::Offset(-8)) => {}
        Some(_) => return Rule::UNSUPPORTED,
    }
    let rbp_off = match row.register(X86_64::RBP) {
        // A function that leaves rbp undefined has no use for it, nor has its caller.
        None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => 0,
        // Not an address of its own: an rbp saved at the CFA would read as not saved.
        Some(RegisterRule::Offset(offset)) if offset < 0 => offset,
        Some(_) => return Rule::UNSUPPORTED,
    };
    match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => match *register {
            X86_64::RSP => Rule::encode(kind::RSP, *offset, rbp_off),
            X86_64::RBP => Rule::encode(kind::RBP, *offset, rbp_off),
            _ => Rule::UNSUPPORTED,
        },
        CfaRule::Expression(expression) => match operations(section, encoding, expression) {
            Some(operations) => expression_rule(&operations, rbp_off),
            None => Rule::UNSUPPORTED,
        },
    }
}

fn expression_rule(operations: &Operations<'_>, rbp_off: i64) -> Rule {
    match operations.as_slice() {
        // rsp + 8 + ((rip & 15) >= N) * 8: what binutils, lld and mold emit for `.plt`.
        [
            Operation::RegisterOffset {
                register: X86_64::RSP,
                offset: 8,
                ..
            },
            Operation::RegisterOffset {
                register: X86_64::RA,
                offset: 0,
                ..
            },
            Operation::UnsignedConstant { value: 15 },
            Operation::And,
            Operation::UnsignedConstant { value: threshold },
            Operation::Ge,
            Operation::UnsignedConstant { value: 3 },
            Operation::Shl,
            Operation::Plus,
        ] if rbp_off == 0 => u32::try_from(*threshold).map_or(Rule::UNSUPPORTED, Rule::plt),
        // *(rsp + N) + 8: OpenSSL's hand-written cipher code.
        [
            Operation::RegisterOffset {
                register: X86_64::RSP,
                offset,
                ..
            },
            Operation::Deref { size: 8, .. },
            Operation::PlusConstant { value: 8 },
        ] => Rule::encode(kind::DEREF, *offset, rbp_off),
        _ => Rule::UNSUPPORTED,
    }
}

/// [`Rule::SIG`] if the registers are where the kernel puts them.
fn signal_rule<'data, Section, Storage>(
    section: &Section,
    encoding: Encoding,
    row: &UnwindTableRow<usize, Storage>,
) -> Rule
where
    Section: UnwindSection<Bytes<'data>>,
    Storage: UnwindContextStorage<usize>,
{
    let is_rsp_plus = |operation: &Operation<Bytes<'data>>, want: i64| {
        matches!(operation, Operation::RegisterOffset { register: X86_64::RSP, offset, .. }
            if *offset == want)
    };
    let at = |rule: Option<RegisterRule<usize>>, want: i64| match rule {
        Some(RegisterRule::Expression(expression)) => operations(section, encoding, &expression)
            .is_some_and(
                |ops| matches!(ops.as_slice(), [operation] if is_rsp_plus(operation, want)),
            ),
        _ => false,
    };
    let cfa = match row.cfa() {
        CfaRule::Expression(expression) => {
            operations(section, encoding, expression).is_some_and(|ops| {
                matches!(ops.as_slice(), [operation, Operation::Deref { size: 8, .. }]
                if is_rsp_plus(operation, SIGNAL_RSP))
            })
        }
        CfaRule::RegisterAndOffset { .. } => false,
    };
    if cfa && at(row.register(X86_64::RA), SIGNAL_RIP) && at(row.register(X86_64::RBP), SIGNAL_RBP)
    {
        Rule::SIG
    } else {
        Rule::UNSUPPORTED
    }
}

/// The operations of a short expression, without an allocation.
struct Operations<'data> {
    list: [Operation<Bytes<'data>>; MAX_OPERATIONS],
    len: usize,
}

impl<'data> Operations<'data> {
    fn as_slice(&self) -> &[Operation<Bytes<'data>>] {
        self.list.get(..self.len).unwrap_or_default()
    }
}

/// The operations, or none where there are too many or they cannot be parsed.
fn operations<'data, Section: UnwindSection<Bytes<'data>>>(
    section: &Section,
    encoding: Encoding,
    expression: &UnwindExpression<usize>,
) -> Option<Operations<'data>> {
    let expression: Expression<Bytes<'data>> = expression.get(section).ok()?;
    let mut operations = Operations {
        list: [const { Operation::Nop }; MAX_OPERATIONS],
        len: 0,
    };
    let mut iter = expression.operations(encoding);
    while let Some(operation) = iter.next().ok()? {
        *operations.list.get_mut(operations.len)? = operation;
        operations.len += 1;
    }
    Some(operations)
}
