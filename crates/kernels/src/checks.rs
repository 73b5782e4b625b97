//! What is checked in each kernel: the words, and the project's own tests that show it.
//!
//! Out: the one list of checks. A test stands in one check only. Left out are tests that need what a guest has not: a C
//! compiler, a clock of its own (`faketime`), a Python environment; and those that measure this machine.

/// Test programs that checks are of, as cargo calls them.
pub(crate) const PROGRAMS: [&str; 7] = [
    "black_box",
    "library",
    "kernel",
    "ring",
    "filtered",
    "queue_seats",
    "super_frames",
];

/// Seconds of a check that has no tests.
const START: u64 = 60;
/// Seconds more for each test: most take five, some of several at once wait for each other.
const EACH: u64 = 30;

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Check {
    /// What holds.
    pub(crate) title: &'static str,
    /// The test program.
    pub(crate) program: &'static str,
    /// Its tests, by their full names; all of a program's when there is none.
    pub(crate) tests: &'static [&'static str],
}

impl Check {
    /// How long it may take on a machine of today.
    pub(crate) fn seconds(&self) -> u64 {
        // A program of which all is run has some ten.
        let tests = if self.tests.is_empty() {
            10
        } else {
            self.tests.len() as u64
        };
        START + EACH * tests
    }
}

