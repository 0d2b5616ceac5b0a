//! Damage at the end of a run: a copy of a member's disk with a changed byte is opened. It must refuse, or be what the
//! undamaged one is; where it reads damage later, it must say so.

use std::path::Path;
use std::sync::Arc;

use cetera_mvcc::HashKv;
use cetera_node::recovery;
use cetera_state::StateHash;
use cetera_storage::vfs::{Vfs, memory::MemoryVfs};

use crate::core::Core;
use crate::host::{DATA_DIR, Seat, start_of};
use crate::nemesis::rot;
use crate::world::World;

/// Bytes changed, one by one, on a copy each.
const CHANGES: usize = 2;

/// What an opened member is.
struct Found {
    applied: u64,
    state: StateHash,
    store: Result<(u32, i64), String>,
}

pub(crate) fn look(world: &mut World) {
    let World { core, hosts, .. } = world;
    let member = core.dice.index(hosts.len());
    if core.checks.rotten[member] || !hosts[member].is_alive() {
        return;
    }
    let seed = core.dice.bits();
    let who = (hosts[member].seat, core.ids[member]);
    let Ok(sound) = open(hosts[member].disk.crash(seed), who, core) else {
        return core.checks.violated(format!("member {member}: a copy of its disk cannot be opened"));
    };
    for _ in 0..CHANGES {
        let disk = hosts[member].disk.crash(seed);
        let mut dice = core.dice.clone();
        core.dice.bits();
        let Some(place) = rot(&disk, &mut dice) else { continue };
        let Ok(found) = open(disk, who, core) else { continue };
        // Without its last checkpoint it is what its log knows to be committed.
        let earlier = found.applied < sound.applied && !core.checks.knows_committed(member, found.applied + 1);
        let same_state = earlier
            || found.applied == sound.applied
                && (found.state.finished != sound.state.finished || found.state.sum == sound.state.sum);
        let same_store = earlier || found.store.is_err() || found.store == sound.store;
        if !same_state || !same_store {
            core.checks.violated(format!(
                "member {member} started on a damaged disk ({place}) and is not what it was: applied {} for {}, store {:?} \
                 for {:?}",
                found.applied, sound.applied, found.store, sound.store
            ));
        }
    }
}

fn open(disk: MemoryVfs, (seat, member): (Seat, u64), core: &mut Core) -> Result<Found, String> {
    let vfs: Arc<dyn Vfs> = Arc::new(disk);
    let start = start_of(&core.options, seat, member, core.dice.bits(), 0);
    let opened = recovery::open(&vfs, Path::new(DATA_DIR), start).map_err(|error| error.to_string())?;
    let state = opened.node.state();
    let hash = opened.node.published().view.hash_kv(0).map_err(|error| error.to_string());
    Ok(Found {
        applied: state.applied_index(),
        state: state.hash(),
        store: hash.map(|HashKv { hash, compact_revision, .. }| (hash, compact_revision)),
    })
}
