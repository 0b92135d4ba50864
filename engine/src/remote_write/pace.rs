//! A receiver's answers -> how many requests may be on their way to it, and from when on.
//!
//! Additive increase, multiplicative decrease, judged once a round: as many answers as requests may
//! be on their way. A round in which the bound was reached and the answers came as fast as ever
//! raises it by one; one in which they came late, because requests queue up in the receiver, takes
//! a quarter off. A failure (429, 5xx, no answer) halves it at once, but not again for requests
//! that had been sent before that; and no round with a failure raises it, so that an outage ends at
//! the minimum. Where a 429 came, the bound does not come back to for half a minute.
//!
//! What "as fast as ever" is depends on a request's size, so it is learned for each power of two of
//! its bytes: the least time seen. It is taken anew at the minimum, where it cannot be the queue's:
//! so a receiver that has become slower for good is not held back for ever.
//!
//! Source of the control: Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for
//! Congestion Avoidance"; of the use of delay: RFC 6817, LEDBAT.

/// Delay in the receiver that is never too long, in microseconds: less than that is noise, and a
/// queue of that length keeps it busy between two of our turns.
pub(super) const DELAY_US: u64 = 100_000;
/// How long the bound at which a 429 came is not tried again, in microseconds.
pub(super) const CEILING_US: u64 = 30_000_000;
/// Powers of two of request sizes.
const SIZES: usize = 32;

/// What an answer says of the receiver's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// It took the request.
    Fine,
    /// It says that requests come too fast (429).
    Limited,
    /// It failed, or did not answer.
    Failing,
    /// Nothing: the answer is about the request.
    Unknown,
}

/// A request that has ended. Times are of one clock that never steps, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// When it was sent.
    pub started_us: u64,
    /// When it ended.
    pub ended_us: u64,
    /// Size of its body.
    pub bytes: u64,
    /// What its answer says.
    pub load: Load,
    /// `Retry-After`: the receiver wants no request for so long.
    pub retry_after_us: Option<u64>,
}

/// The control of one endpoint.
#[derive(Debug, Clone)]
pub struct Pace {
    min: u32,
    max: u32,
    bound: u32,
    /// Requests sent before this time say nothing that is not known.
    halved_at_us: u64,
    /// A bound that is not to be reached before the time.
    ceiling: Option<(u32, u64)>,
    paused_until_us: u64,
    /// Least time of a request by the logarithm of its size; 0: none yet.
    least_us: [u64; SIZES],
    round: Round,
}

/// Answers since the bound was judged.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    answers: u32,
    /// Of requests that were taken: their times, as shares of what is not too long.
    shares: f64,
    taken: u32,
    /// The bound kept a request from being sent, or just did not.
    reached: bool,
    failed: bool,
}

impl Pace {
    /// Begins at `min`, at least 1, and never passes `max`.
    pub fn new(min: u32, max: u32) -> Self {
        let max = max.max(1);
        let min = min.clamp(1, max);
        Self {
            min,
            max,
            bound: min,
            halved_at_us: 0,
            ceiling: None,
            paused_until_us: 0,
            least_us: [0; SIZES],
            round: Round::default(),
        }
    }

    /// Requests that may be on their way.
    pub fn bound(&self) -> u32 {
        self.bound
    }

    /// Nothing is to be sent before this time.
    pub fn paused_until_us(&self) -> u64 {
        self.paused_until_us
    }

    /// Whether another request may be sent.
    pub fn may_start(&self, now_us: u64, on_their_way: usize) -> bool {
        now_us >= self.paused_until_us && on_their_way < self.bound as usize
    }

    /// A request was sent; with it so many are on their way.
    pub fn started(&mut self, on_their_way: usize) {
        self.round.reached |= on_their_way >= self.bound as usize;
    }

    /// Takes the end of a request.
    pub fn ended(&mut self, ended: Ended) {
        if let Some(wish_us) = ended.retry_after_us {
            let until_us = ended.ended_us.saturating_add(wish_us);
            self.paused_until_us = self.paused_until_us.max(until_us);
        }
        self.round.answers += 1;
        match ended.load {
            Load::Unknown => {}
            Load::Fine => self.taken(ended),
            Load::Limited | Load::Failing => {
                self.round.failed = true;
                if ended.started_us >= self.halved_at_us {
                    self.halve(ended);
                    return;
                }
            }
        }
        if self.round.answers >= self.bound {
            self.judge(ended.ended_us);
        }
    }

    fn taken(&mut self, ended: Ended) {
        let took_us = ended.ended_us.saturating_sub(ended.started_us).max(1);
        let size = ended.bytes.max(1).ilog2() as usize;
        let least_us = &mut self.least_us[size.min(SIZES - 1)];
        if *least_us == 0 || took_us < *least_us {
            *least_us = took_us;
        } else if self.bound == self.min {
            *least_us += (took_us - *least_us) / 4;
        }
        let fine_us = *least_us + DELAY_US.max(*least_us);
        self.round.shares += took_us as f64 / fine_us as f64;
        self.round.taken += 1;
    }

    fn halve(&mut self, ended: Ended) {
        if ended.load == Load::Limited {
            self.ceiling = Some((self.bound, ended.ended_us + CEILING_US));
        }
        self.bound = (self.bound / 2).max(self.min);
        self.halved_at_us = ended.ended_us;
        self.round = Round {
            failed: true,
            ..Round::default()
        };
    }

    fn judge(&mut self, now_us: u64) {
        let round = std::mem::take(&mut self.round);
        if round.failed || round.taken == 0 {
            return;
        }
        if round.shares > f64::from(round.taken) {
            self.bound = (self.bound - self.bound.div_ceil(4)).max(self.min);
            return;
        }
        let below = |(ceiling, until_us)| self.bound + 1 < ceiling || now_us >= until_us;
        if round.reached && self.ceiling.is_none_or(below) {
            self.bound = (self.bound + 1).min(self.max);
        }
    }
}
