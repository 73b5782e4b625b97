//! Programs of the distribution and the lab's own binary: found, run, complained about by name.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::SiteError;

/// Debian package of each program the lab runs.
const PACKAGES: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("mosquitto", "mosquitto"),
    ("mount", "mount"),
    ("unshare", "util-linux"),
    ("nft", "nftables"),
];

/// Folders of system programs; a user's PATH on Debian lacks the `sbin` ones.
const FOLDERS: [&str; 6] = [
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
];

/// The path of a system program.
pub(super) fn require(program: &'static str) -> Result<PathBuf, SiteError> {
    FOLDERS
        .iter()
        .map(|folder| PathBuf::from(folder).join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let package = PACKAGES
                .iter()
                .find(|(name, _)| *name == program)
                .map_or(program, |(_, package)| package);
            SiteError::MissingProgram { program, package }
        })
}

/// Runs a system program to its end; its complaint becomes the error when it fails.
pub(super) fn run(program: &'static str, args: &[&str], input: &str) -> Result<(), SiteError> {
    output(program, args, input).map(drop)
}

/// Runs a system program to its end; what it says. Input and output must not both be long.
pub(super) fn output(program: &'static str, args: &[&str], input: &str) -> Result<String, SiteError> {
    let failed = |output: String| SiteError::Tool {
        command: format!("{program} {}", args.join(" ")),
        output,
    };
    let mut child = Command::new(require(program)?)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| SiteError::Start {
            program: program.into(),
            source,
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        std::io::Write::write_all(&mut stdin, input.as_bytes()).map_err(|error| failed(error.to_string()))?;
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// The `edgewarden-lab` program next to the running test or demo, in the same target directory.
///
/// # Errors
/// When it was not built; the text names the command that builds it.
pub fn lab_program() -> Result<PathBuf, SiteError> {
    let own = std::env::current_exe().map_err(|source| SiteError::File {
        path: "/proc/self/exe".into(),
        source,
    })?;
    own.ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join("edgewarden-lab"))
        .find(|path| path.is_file())
        .ok_or(SiteError::MissingProgram {
            program: "edgewarden-lab",
            package: "(none; run `cargo build --package edgewarden-lab`)",
        })
}
