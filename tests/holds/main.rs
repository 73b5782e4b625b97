//! Proofs that the quarantine holds: kills, damaged journals, stepped clocks, other hands in the packet filter.
//!
//! Each module has the scenario, this file has the tests, under the names that docs/security.md promises them by.
//! `EDGEWARDEN_HOLDS_SEED` repeats the random choices of a run; the seed is printed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, prints its seed, and does harm at random moments"
)]

#[path = "../common/mod.rs"]
mod common;
mod journal;
mod kills;
mod model;
mod picture;
mod tables;
mod tampering;
mod time;

use edgewarden_lab::site::in_lab;

/// Random choices that can be had again.
fn random() -> fastrand::Rng {
    let name = "EDGEWARDEN_HOLDS_SEED";
    let seed = match std::env::var(name) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => fastrand::u64(..),
    };
    println!("{name}={seed}");
    fastrand::Rng::with_seed(seed)
}

#[test]
fn kills_while_the_shadow_isolates_and_releases() {
    in_lab("kills_while_the_shadow_isolates_and_releases", || {
        kills::shadow_isolates_and_releases(70);
    });
}

#[test]
fn kills_while_one_order_replaces_another() {
    in_lab("kills_while_one_order_replaces_another", || {
        kills::orders_replace_each_other(50);
    });
}

#[test]
fn kills_while_the_operator_commands() {
    in_lab("kills_while_the_operator_commands", || {
        kills::operator_commands(50);
    });
}

#[test]
fn kills_while_an_order_expires() {
    in_lab("kills_while_an_order_expires", || {
        kills::order_expires(30);
    });
}

#[test]
fn a_harmed_journal_of_an_isolated_device_isolates() {
    in_lab("a_harmed_journal_of_an_isolated_device_isolates", || {
        journal::harmed(30);
    });
}

#[test]
fn a_harmed_journal_of_a_free_device_leaves_it_free() {
    in_lab(
        "a_harmed_journal_of_a_free_device_leaves_it_free",
        journal::harmed_while_free,
    );
}

#[test]
fn on_a_read_only_disk_orders_are_carried_out_and_told_as_forgettable() {
    in_lab(
        "on_a_read_only_disk_orders_are_carried_out_and_told_as_forgettable",
        journal::read_only,
    );
}

#[test]
fn on_a_full_disk_orders_are_carried_out_and_told_as_forgettable() {
    in_lab(
        "on_a_full_disk_orders_are_carried_out_and_told_as_forgettable",
        journal::full,
    );
}

#[test]
fn a_stepped_clock_neither_ends_nor_prolongs_an_order() {
    in_lab("a_stepped_clock_neither_ends_nor_prolongs_an_order", time::steps);
}

#[test]
fn the_shadow_services_time_ends_an_order() {
    in_lab(
        "the_shadow_services_time_ends_an_order",
        time::confirmed_by_the_service,
    );
}

#[test]
fn a_device_that_boots_in_1970_ends_an_order_at_its_time() {
    in_lab(
        "a_device_that_boots_in_1970_ends_an_order_at_its_time",
        time::without_a_battery,
    );
}

#[test]
fn tables_of_others_stay_byte_for_byte() {
    in_lab("tables_of_others_stay_byte_for_byte", tables::stay_as_they_are);
}

#[test]
fn every_edit_of_every_table_of_ours_is_undone_within_a_second() {
    in_lab(
        "every_edit_of_every_table_of_ours_is_undone_within_a_second",
        tampering::is_undone,
    );
}

#[test]
fn random_orders_do_what_the_model_says() {
    in_lab("random_orders_do_what_the_model_says", || model::sequences(500));
}

#[test]
fn random_orders_do_what_the_model_says_again() {
    in_lab("random_orders_do_what_the_model_says_again", || {
        model::sequences(500);
    });
}
