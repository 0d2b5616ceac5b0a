//! `cargo xtask fuzz`: libFuzzer on stable Rust.
//!
//! Coverage comes from LLVM's own instrumentation, which rustc passes on ([`FLAGS`]); libFuzzer itself is C++, compiled
//! by `libfuzzer-sys`. Only the crates of the workspace are instrumented: cargo calls this very program in rustc's place
//! for them (`RUSTC_WORKSPACE_WRAPPER`), and everything they depend on is what the tests have built already. With
//! `--deep` the dependencies are instrumented too, in a build of their own.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::shell::{self, Result, root, say};

/// What makes rustc count edges and show comparisons to libFuzzer.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// Set when cargo calls this program in rustc's place.
const AS_RUSTC: &str = "CETERA_FUZZ_RUSTC";
/// Seconds for each target unless told otherwise.
const SECONDS: u64 = 60;
/// Seconds for all targets together in the test command.
const TEST_SECONDS: u64 = 32;
/// An input that takes longer hangs, in seconds.
const INPUT_SECONDS_MAX: u64 = 10;
/// Resident memory of a run, in MiB.
const MEMORY_MIB_MAX: u64 = 1_500;

/// What is asked for.
struct Options {
    targets: Vec<String>,
    seconds: u64,
    deep: bool,
    keep: bool,
    jobs: usize,
}

/// Runs as rustc, if cargo called this program as that.
pub(crate) fn as_rustc() -> Option<ExitCode> {
    std::env::var_os(AS_RUSTC)?;
    let mut args = std::env::args_os().skip(1);
    let rustc = args.next()?;
    let args: Vec<_> = args.collect();
    let krate = args.iter().position(|arg| arg == "--crate-name").and_then(|at| args.get(at + 1));
    // Build scripts run here and now, without an engine.
    let ours = krate.is_some_and(|name| name != "___" && !name.to_string_lossy().starts_with("build_script_"));
    let mut command = Command::new(rustc);
    command.args(args).args(if ours { FLAGS } else { &[] });
    say(&format!("xtask: rustc does not start: {}\n", command.exec()));
    Some(ExitCode::FAILURE)
}

/// The command.
pub(crate) fn run(args: &[String]) -> Result {
    let options = parse(args)?;
    let program = build(options.deep)?;
    report(&program, &options)
}

/// A short run of every target, for the test command. Ok(false): there is no C++ compiler.
pub(crate) fn short() -> Result<bool> {
    if !has_compiler() {
        return Ok(false);
    }
    let program = build(false)?;
    let targets = names()?;
    let seconds = (TEST_SECONDS / targets.len() as u64).max(1);
    let jobs = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    // What it finds in so short a time is found again by the next long run; the corpus stays as it is.
    report(&program, &Options { targets, seconds: seconds * jobs as u64, deep: false, keep: false, jobs })?;
    Ok(true)
}

fn parse(args: &[String]) -> Result<Options> {
    let known = names()?;
    let jobs = 1;
    let mut options = Options { targets: Vec::new(), seconds: SECONDS, deep: false, keep: false, jobs };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let number = |text: Option<&String>| {
            text.and_then(|text| text.parse().ok()).ok_or_else(|| format!("{arg} wants a number"))
        };
        match arg.as_str() {
            "--seconds" => options.seconds = number(args.next())?,
            "--jobs" => options.jobs = number(args.next())?.max(1) as usize,
            "--deep" => options.deep = true,
            "--keep" => options.keep = true,
            name if known.iter().any(|known| known == name) => options.targets.push(name.to_owned()),
            other => return Err(format!("no target is called {other:?}; there are {}", known.join(", "))),
        }
    }
    if options.targets.is_empty() {
        options.targets = known;
    }
    Ok(options)
}

