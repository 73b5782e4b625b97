//! The barrier at the egress of interfaces, as the kernel holds it: filters of `tc`, kind `bpf`, at the queueing discipline `clsact`.
//!
//! In: an open socket of `NETLINK_ROUTE`, the filters that there shall be ([`Barrier`]), or that there shall be none. Out: the kernel
//! holds them, read back, and what had to be done for it ([`Barred`]). Ours are known by their handles, also to another agent. Others' filters
//! and disciplines stay as they are: a discipline goes with ours only where we have made it and nobody else has anything in it. Absent:
//! who changed them, which the kernel does not tell.

use std::collections::{BTreeMap, BTreeSet};

use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

use super::netlink::{Netlink, NetlinkError, NetlinkRequest, attributes, push_attribute, word};
use crate::error_text;
use crate::quarantine::ruleset::{
    Barred, BarredDevice, Barrier, Bound, DROP, FrameFilter, PASS, handle, of_handle,
};

/// Bytes of a `tcmsg`.
const HEADER: usize = 20;
/// Numbers of `linux/rtnetlink.h`, `linux/pkt_sched.h`, `linux/pkt_cls.h` and `linux/netlink.h`.
mod numbers {
    pub(super) const NEW_QDISC: u16 = 36;
    pub(super) const DELETE_QDISC: u16 = 37;
    pub(super) const GET_QDISC: u16 = 38;
    pub(super) const NEW_FILTER: u16 = 44;
    pub(super) const DELETE_FILTER: u16 = 45;
    pub(super) const GET_FILTER: u16 = 46;
    pub(super) const TCA_KIND: u16 = 1;
    pub(super) const TCA_OPTIONS: u16 = 2;
    pub(super) const BPF_ACTIONS: u16 = 1;
    pub(super) const BPF_LENGTH: u16 = 4;
    pub(super) const BPF_PROGRAM: u16 = 5;
    pub(super) const BPF_FLAGS: u16 = 8;
    pub(super) const BPF_COMMON_FLAGS: u16 = 9;
    pub(super) const POLICE_BUCKET: u16 = 1;
    pub(super) const POLICE_RATES: u16 = 2;
    pub(super) const POLICE_RESULT: u16 = 5;
    pub(super) const CLSACT: u32 = 0xffff_fff1;
    pub(super) const INGRESS: u32 = 0xffff_fff2;
    pub(super) const EGRESS: u32 = 0xffff_fff3;
    pub(super) const EXCLUSIVE: u16 = 0x200;
    pub(super) const CREATE: u16 = 0x400;
}
use numbers as n;

/// The number of the handle of `clsact`, and of `ingress`, which is in its place.
const DISCIPLINE: u32 = 0xffff_0000;
/// The program's word is the verdict.
const DIRECT: u32 = 1;
/// No interface carries it out itself.
const IN_SOFTWARE: u32 = 1;
/// Places among the filters that are tried, the first first: one of another kind may have one.
const PLACES: u32 = 8;
/// Filters of one interface that are read.
const MAX_FILTERS: usize = 256;
/// A tick of a bucket, in nanoseconds.
const TICK: u64 = 64;
/// Bytes of a table of rates, which the kernel wants and does not read.
const RATES: usize = 1_024;
/// The longest frame that is not cut as such.
const LONGEST: u32 = 2_047;

/// A filter as it is listed.
struct Listed {
    place: u32,
    protocol: u32,
    handle: u32,
    program: Vec<u8>,
    direct: bool,
    /// Rate of its bound and what is done above it.
    bound: Option<(u32, u32)>,
}

/// Takes every filter of ours from this network namespace.
///
/// # Errors
/// If the kernel cannot be asked or refuses.
pub(crate) fn remove_all() -> Result<(), NetlinkError> {
    bar(&mut Netlink::open(NETLINK_ROUTE)?, None, &mut BTreeSet::new()).map(|_| ())
}

