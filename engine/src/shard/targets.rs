//! The targets of one shard: a slab of their states, found by key.

use super::costs::Costs;
use crate::api::{Health, TargetStatus};
use crate::fetch::{FetchRequest, RequestSettings};
use crate::mailbox::{Addresses, Assignment, CostReport, ForcedError, HostPort, Until};
use crate::schedule::{Timer, Turns};
use crate::scrape::TargetState;
use crate::target::Target;
use ringscrape_cluster::slot::Slots;
use ringscrape_wal::definition::{self as wal, Route};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Targets whose memory is not worth the work of giving it back.
const SHRUNK_MIN: usize = 100;

/// One target of the shard.
pub(super) struct Slot {
    pub(super) target: Arc<Target>,
    pub(super) route: Arc<Route>,
    pub(super) forced_error: Option<ForcedError>,
    pub(super) log_target: Arc<wal::Target>,
    pub(super) state: TargetState,
    pub(super) slots: Slots,
    pub(super) turns: Turns,
    /// The first slot time that is scraped here.
    pub(super) from_ms: i64,
    /// Where the slots that are scraped here end.
    pub(super) until: Option<Until>,
    /// What goes on with the target's series then.
    pub(super) replacement: Option<Box<Assignment>>,
    /// The last slot that is scraped here is over: the target goes when `until` has passed.
    pub(super) is_resting: bool,
    /// The next owner has been told what is known of its series.
    pub(super) is_handed_over: bool,
    /// Until the first scrape of a target whose owner crashed: when that one was last alive.
    pub(super) taken_over_ms: Option<i64>,
    /// A slot came while no scrape might begin.
    pub(super) was_held: bool,
    /// With a flight: when its time is up; else when the next slot, or the end, is due. `None`: it
    /// waits for a flight's resolver, or for the word that scrapes may begin again.
    pub(super) timer: Option<Timer>,
    pub(super) request: Result<Arc<FetchRequest>, String>,
    pub(super) host: Host,
    pub(super) flight: Option<Flight>,
    /// The target is gone: its series end at this slot time, unless it comes back before.
    pub(super) ends_at_ms: Option<i64>,
    /// Another target with the same labels goes on with its series: they do not end.
    pub(super) succeeded: bool,
    pub(super) health: Health,
    pub(super) last_error: String,
    pub(super) last_scrape_ms: Option<i64>,
    pub(super) last_duration_s: f64,
}

/// Where to connect to.
pub(super) enum Host {
    /// The target's URL has an address.
    Address(Addresses),
    /// It has a name.
    Name(HostPort),
}

/// A scrape under way.
pub(super) struct Flight {
    /// Timestamp of its samples.
    pub(super) timestamp_ms: i64,
    /// When it was started, on the monotonic clock.
    pub(super) started_us: u64,
    /// The body so far, once its head has come.
    pub(super) walk: Option<crate::scrape::Walk>,
    /// The fetch has not begun: the host name is being resolved.
    pub(super) resolving: bool,
}

impl Slot {
    /// `None`: it is on its way out.
    fn status(&self) -> Option<TargetStatus> {
        self.ends_at_ms.is_none().then(|| TargetStatus {
            target: self.target.clone(),
            health: self.health,
            last_error: self.last_error.clone(),
            last_scrape_ms: self.last_scrape_ms,
            last_duration_s: self.last_duration_s,
        })
    }
}

/// All targets of one shard.
#[derive(Default)]
pub(super) struct Targets {
    pub(super) slab: slab::Slab<Slot>,
    by_key: HashMap<u64, usize>,
    /// One of those whose place is not their key, by place.
    by_place: HashMap<u64, usize>,
    costs: Costs,
    settings: Vec<Arc<RequestSettings>>,
    /// Targets that went since this was last asked.
    removed: usize,
}

impl Slot {
    /// Whether an assignment goes on where this one ends.
    fn is_followed_by(&self, assignment: &Assignment) -> bool {
        let until_ms = self.until.as_ref().map(|until| until.at_ms);
        until_ms == Some(assignment.slots.from_ms) && self.ends_at_ms.is_none()
    }
}

