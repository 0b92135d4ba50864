//! A name and a password -> whether they are a user's.
//!
//! bcrypt is slow by intention. A thread of its own, which the scheduler takes last, works on one
//! password after the other; the line before it is short, and who is known to be right does not
//! stand in it. So neither scraping nor those who are known wait for somebody who guesses.

use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;

/// Passwords that wait to be hashed.
const WAITING_MAX: usize = 16;
/// Right answers that are kept.
const KNOWN_MAX: usize = 128;
/// Most rounds of a hash, as a power of two; that many take some seconds.
pub(crate) const COST_MAX: u32 = 16;

/// What became of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The user's.
    Right,
    /// Nobody's, or another's.
    Wrong,
    /// Too many are being looked at.
    Busy,
}

struct Question {
    password: Vec<u8>,
    hash: String,
    answer: oneshot::Sender<bool>,
}

/// Looks at passwords.
pub(crate) struct Passwords {
    questions: SyncSender<Question>,
    /// Makes what is kept of right answers useless elsewhere.
    secret: [u8; 32],
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    all: HashSet<[u8; 32]>,
    by_age: VecDeque<[u8; 32]>,
}

impl Passwords {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start() -> Result<Self, String> {
        let mut secret = [0; 32];
        let filled = SysRng.try_fill_bytes(&mut secret);
        filled.map_err(|error| format!("no random bytes: {error}"))?;
        let (questions, asked) = sync_channel(WAITING_MAX);
        let started = std::thread::Builder::new()
            .name("passwords".to_owned())
            .spawn(move || answer_all(&asked));
        started.map_err(|error| format!("cannot start the thread for passwords: {error}"))?;
        Ok(Self {
            questions,
            secret,
            known: Mutex::default(),
        })
    }

