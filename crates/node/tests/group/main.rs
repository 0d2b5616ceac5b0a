//! Groups of three and five whole members: what the rules of consensus come to.

mod catch_up;
mod changes;
mod failover;
mod failure;
mod forward;
mod harness;
mod lease_ask;
mod leases;
mod report;
mod snapshot;
mod space;
mod transfer;
