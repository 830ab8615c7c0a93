//! `holdup probe`: whether this kernel takes the programs, and what its verifier had to do.

use super::error::{Error, Result};
use super::exit::Exit;
use super::output::write_stdout;
use crate::bpf::{self, Verified};
use crate::host;

/// One line a program.
pub(crate) fn probe() -> Result<Exit> {
    let features = host::preflight()?;
    let programs = bpf::probe(&features.btf)
        .map_err(|error| Error::new("cannot load the kernel programs").because(error))?;
    let text: String = programs.iter().map(line).collect();
    write_stdout(|out| out.write_all(text.as_bytes()))
        .map_err(|error| Error::new("cannot write to standard output").because(error))?;
    Ok(Exit::Success)
}

/// `sched_switch 12345 instructions verified in 6.789 ms`; other programs read it.
fn line(program: &Verified) -> String {
    let instructions = program
        .instructions
        .map_or_else(|| "unknown".to_owned(), |count| count.to_string());
    format!(
        "{} {instructions} instructions verified in {:.3} ms\n",
        program.name,
        program.took.as_secs_f64() * 1e3
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_line_has_the_number_second() {
        let mut program = Verified {
            name: "sched_switch",
            instructions: Some(4711),
            took: Duration::from_micros(1500),
        };
        assert_eq!(
            line(&program),
            "sched_switch 4711 instructions verified in 1.500 ms\n"
        );
        program.instructions = None;
        assert!(line(&program).starts_with("sched_switch unknown "));
    }
}
