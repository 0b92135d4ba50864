//! A packet's way -> lost, or when it arrives, or that it arrives twice.

use crate::random::Random;
use crate::time::{MILLI, Micros};

/// A node's number.
pub(crate) type NodeId = usize;

/// How all links are when nothing is wrong.
#[derive(Debug, Clone)]
pub struct Links {
    /// Shortest way.
    pub delay_us_min: u64,
    /// What comes on top of it on average; it is exponentially distributed, so packets overtake
    /// each other.
    pub delay_us_more: f64,
    /// Of datagrams.
    pub loss: f64,
    /// Of datagrams.
    pub duplication: f64,
    /// Exchanges that fail, half of them at once, half of them on the way.
    pub stream_failure: f64,
}

impl Links {
    /// A network within one building.
    pub fn local() -> Self {
        Self {
            delay_us_min: 100,
            delay_us_more: 300.0,
            loss: 0.0,
            duplication: 0.0,
            stream_failure: 0.0,
        }
    }

    /// A bad one: what nodes have to bear without anything being missed.
    pub fn poor() -> Self {
        Self {
            delay_us_min: 1_000,
            delay_us_more: 8_000.0,
            loss: 0.03,
            duplication: 0.02,
            stream_failure: 0.05,
        }
    }
}

/// Something wrong with the links from some nodes to some others, for a while.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// Where packets come from.
    pub(crate) from: Group,
    /// Where they go.
    pub(crate) to: Group,
    /// Whether packets the other way are concerned, too.
    pub(crate) is_both_ways: bool,
    /// What happens to them.
    pub(crate) harm: Harm,
}

/// Some nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group(Vec<bool>);

/// What is wrong with a link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Harm {
    /// Nothing arrives.
    Cut,
    /// Nothing arrives in every other period.
    Flapping {
        /// How long it works, and does not.
        period: Micros,
    },
    /// Datagrams are lost.
    Loss(f64),
    /// All takes longer, by up to this.
    Slow(Micros),
}

/// All links.
#[derive(Debug)]
pub(crate) struct Network {
    links: Links,
    rules: Vec<(u64, Rule)>,
    random: Random,
}

/// How long a stream waits until it sends a lost packet again.
const RESEND: Micros = 200 * MILLI;

impl Group {
    /// Of `count` nodes these ones.
    pub(crate) fn new(count: usize, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let mut group = vec![false; count];
        for node in nodes {
            if let Some(is_in) = group.get_mut(node) {
                *is_in = true;
            }
        }
        Self(group)
    }

    /// All others.
    pub(crate) fn others(&self) -> Self {
        Self(self.0.iter().map(|is_in| !is_in).collect())
    }

    /// Whether a node is one of them.
    pub(crate) fn has(&self, node: NodeId) -> bool {
        self.0.get(node) == Some(&true)
    }
}

impl Rule {
    fn concerns(&self, from: NodeId, to: NodeId) -> bool {
        let there = self.from.has(from) && self.to.has(to);
        there || (self.is_both_ways && self.from.has(to) && self.to.has(from))
    }
}

impl Network {
    /// Links without anything wrong.
    pub(crate) fn new(links: Links, random: Random) -> Self {
        Self {
            links,
            rules: Vec::new(),
            random,
        }
    }

    /// From now on something is wrong.
    pub(crate) fn add(&mut self, id: u64, rule: Rule) {
        self.rules.push((id, rule));
    }

    /// It is not any more.
    pub(crate) fn remove(&mut self, id: u64) {
        self.rules.retain(|(other, _)| *other != id);
    }

    /// Nothing is wrong any more.
    pub(crate) fn heal(&mut self) {
        self.rules.clear();
    }

