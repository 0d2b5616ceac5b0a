//! Runs against a whole server: the crash run, the side-by-side comparisons of one
//! member and of three, the store's gate.
//!
//! Starts servers as processes of their own, loads them over loopback and looks at what came back, at their processor
//! time and memory, and at the files they leave. Never looks inside the server: everything here also runs against etcd.

pub mod args;
pub mod cluster;
pub mod compare;
pub mod crash;
pub mod files;
pub mod gate;
pub mod load;
pub mod machine;
pub mod process;
pub mod rng;
pub mod serving;
pub mod side_by_side;
