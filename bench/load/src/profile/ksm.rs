//! A number of pods -> the families of an object state exporter.
//!
//! Names and labels follow what kubernetes/kube-state-metrics shows; help texts are ours.

use super::Kind::{Counter, Gauge};
use super::{Family, Kind, Sample, scatter};

/// What is added to the labels that every pod series has.
#[derive(Clone, Copy)]
enum Labels {
    Pod,
    Info,
    Owner,
    Phase,
    Condition,
    Container,
    ContainerInfo,
    Resources,
}

type Row = (&'static str, Kind, Labels, &'static str);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("kube_pod_container_info", Gauge, Labels::ContainerInfo, "Information about a container in a pod."),
    ("kube_pod_container_resource_limits", Gauge, Labels::Resources, "The number of requested limit resource by a container."),
    ("kube_pod_container_resource_requests", Gauge, Labels::Resources, "The number of requested request resource by a container."),
    ("kube_pod_container_state_started", Gauge, Labels::Container, "Start time in unix timestamp for a pod container."),
    ("kube_pod_container_status_ready", Gauge, Labels::Container, "Describes whether the containers readiness check succeeded."),
    ("kube_pod_container_status_restarts_total", Counter, Labels::Container, "The number of container restarts per container."),
    ("kube_pod_container_status_running", Gauge, Labels::Container, "Describes whether the container is currently in running state."),
    ("kube_pod_container_status_terminated", Gauge, Labels::Container, "Describes whether the container is currently in terminated state."),
    ("kube_pod_container_status_waiting", Gauge, Labels::Container, "Describes whether the container is currently in waiting state."),
    ("kube_pod_created", Gauge, Labels::Pod, "Unix creation timestamp."),
    ("kube_pod_info", Gauge, Labels::Info, "Information about pod."),
    ("kube_pod_owner", Gauge, Labels::Owner, "Information about the Pod's owner."),
    ("kube_pod_restart_policy", Gauge, Labels::Pod, "Describes the restart policy in use by this pod."),
    ("kube_pod_start_time", Gauge, Labels::Pod, "Start time in unix timestamp for a pod."),
    ("kube_pod_status_phase", Gauge, Labels::Phase, "The pods current phase."),
    ("kube_pod_status_ready", Gauge, Labels::Condition, "Describes whether the pod is ready to serve requests."),
    ("kube_pod_status_scheduled", Gauge, Labels::Condition, "Describes the status of the scheduling process for the pod."),
];

const NAMESPACES: [&str; 6] = [
    "kube-system",
    "monitoring",
    "checkout-production",
    "ingress-nginx",
    "default",
    "ml-batch",
];
const APPS: [&str; 6] = [
    "coredns",
    "payment-gateway",
    "frontend-web",
    "prometheus-operator",
    "redis-ha",
    "etl-worker",
];

/// All families with `size` pods; `size` at least 1.
pub(super) fn families(size: usize) -> Vec<Family> {
    let make = |&(name, kind, labels, help): &Row| {
        let mut samples = Vec::new();
        for index in 0..size {
            pod(name, labels, index, &mut samples);
        }
        Family {
            name,
            kind,
            help,
            samples,
        }
    };
    TABLE.iter().map(make).collect()
}

fn pod(name: &'static str, labels: Labels, index: usize, out: &mut Vec<Sample>) {
    let id = scatter(index as u64);
    let other = scatter(id);
    let app = APPS[(id % 6) as usize];
    let node = format!(
        "ip-10-{}-{}.eu-west-1.compute.internal",
        index % 64,
        index / 64 % 250
    );
    let common = vec![
        ("namespace", NAMESPACES[index % 6].to_owned()),
        ("pod", format!("{app}-{:09x}-{:05x}", id >> 28, index)),
        (
            "uid",
            format!(
                "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                id >> 32,
                id >> 16 & 0xffff,
                id & 0xfff,
                other & 0xfff,
                other >> 16
            ),
        ),
    ];
    let mut add = |more: Vec<(&'static str, String)>| {
        let mut labels = common.clone();
        labels.extend(more);
        out.push(Sample {
            name: name.to_owned(),
            labels,
        });
    };
    let container = ("container", app.to_owned());
    match labels {
        Labels::Pod => add(Vec::new()),
        Labels::Info => add(vec![
            (
                "host_ip",
                format!("10.{}.{}.17", index % 64, index / 64 % 250),
            ),
            (
                "pod_ip",
                format!("172.20.{}.{}", index / 250 % 250, index % 250),
            ),
            ("node", node),
            ("created_by_kind", "ReplicaSet".into()),
            ("created_by_name", format!("{app}-{:09x}", id >> 28)),
            ("priority_class", "system-cluster-critical".into()),
            ("host_network", "false".into()),
        ]),
        Labels::Owner => add(vec![
            ("owner_kind", "ReplicaSet".into()),
            ("owner_name", format!("{app}-{:09x}", id >> 28)),
            ("owner_is_controller", "true".into()),
        ]),
        Labels::Phase => {
            for phase in ["Pending", "Succeeded", "Failed", "Unknown", "Running"] {
                add(vec![("phase", phase.into())]);
            }
        }
        Labels::Condition => {
            for condition in ["true", "false", "unknown"] {
                add(vec![("condition", condition.into())]);
            }
        }
        Labels::Container => add(vec![container]),
        Labels::ContainerInfo => add(vec![
            container,
            (
                "image_spec",
                format!("registry.example.com/platform/{app}:v2.{}.1", id % 90),
            ),
            (
                "image",
                format!("registry.example.com/platform/{app}:v2.{}.1", id % 90),
            ),
            (
                "image_id",
                format!("registry.example.com/platform/{app}@sha256:{id:016x}{other:016x}"),
            ),
            (
                "container_id",
                format!("containerd://{other:016x}{id:016x}"),
            ),
        ]),
        Labels::Resources => {
            for (resource, unit) in [("cpu", "core"), ("memory", "byte")] {
                add(vec![
                    container.clone(),
                    ("node", node.clone()),
                    ("resource", resource.into()),
                    ("unit", unit.into()),
                ]);
            }
        }
    }
}
