//! Host names of targets -> addresses that the control thread looked up, and who waits for them.

use crate::mailbox::{Addresses, FromShard, HostPort, ShardIndex};
use std::collections::{HashMap, VecDeque};
use tokio::sync::mpsc;

/// How long a looked up address is used before it is looked up again, in the background.
const ADDRESS_AGE_MS_MAX: u64 = 30_000;
/// How long addresses are used while looking the name up again fails.
const ADDRESS_KEPT_MS_MAX: u64 = 5 * 60_000;
/// How long a name that nobody asks for is remembered.
const NAME_KEPT_MS_MAX: u64 = 10 * 60_000;

/// All names that a shard has asked for.
pub(super) struct Names {
    shard: ShardIndex,
    reports: mpsc::Sender<(ShardIndex, FromShard)>,
    by_name: HashMap<HostPort, Name>,
    /// Questions for which the control thread had no place yet, oldest first.
    questions: VecDeque<HostPort>,
}

/// One name.
#[derive(Default)]
struct Name {
    addresses: Option<Addresses>,
    /// Last look-up, whatever it gave.
    looked_up_at_ms: u64,
    /// Last look-up that gave addresses.
    known_at_ms: u64,
    used_at_ms: u64,
    asked: bool,
    /// Slots of targets whose scrape, or redirect, waits for the answer.
    waiting: Vec<usize>,
}

impl Names {
    pub(super) fn new(shard: ShardIndex, reports: mpsc::Sender<(ShardIndex, FromShard)>) -> Self {
        Self {
            shard,
            reports,
            by_name: HashMap::new(),
            questions: VecDeque::new(),
        }
    }

    /// The addresses of a name, if known; else the target in slot `index` waits for them.
    pub(super) fn addresses(
        &mut self,
        name: &HostPort,
        index: usize,
        now_ms: u64,
    ) -> Option<Addresses> {
        let known = self.by_name.entry(name.clone()).or_default();
        let old = now_ms.saturating_sub(known.looked_up_at_ms) > ADDRESS_AGE_MS_MAX;
        match &known.addresses {
            Some(addresses) if !old => {
                known.used_at_ms = now_ms;
                Some(addresses.clone())
            }
            Some(addresses) => {
                let addresses = addresses.clone();
                self.question(name, now_ms);
                Some(addresses)
            }
            None => {
                self.look_up_for(name, index, now_ms);
                None
            }
        }
    }

    /// The target in slot `index` waits for the addresses of `name`.
    pub(super) fn look_up_for(&mut self, name: &HostPort, index: usize, now_ms: u64) {
        self.question(name, now_ms);
        if let Some(known) = self.by_name.get_mut(name)
            && !known.waiting.contains(&index)
        {
            known.waiting.push(index);
        }
    }

    fn question(&mut self, name: &HostPort, now_ms: u64) {
        let known = self.by_name.entry(name.clone()).or_default();
        known.used_at_ms = now_ms;
        if !known.asked {
            known.asked = true;
            self.questions.push_back(name.clone());
            self.ask();
        }
    }

    /// Hands questions to the control thread, as far as it has place.
    pub(super) fn ask(&mut self) {
        while let Some(name) = self.questions.pop_front() {
            let message = (self.shard, FromShard::Resolve(name.clone()));
            if self.reports.try_send(message).is_err() {
                return self.questions.push_front(name);
            }
        }
    }

    /// Whether there are questions that found no place with the control thread.
    pub(super) fn has_questions(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Takes an answer; returns the slots of those who wait for it.
    pub(super) fn answered(
        &mut self,
        name: &HostPort,
        result: &Result<Addresses, String>,
        now_ms: u64,
    ) -> Vec<usize> {
        let Some(known) = self.by_name.get_mut(name) else {
            return Vec::new();
        };
        known.asked = false;
        known.looked_up_at_ms = now_ms;
        match result {
            Ok(addresses) => {
                known.addresses = Some(addresses.clone());
                known.known_at_ms = now_ms;
            }
            // For a while the addresses known before stay in force; then the host may be another.
            Err(_) if now_ms.saturating_sub(known.known_at_ms) > ADDRESS_KEPT_MS_MAX => {
                known.addresses = None;
            }
            Err(_) => {}
        }
        std::mem::take(&mut known.waiting)
    }

    /// Forgets names that nobody has asked for lately: redirects may lead to ever new ones.
    pub(super) fn sweep(&mut self, now_ms: u64) {
        self.by_name.retain(|_, name| {
            name.asked
                || !name.waiting.is_empty()
                || now_ms.saturating_sub(name.used_at_ms) < NAME_KEPT_MS_MAX
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> HostPort {
        HostPort {
            host: "a".into(),
            port: 1,
        }
    }

    #[test]
    fn one_question_for_all_who_wait_and_old_answers_serve_for_a_while() {
        let (reports, mut asked) = mpsc::channel(8);
        let mut names = Names::new(0, reports);
        assert!(names.addresses(&name(), 1, 0).is_none());
        assert!(names.addresses(&name(), 2, 5).is_none());
        assert!(asked.try_recv().is_ok() && asked.try_recv().is_err());
        let addresses: Addresses = ["127.0.0.1:1".parse().unwrap()].into();
        assert_eq!(names.answered(&name(), &Ok(addresses.clone()), 10), [1, 2]);
        assert_eq!(names.addresses(&name(), 1, 20), Some(addresses.clone()));
        assert!(asked.try_recv().is_err());
        // Old: used, and asked for again.
        assert_eq!(names.addresses(&name(), 1, 40_000), Some(addresses.clone()));
        assert!(asked.try_recv().is_ok());
        let failed = Err("no such host".to_owned());
        assert!(names.answered(&name(), &failed, 40_010).is_empty());
        assert_eq!(names.addresses(&name(), 1, 40_020), Some(addresses));
        names.answered(&name(), &failed, 400_000);
        assert!(names.addresses(&name(), 1, 400_010).is_none());
    }

    #[test]
    fn a_full_mailbox_keeps_questions_in_order_and_names_are_forgotten() {
        let (reports, mut asked) = mpsc::channel(1);
        let mut names = Names::new(0, reports);
        for port in 1..=3 {
            let name = HostPort {
                host: "a".into(),
                port,
            };
            names.look_up_for(&name, 0, 0);
        }
        assert!(names.has_questions());
        let mut ports = Vec::new();
        while let Ok((_, FromShard::Resolve(name))) = asked.try_recv() {
            ports.push(name.port);
            names.answered(&name, &Err(String::new()), 0);
            names.ask();
        }
        assert_eq!(ports, [1, 2, 3]);
        names.sweep(NAME_KEPT_MS_MAX);
        assert!(names.by_name.is_empty());
    }
}
