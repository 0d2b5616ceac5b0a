//! The position of one change in the store's history.

/// `main` counts committed changes of the store, `sub` the operations inside one transaction (contract D-1).
#[derive(Copy, Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision {
    /// Transaction counter; an empty store is at 1, the first write is 2 (KV-19).
    pub main: i64,
    /// Operation inside the transaction, from 0.
    pub sub: i64,
}

impl Revision {
    /// The revision `main`.`sub`.
    pub const fn new(main: i64, sub: i64) -> Self {
        Self { main, sub }
    }
}
