//! HashKV against values recorded from a real etcd (testdata/hashkv-*.txt).

use std::sync::Arc;

use super::{empty_store, finish_compaction, write};
use crate::{HashKv, MvccError, Store, WriteTxn};

/// When the background pass runs, and how far: the answers must not depend on it.
#[derive(Copy, Clone, PartialEq)]
enum Pass {
    Never,
    OneRecord,
    Whole,
}

fn operation(txn: &mut WriteTxn<'_>, words: &[&str]) {
    let text = |word: &str| if word == "-" { String::new() } else { word.to_owned() };
    match words {
        ["put", key, value, lease] => {
            txn.put(key.as_bytes(), text(value).as_bytes(), lease.parse().unwrap());
        }
        ["del", key, end] => {
            txn.delete_range(key.as_bytes(), text(end).as_bytes(), &mut |_, _| {});
        }
        other => panic!("no operation: {other:?}"),
    }
}

fn answer(result: Result<HashKv, MvccError>) -> String {
    match result {
        Ok(hash) => format!("{} {}", hash.hash, hash.compact_revision),
        Err(error) => error.to_string().rsplit(' ').next().unwrap().to_owned(),
    }
}

/// Runs a recorded history; returns how many hashes were compared.
fn replay(script: &str, pass: Pass) -> usize {
    let mut store: Store = empty_store(4096);
    let mut compared = 0;
    for (number, line) in script.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let (command, want) = line.split_once(" -> ").unwrap_or((line, ""));
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["hash", revision] => {
                let revision = revision.parse().unwrap();
                let hash = store.view().unwrap().hash_kv(revision);
                if let (Ok(hash), true) = (&hash, revision > 0) {
                    assert_eq!(hash.hash_revision, revision);
                }
                assert_eq!(answer(hash), want, "line {}: {command}", number + 1);
                compared += 1;
            }
            ["compact", revision] => {
                let got = match store.compact_hashed(revision.parse().unwrap()) {
                    Ok(hash) => {
                        if pass == Pass::Whole {
                            finish_compaction(&mut store, 7);
                        }
                        store.remember_hash(hash.run().unwrap());
                        "ok".to_owned()
                    }
                    Err(error) => answer(Err(error)),
                };
                assert_eq!(got, want, "line {}: {command}", number + 1);
            }
            // The hashes of past compactions are in etcd's memory only.
            ["restart"] => store.hashes = Arc::default(),
            _ => {
                write(&mut store, |txn| {
                    command.split(" ; ").for_each(|one| operation(txn, &one.split(' ').collect::<Vec<_>>()));
                });
            }
        }
        if pass == Pass::OneRecord {
            store.compaction_step(1).unwrap();
        }
    }
    compared
}

#[test]
fn hashes_are_those_of_a_real_etcd_however_far_the_pass_is() {
    for pass in [Pass::Never, Pass::OneRecord, Pass::Whole] {
        assert!(replay(include_str!("../../testdata/hashkv-scripted.txt"), pass) > 60);
        assert!(replay(include_str!("../../testdata/hashkv-random.txt"), pass) > 200);
    }
}
