//! Attribution against fake tables that fail on demand and count how often they are asked.

use std::sync::Mutex;

use super::*;
use crate::process::ProcessId;

#[derive(Default)]
struct World {
    sockets: HashMap<LocalFlow, SocketOwner>,
    list: Vec<OpenSocket>,
    translated: HashMap<LocalFlow, IpAddr>,
    holders: HashMap<u32, Arc<Process>>,
    finds: usize,
    broken: bool,
    /// The processes may not be looked at again yet.
    hidden: bool,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<World>>);

impl Fake {
    fn with<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }
}

impl SocketTable for Fake {
    fn find(&mut self, flow: &LocalFlow, _interface: u32) -> Result<Option<SocketOwner>, LookupError> {
        self.with(|world| {
            world.finds += 1;
            if world.broken {
                Err(LookupError("broken".into()))
            } else {
                Ok(world.sockets.get(flow).copied())
            }
        })
    }

    fn translated_for(&mut self, flow: &LocalFlow) -> Result<Option<IpAddr>, LookupError> {
        Ok(self.with(|world| world.translated.get(flow).copied()))
    }

    fn list(&mut self, limit: usize, _now: Instant) -> Result<Option<Vec<OpenSocket>>, LookupError> {
        Ok(Some(
            self.with(|world| world.list.iter().take(limit).copied().collect()),
        ))
    }
}

impl ProcessTable for Fake {
    fn holder(&mut self, inode: u32, _now: Instant) -> HolderLookup {
        if self.with(|world| world.hidden) {
            return HolderLookup::AskLater;
        }
        self.with(|world| {
            world
                .holders
                .get(&inode)
                .map_or(HolderLookup::Nobody, |p| HolderLookup::Process(Arc::clone(p)))
        })
    }

    fn look_again(&mut self) {
        self.with(|world| world.hidden = false);
    }

    fn forget_gone(&mut self, _now: Instant) {}
}

fn process(pid: u32) -> Arc<Process> {
    let identity = ProcessId { pid, start_ticks: 1 };
    Arc::new(Process {
        identity,
        parent: 1,
        name: format!("p{pid}"),
        exe: None,
        cgroup: None,
        workload: None,
    })
}

fn flow(protocol: IpProtocol, remote_port: u16) -> LocalFlow {
    LocalFlow {
        protocol,
        local: "192.0.2.1".parse().unwrap(),
        local_port: 40_000,
        remote: "198.51.100.1".parse().unwrap(),
        remote_port,
    }
}

fn owner(inode: u32) -> SocketOwner {
    SocketOwner {
        inode,
        uid: 0,
        listening: false,
    }
}

fn start() -> (Fake, Attribution<Fake, Fake>, Instant) {
    let fake = Fake::default();
    (
        fake.clone(),
        Attribution::new(fake.clone(), fake),
        crate::some_instant(),
    )
}

#[test]
fn one_lookup_serves_a_flow_until_the_recheck() {
    let (fake, mut attribution, now) = start();
    let tcp = flow(IpProtocol::Tcp, 443);
    fake.with(|world| {
        world.sockets.insert(tcp, owner(7));
        world.holders.insert(7, process(70));
    });
    for millis in [0, 10, 900] {
        let at = now + Duration::from_millis(millis);
        assert_eq!(
            attribution.owner(&tcp, 1, false, at),
            FlowOwner::Process(process(70))
        );
    }
    assert_eq!(fake.with(|world| world.finds), 1);
    assert_eq!(
        attribution.owner(&tcp, 1, true, now),
        FlowOwner::Process(process(70))
    );
    assert_eq!(fake.with(|world| world.finds), 2, "a SYN asks again");
}

