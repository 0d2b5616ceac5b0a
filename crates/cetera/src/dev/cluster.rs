//! The members together, and what can be asked of them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::member::{self, Member};
use super::options::Options;
use super::plan::Plan;
use super::say;
use super::status::{Asker, Said};

/// Lines of a log that are shown unless told otherwise.
const LOG_LINES: usize = 20;

/// What the console offers.
pub(super) const COMMANDS: &str = "\
  status          how every member is, and who leads
  kill N          kill -9, at once
  stop N          SIGTERM, an orderly end
  start N         start it again, on its data
  pause N         let it stand still (SIGSTOP)
  resume N        let it go on
  logs N [LINES]  the last lines that it printed
  wait            until every running member serves under one leader
  endpoints       the line for --endpoints
  ctl ARGS...     `cetera ctl` on this cluster; words are split at spaces
  help            this
  quit            end the cluster

N is a member's number, `leader`, or `all` (those that it makes sense for).
";

/// What comes after a command.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Flow {
    /// The next.
    On,
    /// The next, once the cluster serves.
    Await,
    /// The end.
    End,
}

/// The cluster. Members are ended before the directory goes: fields are dropped in this order.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) members: Vec<Member>,
    pub(super) plan: Plan,
    asker: Asker,
    own: PathBuf,
}

impl Cluster {
    /// Starts every member. They may not serve yet.
    pub(super) fn start(options: &Options) -> Result<Cluster, String> {
        let own = std::env::current_exe().map_err(|error| format!("where this program is: {error}"))?;
        let program = options.binary.clone().unwrap_or_else(|| own.clone());
        let asker = Asker::new()?;
        let plan = Plan::make(options)?;
        let members = plan.places.iter().map(|place| Member::new(&plan, place, &program, &options.flags)).collect();
        let mut cluster = Cluster { members, plan, asker, own };
        cluster.members.iter_mut().try_for_each(Member::start)?;
        Ok(cluster)
    }

    /// Whether all running members know the same leader, and it is one of them.
    pub(super) fn is_ready(&self) -> bool {
        let answers = self.ask();
        let running: Vec<Option<&Said>> =
            self.members.iter().zip(&answers).filter(|(m, _)| m.is_running()).map(|(_, said)| said.as_ref()).collect();
        let Some(Some(first)) = running.first() else { return false };
        running.iter().all(|said| said.is_some_and(|said| said.leader == first.leader))
            && running.iter().flatten().any(|said| said.member_id == first.leader)
    }

    fn ask(&self) -> Vec<Option<Said>> {
        let endpoints = self.members.iter().map(|member| member.is_running().then(|| member.place.client.clone()));
        self.asker.ask(&endpoints.collect::<Vec<_>>())
    }

    /// The table of `status`.
    pub(super) fn status(&self) -> String {
        let mut table = format!(
            "{:<8}{:<18}{:<14}{:<11}{:<6}{:<10}{:<9}{:<8}version\n",
            "member", "client", "state", "role", "term", "revision", "applied", "pid"
        );
        for (member, said) in self.members.iter().zip(self.ask()) {
            let pid = member.pid().map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            let state = match (&said, member.is_running()) {
                (None, true) => "no answer".to_owned(),
                _ => member.state(),
            };
            let role = said.as_ref().map_or("-", role);
            let number =
                |of: fn(&Said) -> u64| said.as_ref().map_or_else(|| "-".to_owned(), |said| of(said).to_string());
            let _ = writeln!(
                table,
                "{:<8}{:<18}{state:<14}{role:<11}{:<6}{:<10}{:<9}{pid:<8}{}",
                member.name(),
                member.place.client,
                number(|said| said.term),
                number(|said| said.revision.max(0) as u64),
                number(|said| said.applied_index),
                said.as_ref().map_or("-", |said| &said.version),
            );
        }
        table
    }

