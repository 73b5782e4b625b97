//! A plan as text for people. In: [`PlanEffects`]. Out: lines, fit for a terminal. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};
use std::net::IpAddr;

use super::safe::safe;
use crate::Gather;
use crate::quarantine::lifelines::lifeline::Purpose;
use crate::quarantine::orders::order::{Allowance, Direction, Posture, ProcessAction, Protocol};
use crate::quarantine::plan::Scope;
use crate::quarantine::plan::preview::{LimitLine, OrderLine, PlanEffects, ProcessLine};
use crate::quarantine::ruleset::Layer;

/// Items of a list that are shown; the rest are a number. `--json` has all.
const MAX_LISTED: usize = 24;

/// Says what passes, what is cut and whom it hits; of a plan that cuts nothing only that.
pub(super) fn page(plan: &PlanEffects) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:<13}{}", safe(&value));
    };
    line("Plan", headline(plan));
    for order in &plan.orders {
        line("  order", order_line(order));
    }
    if let Some(why) = &plan.not_done {
        line("  not done", why.clone());
    }
    if plan.posture == Posture::Normal {
        return text;
    }
    passes(plan, &mut line);
    cut(plan, &mut line);
    for process in &plan.processes {
        let (label, value) = process_line(process);
        line(label, value);
    }
    if plan.more_processes > 0 {
        line("And", format!("{} processes more", plan.more_processes));
    }
    for rule in &plan.idle_rules {
        line("Idle rule", format!("{rule}: no process that runs is meant"));
    }
    if let Some(what) = &plan.not_known {
        line("  not known", what.clone());
    }
    text
}

fn headline(plan: &PlanEffects) -> String {
    let id = plan
        .plan
        .as_ref()
        .map_or(String::new(), |id| format!(" (plan {id})"));
    match plan.posture {
        Posture::Normal => "normal: nothing is cut".to_owned(),
        Posture::Restrict => format!("RESTRICT: what is named is cut, the rest flows{id}"),
        Posture::Isolate => format!("ISOLATE: only what is named passes{id}"),
    }
}

fn order_line(order: &OrderLine) -> String {
    let mut text = format!("{} by {} ({})", order.posture, order.authority, order.id);
    if let Some(expires) = order.expires {
        let _ = write!(text, ", until {expires}");
    }
    if let Some(reason) = &order.reason {
        let _ = write!(text, ": {reason}");
    }
    text
}

fn passes(plan: &PlanEffects, line: &mut impl FnMut(&str, String)) {
    let lifelines = &plan.lifelines;
    line(
        "Passes",
        "loopback; neighbour discovery and ARP; ICMP errors of known flows".to_owned(),
    );
    if lifelines.dhcp {
        line("  lifeline", "DHCP client".to_owned());
    }
    for (purpose, on) in [
        (Purpose::DataEndpoint, lifelines.data_endpoint),
        (Purpose::Dns, lifelines.dns),
        (Purpose::Ntp, lifelines.ntp),
        (Purpose::Deployments, lifelines.deployments),
        (Purpose::Storage, lifelines.deployments),
        (Purpose::Logs, lifelines.logs),
        (Purpose::Tunnel, lifelines.tunnel),
    ] {
        let addresses = addresses(plan, purpose);
        if on && addresses.is_empty() {
            line("  lifeline", format!("{}: NO ADDRESS KNOWN", purpose.words()));
        }
        for address in addresses {
            line("  lifeline", format!("{}: {address}", purpose.words()));
        }
    }
    if plan.scope == Scope::Wide && plan.posture == Posture::Isolate {
        line(
            "  lifeline",
            "WIDE: any address on the data endpoint's ports and UDP 53".to_owned(),
        );
    }
    for allowance in &plan.allow {
        line("  allowed", allowance_line(allowance));
    }
}

/// One line an address: its ports by protocol, its ways, and who says that it is one.
fn addresses(plan: &PlanEffects, purpose: Purpose) -> Vec<String> {
    let mut ports: BTreeMap<_, BTreeMap<Protocol, BTreeSet<u16>>> = BTreeMap::new();
    let mut origins = BTreeMap::new();
    let own = plan.endpoints.iter();
    for known in own.filter(|known| known.endpoint.purpose == purpose) {
        let endpoint = &known.endpoint;
        let of_address = ports.entry(endpoint.address).or_default();
        of_address
            .entry(endpoint.protocol)
            .or_default()
            .insert(endpoint.port);
        let (_, used) = origins
            .entry(endpoint.address)
            .or_insert_with(|| (known.origin.to_string(), false));
        *used |= known.used;
    }
    ports
        .into_iter()
        .map(|(address, protocols)| {
            let each = protocols
                .iter()
                .map(|(protocol, ports)| format!("{protocol} {}", listed(ports, " ")));
            let each = each.collect::<Vec<_>>().join(", ");
            let (origin, used) = origins.remove(&address).unwrap_or_default();
            let used = if used { ", in use" } else { "" };
            format!("{address} {each}{} ({origin}{used})", ways(plan, address))
        })
        .collect()
}

