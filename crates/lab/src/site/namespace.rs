//! One network namespace: a thread that lives in it and starts its programs, and short-lived probe threads.
//!
//! The long-lived thread also has a mount namespace of its own in which `/sys` shows this namespace's interfaces
//! (a sysfs mount belongs to the network namespace of whoever mounted it) and cgroup v2 stays in place.
//! A thread that entered a namespace never leaves it again: it ends there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use nix::sched::{CloneFlags, setns, unshare};

use super::{SiteError, lab, tools};

type Job = Box<dyn FnOnce() + Send>;

/// What is needed to run things in a namespace; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    name: Arc<str>,
    jobs: Sender<Job>,
}

impl Handle {
    /// Runs `work` in the long-lived thread: its child processes are born in the namespace.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SiteError> {
        let gone = || SiteError::WorkerGone {
            name: self.name.to_string(),
        };
        let (answer, result) = channel();
        let job: Job = Box::new(move || {
            let _ = answer.send(work());
        });
        self.jobs.send(job).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())
    }
}

/// A namespace of the site.
#[derive(Debug)]
pub(super) struct Namespace {
    handle: Handle,
    file: File,
}

impl Namespace {
    /// Opens `/run/netns/<name>` and starts the thread that lives there.
    pub(super) fn enter(name: &'static str) -> Result<Self, SiteError> {
        let path = PathBuf::from("/run/netns").join(name);
        let open = || {
            File::open(&path).map_err(|source| SiteError::File {
                path: path.clone(),
                source,
            })
        };
        let (jobs, work) = channel::<Job>();
        let (ready, entered) = channel();
        let own = open()?;
        std::thread::spawn(move || {
            let outcome = move_in(name, &own);
            let usable = outcome.is_ok();
            let _ = ready.send(outcome);
            if usable {
                work.into_iter().for_each(|job| job());
            }
        });
        entered.recv().map_err(|_| SiteError::WorkerGone {
            name: name.to_owned(),
        })??;
        Ok(Self {
            handle: Handle {
                name: name.into(),
                jobs,
            },
            file: open()?,
        })
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs `work` in a thread of its own, so that a waiting probe holds up nobody.
    pub(super) fn run_thread<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, SiteError> {
        let name = self.handle.name.to_string();
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    enter_network(&name, &self.file)?;
                    Ok(work())
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

fn enter_network(name: &str, file: &File) -> Result<(), SiteError> {
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| SiteError::Enter {
        name: name.to_owned(),
        source: errno.into(),
    })
}

/// Network namespace, then a private copy of the mounts with the right `/sys`.
fn move_in(name: &str, file: &File) -> Result<(), SiteError> {
    enter_network(name, file)?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| SiteError::Enter {
        name: name.to_owned(),
        source: errno.into(),
    })?;
    tools::run("mount", &["--make-rslave", "/"], "")?;
    tools::run("mount", &["-t", "sysfs", "sysfs", "/sys"], "")?;
    if Path::new(lab::CGROUP_COPY).exists() {
        tools::run("mount", &["--bind", lab::CGROUP_COPY, "/sys/fs/cgroup"], "")?;
    }
    Ok(())
}
