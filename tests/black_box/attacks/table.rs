//! The table of `cargo xtask attack` in its short form: a second of each attack, and none may get through.
//!
//! Each attack shows first that it works on the free device, or it could not be played.

use std::time::Duration;

use edgewarden_attack::{ATTACKS, Terms, Verdict};
use edgewarden_lab::lab_test;

use crate::common::options;

/// A flood that fills a pipe shows it within a second.
const TIME: Duration = Duration::from_secs(1);

/// Plays an attack of the table by its name.
fn held(name: &str) {
    let attack = ATTACKS.iter().find(|attack| attack.name == name).unwrap();
    let stage = options();
    let terms = Terms {
        agent: stage.agent,
        recipe: stage.recipe,
        lab: stage.lab,
        time: TIME,
    };
    let outcome = attack.play(&terms).unwrap();
    println!("{outcome:?}");
    assert_eq!(outcome.result, Verdict::Held, "{outcome:?}");
}

/// One test for each attack of the table, and one that none is left out.
macro_rules! table {
    ($($test:ident: $name:literal,)*) => {
        $(lab_test!($test, || held($name));)*

        #[test]
        fn every_attack_of_the_table_is_tried() {
            let tried = [$($name),*];
            let known: Vec<_> = ATTACKS.iter().map(|attack| attack.name).collect();
            assert_eq!(known, tried);
        }
    };
}

table! {
    forged_answers_make_no_lifeline: "forged-answers",
    a_lifeline_is_not_reached_by_another_interface: "bound-to-another-interface",
    a_flooded_lifeline_silences_no_channel: "silenced-channel",
    what_a_frame_declares_counts_for_nothing: "other-declared-type",
    tags_hide_no_remote: "tagged-frames",
    segmented_frames_of_the_link_stay_small: "segmented-link-frames",
    an_xdp_socket_sends_nothing: "xdp-socket",
    neighbour_messages_carry_nothing_large: "large-neighbour-messages",
    a_flood_of_arp_starves_nobody: "starved-arp",
    a_continued_process_is_told: "continued-process",
}
