//! By which paths a program is meant, and whether it is the system's own.
//!
//! In: paths as people write them, with `*` and `?`. Out: [`Candidate`]s: each process with those of the paths that lead to its
//! program through links or from its own mounts, and whether its program is what the system itself has at its path. A link
//! that somebody else than root put there leads only his own processes. Paths of processes are looked up only in what the kernel
//! has in memory: the file is in use, so it is there, and no file system of theirs is asked. Absent: judging.

use std::fs;
use std::path::Path;

use rustix::io::Errno;
use wildmatch::WildMatch;

use super::files::{DELETED, File, Hands, NotKnown, has_other_mounts, sees_the_system};
use super::look_ups::{self, Led};
use super::owners::{Owner, is_of, same_session_parent};
use super::{process_table, signals};
use crate::process::{Process, is_called_interpreter, kept_name};
use crate::quarantine::plan::processes::{
    Candidate, Nature, PathsMeant, is_nucleus_service, unknown_service,
};

/// Paths of rules and protection looked up: those of all authorities and of the configuration fit.
const MAX_PLACES: usize = 1_024;
/// What lite starts each component with.
const RUNNER: &str = "recipe-runner";

/// Makes what an order waits for, while there is room for it.
pub(crate) fn make_ready() {
    look_ups::make_ready();
}

/// Where paths that people wrote lead.
pub(crate) struct Places {
    exact: Vec<Place>,
    /// A folder as it is written, and where it is.
    folders: Vec<(String, Led)>,
    protected: Vec<WildMatch>,
    /// Our own program, and its path.
    own: Option<File>,
    own_path: Option<String>,
}

struct Place {
    path: String,
    base: String,
    /// None where it is not looked up.
    led: Option<Led>,
}

impl Places {
    /// Looks the paths up. This asks file systems, so it takes its time.
    pub(crate) fn look_up(meant: &PathsMeant) -> Self {
        let paths = || meant.named.iter().chain(&meant.protected).take(MAX_PLACES);
        let (exact, wild): (Vec<_>, Vec<_>) = paths().partition(|path| !path.contains(['*', '?']));
        let folders: Vec<&str> = wild.into_iter().filter_map(|path| folder(path)).collect();
        let asked: Vec<&str> = exact
            .iter()
            .map(|path| path.as_str())
            .chain(folders.clone())
            .collect();
        let mut led = look_ups::here(&asked);
        let led_folders = led.split_off(exact.len());
        let folders = folders.into_iter().zip(led_folders);
        let folders = folders.filter_map(|(folder, led)| Some((folder.to_owned(), led?)));
        Self {
            exact: exact
                .into_iter()
                .zip(led)
                .map(|(path, led)| Place::new(path, led))
                .collect(),
            folders: folders.filter(|(folder, led)| led.real != *folder).collect(),
            protected: meant.protected.iter().map(|path| WildMatch::new(path)).collect(),
            own: File::of_program(std::process::id()),
            own_path: process_table::read(std::process::id()).and_then(|own| own.exe),
        }
    }

    /// The process, with what leads to its program.
    pub(crate) fn candidate(&self, process: Process) -> Candidate {
        let mut candidate = Candidate {
            aliases: self.aliases(&process),
            nature: nature(&process),
            is_ours: false,
            process,
            at_home: false,
            is_worn: false,
            user: None,
            is_newer_service: false,
            is_others: false,
        };
        let process = &candidate.process;
        candidate.is_newer_service = is_newer_service(process);
        candidate.is_others = is_others(process);
        let (is_ours, is_at_home) = (self.is_our_program(process), self.is_at_home(&candidate));
        if !is_ours && !is_at_home {
            return candidate;
        }
        let pid = candidate.process.identity.pid;
        let Some(owner) = Owner::of(pid) else {
            // Nobody can tell whose it is, or it has ended meanwhile.
            candidate.nature = Nature::Hidden {
                may_be_protected: true,
            };
            if process_table::has_ended(candidate.process.identity) {
                candidate.nature = Nature::Ended;
            }
            return candidate;
        };
        candidate.is_ours = is_ours && owner.is_roots;
        if is_at_home {
            candidate.at_home = owner.is_privileged()
                || same_session_parent(pid).is_some_and(|parent| self.is_protected_roots(parent));
            candidate.is_worn = !candidate.at_home;
        }
        candidate
    }

    /// Whether protection names its program, and it is the system's.
    fn is_at_home(&self, candidate: &Candidate) -> bool {
        let is_named = || self.protected.iter().any(|path| candidate.is_at(path));
        let process = &candidate.process;
        let exe = process.exe.as_deref().filter(|_| is_named());
        exe.is_some_and(|exe| is_at_home(process.identity.pid, exe))
    }

