//! A file system that never answers.

use std::path::Path;

use edgewarden_lab::site::{Ns, Running, lab_program};
use edgewarden_lab::stage::Stage;

use super::LIMIT;

/// Whether such a device is there and may be used.
fn may_make_file_systems() -> bool {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).open("/dev/fuse").is_ok()
}

/// Mounts a file system that never answers over `at`, as the agent sees it; none where that is not allowed.
pub(crate) fn hang(stage: &Stage, at: &Path) -> Option<Running> {
    let mounts = format!("--mount=/proc/{}/ns/mnt", stage.agent.as_ref().unwrap().pid());
    let (lab, at) = (lab_program().unwrap(), at.to_str().unwrap());
    let words = [&mounts, lab.to_str().unwrap(), "silent-fs", "--at", at];
    let log = stage.site.directory().join("silent-fs.log");
    let mut running = stage
        .site
        .spawn(Ns::Gateway, "nsenter", &words, &[], log)
        .unwrap();
    match running.wait_event(LIMIT, |event| event["event"] == "mounted") {
        Ok(_) => Some(running),
        Err(error) if std::env::var_os("CI").is_none() && !may_make_file_systems() => {
            println!("SKIPPED: no file system can be made to hang here: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}