impl Targets {
    /// The slot of a target.
    pub(super) fn find(&self, key: u64) -> Option<usize> {
        self.by_key.get(&key).copied()
    }

    /// The slot of a target with this place.
    fn find_place(&self, place: u64) -> Option<usize> {
        let known = self
            .by_place
            .get(&place)
            .or_else(|| self.by_key.get(&place));
        let has_place = |index: &usize| {
            let slot = self.slab.get(*index);
            slot.is_some_and(|slot| slot.target.spot.key.0 == place)
        };
        known.copied().filter(has_place)
    }

    fn note_place(&mut self, index: usize) {
        let target = &self.slab[index].target;
        if target.spot.key != target.key {
            self.by_place.insert(target.spot.key.0, index);
        }
    }

    /// Adds a target, or replaces the one with its key, which keeps its state.
    /// Returns its slot, and whether it is to be scheduled anew, unless it is being scraped.
    pub(super) fn add(&mut self, assignment: Assignment, now_ms: i64) -> (usize, bool) {
        let known = self.find(assignment.target.key.0);
        if let Some(index) = known
            && let Some(due) = self.slab[index]
                .replacement
                .take_if(|next| next.slots.from_ms <= now_ms)
        {
            // A scrape of the slots before it is still under way.
            let from_ms = due.slots.from_ms;
            self.replace(index, *due, from_ms);
        }
        match known {
            // Its slots before are over: nothing else would look at a replacement.
            Some(index)
                if self.slab[index].is_resting && self.slab[index].is_followed_by(&assignment) =>
            {
                let from_ms = assignment.slots.from_ms;
                self.replace(index, assignment, from_ms);
                (index, true)
            }
            Some(index) if self.slab[index].is_followed_by(&assignment) => {
                self.slab[index].replacement = Some(Box::new(assignment));
                (index, false)
            }
            Some(index) => {
                self.replace(index, assignment, now_ms);
                (index, true)
            }
            None => (self.insert(assignment), true),
        }
    }

    /// Goes on with other settings for a target. `now_ms`: if its slot times change, those before
    /// are not its own.
    pub(super) fn replace(&mut self, index: usize, assignment: Assignment, now_ms: i64) {
        let request = self.request(&assignment.target);
        let Assignment {
            target,
            route,
            forced_error,
            slots: own,
        } = assignment;
        let slot = &mut self.slab[index];
        let slots = target.slots();
        let rescheduled = slot.slots != slots;
        slot.slots = slots;
        let back = slot.ends_at_ms.take().is_some();
        // Of a target that is back, slots that passed meanwhile were not missed.
        let first_ms = match rescheduled || back {
            true => own.from_ms.max(now_ms),
            false => own.from_ms,
        };
        slot.turns = slot
            .turns
            .no_earlier_than(&slot.slots, rescheduled, first_ms);
        slot.state.set_rules(target.scrape_config.rules.clone());
        slot.host = host(&target);
        slot.target = target;
        slot.route = route;
        slot.forced_error = forced_error;
        slot.request = request;
        slot.from_ms = own.from_ms;
        slot.until = own.until;
        slot.replacement = None;
        slot.is_resting = false;
        slot.is_handed_over = false;
        if own.after_crash {
            slot.taken_over_ms = Some(own.from_ms);
        }
        self.note_place(index);
    }

    fn insert(&mut self, assignment: Assignment) -> usize {
        let request = self.request(&assignment.target);
        let Assignment {
            target,
            route,
            forced_error,
            slots: own,
        } = assignment;
        let key = target.key.0;
        let log_target = Arc::new(wal::Target {
            id: wal::next_id(),
            key,
            labels: target.labels.as_slice().into(),
        });
        let slots = target.slots();
        let index = self.slab.insert(Slot {
            state: TargetState::new(log_target.clone(), target.scrape_config.rules.clone()),
            turns: Turns::starting_at(&slots, own.from_ms),
            from_ms: own.from_ms,
            until: own.until,
            replacement: None,
            is_resting: false,
            is_handed_over: false,
            taken_over_ms: own.after_crash.then_some(own.from_ms),
            was_held: false,
            slots,
            timer: None,
            host: host(&target),
            request,
            target,
            route,
            forced_error,
            log_target,
            flight: None,
            ends_at_ms: None,
            succeeded: false,
            health: Health::Unknown,
            last_error: String::new(),
            last_scrape_ms: None,
            last_duration_s: 0.0,
        });
        self.by_key.insert(key, index);
        self.note_place(index);
        index
    }

