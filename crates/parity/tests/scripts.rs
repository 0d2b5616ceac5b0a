//! The scripts in the repository are complete: recorded, and every row of the contract that a
//! client of one member can see is named by one of them.

use cetera_parity::collect_scripts;
use cetera_parity::script::Script;
use std::collections::BTreeSet;
use std::path::Path;

fn scripts() -> Vec<Script> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testscripts");
    let families = ["kv", "txn", "watch", "lease", "maintenance"].map(|family| root.join(family));
    let paths = collect_scripts(&families).expect("the directories are there");
    paths.iter().map(|path| Script::load(path).expect("it parses")).collect()
}

#[test]
fn every_script_is_recorded_and_says_what_it_covers() {
    for script in scripts() {
        let name = script.path.display();
        assert!(!script.rows.is_empty(), "{name}: no `# rows:` line");
        assert!(script.blocks[0].source.starts_with('#'), "{name}: no word on what it shows");
        for block in &script.blocks {
            assert!(!block.output.is_empty(), "{name}: not recorded: {}", block.source);
        }
        let text = std::fs::read_to_string(&script.path).expect("read before");
        assert_eq!(script.recorded(), text, "{name}: not in the form the recorder writes");
    }
}

#[test]
fn every_row_is_covered() {
    let covered: BTreeSet<_> = scripts().into_iter().flat_map(|script| script.rows).collect();
    // Not here: permissions (W-7) have their own family; the rest needs more than one member
    // (W-20, W-21, L-6, L-12), or a feature that is off (L-13).
    let row = |family: &str, count: u32, not: &[u32]| -> Vec<String> {
        (1..=count).filter(|n| !not.contains(n)).map(|n| format!("{family}-{n}")).collect()
    };
    let wanted = [
        row("KV", 20, &[]),
        row("TX", 13, &[]),
        row("W", 21, &[7, 20, 21]),
        row("L", 15, &[6, 12, 13]),
        ["G-1", "G-2", "G-3", "G-7", "G-11", "G-14"].map(str::to_owned).to_vec(),
        ["M-1", "M-2", "M-3", "M-5"].map(str::to_owned).to_vec(),
    ];
    let missing: Vec<_> = wanted.iter().flatten().filter(|row| !covered.contains(*row)).collect();
    assert!(missing.is_empty(), "no script names {missing:?}");
}
