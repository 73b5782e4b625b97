//! Kinds of interfaces, and how two namespaces are joined by one of each.
//!
//! In: a kind, a number. Out: an interface `up<number>` of the gateway, whose other end is in `internet`, both with an address of
//! one network. Deliberately absent: what is tried on it ([`super`]).

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use edgewarden_lab::site::{GATEWAY_WAN_V4, INTERNET_V4, Ns, Running, SpawnSpec, wait_until};
use edgewarden_lab::stage::Stage;
use serde_json::{Value, json};

use crate::common::LIMIT;
use crate::common::gateway::run;
use crate::layers::wire::within;

/// The first one that a test makes, and the one that it makes while the device is isolated.
pub(super) const FIRST: u8 = 7;
pub(super) const LATER: u8 = 8;

/// A kind of interface.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// What `ip` calls it.
    pub(super) name: &'static str,
    /// How the gateway makes it, a command a line; `UP` is the interface, `N` the number.
    here: &'static str,
    /// And the internet its end.
    there: &'static str,
    /// The internet's end.
    end: &'static str,
    /// Whether it carries frames of Ethernet, or packets of IP alone.
    pub(super) is_framed: bool,
    /// Whether the cloud is reached through it.
    pub(super) has_cloud: bool,
    /// The port of UDP that its own packets go by, without the number; none where it needs no allowance.
    port: Option<u16>,
}

const PAIR: Kind = Kind {
    name: "",
    here: "",
    there: "",
    end: "UP",
    is_framed: true,
    has_cloud: true,
    port: None,
};

const ON_WIRE: Kind = Kind { end: "gw0", ..PAIR };

pub(super) const VLAN: Kind = Kind {
    name: "vlan",
    here: "link add UP link wan0 type vlan id N",
    there: "link add UP link gw0 type vlan id N",
    ..PAIR
};
pub(super) const MACVLAN: Kind = Kind {
    name: "macvlan",
    here: "link add UP link wan0 type macvlan mode bridge",
    ..ON_WIRE
};
pub(super) const IPVLAN: Kind = Kind {
    name: "ipvlan",
    here: "link add UP link wan0 type ipvlan mode l2",
    ..ON_WIRE
};
pub(super) const BOND: Kind = Kind {
    name: "bond",
    here: "link add mN type veth peer name UP netns internet
        link add UP type bond mode active-backup miimon 100
        link set mN master UP
        link set mN up",
    ..PAIR
};
pub(super) const BRIDGE: Kind = Kind {
    name: "bridge",
    here: "link add mN type veth peer name UP netns internet
        link add UP type bridge
        link set mN master UP
        link set mN up",
    ..PAIR
};
/// Programs that know nothing of it reach nothing through it.
pub(super) const VRF: Kind = Kind {
    name: "vrf",
    here: "link add vrfN type vrf table N
        link set vrfN up
        link add UP type veth peer name UP netns internet
        link set UP master vrfN",
    has_cloud: false,
    ..PAIR
};
pub(super) const VXLAN: Kind = Kind {
    name: "vxlan",
    here: "link add UP type vxlan id N remote 198.51.100.1 local 198.51.100.2 dstport 479N",
    there: "link add UP type vxlan id N remote 198.51.100.2 local 198.51.100.1 dstport 479N",
    port: Some(4_790),
    ..PAIR
};
/// Isolation cuts its own packets, and nothing allows them.
pub(super) const GRE: Kind = Kind {
    name: "gre",
    here: "link add UP type gre remote 198.51.100.1 local 198.51.100.2 key N",
    there: "link add UP type gre remote 198.51.100.2 local 198.51.100.1 key N",
    is_framed: false,
    has_cloud: false,
    ..PAIR
};
pub(super) const WIREGUARD: Kind = Kind {
    name: "wireguard",
    here: "link add UP type wireguard",
    there: "link add UP type wireguard",
    is_framed: false,
    port: Some(5_180),
    ..PAIR
};
pub(super) const TUN: Kind = Kind {
    name: "tun",
    is_framed: false,
    port: Some(4_800),
    ..PAIR
};

/// A program that carries what goes into a tunnel's interface over UDP, and back.
const CARRIER: &str = r#"
import fcntl, os, select, socket, struct, sys
name, here, there, port = sys.argv[1:]
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH14x", name.encode(), 0x1001))
wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
wire.bind((here, int(port)))
while True:
    for ready in select.select([tun, wire], [], [])[0]:
        try:
            if ready is wire:
                os.write(tun, wire.recv(65535))
            else:
                wire.sendto(os.read(tun, 65535), (there, int(port)))
        except OSError:
            pass
"#;

/// What must live as long as a joined pair of interfaces.
pub(super) type Carriers = Vec<Running>;

impl Kind {
    /// The gateway's interface.
    pub(super) fn interface(number: u8) -> String {
        format!("up{number}")
    }

    /// The gateway's address on it, and the internet's.
    pub(super) fn addresses(number: u8) -> [IpAddr; 2] {
        [2, 1].map(|host| Ipv4Addr::new(192, 168, 70 + number, host).into())
    }

