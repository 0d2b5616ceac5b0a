//! The limit of open files. Every segment of the revision log holds a descriptor, every connection another.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for everything but connections (`reservedInternalFDNum`); with no more than these a member cannot
/// serve (H-17).
pub const RESERVED: u64 = 150;

/// Raises this process's soft limit to its hard limit. Returns the limit then in force, in descriptors; `u64::MAX` is
/// no limit.
///
/// # Errors
/// One line, if the limit is too low to serve.
pub fn raise() -> Result<u64, String> {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => before.maximum,
        // Then as many as there are.
        Err(_) => before.current,
    };
    match current.unwrap_or(u64::MAX) {
        limit if limit <= RESERVED => Err(format!(
            "the limit of open files is {limit}, and {RESERVED} are needed before the first client is served; raise it"
        )),
        limit => Ok(limit),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = super::raise().expect("tests may open more than a few files");
        let now = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(limit, now.maximum.unwrap_or(u64::MAX));
    }
}
