//! How a command ends that does not end well (contract T-4, T-5).

use cetera_client::Error;
use cetera_client::concurrency::RecipeError;
use std::fmt::Display;
use std::io;

/// An exit code, and what stderr says after `Error: `.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) text: Option<String>,
}

pub(crate) const ERROR: i32 = 1;
pub(crate) const BAD_CONNECTION: i32 = 2;
/// For `txn` and `watch`.
pub(crate) const INVALID_INPUT: i32 = 3;
/// A valid flag with an unsupported value.
pub(crate) const BAD_FEATURE: i32 = 4;
pub(crate) const INTERRUPTED: i32 = 5;
pub(crate) const BAD_ARGS: i32 = 128;

impl Exit {
    pub(crate) fn new(code: i32, text: impl Display) -> Exit {
        Exit { code, text: Some(text.to_string()) }
    }

    pub(crate) fn error(text: impl Display) -> Exit {
        Exit::new(ERROR, text)
    }

    pub(crate) fn bad_args(text: impl Display) -> Exit {
        Exit::new(BAD_ARGS, text)
    }

    /// All is said already.
    pub(crate) fn silent(code: i32) -> Exit {
        Exit { code, text: None }
    }
}

impl From<Error> for Exit {
    fn from(error: Error) -> Exit {
        Exit::error(error)
    }
}

impl From<RecipeError> for Exit {
    fn from(error: RecipeError) -> Exit {
        Exit::error(error)
    }
}

impl From<io::Error> for Exit {
    fn from(error: io::Error) -> Exit {
        Exit::error(error)
    }
}