    /// Calls `arrives` with each time at which a datagram arrives.
    pub(crate) fn datagram(
        &mut self,
        from: NodeId,
        to: NodeId,
        at: Micros,
        mut arrives: impl FnMut(Micros),
    ) {
        let Some(way) = self.way(from, to, at) else {
            return;
        };
        if self.random.chance(way.loss) {
            return;
        }
        arrives(at + self.delay(way.slower));
        if self.random.chance(self.links.duplication) {
            arrives(at + self.delay(way.slower + 20 * MILLI));
        }
    }

    /// When a frame of a stream arrives; `None`: never.
    pub(crate) fn frame(&mut self, from: NodeId, to: NodeId, at: Micros) -> Option<Micros> {
        // Without acknowledgements the stream is as good as cut.
        self.way(to, from, at)?;
        let way = self.way(from, to, at)?;
        let mut sent = at;
        while self.random.chance(way.loss) {
            sent += RESEND;
            if sent > at + 20 * RESEND {
                return None;
            }
        }
        Some(sent + self.delay(way.slower))
    }

    /// Whether an exchange fails that would not have to, and how: after how many frames.
    pub(crate) fn stream_fails_after(&mut self) -> Option<u32> {
        let fails = self.random.chance(self.links.stream_failure);
        fails.then(|| self.random.below(4).saturating_sub(1) as u32)
    }

    fn delay(&mut self, slower: Micros) -> Micros {
        let more = self.random.exponential(self.links.delay_us_more) as Micros;
        let slower = if slower > 0 {
            self.random.below(slower)
        } else {
            0
        };
        self.links.delay_us_min + more + slower
    }

    /// `None`: cut.
    fn way(&self, from: NodeId, to: NodeId, at: Micros) -> Option<Way> {
        let mut way = Way {
            loss: self.links.loss,
            slower: 0,
        };
        for (_, rule) in &self.rules {
            if rule.concerns(from, to) {
                match rule.harm {
                    Harm::Cut => return None,
                    Harm::Flapping { period } if (at / period.max(1)).is_multiple_of(2) => {
                        return None;
                    }
                    Harm::Flapping { .. } => {}
                    Harm::Loss(loss) => way.loss = 1.0 - (1.0 - way.loss) * (1.0 - loss),
                    Harm::Slow(by) => way.slower += by,
                }
            }
        }
        Some(way)
    }
}

struct Way {
    loss: f64,
    slower: Micros,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(network: &mut Network, from: NodeId, to: NodeId) -> usize {
        let mut count = 0;
        for at in 0..1_000 {
            network.datagram(from, to, at * MILLI, |_| count += 1);
        }
        count
    }

    #[test]
    fn a_one_way_cut_is_one_way() {
        let mut network = Network::new(Links::local(), Random::new(1));
        let left = Group::new(3, [0]);
        let rule = Rule {
            to: left.others(),
            from: left,
            is_both_ways: false,
            harm: Harm::Cut,
        };
        network.add(1, rule);
        assert_eq!(arrivals(&mut network, 0, 1), 0);
        assert_eq!(arrivals(&mut network, 1, 0), 1_000);
        assert_eq!(arrivals(&mut network, 1, 2), 1_000);
        assert_eq!(network.frame(1, 0, 0), None, "a stream needs both ways");
        network.remove(1);
        assert_eq!(arrivals(&mut network, 0, 1), 1_000);
    }

    #[test]
    fn losses_and_copies_are_as_told() {
        let links = Links {
            loss: 0.2,
            duplication: 0.1,
            ..Links::local()
        };
        let mut network = Network::new(links, Random::new(2));
        let count = arrivals(&mut network, 0, 1);
        assert!((780..980).contains(&count), "{count}");
        let all = Group::new(2, [0, 1]);
        let flapping = Rule {
            from: all.clone(),
            to: all,
            is_both_ways: true,
            harm: Harm::Flapping {
                period: 100 * MILLI,
            },
        };
        network.add(2, flapping);
        let count = arrivals(&mut network, 0, 1);
        assert!((380..500).contains(&count), "{count}");
    }
}
