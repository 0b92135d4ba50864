//! Named texts that all members keep: versions, removals, comparisons and who wins.
//!
//! Each member has all of it. A write is sent to all members at once, and counts when a majority
//! of them has it on disk; whoever missed it gets it from any other member, because members compare
//! what they have all the time. Nothing depends on a message arriving.
//!
//! - **Winner.** Of two entries of one name the one with the higher revision stays, then the one of
//!   the higher node name. A writer's revision is higher than all that it knows, so only writers
//!   that do not know of each other can be decided by this rule; then the loser is reported by each
//!   member that sees both.
//! - **Batches.** The entries of one batch have one version, and are stored, sent and taken
//!   together. Of two batches that do not know of each other, each name has its own winner.
//! - **Removals** are entries without content. A member forgets one after it was in touch with a
//!   majority for [`REMOVAL_LIFETIME_MS`] with it; how old it was goes with it from member to
//!   member. No clock is asked: time counts as each member's own timer measures it, and whether a
//!   member was away for too long follows from revisions. One that lacks what others have forgotten
//!   may hold what was removed by it; it is told so, and has to forget all that it has before it
//!   takes part ([`Past`]). So is one that has not been there for long enough to say what it lacks,
//!   once it tells an entry that is not newer than what was forgotten, and that others lack.
//! - **Majority** of the members that scrape, or did within the last hour and have not left by
//!   plan, as far as this node knows or has on its disk: of a cluster that is cut in two at most
//!   one side takes writes, and a node that is started alone takes none.
//!
//! In reading order: one entry (`entry`), all of a member (`replica`), what members ask each other
//! (`message`), who counts (`members`).

mod entry;
mod members;
mod message;
mod replica;

pub use entry::{Content, Entry, Held, REVISION_MAX, Version};
pub use members::{Ballot, MEMORY_MS, Members, Remembered};
pub use message::{Answer, Known, Question, TAG};
pub use replica::{
    BATCH_BYTES_MAX, Digest, Exchange, Lost, Meeting, Past, REMOVAL_LIFETIME_MS, Replica, Verdict,
};

#[cfg(test)]
mod tests;
