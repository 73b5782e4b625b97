//! The journal's bytes: what is written is read, and harm to any byte is noticed.

use super::*;
use crate::process::ProcessId;
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::ProcessAction;
use crate::quarantine::plan::processes::OneAbove;

fn live() -> Journal<'static> {
    let mut journal = Journal::default();
    let order = Order::isolate(
        Authority::Shadow,
        "s",
        None,
        "2026-01-01T00:00:00Z".parse().unwrap(),
    );
    journal
        .book
        .to_mut()
        .set(Authority::Shadow, Wish::Order(Box::new(order)));
    journal
}

#[test]
fn what_was_written_is_read() {
    assert_eq!(decode(&encode(&live())), Ok(live()));
    assert_eq!(decode(&encode(&Journal::default())), Ok(Journal::default()));
}

#[test]
fn a_journal_of_an_older_agent_is_read_and_written_alike() {
    let body = r#"{"book":{"orders":[]},"confirmed":null,"trial":{"plan":"0a1b2c3d","channelWorked":true},"rolledBack":null,"overridden":null,"clock":{"time":"2026-01-01T00:00:00Z","uptime":5,"boot":"b"},"quotas":[],"stopped":[],"addresses":[]}"#;
    let bytes = format!("{MAGIC}{:08x}\n{body}\n", crc32fast::hash(body.as_bytes()));
    let journal = decode(bytes.as_bytes()).unwrap();
    assert!(matches!(
        *journal.standing,
        Standing::Trying {
            channel_worked: true,
            ..
        }
    ));
    assert_eq!(String::from_utf8(encode(&journal)).unwrap(), bytes);
}

#[test]
fn the_shadows_version_is_kept_and_a_key_of_a_later_agent_is_passed_over() {
    let mut journal = live();
    journal.shadow = Cow::Owned(Some(ShadowVersion {
        thing: "gw".into(),
        name: Some("edge".into()),
        version: u64::MAX,
    }));
    let bytes = encode(&journal);
    assert_eq!(decode(&bytes), Ok(journal));
    // As an agent that does not know the key reads it.
    let text = String::from_utf8(bytes).unwrap();
    let body = text.split_once('\n').unwrap().1.trim_end();
    let body = body.replace("\"shadow\":{", "\"later\":{");
    assert!(body.contains("\"later\":{"), "control: {body}");
    let renamed = format!("{MAGIC}{:08x}\n{body}\n", crc32fast::hash(body.as_bytes()));
    assert_eq!(decode(renamed.as_bytes()), Ok(live()));
}

#[test]
fn every_truncation_and_every_flipped_byte_is_noticed() {
    let bytes = encode(&live());
    for length in 0..bytes.len() - 1 {
        assert!(decode(&bytes[..length]).is_err(), "truncated to {length}");
    }
    for index in 0..bytes.len() - 1 {
        let mut flipped = bytes.clone();
        flipped[index] ^= 0x20;
        assert!(decode(&flipped).is_err(), "byte {index}");
    }
}

#[test]
fn the_stopped_are_read_wherever_the_damage_is() {
    let stopped = |pid| StoppedProcess {
        identity: ProcessId { pid, start_ticks: 7 },
        name: "{\"pid\":9".into(),
        exe: Some("/opt/{\"pid\":9,\"startTicks\":7}".into()),
        action: ProcessAction::Freeze,
        at: Timestamp::UNIX_EPOCH,
        contested: 0,
        stopped_before: true,
        seen_from: None,
        named_by: [7].into(),
        above: vec![OneAbove {
            identity: ProcessId {
                pid: 3,
                start_ticks: 1,
            },
            held_at: Some(5),
        }],
    };
    let mut journal = live();
    journal.stopped = Cow::Owned(vec![stopped(10), stopped(11)]);
    let whole = encode(&journal);
    let pids = |bytes: &[u8]| {
        let found = stopped_in(bytes).into_iter();
        found.map(|known| known.identity.pid).collect::<Vec<_>>()
    };
    assert_eq!(stopped_in(&whole), *journal.stopped);
    for index in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[index] = 0xff;
        let found = pids(&bytes);
        assert!(
            found.contains(&10) || found.contains(&11),
            "byte {index}: {found:?}"
        );
        assert!(!found.contains(&9), "byte {index}: {found:?}");
    }
    let begins: &[u8] = b"{\"pid\":11";
    let second = whole.windows(begins.len()).position(|window| window == begins);
    assert_eq!(pids(&whole[..second.unwrap()]), [10], "cut off");
    assert_eq!(pids(&whole[second.unwrap()..]), [11], "the beginning lost");
    assert!(pids(&[0; 300]).is_empty());
}

