//! Libraries that change what the C library does for the agent, built by the compiler that Rust links with.

use std::path::{Path, PathBuf};
use std::process::Command;

use edgewarden_lab::stage::Stage;

use super::agent::restart_as;

/// While the file that HANGS names is there, whoever calls `wait_here` waits: 120 seconds at most, longer than any test.
const WAIT: &str = r#"
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
static void wait_here(void) {
    const char *hangs = getenv("HANGS");
    for (int tenths = 0; hangs && tenths < 1200 && access(hangs, F_OK) == 0; tenths++) usleep(100000);
}
"#;

/// Something of the agent's that can be made to hang.
pub(crate) struct Hang(PathBuf);

impl Hang {
    /// Starts the agent with `functions`, which call `wait_here`.
    pub(crate) fn start(stage: &mut Stage, functions: &str) -> Self {
        let folder = stage.site.directory();
        let hang = Self(folder.join("hangs"));
        let preload = format!("LD_PRELOAD={}", library(folder, functions).display());
        let hangs = format!("HANGS={}", hang.0.display());
        restart_as(stage, "env", &[&preload, &hangs]);
        hang
    }

    pub(crate) fn begin(&self) {
        std::fs::write(&self.0, "").unwrap();
    }

    pub(crate) fn end(&self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn library(folder: &Path, functions: &str) -> PathBuf {
    let (source, library) = (folder.join("hang.c"), folder.join("hang.so"));
    std::fs::write(&source, format!("{WAIT}{functions}")).unwrap();
    let status = Command::new("cc")
        .args(["-D_GNU_SOURCE", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(status.success(), "cc: {status}");
    library
}
