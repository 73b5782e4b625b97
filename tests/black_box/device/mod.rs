//! The device around the agent: it boots, is installed, crashes, fills up, and lacks what the agent needs.

mod boot;
mod cheap_questions;
mod crash;
mod foreign_files;
mod history;
mod install;
mod slow_disk;
mod surroundings;
