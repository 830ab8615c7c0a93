//! Kernel addresses to names, by `/proc/kallsyms`.

use super::demangle::strip_suffixes;
use blazesym::MaybeDefault;
use blazesym::symbolize::source::{Kernel, Source};
use blazesym::symbolize::{Input, Reason, Symbolized};

/// Names of kernel functions, one for each of `addresses`; none where kallsyms has none.
///
/// `restricted` is called where kallsyms shows no addresses at all.
pub(super) fn names(
    blazesym: &blazesym::symbolize::Symbolizer,
    addresses: &[u64],
    restricted: impl FnOnce(&str),
) -> Vec<Option<String>> {
    // Names are all we show of the kernel: a vmlinux with debug information would cost
    // hundreds of MiB, and the KASLR offset that it needs more privileges.
    let kernel = Kernel {
        vmlinux: MaybeDefault::None,
        debug_syms: false,
        ..Kernel::default()
    };
    let symbols = match blazesym.symbolize(&Source::Kernel(kernel), Input::AbsAddr(addresses)) {
        Ok(symbols) => symbols,
        Err(error) => {
            restricted(&format!("{error:#}"));
            return vec![None; addresses.len()];
        }
    };
    if symbols
        .iter()
        .any(|symbol| matches!(symbol, Symbolized::Unknown(Reason::MissingSyms)))
    {
        restricted("/proc/kallsyms shows no addresses to this user");
    }
    symbols
        .into_iter()
        .map(|symbol| {
            let symbol = symbol.into_sym()?;
            Some(strip_suffixes(&symbol.name).to_owned())
        })
        .collect()
}
