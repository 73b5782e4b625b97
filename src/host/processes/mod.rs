//! Processes, as enforcement asks for them ([`hands`]): the table of them ([`process_table`]), signals to the right one ([`signals`], through a hold on it: [`pinned`]), what one does ([`doing`]), those that we stopped ([`frozen`], [`unmarked`] where they carry no mark, who stops with them: [`above`], and whom a debugger holds: [`debugged`]) and that start others faster ([`chase`]), who holds which socket ([`procfs`], from their [`descriptors`]),
//! by which paths a program is meant ([`programs`]), where they lead ([`look_ups`], [`files`]) and whose a process is ([`owners`]), what tells the nucleus again ([`nucleus`]), the end of one as an event ([`exits`]), and how often what others can drive is done ([`pace`]).

pub(crate) mod above;
pub(crate) mod chase;
mod debugged;
mod descriptors;
pub(crate) mod doing;
pub(crate) mod exits;
mod files;
pub(crate) mod frozen;
pub(crate) mod hands;
mod look_ups;
mod nucleus;
mod owners;
pub(crate) mod pace;
pub(crate) mod pinned;
pub(crate) mod process_table;
pub(crate) mod procfs;
pub(crate) mod programs;
pub(crate) mod signals;
pub(crate) mod unmarked;
