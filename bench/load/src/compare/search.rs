//! Answers to "was this rate held?" -> the next rate to try: doubled, then bisected.

/// Rates closer together than this are not told apart.
const RATIO_MIN: f64 = 1.08;

/// A search for the highest rate that is held.
#[derive(Debug)]
pub(super) struct Search {
    next: f64,
    steps_left: u32,
    held: Option<f64>,
    failed: Option<f64>,
}

impl Search {
    pub(super) fn new(start: f64, steps_max: u32) -> Search {
        Search {
            next: start,
            steps_left: steps_max,
            held: None,
            failed: None,
        }
    }

    /// The next rate to try, or `None` when the answer is close enough or the steps are used up.
    pub(super) fn next(&mut self) -> Option<f64> {
        let done = match (self.held, self.failed) {
            (Some(held), Some(failed)) => failed / held < RATIO_MIN,
            _ => false,
        };
        if done || self.steps_left == 0 {
            return None;
        }
        self.steps_left -= 1;
        Some(self.next)
    }

    /// Whether the rate that [`Search::next`] gave was held.
    pub(super) fn tell(&mut self, held: bool) {
        if held {
            self.held = Some(self.next);
        } else {
            self.failed = Some(self.next);
        }
        self.next = match (self.held, self.failed) {
            (Some(held), Some(failed)) => (held * failed).sqrt(),
            (Some(held), None) => held * 2.0,
            (None, Some(failed)) => failed / 2.0,
            (None, None) => self.next,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A machine that holds every rate up to `limit`.
        #[test]
        fn finds_the_limit(limit in 1_000.0..1e7f64, start in 10_000.0..1e6f64) {
            let mut search = Search::new(start, 40);
            let mut best = 0.0f64;
            let mut steps = 0;
            while let Some(rate) = search.next() {
                steps += 1;
                let held = rate <= limit;
                if held { best = best.max(rate); }
                search.tell(held);
            }
            prop_assert!(steps < 20, "{steps}");
            prop_assert!(best <= limit && best * RATIO_MIN * 1.001 >= limit, "{best} {limit}");
        }
    }

    #[test]
    fn steps_are_bounded() {
        let mut search = Search::new(1.0, 3);
        for rate in [1.0, 2.0, 4.0] {
            assert_eq!(search.next(), Some(rate));
            search.tell(true);
        }
        assert_eq!(search.next(), None);
    }
}
