//! The way to the other members: who they are, questions to them, and questions of theirs.

use crate::clock;
use crate::gossip::{GossipThread, StoreQuestion, StoreSlot, ToGossip};
use ringscrape_cluster::store::Members;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Questions of other members that may wait; more are refused.
const QUESTIONS_MAX: usize = 64;

/// What comes later.
pub(crate) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The way to the other members.
pub(crate) trait Links: Send + Sync + 'static {
    /// The name of this node.
    fn me(&self) -> &Arc<str>;
    /// Who they are; an error says why that is not known.
    fn members(&self) -> Later<Result<Members, String>>;
    /// Asks another member.
    fn ask(&self, to: &Arc<str>, question: Vec<u8>) -> Later<Result<Vec<u8>, String>>;
}

/// The streams of this node's part in its cluster.
#[derive(Debug, Clone)]
pub(crate) struct GossipLinks {
    me: Arc<str>,
    mailbox: mpsc::Sender<ToGossip>,
    slot: StoreSlot,
}

impl GossipLinks {
    /// Of a thread that runs.
    pub(crate) fn new(thread: &GossipThread) -> Self {
        Self {
            me: thread.name.clone(),
            mailbox: thread.mailbox.clone(),
            slot: thread.store.clone(),
        }
    }

    /// The questions of other members, from now on. `None`: somebody has them already.
    pub(crate) fn questions(&self) -> Option<mpsc::Receiver<StoreQuestion>> {
        let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
        self.slot.set(sender).ok().map(|()| receiver)
    }
}

impl Links for GossipLinks {
    fn me(&self) -> &Arc<str> {
        &self.me
    }

    fn members(&self) -> Later<Result<Members, String>> {
        let mailbox = self.mailbox.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let asked = mailbox.send(ToGossip::Status(answer)).await;
            asked.map_err(|_| ended())?;
            let status = answered.await.map_err(|_| ended())?;
            let members = Members::of(&status.snapshot, clock::now_ms());
            members.ok_or_else(|| "this node has not found its cluster yet".to_owned())
        })
    }

    fn ask(&self, to: &Arc<str>, question: Vec<u8>) -> Later<Result<Vec<u8>, String>> {
        let (mailbox, to) = (self.mailbox.clone(), to.clone());
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let ask = ToGossip::Ask {
                to,
                question,
                answer,
            };
            mailbox.send(ask).await.map_err(|_| ended())?;
            answered.await.unwrap_or_else(|_| Err(ended()))
        })
    }
}

fn ended() -> String {
    "the gossip thread has ended".to_owned()
}
