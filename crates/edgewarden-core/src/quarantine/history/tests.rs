//! The chain: whatever is done to the bytes between two records is found, and named at its place.

use proptest::prelude::*;
use serde_json::json;

use super::record::{self, Hash, parse};
use super::*;
use crate::quarantine::orders::order::{Authority, Order, Posture, ProcessAction};
use crate::quarantine::plan::{IsolationSettings, Scope, fold};

fn at() -> jiff::Timestamp {
    "2026-11-24T12:00:01Z".parse().unwrap()
}

fn order(reason: &str) -> Order {
    Order::isolate(Authority::Shadow, "inc-17", Some(reason.into()), at())
}

fn events(count: usize) -> Vec<Event> {
    let plan = fold(
        &[order("x")],
        &IsolationSettings::default(),
        Vec::new(),
        Scope::Pinned,
        at(),
    );
    let events = [
        Event::Started {
            version: "0.1.0".into(),
        },
        Event::ordered(&order("bytes out")),
        Event::planned(&plan, &[order("x")], None),
        Event::Verified {
            plan: plan.id(),
            posture: Posture::Isolate,
        },
        Event::Confirmed { plan: plan.id() },
        Event::Stopped,
    ];
    events.into_iter().cycle().take(count).collect()
}

/// The lines of a chain of events that begins after `before`.
fn chained(before: Option<ChainHead>, events: &[Event]) -> (Vec<String>, Option<ChainHead>) {
    let mut head = before;
    let lines = events
        .iter()
        .map(|event| {
            let (text, next) = line(head.as_ref(), at(), event);
            head = Some(next);
            text
        })
        .collect();
    (lines, head)
}

fn file(age: usize, text: &str) -> HistoryFile {
    file_of(age, text.as_bytes().to_vec())
}

fn file_of(age: usize, bytes: Vec<u8>) -> HistoryFile {
    let name = if age == 0 {
        FILE.into()
    } else {
        format!("{FILE}.{age}")
    };
    HistoryFile { name, age, bytes }
}

fn check(lines: &[String]) -> Result<ChainSummary, ChainFault> {
    verify(&[file(0, &lines.concat())])
}

#[test]
fn a_chain_that_nobody_touched_is_whole() {
    let (lines, head) = chained(None, &events(20));
    let summary = check(&lines).unwrap();
    assert_eq!((summary.first, summary.last, summary.torn), (1, head, None));
    assert_eq!(verify(&[]).unwrap(), ChainSummary::default());
    assert_eq!(verify(&[file(0, "")]).unwrap(), ChainSummary::default());
    let record = parse(lines[1].trim_end().as_bytes()).unwrap();
    assert_eq!(record.known(), Some(Event::ordered(&order("bytes out"))));
    assert_eq!(record.at, at());
}

#[test]
fn the_hash_is_that_of_the_line_without_it() {
    // As `sha256sum` says of the bytes before `,"hash"` and a closing brace.
    let (text, head) = line(None, at(), &Event::Stopped);
    let body = concat!(
        r#"{"seq":1,"at":"2026-11-24T12:00:01Z","event":{"kind":"stopped"},"#,
        r#""prev":"0000000000000000000000000000000000000000000000000000000000000000"}"#
    );
    let expected = "8f253b4e9b5e903e992fec1c975c9eb6311988a2dd3e19dc7c423433159dadf4";
    assert_eq!(head.hash.to_string(), expected);
    assert_eq!(
        text,
        format!("{},\"hash\":\"{expected}\"}}\n", body.strip_suffix('}').unwrap())
    );
}

#[test]
fn every_flipped_bit_is_found() {
    let (lines, _) = chained(None, &events(4));
    let bytes = lines.concat().into_bytes();
    for index in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[index] ^= 1 << bit;
            let outcome = verify(&[file_of(0, flipped)]);
            // Without its last newline the last record counts as torn, which is told.
            let told = outcome.as_ref().is_ok_and(|summary| summary.torn.is_some());
            assert!(
                outcome.is_err() || (told && index == bytes.len() - 1),
                "bit {bit} of byte {index}"
            );
        }
    }
}

#[test]
fn an_edited_line_is_named() {
    let (mut lines, _) = chained(None, &events(6));
    lines[1] = lines[1].replace("bytes out", "bytes off");
    let fault = check(&lines).unwrap_err().to_string();
    assert!(fault.starts_with("history:2: was changed"), "{fault}");
    // A new hash for the edited line breaks the link to it.
    let (whole, _) = chained(None, &events(6));
    let before = parse(whole[0].trim_end().as_bytes()).unwrap().head;
    lines[1] = line(Some(&before), at(), &Event::ordered(&order("forged"))).0;
    let fault = check(&lines).unwrap_err().to_string();
    assert!(fault.starts_with("history:3: record 3 names"), "{fault}");
}

