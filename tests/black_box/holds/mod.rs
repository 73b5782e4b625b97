//! Proofs that the quarantine holds: kills, damaged journals, stepped clocks, other hands in the packet filter.
//!
//! Each module has the scenario, this file has the tests, under the names that docs/security.md promises them by.
//! `EDGEWARDEN_HOLDS_SEED` repeats the random choices of a run; the seed is printed. Random orders against a model of the
//! rules are in tests/library/model.rs.

mod forged;
mod journal;
mod kills;
mod lists;
pub(crate) mod picture;
mod standby;
mod standby_race;
mod tables;
mod tampering;
mod time;

use edgewarden_lab::lab_test;

lab_test!(kills_while_the_shadow_isolates_and_releases, || {
    kills::shadow_isolates_and_releases(70);
});

lab_test!(kills_while_one_order_replaces_another, || {
    kills::orders_replace_each_other(50);
});

lab_test!(kills_while_the_operator_commands, || {
    kills::operator_commands(50);
});

lab_test!(kills_while_an_order_expires, || {
    kills::order_expires(30);
});

lab_test!(a_harmed_journal_of_an_isolated_device_isolates, || {
    journal::harmed(30);
});

lab_test!(
    very_many_remotes_outlive_kills_and_are_never_lost_silently,
    lists::outlive_kills
);

lab_test!(
    a_harmed_journal_of_a_free_device_leaves_it_free,
    journal::harmed_while_free
);

lab_test!(
    on_a_read_only_disk_orders_are_carried_out_and_told_as_forgettable,
    journal::read_only
);

lab_test!(
    on_a_full_disk_orders_are_carried_out_and_told_as_forgettable,
    journal::full
);

lab_test!(a_stepped_clock_neither_ends_nor_prolongs_an_order, time::steps);

lab_test!(
    the_shadow_services_time_ends_an_order,
    time::confirmed_by_the_service
);

lab_test!(
    a_device_that_boots_in_1970_ends_an_order_at_its_time,
    time::without_a_battery
);

lab_test!(tables_of_others_stay_byte_for_byte, tables::stay_as_they_are);

lab_test!(
    every_edit_of_every_table_of_ours_is_undone_within_a_second,
    tampering::is_undone
);

lab_test!(
    a_program_that_speaks_in_the_kernels_place_makes_up_no_hand,
    forged::names_nobody
);

lab_test!(
    what_was_proven_is_back_while_the_thread_that_loads_is_held_up,
    standby::stands_in
);

lab_test!(
    what_is_to_be_free_is_not_closed_by_what_stood_by_before,
    standby::does_not_stand_in_for_a_release
);

lab_test!(
    a_load_that_meets_what_stood_by_is_not_taken_for_refused,
    standby_race::keeps_every_layer
);

lab_test!(
    who_adds_to_our_tables_takes_no_count_away,
    standby_race::loses_no_count
);

lab_test!(
    a_release_that_meets_what_stood_by_is_no_failure,
    standby_race::lets_a_release_be_one
);

lab_test!(
    what_stood_by_for_a_while_prolongs_no_blocked_remote,
    standby_race::prolongs_nothing
);
