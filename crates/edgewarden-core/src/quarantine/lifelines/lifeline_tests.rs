//! Which names are lifelines, and where.

use super::*;

fn around() -> Surroundings {
    Surroundings {
        data_endpoint: Some("x-ats.iot.eu-west-1.amazonaws.com".into()),
        mqtt_port: Some(8884),
        region: Some("eu-west-1".into()),
        credentials: Some("x.credentials.iot.eu-west-1.amazonaws.com".into()),
        resolvers: vec![Setting {
            value: "192.0.2.53".parse().unwrap(),
            source: "/etc/resolv.conf".into(),
        }],
        time_servers: vec![Setting {
            value: "ntp.example".into(),
            source: "/etc/chrony.conf".into(),
        }],
        ..Surroundings::default()
    }
}

fn named(lifelines: &Lifelines, around: &Surroundings) -> Vec<String> {
    let text = |target: LifelineTarget| {
        let ports: Vec<String> = target.ports.iter().map(|(_, port)| port.to_string()).collect();
        format!("{} {}", target.host, ports.join(","))
    };
    targets(lifelines, around).into_iter().map(text).collect()
}

fn only(change: impl Fn(&mut Lifelines)) -> Lifelines {
    let mut lifelines = Lifelines {
        dhcp: false,
        dns: false,
        ntp: false,
        data_endpoint: false,
        deployments: false,
        logs: false,
        tunnel: false,
    };
    change(&mut lifelines);
    lifelines
}

#[test]
fn by_default_a_device_can_be_released_by_shadow_and_by_deployment() {
    assert_eq!(
        named(&Lifelines::default(), &around()),
        [
            "x-ats.iot.eu-west-1.amazonaws.com 443,8443,8883,8884",
            "192.0.2.53 53,53",
            "ntp.example 123",
            "x.credentials.iot.eu-west-1.amazonaws.com 443",
            "greengrass-ats.iot.eu-west-1.amazonaws.com 443,8443",
            "s3.eu-west-1.amazonaws.com 443",
            "s3.amazonaws.com 443",
        ]
    );
}

#[test]
fn each_group_has_its_switch() {
    assert_eq!(named(&only(|_| {}), &around()), [""; 0]);
    assert_eq!(
        named(&only(|l| l.logs = true), &around()),
        ["logs.eu-west-1.amazonaws.com 443"]
    );
    assert_eq!(
        named(&only(|l| l.tunnel = true), &around()),
        ["data.tunneling.iot.eu-west-1.amazonaws.com 443"]
    );
    assert_eq!(named(&only(|l| l.dns = true), &around()), ["192.0.2.53 53,53"]);
    assert_eq!(named(&only(|l| l.deployments = true), &around()).len(), 4);
}

#[test]
fn the_data_plane_may_be_the_data_endpoint_and_have_a_port_of_its_own() {
    let around = Surroundings {
        data_plane_is_iotdata: true,
        data_plane_port: Some(9443),
        region: None,
        credentials: None,
        ..around()
    };
    assert_eq!(
        named(&only(|l| l.deployments = true), &around),
        ["x-ats.iot.eu-west-1.amazonaws.com 443,8443,9443"]
    );
}

#[test]
fn a_proxy_is_the_control_channel_and_the_endpoint_need_not_resolve() {
    let around = Surroundings {
        proxy: Some(("proxy.example".into(), 3128)),
        ..around()
    };
    let found = targets(&only(|l| l.data_endpoint = true), &around);
    let weights: Vec<_> = found
        .iter()
        .map(|t| (t.host.as_str(), t.purpose, t.weight))
        .collect();
    assert_eq!(
        weights,
        [
            ("proxy.example", Purpose::DataEndpoint, Weight::Control),
            (
                "x-ats.iot.eu-west-1.amazonaws.com",
                Purpose::DataEndpoint,
                Weight::Optional
            ),
        ]
    );
    assert_eq!(control_ports(&around), [443, 3128, 8443, 8883, 8884]);
}

#[test]
fn who_was_seen_at_the_proxy_has_no_lifeline_but_it_and_the_exceptions() {
    let lifelines = only(|l| (l.data_endpoint, l.deployments, l.logs) = (true, true, true));
    let mut around = Surroundings {
        proxy: Some(("proxy.example".into(), 3128)),
        proxy_alone: true,
        ..around()
    };
    let logs = "logs.eu-west-1.amazonaws.com 443";
    assert_eq!(
        named(&lifelines, &around),
        ["proxy.example 3128", "proxy.example 3128", logs]
    );
    around.proxy_exceptions = vec![
        "s3.amazonaws.com".into(),
        "x-ats.iot.eu-west-1.amazonaws.com".into(),
    ];
    assert_eq!(
        named(&lifelines, &around),
        [
            "proxy.example 3128",
            "x-ats.iot.eu-west-1.amazonaws.com 443,8443,8883,8884",
            "s3.amazonaws.com 443",
            "proxy.example 3128",
            logs
        ]
    );
    around.proxy_alone = false;
    assert_eq!(
        named(&lifelines, &around).len(),
        8,
        "until it was seen all are open"
    );
}

#[test]
fn names_in_china_have_their_domain() {
    let around = Surroundings {
        data_endpoint: Some("x.ats.iot.cn-north-1.amazonaws.com.cn".into()),
        region: Some("cn-north-1".into()),
        ..Surroundings::default()
    };
    assert_eq!(
        named(&only(|l| l.logs = true), &around),
        ["logs.cn-north-1.amazonaws.com.cn 443"]
    );
}

#[test]
fn an_address_that_is_no_hosts_makes_no_endpoint() {
    let target = optional(Purpose::Logs, "x".into(), [443]);
    let addresses = [
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "::",
        "ff02::1",
        "::ffff:224.0.0.1",
        "192.0.2.1",
        "::ffff:192.0.2.1",
    ];
    let found = target.endpoints(addresses.map(|text| text.parse().unwrap()));
    let found: BTreeSet<IpAddr> = found.into_iter().map(|endpoint| endpoint.address).collect();
    assert_eq!(found, BTreeSet::from(["192.0.2.1".parse().unwrap()]));
}

#[test]
fn every_target_says_who_names_it() {
    let mut around = around();
    around.time_servers.push(Setting {
        value: "192.0.2.123".into(),
        source: "isolation.timeServers".into(),
    });
    let origins: Vec<String> = targets(&Lifelines::default(), &around)
        .iter()
        .take(4)
        .map(|target| target.origin().to_string())
        .collect();
    assert_eq!(
        origins,
        [
            "look-up of x-ats.iot.eu-west-1.amazonaws.com",
            "/etc/resolv.conf",
            "look-up of ntp.example (/etc/chrony.conf)",
            "isolation.timeServers",
        ]
    );
}
