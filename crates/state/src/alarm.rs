//! Alarms: replicated facts about members that change what apply lets through (M-1, Q-3..Q-5). Raising and clearing is
//! decided elsewhere and comes here through the log.

use std::collections::BTreeSet;
use std::sync::Arc;

use cetera_proto::etcdserverpb::{AlarmMember, AlarmType};

/// The active alarms.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    /// (type, member).
    active: BTreeSet<(i32, u64)>,
    /// What readers get; replaced on change.
    list: Arc<Vec<AlarmMember>>,
    no_space: bool,
    corrupt: bool,
}

impl Alarms {
    pub(crate) fn from_list(list: &[AlarmMember]) -> Self {
        let mut alarms = Self { active: list.iter().map(|a| (a.alarm, a.member_id)).collect(), ..Default::default() };
        alarms.refresh();
        alarms
    }

    /// All active alarms, by type and then by member.
    pub fn list(&self) -> Arc<Vec<AlarmMember>> {
        self.list.clone()
    }

    /// Whether an alarm NOSPACE is active.
    pub fn no_space(&self) -> bool {
        self.no_space
    }

    /// Whether an alarm CORRUPT is active.
    pub fn corrupt(&self) -> bool {
        self.corrupt
    }

    /// Active alarms of one type, of every type for NONE (0).
    pub(crate) fn of_type(&self, alarm: i32) -> Vec<AlarmMember> {
        let wanted = |a: &&AlarmMember| alarm == AlarmType::None as i32 || a.alarm == alarm;
        self.list.iter().filter(wanted).cloned().collect()
    }

    /// Raises an alarm. Told again, it stays and is reported again. NONE is no alarm.
    pub(crate) fn activate(&mut self, member_id: u64, alarm: i32) -> Option<AlarmMember> {
        if alarm == AlarmType::None as i32 {
            return None;
        }
        if self.active.insert((alarm, member_id)) {
            self.refresh();
        }
        Some(AlarmMember { member_id, alarm })
    }

    /// Clears the alarm of exactly this member and type (etcd `AlarmStore.Deactivate`): member 0 stands for itself, not
    /// for all.
    pub(crate) fn deactivate(&mut self, member_id: u64, alarm: i32) -> Option<AlarmMember> {
        if !self.active.remove(&(alarm, member_id)) {
            return None;
        }
        self.refresh();
        Some(AlarmMember { member_id, alarm })
    }

    fn refresh(&mut self) {
        let any = |wanted: AlarmType| self.active.iter().any(|&(alarm, _)| alarm == wanted as i32);
        self.no_space = any(AlarmType::Nospace);
        self.corrupt = any(AlarmType::Corrupt);
        self.list = Arc::new(self.active.iter().map(|&(alarm, member_id)| AlarmMember { member_id, alarm }).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOSPACE: i32 = AlarmType::Nospace as i32;
    const CORRUPT: i32 = AlarmType::Corrupt as i32;

    fn pairs(list: &[AlarmMember]) -> Vec<(i32, u64)> {
        list.iter().map(|a| (a.alarm, a.member_id)).collect()
    }

    /// M-1.
    #[test]
    fn activate_get_deactivate() {
        let mut alarms = Alarms::default();
        assert_eq!(alarms.activate(1, 0), None);
        assert!(alarms.activate(2, CORRUPT).is_some());
        assert!(alarms.activate(9, NOSPACE).is_some());
        assert!(alarms.activate(9, NOSPACE).is_some(), "told again");
        assert!(alarms.activate(1, NOSPACE).is_some());
        assert_eq!(pairs(&alarms.of_type(0)), [(NOSPACE, 1), (NOSPACE, 9), (CORRUPT, 2)]);
        assert_eq!(pairs(&alarms.of_type(CORRUPT)), [(CORRUPT, 2)]);
        assert_eq!(pairs(&alarms.list()), pairs(&alarms.of_type(0)));
        assert!(alarms.no_space() && alarms.corrupt());

        assert!(alarms.deactivate(2, CORRUPT).is_some());
        assert!(alarms.deactivate(2, CORRUPT).is_none());
        assert!(alarms.no_space() && !alarms.corrupt());
    }

    /// Recorded from etcd 3.5.30: DEACTIVATE with member 0 left an alarm of member 5 standing.
    #[test]
    fn member_zero_is_not_everyone() {
        let mut alarms = Alarms::default();
        alarms.activate(5, NOSPACE);
        assert_eq!(alarms.deactivate(0, NOSPACE), None);
        assert!(alarms.no_space());
        assert_eq!(alarms.deactivate(5, NOSPACE), Some(AlarmMember { member_id: 5, alarm: NOSPACE }));
        assert!(!alarms.no_space());
    }

    #[test]
    fn a_list_restores_everything() {
        let mut alarms = Alarms::default();
        alarms.activate(5, NOSPACE);
        alarms.activate(5, CORRUPT);
        let again = Alarms::from_list(&alarms.list());
        assert_eq!(again.list(), alarms.list());
        assert!(again.no_space() && again.corrupt());
    }
}