    /// Does what a line says. An error is for the user; the cluster goes on.
    pub(super) fn execute(&mut self, line: &str) -> Result<Flow, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["status"] => say(&self.status()),
            ["endpoints"] => say(&format!("--endpoints {}\n", self.plan.endpoints())),
            ["help"] => say(COMMANDS),
            ["wait"] => return Ok(Flow::Await),
            ["quit" | "exit"] => return Ok(Flow::End),
            ["ctl", ref words @ ..] => self.ctl(words)?,
            ["logs", which] => self.logs(which, LOG_LINES)?,
            ["logs", which, lines] => {
                self.logs(which, lines.parse().map_err(|_| format!("{lines:?} is not a number of lines"))?)?;
            }
            [verb @ ("kill" | "stop" | "start" | "pause" | "resume"), which] => self.act(verb, which)?,
            [verb @ ("kill" | "stop" | "start" | "pause" | "resume" | "logs"), ..] => {
                return Err(format!("{verb} wants one member: its number, `leader` or `all`"));
            }
            _ => return Err(format!("no such command: {line:?}; `help` lists them")),
        }
        Ok(Flow::On)
    }

    /// A verb for one member or all. Every one of them is tried; the first error is told.
    fn act(&mut self, verb: &str, which: &str) -> Result<(), String> {
        let mut chosen = self.which(which)?;
        if which == "all" {
            chosen.retain(|n| self.members[*n].can(verb));
        }
        let (act, done): (Act, &str) = match verb {
            "kill" => (Member::kill, "killed"),
            "stop" => (Member::stopped, "stopped"),
            "start" => (Member::start, "started"),
            "pause" => (Member::pause, "paused"),
            _ => (Member::resume, "resumed"),
        };
        let mut outcome = Ok(());
        if verb == "stop" {
            // All are asked before any is waited for.
            chosen.iter().for_each(|n| outcome = outcome.clone().and(self.members[*n].terminate()));
        }
        for n in chosen {
            let member = &mut self.members[n];
            match act(member) {
                Ok(()) => say(&format!("{} {done}\n", member.name())),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }

    /// Which members a word means.
    fn which(&self, word: &str) -> Result<Vec<usize>, String> {
        if word == "all" {
            return Ok((0..self.members.len()).collect());
        }
        if word == "leader" {
            let leads = |said: &Option<Said>| said.as_ref().is_some_and(|said| said.leader == said.member_id);
            let answers = self.ask();
            let leaders = answers.iter().enumerate().filter(|(_, said)| leads(said));
            // One that was cut off may not know yet that another leads.
            let leader = leaders.max_by_key(|(_, said)| said.as_ref().map_or(0, |said| said.term));
            return leader.map(|(n, _)| vec![n]).ok_or_else(|| "no member leads".to_owned());
        }
        let number = word.strip_prefix('m').unwrap_or(word).parse::<usize>().ok();
        let found = number.filter(|number| (1..=self.members.len()).contains(number));
        found.map(|number| vec![number - 1]).ok_or_else(|| format!("no member is called {word:?}"))
    }

    fn logs(&self, which: &str, lines: usize) -> Result<(), String> {
        for n in self.which(which)? {
            let member = &self.members[n];
            say(&format!("{}:\n{}", member.log.display(), member.last_lines(lines)));
        }
        Ok(())
    }

    fn ctl(&self, words: &[&str]) -> Result<(), String> {
        let mut command = Command::new(&self.own);
        command.args(["ctl", "--endpoints", &self.plan.endpoints()]).args(words);
        command.env_remove("ETCDCTL_ENDPOINTS").stdin(Stdio::null());
        let status = member::tied(&mut command).status().map_err(|error| format!("{}: {error}", self.own.display()))?;
        if status.success() { Ok(()) } else { Err(format!("ctl: {status}")) }
    }

    /// The names of those that ended of their own accord since the last look.
    pub(super) fn look(&mut self) -> Vec<usize> {
        (0..self.members.len()).filter(|n| self.members[*n].look()).collect()
    }
}

/// What is done to a member.
type Act = fn(&mut Member) -> Result<(), String>;

fn role(said: &Said) -> &'static str {
    match said {
        said if said.is_learner => "learner",
        said if said.leader == 0 => "no leader",
        said if said.leader == said.member_id => "leader",
        _ => "follower",
    }
}