#[test]
fn a_reused_port_changes_hands_at_the_syn_and_the_end_of_a_connection_does_not() {
    let (fake, mut attribution, now) = start();
    let tcp = flow(IpProtocol::Tcp, 443);
    fake.with(|world| {
        world.sockets.insert(tcp, owner(7));
        world.holders.insert(7, process(70));
        world.holders.insert(8, process(80));
    });
    assert_eq!(
        attribution.owner(&tcp, 1, true, now),
        FlowOwner::Process(process(70))
    );
    fake.with(|world| world.sockets.clear());
    let later = now + Duration::from_secs(5);
    assert_eq!(
        attribution.owner(&tcp, 1, false, later),
        FlowOwner::Process(process(70)),
        "FIN, ACK"
    );
    fake.with(|world| world.sockets.insert(tcp, owner(8)));
    assert_eq!(
        attribution.owner(&tcp, 1, true, later),
        FlowOwner::Process(process(80))
    );
    fake.with(|world| world.sockets.clear());
    assert_eq!(
        attribution.owner(&tcp, 1, true, later),
        FlowOwner::Waiting(UnattributedReason::NoSocket)
    );
}

#[test]
fn a_listener_is_not_blamed_for_what_its_child_accepts() {
    let (fake, mut attribution, now) = start();
    let tcp = flow(IpProtocol::Tcp, 443);
    fake.with(|world| {
        world.sockets.insert(
            tcp,
            SocketOwner {
                listening: true,
                ..owner(7)
            },
        );
        world.holders.insert(7, process(70));
    });
    assert_eq!(
        attribution.owner(&tcp, 1, true, now),
        FlowOwner::Waiting(UnattributedReason::NotAccepted)
    );
    fake.with(|world| {
        world.sockets.insert(tcp, owner(9));
        world.holders.insert(9, process(90));
    });
    assert_eq!(
        attribution.owner(&tcp, 1, false, now),
        FlowOwner::Waiting(UnattributedReason::NotAccepted),
        "too early to ask"
    );
    let settled = attribution.retry_waiting(10, now + RETRY);
    assert_eq!(settled, [(tcp, process(90))]);
    assert_eq!(
        attribution.owner(&tcp, 1, false, now + RETRY),
        FlowOwner::Process(process(90))
    );
}

#[test]
fn a_socket_that_is_passed_on_takes_its_flow_along_at_the_recheck() {
    let (fake, mut attribution, now) = start();
    let tcp = flow(IpProtocol::Tcp, 443);
    fake.with(|world| {
        world.sockets.insert(tcp, owner(7));
        world.holders.insert(7, process(70));
    });
    assert_eq!(
        attribution.owner(&tcp, 1, false, now),
        FlowOwner::Process(process(70))
    );
    fake.with(|world| world.hidden = true);
    let rechecked = now + RECHECK;
    assert_eq!(
        attribution.owner(&tcp, 1, false, rechecked),
        FlowOwner::Process(process(70)),
        "too early to look for another"
    );
    fake.with(|world| {
        world.hidden = false;
        world.holders.insert(7, process(71));
    });
    let rechecked = rechecked + RECHECK;
    assert_eq!(
        attribution.owner(&tcp, 1, false, rechecked),
        FlowOwner::Process(process(71))
    );
    fake.with(|world| world.holders.clear());
    assert_eq!(
        attribution.owner(&tcp, 1, false, rechecked + RECHECK),
        FlowOwner::Waiting(UnattributedReason::NoProcess),
        "open, and held by nobody we can see"
    );
}

#[test]
fn a_process_that_ended_keeps_what_its_socket_still_sends() {
    let (fake, mut attribution, now) = start();
    let tcp = flow(IpProtocol::Tcp, 443);
    fake.with(|world| {
        world.sockets.insert(tcp, owner(7));
        world.holders.insert(7, process(70));
    });
    attribution.owner(&tcp, 1, true, now);
    fake.with(|world| {
        world.sockets.insert(tcp, owner(0));
        world.holders.clear();
    });
    for seconds in [1, 2, 3] {
        let at = now + RECHECK * seconds;
        assert_eq!(
            attribution.owner(&tcp, 1, false, at),
            FlowOwner::Process(process(70))
        );
    }
}

#[test]
fn a_packet_that_finds_the_owner_of_a_waiting_flow_says_settled() {
    let (fake, mut attribution, now) = start();
    let udp = flow(IpProtocol::Udp, 53);
    fake.with(|world| world.sockets.insert(udp, owner(7)));
    assert_eq!(
        attribution.owner(&udp, 1, false, now),
        FlowOwner::Waiting(UnattributedReason::NoProcess)
    );
    fake.with(|world| world.holders.insert(7, process(70)));
    assert_eq!(
        attribution.owner(&udp, 1, false, now + RETRY),
        FlowOwner::Settled(process(70))
    );
}

