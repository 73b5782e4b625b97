//! What an earlier order may have left behind where objects are merged: which write removes it.
//!
//! In: `desired.quarantine`, which was refused, and its faults, or an end that had passed when the order came. Out: a sentence
//! with that write. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::order::Authority;
use crate::document::fault::Fault;

/// Keys named at most.
const MAX_KEYS: usize = 8;

/// The sentence, where a fault is in a key that the document has: a new order may be innocent of it.
pub fn leftover(desired: &Value, faults: &[Fault]) -> Option<Fault> {
    let mut removal = Value::Object(Map::new());
    let mut removed = 0;
    for fault in faults.iter().take(MAX_KEYS) {
        // What is in a list goes with it: a list is one value to the service.
        let path = fault.path.split('[').next().unwrap_or_default();
        let keys: Vec<&str> = path.split('.').skip(1).collect();
        let found = keys.iter().try_fold(desired, |value, key| value.get(key));
        if keys.is_empty() || found.is_none() {
            continue;
        }
        remove(&mut removal, &keys);
        removed += 1;
    }
    (removed > 0).then(|| {
        let write = json!({"state": {"desired": {"quarantine": removal}}});
        let problem = format!(
            "the service merges objects, so an earlier order may have left this behind; this update of the shadow removes it: \
             {write}"
        );
        Fault::new("", problem)
    })
}

/// What is wrong with an order whose own end had passed when it came: a new order may be innocent of an old one's end.
pub fn passed(authority: Authority, end: Timestamp) -> Vec<Fault> {
    let problem = format!("is {end}, which has passed: the order would do nothing");
    let mut faults = vec![Fault::new("quarantine.expires", problem)];
    let left_behind = match authority {
        Authority::Shadow => leftover(&json!({"expires": end}), &faults),
        Authority::Deployment => Some(Fault::new(
            "",
            "the nucleus merges objects, so an earlier order may have left this behind; a list of one order replaces it whole, as \
             `edgewarden deployment` prints it",
        )),
        Authority::Operator | Authority::Detector | Authority::Recovery => None,
    };
    faults.extend(left_behind);
    faults
}

/// Puts a null at the end of these keys, unless all around it goes already.
fn remove(removal: &mut Value, keys: &[&str]) {
    let (Some(map), Some((key, further))) = (removal.as_object_mut(), keys.split_first()) else {
        return;
    };
    if further.is_empty() {
        map.insert((*key).to_owned(), Value::Null);
    } else {
        remove(map.entry(*key).or_insert_with(|| json!({})), further);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::orders::document::read;
    use crate::quarantine::orders::order::Authority;

    fn said(desired: &Value) -> Option<String> {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let faults = read(Some(desired), Authority::Shadow, now).unwrap_err();
        leftover(desired, &faults).map(|fault| fault.problem)
    }

    #[test]
    fn the_write_removes_just_the_keys_with_faults() {
        let text = said(
            &json!({"posture": "isolate", "limit": {"egressBytesPerSecond": "many"}, "until": 7, "allow": [{"remote": 1}]}),
        );
        let text = text.unwrap();
        let write = text.split_once("removes it: ").unwrap().1;
        let write: Value = serde_json::from_str(write).unwrap();
        let quarantine = &write["state"]["desired"]["quarantine"];
        assert_eq!(quarantine["limit"]["egressBytesPerSecond"], Value::Null);
        assert!(quarantine["limit"].is_object(), "{write}");
        assert_eq!(quarantine.get("until"), Some(&Value::Null));
        assert_eq!(quarantine.get("allow"), Some(&Value::Null));
        assert_eq!(quarantine.get("posture"), None);
    }

    #[test]
    fn what_goes_as_a_whole_is_not_taken_apart() {
        let mut removal = json!({});
        for keys in [&["limit", "a"][..], &["limit"], &["limit", "b"]] {
            remove(&mut removal, keys);
        }
        assert_eq!(removal, json!({"limit": null}));
    }

    #[test]
    fn an_end_that_has_passed_names_the_write_that_removes_it_where_objects_are_merged() {
        let told = |authority| {
            let faults = passed(authority, "2026-01-01T00:00:00Z".parse().unwrap());
            assert_eq!(faults[0].path, "quarantine.expires");
            faults
                .get(1)
                .map(|fault| fault.problem.clone())
                .unwrap_or_default()
        };
        assert!(told(Authority::Shadow).ends_with(r#"{"quarantine":{"expires":null}}}}"#));
        assert!(told(Authority::Deployment).contains("a list of one order"));
        assert_eq!(told(Authority::Operator), "");
    }

    #[test]
    fn a_document_without_the_faulty_key_is_not_said_to_have_leftovers() {
        assert_eq!(said(&json!(7)), None);
        assert_eq!(said(&json!({"id": "a"})), None, "the posture is missing");
    }
}
