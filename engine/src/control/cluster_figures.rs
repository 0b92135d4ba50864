//! What the cluster looks like from this node, and what its gossip counted -> `/metrics`.

use crate::api::cluster::{ClusterView, MemberState, MemberView};
use crate::gossip::StreamCounters;
use crate::metrics::Exposition;
use crate::metrics::table;
use ringscrape_cluster::node::Counters;
use std::collections::BTreeMap;

/// All that the metrics of a cluster are made of.
#[derive(Debug)]
pub(super) struct ClusterFigures {
    /// The members, with their targets counted.
    pub(super) view: ClusterView,
    /// Targets moved since the start, by cause.
    pub(super) moved: BTreeMap<String, u64>,
    /// Packets.
    pub(super) packets: Counters,
    /// Streams.
    pub(super) streams: StreamCounters,
    /// What happened to this node.
    pub(super) events: EventCounts,
}

/// Events of this node since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct EventCounts {
    /// It stood still.
    pub(super) standstills: u64,
    /// Others took it for dead.
    pub(super) deaths: u64,
}

/// Adds the families of the cluster.
pub(super) fn render(out: &mut Exposition, figures: &ClusterFigures) {
    let view = &figures.view;
    let name = [("cluster_name", view.name.as_str())];
    let flag = |is_set: bool| f64::from(u8::from(is_set));
    let own = view.members.iter().find(|member| member.is_self);
    let own_state = own.map_or(MemberState::Viewer, |own| own.state);
    let labels = [name[0], ("state", own_state.as_str())];
    out.sample(&table::CLUSTER_INFO, &labels, 1.0);
    let in_state = |state| {
        view.members
            .iter()
            .filter(move |member| member.state == state)
    };
    for state in MemberState::ALL {
        let labels = [name[0], ("state", state.as_str())];
        out.sample(
            &table::CLUSTER_PEERS,
            &labels,
            in_state(state).count() as f64,
        );
    }
    let alive = view
        .members
        .iter()
        .filter(|member| is_alive(member))
        .count();
    out.sample(&table::CLUSTER_ALIVE, &name, alive as f64);
    out.sample(&table::CLUSTER_READY, &name, flag(view.is_ready));
    out.sample(&table::CLUSTER_MINIMUM, &name, f64::from(view.minimum_size));
    let (packets, streams) = (&figures.packets, &figures.streams);
    for (metric, value) in [
        (&table::CLUSTER_RX_PACKETS, packets.datagrams_received),
        (&table::CLUSTER_TX_PACKETS, packets.datagrams_sent),
        (&table::CLUSTER_TX_FAILED, streams.datagrams_unsent),
        (&table::CLUSTER_RX_BYTES, packets.bytes_received),
        (&table::CLUSTER_TX_BYTES, packets.bytes_sent),
        (&table::CLUSTER_STREAMS, streams.open),
        (&table::CLUSTER_OWNED, own.map_or(0, |own| own.targets)),
        (&table::CLUSTER_UNOWNED, view.targets_unowned),
        (
            &table::CLUSTER_HEAVY,
            own.map_or(0, |own| own.heavy_targets),
        ),
    ] {
        out.sample(metric, &[], value as f64);
    }
    let refused = view.targets_refused as f64;
    out.sample(
        &table::CLUSTER_REFUSED_TARGETS,
        &[("cause", "budget")],
        refused,
    );
    let share = own.map_or(0.0, |own| own.ring_share);
    out.sample(&table::CLUSTER_SHARE, &[], share);
    for (cause, targets) in &figures.moved {
        out.sample(&table::CLUSTER_MOVED, &[("cause", cause)], *targets as f64);
    }
    out.sample(&table::CLUSTER_ISOLATED, &[], flag(view.is_isolated));
    out.sample(
        &table::CLUSTER_STANDING_STILL,
        &[],
        flag(view.is_standing_still),
    );
    out.sample(
        &table::CLUSTER_STANDSTILLS,
        &[],
        figures.events.standstills as f64,
    );
    out.sample(&table::CLUSTER_DEATHS, &[], figures.events.deaths as f64);
    for (cause, count) in packets.refusals() {
        out.sample(
            &table::CLUSTER_REFUSED,
            &[("cause", cause.name())],
            count as f64,
        );
    }
    for (result, count) in [
        ("done", packets.exchanges_done),
        ("failed", streams.failed),
        ("turned_away", streams.turned_away),
    ] {
        out.sample(
            &table::CLUSTER_EXCHANGES,
            &[("result", result)],
            count as f64,
        );
    }
    out.sample(
        &table::CLUSTER_JOINS_FAILED,
        &[],
        streams.join_rounds_failed as f64,
    );
    let others = || view.members.iter().filter(|member| !member.is_self);
    for member in others() {
        if let Some(skew_ms) = member.clock_skew_ms {
            out.sample(
                &table::CLUSTER_SKEW,
                &[("node", &member.name)],
                skew_ms as f64 / 1e3,
            );
        }
    }
    // Of a node that is gone for good the age would rise for ever.
    for member in others().filter(|member| is_alive(member) || member.state == MemberState::Suspect)
    {
        if let Some(contact_ms) = member.last_contact_ms {
            let age_ms = view.now_ms.saturating_sub(contact_ms).max(0);
            out.sample(
                &table::CLUSTER_CONTACT,
                &[("node", &member.name)],
                age_ms as f64 / 1e3,
            );
        }
    }
    out.sample(&table::CLUSTER_DRIFT, &[], view.drift.len() as f64);
}