/// Makes the kernel hold these filters of ours and no others. `made`: the interfaces whose discipline is known to be ours, also where
/// somebody has taken the filters out of it that say so.
///
/// # Errors
/// If the kernel cannot be asked, or refuses them on an interface that is there.
pub(crate) fn bar(
    netlink: &mut Netlink,
    barrier: Option<&Barrier>,
    made: &mut BTreeSet<u32>,
) -> Result<Barred, NetlinkError> {
    let mut disciplines = disciplines(netlink)?;
    let mut barred = Barred::default();
    for device in barrier.iter().flat_map(|barrier| &barrier.devices) {
        let kind = disciplines.remove(&device.index);
        let filters = barrier.map(|barrier| barrier.filters(device)).unwrap_or_default();
        match held(
            netlink,
            device,
            &filters,
            (kind.as_deref(), &mut *made),
            &mut barred,
        ) {
            Err(error) if error.refusal() == Some(Errno::ENODEV) => {}
            Err(error) if error.refusal().is_some() => {
                // Of another mark, they would cut all.
                let _gone_or_told_next_time = remove(netlink, device.index, made);
                barred.refused.push((device.name.clone(), error_text(&error)));
            }
            other => other?,
        }
    }
    for (interface, kind) in disciplines {
        if kind != "clsact" {
            continue;
        }
        match remove(netlink, interface, made) {
            Err(error) if is_gone(&error) => {}
            other => other?,
        }
    }
    Ok(barred)
}

/// Whether the interface, its discipline, or what was to be removed, has gone.
fn is_gone(error: &NetlinkError) -> bool {
    matches!(
        error.refusal(),
        Some(Errno::ENODEV | Errno::ENOENT | Errno::EINVAL)
    )
}

/// Has one interface hold these filters.
fn held(
    netlink: &mut Netlink,
    device: &BarredDevice,
    filters: &[FrameFilter],
    (kind, made_before): (Option<&str>, &mut BTreeSet<u32>),
    barred: &mut Barred,
) -> Result<(), NetlinkError> {
    let name = &device.name;
    let made = match kind {
        Some("clsact") => made_before.contains(&device.index),
        Some(_) => {
            let why = "its queueing discipline `ingress` is in the place of clsact";
            barred.refused.push((name.clone(), why.to_owned()));
            return Ok(());
        }
        None => {
            let kind = [message(device.index, DISCIPLINE, n::CLSACT, 0), kind_of("clsact")].concat();
            netlink.instruct_with(n::NEW_QDISC, n::CREATE | n::EXCLUSIVE, &kind)?;
            true
        }
    };
    let mut listed = list(netlink, device.index, n::EGRESS)?;
    let made = made || listed.iter().any(|filter| of_handle(filter.handle) == Some(true));
    if made {
        made_before.insert(device.index);
    }
    if !is_held(&listed, filters, made) {
        put(netlink, device, (&listed, filters), made)?;
        barred.put_on.push((device.index, name.clone()));
        listed = list(netlink, device.index, n::EGRESS)?;
        if !is_held(&listed, filters, made) {
            barred.differs.push(name.clone());
        }
    }
    let before = listed
        .iter()
        .take_while(|filter| of_handle(filter.handle).is_none());
    if before.filter(|filter| filter.handle != 0).count() > 0 {
        barred.uncovered.push(format!(
            "frames sent past the IP stack are not cut on {name} where a tc filter says so that is asked before ours"
        ));
    }
    Ok(())
}

/// Whether just these are there, as they should be.
fn is_held(listed: &[Listed], wanted: &[FrameFilter], made: bool) -> bool {
    let own = || listed.iter().filter(|filter| of_handle(filter.handle).is_some());
    let is_alike = |filter: &FrameFilter| {
        own().any(|found| {
            found.handle == handle(filter.number, made)
                && found.protocol == all_protocols()
                && found.program == program(filter)
                && found.direct == filter.bound.is_none()
                && found.bound == filter.bound.map(|bound| (bound.bytes_per_second, DROP))
        })
    };
    own().count() == wanted.len() && wanted.iter().all(is_alike)
}

/// Puts them in the place of those of ours that are there; in place, so that none is missing for a moment.
fn put(
    netlink: &mut Netlink,
    device: &BarredDevice,
    (listed, filters): (&[Listed], &[FrameFilter]),
    made: bool,
) -> Result<(), NetlinkError> {
    let own = || listed.iter().filter(|filter| of_handle(filter.handle).is_some());
    let first = own().next().map_or(1, |filter| filter.place);
    let mut place = first;
    for filter in filters {
        loop {
            let request = filter_request(device.index, place, filter, made);
            match netlink.instruct_with(n::NEW_FILTER, n::CREATE, &request) {
                Err(error) if error.refusal() == Some(Errno::EINVAL) && place < PLACES => place += 1,
                other => break other?,
            }
        }
    }
    for filter in own() {
        let stays = filter.place == place
            && filters
                .iter()
                .any(|wanted| handle(wanted.number, made) == filter.handle);
        if !stays {
            drop_filter(netlink, device.index, filter)?;
        }
    }
    Ok(())
}

