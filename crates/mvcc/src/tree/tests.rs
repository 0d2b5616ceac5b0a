//! The tree against a `BTreeMap`, entries against etcd's key index told anew, and the memory of both.

mod entries;
mod model;
