//! Builds a program again elsewhere and compares: who has the source can check what a fleet runs.
//!
//! In: a target and the program that was built for it. Out: success when a build in another folder, with nothing of the first
//! one's, gives the same bytes. Deliberately absent: another machine; the toolchain is the same.

use std::fs;
use std::path::Path;

use edgewarden_lab::stage::packaged;

use crate::cross::Target;
use crate::failure::Failure;
use crate::run;
use crate::workspace::{file, make_folder, root, target};

/// Builds it in a copy of the tree with a target folder of its own.
pub fn expect_same(wanted: &Target, program: &Path) -> Result<(), Failure> {
    let copy = target().join("elsewhere/a-longer-name-than-the-first");
    copy_tree(&copy)?;
    let mut command = super::command(&copy, wanted)?;
    let other = super::built_by(command.env("CARGO_TARGET_DIR", copy.join("target")))?;
    let digest = |path: &Path| packaged::digest(path).map_err(file("read", path));
    let (one, two) = (digest(program)?, digest(&other)?);
    if one == two {
        println!("{}: the same bytes in {}", wanted.file(), copy.display());
        return Ok(());
    }
    Err(Failure::Content {
        subject: wanted.file(),
        fault: format!(
            "{one} in {}, expected the same in {}, found {two}",
            program.display(),
            other.display()
        ),
    })
}

/// Copies what git knows of the tree, as it is on the disk; what an earlier run built there goes.
fn copy_tree(copy: &Path) -> Result<(), Failure> {
    if copy.exists() {
        fs::remove_dir_all(copy).map_err(file("clear", copy))?;
    }
    let root = root();
    let mut list = std::process::Command::new("git");
    let list = list
        .current_dir(&root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    for name in run::output(list)?.split_terminator('\0') {
        let (from, to) = (root.join(name), copy.join(name));
        if let Some(folder) = to.parent() {
            make_folder(folder)?;
        }
        // A file may have been deleted since git heard of it.
        if from.is_file() {
            fs::copy(&from, &to).map_err(file("copy", &from))?;
        }
    }
    Ok(())
}