/// The targets are the folders of the corpus.
fn names() -> Result<Vec<String>> {
    let corpus = root().join("fuzz/corpus");
    let entries = std::fs::read_dir(&corpus).map_err(|error| format!("{}: {error}", corpus.display()))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Whether libFuzzer can be compiled here.
pub(crate) fn has_compiler() -> bool {
    std::env::var_os("CXX").is_some() || ["c++", "g++", "clang++"].iter().any(|name| shell::has(name, "--version"))
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Builds the fuzz program; where it is.
fn build(deep: bool) -> Result<PathBuf> {
    if !has_compiler() {
        return Err("libFuzzer is C++: install a C++ compiler (g++ or clang++), or name one in CXX".to_owned());
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["build", "--locked", "--quiet", "--bin", "fuzz"]);
    if deep {
        let dir = target_dir().join("fuzz-deep");
        // A triple of its own keeps the flags off build scripts.
        let host = host()?;
        cargo.args(["-p", "cetera-fuzz", "--features", "libfuzzer", "--target", &host, "--target-dir"]).arg(&dir);
        cargo.env("RUSTFLAGS", FLAGS.join(" "));
        shell::run(&mut cargo)?;
        return Ok(dir.join(host).join("debug/fuzz"));
    }
    let wrapper = std::env::current_exe().map_err(|error| error.to_string())?;
    // The whole workspace, so that dependencies have the features that the tests built them with.
    cargo.args(["--workspace", "--features", "cetera-fuzz/libfuzzer"]);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", wrapper).env(AS_RUSTC, "1");
    shell::run(&mut cargo)?;
    Ok(target_dir().join("debug/fuzz"))
}

fn host() -> Result<String> {
    let text = shell::output(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not tell its host".to_owned())
}

/// What one run came to.
#[derive(Default)]
struct Outcome {
    executions: u64,
    edges: u64,
    features: u64,
    inputs: u64,
    peak_mib: u64,
    finding: Option<String>,
}

fn report(program: &Path, options: &Options) -> Result {
    let begun = Instant::now();
    let mut findings = Vec::new();
    say("target          runs      /s   edges  features  corpus     MiB\n");
    for chunk in options.targets.chunks(options.jobs) {
        let running: Vec<_> = chunk.iter().map(|name| (name, start(program, name, options))).collect();
        for (name, child) in running {
            let outcome = wait(name, child?)?;
            let rate = outcome.executions / options.seconds.max(1);
            say(&format!(
                "{name:<12} {:>8} {rate:>7} {:>7} {:>9} {:>7} {:>7}\n",
                outcome.executions, outcome.edges, outcome.features, outcome.inputs, outcome.peak_mib
            ));
            findings.extend(outcome.finding.map(|text| format!("{name}: {text}")));
        }
    }
    let took: Duration = begun.elapsed();
    say(&format!("fuzz: {} targets, {} s, {} findings\n", options.targets.len(), took.as_secs(), findings.len()));
    if options.keep && findings.is_empty() {
        options.targets.iter().try_for_each(|name| minimise(program, name))?;
    }
    if findings.is_empty() { Ok(()) } else { Err(findings.join("\n")) }
}

/// Where a run works: its own corpus, grown from the committed one, and what it finds.
fn work_dir(name: &str) -> PathBuf {
    target_dir().join("fuzz").join(name)
}

fn start(program: &Path, name: &str, options: &Options) -> Result<std::process::Child> {
    let work = work_dir(name);
    let corpus = work.join("corpus");
    std::fs::create_dir_all(&corpus).map_err(|error| format!("{}: {error}", corpus.display()))?;
    let log = std::fs::File::create(work.join("log")).map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command
        .env("CETERA_FUZZ_TARGET", name)
        .env("RUST_BACKTRACE", "1")
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg(format!("-artifact_prefix={}/", work.display()))
        .args(["-print_final_stats=1", "-use_value_profile=1", "-len_control=50"])
        .arg(&corpus)
        .arg(root().join("fuzz/corpus").join(name))
        .arg(root().join("fuzz/findings").join(name).display().to_string())
        .stdout(Stdio::null())
        .stderr(log);
    std::fs::create_dir_all(root().join("fuzz/findings").join(name)).map_err(|error| error.to_string())?;
    command.spawn().map_err(|error| format!("{}: {error}", program.display()))
}

fn wait(name: &str, mut child: std::process::Child) -> Result<Outcome> {
    let status = child.wait().map_err(|error| error.to_string())?;
    let log = work_dir(name).join("log");
    let text = std::fs::read(&log).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&text);
    let mut outcome = Outcome::default();
    for line in text.lines() {
        // `#123 NEW cov: 45 ft: 67 corp: 8/9b ...`, and at the end `stat::number_of_executed_units: 123`.
        let mut words = line.split_ascii_whitespace();
        while let Some(word) = words.next() {
            let slot = match word {
                "cov:" => &mut outcome.edges,
                "ft:" => &mut outcome.features,
                "corp:" => &mut outcome.inputs,
                "stat::number_of_executed_units:" => &mut outcome.executions,
                "stat::peak_rss_mb:" => &mut outcome.peak_mib,
                _ => continue,
            };
            let number = words.next().and_then(|text| text.split('/').next()).and_then(|text| text.parse().ok());
            *slot = number.unwrap_or(*slot);
        }
    }
    if !status.success() {
        let panicked = text.lines().position(|line| line.contains("panicked at"));
        let lines: Vec<&str> = text.lines().collect();
        let what = match panicked {
            Some(at) => lines[at..(at + 3).min(lines.len())].join(" "),
            None => lines.iter().rev().find(|line| line.starts_with("SUMMARY")).unwrap_or(&"it ended").to_string(),
        };
        let input = lines.iter().find_map(|line| line.split("Test unit written to ").nth(1)).unwrap_or("no input");
        outcome.finding = Some(format!("{what}\n  input {input}, all of it in {}", log.display()));
    }
    Ok(outcome)
}

/// Takes the smallest inputs that reach all that the run reached into the committed corpus.
fn minimise(program: &Path, name: &str) -> Result {
    let (from, to) = (work_dir(name).join("corpus"), root().join("fuzz/corpus").join(name));
    let status = Command::new(program)
        .env("CETERA_FUZZ_TARGET", name)
        .args(["-merge=1", "-max_len=1024"])
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .args([&to, &from])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("{name}: the corpus was not minimised: {status}")) }
}
