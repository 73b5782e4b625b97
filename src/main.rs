//! `edgewarden`: the agent and its command line. Everything is in the library; here is only the process.

use std::process::ExitCode;

fn main() -> ExitCode {
    edgewarden::cli::main()
}
