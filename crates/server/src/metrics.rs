//! Numbers about this process: written without locks by the threads they belong to, summed up when somebody asks.

mod front;

pub use front::FrontCounters;