/// Removes ours from an interface, and the discipline where it was made for them and is empty.
fn remove(
    netlink: &mut Netlink,
    interface: u32,
    made_before: &mut BTreeSet<u32>,
) -> Result<(), NetlinkError> {
    let listed = list(netlink, interface, n::EGRESS)?;
    let mut made = made_before.remove(&interface);
    for filter in &listed {
        let Some(with_discipline) = of_handle(filter.handle) else {
            continue;
        };
        made |= with_discipline;
        drop_filter(netlink, interface, filter)?;
    }
    if made
        && list(netlink, interface, n::EGRESS)?.is_empty()
        && list(netlink, interface, n::INGRESS)?.is_empty()
    {
        let request = [message(interface, DISCIPLINE, n::CLSACT, 0), kind_of("clsact")].concat();
        netlink.instruct_with(n::DELETE_QDISC, 0, &request)?;
    }
    Ok(())
}

fn drop_filter(netlink: &mut Netlink, interface: u32, filter: &Listed) -> Result<(), NetlinkError> {
    let header = message(
        interface,
        filter.handle,
        n::EGRESS,
        filter.place << 16 | filter.protocol,
    );
    let request = [header, kind_of("bpf")].concat();
    netlink.instruct_with(n::DELETE_FILTER, 0, &request)
}

/// What hangs in the place of `clsact`, by interface.
fn disciplines(netlink: &mut Netlink) -> Result<BTreeMap<u32, String>, NetlinkError> {
    let mut found = BTreeMap::new();
    let listed = netlink.ask(dump(n::GET_QDISC, &[0; HEADER]), &mut |message| {
        let discipline = || {
            let (interface, own) = (word(message, 4)?, word(message, 8)?);
            let kind = text(attribute(message.get(HEADER..)?, n::TCA_KIND)?);
            (own == DISCIPLINE).then_some((interface, kind))
        };
        found.extend(discipline());
        Ok(())
    });
    match listed {
        // A kernel without any.
        Err(error) if error.refusal() == Some(Errno::EOPNOTSUPP) => Ok(BTreeMap::new()),
        other => other.map(|()| found),
    }
}

/// The filters there, in the order in which they are asked.
fn list(netlink: &mut Netlink, interface: u32, parent: u32) -> Result<Vec<Listed>, NetlinkError> {
    let mut found = Vec::new();
    let request = message(interface, 0, parent, 0);
    netlink.ask(dump(n::GET_FILTER, &request), &mut |message| {
        if found.len() < MAX_FILTERS {
            found.extend(listed(message));
        }
        Ok(())
    })?;
    Ok(found)
}

fn listed(message: &[u8]) -> Option<Listed> {
    let (own, info) = (word(message, 8)?, word(message, 16)?);
    let all = message.get(HEADER..)?;
    let is_bpf = attribute(all, n::TCA_KIND).is_some_and(|kind| text(kind) == "bpf");
    let options = attribute(all, n::TCA_OPTIONS)
        .filter(|_| is_bpf)
        .unwrap_or_default();
    let number = |number| attribute(options, number).and_then(|value| word(value, 0));
    let actions = attribute(options, n::BPF_ACTIONS);
    Some(Listed {
        place: info >> 16,
        protocol: info & 0xffff,
        // Only of this kind are handles ours.
        handle: if is_bpf || of_handle(own).is_none() {
            own
        } else {
            1
        },
        program: attribute(options, n::BPF_PROGRAM).unwrap_or_default().to_vec(),
        direct: number(n::BPF_FLAGS).unwrap_or_default() & DIRECT != 0,
        bound: actions.and_then(police_of),
    })
}

