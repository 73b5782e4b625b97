//! Processes, as enforcement asks for them ([`hands`]): the table of them and signals to the right one
//! ([`process_table`]), who holds which socket ([`procfs`], from their [`descriptors`]), and how eagerly our own threads
//! run ([`pace`]).

mod descriptors;
pub(crate) mod hands;
pub(crate) mod pace;
pub(crate) mod process_table;
pub(crate) mod procfs;
