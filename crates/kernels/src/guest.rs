//! Boots a kernel and hears what it says.
//!
//! In: root and payload. Out: a [`Run`]; the whole console is in `console.log`. Nothing here waits without a limit: a
//! guest that is silent for too long is ended, and that is what its run says. Deliberately absent: a network card, a disk, and
//! any way into a running guest.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use xtask::failure::Failure;
use xtask::{run, workspace};

use crate::checks::{self, CHECKS};
use crate::list::Kernel;
use crate::results::{Progress, Reader, Run};
use crate::root::{self, Root};

/// From the emulator's start to the first process, where the processor is emulated and the machine does much else.
const BOOT: Duration = Duration::from_secs(300);
/// From the last check to the end.
const END: Duration = Duration::from_secs(60);
/// What a check may take longer than its own limit, before the guest counts as hung.
const GRACE: Duration = Duration::from_secs(60);
/// How many times as long tests may take where the processor is emulated.
const EMULATED: u32 = 6;
/// Processors of a guest.
const PROCESSORS: u32 = 2;

/// What runs a guest's processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// The host's processor does.
    Kvm,
    /// The emulator does.
    Tcg,
}

impl Accelerator {
    /// The quickest that this machine has for that kernel.
    pub(crate) fn of(kernel: &Kernel) -> Self {
        let opens = || File::options().read(true).write(true).open("/dev/kvm").is_ok();
        // A paravirtual KVM opens too, and starts no kernel that was not made for it: the processor must say that it can.
        let can = || {
            let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let flags = text
                .lines()
                .find(|line| line.starts_with("flags"))
                .unwrap_or_default();
            !cfg!(target_arch = "x86_64")
                || flags
                    .split_whitespace()
                    .any(|flag| flag == "vmx" || flag == "svm")
        };
        if kernel.is_of_this_machine() && can() && opens() {
            Self::Kvm
        } else {
            Self::Tcg
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// How many times as long everything may take.
    pub(crate) fn factor(self) -> u32 {
        match self {
            Self::Kvm => 1,
            Self::Tcg => EMULATED,
        }
    }
}

/// Boots it and waits for its end.
pub(crate) fn boot(
    kernel: &Kernel,
    root: &Root,
    payload: &Path,
    accelerator: Accelerator,
) -> Result<Run, Failure> {
    let folder = root::folder(kernel);
    let initrd = folder.join("initrd");
    join(&[&root.archive, payload], &initrd)?;
    let console = folder.join("console.log");
    let begun = Instant::now();
    let mut command = emulator(kernel, root, &initrd, accelerator);
    let title = run::line(&command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| Failure::Start {
            command: title,
            source,
        })?;
    let lines = lines_of(&mut child, &console)?;
    let mut reader = Reader::default();
    let broken = follow(kernel, accelerator, &lines, &mut reader);
    let _ = child.kill();
    let _ = child.wait();
    fs::remove_file(&initrd).map_err(workspace::file("remove", &initrd))?;
    let mut run = reader.end();
    run.broken = broken;
    run.accelerator = accelerator.name().to_owned();
    run.seconds = begun.elapsed().as_secs();
    run.day = jiff::Timestamp::now().strftime("%F").to_string();
    Ok(run)
}

fn emulator(kernel: &Kernel, root: &Root, initrd: &Path, accelerator: Accelerator) -> Command {
    let mut command = Command::new(kernel.qemu);
    let machine = match accelerator {
        Accelerator::Kvm => kernel.own_processor,
        Accelerator::Tcg => kernel.machine,
    };
    command
        .args(machine)
        .args(["-accel", accelerator.name()])
        .args([
            "-smp",
            &PROCESSORS.to_string(),
            "-m",
            &kernel.megabytes.to_string(),
        ])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-nic",
            "none",
        ])
        .args(["-monitor", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(&root.image)
        .arg("-initrd")
        .arg(initrd)
        .arg("-append")
        .arg(format!("console={} quiet panic=-1 rdinit=/init", kernel.console));
    command
}

/// The kernel unpacks archives that stand one behind the other, the later over the earlier.
fn join(archives: &[&Path], into: &Path) -> Result<(), Failure> {
    let mut file = File::create(into).map_err(workspace::file("create", into))?;
    for archive in archives {
        let mut source = File::open(archive).map_err(workspace::file("open", archive))?;
        std::io::copy(&mut source, &mut file).map_err(workspace::file("copy", archive))?;
    }
    Ok(())
}

/// What the emulator writes, kept as it comes.
fn lines_of(child: &mut Child, console: &Path) -> Result<Receiver<String>, Failure> {
    let (sender, lines) = channel();
    let file = || File::options().create(true).append(true).open(console);
    fs::write(console, "").map_err(workspace::file("write", console))?;
    let mut outputs: Vec<Box<dyn std::io::Read + Send>> = Vec::new();
    outputs.extend(child.stdout.take().map(|output| Box::new(output) as Box<_>));
    outputs.extend(child.stderr.take().map(|output| Box::new(output) as Box<_>));
    for output in outputs {
        let mut kept = file().map_err(workspace::file("open", console))?;
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while matches!(output.read_until(b'\n', &mut line), Ok(1..)) {
                let _ = kept.write_all(&line);
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            }
        });
    }
    Ok(lines)
}

/// Reads until the end; why there was none, if so.
fn follow(
    kernel: &Kernel,
    accelerator: Accelerator,
    lines: &Receiver<String>,
    reader: &mut Reader,
) -> Option<String> {
    let mut stage = "its start".to_owned();
    let mut deadline = Instant::now() + BOOT;
    let mut done = false;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => match reader.take(&line) {
                Some(Progress::Booted | Progress::Ended(_)) => deadline = Instant::now() + END,
                Some(Progress::Begun(number)) => {
                    let check = CHECKS.get(number);
                    let seconds = check.map_or(0, checks::Check::seconds) * u64::from(accelerator.factor());
                    stage = check.map_or_else(String::new, |check| check.title.to_owned());
                    eprintln!("{}: {stage}", kernel.name);
                    deadline = Instant::now() + Duration::from_secs(seconds) + GRACE;
                }
                Some(Progress::Done) => {
                    done = true;
                    "its end".clone_into(&mut stage);
                    deadline = Instant::now() + END;
                }
                Some(Progress::Line) | None => {}
            },
            // The emulator has ended.
            Err(RecvTimeoutError::Disconnected) if done => return None,
            Err(RecvTimeoutError::Disconnected) => return Some(format!("the guest ended at: {stage}")),
            // All was said; that it does not switch itself off is nobody's matter.
            Err(RecvTimeoutError::Timeout) if done => return None,
            Err(RecvTimeoutError::Timeout) => return Some(format!("the guest hung at: {stage}")),
        }
    }
}