#[test]
fn damage_says_whether_an_order_was_live() {
    let mut bytes = encode(&live());
    bytes[25] ^= 1;
    assert!(decode(&bytes).unwrap_err().says_live);
    let mut bytes = encode(&Journal::default());
    bytes[25] ^= 1;
    assert!(!decode(&bytes).unwrap_err().says_live);
    for lost in [
        &b""[..],
        &[0; 300],
        b"edgewarden-journal 1 0badcafe\n{\"book\":{\"or",
    ] {
        assert!(decode(lost).unwrap_err().says_live, "it may have lost an order");
    }
    let live = encode(&live());
    for length in 0..live.len() - 1 {
        assert!(decode(&live[..length]).unwrap_err().says_live, "cut to {length}");
    }
}

/// An order with as many remotes as a file of its own needs, and one more.
fn with_a_list(journal: &mut Journal<'_>, authority: Authority, count: u32) {
    let net = |n: u32| std::net::IpAddr::from(std::net::Ipv4Addr::from(0x0A00_0000 + 2 * n));
    let mut order = Order::isolate(authority, "l", None, Timestamp::UNIX_EPOCH);
    order.posture = Posture::Restrict;
    order.block.remotes = (0..count).map(|n| ipnet::IpNet::from(net(n)).into()).collect();
    journal.book.to_mut().set(authority, Wish::Order(Box::new(order)));
}

fn in_one_piece(written: &Written) -> Vec<u8> {
    let mut bytes = written.file.clone();
    for list in &written.lists {
        bytes.extend(list.written());
        bytes.push(b'\n');
    }
    bytes
}

#[test]
fn a_list_is_apart_only_where_it_is_long() {
    let mut journal = live();
    with_a_list(&mut journal, Authority::Operator, 1_024);
    let short = Written::of(&journal);
    assert_eq!((short.file, short.lists.len()), (encode(&journal), 0));
    with_a_list(&mut journal, Authority::Operator, 1_025);
    let long = Written::of(&journal);
    assert_eq!(long.lists.len(), 1);
    assert!(long.file.len() < 2_000);
    assert_eq!(Written::named(&long.file), [long.lists[0].digest()]);
    assert_eq!(decode(&in_one_piece(&long)), Ok(journal.clone()));
    assert_eq!(
        decode(&encode(&journal)),
        Ok(journal),
        "also as earlier agents write it"
    );
}

#[test]
fn lists_are_known_by_their_names_whatever_their_order_and_each_is_needed() {
    let mut journal = live();
    with_a_list(&mut journal, Authority::Operator, 1_100);
    with_a_list(&mut journal, Authority::Detector, 1_200);
    journal.overridden = Cow::Owned(Some(OperatorOverride {
        reason: "r".into(),
        at: Timestamp::UNIX_EPOCH,
        orders: journal.book.orders().to_vec(),
    }));
    let mut written = Written::of(&journal);
    assert_eq!(written.lists.len(), 2, "the same list twice is one");
    assert_eq!(decode(&in_one_piece(&written)), Ok(journal.clone()));
    written.lists.reverse();
    assert_eq!(decode(&in_one_piece(&written)), Ok(journal));
    let lost = written.lists.pop().unwrap();
    let damage = decode(&in_one_piece(&written)).unwrap_err();
    assert!(
        damage.says_live && damage.what.contains(lost.digest()),
        "{damage}"
    );
}

#[test]
fn an_agent_that_does_not_know_lists_isolates() {
    let mut journal = Journal::default();
    with_a_list(&mut journal, Authority::Operator, 1_100);
    let file = Written::of(&journal).file;
    // What it asks: its own header, then whether what is left speaks of an order.
    assert!(!file.starts_with(MAGIC.as_bytes()));
    assert!(says_live(&file));
    let mut free = Journal::default();
    with_a_list(&mut free, Authority::Operator, 10);
    assert!(Written::of(&free).file.starts_with(MAGIC.as_bytes()), "control");
}
