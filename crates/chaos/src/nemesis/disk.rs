//! Faults of disks.

use std::time::Duration;

use cetera_bench::rng::Rng;
use tokio::time::sleep;

use super::{Stage, millis};
use crate::kind::Kind;

impl Stage {
    /// Faults that a build for tests obeys.
    pub(super) async fn trouble_disk(&self, kind: Kind, member: usize, rng: &mut Rng) -> Result<bool, String> {
        match kind {
            Kind::NoSpace => {
                let duration = millis(rng, 5, 2_500);
                self.hooked(member, &[("space_error", libc::ENOSPC.into())], duration, false).await
            }
            Kind::FailedSync => self.failed(member, "sync_error", rng).await,
            Kind::FailedWrite => self.failed(member, "write_error", rng).await,
            _ => {
                let sync = [1_000, 20_000, 200_000, 1_500_000][rng.within(0, 4) as usize];
                let write = [0, 0, 2_000, 20_000][rng.within(0, 4) as usize];
                let duration = millis(rng, 200, 5_000);
                self.hooked(member, &[("sync_delay_us", sync), ("write_delay_us", write)], duration, false).await
            }
        }
    }

    /// Fills the disk, and gives the room back.
    pub(super) async fn fill(&self, member: usize, rng: &mut Rng) -> Result<bool, String> {
        let member = &self.members[member];
        let Some(disk) = &member.disk else { return Ok(false) };
        let leave = [0, 0, 100 << 10, 1 << 20, 6 << 20][rng.within(0, 5) as usize];
        member.disk_is_bad(false);
        for _ in 0..rng.within(1, 50) {
            disk.fill(leave)?;
            sleep(millis(rng, 20, 200)).await;
        }
        disk.free()?;
        member.disk_is_well();
        Ok(true)
    }

    async fn hooked(
        &self,
        member: usize,
        faults: &[(&'static str, i64)],
        duration: Duration,
        dooms: bool,
    ) -> Result<bool, String> {
        let member = &self.members[member];
        member.disk_is_bad(dooms);
        member.hooks.set(faults)?;
        sleep(duration).await;
        let undone: Vec<_> = faults.iter().map(|(name, _)| (*name, 0)).collect();
        member.hooks.set(&undone)?;
        member.disk_is_well();
        Ok(true)
    }

    /// A disk that fails, and after it a new life.
    async fn failed(&self, member: usize, fault: &'static str, rng: &mut Rng) -> Result<bool, String> {
        self.hooked(member, &[(fault, libc::EIO.into())], millis(rng, 4, 600), true).await?;
        sleep(millis(rng, 0, 1_000)).await;
        if self.members[member].is_doomed() {
            self.kill(member, rng, 0).await?;
        }
        Ok(true)
    }
}
