//! `cargo xtask kernels`: hands over to the program of `crates/kernels`, which is built then.
//!
//! In: the words behind `kernels`. Out: this process becomes that program; its output and exit code are the verb's.

use std::ffi::OsString;

use crate::failure::Failure;
use crate::run;

/// Arguments of the verb. They are the other program's to read, `--help` included.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// Which kernels, and options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Does not return when the program could be started.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    run::hand_over(&["--package", "edgewarden-kernels"], &arguments.words)
}
