//! Libraries that change what the C library does for the agent, built by the compiler that Rust links with.
//!
//! In: C functions. Out: an agent that is started with them, and a switch. Linked programs only: a static one would not
//! notice.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Stage;
use crate::site::SiteError;

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

/// Whoever syncs waits: a disk that does not answer.
pub const HANGING_SYNC: &str = r#"
int fsync(int fd) {
    wait_here();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
int fdatasync(int fd) {
    wait_here();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"#;

/// The runtime waits for everything in one call, and hangs in it.
pub const HANGING_RUNTIME: &str = r#"
int epoll_wait(int fd, struct epoll_event *events, int most, int timeout) {
    wait_here();
    return ((int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait"))(fd, events, most, timeout);
}
"#;

/// Something of the agent's that can be made to hang.
#[derive(Debug)]
pub struct Hang {
    switch: PathBuf,
    library: PathBuf,
}

impl Hang {
    /// Builds `functions`, which call `wait_here`.
    ///
    /// # Errors
    /// When they cannot be built.
    pub fn prepare(stage: &Stage, functions: &str) -> Result<Self, SiteError> {
        Self::in_folder(stage.site.directory(), functions)
    }

    /// As [`Hang::prepare`], before there is a stage; the folder lives as long as whoever uses the functions.
    ///
    /// # Errors
    /// When they cannot be built.
    pub fn in_folder(folder: &Path, functions: &str) -> Result<Self, SiteError> {
        Ok(Self {
            switch: folder.join("hangs"),
            library: library(folder, functions)?,
        })
    }

    /// The library that the agent is to be started with.
    #[must_use]
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// What an agent that uses them has in its environment, as `env` takes it.
    #[must_use]
    pub fn environment(&self) -> [String; 2] {
        [
            format!("LD_PRELOAD={}", self.library.display()),
            format!("HANGS={}", self.switch.display()),
        ]
    }

    /// Starts the agent with them, in place of a running one.
    ///
    /// # Errors
    /// When they cannot be built or the agent not be started.
    pub fn start(stage: &mut Stage, functions: &str) -> Result<Self, SiteError> {
        let hang = Self::prepare(stage, functions)?;
        let [preload, switch] = hang.environment();
        stage.agent = None;
        stage.start_agent_as(Path::new("env"), &[&preload, &switch])?;
        Ok(hang)
    }

    /// From now on it hangs.
    ///
    /// # Errors
    /// When the switch cannot be made.
    pub fn begin(&self) -> Result<(), SiteError> {
        super::write(&self.switch, b"")
    }

    /// It answers again.
    ///
    /// # Errors
    /// When it did not hang.
    pub fn end(&self) -> Result<(), SiteError> {
        std::fs::remove_file(&self.switch).map_err(|source| SiteError::File {
            path: self.switch.clone(),
            source,
        })
    }
}

/// Builds a library of these functions in a folder.
pub(super) fn library(folder: &Path, functions: &str) -> Result<PathBuf, SiteError> {
    let (source, library) = (folder.join("hang.c"), folder.join("hang.so"));
    super::write(&source, format!("{WAIT}{functions}").as_bytes())?;
    let compiler = Path::new("cc");
    let failed = |source| SiteError::Start {
        program: compiler.to_owned(),
        source,
    };
    let output = Command::new(compiler)
        .args(["-D_GNU_SOURCE", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .output()
        .map_err(failed)?;
    if output.status.success() {
        return Ok(library);
    }
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(failed(std::io::Error::other(complaint)))
}
