//! Whose flow it is when the kernel translates addresses: the outer side of a masqueraded flow carries our own address.
//!
//! In: a flow as it is seen on the outer side. Out: the device on our side. One question names one flow; the table is
//! never listed. A kernel without connection tracking translates nothing.

use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::netlink::{Netlink, NetlinkError, NetlinkRequest, attributes, push_attribute};
use crate::observe::flow::{IpProtocol, LocalFlow};

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_GET`.
const GET: u16 = 1 << 8 | 1;
/// `struct nfgenmsg`.
const HEADER: usize = 4;
/// Attributes of `linux/netfilter/nfnetlink_conntrack.h`.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// An open question channel to the connection tracking.
pub(crate) struct Conntrack {
    netlink: Netlink,
}

impl Conntrack {
    /// Opens it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            netlink: Netlink::open(NETLINK_NETFILTER)?,
        })
    }

    /// The other end of a translated flow: the device that began it, or the one it was redirected to. For a flow of our
    /// own that is `flow.local`. `None` if the flow is not tracked.
    ///
    /// # Errors
    /// If the kernel cannot be asked or refuses (the capability `CAP_NET_ADMIN` is needed).
    pub(crate) fn inner_end(&mut self, flow: &LocalFlow) -> Result<Option<IpAddr>, NetlinkError> {
        let Some(payload) = question(flow) else {
            return Ok(None);
        };
        let mut found = None;
        let asked = self.netlink.ask(
            NetlinkRequest {
                message_type: GET,
                dump: false,
                payload: &payload,
            },
            &mut |answer| {
                found = inner_end(answer, flow.remote);
                Ok(())
            },
        );
        match asked {
            Ok(()) => Ok(found),
            // Not tracked, or a kernel without connection tracking.
            Err(error)
                if matches!(
                    error.refusal(),
                    Some(Errno::ENOENT | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// "The flow with this tuple": as an incoming packet has it. The kernel finds it whichever direction that is.
fn question(flow: &LocalFlow) -> Option<Vec<u8>> {
    let number = match flow.protocol {
        IpProtocol::Tcp => 6,
        IpProtocol::Udp => 17,
        IpProtocol::Icmp | IpProtocol::Icmpv6 | IpProtocol::Other(_) => return None,
    };
    let (mut ip, mut transport, mut tuple) = (Vec::new(), Vec::new(), Vec::new());
    let family = match (flow.remote, flow.local) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            push_attribute(&mut ip, CTA_IP_V4_SRC, false, &source.octets());
            push_attribute(&mut ip, CTA_IP_V4_DST, false, &destination.octets());
            nix::libc::AF_INET
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            push_attribute(&mut ip, CTA_IP_V6_SRC, false, &source.octets());
            push_attribute(&mut ip, CTA_IP_V6_DST, false, &destination.octets());
            nix::libc::AF_INET6
        }
        _ => return None,
    };
    push_attribute(&mut transport, CTA_PROTO_NUM, false, &[number]);
    push_attribute(
        &mut transport,
        CTA_PROTO_SRC_PORT,
        false,
        &flow.remote_port.to_be_bytes(),
    );
    push_attribute(
        &mut transport,
        CTA_PROTO_DST_PORT,
        false,
        &flow.local_port.to_be_bytes(),
    );
    push_attribute(&mut tuple, CTA_TUPLE_IP, true, &ip);
    push_attribute(&mut tuple, CTA_TUPLE_PROTO, true, &transport);
    let mut payload = vec![u8::try_from(family).ok()?, 0, 0, 0];
    push_attribute(&mut payload, CTA_TUPLE_ORIG, true, &tuple);
    Some(payload)
}

/// Began by the remote end: then the answering end is ours. Else the end that began it is.
fn inner_end(answer: &[u8], remote: IpAddr) -> Option<IpAddr> {
    let attributes_of = |wanted| {
        attributes(answer.get(HEADER..).unwrap_or_default())
            .find_map(|(number, value)| (number == wanted).then_some(value))
    };
    let began = source(attributes_of(CTA_TUPLE_ORIG)?)?;
    if began == remote {
        source(attributes_of(CTA_TUPLE_REPLY)?)
    } else {
        Some(began)
    }
}

fn source(tuple: &[u8]) -> Option<IpAddr> {
    let ip = attributes(tuple).find_map(|(number, value)| (number == CTA_TUPLE_IP).then_some(value))?;
    attributes(ip).find_map(|(number, value)| match number {
        CTA_IP_V4_SRC => Some(<[u8; 4]>::try_from(value).ok()?.into()),
        CTA_IP_V6_SRC => Some(<[u8; 16]>::try_from(value).ok()?.into()),
        _ => None,
    })
}
