//! Groups of three and five whole members: what the rules of consensus come to.

mod catch_up;
mod changes;
mod failure;
mod forward;
mod harness;
mod leases;
mod transfer;
