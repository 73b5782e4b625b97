//! Conservation: what goes in comes out, exactly once, whatever the limits and however intervals are cut.

use super::*;

fn process(pid: u32) -> Arc<Process> {
    Arc::new(Process {
        identity: ProcessId {
            pid,
            start_ticks: u64::from(pid) * 10,
        },
        parent: 1,
        name: format!("p{pid}"),
        exe: None,
        cgroup: None,
        workload: None,
    })
}

fn flow(number: u16) -> LocalFlow {
    LocalFlow {
        protocol: IpProtocol::Tcp,
        local: "192.0.2.1".parse().unwrap(),
        local_port: 40_000,
        remote: "198.51.100.1".parse().unwrap(),
        remote_port: number,
    }
}

fn check(page: &LedgerPage) {
    let mut sum: Counters = page
        .processes(|index| index.to_string())
        .iter()
        .map(|item| item.counters)
        .sum();
    sum += page.unattributed().iter().map(|item| item.counters).sum();
    sum += page.forwarded();
    sum += page.other();
    sum += page.stacked();
    assert_eq!(sum, page.captured_total());
    for item in page.processes(|index| index.to_string()) {
        let mut remotes: Counters = item.remotes.iter().map(|remote| remote.counters).sum();
        remotes += item.other_remotes;
        assert_eq!(remotes, item.counters);
    }
}

fn peering(random: &mut fastrand::Rng) -> Option<ForwardedFlow> {
    random.bool().then(|| ForwardedFlow {
        peer: [198, 51, 100, random.u8(0..4)].into(),
        remote: "203.0.113.1".parse().unwrap(),
        port: random.u16(0..4),
        protocol: IpProtocol::Udp,
        sent: random.bool(),
    })
}

fn account(random: &mut fastrand::Rng) -> Account {
    let flow = flow(random.u16(0..200));
    match random.u8(0..9) {
        0..3 => Account::Process(process(random.u32(0..40)), flow),
        3 => Account::Waiting(
            flow,
            [UnattributedReason::NoSocket, UnattributedReason::NoProcess][random.usize(0..2)],
        ),
        4 => Account::Forwarded(peering(random)),
        7 => Account::Stacked,
        5 => Account::Unattributed(UnattributedReason::Unparsed),
        6 => Account::Unattributed(UnattributedReason::NotIp),
        _ => Account::Overflow,
    }
}

#[test]
fn many_random_packets_are_conserved_over_many_intervals() {
    let mut random = fastrand::Rng::with_seed(4);
    let tight = LedgerLimits {
        processes: 16,
        remotes: 64,
        waiting: 8,
        forwarded: 4,
        interfaces: 2,
    };
    for limits in [LedgerLimits::default(), tight] {
        let mut ledger = Ledger::new(limits);
        let (mut recorded, mut closed) = (Counters::default(), Counters::default());
        for _ in 0..200_000 {
            let entry = LedgerEntry {
                interface: random.u32(0..4),
                counters: Counters::traffic(random.bool(), random.u64(60..70_000), random.u64(1..9)),
                account: account(&mut random),
            };
            recorded += entry.counters;
            ledger.record(&entry);
            if random.u8(..) == 0 {
                ledger.settle(&flow(random.u16(0..200)), &process(random.u32(0..40)));
            }
            if random.u16(0..20_000) == 0 {
                check(&ledger.peek());
                let page = ledger.take();
                check(&page);
                closed += page.captured_total();
            }
        }
        let page = ledger.take();
        check(&page);
        closed += page.captured_total();
        assert_eq!(closed, recorded);
        assert_eq!(ledger.peek().captured_total(), Counters::default());
    }
}

#[test]
fn a_waiting_flow_goes_to_its_owner_once() {
    let mut ledger = Ledger::new(LedgerLimits::default());
    let entry = LedgerEntry {
        interface: 1,
        counters: Counters::traffic(true, 100, 1),
        account: Account::Waiting(flow(443), UnattributedReason::NoProcess),
    };
    ledger.record(&entry);
    assert_eq!(
        ledger.peek().unattributed()[0].reason,
        UnattributedReason::NoProcess
    );
    ledger.settle(&flow(443), &process(7));
    ledger.settle(&flow(443), &process(8));
    let page = ledger.take();
    assert!(page.unattributed().is_empty());
    let processes = page.processes(|index| index.to_string());
    assert_eq!(processes.len(), 1);
    assert_eq!(
        (processes[0].name.as_str(), processes[0].counters.bytes_out),
        ("p7", 100)
    );
    assert_eq!(processes[0].remotes[0].port, 443);
}

#[test]
fn what_does_not_fit_is_counted_as_other() {
    let mut ledger = Ledger::new(LedgerLimits {
        processes: 1,
        remotes: 1,
        waiting: 0,
        forwarded: 0,
        interfaces: 1,
    });
    for pid in 1..=3 {
        for port in [80, 443] {
            ledger.record(&LedgerEntry {
                interface: pid,
                counters: Counters::traffic(false, 10, 1),
                account: Account::Process(process(pid), flow(port)),
            });
        }
    }
    let page = ledger.take();
    assert_eq!(page.other().bytes_in, 40);
    assert_eq!(
        page.processes(|index| index.to_string())[0]
            .other_remotes
            .bytes_in,
        10
    );
    assert_eq!(page.uncounted_interfaces().unwrap().captured.bytes_in, 40);
    check(&page);
}

#[test]
fn routed_traffic_is_told_by_its_two_ends_as_the_peer_sees_it() {
    let mut ledger = Ledger::new(LedgerLimits::default());
    let peering = |sent| ForwardedFlow {
        peer: "198.51.100.2".parse().unwrap(),
        remote: "203.0.113.1".parse().unwrap(),
        port: 443,
        protocol: IpProtocol::Tcp,
        sent,
    };
    // Enters on interface 1 and leaves on 2; the answer goes the other way.
    let packets = [
        (1, false, 100, Some(peering(true))),
        (2, true, 100, None),
        (2, false, 900, Some(peering(false))),
        (1, true, 900, None),
    ];
    for (interface, out, bytes, peering) in packets {
        ledger.record(&LedgerEntry {
            interface,
            counters: Counters::traffic(out, bytes, 1),
            account: Account::Forwarded(peering),
        });
    }
    let page = ledger.take();
    assert_eq!(
        (page.forwarded().bytes_in, page.forwarded().bytes_out),
        (1_000, 1_000)
    );
    assert_eq!(
        (page.forwarded_on(1).bytes_in, page.forwarded_on(1).bytes_out),
        (100, 900)
    );
    let peers = page.forwarded_by_peer();
    assert_eq!(peers.len(), 1);
    assert_eq!(
        (peers[0].counters.bytes_out, peers[0].counters.bytes_in),
        (100, 900)
    );
}
