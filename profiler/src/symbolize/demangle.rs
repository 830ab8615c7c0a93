//! Linker symbols to names: Rust (legacy and v0), C++ and C.

use super::cpp;
use super::limits::{Bounded, MAX_NAME, MAX_SYMBOL, cut};
use super::path;
use std::fmt::Write;

/// Which language's mangling a symbol bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mangling {
    /// Rust, legacy (`_ZN…17h…E`) or v0 (`_R…`).
    Rust,
    /// C++ (Itanium ABI).
    Cpp,
    /// None: C, assembly, `#[no_mangle]`, or a short name from line tables.
    None,
}

/// A symbol made readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Demangled {
    /// The full name: no hash, no disambiguator, no suffix of the compiler's.
    pub(super) name: String,
    /// What it was mangled as.
    pub(super) mangling: Mangling,
    /// The crate whose source holds the function, where the symbol states it.
    pub(super) krate: Option<String>,
}

/// Demangles `symbol`; one that is not mangled, is longer than any compiler's, or takes too long, keeps
/// its name. Names are cut at [`MAX_NAME`], and demangling ends there.
pub(super) fn demangle(symbol: &str) -> Demangled {
    if symbol.len() > MAX_SYMBOL {
        return Demangled {
            krate: None,
            name: cut(symbol, MAX_NAME).into_owned(),
            mangling: Mangling::None,
        };
    }
    let symbol = strip_suffixes(symbol);
    if let Ok(rust) = rustc_demangle::try_demangle(symbol)
        && let Some(name) = Bounded::written(|out| write!(out, "{rust:#}"))
    {
        let krate = match symbol.strip_prefix("_R") {
            Some(v0) => v0_crate(v0.as_bytes(), &name),
            None => path::defining_crate(&name),
        };
        return Demangled {
            krate: krate.map(str::to_owned),
            name,
            mangling: Mangling::Rust,
        };
    }
    if symbol.starts_with("_Z")
        && let Some(name) = cpp::name(symbol)
    {
        return Demangled {
            name,
            mangling: Mangling::Cpp,
            krate: None,
        };
    }
    // `memcpy@@GLIBC_2.14`: the version is of the linker's concern.
    let name = match symbol.find('@') {
        Some(at) if at > 0 => symbol.get(..at).unwrap_or(symbol),
        _ => symbol,
    };
    Demangled {
        krate: path::defining_crate(name).map(str::to_owned),
        name: cut(name, MAX_NAME).into_owned(),
        mangling: Mangling::None,
    }
}

/// Suffixes by which LLVM and GCC tell clones and parts of one function apart; each may be
/// followed by a number.
const SUFFIXES: [&str; 10] = [
    "llvm",
    "cold",
    "isra",
    "part",
    "constprop",
    "lto_priv",
    "localalias",
    "warm",
    "uncold",
    "specialized",
];

/// `foo.isra.0.cold` is `foo` to people.
pub(super) fn strip_suffixes(symbol: &str) -> &str {
    let mut rest = symbol;
    while let Some((head, last)) = rest.rsplit_once('.') {
        let number = !last.is_empty() && last.bytes().all(|b| b.is_ascii_hexdigit());
        let (stem, word) = match head.rsplit_once('.') {
            Some((stem, word)) if number && SUFFIXES.contains(&word) => (stem, word),
            _ => (head, last),
        };
        if stem.is_empty() || !SUFFIXES.contains(&word) {
            break;
        }
        rest = stem;
    }
    rest
}

/// The crate that holds the source of a v0 symbol (`mangled` without its `_R`, `name` demangled).
///
/// A trait's method on a foreign type is printed `<T as Trait>::method`, which does not tell
/// whose `impl` it is: `<app::handler as axum::Handler>::call` is axum's. The mangled form does:
/// its impl-path names the module of the `impl` block
/// (<https://doc.rust-lang.org/rustc/symbol-mangling/v0.html>).
fn v0_crate<'a>(mangled: &'a [u8], name: &'a str) -> Option<&'a str> {
    let mut pos = mangled.iter().take_while(|b| b.is_ascii_digit()).count();
    // Every step but a back reference moves forward, and those only go back: a bound keeps a
    // made-up symbol from going round.
    for _ in 0..256 {
        let tag = *mangled.get(pos)?;
        pos += 1;
        match tag {
            b'C' => {
                pos = skip_disambiguator(mangled, pos)?;
                return v0_identifier(mangled, pos);
            }
            b'N' => pos += 1,
            b'I' => {}
            b'M' | b'X' => pos = skip_disambiguator(mangled, pos)?,
            // A default method: its source is the trait's.
            b'Y' => return path::trait_crate(name),
            b'B' => {
                let (target, _) = base62(mangled, pos)?;
                pos = usize::try_from(target).ok().filter(|&to| to < pos)?;
            }
            _ => return None,
        }
    }
    None
}

fn skip_disambiguator(mangled: &[u8], pos: usize) -> Option<usize> {
    if mangled.get(pos) == Some(&b's') {
        base62(mangled, pos + 1).map(|(_, next)| next)
    } else {
        Some(pos)
    }
}

