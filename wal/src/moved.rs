//! A place that a record had -> the place it has since it was written again.

use crate::scrape::Position;

/// Records that went from some places of the log to later ones, and those places.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moved {
    /// In the order in which they went: what one move made, a later one may move on.
    moves: Vec<Move>,
}

/// One move.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    /// The first place that has moved, and the end of them.
    pub(crate) from: Position,
    pub(crate) to: Position,
    /// Where each record stood, rising, and where it stands.
    pub(crate) records: Vec<(Position, Position)>,
    /// Where `to` went.
    pub(crate) end: Position,
}

impl Move {
    fn apply(&self, position: Position) -> Position {
        if position < self.from || position > self.to {
            return position;
        }
        let next = self.records.partition_point(|(old, _)| *old < position);
        self.records.get(next).map_or(self.end, |(_, new)| *new)
    }
}

impl Moved {
    /// Where what stood at `position`, or came next after it, stands now.
    pub(crate) fn apply(&self, position: Position) -> Position {
        let moves = self.moves.iter();
        moves.fold(position, |position, moved| moved.apply(position))
    }

    pub(crate) fn push(&mut self, moved: Move) {
        self.moves.push(moved);
    }

    /// Nobody names a place before `low_water` any more. Who stands at it may still call it by the
    /// name it had.
    pub(crate) fn forget_before(&mut self, low_water: Position) {
        self.moves.retain(|moved| moved.end >= low_water);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64, offset: u32) -> Position {
        Position { segment, offset }
    }

    #[test]
    fn places_follow_their_records_through_two_moves() {
        let mut moved = Moved::default();
        moved.push(Move {
            from: at(1, 100),
            to: at(2, 32),
            records: vec![(at(1, 120), at(3, 200)), (at(2, 16), at(3, 300))],
            end: at(3, 400),
        });
        for (old, new) in [
            (at(1, 99), at(1, 99)),
            (at(1, 100), at(3, 200)),
            (at(1, 120), at(3, 200)),
            (at(1, 121), at(3, 300)),
            (at(2, 0), at(3, 300)),
            (at(2, 32), at(3, 400)),
            (at(2, 33), at(2, 33)),
            (at(3, 250), at(3, 250)),
        ] {
            assert_eq!(moved.apply(old), new, "{old:?}");
        }
        moved.push(Move {
            from: at(3, 300),
            to: at(3, 500),
            records: vec![(at(3, 300), at(5, 200)), (at(3, 450), at(5, 300))],
            end: at(5, 350),
        });
        assert_eq!(
            moved.apply(at(1, 120)),
            at(3, 200),
            "stayed the second time"
        );
        assert_eq!(moved.apply(at(2, 16)), at(5, 200));
        assert_eq!(moved.apply(at(3, 400)), at(5, 300));
        moved.forget_before(at(3, 400));
        assert_eq!(moved.apply(at(2, 16)), at(5, 200));
        moved.forget_before(at(3, 401));
        assert_eq!(moved.apply(at(2, 16)), at(2, 16));
        assert_eq!(moved.apply(at(3, 400)), at(5, 300));
    }
}
