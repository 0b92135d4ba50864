//! Deadlines of ids -> the due ones, in order: a hierarchical timer wheel.
//!
//! Levels of 64 slots, the lowest with 1 ms per slot, each next one with 64 times as much; a timer
//! stands on the level of the highest bit group in which its deadline differs from the present
//! time, and moves down as that time comes. Insert, cancel and the search for the next deadline
//! cost a few instructions whatever the number of timers; a timer moves at most once per level.
//!
//! Source: G. Varghese, T. Lauck, Hashed and Hierarchical Timing Wheels (SOSP 1987), scheme 7.

/// Bits of a deadline that one level covers.
const LEVEL_BITS: u32 = 6;
/// Slots of a level.
const SLOTS: usize = 1 << LEVEL_BITS;
/// Levels: enough for any u64.
const LEVELS: usize = 11;
const _: () = assert!(LEVELS as u32 * LEVEL_BITS >= u64::BITS);
/// Most timers looked at to find the earliest one.
const SCAN_MAX: usize = 1_024;
/// No timer.
const NONE: u32 = u32::MAX;

/// A timer that was set. Once it has fired or was cancelled, it names nothing, also when its place
/// is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timer {
    index: u32,
    generation: u32,
}

/// A timer that fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// As given when it was set.
    pub id: u32,
    /// As given when it was set, in ms.
    pub deadline_ms: u64,
    /// The timer, which names nothing any more: to be compared with one kept.
    pub timer: Timer,
}

/// One timer, in the list of its slot, or free.
#[derive(Debug, Clone, Copy)]
struct Node {
    deadline_ms: u64,
    id: u32,
    /// Raised when the timer fires or is cancelled.
    generation: u32,
    /// Neighbours in the list; a free node has the next free one in `next`.
    next: u32,
    previous: u32,
    /// `level * SLOTS + slot`; `u16::MAX` if free.
    list: u16,
}

/// First and last timer of a slot.
#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

const EMPTY: List = List {
    first: NONE,
    last: NONE,
};

/// The timers of a shard. Time is in ms of a clock that only rises (not the wall clock).
#[derive(Debug)]
pub struct Wheel {
    now_ms: u64,
    nodes: Vec<Node>,
    free: u32,
    len: usize,
    lists: Box<[List]>,
    /// Per level, a bit for each slot that holds a timer.
    occupied: [u64; LEVELS],
}

impl Wheel {
    /// A wheel without timers, at `now_ms`.
    pub fn new(now_ms: u64) -> Wheel {
        Wheel {
            now_ms,
            nodes: Vec::new(),
            free: NONE,
            len: 0,
            lists: vec![EMPTY; LEVELS * SLOTS].into(),
            occupied: [0; LEVELS],
        }
    }

    /// Number of timers set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets a timer of `id`; one id may have several. A deadline that has passed fires at the next
    /// [`Wheel::advance`].
    ///
    /// # Panics
    /// BUG: 2^32 - 1 timers are set.
    pub fn set(&mut self, id: u32, deadline_ms: u64) -> Timer {
        let index = match self.free {
            NONE => {
                let index = self.nodes.len() as u32;
                assert!(index < NONE, "BUG: too many timers");
                self.nodes.push(Node {
                    deadline_ms,
                    id,
                    generation: 0,
                    next: NONE,
                    previous: NONE,
                    list: u16::MAX,
                });
                index
            }
            index => {
                let node = &mut self.nodes[index as usize];
                self.free = node.next;
                node.deadline_ms = deadline_ms;
                node.id = id;
                index
            }
        };
        self.len += 1;
        self.link(index);
        Timer {
            index,
            generation: self.nodes[index as usize].generation,
        }
    }

    /// Takes a timer back; false: it has fired or was cancelled before.
    pub fn cancel(&mut self, timer: Timer) -> bool {
        let Some(node) = self.nodes.get(timer.index as usize) else {
            return false;
        };
        if node.generation != timer.generation || node.list == u16::MAX {
            return false;
        }
        self.unlink(timer.index);
        self.release(timer.index);
        true
    }

    /// The time is now `now_ms`: appends all timers with a deadline up to and with it to `due`, by
    /// deadline, equal ones in the order in which they were set (a deadline that had passed when
    /// it was set counts as the time then). A time before the last one changes nothing.
    pub fn advance(&mut self, now_ms: u64, due: &mut Vec<Due>) {
        let now_ms = now_ms.max(self.now_ms);
        while let Some((level, slot, start_ms)) = self.next_slot() {
            if start_ms > now_ms {
                break;
            }
            self.now_ms = start_ms;
            let list = level * SLOTS + slot;
            let mut index = std::mem::replace(&mut self.lists[list], EMPTY).first;
            self.occupied[level] &= !(1 << slot);
            while index != NONE {
                let node = self.nodes[index as usize];
                if level == 0 {
                    due.push(Due {
                        id: node.id,
                        deadline_ms: node.deadline_ms,
                        timer: Timer {
                            index,
                            generation: node.generation,
                        },
                    });
                    self.release(index);
                } else {
                    self.link(index);
                }
                index = node.next;
            }
        }
        self.now_ms = now_ms;
    }

