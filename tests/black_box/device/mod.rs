//! The device around the agent: it boots, is installed, crashes, fills up, and lacks what the agent needs.

mod boot;
mod chaos;
mod cheap_questions;
mod crash;
mod foreign_files;
mod frozen;
mod frozen_disk;
mod guard;
mod guard_succession;
mod history;
mod hostile_log;
mod hostile_nft;
mod install;
mod release_without_nucleus;
mod root_copy;
mod slow_disk;
mod stop;
mod surroundings;
mod takeover;
mod watchdog;
mod way_out;
mod way_out_crowd;
mod way_out_others;
mod way_out_places;
mod way_out_second;
mod way_out_told;
