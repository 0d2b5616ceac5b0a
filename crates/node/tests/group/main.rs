//! Groups of three and five whole members: what the rules of consensus come to.

mod catch_up;
mod forward;
mod harness;
