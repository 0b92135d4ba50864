//! Revisions of what the watch of a store tells and of listings beside it -> which of them is the
//! newer one, so that neither puts an older state in force than the other did.

/// What has come from a store so far.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The last revision that the watch told of. It falls only if the store begins anew.
    watched: Option<u64>,
    /// The last revision of a listing. Each is read after the one before has come, so that it falls
    /// only if the store begins anew, too.
    listed: Option<u64>,
}

/// What to do with a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// It is newer than what is in force.
    Listing,
    /// The store has begun anew: what the watch knows, be it of before, is what counts.
    Watched,
    /// What is in force is as new.
    Nothing,
}

impl Order {
    /// Whether what the watch tells is to be put in force: not if a listing was ahead of it. With
    /// equal revisions it is: in a store without a server what comes later may have a lower
    /// revision than the highest, and the watch has all that a listing had.
    pub(super) fn takes_change(&mut self, revision: u64) -> bool {
        let begins_anew = self.watched.is_some_and(|watched| revision < watched);
        self.watched = Some(revision);
        if begins_anew {
            self.listed = None;
        }
        self.listed.is_none_or(|listed| listed <= revision)
    }

    /// What to do with a listing. `in_force`: the revision of what is.
    pub(super) fn of_listing(&mut self, revision: u64, in_force: u64) -> Choice {
        if self.listed.is_some_and(|listed| revision < listed) {
            self.listed = None;
            return Choice::Watched;
        }
        self.listed = Some(revision);
        match revision > in_force {
            true => Choice::Listing,
            false => Choice::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_listing_that_a_change_has_overtaken_is_not_taken() {
        // In a store without a server, where the change has a lower revision than others.
        let mut order = Order::default();
        assert!(order.takes_change(100));
        assert_eq!(order.of_listing(100, 100), Choice::Nothing);
        assert!(order.takes_change(100));
    }

    #[test]
    fn a_change_that_a_listing_is_ahead_of_is_not_taken() {
        let mut order = Order::default();
        assert!(order.takes_change(0));
        assert_eq!(order.of_listing(7, 0), Choice::Listing, "the first of all");
        assert_eq!(
            [5, 6, 7, 8].map(|told| order.takes_change(told)),
            [false, false, true, true]
        );
    }

    #[test]
    fn a_store_that_begins_anew_is_followed() {
        let mut order = Order::default();
        order.takes_change(50);
        order.of_listing(100, 50);
        // Seen by the watch.
        assert!(order.takes_change(3));
        assert!(order.takes_change(4));
        assert_eq!(order.of_listing(5, 4), Choice::Listing);
        // Seen by a listing only: the watch is above what it told last.
        assert_eq!(order.of_listing(100, 5), Choice::Listing);
        assert!(!order.takes_change(60));
        assert_eq!(order.of_listing(60, 100), Choice::Watched);
        assert!(order.takes_change(61));
    }

    /// What happens next.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// The store changes; by so much its revision rises.
        Change(u64),
        /// It begins anew.
        Anew,
        /// The watch tells of so many changes at once.
        Tell(usize),
        /// A listing is read.
        Read,
        /// It has come.
        Come,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..3_u64).prop_map(Step::Change),
            1 => Just(Step::Anew),
            4 => (1..4_usize).prop_map(Step::Tell),
            3 => Just(Step::Read),
            3 => Just(Step::Come),
        ];
        prop::collection::vec(step, 1..60)
    }

    /// The states that a store has had, what was told of them, and which is in force.
    struct Model {
        order: Order,
        revisions: Vec<u64>,
        told: usize,
        /// The watch has at least this, and tells the newest that it has.
        published: usize,
        read: Option<usize>,
        in_force: usize,
    }

    impl Model {
        fn tell(&mut self, state: usize) {
            self.told = state;
            if self.order.takes_change(self.revisions[state]) {
                self.in_force = state;
            }
        }

        fn come(&mut self) {
            let Some(state) = self.read.take() else {
                return;
            };
            let in_force = self.revisions[self.in_force];
            match self.order.of_listing(self.revisions[state], in_force) {
                Choice::Listing => self.in_force = state,
                Choice::Watched => self.in_force = self.told,
                Choice::Nothing => {}
            }
        }
    }

    /// `has_server`: each change has a revision of its own, and a listing may be ahead of the
    /// watch; else several may have the same, and the watch has what a listing reads.
    fn follow(steps: &[Step], has_server: bool, begins_anew: bool) -> Result<(), TestCaseError> {
        let mut model = Model {
            order: Order::default(),
            revisions: vec![0],
            told: 0,
            published: 0,
            read: None,
            in_force: 0,
        };
        let mut anew_at = 0;
        for step in steps {
            let before = model.in_force;
            let newest = model.revisions.len() - 1;
            match *step {
                Step::Change(by) => {
                    let by = if has_server { by + 1 } else { by };
                    model.revisions.push(model.revisions[newest] + by);
                }
                Step::Anew if begins_anew => {
                    model.revisions.push(0);
                    anew_at = newest + 1;
                }
                Step::Anew => {}
                Step::Tell(more) => {
                    let state = (model.told + more).max(model.published);
                    model.tell(state.min(newest));
                }
                Step::Read if model.read.is_none() => {
                    model.read = Some(newest);
                    if !has_server {
                        model.published = newest;
                    }
                }
                Step::Read => {}
                Step::Come => model.come(),
            }
            if anew_at == 0 {
                prop_assert!(
                    model.in_force >= before,
                    "{} after {before}",
                    model.in_force
                );
            }
        }
        // When all is told, the next two listings at most put right what is left.
        let newest = model.revisions.len() - 1;
        model.tell(newest);
        for _ in 0..3 {
            model.come();
            model.read = Some(newest);
        }
        prop_assert_eq!(model.in_force, newest);
        Ok(())
    }

    proptest! {
        #[test]
        fn what_is_in_force_never_becomes_older(steps in steps(), has_server: bool) {
            follow(&steps, has_server, false)?;
        }

        #[test]
        fn after_a_new_beginning_it_becomes_the_newest(steps in steps()) {
            follow(&steps, true, true)?;
        }
    }
}
