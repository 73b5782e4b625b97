//! Runs other programs.
//!
//! In: a prepared command. Out: success, its output, or a failure that names the whole command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::workspace::cargo;

/// The command line as a reader would type it (without quoting: for messages only).
pub fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    // Cargo names itself by its path inside the toolchain, which nobody types.
    let program = if program.ends_with("cargo") {
        Path::new("cargo")
    } else {
        program
    };
    let arguments = command.get_args().map(OsStr::to_string_lossy);
    let words: Vec<_> = std::iter::once(program.to_string_lossy())
        .chain(arguments)
        .collect();
    words.join(" ")
}

/// Runs it with our own terminal and expects success.
pub fn run(command: &mut Command) -> Result<(), Failure> {
    let title = line(command);
    println!("$ {title}");
    expect(&title, command)
}

/// Becomes the program of a package of ours, which is built then; does not return when it could be started. `choice` is how
/// cargo finds and builds it, `words` are the program's.
pub fn hand_over(choice: &[&str], words: &[OsString]) -> Result<(), Failure> {
    let mut command = cargo(&["run", "--quiet", "--locked"]);
    let source = command.args(choice).arg("--").args(words).exec();
    Err(Failure::Start {
        command: line(&command),
        source,
    })
}

/// The same as [`run`], but everything goes to standard error: standard output is somebody's who reads it.
pub fn run_aside(command: &mut Command) -> Result<(), Failure> {
    run_aside_titled(&line(command), command)
}

/// The same, called by a title where the command line says too much.
pub fn run_aside_titled(title: &str, command: &mut Command) -> Result<(), Failure> {
    eprintln!("$ {title}");
    expect(title, command.stdout(std::io::stderr()))
}

fn expect(title: &str, command: &mut Command) -> Result<(), Failure> {
    let status = command.status().map_err(|source| Failure::Start {
        command: title.to_owned(),
        source,
    })?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::Exit {
            command: title.to_owned(),
            status,
        })
    }
}

/// Runs it and gives back what it wrote to standard output; its errors stay on the terminal.
pub fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| Failure::Start {
            command: line(command),
            source,
        })?;
    if !output.status.success() {
        return Err(Failure::Exit {
            command: line(command),
            status: output.status,
        });
    }
    String::from_utf8(output.stdout).map_err(|error| Failure::Parse {
        subject: format!("the output of `{}`", line(command)),
        format: "UTF-8",
        source: Box::new(error),
    })
}

/// Whether it can be started and succeeds; nothing is printed.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_its_status() {
        let failure = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(failure.to_string(), "`sh -c exit 3` ended with exit status: 3");
    }

    #[test]
    fn what_runs_aside_fails_the_same_way() {
        let failure = run_aside(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(failure.to_string(), "`sh -c exit 3` ended with exit status: 3");
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = output(&mut Command::new("/nonexistent/program")).unwrap_err();
        assert_eq!(failure.to_string(), "could not start `/nonexistent/program`");
        assert!(!succeeds(&mut Command::new("/nonexistent/program")));
    }

    #[test]
    fn output_is_what_was_written() {
        assert_eq!(output(Command::new("printf").arg("a b")).unwrap(), "a b");
    }
}
