//! What is remembered of an endpoint beside its cursor: names it had, a backfill not ended yet.

use super::{Cursor, CursorSet};
use crate::scrape::Position;

/// Begins the identity of an entry that is no cursor, but a mark of the endpoint that follows.
/// Without a second one: until its `low_water` the endpoint gets every record, whatever its route.
/// With a second one: what follows that is an identity that the endpoint had before.
const MARK: char = '\0';
impl CursorSet {
    /// An endpoint has another identity now: what it stands at goes over, and it is remembered that
    /// records for the former identity are for it. False if there is no cursor of the former one,
    /// or one of the new one already.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        let (Ok(index), Err(_)) = (self.find(from), self.find(to)) else {
            return false;
        };
        let cursor = Cursor {
            endpoint: to.into(),
            removed_at_ms: None,
            ..self.cursors.remove(index)
        };
        self.let_go.remove(from);
        let until = self.backfill_until(from);
        let mut former = self.former(from);
        former.push(from.into());
        self.end_marks(from);
        if let Some(until) = until {
            self.begin_backfill(to, until);
        }
        for former in former {
            self.add(&format!("{MARK}{to}{MARK}{former}"), Position::default());
        }
        let index = self.find(to).unwrap_or_else(|index| index);
        self.cursors.insert(index, cursor);
        self.changes += 1;
        true
    }

    /// Identities that an endpoint had before, as far as `rename` was told.
    pub fn former(&self, endpoint: &str) -> Vec<Box<str>> {
        let prefix = format!("{MARK}{endpoint}{MARK}");
        let marks = self.cursors.iter().map(|mark| &*mark.endpoint);
        let former = marks.filter_map(|mark| mark.strip_prefix(&*prefix));
        former.map(Box::from).collect()
    }

    /// Forgets the marks of an endpoint.
    pub(super) fn end_marks(&mut self, endpoint: &str) {
        self.end_backfill(endpoint);
        let prefix = format!("{MARK}{endpoint}{MARK}");
        self.cursors
            .retain(|mark| !mark.endpoint.starts_with(&*prefix));
        self.changes += 1;
    }

    /// Until `until` the endpoint gets every record, whatever its route: also after a restart, and
    /// until `end_backfill`.
    pub fn begin_backfill(&mut self, endpoint: &str, until: Position) {
        self.add(&format!("{MARK}{endpoint}"), until);
    }

    /// What `begin_backfill` was told.
    pub fn backfill_until(&self, endpoint: &str) -> Option<Position> {
        let mark = self.get(&format!("{MARK}{endpoint}"));
        mark.map(|mark| mark.low_water)
    }

    /// Of all that are to get every record until some place, and hold segments back: where they
    /// stand, and that place.
    pub(crate) fn backfills(&self) -> impl Iterator<Item = (Position, Position)> {
        let marks = self.cursors.iter();
        marks.filter_map(|mark| {
            let endpoint = mark.endpoint.strip_prefix(MARK)?;
            let cursor = self.get(endpoint).filter(|cursor| self.holds(cursor))?;
            Some((cursor.low_water, mark.low_water))
        })
    }

    /// All identities that endpoints had before, each after that of the endpoint.
    pub(crate) fn all_former(&self) -> impl Iterator<Item = (&str, &str)> {
        let marks = self.cursors.iter();
        marks.filter_map(|mark| mark.endpoint.strip_prefix(MARK)?.split_once(MARK))
    }

    /// The endpoint has got there, or has gone.
    pub fn end_backfill(&mut self, endpoint: &str) {
        if let Ok(index) = self.find(&format!("{MARK}{endpoint}")) {
            self.cursors.remove(index);
            self.changes += 1;
        }
    }
}

pub(super) fn is_mark(cursor: &Cursor) -> bool {
    cursor.endpoint.starts_with(MARK)
}
