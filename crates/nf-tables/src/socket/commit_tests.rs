//! What the kernel may say about a transaction, word by word, without a kernel.

use proptest::prelude::*;

use super::super::connection::tests::message;
use super::super::protocol::{CAPPED, ERROR, EXTENDED};
use super::*;
use crate::{Chain, Family, Hook, Item, Policy, Table};

const FIRST: u32 = u32::MAX - 2;

/// A transaction whose steps have one message each, and the number of the last of them.
fn batch(steps: usize) -> (Batch, usize) {
    let table = Table::new(Family::Inet, "t");
    let mut batch = Batch::new();
    for step in 0..steps {
        let chain = Chain::filter(format!("chain{step}"), Hook::new(Hook::INPUT, 0), Policy::Drop);
        batch.add_chain(&table, &chain);
    }
    let last = batch.with_bytes(FIRST, |_, last| last);
    (batch, last)
}

/// What the kernel says about the message of that number, the one that begins the transaction being zero.
fn word_about(place: usize, errno: i32, attributes: &[u8]) -> Vec<u8> {
    let sequence = FIRST.wrapping_add(u32::try_from(place).unwrap());
    let payload = [&(-errno).to_ne_bytes()[..], &[0; 16], attributes].concat();
    message(ERROR, CAPPED | EXTENDED, sequence, &payload)
}

fn said(datagrams: &[Vec<u8>], steps: usize) -> Result<(), CommitError> {
    let (batch, last) = batch(steps);
    let mut answers = Answers::default();
    for datagram in datagrams {
        answers.read(datagram, &batch, FIRST, last);
    }
    answers.end(Unclear::Silent)
}

#[test]
fn only_the_last_messages_word_is_success() {
    assert!(said(&[word_about(3, 0, &[])], 3).is_ok());
    for words in [vec![], vec![word_about(2, 0, &[])], vec![word_about(0, 0, &[])]] {
        assert!(matches!(
            said(&words, 3),
            Err(CommitError::Unclear(Unclear::Silent))
        ));
    }
    let other = message(ERROR, 0, FIRST.wrapping_sub(1), &[0; 20]);
    assert!(matches!(said(&[other], 3), Err(CommitError::Unclear(_))));
}

#[test]
fn a_refusal_counts_more_than_the_last_messages_word() {
    // As when the kernel takes every message and fails at the end.
    for place in [0, 1, 3, 4] {
        let words = [word_about(place, 16, &[]), word_about(3, 0, &[])];
        let Err(CommitError::Refused { refusals }) = said(&words, 3) else {
            panic!("not refused")
        };
        assert_eq!(refusals[0].errno, 16);
        let words = [word_about(3, 0, &[]), word_about(place, 16, &[])];
        assert!(matches!(said(&words, 3), Err(CommitError::Refused { .. })));
    }
}

#[test]
fn a_word_that_is_cut_makes_it_unclear() {
    let word = word_about(3, 0, &[]);
    let words = [word[..17].to_vec(), word];
    assert!(matches!(
        said(&words, 3),
        Err(CommitError::Unclear(Unclear::Lost))
    ));
}

#[test]
fn refusals_are_bounded() {
    let words: Vec<_> = (1..=100).map(|place| word_about(place, 2, &[])).collect();
    let Err(CommitError::Refused { refusals }) = said(&words, 100) else {
        panic!("not refused")
    };
    assert_eq!(refusals.len(), MAX_REFUSALS);
}

#[test]
fn another_generation_is_told_apart() {
    assert!(said(&[word_about(0, 85, &[])], 1).unwrap_err().is_outdated());
    assert!(!said(&[word_about(0, 1, &[])], 1).unwrap_err().is_outdated());
}

proptest! {
    #[test]
    fn a_refusal_names_its_step(steps in 1_usize..20, step: prop::sample::Index, text in "[a-zA-Z ]{0,60}") {
        let step = step.index(steps);
        let (batch, _) = batch(steps);
        let bytes = batch.message(step + 1).unwrap();
        // The name of the chain, the first attribute behind the table's.
        let offset = u32::try_from(16 + 4 + 8).unwrap();
        prop_assert!(bytes.len() > 28);
        let mut words = crate::wire::Encoder::default();
        words.text(1, &text);
        words.attribute(2, &offset.to_ne_bytes());
        let said = said(&[word_about(step + 1, 17, words.bytes())], steps);
        let Err(CommitError::Refused { refusals }) = said else { panic!("not refused") };
        prop_assert_eq!(refusals.len(), 1);
        let refusal = &refusals[0];
        prop_assert_eq!(refusal.step, Some(step));
        let name = format!("chain{step}");
        prop_assert_eq!(&batch.step_at(step).unwrap().item, &Item::Chain(name));
        prop_assert_eq!(refusal.text.as_deref(), Some(text.as_str()));
        prop_assert_eq!(refusal.place.iter().map(|place| (place.number, place.position)).collect::<Vec<_>>(), [(3, 1)]);
    }

    #[test]
    fn any_words_are_read(words in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = said(&[words], 3);
    }
}