/// Every one, in the order in which they are run: what all else needs comes first.
pub(crate) const CHECKS: &[Check] = &[
    Check {
        title: "whole loop: order, isolation that is proven, release",
        program: "black_box",
        tests: &[
            "orders::whole_loop::the_shadow_isolates_and_releases_on_lite",
            "orders::whole_loop::the_shadow_isolates_and_releases_on_classic",
            "orders::whole_loop::removing_the_key_releases_without_a_delta",
        ],
    },
    Check {
        title: "transactions and lists of the packet filter",
        program: "kernel",
        tests: &[],
    },
    Check {
        title: "what this suite's nft lists of ours",
        program: "library",
        tests: &["nft_oracle::a_long_list_of_hosts_is_declared_alike"],
    },
    Check {
        title: "packet ring",
        program: "ring",
        tests: &[],
    },
    Check {
        title: "packet ring: what its filter leaves out",
        program: "filtered",
        tests: &[],
    },
    Check {
        title: "packet ring: frames larger than a packet",
        program: "super_frames",
        tests: &[],
    },
    Check {
        title: "queues of AF_XDP are taken",
        program: "queue_seats",
        tests: &[],
    },
    Check {
        title: "who orders: operator, deployment, detector; mode observe",
        program: "black_box",
        tests: &[
            "orders::authorities::the_operator_isolates_releases_and_sets_an_end",
            "orders::authorities::an_authority_ends_only_its_own_order",
            "orders::authorities::the_override_ends_the_clouds_order_and_the_cloud_sees_it",
            "orders::authorities::a_deployment_isolates_and_releases",
            "orders::authorities::the_detector_isolates_without_the_cloud",
            "orders::authorities::mode_observe_cuts_nothing_and_says_so",
        ],
    },
    Check {
        title: "restrictions, allowances, blocked remotes and their ends",
        program: "black_box",
        tests: &[
            "orders::postures::a_restriction_cuts_what_it_names_and_nothing_else",
            "orders::postures::an_allowed_datagram_passes_in_pieces_too",
            "orders::postures::an_allowance_opens_one_port_to_one_remote",
            "layers::remotes::a_blocked_remote_ends_by_itself",
            "layers::remotes::a_delivery_changes_no_more_than_it_must",
            "holds::very_many_remotes_outlive_kills_and_are_never_lost_silently",
        ],
    },
    Check {
        title: "rate and quota",
        program: "black_box",
        tests: &[
            "layers::limits::what_the_owner_leads_elsewhere_is_bounded_as_what_leaves",
            "layers::limits::a_rate_bounds_what_leaves_and_spares_lifelines",
            "layers::limits::a_quota_ends_what_leaves_until_its_next_period",
            "layers::limits::nobody_hides_whose_stream_it_is_behind_another_place_in_a_restriction_that_only_limits",
        ],
    },
    Check {
        title: "lifelines live: names, time, leases, neighbours, ways",
        program: "black_box",
        tests: &[
            "orders::lifelines::the_control_channel_follows_its_name_while_isolated",
            "orders::lifelines::names_and_time_pass_to_the_configured_servers_only",
            "orders::lifelines::lifelines_live_where_others_keep_them_from_connection_tracking",
            "orders::lifelines::neighbours_are_found_anew_while_isolated",
            "orders::lifelines::leases_are_asked_for_and_renewed_while_isolated",
            "attacks::paths::a_lifelines_address_on_another_link_is_not_reached",
            "attacks::paths::a_lifeline_follows_its_route_while_isolated",
            "attacks::paths::a_mark_that_leads_by_another_uplink_cuts_no_lifeline",
            "attacks::paths::many_routers_untie_no_lifeline",
            "orders::tunnels::what_is_told_of_a_tunnel_helps",
        ],
    },
    Check {
        title: "sockets are closed",
        program: "black_box",
        tests: &[
            "orders::severed::isolation_closes_the_sockets_of_what_it_cuts",
            "orders::severed::a_restriction_closes_only_what_it_names",
            "orders::severed::sockets_of_the_nucleus_are_spared_even_when_it_is_cut",
            "orders::severed::sockets_of_a_protected_program_are_spared",
            "orders::severed::closed_sockets_count_for_every_live_order_that_cuts_them",
        ],
    },
    Check {
        title: "raw frames",
        program: "black_box",
        tests: &[
            "layers::raw::frames_past_the_ip_stack_do_not_leave",
            "layers::raw::what_must_pass_the_egress_passes_seldom",
            "layers::raw::a_restriction_cuts_frames_past_the_ip_stack_too",
            "layers::declared::frames_are_judged_by_their_bytes",
            "layers::declared::a_false_length_hides_no_port_from_a_restriction",
            "layers::declared::nothing_is_passed_on_in_the_devices_own_name",
            "layers::shares::what_passes_whatever_is_ordered_has_its_shape_and_size",
            "layers::shares::nobody_uses_up_the_share_of_another",
            "attacks::hand_made_packets_do_not_pass",
            "attacks::a_source_port_of_the_control_channel_opens_nothing",
        ],
    },
    Check {
        title: "bridged frames",
        program: "black_box",
        tests: &[
            "layers::bridges::bridged_frames_are_cut",
            "layers::bridges::a_restriction_cuts_bridged_frames_that_it_names",
            "layers::bridges::what_is_wrapped_for_a_tunnel_here_leaves_by_no_bridge",
            "layers::bridges::a_bridge_made_while_isolated_is_cut_within_a_second",
            "layers::counts::mode_observe_counts_a_bridged_frame_once",
        ],
    },
    Check {
        title: "interfaces that come, go and are renamed while isolated",
        program: "black_box",
        tests: &[
            "layers::links::an_interface_that_appears_is_cut_within_a_second",
            "layers::links::a_strange_name_breaks_nothing_and_is_told",
            "layers::links::more_interfaces_than_one_chain_takes_are_all_cut",
            "layers::bypasses::an_interface_that_is_moved_away_is_told",
            "layers::bypasses::a_renamed_interface_is_cut_within_a_second",
            "layers::apart::what_stands_on_our_interfaces_in_another_namespace_reaches_no_lifeline",
            "layers::apart::an_uplink_that_stands_on_another_interface_lives",
            "layers::unsent::what_stands_on_a_link_of_ours_takes_nothing_of_its_share",
        ],
    },
    Check {
        title: "uplinks: VLAN, macvlan, ipvlan, bond, bridge",
        program: "black_box",
        tests: &[
            "devices::a_vlan_as_uplink_lives_and_is_cut",
            "devices::a_macvlan_as_uplink_lives_and_is_cut",
            "devices::an_ipvlan_as_uplink_lives_and_is_cut",
            "devices::a_bond_as_uplink_lives_and_is_cut",
            "devices::a_bridge_as_uplink_lives_and_is_cut",
        ],
    },
    Check {
        title: "VRF, VXLAN, GRE, WireGuard, tun",
        program: "black_box",
        tests: &[
            "devices::a_member_of_a_vrf_is_cut",
            "devices::a_vxlan_as_uplink_lives_and_is_cut",
            "devices::a_gre_tunnel_is_cut",
            "devices::a_wireguard_tunnel_as_uplink_lives_and_is_cut",
            "devices::a_tun_as_uplink_lives_and_is_cut",
        ],
    },
    Check {
        title: "containers and neighbours on the link",
        program: "black_box",
        tests: &[
            "attacks::contained::a_container_on_the_uplink_says_nothing_false_of_the_device",
            "attacks::contained::a_container_on_the_uplink_ends_no_isolation",
            "attacks::contained::a_container_on_the_uplink_ends_no_restriction",
            "attacks::elsewhere::what_bridges_pass_on_says_nothing_false_of_the_device_in_isolation",
            "attacks::elsewhere::a_pair_of_interfaces_lets_no_container_speak_to_the_switch",
            "attacks::without_socket::a_container_that_is_told_the_numbers_of_a_stream_ends_no_isolation",
            "attacks::without_socket::a_container_on_the_uplink_sends_nothing_as_the_router",
            "attacks::claimed::a_tunnel_unwraps_nothing_that_is_sent_to_it_here",
            "attacks::claimed::packets_in_packets_do_not_go_round_inside",
            "attacks::silence::an_ordinary_users_flood_of_a_lifeline_silences_no_control_channel",
            "attacks::tracking::flows_of_before_the_order_silence_no_control_channel_of_an_isolated_device",
        ],
    },
    Check {
        title: "tampering is undone",
        program: "black_box",
        tests: &[
            "holds::every_edit_of_every_table_of_ours_is_undone_within_a_second",
            "holds::tables_of_others_stay_byte_for_byte",
            "holds::a_program_that_speaks_in_the_kernels_place_makes_up_no_hand",
            "holds::what_was_proven_is_back_while_the_thread_that_loads_is_held_up",
            "holds::who_adds_to_our_tables_takes_no_count_away",
            "attacks::other_tables_and_containers_open_nothing",
            "attacks::an_edit_that_keeps_our_comments_is_undone",
            "attacks::floods::a_flood_of_our_tables_is_replaced_and_told_with_its_maker",
            "layers::counts::what_was_counted_survives_the_loss_of_the_table",
        ],
    },
    Check {
        title: "kill -9 and restart",
        program: "black_box",
        tests: &[
            "device::crash::isolation_is_restored_before_the_cloud_is_there",
            "device::crash::a_new_nucleus_and_a_new_broker_do_not_open_the_device_on_lite",
            "device::crash::a_new_nucleus_and_a_new_broker_do_not_open_the_device_on_classic",
            "device::crash::an_orderly_stop_leaves_the_rules",
            "device::crash::a_second_agent_waits_until_the_first_one_ends",
            "device::takeover::a_stopped_agent_is_taken_over_and_the_device_obeys_again",
            "device::guard::a_broken_component_still_obeys_on_classic",
            "device::guard_succession::each_of_guard_and_stand_in_is_followed_by_another",
        ],
    },
    Check {
        title: "restore at boot",
        program: "black_box",
        tests: &[
            "device::boot::isolation_is_restored_before_the_network_even_if_greengrass_never_starts",
            "device::boot::the_agent_takes_over_from_restore_without_a_gap",
            "device::boot::restore_obeys_the_journal_and_nothing_else",
            "device::install::systemd_takes_the_unit_and_finds_no_loop",
        ],
    },
    Check {
        title: "freeze, thaw, kill",
        program: "black_box",
        tests: &[
            "orders::postures::a_frozen_process_runs_again_after_release",
            "orders::postures::a_killed_process_that_comes_back_is_killed_again",
            "device::frozen::a_damaged_journal_forgets_nobody",
            "device::frozen::uninstall_lets_everybody_go_whatever_the_journal_says",
            "device::frozen::the_mark_is_on_the_frozen_and_leaves_no_trace",
            "attacks::processes::whom_his_owner_had_stopped_stays_stopped_after_release",
            "attacks::stopped::who_is_held_by_his_cgroup_is_frozen_and_told_so",
            "attacks::meant::a_program_is_stopped_by_what_people_call_it",
            "attacks::waiting::who_waits_in_the_kernel_is_frozen_and_not_said_to_go_on",
            "attacks::waiting::who_waits_in_the_kernel_runs_again_after_the_release",
            "device::namespaces::a_release_from_another_pid_namespace_forgets_no_frozen_process",
            "device::namespaces::an_order_does_not_end_early_in_another_time_namespace",
        ],
    },
    Check {
        title: "attribution: whose traffic it is",
        program: "black_box",
        tests: &[
            "traffic_cli::traffic_is_shown_by_process_interface_remote_and_peer",
            "traffic_cli::connections_have_their_owner_state_and_bytes",
            "traffic_cli::a_hostile_program_name_reaches_no_terminal",
        ],
    },
    Check {
        title: "reports",
        program: "black_box",
        tests: &[
            "reports::content::many_connections_are_all_listed_on_classic",
            "reports::content::many_connections_fit_into_lites_limit_with_their_true_total",
            "reports::content::a_report_in_cbor_with_short_names_is_sent_and_its_answer_understood",
            "reports::outages::an_outage_of_three_intervals_is_told_in_the_next_report_once",
            "reports::outages::a_replaced_interface_neither_hides_nor_invents_traffic",
        ],
    },
    Check {
        title: "history",
        program: "black_box",
        tests: &[
            "device::history::the_history_tells_who_ordered_what_and_why",
            "device::history::a_changed_history_is_found_and_the_place_is_named",
            "device::history::a_kill_at_any_moment_leaves_a_history_that_verifies",
            "device::history::a_full_disk_does_not_stop_an_order_and_what_happened_is_recorded_later",
        ],
    },
    Check {
        title: "the way out, and uninstall",
        program: "black_box",
        tests: &[
            "orders::authorities::uninstall_leaves_nothing",
            "device::way_out::a_dead_agent_does_not_take_away_the_way_out",
            "device::way_out::a_stopped_agent_does_not_take_away_the_way_out",
            "device::stop::a_stop_takes_less_than_a_second",
            "device::frozen_disk::a_file_system_that_is_frozen_holds_no_order_up",
            "device::volatile::a_state_directory_in_memory_is_told_wherever_somebody_asks",
        ],
    },
    Check {
        title: "without nft, without a packet filter, without rights",
        program: "black_box",
        tests: &[
            "device::surroundings::without_nft_orders_are_carried_out_proven_and_put_back",
            "device::surroundings::without_a_packet_filter_nothing_is_claimed_and_with_it_the_order_is_carried_out",
            "device::surroundings::without_the_capability_it_is_named",
            "layers::refusals::a_layer_that_the_kernel_lacks_is_told",
            "layers::refusals::what_the_kernel_lacks_costs_no_more_than_itself",
        ],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_test_stands_in_one_check_of_a_program_that_is_built() {
        let mut seen = BTreeSet::new();
        for check in CHECKS {
            assert!(PROGRAMS.contains(&check.program), "{}", check.title);
            for test in check.tests {
                assert!(seen.insert((check.program, test)), "{test} stands in two checks");
            }
        }
    }

    fn sources(folder: &std::path::Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    #[test]
    fn every_test_is_one_that_there_is() {
        let mut text = String::new();
        sources(&xtask::workspace::root().join("tests"), &mut text);
        for test in CHECKS.iter().flat_map(|check| check.tests) {
            let name = test.rsplit("::").next().unwrap();
            let written = [
                format!("lab_test!({name},"),
                format!("    {name},\n"),
                format!("    {name}: "),
            ];
            assert!(written.iter().any(|written| text.contains(written)), "{test}");
        }
    }
}