#[test]
fn removed_doubled_and_moved_records_are_found() {
    let (lines, _) = chained(None, &events(5));
    let place = |lines: &[String]| check(lines).unwrap_err().to_string();
    for index in 0..4 {
        let mut removed = lines.clone();
        removed.remove(index);
        let fault = place(&removed);
        assert!(
            fault.starts_with(&format!("history:{}: ", index + 1)),
            "{index}: {fault}"
        );
        let mut doubled = lines.clone();
        doubled.insert(index, lines[index].clone());
        let fault = place(&doubled);
        assert!(
            fault.starts_with(&format!("history:{}: ", index + 2)),
            "{index}: {fault}"
        );
        let mut moved = lines.clone();
        moved.swap(index, index + 1);
        let fault = place(&moved);
        assert!(
            fault.starts_with(&format!("history:{}: ", index + 1)),
            "{index}: {fault}"
        );
    }
    let mut strange = lines.clone();
    strange.insert(2, "\n".into());
    assert!(place(&strange).starts_with("history:3: no record"));
}

#[test]
fn a_missing_end_is_found_by_the_agents_head_only() {
    let (lines, head) = chained(None, &events(5));
    let summary = check(&lines[..3]).unwrap();
    assert_ne!(summary.last, head, "what the chain itself cannot show");
}

#[test]
fn a_chain_goes_on_over_rotations_and_begins_where_the_oldest_file_does() {
    let (lines, head) = chained(None, &events(12));
    let files = |first: usize, ages: &[usize]| -> Vec<HistoryFile> {
        ages.iter()
            .enumerate()
            .map(|(index, age)| file(*age, &lines[first + index * 2..first + index * 2 + 2].concat()))
            .collect()
    };
    let summary = verify(&files(0, &[4, 3, 2, 1, 0])).unwrap();
    assert_eq!(summary.first, 1);
    let summary = verify(&files(2, &[4, 3, 2, 1, 0])).unwrap();
    assert_eq!(
        (summary.first, summary.last),
        (3, head),
        "the first two were rotated away"
    );
    let crashed = verify(&files(2, &[4, 2, 1, 0])).unwrap();
    assert_eq!(crashed.first, 3, "a rotation that stopped half way loses nothing");
    let fault = verify(&files(2, &[3, 2, 1, 0])).unwrap_err().to_string();
    assert!(
        fault.starts_with("history.3:1: the history begins at record 3"),
        "{fault}"
    );
    let mut missing = files(2, &[4, 3, 2, 1, 0]);
    missing.remove(2);
    let fault = verify(&missing).unwrap_err().to_string();
    assert!(fault.starts_with("history.1:1: record 9, expected 7"), "{fault}");
    let mut cut = files(0, &[4, 3, 2, 1, 0]);
    cut[1].bytes.pop();
    assert!(
        verify(&cut)
            .unwrap_err()
            .to_string()
            .starts_with("history.3:2: no record: it does not end")
    );
}

#[test]
fn a_torn_end_is_cut_off_told_and_the_chain_goes_on() {
    let (lines, _) = chained(None, &events(3));
    let bytes = lines.concat().into_bytes();
    for length in 0..=bytes.len() {
        let torn = &bytes[..length];
        let whole = torn.iter().filter(|byte| **byte == b'\n').count();
        let seen = verify(&[file_of(0, torn.to_vec())]).unwrap();
        assert_eq!(seen.last.as_ref().map_or(0, |head| head.seq), whole as u64);
        let ends = torn.is_empty() || torn.ends_with(b"\n");
        assert_eq!(seen.torn.is_none(), ends, "told at {length}");
        let resume = resume(torn, true);
        assert_eq!(resume.head, seen.last);
        assert_eq!(matches!(resume.told, Some(Event::Torn { .. })), !ends);
        let mut text = torn[..length - usize::try_from(resume.cut).unwrap()].to_vec();
        text.extend(chained(resume.head, &events(2)).0.concat().into_bytes());
        let summary = verify(&[file_of(0, text)]).unwrap();
        assert_eq!(summary.last.unwrap().seq, whole as u64 + 2);
    }
}

#[test]
fn a_foreign_last_line_stays_visible_and_is_told() {
    let (lines, head) = chained(None, &events(3));
    let text = format!("{}something else\n", lines.concat());
    let resume_it = resume(text.as_bytes(), true);
    assert_eq!((resume_it.head.clone(), resume_it.cut), (head, 0));
    assert!(matches!(resume_it.told, Some(Event::Damaged { .. })));
    let (more, _) = chained(resume_it.head, &[resume_it.told.unwrap()]);
    let fault = check(&[text, more.concat()]).unwrap_err().to_string();
    assert!(fault.starts_with("history:4: no record"), "{fault}");
    let long = resume(&[b'x'; 100], false);
    assert!(long.newline && long.head.is_none() && long.cut == 0);
}

#[test]
fn what_the_agent_found_changed_is_in_the_summary() {
    let (lines, _) = chained(
        None,
        &[
            Event::Stopped,
            Event::Damaged {
                what: "it was removed".into(),
            },
        ],
    );
    assert_eq!(check(&lines).unwrap().damaged, [2]);
}

