//! The report shown in docs/report-format.md is what the code makes. `UPDATE_DOCS=1` writes it there.

use edgewarden::observe::flow::IpProtocol;
use edgewarden::observe::sockets::{OpenSocket, SocketOwner};
use edgewarden::observe::{Counters, SocketSnapshot};
use edgewarden::report::custom::{CustomMetric, MetricItem, MetricType};
use edgewarden::report::{Encoding, NameLength, ReportInput, build};
use serde_json::Value;

fn connection(local: &str, remote: &str) -> OpenSocket {
    OpenSocket {
        protocol: IpProtocol::Tcp,
        local: local.parse().unwrap(),
        remote: Some(remote.parse().unwrap()),
        owner: SocketOwner {
            inode: 1,
            uid: 0,
            listening: false,
        },
    }
}

fn sockets() -> SocketSnapshot {
    SocketSnapshot {
        established: vec![
            connection("192.0.2.1:49812", "198.51.100.2:8883"),
            connection("[2001:db8::1]:50022", "[2001:db8::9]:443"),
        ],
        established_total: 2,
        listening_tcp: vec!["192.0.2.1:22".parse().unwrap(), "0.0.0.0:1883".parse().unwrap()],
        listening_udp: vec!["[::]:5353".parse().unwrap()],
        interfaces: [
            ("192.0.2.1".parse().unwrap(), "eth0".into()),
            ("2001:db8::1".parse().unwrap(), "eth0".into()),
        ]
        .into(),
        ..SocketSnapshot::default()
    }
}

fn custom() -> Vec<CustomMetric> {
    let texts = ["curl", "sshd"].map(MetricItem::text).to_vec();
    vec![
        CustomMetric::number("health_enforcement", 0),
        CustomMetric::number("interface_bytesOut:eth0", 9_120),
        CustomMetric::ranked(
            "process_bytesOut",
            MetricType::NumberList,
            vec![8_100.into(), 900.into()],
        ),
        CustomMetric::ranked("process_bytesOut:names", MetricType::StringList, texts),
        CustomMetric::ranked(
            "remote_addresses",
            MetricType::IpList,
            vec![MetricItem::Address("198.51.100.2".parse().unwrap())],
        ),
    ]
}

/// The example as it stands on the page.
fn example(names: NameLength) -> String {
    let (sockets, custom) = (sockets(), custom());
    let input = ReportInput {
        report_id: 1_790_000_000,
        network: Some(Counters {
            bytes_in: 18_342,
            bytes_out: 9_120,
            packets_in: 212,
            packets_out: 175,
        }),
        sockets: Some(&sockets),
        custom: &custom,
    };
    let encoding = Encoding {
        names,
        ..Encoding::PLAIN
    };
    let report = build(&input, encoding, 7_290, 1).unwrap();
    assert!(report.unfit.is_empty());
    let document: Value = serde_json::from_slice(&report.encode(encoding).unwrap()).unwrap();
    format!("\n```json\n{document:#}\n```\n\n")
}

#[test]
fn the_example_on_the_page_is_a_real_report() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/report-format.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut wanted = page.clone();
    for (mark, names) in [
        ("<!-- long -->\n", NameLength::Long),
        ("<!-- short -->\n", NameLength::Short),
    ] {
        let (before, rest) = wanted.split_once(mark).unwrap_or_else(|| panic!("no {mark}"));
        let (_, after) = rest.split_once("<!-- end -->").unwrap();
        wanted = format!("{before}{mark}{}<!-- end -->{after}", example(names));
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &wanted).unwrap();
        return;
    }
    assert!(
        page == wanted,
        "docs/report-format.md is not what the code makes; run UPDATE_DOCS=1 cargo test --test docs"
    );
}
