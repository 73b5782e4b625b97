//! A site of network namespaces, the processes in them, and probes between them.
//!
//! ```text
//!   internet                      gateway                        lan
//!   198.51.100.1/24  ── wan0 ──  198.51.100.2/24
//!   2001:db8:1::1/64             2001:db8:1::2/64
//!   203.0.113.1/32 (attacker)    192.0.2.1/24     ── lan0 ──  192.0.2.2/24
//!   2001:db8:ffff::1/128         2001:db8:2::1/64             2001:db8:2::2/64
//! ```
//!
//! In: nothing but privilege (root, or unprivileged user namespaces). Out: a [`Site`] whose programs and
//! probes run on a real kernel network that shares nothing with the host's.
//!
//! Deliberately absent: any access to the host's own network. A [`Site`] refuses to be built outside a lab
//! ([`in_lab`], [`enter_or_reexec`]), so a forgotten wrapper is an error, not a changed host.

mod broker;
mod error;
mod lab;
mod names;
mod namespace;
mod network;
pub mod nft;
mod ping;
mod probe;
mod running;
pub mod silent_fs;
mod tools;
mod wait;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

pub use broker::{BROKER_PORT, LoopbackBroker, free_port};
pub use error::SiteError;
pub use lab::{IN_LAB, enter_or_reexec, in_lab, name_in_program};
pub use names::ask_name_servers;
pub use probe::{EchoServer, OpenConnection};
pub use running::{Running, SpawnSpec};
pub use tools::lab_program;
pub use wait::{TIME_FACTOR, WaitTimedOut, is_slow_machine, limit_here, wait_until};

use namespace::Namespace;

/// The gateway's address towards the internet.
pub const GATEWAY_WAN_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2));
/// The gateway's address towards the internet.
pub const GATEWAY_WAN_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2));
/// The gateway's address towards the devices behind it.
pub const GATEWAY_LAN_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// The gateway's address towards the devices behind it.
pub const GATEWAY_LAN_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1));
/// The cloud: where the broker listens.
pub const INTERNET_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
/// The cloud: where the broker listens.
pub const INTERNET_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1));
/// Another address of the internet: "the attacker", which no lifeline names.
pub const ATTACKER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
/// Another address of the internet: "the attacker", which no lifeline names.
pub const ATTACKER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1));
/// A device behind the gateway.
pub const DEVICE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
/// A device behind the gateway.
pub const DEVICE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2));

/// One of the three namespaces of a [`Site`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ns {
    /// The device Edgewarden protects: interfaces `wan0` and `lan0`.
    Gateway,
    /// Cloud and attacker: interface `gw0`.
    Internet,
    /// A device behind the gateway: interface `eth0`.
    Lan,
}

impl Ns {
    const ALL: [Self; 3] = [Self::Gateway, Self::Internet, Self::Lan];

    /// The name `ip netns` knows it by, inside the lab.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Internet => "internet",
            Self::Lan => "lan",
        }
    }
}

/// The three namespaces, joined and routed. Dropping it kills what still runs in them and removes them.
#[derive(Debug)]
pub struct Site {
    gateway: Namespace,
    internet: Namespace,
    lan: Namespace,
    directory: tempfile::TempDir,
}

impl Site {
    /// Builds the site: namespaces, links, addresses, routes, forwarding.
    ///
    /// # Errors
    /// Outside a lab, without `ip`, or when the kernel refuses a step.
    pub fn new() -> Result<Self, SiteError> {
        if std::env::var_os(IN_LAB).is_none() {
            return Err(SiteError::OutsideLab);
        }
        tools::require("ip")?;
        network::create()?;
        let site = Self {
            gateway: Namespace::enter(Ns::Gateway.name())?,
            internet: Namespace::enter(Ns::Internet.name())?,
            lan: Namespace::enter(Ns::Lan.name())?,
            directory: tempfile::tempdir().map_err(|source| SiteError::Directory { source })?,
        };
        network::configure(&site)?;
        Ok(site)
    }

    /// A directory of this site's own, removed with it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts `program` in namespace `ns`; its standard output and error go to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn spawn(
        &self,
        ns: Ns,
        program: impl AsRef<Path>,
        args: &[&str],
        env: &[(&str, &str)],
        log: impl AsRef<Path>,
    ) -> Result<Running, SiteError> {
        let mut spec = SpawnSpec::new(program, log);
        spec.args = args.iter().map(Into::into).collect();
        spec.env = env
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        self.spawn_with(ns, spec)
    }

    /// Starts what `spec` says in namespace `ns`.
    ///
    /// # Errors
    /// As [`Site::spawn`].
    pub fn spawn_with(&self, ns: Ns, spec: SpawnSpec) -> Result<Running, SiteError> {
        Running::start(Some(self.namespace(ns).handle()), spec)
    }

    /// Runs `work` in a thread of namespace `ns` and hands back what it returns: sockets opened there stay in `ns`.
    ///
    /// # Errors
    /// When the thread cannot enter the namespace.
    pub fn run_in<T: Send>(&self, ns: Ns, work: impl FnOnce() -> T + Send) -> Result<T, SiteError> {
        self.namespace(ns).run_thread(work)
    }

    fn namespace(&self, ns: Ns) -> &Namespace {
        match ns {
            Ns::Gateway => &self.gateway,
            Ns::Internet => &self.internet,
            Ns::Lan => &self.lan,
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        network::destroy();
    }
}