    /// Why this machine cannot have one: its kernel knows no such kind, or there is no program that makes it useful.
    pub(super) fn lacks(&self, stage: &Stage) -> Option<String> {
        if self.name == "tun" {
            let is_there = std::path::Path::new("/dev/net/tun").exists();
            return (!is_there).then(|| "this kernel has no /dev/net/tun".to_owned());
        }
        if self.name == "wireguard" && Command::new("wg").arg("--version").output().is_err() {
            return Some("there is no program `wg` (Debian package wireguard-tools)".to_owned());
        }
        let words: &[&str] = match self.name {
            "vlan" => &["link", "wan0", "type", "vlan", "id", "99"],
            "macvlan" | "ipvlan" => &["link", "wan0", "type", self.name],
            "vrf" => &["type", "vrf", "table", "99"],
            "vxlan" => &["type", "vxlan", "id", "99", "dstport", "4999"],
            "gre" => &[
                "type",
                "gre",
                "remote",
                "198.51.100.1",
                "local",
                "198.51.100.2",
                "key",
                "99",
            ],
            other => &["type", other],
        };
        let make = || {
            Command::new("ip")
                .args(["link", "add", "try0"])
                .args(words)
                .output()
        };
        let made = stage.site.run_in(Ns::Gateway, make).unwrap().unwrap();
        if made.status.success() {
            run(stage, Ns::Gateway, "ip", &["link", "del", "try0"]);
            return None;
        }
        let said = String::from_utf8_lossy(&made.stderr).trim().to_owned();
        let unknown = ["Unknown device type", "Operation not supported"];
        assert!(
            unknown.iter().any(|text| said.contains(text)),
            "ip link add try0 {words:?}: {said}"
        );
        Some(format!("this kernel has no {}: {said}", self.name))
    }

    /// What an owner allows of it.
    pub(super) fn allowances(&self) -> Value {
        let one = |number: u8, direction| {
            let port = self.port? + u16::from(number);
            Some(
                json!({"remote": format!("{INTERNET_V4}/32"), "protocol": "udp", "ports": [port], "direction": direction}),
            )
        };
        let both = [FIRST, LATER].map(|number| [one(number, "out"), one(number, "in")]);
        both.into_iter().flatten().flatten().collect()
    }

    /// Joins gateway and internet by one.
    pub(super) fn join(&self, stage: &Stage, number: u8) -> Carriers {
        let carriers = match self.name {
            "tun" => self.carry(stage, number),
            _ => Vec::new(),
        };
        self.make(stage, number);
        if self.name == "wireguard" {
            self.pair_by_keys(stage, number);
        }
        let up = Self::interface(number);
        let end = self.end.replace("UP", &up);
        let [here, there] = Self::addresses(number);
        for (ns, address, interface) in [(Ns::Gateway, here, &up), (Ns::Internet, there, &end)] {
            run(
                stage,
                ns,
                "ip",
                &["addr", "add", &format!("{address}/24"), "dev", interface],
            );
            run(stage, ns, "ip", &["link", "set", interface, "up"]);
        }
        carriers
    }

    fn make(&self, stage: &Stage, number: u8) {
        let up = Self::interface(number);
        for (ns, commands) in [(Ns::Gateway, self.here), (Ns::Internet, self.there)] {
            let commands = commands.replace("UP", &up).replace('N', &number.to_string());
            for command in commands.lines() {
                let words: Vec<&str> = command.split_whitespace().collect();
                run(stage, ns, "ip", &words);
            }
        }
    }

    fn carry(&self, stage: &Stage, number: u8) -> Carriers {
        let up = Self::interface(number);
        let port = (self.port.unwrap() + u16::from(number)).to_string();
        let start = |ns: Ns, namespace, here: IpAddr, there: IpAddr| {
            let log = stage.site.directory().join(format!("carrier-{namespace}.log"));
            let mut spec = SpawnSpec::new("python3", log);
            let (here, there) = (here.to_string(), there.to_string());
            spec.args = ["-c", CARRIER, &up, &here, &there, &port]
                .map(Into::into)
                .to_vec();
            let carrier = stage.site.spawn_with(ns, spec).unwrap();
            wait_until(LIMIT, "the tunnel's interface", || {
                within(namespace, || nix::net::if_::if_nametoindex(up.as_str())).is_ok()
            })
            .unwrap();
            carrier
        };
        vec![
            start(Ns::Gateway, "gateway", GATEWAY_WAN_V4, INTERNET_V4),
            start(Ns::Internet, "internet", INTERNET_V4, GATEWAY_WAN_V4),
        ]
    }

    fn pair_by_keys(&self, stage: &Stage, number: u8) {
        let up = Self::interface(number);
        let port = (self.port.unwrap() + u16::from(number)).to_string();
        let folder = stage.site.directory();
        let key = |name: &str| {
            let file = folder.join(format!("{name}-{up}.key"));
            let script = "umask 077; wg genkey >\"$1\"; wg pubkey <\"$1\"";
            let made = Command::new("sh")
                .args(["-c", script, "sh"])
                .arg(&file)
                .output()
                .unwrap();
            assert!(made.status.success(), "{made:?}");
            (file, String::from_utf8(made.stdout).unwrap().trim().to_owned())
        };
        let [here, there] = ["here", "there"].map(key);
        for (ns, own, other, remote) in [
            (Ns::Gateway, &here, &there, INTERNET_V4),
            (Ns::Internet, &there, &here, GATEWAY_WAN_V4),
        ] {
            let (file, endpoint) = (own.0.to_str().unwrap(), format!("{remote}:{port}"));
            let words = [
                "set",
                &up,
                "private-key",
                file,
                "listen-port",
                &port,
                "peer",
                &other.1,
                "allowed-ips",
                "0.0.0.0/0",
                "endpoint",
                &endpoint,
            ];
            run(stage, ns, "wg", &words);
        }
    }
}