    /// Whether `password` is that of the user `name` of `users`. A name that is nobody's takes as
    /// long as the one that takes longest.
    pub(crate) async fn check(
        &self,
        users: &BTreeMap<String, String>,
        name: &str,
        password: &[u8],
    ) -> Verdict {
        let hash = users.get(name);
        let is_user = hash.is_some();
        let Some(hash) = hash.or_else(|| slowest(users)) else {
            return Verdict::Wrong;
        };
        let key = self.key(hash, password);
        if is_user && self.known().all.contains(&key) {
            return Verdict::Right;
        }
        let (answer, answered) = oneshot::channel();
        let question = Question {
            password: password.to_owned(),
            hash: hash.clone(),
            answer,
        };
        if self.questions.try_send(question).is_err() {
            return Verdict::Busy;
        }
        match answered.await {
            Ok(true) if is_user => {
                self.known().remember(key);
                Verdict::Right
            }
            Ok(_) => Verdict::Wrong,
            Err(_) => Verdict::Busy,
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hash is in it, so that a changed password is not known any more.
    fn key(&self, hash: &str, password: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.secret);
        digest.update(hash.len().to_le_bytes());
        digest.update(hash);
        digest.update(password);
        digest.finalize().into()
    }
}

/// The hash of the highest cost: an answer that comes sooner than others says of a name that it is
/// somebody's, and none says that it is nobody's.
fn slowest(users: &BTreeMap<String, String>) -> Option<&String> {
    users.values().max_by_key(|hash| cost(hash).unwrap_or(0))
}

impl Known {
    fn remember(&mut self, key: [u8; 32]) {
        if !self.all.insert(key) {
            return;
        }
        self.by_age.push_back(key);
        if self.by_age.len() > KNOWN_MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

fn answer_all(asked: &Receiver<Question>) {
    // SAFETY: a plain system call; 0 is the calling thread. Without it only latency suffers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
    while let Ok(question) = asked.recv() {
        // Who asked may have gone meanwhile.
        if !question.answer.is_closed() {
            let is_right = bcrypt::verify(&question.password, &question.hash);
            let _ = question.answer.send(is_right.unwrap_or(false));
        }
    }
}

/// The cost of a bcrypt hash.
///
/// # Errors
/// It is none.
pub(crate) fn cost(hash: &str) -> Result<u32, String> {
    let parts: Result<bcrypt::HashParts, _> = hash.parse();
    parts
        .map(|parts| parts.get_cost())
        .map_err(|_| "not a bcrypt hash; make one with: htpasswd -nBC 10 \"\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> BTreeMap<String, String> {
        let hash = |password: &str| bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap();
        let hash = |password| hash(password).to_string();
        BTreeMap::from([
            ("ann".to_owned(), hash("one")),
            ("bob".to_owned(), hash("two")),
        ])
    }

    #[tokio::test]
    async fn right_ones_are_told_from_wrong_ones() {
        let passwords = Passwords::start().unwrap();
        let mut users = users();
        for (name, password, verdict) in [
            ("ann", "one", Verdict::Right),
            ("bob", "two", Verdict::Right),
            ("ann", "two", Verdict::Wrong),
            ("ann", "", Verdict::Wrong),
            ("eve", "one", Verdict::Wrong),
            ("", "", Verdict::Wrong),
        ] {
            // Twice: the second time a right one is known.
            for _ in 0..2 {
                let found = passwords.check(&users, name, password.as_bytes()).await;
                assert_eq!(found, verdict, "{name}:{password}");
            }
        }
        let bob = users["bob"].clone();
        users.insert("ann".to_owned(), bob);
        assert_eq!(passwords.check(&users, "ann", b"one").await, Verdict::Wrong);
        users.remove("bob");
        assert_eq!(passwords.check(&users, "bob", b"two").await, Verdict::Wrong);
        assert_eq!(
            passwords.check(&BTreeMap::new(), "ann", b"one").await,
            Verdict::Wrong
        );
    }

    #[tokio::test]
    async fn who_is_known_does_not_wait_behind_those_who_guess() {
        let passwords = Passwords::start().unwrap();
        let mut users = users();
        assert_eq!(passwords.check(&users, "ann", b"one").await, Verdict::Right);
        // One that takes long, and more than the line takes.
        let slow = bcrypt::hash_with_salt("x", 12, [7; 16]).unwrap();
        users.insert("slow".to_owned(), slow.to_string());
        let guesses = (0..2 * WAITING_MAX).map(|n| {
            let (passwords, users) = (&passwords, &users);
            async move { passwords.check(users, "slow", &[n as u8]).await }
        });
        let guesses = futures_util::future::join_all(guesses);
        let known = async { passwords.check(&users, "ann", b"one").await };
        let first = futures_util::future::select(Box::pin(guesses), Box::pin(known)).await;
        match first {
            futures_util::future::Either::Right((verdict, _)) => {
                assert_eq!(verdict, Verdict::Right);
            }
            futures_util::future::Either::Left(_) => panic!("the guesses came first"),
        }
    }

    #[test]
    fn a_name_that_is_nobodys_takes_as_long_as_the_slowest() {
        let mut users = users();
        assert!(slowest(&BTreeMap::new()).is_none());
        let slow = bcrypt::hash_with_salt("x", 6, [7; 16]).unwrap();
        users.insert("aware".to_owned(), slow.to_string());
        assert_eq!(slowest(&users), Some(&users["aware"]));
    }

    #[test]
    fn few_right_answers_are_kept() {
        let mut known = Known::default();
        for n in 0..=KNOWN_MAX {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_le_bytes());
            known.remember(key);
            known.remember(key);
        }
        assert_eq!(
            (known.all.len(), known.by_age.len()),
            (KNOWN_MAX, KNOWN_MAX)
        );
        assert!(!known.all.contains(&[0; 32]));
    }

    #[test]
    fn hashes_are_told_from_other_texts() {
        let hash = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";
        assert_eq!(cost(hash), Ok(10));
        for wrong in ["", "secret", "$2y$10$short", "$1$abc$def"] {
            assert!(cost(wrong).is_err(), "{wrong}");
        }
    }
}