    fn is_protected_roots(&self, pid: u32) -> bool {
        let Some(process) = process_table::read(pid) else {
            return false;
        };
        let candidate = Candidate {
            aliases: self.aliases(&process),
            ..Candidate::plain(process)
        };
        Owner::of(pid).is_none_or(|owner| owner.is_roots) && self.is_at_home(&candidate)
    }

    /// Whether it runs our own program's file; or one that is called so, as the copies are that the guard and people run, where
    /// the system has it at that path, only root can change it, and no container runs it: anybody may be root in one.
    fn is_our_program(&self, process: &Process) -> bool {
        let (pid, exe) = (process.identity.pid, process.exe.as_deref().unwrap_or_default());
        let is_called_so = is_our_name(exe.rsplit('/').next().unwrap_or_default());
        if !is_called_so && self.own_path.as_deref() != Some(exe) {
            return false;
        }
        let is_own = |file: File| self.own.is_some_and(|own| own.is(&file));
        File::of_program(pid).is_some_and(is_own)
            || (is_called_so && sees_the_system(pid) && is_at_home(pid, exe))
    }

    fn aliases(&self, process: &Process) -> Vec<String> {
        let Some(exe) = process.exe.as_deref() else {
            // A program without a path is one file all the same.
            let pid = process.identity.pid;
            let file = File::of_program(pid);
            let is_it = |place: &&Place| file.is_some_and(|file| place.is_file(pid, &file));
            let exact = self.exact.iter().filter(is_it);
            return exact.map(|place| place.path.clone()).collect();
        };
        // It may be called so, or the file that it was started by is gone and another one is called so.
        let other = exe.strip_suffix(DELETED);
        let paths = [exe].into_iter().chain(other);
        let aliases = paths.flat_map(|exe| {
            let is_it = move |place: &&Place| place.path != exe && place.is_of(process, exe);
            let exact = self.exact.iter().filter(is_it).map(|place| place.path.clone());
            let folders = self.folders.iter().filter_map(move |(folder, led)| {
                let rest = exe.strip_prefix(led.real.as_str())?;
                let is_it = rest.starts_with('/') && may_lead(led.hands, process.identity.pid);
                is_it.then(|| format!("{folder}{rest}"))
            });
            exact.chain(folders)
        });
        aliases.chain(other.map(str::to_owned)).collect()
    }
}

/// The folder before the first of `*` and `?`.
fn folder(path: &str) -> Option<&str> {
    let begin = path.get(..path.find(['*', '?'])?)?;
    let (folder, _) = begin.rsplit_once('/')?;
    Some(folder).filter(|folder| !folder.is_empty())
}

impl Place {
    fn new(path: &str, led: Option<Led>) -> Self {
        let base = path.rsplit('/').next().unwrap_or_default();
        Self {
            path: path.to_owned(),
            base: base.to_owned(),
            led,
        }
    }

    /// Whether it leads to the process' program. A program of many names, as busybox, is meant only where the process was
    /// started by this one.
    fn is_of(&self, process: &Process, exe: &str) -> bool {
        let is_named = exe
            .rsplit('/')
            .next()
            .is_some_and(|base| base.starts_with(&self.base))
            || process.name == kept_name(&self.base);
        if self.base.is_empty() || !is_named {
            return false;
        }
        let pid = process.identity.pid;
        let is_led = |led: &Led| led.real == exe && may_lead(led.hands, pid);
        if self.led.as_ref().is_some_and(is_led) {
            return true;
        }
        let Some(file) = File::of_program(pid) else {
            return false;
        };
        self.is_file(pid, &file) || (has_other_mounts(pid) && self.is_inside(pid, &file))
    }

    fn is_file(&self, pid: u32, program: &File) -> bool {
        let led = self.led.as_ref().and_then(|led| led.file);
        led.is_some_and(|(file, hands)| file.is(program) && may_lead(hands, pid))
    }

    /// Whether the process finds its program there. What is in memory and has no link on the way is found at once.
    fn is_inside(&self, pid: u32, program: &File) -> bool {
        let led = match File::known_inside(pid, &self.path) {
            Err(NotKnown::Absent) => return false,
            Ok(found) if !found.is(program) => return false,
            Ok(_) | Err(NotKnown::Unsure) => look_ups::inside(pid, &self.path),
        };
        let file = led.and_then(|led| led.file);
        file.is_some_and(|(file, hands)| file.is(program) && may_lead(hands, pid))
    }
}

/// Whether a path that these can have lead elsewhere means that process: one's own only, or everybody who likes would have
/// root's processes stopped.
fn may_lead(hands: Hands, pid: u32) -> bool {
    match hands {
        Hands::Roots => true,
        Hands::One(user) => is_of(pid, user),
        Hands::Anybodys => false,
    }
}

