//! Processes, as enforcement asks for them ([`hands`]): the table of them and signals to the right one
//! ([`process_table`]), those that we stopped ([`frozen`]), who holds which socket ([`procfs`], from their [`descriptors`]),
//! the end of one as an event ([`exits`]), and how often what others can drive is done ([`pace`]).

mod descriptors;
pub(crate) mod exits;
pub(crate) mod frozen;
pub(crate) mod hands;
pub(crate) mod pace;
pub(crate) mod process_table;
pub(crate) mod procfs;