#[test]
fn the_close_of_an_interval_is_the_last_chance() {
    let (fake, mut attribution, now) = start();
    let udp = flow(IpProtocol::Udp, 53);
    fake.with(|world| {
        world.sockets.insert(udp, owner(7));
        world.holders.insert(7, process(70));
        world.hidden = true;
    });
    assert_eq!(
        attribution.owner(&udp, 1, false, now),
        FlowOwner::Waiting(UnattributedReason::NoProcess)
    );
    assert_eq!(attribution.retry_waiting(10, now), [], "too early to ask");
    assert_eq!(attribution.last_chance(10, now), [(udp, process(70))]);
}

#[test]
fn closed_sockets_are_remembered_from_the_last_list() {
    let (fake, mut attribution, now) = start();
    let (tcp, udp) = (flow(IpProtocol::Tcp, 443), flow(IpProtocol::Udp, 53));
    fake.with(|world| {
        world.holders.insert(7, process(70));
        world.holders.insert(8, process(80));
        world.list = vec![
            OpenSocket {
                protocol: IpProtocol::Tcp,
                local: "192.0.2.1:40000".parse().unwrap(),
                remote: Some("198.51.100.1:443".parse().unwrap()),
                owner: owner(7),
            },
            OpenSocket {
                protocol: IpProtocol::Udp,
                local: "[::]:40000".parse().unwrap(),
                remote: None,
                owner: owner(8),
            },
        ];
    });
    attribution.remember(now).unwrap();
    assert_eq!(
        attribution.owner(&tcp, 1, false, now),
        FlowOwner::Process(process(70))
    );
    assert_eq!(
        attribution.owner(&udp, 1, false, now),
        FlowOwner::Process(process(80))
    );
    let other = flow(IpProtocol::Tcp, 444);
    assert_eq!(
        attribution.owner(&other, 1, false, now),
        FlowOwner::Waiting(UnattributedReason::NoSocket)
    );
}

#[test]
fn unanswerable_flows_are_asked_about_seldom_and_the_table_is_bounded() {
    let (fake, mut attribution, now) = start();
    fake.with(|world| world.broken = true);
    for millis in 0..1_000 {
        let at = now + Duration::from_millis(millis);
        let verdict = attribution.owner(&flow(IpProtocol::Udp, 1), 1, false, at);
        assert_eq!(verdict, FlowOwner::Waiting(UnattributedReason::LookupFailed));
    }
    assert!(fake.with(|world| world.finds) <= usize::from(EAGER_ATTEMPTS) + 1);
    for number in 0..MAX_FLOWS {
        let mut flow = flow(IpProtocol::Udp, u16::try_from(number % 60_000).unwrap());
        flow.local_port = 50_000;
        attribution.owner(&flow, 1, false, now);
    }
    assert_eq!(
        attribution.owner(&flow(IpProtocol::Tcp, 2), 1, false, now),
        FlowOwner::Overflow
    );
    attribution.new_interval(now);
    attribution.new_interval(now);
    assert_eq!(
        attribution.owner(&flow(IpProtocol::Tcp, 2), 1, false, now),
        FlowOwner::Waiting(UnattributedReason::LookupFailed)
    );
}

#[test]
fn the_outer_side_of_a_translated_flow_belongs_to_the_device_behind_us() {
    let (fake, mut attribution, now) = start();
    let theirs = flow(IpProtocol::Tcp, 443);
    let ours = flow(IpProtocol::Tcp, 444);
    let peer: IpAddr = "198.51.100.2".parse().unwrap();
    fake.with(|world| {
        world.translated.insert(theirs, peer);
        world.translated.insert(ours, ours.local);
    });
    for _ in 0..2 {
        assert_eq!(
            attribution.owner(&theirs, 1, false, now),
            FlowOwner::Translated(peer)
        );
    }
    assert_eq!(
        attribution.owner(&ours, 1, false, now),
        FlowOwner::Waiting(UnattributedReason::NoSocket),
        "translated towards ourselves"
    );
}
