//! Whose flow it is when the kernel translates addresses: the outer side of a masqueraded flow carries our own address; and where
//! a connection of this device really goes when somebody's rules lead it elsewhere.
//!
//! In: a flow as it is seen on the outer side, or both ends of a socket. Out: the device on our side; the end that answers; how
//! full the table is. One question names one flow; the table is not listed here (`forgetting` does). A kernel without connection
//! tracking translates nothing.

use std::net::{IpAddr, SocketAddr};

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::netlink::{Netlink, NetlinkError, NetlinkRequest, attributes, push_attribute};
use super::tracked_entry::Entry;
use crate::observe::flow::{IpProtocol, LocalFlow};
use crate::quarantine::plan::tracked::Crowd;

/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1 << 8;
/// `IPCTNL_MSG_CT_GET`, `IPCTNL_MSG_CT_DELETE` and `IPCTNL_MSG_CT_GET_STATS`.
pub(super) const GET: u16 = SUBSYSTEM | 1;
pub(super) const DELETE: u16 = SUBSYSTEM | 2;
const GET_STATISTICS: u16 = SUBSYSTEM | 5;
/// `struct nfgenmsg`.
pub(super) const HEADER: usize = 4;
/// `CTA_STATS_GLOBAL_ENTRIES` and `CTA_STATS_GLOBAL_MAX_ENTRIES`.
const ENTRIES: u16 = 1;
const MAX_ENTRIES: u16 = 2;
/// Attributes of `linux/netfilter/nfnetlink_conntrack.h`.
pub(super) const CTA_TUPLE_ORIG: u16 = 1;
pub(super) const CTA_TUPLE_REPLY: u16 = 2;
pub(super) const CTA_TUPLE_IP: u16 = 1;
pub(super) const CTA_TUPLE_PROTO: u16 = 2;
pub(super) const CTA_IP_V4_SRC: u16 = 1;
pub(super) const CTA_IP_V4_DST: u16 = 2;
pub(super) const CTA_IP_V6_SRC: u16 = 3;
pub(super) const CTA_IP_V6_DST: u16 = 4;
pub(super) const CTA_PROTO_NUM: u16 = 1;
pub(super) const CTA_PROTO_SRC_PORT: u16 = 2;
pub(super) const CTA_PROTO_DST_PORT: u16 = 3;

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
        let end = self.find(flow, |answer| other_end(answer, |end| end.ip() == flow.remote))?;
        Ok(end.map(|end| end.ip()))
    }

    /// Who really answers a TCP connection of this device, with the port. `None` if it is not tracked.
    ///
    /// # Errors
    /// As [`Conntrack::inner_end`].
    pub(crate) fn answering_end(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Option<SocketAddr>, NetlinkError> {
        // Asked for by what we send: whoever answers may not be who the socket says.
        let sent = LocalFlow {
            protocol: IpProtocol::Tcp,
            local: remote.ip().to_canonical(),
            local_port: remote.port(),
            remote: local.ip().to_canonical(),
            remote_port: local.port(),
        };
        let own = SocketAddr::new(sent.remote, sent.remote_port);
        self.find(&sent, |answer| other_end(answer, |end| end == own))
    }

    fn find<T>(
        &mut self,
        flow: &LocalFlow,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, NetlinkError> {
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
                found = read(answer);
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

/// How full the table is, from a socket of `NETLINK_NETFILTER`.
///
/// # Errors
/// If the kernel cannot be asked, or does not tell: one without `ctnetlink`, or before 4.18.
pub(crate) fn crowd_from(netlink: &mut Netlink) -> Result<Crowd, NetlinkError> {
    let mut found = None;
    netlink.ask(
        NetlinkRequest {
            message_type: GET_STATISTICS,
            dump: false,
            payload: &[0; HEADER],
        },
        &mut |answer| {
            let number = |wanted| {
                let mut all = attributes(answer.get(HEADER..)?);
                let (_, value) = all.find(|(number, _)| *number == wanted)?;
                Some(u32::from_be_bytes(value.try_into().ok()?))
            };
            found = number(ENTRIES).zip(number(MAX_ENTRIES));
            Ok(())
        },
    )?;
    let told = found.map(|(flows, most)| Crowd { flows, most });
    told.ok_or_else(|| NetlinkError::Answer {
        expected: "how many flows there are and may be".to_owned(),
    })
}

/// Whether what is to be deleted has ended by itself, is another one by now, or is in the hands of hardware.
pub(super) fn is_gone(error: &NetlinkError) -> bool {
    matches!(error.refusal(), Some(Errno::ENOENT | Errno::EBUSY))
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

/// The end of a flow that is not this one: the one that began it, or else the one that answers. Which of both a flow has that was
/// tracked late says nothing.
fn other_end(answer: &[u8], is_this: impl Fn(SocketAddr) -> bool) -> Option<SocketAddr> {
    let flow = Entry::of(answer)?.flow;
    let (began, answers) = (flow.began.0, flow.answers.0);
    Some(if is_this(began) { answers } else { began })
}