/// `_` is 0, `0_` is 1, `Z_` is 62.
fn base62(mangled: &[u8], mut pos: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    let mut empty = true;
    loop {
        let byte = *mangled.get(pos)?;
        pos += 1;
        let digit = match byte {
            b'_' if empty => return Some((0, pos)),
            b'_' => return Some((value.checked_add(1)?, pos)),
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            b'A'..=b'Z' => byte - b'A' + 36,
            _ => return None,
        };
        empty = false;
        value = value.checked_mul(62)?.checked_add(u64::from(digit))?;
    }
}

fn v0_identifier(mangled: &[u8], pos: usize) -> Option<&str> {
    let rest = mangled.get(pos..)?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let len: usize = str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
    let mut start = digits;
    if rest.get(start) == Some(&b'_') {
        start += 1;
    }
    str::from_utf8(rest.get(start..start.checked_add(len)?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_and_v0_lose_hash_and_disambiguator() {
        let legacy = demangle("_ZN1a4body28_$u7b$$u7b$closure$u7d$$u7d$17h275ae4863b0c6721E");
        assert_eq!(legacy.name, "a::body::{{closure}}");
        assert_eq!(legacy.krate.as_deref(), Some("a"));
        let v0 = demangle("_RNCNvCs6xxl1lAjzDf_1a4body0.llvm.15744992627836326827");
        assert_eq!(v0.name, "a::body::{closure#0}");
        assert_eq!(
            (v0.krate.as_deref(), v0.mangling),
            (Some("a"), Mangling::Rust)
        );
    }

    #[test]
    fn v0_impl_block_tells_the_crate() {
        let reset = demangle(
            "_RNvXNvNtNtNtNtCs3kwlFlABFPp_5tokio7runtime9scheduler12multi_thread6worker14block_in_placeNtB2_5ResetNtNtNtCsgEmfK2I1SDS_4core3ops4drop4Drop4drop",
        );
        assert_eq!(reset.krate.as_deref(), Some("tokio"));
        // A blanket `impl<F> axum::Handler for F`, instantiated with the application's function:
        // the printed self type is the application's, the code is axum's.
        let blanket =
            demangle("_RNvXs_Cs3kwlFlABFPp_4axumNvCs6R94S4md0hb_3app3getNtB4_7Handler4call");
        assert_eq!(blanket.name, "<app::get as axum::Handler>::call");
        assert_eq!(blanket.krate.as_deref(), Some("axum"));
        // A default method of a trait of the application's on a foreign type.
        let default = demangle("_RNvYNtCs3kwlFlABFPp_5tokio6StreamNtCs6R94S4md0hb_3app3Ext4slow");
        assert_eq!(default.name, "<tokio::Stream as app::Ext>::slow");
        assert_eq!(default.krate.as_deref(), Some("app"));
    }

    #[test]
    fn compilers_suffixes_go() {
        for (symbol, name) in [
            ("foo.isra.0.cold", "foo"),
            ("foo.llvm.123456", "foo"),
            ("foo.part.3", "foo"),
            ("memcpy@@GLIBC_2.14", "memcpy"),
            ("a.b", "a.b"),
            (".cold", ".cold"),
            ("", ""),
            ("_ZN5space3fooEibc", "space::foo(int, bool, char)"),
            ("_ZN5space3fooEibc.cold", "space::foo(int, bool, char)"),
        ] {
            assert_eq!(demangle(symbol).name, name, "{symbol}");
        }
    }

    /// `f(T0, T1, …)` where each type is made of two of the one before it: each letter more
    /// doubles the name.
    fn bomb(levels: usize) -> String {
        let mut symbol = "_Z1f4pairIiiE".to_owned();
        for level in 0..levels {
            let before = match level {
                0 => "S0_".to_owned(),
                n => format!(
                    "S{}_",
                    char::from_digit(n as u32, 36)
                        .expect("few")
                        .to_ascii_uppercase()
                ),
            };
            symbol.push_str(&format!("S_I{before}{before}E"));
        }
        symbol
    }

    #[test]
    fn a_name_that_doubles_with_every_letter_ends() {
        let name = demangle(&bomb(4)).name;
        assert!(name.len() > 4 * bomb(4).len(), "it grows: {name}");
        let begun = std::time::Instant::now();
        let name = demangle(&bomb(24)).name;
        assert!((1000..=MAX_NAME).contains(&name.len()), "{}", name.len());
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        let long = format!("_ZN{}E", "1a".repeat(MAX_NAME));
        assert!(demangle(&long).name.len() <= MAX_NAME);
        assert!(demangle(&"x".repeat(1 << 20)).name.len() <= MAX_NAME);
    }

    #[test]
    fn made_up_symbols_do_no_harm() {
        for symbol in [
            "_R",
            "_RB_",
            "_RNvB_3foo",
            "_RC99999999999999999999foo",
            "_RCs",
            "_RNvYB_",
            "_RIIIIIIII",
            "_ZN",
            "_ZN99999foo",
            "_Z",
        ] {
            demangle(symbol);
            v0_crate(symbol.trim_start_matches("_R").as_bytes(), symbol);
        }
    }
}
