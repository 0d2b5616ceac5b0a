use std::collections::BTreeMap;

use cetera_check::history::{Outcome, Request};
use cetera_check::keys::{self, fencing_revision};
use cetera_proto::{etcdserverpb as pb, mvccpb};

use super::line::SECOND;
use super::*;
use fake::{Fake, Seen};

mod fake;

/// Runs clients for a minute, with faults, and lets them come to rest.
fn run(seed: u64, faults: u64, mut clients: Vec<Box<dyn Client>>) -> Seen {
    let mut fake = Fake::new(seed, faults);
    assert!(fake.run(&mut clients, 60 * SECOND, 120 * SECOND), "seed {seed}");
    fake.seen
}

fn answered(seen: &Seen) -> usize {
    seen.calls.iter().filter(|(_, _, outcome)| !matches!(outcome, Outcome::Unknown(_))).count()
}

/// The fencing revisions of what a mutex, an election or a scheduler's lock protects never go back.
fn fenced_writes(events: &[mvccpb::Event]) -> usize {
    let mut highest: BTreeMap<bytes::Bytes, i64> = BTreeMap::new();
    let mut writes = 0;
    for kv in events.iter().filter_map(|event| event.kv.as_ref()) {
        if [keys::RESOURCE, keys::TERM, keys::CRON_JOBS].iter().any(|prefix| kv.key.starts_with(prefix)) {
            let fence = fencing_revision(&kv.value).expect("what is protected says by whom");
            let before = highest.insert(kv.key.clone(), fence).unwrap_or(0);
            assert!(before <= fence && fence < kv.mod_revision, "{kv:?}");
            writes += 1;
        }
    }
    writes
}

#[test]
fn every_mix_gets_on_and_comes_to_rest() {
    for seed in 0..24 {
        let faults = [0, 5, 40][seed as usize % 3];
        let clients = swarm(seed, &Options { members: 3, ..Options::default() });
        assert!(clients.len() >= 3 && clients[0].name() == "observer-0" && clients[1].name() == "kv-1");
        let seen = run(seed, faults, clients);
        assert!(answered(&seen) >= 500, "seed {seed}: {} calls", answered(&seen));
        assert!(seen.calls.len() <= 20_000, "seed {seed}: {} calls: somebody spins", seen.calls.len());
        assert!(seen.events.len() >= 100, "seed {seed}: {} changes", seen.events.len());
        fenced_writes(&seen.events);
    }
}

#[test]
fn the_same_seed_makes_the_same_run() {
    let calls = |seed| {
        let clients = swarm(seed, &Options { members: 3, ..Options::default() });
        run(seed, 20, clients).calls
    };
    assert_eq!(calls(5), calls(5));
    assert_ne!(calls(5), calls(6));
}

#[test]
fn the_last_calls_of_a_general_client_are_a_write_and_a_read_of_everything() {
    let clients: Vec<Box<dyn Client>> = vec![Box::new(KvClient::new(0, Mix::default(), 20 * MS, 400 * MS, Some(1)))];
    let seen = run(1, 30, clients);
    let [.., (_, Request::Put(_), Outcome::Done(_)), (_, Request::Range(range), Outcome::Done(_))] = &seen.calls[..]
    else {
        panic!("{:?}", seen.calls.last());
    };
    assert_eq!((&range.key[..], &range.range_end[..]), (&b"\0"[..], &b"\0"[..]));
}

#[test]
fn the_observer_goes_on_where_it_was() {
    let clients: Vec<Box<dyn Client>> = vec![
        Box::new(Observer::new(0, 3 * SECOND, true)),
        Box::new(KvClient::new(1, Mix { compact_behind: 500, ..Mix::default() }, 10 * MS, 400 * MS, None)),
    ];
    let seen = run(3, 30, clients);
    assert!(seen.watches.len() > 10, "{}", seen.watches.len());
    let (_, first, resumes) = &seen.watches[0];
    assert_eq!((first.start_revision, *resumes), (1, None));
    let mut last = 1;
    for (_, request, resumes) in &seen.watches[1..] {
        assert!(resumes.is_some() && request.start_revision >= last && request.prev_kv);
        last = request.start_revision;
    }
    assert!(last > 100);
}

#[test]
fn watch_clients_make_cancel_and_resume() {
    let clients: Vec<Box<dyn Client>> = vec![
        Box::new(WatchClient::new(0, 2, 10, 50 * MS)),
        Box::new(KvClient::new(1, Mix::default(), 10 * MS, 400 * MS, None)),
    ];
    let seen = run(4, 30, clients);
    let of = |what: &dyn Fn(&pb::WatchCreateRequest) -> bool| seen.watches.iter().any(|(_, request, _)| what(request));
    assert!(seen.watches.len() > 100 && seen.cancels > 20 && seen.progress > 50 && seen.told > 1_000);
    assert!(seen.watches.iter().any(|(_, _, resumes)| resumes.is_some()));
    assert!(of(&|request| request.start_revision == 0) && of(&|request| request.start_revision == 1));
    assert!(of(&|request| request.range_end.is_empty()) && of(&|request| request.range_end == b"\0"[..]));
    assert!(of(&|request| !request.filters.is_empty()) && of(&|request| request.progress_notify));
}

#[test]
fn lease_clients_renew_let_go_and_look() {
    let clients: Vec<Box<dyn Client>> = vec![Box::new(LeaseClient::new(0, 4, 400 * MS))];
    let seen = run(5, 10, clients);
    let of = |what: &dyn Fn(&Request) -> bool| seen.calls.iter().filter(|(_, request, _)| what(request)).count();
    assert!(of(&|request| matches!(request, Request::LeaseGrant(_))) > 3);
    assert!(of(&|request| matches!(request, Request::LeaseKeepAlive(_))) > 5);
    assert!(of(&|request| matches!(request, Request::LeaseRevoke(_))) > 0);
    assert!(of(&|request| matches!(request, Request::LeaseTimeToLive(_))) > 0);
    let gone = seen.events.iter().filter(|event| event.r#type == 1).count();
    let put = seen.events.iter().filter(|event| event.r#type == 0).count();
    assert!(put > 5 && gone > 5, "{put} {gone}");
}

#[test]
fn one_contender_at_a_time_holds_and_all_get_their_turn() {
    for style in [Style::Mutex, Style::Election] {
        for seed in 0..4 {
            let mut clients: Vec<Box<dyn Client>> = Vec::new();
            for number in 0..4 {
                clients.push(Box::new(Contender::new(number, style, "a", 3, 400 * MS)));
            }
            clients.push(Box::new(Onlooker::new(9, "a", 400 * MS)));
            let seen = run(seed, 20, clients);
            assert!(fenced_writes(&seen.events) > 20, "{style:?} {seed}");
            let holders: std::collections::BTreeSet<usize> = seen
                .calls
                .iter()
                .filter(|(_, request, outcome)| {
                    matches!(request, Request::Txn(txn) if txn.success.len() == 1)
                        && matches!(outcome, Outcome::Done(_))
                })
                .map(|(client, _, _)| *client)
                .collect();
            assert!(holders.len() >= 3, "{style:?} {seed}: {holders:?}");
        }
    }
}

#[test]
fn schedulers_run_jobs_one_at_a_time() {
    for seed in 0..4 {
        let mut clients: Vec<Box<dyn Client>> = Vec::new();
        for number in 0..3 {
            clients.push(Box::new(Scheduler::new(number, 2, 3, 400 * MS)));
        }
        let seen = run(seed, 20, clients);
        assert!(fenced_writes(&seen.events) > 20, "{seed}");
    }
}
