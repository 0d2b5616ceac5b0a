//! Real server processes under load and faults, and what their clients saw, judged by the checkers.
//!
//! A run is a row of rounds. Each starts new members on new data, lets clients and a nemesis loose on them, heals
//! everything, kills and starts the members once more, watches the whole history again, and hands the
//! [`cetera_check::history::History`] of all that to the checkers. The seed picks every choice made here; what the
//! machine makes of it differs from run to run.
//!
//! Servers are programs with etcd's flags: ours, or any other. Where the system lets it, a run has network and mount
//! namespaces of its own, which are gone with its process; nothing it does reaches the rest of the machine.

pub mod cluster;
pub mod conn;
pub mod disk;
pub mod ending;
pub mod kind;
pub mod links;
pub mod load;
pub mod member;
pub mod nemesis;
pub mod proxy;
pub mod record;
pub mod round;
pub mod run;
pub mod state;
pub mod world;
