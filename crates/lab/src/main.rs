//! `edgewarden-lab`: the lab's programs, one subcommand each.
fn main() {}
