//! The command line of `cetera dev`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use cetera_server::flags::parse_duration;

/// `cetera dev --help`.
pub(super) const HELP: &str = "\
Usage: cetera dev [--members N] [--data-dir DIR] [--port PORT] [--binary PATH] [--for DURATION] [-- FLAG...]

Runs a cluster of N members on the loopback address and takes commands for it.

  --members N      how many members, 1 to 9 (default 3)
  --data-dir DIR   keep the members' data and logs in DIR, and go on with what is there; without it they lie in a
                   temporary directory that is removed at the end
  --port PORT      client port of the first member; its peer port is the next one, and each further member is 10 above
                   (default 2379, or free ports if one of these is taken; 0: free ports)
  --binary PATH    the server to run: any program with etcd's flags (default: this program)
  --for DURATION   end after this time, as 90s or 1h30m
  -- FLAG...       the rest goes to every member

Commands are read from standard input, one a line; `help` lists them. The end of the input ends the cluster if it came
from a terminal; otherwise the cluster runs until a signal, `quit` or --for ends it. The exit code is 0 after an orderly
end, and 1 if the cluster did not start or, without a terminal, if a command failed or a member ended by itself.
";

/// Members at most.
const MAX_MEMBERS: usize = 9;

/// A cluster as it was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Options {
    /// How many members; None: as many as the directory has, or three.
    pub(super) members: Option<usize>,
    /// Where to keep them.
    pub(super) data_dir: Option<PathBuf>,
    /// The first client port. 0: free ports. None: the usual ones if they are free.
    pub(super) port: Option<u16>,
    /// The server to run in place of this program.
    pub(super) binary: Option<PathBuf>,
    /// When to end.
    pub(super) lifetime: Option<Duration>,
    /// Flags for every member.
    pub(super) flags: Vec<OsString>,
}

/// What was asked for.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    Help,
    Cluster(Options),
}

/// Reads it.
pub(super) fn read(args: Vec<OsString>) -> Result<Wanted, String> {
    let mut options =
        Options { members: None, data_dir: None, port: None, binary: None, lifetime: None, flags: Vec::new() };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let arg = arg.into_string().map_err(|arg| format!("{arg:?} is not UTF-8"))?;
        if arg == "--" {
            options.flags = args.collect();
            break;
        }
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (arg.as_str(), None),
        };
        if matches!(name, "-h" | "--help" | "help") {
            return Ok(Wanted::Help);
        }
        if !["--members", "--data-dir", "--port", "--binary", "--for"].contains(&name) {
            return Err(format!("unknown argument {arg:?}"));
        }
        let value = inline.or_else(|| args.next()).ok_or_else(|| format!("{name} needs a value"))?;
        let text = value.to_string_lossy();
        let unfit = |what: &str| format!("{name}: {text:?} is not {what}");
        match name {
            "--members" => {
                let count = text.parse().ok().filter(|count| (1..=MAX_MEMBERS).contains(count));
                options.members = Some(count.ok_or_else(|| unfit("a number from 1 to 9"))?);
            }
            "--port" => options.port = Some(text.parse().map_err(|_| unfit("a port"))?),
            "--for" => options.lifetime = Some(parse_duration(&text).ok_or_else(|| unfit("a duration, as 90s"))?),
            "--data-dir" => options.data_dir = Some(value.into()),
            _ => options.binary = Some(value.into()),
        }
    }
    Ok(Wanted::Cluster(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(args: &[&str]) -> Result<Wanted, String> {
        read(args.iter().map(OsString::from).collect())
    }

    #[test]
    fn arguments() {
        let Wanted::Cluster(options) =
            given(&["--members", "5", "--for=1m30s", "--port=0", "--", "--log-level", "warn"]).unwrap()
        else {
            panic!("no help was asked for");
        };
        assert_eq!((options.members, options.port), (Some(5), Some(0)));
        assert_eq!(options.lifetime, Some(Duration::from_secs(90)));
        assert_eq!(options.flags, ["--log-level", "warn"]);
        assert_eq!(given(&["--members", "3", "--help"]), Ok(Wanted::Help));
        for (args, part) in [
            (&["--members", "0"][..], "1 to 9"),
            (&["--members", "10"], "1 to 9"),
            (&["--members"], "needs a value"),
            (&["--port", "70000"], "a port"),
            (&["--for", "soon"], "a duration"),
            (&["3"], "unknown"),
        ] {
            assert!(given(args).unwrap_err().contains(part), "{args:?}");
        }
    }
}
