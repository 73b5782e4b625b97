//! Which kernels are booted: the one list of them.
//!
//! Out: for each its distribution, its emulated machine and what is built for it. Deliberately absent: how any of it is made.

use xtask::cross::{TARGETS, Target, of_this_machine};

/// A kernel of a distribution, and the machine that it is booted on.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// What people call it: processor and line.
    pub(crate) name: &'static str,
    /// The Debian release it is part of, whose programs are around it.
    pub(crate) suite: &'static str,
    /// What Debian calls the processor.
    pub(crate) debian: &'static str,
    /// The package that brings the newest one of the line.
    pub(crate) package: &'static str,
    /// What [`TARGETS`] call the processor.
    architecture: &'static str,
    /// The emulator.
    pub(crate) qemu: &'static str,
    /// Its machine and, where it emulates, its processor.
    pub(crate) machine: &'static [&'static str],
    /// The processor where the host's own one is used.
    pub(crate) own_processor: &'static [&'static str],
    /// What the kernel calls the serial line.
    pub(crate) console: &'static str,
    /// Its memory; root and payload are in it twice while they are unpacked.
    pub(crate) megabytes: u32,
}

const AMD64: Kernel = Kernel {
    name: "",
    suite: "",
    debian: "amd64",
    package: "linux-image-amd64",
    architecture: "amd64",
    qemu: "qemu-system-x86_64",
    machine: &["-machine", "q35", "-cpu", "max"],
    own_processor: &["-machine", "q35", "-cpu", "host"],
    console: "ttyS0",
    megabytes: 3_072,
};

const ARM64: Kernel = Kernel {
    name: "",
    suite: "",
    debian: "arm64",
    package: "linux-image-arm64",
    architecture: "aarch64",
    qemu: "qemu-system-aarch64",
    // A processor of today signs its pointers, which takes an emulator longer than all else.
    machine: &["-machine", "virt", "-cpu", "cortex-a72"],
    own_processor: &["-machine", "virt,gic-version=max", "-cpu", "host"],
    console: "ttyAMA0",
    megabytes: 3_072,
};

const ARMHF: Kernel = Kernel {
    name: "",
    suite: "",
    debian: "armhf",
    package: "linux-image-armmp",
    architecture: "arm",
    qemu: "qemu-system-arm",
    // This kernel reaches no device above four gigabytes.
    machine: &["-machine", "virt,highmem=off", "-cpu", "cortex-a15"],
    own_processor: &[],
    console: "ttyAMA0",
    megabytes: 2_048,
};

/// Every one, the oldest first.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel {
        name: "amd64-5.10",
        suite: "bullseye",
        ..AMD64
    },
    Kernel {
        name: "amd64-6.1",
        suite: "bookworm",
        ..AMD64
    },
    Kernel {
        name: "amd64-6.12",
        suite: "trixie",
        ..AMD64
    },
    Kernel {
        name: "arm64-5.10",
        suite: "bullseye",
        ..ARM64
    },
    Kernel {
        name: "arm64-6.12",
        suite: "trixie",
        ..ARM64
    },
    Kernel {
        name: "armhf-6.1",
        suite: "bookworm",
        ..ARMHF
    },
];

impl Kernel {
    /// What is built for it.
    pub(crate) fn target(&self) -> Option<&'static Target> {
        TARGETS
            .iter()
            .find(|target| target.architecture == self.architecture)
    }

    /// Whether the host's processor could run it as it is.
    pub(crate) fn is_of_this_machine(&self) -> bool {
        !self.own_processor.is_empty() && self.target() == of_this_machine()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_has_something_to_run() {
        for kernel in KERNELS {
            assert!(kernel.target().is_some(), "{}", kernel.name);
            assert!(kernel.name.starts_with(kernel.debian), "{}", kernel.name);
        }
    }
}
