//! `cargo xtask acceptance`: hands over to the program of `crates/acceptance`, which is built then.
//!
//! In: the words behind `acceptance`. Out: this process becomes that program; its output and exit code are the verb's.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use crate::failure::Failure;
use crate::{run, workspace};

/// Arguments of the verb. They are the other program's to read, `--help` included.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// Where the nucleus is, and options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Does not return when the program could be started.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let build = [
        "run",
        "--quiet",
        "--release",
        "--locked",
        "--package",
        "edgewarden-acceptance",
        "--",
    ];
    let mut command = workspace::cargo(&build);
    let source = command.args(&arguments.words).exec();
    Err(Failure::Start {
        command: run::line(&command),
        source,
    })
}
