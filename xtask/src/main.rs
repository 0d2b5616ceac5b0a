//! Every chore of the project: `cargo xtask help`.

mod check;
mod fuzz;
mod shell;
mod test;

use std::process::ExitCode;

use shell::Result;

const HELP: &str = "\
cargo xtask COMMAND

  check                 formatting, lints, and that the pure crates stay pure
  test [--all]          check, every test, recorded scripts, a short crash run, the Go clients;
                        --all: an error if any of it cannot run here
  parity [ARGS]         recorded scripts against a server (ARGS go to cetera-parity; default: check our server)
  crash --rounds N      kill -9 under load, N times, and look at what came back
  chaos [--minutes N] [--members N]
                        one, three or five servers under kills, pauses, partitions, bad disks and clocks, and what their
                        clients saw, judged (--binary PATH: any program with etcd's flags)
  seeds --count N       crash seeds in memory
  plants                every planted bug, until the simulator finds it; writes docs/internals/planted-bugs.md
                        (--bug NAME, --limit SEEDS: no file)
  sim --seed N          a whole cluster and its clients from one seed (--members, --trace, --twice, --shrink, ...)
  soak --minutes M      as many seeds of 1, 3 and 5 members as fit; evidence adds up in target/sim-evidence.jsonl
  bench --peer PATH     side by side with another etcd-compatible server; with --cluster three members of each
  gate [--gib N]        the store under N GiB of live data
  fuzz [TARGET]... [--seconds N] [--jobs N] [--deep] [--keep]
                        fuzz targets, N seconds each (60); --keep adds what was new to fuzz/corpus
";

fn main() -> ExitCode {
    if let Some(code) = fuzz::as_rustc() {
        return code;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let result = match command {
        "check" => check::run(),
        "test" => test::run(rest),
        "parity" => parity(rest),
        "crash" => bench("crash", rest),
        "chaos" => chaos(rest),
        "plants" => plants(rest),
        "bench" => match rest.iter().position(|arg| arg == "--cluster") {
            Some(n) => bench("cluster", &[&rest[..n], &rest[n + 1..]].concat()),
            None => bench("compare", rest),
        },
        "gate" => bench("gate", rest),
        "fuzz" => fuzz::run(rest),
        "seeds" => shell::cargo(&["run", "--release", "--quiet", "-p", "cetera-sim", "--bin", "seeds", "--"], rest),
        "sim" => sim(rest),
        "soak" => soak(rest),
        "help" | "--help" | "-h" => {
            shell::say(HELP);
            Ok(())
        }
        other => Err(format!("unknown command {other:?}; try `cargo xtask help`")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("xtask: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn parity(rest: &[String]) -> Result {
    let default = ["check".to_owned(), "--server".to_owned(), shell::server()?];
    let args = if rest.is_empty() { &default[..] } else { rest };
    shell::cargo(&["run", "--release", "--quiet", "-p", "cetera-parity", "--"], args)
}

fn chaos(rest: &[String]) -> Result {
    let server = ["build", "--release", "--quiet", "--locked", "-p", "cetera", "--features", "fault-hooks"];
    shell::cargo(&[&server[..], &["--bin", "cetera-faults"]].concat(), &[])?;
    shell::cargo(&["run", "--release", "--quiet", "--locked", "-p", "cetera-chaos", "--"], rest)
}

fn plants(rest: &[String]) -> Result {
    let table = ["--markdown".to_owned(), "docs/internals/planted-bugs.md".to_owned()];
    shell::cargo(&test::PLANTS, if rest.is_empty() { &table } else { rest })
}

fn soak(rest: &[String]) -> Result {
    if rest.iter().any(|arg| arg == "--minutes") {
        return sim(rest);
    }
    Err("soak wants --minutes M".to_owned())
}

/// A build of its own kind: as fast as a release, with assertions, and a panic is a finding.
fn sim(rest: &[String]) -> Result {
    shell::cargo(&SIM, rest)
}

/// The simulator's program.
const SIM: [&str; 10] = ["run", "--profile", "sim", "--quiet", "--locked", "-p", "cetera-sim", "--bin", "sim", "--"];

fn bench(program: &str, rest: &[String]) -> Result {
    shell::server()?;
    shell::cargo(&["run", "--release", "--quiet", "-p", "cetera-bench", "--bin", program, "--"], rest)
}
