//! What is known of a frame before an instruction of its function.

use iced_x86::Register;
use profiler_common::row::{Rule, kind};

/// What is known before an instruction. CFA is the canonical frame address: the caller's `rsp`
/// after its call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// CFA − `rsp`, in bytes; none after an alignment of `rsp`, and below an array of variable length.
    pub(super) depth: Option<i64>,
    /// CFA − `rbp`, where `rbp` points into this frame.
    pub(super) frame: Option<i64>,
    /// Whether `rbp` still or again holds the caller's.
    pub(super) rbp_kept: bool,
    /// CFA − the address at which the caller's `rbp` is saved, once it is.
    pub(super) rbp_saved: Option<i64>,
    /// Whether this is the outermost frame.
    pub(super) outermost: bool,
    /// CFA − `r11`, where that says how far down the stack is to be probed.
    pub(super) probe: Option<i64>,
    /// Whether `rsp` was compared with that by the instruction before.
    pub(super) probed: bool,
}

/// At a function's first instruction.
pub(super) const ENTRY: State = State {
    depth: Some(8),
    frame: None,
    rbp_kept: true,
    rbp_saved: None,
    outermost: false,
    probe: None,
    probed: false,
};

impl State {
    /// The rule that says the same.
    #[must_use]
    pub fn rule(&self) -> Rule {
        if self.outermost {
            return Rule::END;
        }
        let rbp = match (self.rbp_kept, self.rbp_saved) {
            (true, _) => 0,
            (false, Some(slot)) if slot > 8 => -slot,
            (false, _) => return Rule::UNSUPPORTED,
        };
        match (self.depth, self.frame) {
            (Some(depth), _) if depth >= 8 => Rule::encode(kind::RSP, depth, rbp),
            (None, Some(frame)) => Rule::encode(kind::RBP, frame, rbp),
            _ => Rule::UNSUPPORTED,
        }
    }

    /// Whether `rule`, from elsewhere, is true here.
    #[must_use]
    pub fn admits(&self, rule: Rule) -> bool {
        if self.outermost {
            return rule == Rule::END;
        }
        let cfa = rule.cfa_off().cast_signed();
        let cfa = match rule.kind() {
            kind::RSP => self.depth == Some(cfa),
            kind::RBP => self.frame == Some(cfa),
            _ => false,
        };
        let rbp = match rule.rbp_below_cfa().cast_signed() {
            0 => self.rbp_kept,
            // Below `rsp` a saved value lasts for a while; compilers leave it in their rows.
            slot => {
                self.rbp_saved == Some(slot)
                    || (self.rbp_kept && self.depth.is_some_and(|depth| slot > depth))
            }
        };
        cfa && rbp
    }

    /// Whether a jump from here leads to another function: nothing of this one is on the stack.
    pub(super) fn leaves(&self) -> bool {
        self.depth == Some(8) && self.rbp_kept && self.frame.is_none()
    }

    /// What holds whichever of two paths was taken; none where they disagree.
    pub(super) fn meet(self, other: State) -> Option<State> {
        if self.outermost && other.outermost {
            return Some(self);
        }
        let same = |a: Option<i64>, b: Option<i64>| if a == b { a } else { None };
        let frame = same(self.frame, other.frame);
        let depth = same(self.depth, other.depth);
        if self.outermost != other.outermost || (depth.is_none() && frame.is_none()) {
            return None;
        }
        Some(State {
            depth,
            frame,
            rbp_kept: self.rbp_kept && other.rbp_kept,
            rbp_saved: same(self.rbp_saved, other.rbp_saved),
            outermost: self.outermost,
            probe: same(self.probe, other.probe),
            probed: self.probed && other.probed,
        })
    }

    /// `rsp` moves down by `bytes`.
    pub(super) fn lower(mut self, bytes: i64) -> Option<State> {
        self.depth = match self.depth {
            Some(depth) => Some(depth.checked_add(bytes)?),
            None => None,
        };
        if let (Some(depth), Some(slot)) = (self.depth, self.rbp_saved)
            && slot > depth
        {
            self.rbp_saved = None;
        }
        // Past its own return address a frame is none any more.
        self.depth.is_none_or(|depth| depth >= 8).then_some(self)
    }

    /// CFA − the address that `base` + `displacement` is.
    pub(super) fn below_cfa(&self, base: Register, displacement: i64) -> Option<i64> {
        match base {
            Register::RSP => self.depth?.checked_sub(displacement),
            Register::RBP => self.frame?.checked_sub(displacement),
            _ => None,
        }
    }

    /// `rbp` gets a value of which nothing is known.
    pub(super) fn overwrite_rbp(mut self) -> State {
        self.rbp_kept = false;
        self.frame = None;
        self
    }
}