fn is_alive(member: &MemberView) -> bool {
    use MemberState::{Draining, Participant, Viewer};
    matches!(member.state, Viewer | Participant | Draining)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cluster::{status, tests::some_view};

    #[test]
    fn figures_of_four_members() {
        let (mut view, fleet) = some_view();
        status::count_targets(&mut view, &fleet);
        let mut packets = Counters::default();
        (packets.datagrams_sent, packets.exchanges_done) = (5, 3);
        let figures = ClusterFigures {
            view,
            moved: [("crash".to_owned(), 7)].into(),
            packets,
            streams: StreamCounters {
                failed: 2,
                ..StreamCounters::default()
            },
            events: EventCounts {
                deaths: 1,
                ..EventCounts::default()
            },
        };
        let mut out = Exposition::new();
        render(&mut out, &figures);
        let text = out.into_text();
        for line in [
            "cluster_node_info{cluster_name=\"blue\",state=\"draining\"} 1",
            "cluster_node_peers{cluster_name=\"blue\",state=\"dead\"} 1",
            "cluster_node_peers{cluster_name=\"blue\",state=\"suspect\"} 0",
            "cluster_node_gossip_alive_peers{cluster_name=\"blue\"} 3",
            "cluster_ready_for_traffic{cluster_name=\"blue\"} 1",
            "cluster_minimum_size{cluster_name=\"blue\"} 2",
            "cluster_transport_tx_packets_total 5",
            "ringscrape_cluster_owned_targets 1",
            "ringscrape_cluster_unowned_targets 0",
            "ringscrape_cluster_refused_targets{cause=\"budget\"} 0",
            "ringscrape_cluster_heavy_targets 0",
            "ringscrape_cluster_targets_moved_total{cause=\"crash\"} 7",
            "ringscrape_cluster_deaths_total 1",
            "ringscrape_cluster_packets_refused_total{cause=\"forged\"} 0",
            "ringscrape_cluster_streams_total{result=\"done\"} 3",
            "ringscrape_cluster_streams_total{result=\"failed\"} 2",
            "ringscrape_cluster_clock_skew_seconds{node=\"b\"} -0.012",
            "ringscrape_cluster_last_contact_seconds{node=\"c\"} 0.25",
            "ringscrape_cluster_drifted_jobs 1",
        ] {
            assert!(
                text.lines().any(|have| have == line),
                "{line} is not in\n{text}"
            );
        }
        assert!(
            !text.contains("last_contact_seconds{node=\"d\"}"),
            "d is dead"
        );
        // Families in one piece: each HELP stands once.
        let heads: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("# HELP"))
            .collect();
        let unique: std::collections::BTreeSet<_> = heads.iter().collect();
        assert_eq!(unique.len(), heads.len());
    }
}