/// As the program is called: `edgewarden`, or `edgewarden-` and the name of a processor.
fn is_our_name(name: &str) -> bool {
    let of_processor = name.strip_prefix("edgewarden-").is_some_and(|processor| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !processor.is_empty() && processor.bytes().all(allowed)
    });
    name == "edgewarden" || of_processor
}

/// What a process is: one that shows no program is not the kernel's by that.
fn nature(process: &Process) -> Nature {
    let pid = process.identity.pid;
    if process.exe.is_some() {
        return Nature::Program;
    }
    let Some(stat) = process_table::stat(pid).filter(|stat| !process_table::is_over(pid, stat)) else {
        return Nature::Ended;
    };
    if stat.is_kernels() {
        return Nature::Kernel;
    }
    match fs::read_link(format!("/proc/{pid}/exe")).map_err(|error| Errno::from_io_error(&error)) {
        Err(Some(Errno::NAMETOOLONG)) => Nature::Hidden {
            may_be_protected: false,
        },
        // Whom we may not signal either is another's to stop.
        Err(Some(Errno::ACCESS | Errno::PERM)) if signals::may_signal(pid) => Nature::Hidden {
            may_be_protected: may_be_protected(process),
        },
        _ => Nature::Program,
    }
}

/// Whether one into which we may not look may be one that protection names, or Edgewarden. An ordinary user's whose parent is
/// one too, or has ended, is not.
fn may_be_protected(process: &Process) -> bool {
    let is_privileged = |pid: u32| Owner::by_status(pid).is_none_or(|owner| owner.is_privileged());
    let parent = Some(process.parent).filter(|parent| *parent > 1);
    is_privileged(process.identity.pid) || parent.is_some_and(is_privileged)
}

/// Whether the program is what the system has at that path: as the agent sees it, or as the first process does, beside which
/// the agent may run in a container. One that was replaced since, as an update does, is still the system's.
fn is_at_home(pid: u32, exe: &str) -> bool {
    let Some(file) = File::of_program(pid).filter(File::is_roots) else {
        return false;
    };
    let here = at(exe);
    if here.is_some_and(|here| here.is(&file)) {
        return true;
    }
    if file.links == 0 {
        // Only root could remove it, and it was on the file system that this path is on. A container may have its own path and
        // its own root there.
        let folder = Path::new(exe).parent().and_then(Path::to_str);
        let place = here.or_else(|| folder.and_then(at));
        return place.is_some_and(|place| place.device == file.device) && sees_the_system(pid);
    }
    File::known_inside(1, exe).is_ok_and(|first| first.is(&file))
}

/// What is at that path here; what is not in memory only where nobody but root can put it there.
fn at(path: &str) -> Option<File> {
    match File::known(path) {
        Ok(found) => return Some(found),
        Err(NotKnown::Absent) => return None,
        Err(NotKnown::Unsure) => {}
    }
    let led = look_ups::here(&[path]).pop().flatten();
    let file = led.and_then(|led| led.file);
    file.filter(|(_, hands)| *hands == Hands::Roots)
        .map(|(file, _)| file)
}

/// Whether it is a service of the nucleus, also of a later one.
pub(crate) fn serves_nucleus(process: &Process) -> bool {
    process.cgroup.as_deref().is_some_and(is_nucleus_service) || is_newer_service(process)
}

/// Whether it is a service of a later nucleus: called as the program that it runs, which is the system's. A component that is
/// called `core.` runs an interpreter, or a program of its own.
fn is_newer_service(process: &Process) -> bool {
    let service = process.cgroup.as_deref().and_then(unknown_service);
    let Some((service, exe)) = service.zip(process.exe.as_deref()) else {
        return false;
    };
    exe.rsplit('/').next() == Some(service)
        && service != RUNNER
        && !is_called_interpreter(exe)
        && is_at_home(process.identity.pid, exe)
}

/// Whether somebody else than root can change its program. Asked of those only that are called as an interpreter is.
fn is_others(process: &Process) -> bool {
    let is_called_so = process.exe.as_deref().is_some_and(is_called_interpreter);
    is_called_so && File::of_program(process.identity.pid).is_none_or(|file| !file.is_roots())
}

/// The path without the words that the kernel puts after that of a program whose file was removed. A file may really be called
/// so.
pub(super) fn without_deleted(pid: u32, path: &str) -> &str {
    let Some(stripped) = path.strip_suffix(DELETED) else {
        return path;
    };
    let Some(file) = File::of_program(pid).filter(|file| file.links > 0) else {
        return stripped;
    };
    let is_there = |found: Result<File, NotKnown>| found.is_ok_and(|found| found.is(&file));
    if is_there(File::known(path)) || is_there(File::known_inside(pid, path)) {
        path
    } else {
        stripped
    }
}

#[cfg(test)]
#[path = "programs_tests.rs"]
mod tests;