    /// Forgets a target for good.
    pub(super) fn remove(&mut self, index: usize) {
        let slot = self.slab.remove(index);
        self.removed += 1;
        self.costs.forget(index);
        self.by_key.remove(&slot.target.key.0);
        if self.by_place.get(&slot.target.spot.key.0) == Some(&index) {
            self.by_place.remove(&slot.target.spot.key.0);
        }
    }

    /// Whether so many targets went since the last yes that their memory is worth collecting.
    pub(super) fn have_shrunk(&mut self) -> bool {
        let shrunk = self.removed > SHRUNK_MIN && self.removed > self.slab.len() / 8;
        if shrunk {
            self.removed = 0;
            self.slab.shrink_to_fit();
            self.by_key.shrink_to_fit();
        }
        shrunk
    }

    /// State of all targets, for the API.
    pub(super) fn statuses(&self) -> Vec<TargetStatus> {
        let slots = self.slab.iter().map(|(_, slot)| slot);
        slots.filter_map(Slot::status).collect()
    }

    /// State of the targets with these keys, for the API; those not known are left out.
    pub(super) fn statuses_of(&self, keys: &[u64]) -> Vec<TargetStatus> {
        let slots = keys.iter().filter_map(|key| self.find(*key));
        slots
            .filter_map(|index| self.slab[index].status())
            .collect()
    }

    /// Takes note of a scrape that went well: what the target costs.
    pub(super) fn note_cost(&mut self, index: usize, samples: u32) {
        let target = &self.slab[index].target;
        self.costs
            .set(index, target.job, samples, target.interval_ms);
    }

    /// What the targets cost, without those that are on their way out.
    pub(super) fn costs(&mut self, places: &[u64]) -> CostReport {
        let (mut report, mut dear) = self.costs.report();
        let asked = places.iter().filter_map(|place| self.find_place(*place));
        dear.extend(asked.filter_map(|index| Some((index, self.costs.of(index)?))));
        dear.sort_unstable_by_key(|(index, _)| *index);
        dear.dedup_by_key(|(index, _)| *index);
        let stays = dear.into_iter().filter_map(|(index, samples_per_s)| {
            let slot = self.slab.get(index)?;
            let stays = slot.ends_at_ms.is_none();
            stays.then(|| (slot.target.clone(), samples_per_s))
        });
        report.dear = stays.collect();
        report
    }

    /// What the slab and its index take, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let of_one = size_of::<Slot>() + size_of::<FetchRequest>() + size_of::<wal::Target>();
        self.slab.capacity() * of_one + self.by_key.capacity() * size_of::<(u64, usize)>()
    }

    /// The request of a target. What the requests of a job share is kept once.
    fn request(&mut self, target: &Target) -> Result<Arc<FetchRequest>, String> {
        let fresh = RequestSettings::new(&target.scrape_config.rules, target.timeout_ms);
        let settings = match self.settings.iter().find(|have| ***have == fresh) {
            Some(settings) => settings.clone(),
            None => {
                self.settings
                    .retain(|settings| Arc::strong_count(settings) > 1);
                let settings = Arc::new(fresh);
                self.settings.push(settings.clone());
                settings
            }
        };
        let url = &target.url;
        FetchRequest::new(&url.authority, &url.path_and_query, settings)
            .map(Arc::new)
            .map_err(|error| error.to_string())
    }
}

/// An address needs no look-up.
fn host(target: &Target) -> Host {
    let url = &target.url;
    let bare = url.host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(ip) => Host::Address([SocketAddr::new(ip, url.port)].into()),
        Err(_) => Host::Name(HostPort {
            host: url.host.as_str().into(),
            port: url.port,
        }),
    }
}
