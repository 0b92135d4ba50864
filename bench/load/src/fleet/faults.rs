//! Shares of faulty targets -> what goes wrong with one response.

use std::time::Duration;

use clap::Args;

use crate::error::Error;
use crate::profile::scatter;
use crate::units::{parse_duration, parse_percent};

/// Faults, each as a share of the targets; the shares exclude each other. Which targets are hit is
/// a
/// function of their number alone.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Faults")]
pub struct FaultArgs {
    /// Targets that answer 500.
    #[arg(long = "fault-500", value_name = "PERCENT", default_value = "0", value_parser = parse_percent)]
    pub status_500: f64,
    /// Targets that answer late, see --slow-delay.
    #[arg(long = "fault-slow", value_name = "PERCENT", default_value = "0", value_parser = parse_percent)]
    pub slow: f64,
    /// Targets that answer in 16 pieces with --slow-delay between them.
    #[arg(long = "fault-dribble", value_name = "PERCENT", default_value = "0", value_parser = parse_percent)]
    pub dribble: f64,
    /// Targets that close the connection in the middle of the body.
    #[arg(long = "fault-truncate", value_name = "PERCENT", default_value = "0", value_parser = parse_percent)]
    pub truncate: f64,
    /// Targets whose port refuses connections (with --fault-from: which hang up on the request).
    #[arg(long = "fault-down", value_name = "PERCENT", default_value = "0", value_parser = parse_percent)]
    pub down: f64,
    /// Pause of slow and dribbling targets.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub slow_delay: Duration,
    /// A faulty target fails every Nth request only.
    #[arg(long = "fault-every", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub every: u32,
    /// Faults begin this long after the start.
    #[arg(long = "fault-from", value_name = "DURATION", value_parser = parse_duration)]
    pub from: Option<Duration>,
    /// Faults end this long after they began.
    #[arg(long = "fault-for", value_name = "DURATION", value_parser = parse_duration)]
    pub lasting: Option<Duration>,
}

/// What is wrong with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Status500,
    Slow,
    Dribble,
    Truncate,
    Down,
}

impl FaultArgs {
    pub(super) fn check(&self) -> Result<(), Error> {
        let sum = self.status_500 + self.slow + self.dribble + self.truncate + self.down;
        if sum > 100.0 {
            return Err(Error::Invalid(format!(
                "the --fault shares add up to {sum} %, above 100"
            )));
        }
        Ok(())
    }

    /// The fault that `target` has, whether or not it strikes now.
    pub(super) fn of(&self, target: u32) -> Option<Fault> {
        let mut lot = (scatter(u64::from(target) ^ 0xfa017) % 1_000_000) as f64 / 1e4;
        for (share, fault) in [
            (self.status_500, Fault::Status500),
            (self.slow, Fault::Slow),
            (self.dribble, Fault::Dribble),
            (self.truncate, Fault::Truncate),
            (self.down, Fault::Down),
        ] {
            if lot < share {
                return Some(fault);
            }
            lot -= share;
        }
        None
    }

    /// Whether a fault strikes the `nth` request (from 1) of a faulty target at this age of the
    /// fleet.
    pub(super) fn strikes(&self, nth: u64, age: Duration) -> bool {
        let from = self.from.unwrap_or_default();
        let over = self.lasting.is_some_and(|lasting| age >= from + lasting);
        age >= from && !over && nth.is_multiple_of(u64::from(self.every))
    }

    /// Whether `target` refuses connections for good.
    pub(super) fn refuses(&self, target: u32) -> bool {
        self.from.is_none()
            && self.lasting.is_none()
            && self.every == 1
            && self.of(target) == Some(Fault::Down)
    }
}

#[cfg(test)]
mod tests {
    use crate::fleet::FleetArgs;

    use super::*;

    #[test]
    fn shares_are_met_and_exclusive() {
        let args = FaultArgs {
            status_500: 10.0,
            slow: 5.0,
            truncate: 20.0,
            ..FleetArgs::default().faults
        };
        let mut counts = [0; 4];
        for target in 0..100_000 {
            match args.of(target) {
                Some(Fault::Status500) => counts[0] += 1,
                Some(Fault::Slow) => counts[1] += 1,
                Some(Fault::Truncate) => counts[2] += 1,
                Some(other) => panic!("{other:?}"),
                None => counts[3] += 1,
            }
        }
        for (count, percent) in counts.into_iter().zip([10, 5, 20, 65]) {
            assert!(
                (count - percent * 1000_i32).abs() < 800,
                "{count} for {percent} %"
            );
        }
    }

    #[test]
    fn window_and_rhythm() {
        let second = Duration::from_secs;
        let args = FaultArgs {
            every: 3,
            from: Some(second(10)),
            lasting: Some(second(5)),
            ..FleetArgs::default().faults
        };
        assert!(!args.strikes(3, second(9)));
        assert!(args.strikes(3, second(10)));
        assert!(!args.strikes(4, second(10)));
        assert!(!args.strikes(6, second(15)));
    }
}
