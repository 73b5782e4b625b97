//! Processes: the table of them and signals to the right one ([`process_table`]), who holds which socket ([`procfs`]),
//! and how eagerly our own threads run ([`pace`]).

pub mod pace;
pub mod process_table;
pub mod procfs;
