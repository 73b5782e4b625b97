//! `cargo xtask demo`: the AWS lab of the Device Defender workshop, replayed with real parts.
//!
//! In: nothing; it builds, installs what is missing and enters namespaces of its own. Out: a timeline with a verdict
//! for every claim, and a failure when one does not hold. The host's network and rules are never touched.

mod story;
mod timeline;

use edgewarden_lab::site::{IN_LAB, enter_or_reexec};

use crate::failure::Failure;
use crate::packages::PACKAGES;
use crate::{run, setup, workspace};

/// Runs the demo; the process is replaced by itself in namespaces of its own.
pub fn run() -> Result<(), Failure> {
    if std::env::var_os(IN_LAB).is_none() {
        setup::ensure(PACKAGES)?;
        run::run(&mut workspace::cargo(&[
            "build",
            "--locked",
            "--package",
            "edgewarden",
            "--package",
            "edgewarden-lab",
        ]))?;
    }
    enter_or_reexec(["demo".into()]).map_err(|source| Failure::Demo {
        source: Box::new(source),
    })?;
    story::tell().map_err(|source| Failure::Demo { source })
}
