//! A seed -> exposition bodies as exporters write them.
//!
//! The seed changes the values only: two seeds are two scrapes of one target.

use std::fmt::Write;

/// A body like node_exporter's: some 80 bytes a sample, few labels, integers, short decimals and
/// numbers in Go's `%g` form; `samples` lines or a few more, families kept whole.
pub fn node_like(samples: usize, seed: u64) -> String {
    let mut values = Values(seed | 1);
    let mut body = String::new();
    let mut lines = 0;
    for device in 0.. {
        if lines >= samples {
            break;
        }
        lines += node_families(&mut body, &mut values, device, samples - lines);
    }
    body
}

/// One round of families with the text of round `device`; gives the number of samples.
fn node_families(body: &mut String, values: &mut Values, device: usize, left: usize) -> usize {
    let mut lines = 0;
    family(body, &format!("node_cpu_seconds_{device}_total"), "counter");
    for cpu in 0..left.div_ceil(20).min(16) {
        for mode in [
            "idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user",
        ] {
            line(
                body,
                format_args!("node_cpu_seconds_{device}_total{{cpu=\"{cpu}\",mode=\"{mode}\"}}"),
                &values.hundredths(),
            );
            lines += 1;
        }
    }
    for name in [
        "reads_completed",
        "read_bytes",
        "io_time_seconds",
        "writes_completed",
    ] {
        family(body, &format!("node_disk_{name}_{device}_total"), "counter");
        for disk in ["dm-0", "nvme0n1", "nvme1n1", "sda", "sdb", "sdc"] {
            let value = if name == "io_time_seconds" {
                values.ratio()
            } else {
                values.go(1e12)
            };
            line(
                body,
                format_args!("node_disk_{name}_{device}_total{{device=\"{disk}\"}}"),
                &value,
            );
            lines += 1;
        }
    }
    family(
        body,
        &format!("node_filesystem_avail_bytes_{device}"),
        "gauge",
    );
    for (dev, kind, mount) in [
        ("/dev/nvme0n1p2", "ext4", "/"),
        ("/dev/nvme0n1p1", "vfat", "/boot/efi"),
        ("tmpfs", "tmpfs", "/run/user/1000"),
        ("/dev/mapper/data-lv0", "xfs", "/var/lib/containers"),
    ] {
        let labels = format!("device=\"{dev}\",fstype=\"{kind}\",mountpoint=\"{mount}\"");
        let name = format_args!("node_filesystem_avail_bytes_{device}{{{labels}}}");
        line(body, name, &values.go(1e12));
        lines += 1;
    }
    for name in [
        "MemFree",
        "Buffers",
        "Cached",
        "SwapTotal",
        "Active_anon",
        "Slab",
        "Mapped",
    ] {
        family(body, &format!("node_memory_{name}_bytes_{device}"), "gauge");
        line(
            body,
            format_args!("node_memory_{name}_bytes_{device}"),
            &values.go(1e11),
        );
        lines += 1;
    }
    for name in [
        "procs_running",
        "procs_blocked",
        "context_switches_total",
        "forks_total",
    ] {
        family(body, &format!("node_{name}_{device}"), "gauge");
        line(
            body,
            format_args!("node_{name}_{device}"),
            &values.integer(),
        );
        lines += 1;
    }
    lines
}

/// A body like kube-state-metrics': some 220 bytes a sample, long label lists, values 0 and 1 and
/// times; `samples` lines or a few more.
pub fn kube_like(samples: usize, seed: u64) -> String {
    let mut values = Values(seed | 1);
    let mut body = String::new();
    let families = [
        "kube_pod_info",
        "kube_pod_status_phase",
        "kube_pod_start_time",
    ];
    let pods = samples.div_ceil(7);
    let mut lines = 0;
    for name in families {
        family(&mut body, name, "gauge");
        for pod in 0..pods {
            let identity = pod_labels(pod);
            match name {
                "kube_pod_info" => {
                    let node = format!(
                        "ip-10-{}-{}-17.eu-west-1.compute.internal",
                        pod % 16,
                        pod % 200
                    );
                    let more = format!(
                        ",host_ip=\"10.{}.{}.17\",pod_ip=\"10.128.{}.{}\",node=\"{node}\",\
                         created_by_kind=\"ReplicaSet\",host_network=\"false\"",
                        pod % 16,
                        pod % 200,
                        pod / 250,
                        pod % 250
                    );
                    line(&mut body, format_args!("{name}{{{identity}{more}}}"), "1");
                    lines += 1;
                }
                "kube_pod_status_phase" => {
                    for phase in ["Pending", "Succeeded", "Failed", "Unknown", "Running"] {
                        let value = if phase == "Running" { "1" } else { "0" };
                        let name = format_args!("{name}{{{identity},phase=\"{phase}\"}}");
                        line(&mut body, name, value);
                        lines += 1;
                    }
                }
                _ => {
                    line(
                        &mut body,
                        format_args!("{name}{{{identity}}}"),
                        &values.time(),
                    );
                    lines += 1;
                }
            }
        }
    }
    debug_assert!(lines >= samples);
    body
}

