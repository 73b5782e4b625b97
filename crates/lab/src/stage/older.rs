//! The agent as it finds itself on an older kernel, as far as calls go: those that such a kernel lacks are refused.
//!
//! In: a profile of calls ([`OlderKernel`]). Out: the words with which an agent is started behind it. What the kernel's packet filter
//! lacks is behind pointers, where no filter of calls sees it; that is [`filter_hook`](super::filter_hook)'s.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;

use super::Stage;
use crate::site::SiteError;

/// The newest call of Linux 5.3 and 5.4 (`clone3`); since number 424 all processors have the same.
const NEWEST_5_4: u32 = 435;
/// The newest call of Linux 5.2 (`fspick`).
const NEWEST_5_2: u32 = 433;
/// The last number before the first call that all processors have in common (`pidfd_send_signal`, Linux 5.1).
const NEWEST_4: u32 = 423;
/// `pidfd_open`.
const PIDFD_OPEN: u32 = 434;
/// `pidfd_send_signal`.
const PIDFD_SEND_SIGNAL: u32 = 424;
/// `openat2`.
const OPENAT2: u32 = 437;
/// `AF_XDP`.
const XDP: u32 = 44;

/// What is older than what runs here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OlderKernel {
    /// 5.4: `openat2`, `close_range`, `faccessat2`, `pidfd_getfd`, `epoll_pwait2` and whatever came later are missing.
    Linux54,
    /// 5.2: `pidfd_open` and `clone3` are missing besides.
    Linux52,
    /// 4.19: `pidfd_send_signal` is missing besides, and `io_uring`.
    Linux419,
    /// 4.14: sockets of `AF_XDP` are missing besides.
    Linux414,
    /// A container whose makers did not know the calls around pidfds: they are refused for want of a right.
    OldContainer,
}

impl OlderKernel {
    fn words(self) -> Vec<String> {
        let above = |newest: u32| format!("above={newest}:{}", Errno::ENOSYS as i32);
        let call = |number: u32, error: Errno| format!("call={number}:{}", error as i32);
        match self {
            Self::Linux54 => vec![above(NEWEST_5_4)],
            Self::Linux52 => vec![above(NEWEST_5_2)],
            Self::Linux419 => vec![above(NEWEST_4)],
            Self::Linux414 => vec![
                above(NEWEST_4),
                format!("socket={XDP}:{}", Errno::EAFNOSUPPORT as i32),
            ],
            Self::OldContainer => vec![
                call(PIDFD_OPEN, Errno::EPERM),
                call(PIDFD_SEND_SIGNAL, Errno::EPERM),
                call(OPENAT2, Errno::EPERM),
            ],
        }
    }
}

/// The program that puts others behind such refusals.
#[derive(Debug)]
pub struct Older(PathBuf);

impl Older {
    /// Builds it.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn prepare(stage: &Stage) -> Result<Self, SiteError> {
        let folder = stage.site.directory().join("older");
        super::make_directory(&folder)?;
        let (source, program) = (folder.join("older.c"), folder.join("older"));
        super::write(&source, include_bytes!("older.c"))?;
        let compiler = Path::new("cc");
        let failed = |source| SiteError::Start {
            program: compiler.to_owned(),
            source,
        };
        let mut build = Command::new(compiler);
        build.arg("-o").arg(&program).arg(&source);
        let output = build.output().map_err(failed)?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(failed(std::io::Error::other(complaint)));
        }
        Ok(Self(program))
    }

    /// What stands before a program and its arguments, the first of it being the program to start.
    #[must_use]
    pub fn before(&self, kernel: OlderKernel) -> Vec<String> {
        let own = std::iter::once(self.0.display().to_string());
        own.chain(kernel.words()).chain(["--".to_owned()]).collect()
    }

    /// Starts the agent on such a kernel, in place of a running one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, stage: &mut Stage, kernel: OlderKernel) -> Result<(), SiteError> {
        let before = self.before(kernel);
        let words: Vec<&str> = before.iter().map(String::as_str).collect();
        stage.agent = None;
        stage.start_agent_as(Path::new("/usr/bin/env"), &words)
    }
}
