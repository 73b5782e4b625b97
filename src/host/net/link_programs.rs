//! Programs and filters at interfaces that can send frames on before any rule sees them: XDP programs, and filters of `tc` that
//! redirect or rewrite.
//!
//! In: an open socket of `NETLINK_ROUTE`. Out: what is there, each a sentence, as rtnetlink lists it. Absent: BPF programs at `tcx` and `netkit` links, which
//! are not in these lists, and what of them does what: that it could is told.

use std::collections::BTreeMap;

use super::netlink::{Netlink, NetlinkError, NetlinkRequest, attributes, word};
use crate::Arrange;
use crate::quarantine::ruleset::of_handle;

/// Of each kind; a gateway has none or a handful.
const MAX_FOUND: usize = 256;
/// Bytes of an `ifinfomsg`, and of a `tcmsg`.
const LINK_HEADER: usize = 16;
const TC_HEADER: usize = 20;
/// What of a filter sends frames on or makes others of them, as its actions name themselves; one of kind `bpf` can do anything.
const ACTIONS: [&str; 3] = ["mirred", "pedit", "nat"];

/// Numbers of `linux/rtnetlink.h`, `linux/if_link.h` and `linux/pkt_sched.h`.
mod numbers {
    pub(super) const RTM_GETLINK: u16 = 18;
    pub(super) const RTM_GETQDISC: u16 = 38;
    pub(super) const RTM_GETTFILTER: u16 = 46;
    pub(super) const IFLA_IFNAME: u16 = 3;
    pub(super) const IFLA_XDP: u16 = 43;
    pub(super) const IFLA_XDP_ATTACHED: u16 = 2;
    pub(super) const IFLA_XDP_PROG_ID: u16 = 4;
    pub(super) const TCA_KIND: u16 = 1;
    /// Where filters of `clsact` are, both ways, and of `ingress`.
    pub(super) const CLSACT: [u32; 2] = [0xffff_fff2, 0xffff_fff3];
    pub(super) const INGRESS: u32 = 0xffff_0000;
}

/// Every one that there is.
///
/// # Errors
/// If the kernel cannot list them.
pub(super) fn link_programs(netlink: &mut Netlink) -> Result<Vec<String>, NetlinkError> {
    let (mut names, mut told) = (BTreeMap::new(), Vec::new());
    netlink.ask(dump(numbers::RTM_GETLINK, &[0; LINK_HEADER]), &mut |message| {
        let Some((index, name, program)) = link(message) else {
            return Ok(());
        };
        if let Some(number) = program.filter(|_| told.len() < MAX_FOUND) {
            told.push(format!(
                "what the XDP program {number} on {name} sends on is not cut: it is asked before every rule"
            ));
        }
        names.insert(index, name);
        Ok(())
    })?;
    let mut places = Vec::new();
    netlink.ask(dump(numbers::RTM_GETQDISC, &[0; TC_HEADER]), &mut |message| {
        if places.len() < MAX_FOUND {
            places.extend(places_of(message));
        }
        Ok(())
    })?;
    for (interface, parent) in places {
        let mut request = [0; TC_HEADER];
        request[4..8].copy_from_slice(&interface.to_ne_bytes());
        request[12..16].copy_from_slice(&parent.to_ne_bytes());
        let mut found: Vec<String> = Vec::new();
        let listed = netlink.ask(dump(numbers::RTM_GETTFILTER, &request), &mut |message| {
            if found.len() < MAX_FOUND {
                found.extend(action_of(message));
            }
            Ok(())
        });
        // The interface, or what its filters hang on, may have gone meanwhile.
        if listed.is_err_and(|error| error.refusal().is_none()) {
            break;
        }
        found.arrange();
        found.dedup();
        let name = names.get(&interface).map_or("an interface", String::as_str);
        told.extend(found.into_iter().map(|what| {
            format!("what a tc filter ({what}) on {name} sends on or makes of frames is not cut: it comes past the rules")
        }));
    }
    told.arrange();
    told.dedup();
    Ok(told)
}

fn dump(message_type: u16, payload: &[u8]) -> NetlinkRequest<'_> {
    NetlinkRequest {
        message_type,
        dump: true,
        payload,
    }
}

/// Index and name of an interface, and the number of its XDP program.
fn link(message: &[u8]) -> Option<(u32, String, Option<u32>)> {
    use numbers as n;
    let (mut name, mut program) = (None, None);
    for (number, value) in attributes(message.get(LINK_HEADER..)?) {
        match number {
            n::IFLA_IFNAME => name = Some(text(value)),
            n::IFLA_XDP => {
                let find = |wanted| attributes(value).find(|(number, _)| *number == wanted);
                let attached = find(n::IFLA_XDP_ATTACHED).is_some_and(|(_, how)| how.first() != Some(&0));
                let id = find(n::IFLA_XDP_PROG_ID).and_then(|(_, id)| word(id, 0));
                program = attached.then(|| id.unwrap_or_default());
            }
            _ => {}
        }
    }
    Some((word(message, 4)?, name?, program))
}

/// Where filters may hang at a queueing discipline.
fn places_of(message: &[u8]) -> Vec<(u32, u32)> {
    let parts = || {
        let (_, kind) =
            attributes(message.get(TC_HEADER..)?).find(|(number, _)| *number == numbers::TCA_KIND)?;
        Some((word(message, 4)?, word(message, 8)?, text(kind)))
    };
    let Some((interface, handle, kind)) = parts() else {
        return Vec::new();
    };
    match (kind.as_str(), handle) {
        ("clsact", _) => numbers::CLSACT.map(|parent| (interface, parent)).to_vec(),
        ("ingress", _) => vec![(interface, numbers::INGRESS)],
        // The kernel's own, which nobody can give filters.
        (_, 0) => Vec::new(),
        (_, handle) => vec![(interface, handle)],
    }
}

/// What of a filter can send frames past the rules.
fn action_of(message: &[u8]) -> Option<String> {
    let attributes_at = message.get(TC_HEADER..)?;
    let (_, kind) = attributes(attributes_at).find(|(number, _)| *number == numbers::TCA_KIND)?;
    let kind = text(kind);
    // Ours drop only, and the kernel tells the kind before the first of them, too.
    let own = word(message, 8)?;
    if kind == "bpf" && (own == 0 || of_handle(own).is_some()) {
        return None;
    }
    if kind == "bpf" {
        return Some(kind);
    }
    // Each kind of filter numbers its actions otherwise; they name themselves alike.
    let names = |action: &str| {
        let wanted = [action.as_bytes(), &[0]].concat();
        attributes_at.windows(wanted.len()).any(|part| part == wanted)
    };
    let action = ACTIONS.into_iter().find(|action| names(action))?;
    Some(action.to_owned())
}

/// A string that ends with a zero byte.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}