    /// A time at or before the earliest deadline, in ms, at which it is worth to call
    /// [`Wheel::advance`]: the deadline itself, unless so many timers are far away that looking for
    /// it costs more than moving them down a level.  `None`: no timer is set.
    pub fn next_deadline(&self) -> Option<u64> {
        let (level, slot, start_ms) = self.next_slot()?;
        if level == 0 {
            return Some(start_ms);
        }
        // Moving timers down is not worth a wake-up of its own; to look for the earliest one of a
        // few is.
        let mut earliest_ms = u64::MAX;
        let mut index = self.lists[level * SLOTS + slot].first;
        for _ in 0..SCAN_MAX {
            let Some(node) = self.nodes.get(index as usize) else {
                return Some(earliest_ms);
            };
            earliest_ms = earliest_ms.min(node.deadline_ms);
            index = node.next;
        }
        Some(start_ms)
    }

    /// The first occupied slot: level, slot and the time when it begins.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        // What stands on a level is due before everything on the levels above.
        let level = self.occupied.iter().position(|bits| *bits != 0)?;
        // Nothing stands before the present slot of a level: deadlines there lie ahead.
        let slot = self.occupied[level].trailing_zeros() as usize;
        let shift = level as u32 * LEVEL_BITS;
        let above = (self.now_ms >> shift) & !(SLOTS as u64 - 1);
        Some((level, slot, (above | slot as u64) << shift))
    }

    /// Puts a node in the list where its deadline belongs now.
    fn link(&mut self, index: u32) {
        let deadline_ms = self.nodes[index as usize].deadline_ms.max(self.now_ms);
        let differing = (deadline_ms ^ self.now_ms) | 1;
        let level = ((u64::BITS - 1 - differing.leading_zeros()) / LEVEL_BITS) as usize;
        let slot = (deadline_ms >> (level as u32 * LEVEL_BITS)) as usize % SLOTS;
        self.occupied[level] |= 1 << slot;
        let list = level * SLOTS + slot;
        let last = std::mem::replace(&mut self.lists[list].last, index);
        match last {
            NONE => self.lists[list].first = index,
            last => self.nodes[last as usize].next = index,
        }
        let node = &mut self.nodes[index as usize];
        node.list = list as u16;
        node.previous = last;
        node.next = NONE;
    }

    /// Takes a node out of its list.
    fn unlink(&mut self, index: u32) {
        let node = self.nodes[index as usize];
        let list = usize::from(node.list);
        match node.previous {
            NONE => self.lists[list].first = node.next,
            previous => self.nodes[previous as usize].next = node.next,
        }
        match node.next {
            NONE => self.lists[list].last = node.previous,
            next => self.nodes[next as usize].previous = node.previous,
        }
        if self.lists[list].first == NONE {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    /// Makes a node free.
    fn release(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        node.generation = node.generation.wrapping_add(1);
        node.list = u16::MAX;
        node.next = self.free;
        self.free = index;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cmp::Reverse;
    use std::collections::{BTreeSet, BinaryHeap};

    /// The plain model: a heap of (effective deadline, order of setting).
    #[derive(Default)]
    struct Model {
        now_ms: u64,
        heap: BinaryHeap<Reverse<(u64, usize)>>,
        cancelled: BTreeSet<usize>,
        /// Of every timer ever set.
        set: Vec<(u32, u64)>,
        pending: BTreeSet<usize>,
    }

    impl Model {
        fn set(&mut self, id: u32, deadline_ms: u64) {
            let order = self.set.len();
            self.set.push((id, deadline_ms));
            self.pending.insert(order);
            self.heap
                .push(Reverse((deadline_ms.max(self.now_ms), order)));
        }

        fn cancel(&mut self, order: usize) -> bool {
            self.cancelled.insert(order);
            self.pending.remove(&order)
        }

        fn advance(&mut self, now_ms: u64) -> Vec<(u32, u64)> {
            self.now_ms = self.now_ms.max(now_ms);
            let mut due = Vec::new();
            while let Some(&Reverse((deadline_ms, order))) = self.heap.peek()
                && deadline_ms <= self.now_ms
            {
                self.heap.pop();
                self.pending.remove(&order);
                if !self.cancelled.contains(&order) {
                    due.push(self.set[order]);
                }
            }
            due
        }

        fn earliest(&self) -> Option<u64> {
            let effective = |order: &usize| self.set[*order].1.max(self.now_ms);
            self.pending.iter().map(effective).min()
        }
    }

    #[derive(Debug, Clone)]
    enum Op {
        Set { ahead_ms: i64 },
        Cancel { nth: usize },
        Advance { by_ms: i64 },
        AdvanceToNext,
        SetFar { deadline_ms: u64 },
    }

    fn op() -> impl Strategy<Value = Op> {
        let ahead = prop_oneof![
            -50_i64..200,
            0_i64..5_000,
            0_i64..70_000,
            0_i64..20_000_000,
            (0_u32..40).prop_map(|bits| 1_i64 << bits),
        ];
        prop_oneof![
            6 => ahead.clone().prop_map(|ahead_ms| Op::Set { ahead_ms }),
            2 => any::<usize>().prop_map(|nth| Op::Cancel { nth }),
            2 => prop_oneof![-100_i64..300, ahead].prop_map(|by_ms| Op::Advance { by_ms }),
            2 => Just(Op::AdvanceToNext),
            1 => any::<u64>().prop_map(|deadline_ms| Op::SetFar { deadline_ms }),
        ]
    }

    proptest! {
        #[test]
        fn as_a_heap(
            start_ms in prop_oneof![0_u64..100, any::<u64>()],
            ops in prop::collection::vec(op(), 1..400),
        ) {
            let mut wheel = Wheel::new(start_ms);
            let mut model = Model { now_ms: start_ms, ..Model::default() };
            let mut timers = Vec::new();
            for op in ops {
                let mut advance_to = None;
                match op {
                    Op::Set { ahead_ms } => {
                        let deadline_ms = model.now_ms.saturating_add_signed(ahead_ms);
                        let id = timers.len() as u32 % 7;
                        timers.push(wheel.set(id, deadline_ms));
                        model.set(id, deadline_ms);
                    }
                    Op::SetFar { deadline_ms } => {
                        timers.push(wheel.set(99, deadline_ms));
                        model.set(99, deadline_ms);
                    }
                    Op::Cancel { nth } if !timers.is_empty() => {
                        let order = nth % timers.len();
                        prop_assert_eq!(wheel.cancel(timers[order]), model.cancel(order));
                    }
                    Op::Cancel { .. } => {}
                    Op::Advance { by_ms } => {
                        advance_to = Some(model.now_ms.saturating_add_signed(by_ms));
                    }
                    Op::AdvanceToNext => advance_to = wheel.next_deadline(),
                }
                if let Some(now_ms) = advance_to {
                    let mut due = Vec::new();
                    wheel.advance(now_ms, &mut due);
                    let due: Vec<_> = due.iter().map(|due| (due.id, due.deadline_ms)).collect();
                    prop_assert_eq!(due, model.advance(now_ms));
                }
                prop_assert_eq!(wheel.len(), model.pending.len());
                match (wheel.next_deadline(), model.earliest()) {
                    (None, None) => {}
                    (Some(next), Some(earliest)) => {
                        prop_assert!(next <= earliest);
                        prop_assert!(next >= model.now_ms);
                        // Near deadlines are told exactly.
                        if earliest >> LEVEL_BITS == model.now_ms >> LEVEL_BITS {
                            prop_assert_eq!(next, earliest);
                        }
                    }
                    (next, earliest) => prop_assert!(false, "{:?} {:?}", next, earliest),
                }
            }
            // Following next_deadline alone ends, and fires everything.
            let mut steps = 0;
            while let Some(next) = wheel.next_deadline() {
                let mut due = Vec::new();
                wheel.advance(next, &mut due);
                let due: Vec<_> = due.iter().map(|due| (due.id, due.deadline_ms)).collect();
                prop_assert_eq!(due, model.advance(next));
                steps += 1;
                prop_assert!(steps <= LEVELS * timers.len());
            }
            prop_assert!(model.pending.is_empty());
        }
    }

    #[test]
    fn a_fired_timer_names_nothing_though_its_place_is_used_again() {
        let mut wheel = Wheel::new(0);
        let first = wheel.set(1, 5);
        let mut due = Vec::new();
        wheel.advance(10, &mut due);
        assert_eq!(due[0].timer, first);
        let second = wheel.set(2, 15);
        assert!(!wheel.cancel(first));
        assert_eq!(wheel.len(), 1);
        assert!(wheel.cancel(second));
        assert!(!wheel.cancel(second));
        assert!(wheel.is_empty());
    }

    #[test]
    fn many_ids() {
        let mut wheel = Wheel::new(1_000);
        let interval_ms = 60_000;
        let deadline =
            |id: u32, round: u64| 1_000 + u64::from(id) * 37 % interval_ms + round * interval_ms;
        for id in 0..200_000 {
            wheel.set(id, deadline(id, 0));
        }
        let mut fired = vec![0_u64; 200_000];
        let mut due = Vec::new();
        let mut now_ms = 1_000;
        while now_ms < 1_000 + 3 * interval_ms {
            now_ms += 2;
            wheel.advance(now_ms, &mut due);
            for due in due.drain(..) {
                assert_eq!(due.deadline_ms, deadline(due.id, fired[due.id as usize]));
                assert!((0..=2).contains(&(now_ms - due.deadline_ms)));
                fired[due.id as usize] += 1;
                wheel.set(due.id, deadline(due.id, fired[due.id as usize]));
            }
        }
        assert!(fired.iter().all(|count| (3..=4).contains(count)));
        assert_eq!(wheel.len(), 200_000);
    }
}
