//! Judges a history that was kept: `check FILE`. Ends with 1 if a promise was broken, 2 if there is no such history.

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;

use cetera_check::{check, load};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: check FILE");
        return ExitCode::from(2);
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::from(2);
        }
    };
    let (history, limits) = match load(&mut BufReader::new(file)) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::from(2);
        }
    };
    match check(&history, &limits) {
        Ok(summary) => {
            println!("{summary:?}");
            ExitCode::SUCCESS
        }
        Err(violations) => {
            for violation in &violations {
                println!("{violation}\n");
            }
            println!("{} violations", violations.len());
            ExitCode::FAILURE
        }
    }
}