/// The rate of the first action, where it is a bound, and what is done above it.
fn police_of(actions: &[u8]) -> Option<(u32, u32)> {
    let (_, action) = attributes(actions).next()?;
    let is_police = attribute(action, n::TCA_KIND).is_some_and(|kind| text(kind) == "police");
    let options = attribute(action, n::TCA_OPTIONS).filter(|_| is_police)?;
    let bucket = attribute(options, n::POLICE_BUCKET)?;
    let goes_on = attribute(options, n::POLICE_RESULT).and_then(|value| word(value, 0)) == Some(PASS);
    goes_on.then_some((word(bucket, RATE_AT + 8)?, word(bucket, 4)?))
}

/// Where the rate stands in a `struct tc_police`.
const RATE_AT: usize = 20;

fn filter_request(interface: u32, place: u32, filter: &FrameFilter, made: bool) -> Vec<u8> {
    let mut options = Vec::new();
    let length = u16::try_from(filter.program.len()).unwrap_or(u16::MAX);
    push_attribute(&mut options, n::BPF_LENGTH, false, &length.to_ne_bytes());
    push_attribute(&mut options, n::BPF_PROGRAM, false, &program(filter));
    push_attribute(
        &mut options,
        n::BPF_COMMON_FLAGS,
        false,
        &IN_SOFTWARE.to_ne_bytes(),
    );
    match filter.bound {
        None => push_attribute(&mut options, n::BPF_FLAGS, false, &DIRECT.to_ne_bytes()),
        Some(bound) => {
            let mut actions = Vec::new();
            push_attribute(&mut actions, 1, true, &police(bound));
            push_attribute(&mut options, n::BPF_ACTIONS, true, &actions);
        }
    }
    let info = place << 16 | all_protocols();
    let mut request = message(interface, handle(filter.number, made), n::EGRESS, info);
    request.extend(kind_of("bpf"));
    push_attribute(&mut request, n::TCA_OPTIONS, true, &options);
    request
}

/// A bound as an action: what is above it is dropped, what is not goes on to the next filter.
fn police(bound: Bound) -> Vec<u8> {
    let Bound {
        bytes_per_second,
        burst,
    } = bound;
    let nanoseconds = u64::from(burst) * 1_000_000_000 / u64::from(bytes_per_second.max(1));
    let ticks = u32::try_from(nanoseconds / TICK).unwrap_or(u32::MAX);
    let mut bucket = Vec::new();
    // Number, what is done above, limit, burst, longest frame.
    for number in [0, DROP, 0, ticks, LONGEST] {
        bucket.extend(u32::to_ne_bytes(number));
    }
    // Of `struct tc_ratespec`: the width of the cells of the table, nothing of overheads, the rate.
    bucket.extend([3, 0, 0, 0, 0, 0, 0, 0]);
    bucket.extend(bytes_per_second.to_ne_bytes());
    // No peak; counts and capabilities are the kernel's.
    bucket.extend([0; 12 + 12]);
    let mut options = Vec::new();
    push_attribute(&mut options, n::POLICE_BUCKET, false, &bucket);
    push_attribute(&mut options, n::POLICE_RATES, false, &[0; RATES]);
    push_attribute(&mut options, n::POLICE_RESULT, false, &PASS.to_ne_bytes());
    let mut action = kind_of("police");
    push_attribute(&mut action, n::TCA_OPTIONS, true, &options);
    action
}

fn program(filter: &FrameFilter) -> Vec<u8> {
    filter.program.iter().flat_map(|step| step.bytes()).collect()
}

/// `ETH_P_ALL`, as it stands in a message.
fn all_protocols() -> u32 {
    3_u16.to_be().into()
}

/// A `tcmsg`.
fn message(interface: u32, own: u32, parent: u32, info: u32) -> Vec<u8> {
    let numbers = [0, interface, own, parent, info];
    numbers.into_iter().flat_map(u32::to_ne_bytes).collect()
}

fn kind_of(kind: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_attribute(&mut bytes, n::TCA_KIND, false, &[kind.as_bytes(), &[0]].concat());
    bytes
}

fn dump(message_type: u16, payload: &[u8]) -> NetlinkRequest<'_> {
    NetlinkRequest {
        message_type,
        dump: true,
        payload,
    }
}

fn attribute(all: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut all = attributes(all);
    all.find_map(|(number, value)| (number == wanted).then_some(value))
}

/// A string that ends with a zero byte.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}