#[test]
fn a_kind_of_a_later_version_is_a_link_all_the_same() {
    let (first, head) = line(None, at(), &Event::Stopped);
    let body = format!(
        r#"{{"seq":2,"at":"2027-01-01T00:00:00Z","event":{{"kind":"levitated","height":3}},"prev":"{}"}}"#,
        head.hash
    );
    let (later, hash) = record::seal(&body);
    let head = ChainHead { seq: 2, hash };
    let record = parse(later.trim_end().as_bytes()).unwrap();
    assert_eq!(record.known(), None);
    assert_eq!(record.event, json!({"kind": "levitated", "height": 3}));
    let last = line(Some(&head), at(), &Event::Stopped).0;
    assert_eq!(check(&[first, later, last]).unwrap().last.unwrap().seq, 3);
}

#[test]
fn the_longest_events_fit_a_line() {
    let long = "\u{1}".repeat(100_000);
    let many = vec![long.clone(); 100];
    let before = ChainHead {
        seq: u64::MAX - 1,
        hash: Hash::none(),
    };
    for event in [
        Event::Refused {
            authority: Authority::Shadow,
            faults: many.clone(),
        },
        Event::Overridden {
            reason: long.clone(),
            orders: many.clone(),
        },
        Event::ProcessStopped {
            pid: u32::MAX,
            name: long.clone(),
            exe: Some(long.clone()),
            action: ProcessAction::Kill,
        },
    ] {
        let (text, _) = line(Some(&before), at(), &event);
        assert!(text.len() <= MAX_LINE, "{}", text.len());
        let shown = parse(text.trim_end().as_bytes())
            .unwrap()
            .known()
            .unwrap()
            .to_string();
        assert!(shown.contains('…'), "{shown}");
    }
    let (text, _) = line(
        None,
        at(),
        &Event::Failed {
            faults: vec!["x".into(); 9],
        },
    );
    assert!(text.contains("and 1 more"), "{text}");
}

#[test]
fn sentences_say_who_what_and_why() {
    let mut given = order("bytes out");
    assert_eq!(
        Event::ordered(&given).to_string(),
        "isolate ordered by shadow (inc-17): bytes out"
    );
    given.expires = Some(at());
    given.reason = None;
    assert_eq!(
        Event::ordered(&given).to_string(),
        "isolate ordered by shadow (inc-17) until 2026-11-24T12:00:01Z"
    );
    let by = Some(Actor {
        pid: 7,
        name: "nft".into(),
    });
    let put_back = Event::Reasserted {
        by,
        what: "the table was flushed".into(),
    };
    assert_eq!(
        put_back.to_string(),
        "rules put back: the table was flushed by nft (7)"
    );
    let ended = Event::Released {
        authority: Authority::Recovery,
        order: "journal-damaged".into(),
        by: Authority::Operator,
        reason: None,
    };
    assert_eq!(
        ended.to_string(),
        "order journal-damaged of recovery ended by operator"
    );
    let taken_back = Event::Released {
        authority: Authority::Operator,
        order: "operator".into(),
        by: Authority::Operator,
        reason: Some("false alarm".into()),
    };
    assert_eq!(
        taken_back.to_string(),
        "order operator taken back by operator: false alarm"
    );
}

/// What a hostile hand does to the lines.
#[derive(Debug, Clone)]
enum Hand {
    Remove(usize),
    Double(usize),
    Swap(usize, usize),
    Byte(usize, u8),
}

fn hand() -> impl Strategy<Value = Hand> {
    prop_oneof![
        any::<usize>().prop_map(Hand::Remove),
        any::<usize>().prop_map(Hand::Double),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Hand::Swap(a, b)),
        (any::<usize>(), 1..=255u8).prop_map(|(at, change)| Hand::Byte(at, change)),
    ]
}

proptest! {
    #[test]
    fn any_text_is_chained_and_any_change_before_the_last_record_is_found(
        reasons in prop::collection::vec(any::<String>(), 2..12),
        hand in hand(),
    ) {
        let events: Vec<Event> = reasons.iter().map(|reason| Event::ordered(&order(reason))).collect();
        let (lines, head) = chained(None, &events);
        prop_assert_eq!(check(&lines).unwrap().last, head);
        let before_last = lines.len() - 1;
        let mut changed = lines.clone();
        let mut bytes = None;
        match hand {
            Hand::Remove(index) => { changed.remove(index % before_last); }
            Hand::Double(index) => changed.insert(index % before_last, lines[index % before_last].clone()),
            Hand::Swap(a, b) => changed.swap(a % lines.len(), b % lines.len()),
            Hand::Byte(index, change) => {
                let mut all = lines.concat().into_bytes();
                // All but the very last newline.
                let index = index % (all.len() - 1);
                all[index] ^= change;
                bytes = Some(all);
            }
        }
        let bytes = bytes.unwrap_or_else(|| changed.concat().into_bytes());
        let untouched = bytes == lines.concat().into_bytes();
        prop_assert_eq!(verify(&[file_of(0, bytes)]).is_ok(), untouched);
    }

    #[test]
    fn no_bytes_can_stop_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = verify(&[file_of(0, bytes.clone())]);
        let resume = resume(&bytes, true);
        prop_assert!(resume.cut <= bytes.len() as u64);
    }
}