fn pod_labels(pod: usize) -> String {
    let app = ["checkout", "payments-api", "search-indexer", "web"][pod % 4];
    let hash = (pod as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        "namespace=\"team-{}\",pod=\"{app}-{:08x}-{:05x}\",uid=\"{:08x}-{:04x}-4{:03x}-9{:03x}-{:012x}\"",
        pod % 13,
        hash >> 32,
        hash & 0xf_ffff,
        hash >> 32,
        hash & 0xffff,
        hash >> 52,
        (hash >> 20) & 0xfff,
        hash & 0xffff_ffff_ffff
    )
}

fn family(body: &mut String, name: &str, kind: &str) {
    let help = "Help text of the usual length, from the exporter's authors.";
    let _infallible = write!(body, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(body: &mut String, series: std::fmt::Arguments<'_>, value: &str) {
    let _infallible = writeln!(body, "{series} {value}");
}

/// Values of the kinds that exporters expose.
struct Values(u64);

impl Values {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn integer(&mut self) -> String {
        let digits = self.next() % 7;
        (self.next() % 10_u64.pow(digits as u32 + 1)).to_string()
    }

    fn hundredths(&mut self) -> String {
        let value = self.next() % 100_000_000;
        format!("{}", value as f64 / 100.0)
    }

    /// All the digits of an f64, as an accumulated sum of seconds has.
    fn ratio(&mut self) -> String {
        format!("{}", (self.next() >> 11) as f64 / (1_u64 << 40) as f64)
    }

    /// Go's `%g`, which writes integers from 1e6 on in scientific form.
    fn go(&mut self, below: f64) -> String {
        let value = (self.next() % below as u64) / 4096 * 4096;
        if value < 1_000_000 {
            return value.to_string();
        }
        let text = format!("{:e}", value as f64);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{mantissa}e+{exponent:0>2}")
    }

    fn time(&mut self) -> String {
        let seconds = 1_700_000_000 + self.next() % 40_000_000;
        let text = format!("{:e}", seconds as f64);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{mantissa}e+{exponent:0>2}")
    }
}

#[cfg(test)]
mod tests {
    use super::{kube_like, node_like};

    fn samples(body: &str) -> usize {
        body.lines().filter(|line| !line.starts_with('#')).count()
    }

    #[test]
    fn bodies_are_of_the_size_asked_for() {
        for size in [1, 100, 1_000, 5_000] {
            let node = samples(&node_like(size, 1));
            assert!((size..size + 200).contains(&node), "{size}: {node}");
            let kube = samples(&kube_like(size, 1));
            assert!((size..size + 8).contains(&kube), "{size}: {kube}");
        }
    }

    /// The text around the values, line by line.
    fn around(body: &str) -> Vec<&str> {
        body.lines()
            .map(|line| match line.rsplit_once(' ') {
                Some((series, _)) if !line.starts_with('#') => series,
                _ => line,
            })
            .collect()
    }

    #[test]
    fn a_seed_changes_values_only() {
        assert_eq!(node_like(1_000, 7), node_like(1_000, 7));
        for (one, two) in [
            (node_like(1_000, 1), node_like(1_000, 99)),
            (kube_like(1_000, 1), kube_like(1_000, 99)),
        ] {
            assert_ne!(one, two);
            assert_eq!(around(&one), around(&two));
        }
    }
}
