//! Faults of processes: killed, paused, asked to end, restarted one after the other.

use std::time::Duration;

use cetera_bench::rng::Rng;
use tokio::time::sleep;

use super::{Stage, millis};
use crate::member::{Handling, Member, ends_as_told};

/// A member whose disk is well ends within this after SIGTERM, whatever the others do.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// Longest wait of a rolling restart for a member to serve before the next one's turn; it may not while other faults
/// are on.
const ROLL_PATIENCE: Duration = Duration::from_secs(5);

impl Stage {
    /// Kills one and starts it again, `in_start` times killed anew while it starts.
    pub(super) async fn kill(&self, member: usize, rng: &mut Rng, in_start: u64) -> Result<bool, String> {
        let member = &self.members[member];
        let Some(_handling) = member.handle() else { return Ok(false) };
        if !member.is_running() {
            return Ok(false);
        }
        self.killed(member);
        sleep(millis(rng, 0, 600)).await;
        for _ in 0..in_start {
            member.start()?;
            // Not a wait for anything: the moment of the kill is the point.
            sleep(Duration::from_micros(rng.within(0, 150_000))).await;
            self.killed(member);
        }
        member.start()?;
        Ok(true)
    }

    /// Kills several at once, and starts them one by one.
    pub(super) async fn kill_several(&self, members: &[usize], rng: &mut Rng) -> Result<bool, String> {
        let handled: Vec<(&Member, Handling<'_>)> = members
            .iter()
            .map(|member| &self.members[*member])
            .filter_map(|member| Some((member, member.handle()?)))
            .filter(|(member, _)| member.is_running())
            .collect();
        handled.iter().for_each(|(member, _)| self.killed(member));
        let did = handled.len() > 1;
        let longest = [1, 600, 4_000][rng.within(0, 3) as usize];
        for (member, _handling) in handled {
            sleep(millis(rng, 0, longest)).await;
            member.start()?;
        }
        Ok(did)
    }

    /// Stops one for a while.
    pub(super) async fn pause(&self, member: usize, rng: &mut Rng) -> Result<bool, String> {
        self.pause_several(&[member], rng).await
    }

    /// Stops several for a while.
    pub(super) async fn pause_several(&self, members: &[usize], rng: &mut Rng) -> Result<bool, String> {
        let longest = if rng.chance(15) { 10_000 } else { 2_500 };
        let paused: Vec<(&Member, u64)> = members
            .iter()
            .map(|member| &self.members[*member])
            .map(|member| (member, member.starts.get()))
            .inspect(|(member, _)| member.pause())
            .collect();
        sleep(millis(rng, 100, longest)).await;
        for (member, life) in paused {
            if member.starts.get() == life {
                member.resume();
            }
        }
        Ok(true)
    }

    /// Asks one to end, and starts it again.
    pub(super) async fn terminate(&self, member: usize, rng: &mut Rng) -> Result<bool, String> {
        let member = &self.members[member];
        let Some(_handling) = member.handle() else { return Ok(false) };
        if !member.is_running() {
            return Ok(false);
        }
        self.ends(member).await;
        sleep(millis(rng, 0, 300)).await;
        member.start()?;
        Ok(true)
    }

    /// Asks each to end and starts it again, one after the other, as an upgrade does.
    pub(super) async fn roll(&self, rng: &mut Rng) -> Result<bool, String> {
        for member in self.several(rng, self.members.len(), self.members.len()) {
            let member = &self.members[member];
            let Some(_handling) = member.handle() else { continue };
            if !member.is_running() {
                continue;
            }
            self.ends(member).await;
            member.start()?;
            // With other faults on, it may not serve: then the next one's turn comes all the same.
            let _ = member.serves(ROLL_PATIENCE).await;
        }
        Ok(true)
    }

    /// SIGTERM, and how it ends.
    async fn ends(&self, member: &Member) {
        let name = &member.launch.place.name;
        // One that stands still cannot end.
        member.resume();
        match member.terminate(END_PATIENCE).await {
            Some(status) if ends_as_told(status) => {}
            Some(status) if member.is_hurt() => self.note(format!("ended on a bad disk after SIGTERM, {status}")),
            Some(status) => self.find(format!("{name} ended after SIGTERM: {status}\n{}", member.launch.last_lines())),
            None if member.is_hurt() => {
                self.note("did not end on a bad disk after SIGTERM".to_owned());
                self.killed(member);
            }
            None => {
                self.find(format!("{name} did not end within {END_PATIENCE:?} after SIGTERM"));
                self.killed(member);
            }
        }
    }
}