/// By which interfaces it is reached, where that is bounded.
fn ways(plan: &PlanEffects, address: IpAddr) -> String {
    let own = plan.ways.iter().filter(|way| way.address == address);
    let interfaces: BTreeSet<_> = own.map(|way| way.interface).in_set();
    match (interfaces.is_empty(), plan.ways.is_empty()) {
        (true, true) => String::new(),
        (true, false) => " (no route)".to_owned(),
        (false, _) => format!(" by {}", listed(&interfaces, ", ")),
    }
}

pub(super) fn allowance_line(allowance: &Allowance) -> String {
    let Allowance {
        remote,
        protocol,
        ports,
        direction,
    } = allowance;
    let ports = listed(ports, " ");
    match direction {
        Direction::In => format!("{remote} may reach this device on {protocol} {ports}"),
        Direction::Out => format!("this device may reach {remote} on {protocol} {ports}"),
    }
}

fn cut(plan: &PlanEffects, line: &mut impl FnMut(&str, String)) {
    if plan.posture == Posture::Isolate {
        line(
            "Cuts",
            "all else: in, out and forwarded, IPv4 and IPv6, open connections included".to_owned(),
        );
    } else {
        line(
            "Cuts",
            "in both directions, forwarded too, open connections included".to_owned(),
        );
    }
    let layers = plan.layers.iter().filter_map(|layer| match layer {
        Layer::Inet => None,
        Layer::Bridge => Some("bridged frames"),
        Layer::Netdev => Some("frames sent past the IP stack"),
        Layer::Arp => Some("frames sent past the IP stack, by tc filters at the interfaces"),
    });
    layers.for_each(|layer| line("  also", layer.to_owned()));
    for gap in &plan.gaps {
        line("  NOT", gap.clone());
    }
    let block = &plan.block;
    if !block.remotes.is_empty() {
        let remotes = block.remotes.iter().map(|blocked| match blocked.expires {
            Some(expires) => format!("{} until {expires}", blocked.remote),
            None => blocked.remote.to_string(),
        });
        line("  remotes", listed(remotes, ", "));
    }
    if !block.ports.is_empty() {
        let ports = block
            .ports
            .iter()
            .map(|blocked| format!("{} {}", blocked.protocol, blocked.port));
        line("  ports", listed(ports, ", "));
    }
    for limit in &plan.limits {
        line("  limit", limit_line(limit));
    }
}

fn limit_line(limit: &LimitLine) -> String {
    let rate = limit
        .bytes_per_second
        .map(|bytes| format!("{bytes} bytes a second"));
    let quota = limit.quota_bytes.zip(limit.quota_until);
    let quota = quota.map(|(bytes, until)| format!("{bytes} bytes until {until:.0}"));
    let parts: Vec<String> = rate.into_iter().chain(quota).collect();
    format!("out, lifelines apart: {} ({})", parts.join(", "), limit.order)
}

fn process_line(process: &ProcessLine) -> (&'static str, String) {
    let exe = process.exe.as_deref().unwrap_or("?");
    let who = format!("{} ({}) {exe}", process.name, process.pid);
    match (process.action, &process.spared) {
        (Some(ProcessAction::Kill), _) => ("Kills", who),
        (Some(ProcessAction::Freeze), _) => ("Freezes", who),
        (None, why) => ("Spares", format!("{who}: {}", why.as_deref().unwrap_or("?"))),
    }
}

fn listed<T: Display>(items: impl IntoIterator<Item = T>, between: &str) -> String {
    let mut items = items.into_iter();
    let shown: Vec<String> = items
        .by_ref()
        .take(MAX_LISTED)
        .map(|item| item.to_string())
        .collect();
    let rest = items.count();
    let text = shown.join(between);
    if rest == 0 {
        text
    } else {
        format!("{text} and {rest} more")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::lifelines::lifeline::Endpoint;
    use crate::quarantine::orders::order::{Authority, Order};
    use crate::quarantine::plan::preview::effects;
    use crate::quarantine::plan::{IsolationSettings, fold};

    fn shown(change: impl Fn(&mut Order)) -> String {
        let issued = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut order = Order::isolate(Authority::Operator, "x", Some("test\x1b[2J".into()), issued);
        change(&mut order);
        let endpoint = |port| Endpoint {
            purpose: Purpose::DataEndpoint,
            address: "198.51.100.1".parse().unwrap(),
            protocol: Protocol::Tcp,
            port,
        };
        let orders = [order];
        let plan = fold(
            &orders,
            &IsolationSettings::default(),
            vec![endpoint(443), endpoint(8883)],
            Scope::Pinned,
            issued,
        );
        page(&effects(&plan, &orders, None))
    }

    #[test]
    fn the_page_says_who_passes_and_what_is_cut() {
        let text = shown(|order| {
            order.allow = vec![Allowance {
                remote: "192.0.2.7/32".parse().unwrap(),
                protocol: Protocol::Tcp,
                ports: vec![22],
                direction: Direction::In,
            }];
        });
        for part in [
            "ISOLATE",
            "data endpoint: 198.51.100.1 tcp 443 8883",
            "DNS: NO ADDRESS KNOWN",
            "192.0.2.7/32 may reach this device on tcp 22",
            "all else",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\x1b'), "{text:?}");
    }

    #[test]
    fn long_lists_end_with_a_number() {
        let text = listed(0..100u16, " ");
        assert!(text.ends_with("23 and 76 more"), "{text}");
        assert_eq!(listed([1, 2], ", "), "1, 2");
    }
}
