//! A short sweep of crash seeds, and the controls that prove the sweep can fail.

use cetera_sim::crash;
use cetera_sim::member::Plant;

#[test]
fn nothing_acknowledged_is_lost() {
    let sum = crash::sweep(1_000_000, 300, Plant::None, &mut |_, _| {});
    let sum = sum.unwrap_or_else(|(seed, what)| panic!("seed {seed}: {what}"));
    assert!(sum.acknowledged > 1_000 && sum.from_checkpoint > 50, "{sum:?}");
}

#[test]
fn a_member_that_acknowledges_before_the_sync_is_caught() {
    assert!(crash::sweep(0, 50, Plant::AckBeforeSync, &mut |_, _| {}).is_err());
}

#[test]
fn a_member_that_never_syncs_is_caught() {
    assert!(crash::sweep(0, 50, Plant::NoSync, &mut |_, _| {}).is_err());
}
