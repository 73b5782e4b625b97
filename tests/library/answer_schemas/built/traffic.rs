//! Traffic and sockets.

use edgewarden::control::sockets::{
    EndTraffic, ListedSocket, SocketHolder, SocketList, SocketState, Transport,
};
use edgewarden::observe::flow::IpProtocol;
use edgewarden::observe::interval::{
    ForwardedTraffic, InterfaceTraffic, ProcessTraffic, RemoteTraffic, UnattributedReason,
    UnattributedTraffic,
};
use edgewarden::observe::{Counters, Interval};
use edgewarden::process::Workload;

use super::{id, sentence, time};

fn counters() -> Counters {
    Counters {
        bytes_in: 1,
        bytes_out: u64::MAX,
        packets_in: 1,
        packets_out: 2,
    }
}

fn process(workload: Option<Workload>) -> ProcessTraffic {
    let protocols = [
        IpProtocol::Tcp,
        IpProtocol::Udp,
        IpProtocol::Icmp,
        IpProtocol::Icmpv6,
        IpProtocol::Other(47),
    ];
    let remote = |protocol| RemoteTraffic {
        interface: "wan0".to_owned(),
        address: "2001:db8::9".parse().unwrap(),
        port: 443,
        protocol,
        counters: counters(),
    };
    ProcessTraffic {
        identity: id(),
        name: "sensor".to_owned(),
        exe: workload.is_some().then(|| "/opt/sensor".to_owned()),
        cgroup: workload.is_some().then(|| "/system.slice".to_owned()),
        workload,
        counters: counters(),
        remotes: protocols.map(remote).into(),
        other_remotes: counters(),
    }
}

pub(super) fn interval() -> Interval {
    let interface = |kernel| InterfaceTraffic {
        name: "wan0".to_owned(),
        kernel,
        captured: counters(),
        forwarded: counters(),
    };
    let reasons = [
        UnattributedReason::NotIp,
        UnattributedReason::Unparsed,
        UnattributedReason::NoPorts,
        UnattributedReason::NoSocket,
        UnattributedReason::NotAccepted,
        UnattributedReason::NoProcess,
        UnattributedReason::LookupFailed,
        UnattributedReason::Foreign,
    ];
    Interval {
        started: time(),
        ended: time(),
        interfaces: vec![interface(None), interface(Some(counters()))],
        processes: vec![
            process(None),
            process(Some(Workload::Container("0123456789ab".to_owned()))),
            process(Some(Workload::Component("com.example.Camera".to_owned()))),
        ],
        forwarded: counters(),
        forwarded_by_peer: vec![ForwardedTraffic {
            peer: "192.0.2.2".parse().unwrap(),
            remote: "203.0.113.1".parse().unwrap(),
            port: 0,
            protocol: IpProtocol::Icmp,
            counters: counters(),
        }],
        other_forwarded: counters(),
        stacked: counters(),
        unattributed: counters(),
        unattributed_by_reason: reasons
            .map(|reason| UnattributedTraffic {
                reason,
                counters: counters(),
            })
            .into(),
        other: counters(),
        captured_total: counters(),
        unparsed: 1,
        lost_frames: Some(12),
        capture_faults: sentence(),
    }
}

pub(super) fn sockets() -> SocketList {
    let states = [
        SocketState::Listening,
        SocketState::Unconnected,
        SocketState::Established,
        SocketState::Connected,
        SocketState::SynSent,
        SocketState::SynReceived,
        SocketState::CloseWait,
        SocketState::Closing,
        SocketState::TimeWait,
        SocketState::Closed,
    ];
    let holder = || SocketHolder {
        identity: id(),
        name: "sensor".to_owned(),
        exe: Some("/opt/sensor".to_owned()),
        workload: Some("component com.example.Camera".to_owned()),
    };
    let mut connections: Vec<ListedSocket> = states
        .map(|state| ListedSocket {
            protocol: Transport::Udp,
            state,
            local: "[fe80::1%2]:546".parse().unwrap(),
            remote: Some("192.0.2.7:443".parse().unwrap()),
            interface: Some("wan0".to_owned()),
            uid: 1000,
            process: Some(holder()),
            traffic: Some(EndTraffic {
                bytes_in: 1,
                bytes_out: 2,
                sockets: 3,
            }),
        })
        .into();
    connections.push(ListedSocket {
        protocol: Transport::Tcp,
        state: SocketState::Listening,
        local: "[::]:22".parse().unwrap(),
        remote: None,
        interface: None,
        uid: 0,
        process: None,
        traffic: None,
    });
    SocketList {
        open: 12,
        matching: 11,
        every_process_seen: false,
        connections,
    }
}
