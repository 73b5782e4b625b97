//! The system around a kernel: its distribution's programs, the kernel itself and its modules, packed once and kept.
//!
//! In: a kernel of the list. Out: the image that the emulator starts, and an archive that the kernel unpacks as its root.
//! apt is asked with a configuration of its own, for that suite and processor; the machine's is neither read nor changed.
//! Programs are unpacked and not set up, so nothing of another processor runs here. Deliberately absent: whatever a
//! guest is given by us ([`super::payload`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::failure::Failure;
use xtask::{run, workspace};

use crate::list::Kernel;
use crate::modules;

/// Where suites are found, the oldest stable ones too for as long as one of the kernels is of them.
const MIRROR: &str = "http://deb.debian.org/debian";

/// What the tests run in a guest, and what that needs to run at all.
const PACKAGES: &[&str] = &[
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "e2fsprogs",
    "findutils",
    "grep",
    "gzip",
    "iproute2",
    "kmod",
    "libc-bin",
    "login",
    "mosquitto",
    "mount",
    "netbase",
    "nftables",
    "passwd",
    "procps",
    "python3-minimal",
    "sed",
    "systemd",
    "tar",
    "util-linux",
    "wireguard-tools",
];

/// What nobody reads there.
const LEFT_OUT: &[&str] = &[
    "./boot",
    "./lib/modules",
    "./usr/lib/modules",
    "./usr/lib/locale",
    "./usr/share/doc",
    "./usr/share/i18n",
    "./usr/share/info",
    "./usr/share/locale",
    "./usr/share/man",
    "./usr/share/zoneinfo",
    "./var/cache",
    "./var/lib/apt",
];

/// Beside the modules: what says which are built in, and in which order they are tried.
const LISTS: [&str; 3] = ["modules.order", "modules.builtin", "modules.builtin.modinfo"];

/// A kernel and its root, ready to be started.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) image: PathBuf,
    pub(crate) archive: PathBuf,
}

/// What is made of this kernel, is kept or is written while it runs.
pub(crate) fn folder(kernel: &Kernel) -> PathBuf {
    workspace::target().join("kernels").join(kernel.name)
}

/// The kernel's root; made when there is none, or one of other packages.
pub(crate) fn ensure(kernel: &Kernel) -> Result<Root, Failure> {
    let folder = folder(kernel);
    let root = Root {
        image: folder.join("kernel"),
        archive: folder.join("root.cpio"),
    };
    let stamp = folder.join("made-of");
    let made_of = format!(
        "{MIRROR} {} {} {} {PACKAGES:?} {LEFT_OUT:?} {:?}\n",
        kernel.suite,
        kernel.debian,
        kernel.package,
        modules::WANTED
    );
    if fs::read_to_string(&stamp).is_ok_and(|found| found == made_of) {
        return Ok(root);
    }
    workspace::make_folder(&folder)?;
    let (whole, packed) = (folder.join("whole"), folder.join("packed"));
    [&whole, &packed].into_iter().try_for_each(|path| clear(path))?;
    unpack(kernel, &whole)?;
    let (image, version) = image(&whole)?;
    fs::copy(&image, &root.image).map_err(workspace::file("copy", &image))?;
    copy(&whole, &packed, LEFT_OUT)?;
    choose_modules(&whole, &packed, &version)?;
    pack(&packed, &root.archive)?;
    [&whole, &packed].into_iter().try_for_each(|path| clear(path))?;
    workspace::write(&stamp, &made_of)?;
    Ok(root)
}

fn clear(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        fs::remove_dir_all(path).map_err(workspace::file("clear", path))?;
    }
    Ok(())
}

fn unpack(kernel: &Kernel, into: &Path) -> Result<(), Failure> {
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--quiet", "--variant=extract", "--components=main"])
        .arg(format!("--architectures={}", kernel.debian))
        .arg(format!("--include={},{}", PACKAGES.join(","), kernel.package))
        .arg(kernel.suite)
        .arg(into)
        .arg(MIRROR);
    let title = format!(
        "mmdebstrap {} for {} ({})",
        kernel.suite, kernel.debian, kernel.package
    );
    run::run_aside_titled(&title, &mut command)
}

/// The kernel's image, and its version as its modules' folder has it.
fn image(root: &Path) -> Result<(PathBuf, String), Failure> {
    let boot = root.join("boot");
    let entries = fs::read_dir(&boot).map_err(workspace::file("list", &boot))?;
    let mut found = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let version = entry.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned();
        Some((entry.path(), version))
    });
    found.next().ok_or_else(|| Failure::Content {
        subject: boot.display().to_string(),
        fault: "expected a kernel vmlinuz-VERSION of the package that was asked for".to_owned(),
    })
}

fn copy(from: &Path, to: &Path, without: &[&str]) -> Result<(), Failure> {
    workspace::make_folder(to)?;
    let script = "from=$1 to=$2; shift 2; tar -C \"$from\" \"$@\" -cf - . | tar -C \"$to\" -xf -";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).args([from, to]);
    command.args(without.iter().map(|path| format!("--exclude={path}")));
    run::run_aside_titled(
        &format!("copy {} to {}", from.display(), to.display()),
        &mut command,
    )
}

fn choose_modules(whole: &Path, packed: &Path, version: &str) -> Result<(), Failure> {
    // Nothing of the package was set up, so nothing has listed its modules yet.
    depmod(whole, version)?;
    let from = whole.join("lib/modules").join(version);
    let to = packed.join("lib/modules").join(version);
    let chosen = modules::closure(&workspace::read(&from.join("modules.dep"))?);
    let lists = LISTS.map(str::to_owned);
    for path in chosen.iter().chain(&lists) {
        let (source, target) = (from.join(path), to.join(path));
        if !source.exists() {
            continue;
        }
        if let Some(folder) = target.parent() {
            workspace::make_folder(folder)?;
        }
        fs::copy(&source, &target).map_err(workspace::file("copy", &source))?;
    }
    depmod(packed, version)
}

fn depmod(root: &Path, version: &str) -> Result<(), Failure> {
    let mut command = Command::new("depmod");
    run::run_aside(command.arg("--basedir").arg(root).arg(version))
}

/// Packs a folder as a kernel unpacks it; without compression, which takes an emulated processor longer than reading. All of it
/// is root's there, whoever packs it.
pub(crate) fn pack(folder: &Path, archive: &Path) -> Result<(), Failure> {
    let script = "cd \"$1\" && find . -xdev -print0 | LC_ALL=C sort -z | cpio --null --create --quiet --format=newc --owner=+0:+0 >\"$2\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).args([folder, archive]);
    run::run_aside_titled(&format!("pack {}", archive.display()), &mut command)
}
