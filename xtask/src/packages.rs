//! What the demo, the tests and the benches need to be installed: the one place.
//!
//! Out: the distribution's packages, the programs they bring, the reason; the programs that cargo builds. Deliberately
//! absent: what every Rust machine has (a linker, git).

use std::ffi::OsStr;
use std::path::PathBuf;

/// A Debian package we need.
pub struct Package {
    /// Its name for apt-get.
    pub name: &'static str,
    /// The programs of it that are run.
    pub programs: &'static [&'static str],
    /// A command that succeeds only when the package is there, for a package whose programs do not tell. Empty: the
    /// programs do.
    pub probe: &'static [&'static str],
    /// Who runs them and what for.
    pub reason: &'static str,
}

/// Everything the demo and the tests run that cargo does not build.
pub const PACKAGES: &[Package] = &[
    Package {
        name: "nftables",
        programs: &["nft"],
        probe: &[],
        reason: "the agent enforces with it",
    },
    Package {
        name: "iproute2",
        programs: &["ip", "tc", "ss"],
        probe: &[],
        reason: "the lab builds network namespaces with it, and the tests list sockets",
    },
    Package {
        name: "mosquitto",
        programs: &["mosquitto"],
        probe: &[],
        reason: "the lab's broker, in place of AWS IoT Core",
    },
    Package {
        name: "e2fsprogs",
        programs: &["mkfs.ext4"],
        probe: &[],
        reason: "the tests freeze a file system of their own under the agent",
    },
    Package {
        name: "util-linux",
        programs: &["unshare", "nsenter", "fsfreeze", "setpriv"],
        probe: &[],
        reason: "the tests enter namespaces of their own with it, and attackers lose their rights",
    },
    Package {
        name: "procps",
        programs: &["sysctl"],
        probe: &[],
        reason: "the lab turns on forwarding inside its namespaces",
    },
    Package {
        name: "python3-venv",
        programs: &["python3"],
        probe: &["python3", "-c", "import ensurepip"],
        reason: "AWS's own IPC client and other judges of formats run in Python environments of their own",
    },
    Package {
        name: "faketime",
        programs: &["faketime"],
        probe: &[],
        reason: "the tests set the agent's clock with its library, and leave the machine's alone",
    },
    Package {
        name: "systemd",
        programs: &["systemd-analyze"],
        probe: &[],
        reason: "it judges the unit that restores isolation at boot; it need not run the machine",
    },
];

/// What `cargo xtask bench` compares with, beside what cargo builds.
pub const BENCH_PACKAGES: &[Package] = &[Package {
    name: "nethogs",
    programs: &["nethogs"],
    probe: &[],
    reason: "bench traffic compares with it",
}];

/// What `cargo xtask acceptance` runs, beside the nuclei themselves, which no package has.
pub const ACCEPTANCE_PACKAGES: &[Package] = &[
    Package {
        name: "stunnel4",
        programs: &["stunnel4"],
        probe: &[],
        reason: "it ends the nucleus' TLS before the relay that reads topics",
    },
    Package {
        name: "openssl",
        programs: &["openssl"],
        probe: &[],
        reason: "the acceptance makes keys and certificates of its own",
    },
    Package {
        name: "tinyproxy-bin",
        programs: &["tinyproxy"],
        probe: &[],
        reason: "one of its nuclei is behind a proxy",
    },
];

/// What `cargo xtask kernels` makes guests with and boots them by.
pub const KERNELS_PACKAGES: &[Package] = &[
    Package {
        name: "mmdebstrap",
        programs: &["mmdebstrap"],
        probe: &[],
        reason: "it unpacks the programs of a distribution, whatever the processor",
    },
    Package {
        name: "cpio",
        programs: &["cpio"],
        probe: &[],
        reason: "kernels unpack their root from its archives",
    },
    Package {
        name: "kmod",
        programs: &["depmod"],
        probe: &[],
        reason: "it lists what a kernel's modules need",
    },
    Package {
        name: "qemu-system-x86",
        programs: &["qemu-system-x86_64"],
        probe: &[],
        reason: "kernels for amd64 are booted by it",
    },
    Package {
        name: "qemu-system-arm",
        programs: &["qemu-system-aarch64", "qemu-system-arm"],
        probe: &[],
        reason: "kernels for arm64 and armhf are booted by it",
    },
];

/// What the classic nucleus needs beside that.
pub const CLASSIC_PACKAGES: &[Package] = &[Package {
    name: "openjdk-17-jre-headless",
    programs: &["java"],
    probe: &[],
    reason: "the classic nucleus is a Java program",
}];

/// What nucleus lite needs beside that and its own libraries.
pub const LITE_PACKAGES: &[Package] = &[Package {
    name: "dbus",
    programs: &["dbus-daemon"],
    probe: &[],
    reason: "lite's daemons ask systemd over it",
}];

/// A program that cargo builds from crates.io: the distribution has none, or not this version.
pub struct Tool {
    /// The crate, and the program it brings.
    pub name: &'static str,
    /// The version, exactly: another one may judge or print otherwise.
    pub version: &'static str,
    /// Who runs it and what for.
    pub reason: &'static str,
    /// Whether it is built as its authors ship it, which takes more than twice as long.
    pub as_shipped: bool,
}

/// Part of `cargo xtask test`. It judges in a second or two however it is built.
pub const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    reason: "it judges the licences and sources of what we depend on",
    as_shipped: false,
};

/// Part of `cargo xtask bench traffic`; it prints sums that the bench reads, and is measured.
pub const BANDWHICH: Tool = Tool {
    name: "bandwhich",
    version: "0.23.1",
    reason: "bench traffic compares with it",
    as_shipped: true,
};

/// Where administrators' programs live; an ordinary user's PATH often leaves these out.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Folders to look for programs in: PATH, then the system's.
pub fn search_path(path: Option<&OsStr>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = path
        .map(|path| std::env::split_paths(path).collect())
        .unwrap_or_default();
    folders.extend(SYSTEM_FOLDERS.map(PathBuf::from));
    folders
}

/// The packages of which some program is in none of the folders.
pub fn missing<'a>(packages: &'a [Package], folders: &[PathBuf]) -> Vec<&'a Package> {
    let found = |program: &str| folders.iter().any(|folder| folder.join(program).is_file());
    packages
        .iter()
        .filter(|package| !package.programs.iter().all(|program| found(program)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_missing_when_one_of_its_programs_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("one"), "").unwrap();
        let packages = [
            Package {
                name: "whole",
                programs: &["one"],
                probe: &[],
                reason: "",
            },
            Package {
                name: "half",
                programs: &["one", "two"],
                probe: &[],
                reason: "",
            },
        ];
        let folders = [folder.path().to_path_buf()];
        let names: Vec<_> = missing(&packages, &folders)
            .iter()
            .map(|package| package.name)
            .collect();
        assert_eq!(names, ["half"]);
    }

    #[test]
    fn system_folders_are_searched_without_path() {
        assert!(search_path(None).contains(&PathBuf::from("/usr/sbin")));
    }

    #[test]
    fn every_package_says_what_it_is_for() {
        assert!(
            PACKAGES
                .iter()
                .chain(BENCH_PACKAGES)
                .chain(ACCEPTANCE_PACKAGES)
                .chain(CLASSIC_PACKAGES)
                .chain(KERNELS_PACKAGES)
                .chain(LITE_PACKAGES)
                .all(|package| !package.programs.is_empty() && !package.reason.is_empty())
        );
    }
}
