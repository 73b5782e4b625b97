//! Which modules of a kernel's package a guest is given: what the tests may ask for, and what that needs.
//!
//! In: the text of `modules.dep`. Out: paths, as they stand in it. Deliberately absent: hardware, which an emulated machine
//! without a network card has none of.

use std::collections::{BTreeMap, BTreeSet};

/// Modules by name; `*` stands for the rest of a name.
pub(crate) const WANTED: &[&str] = &[
    // The packet filter, and what others put beside it.
    "nf_*",
    "nft_*",
    "nfnetlink*",
    "br_netfilter",
    "ip_tables",
    "ip6_tables",
    "iptable_*",
    "x_tables",
    "xt_*",
    // Shaping and programs at interfaces.
    "sch_*",
    "cls_*",
    "act_*",
    "em_*",
    "ifb",
    // Interfaces of every kind.
    "veth",
    "dummy",
    "8021q",
    "macvlan",
    "macvtap",
    "ipvlan",
    "ipvtap",
    "bonding",
    "bridge",
    "vrf",
    "vxlan",
    "geneve",
    "gre",
    "ip_gre",
    "ip6_gre",
    "ipip",
    "sit",
    "ip6_tunnel",
    "wireguard",
    "tun",
    "tap",
    "team*",
    "macsec",
    "nlmon",
    "ppp_*",
    "pppo*",
    "l2tp_*",
    // Lists of sockets.
    "*_diag",
    "af_packet",
    "vsock*",
    "sctp",
    // File systems that tests make.
    "loop",
    "ext4",
    "overlay",
    "fuse",
    "squashfs",
    "crc32*",
    "libcrc32c",
];

/// The paths of every wanted module and of all that it needs.
pub(crate) fn closure(dependencies: &str) -> BTreeSet<String> {
    let needs: BTreeMap<&str, Vec<&str>> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(module, needs)| (module, needs.split_whitespace().collect()))
        .collect();
    let is_wanted = |path: &&&str| WANTED.iter().any(|pattern| matches(pattern, name(path)));
    let mut open: Vec<&str> = needs.keys().filter(is_wanted).copied().collect();
    let mut closed = BTreeSet::new();
    while let Some(module) = open.pop() {
        if closed.insert(module.to_owned()) {
            open.extend(needs.get(module).into_iter().flatten());
        }
    }
    closed
}

/// `kernel/net/802/stp.ko.xz` is `stp`.
fn name(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split_once(".ko").map_or(file, |(name, _)| name)
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((head, tail)) => {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_wanted_module_needs_comes_with_it_and_nothing_else_does() {
        let text = "kernel/net/bridge/bridge.ko.xz: kernel/net/802/stp.ko.xz kernel/net/llc/llc.ko.xz\n\
            kernel/net/802/stp.ko.xz: kernel/net/llc/llc.ko.xz\nkernel/net/llc/llc.ko.xz:\n\
            kernel/drivers/gpu/radeon.ko.xz: kernel/drivers/gpu/drm.ko.xz\n";
        let found: Vec<_> = closure(text).into_iter().collect();
        assert_eq!(
            found,
            [
                "kernel/net/802/stp.ko.xz",
                "kernel/net/bridge/bridge.ko.xz",
                "kernel/net/llc/llc.ko.xz"
            ]
        );
    }

    #[test]
    fn a_star_stands_for_the_rest_of_a_name() {
        assert!(matches("nft_*", "nft_ct") && matches("*_diag", "inet_diag") && matches("tun", "tun"));
        assert!(!matches("tun", "tunnel4") && !matches("nft_*", "nf_tables"));
    }
}
