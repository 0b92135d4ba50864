//! A number of devices -> the families of a machine exporter.
//!
//! Names, types and labels follow what prometheus/node_exporter shows on Linux; help texts are
//! ours.

use super::Kind::{Counter, Gauge, Histogram, Summary, Untyped};
use super::{Family, Kind, Sample, scatter};

/// Which labels the series of a family have; each dimension grows with the asked size.
#[derive(Clone, Copy)]
enum Labels {
    None,
    CpuMode,
    Cpu,
    Disk,
    Net,
    Mount,
    Collector,
    Unit,
    Sensor,
    Histogram,
    Summary,
    Version,
}

const MODES: [&str; 8] = [
    "idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user",
];
const STATES: [&str; 5] = ["activating", "active", "deactivating", "failed", "inactive"];
const COLLECTORS: [&str; 20] = [
    "arp",
    "conntrack",
    "cpu",
    "cpufreq",
    "diskstats",
    "entropy",
    "filefd",
    "filesystem",
    "hwmon",
    "loadavg",
    "meminfo",
    "netdev",
    "netstat",
    "pressure",
    "sockstat",
    "stat",
    "thermal_zone",
    "time",
    "uname",
    "vmstat",
];
const UNITS: [&str; 8] = [
    "systemd-journald.service",
    "systemd-networkd-wait-online.service",
    "containerd.service",
    "session-cleanup.timer",
    "user-runtime-dir@1000.service",
    "apt-daily-upgrade.timer",
    "dbus-org.freedesktop.timesync1.service",
    "ssh.socket",
];
// No bound is a whole number: readers that normalise `1` to `1.0` would change the label.
const BOUNDS: [&str; 10] = [
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "2.5", "7.5", "+Inf",
];

type Row = (&'static str, Kind, Labels, &'static str);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("go_gc_duration_seconds", Summary, Labels::Summary, "A summary of the pause duration of garbage collection cycles."),
    ("go_goroutines", Gauge, Labels::None, "Number of goroutines that currently exist."),
    ("go_info", Gauge, Labels::Version, "Information about the Go environment."),
    ("go_memstats_alloc_bytes", Gauge, Labels::None, "Number of bytes allocated and still in use."),
    ("go_memstats_alloc_bytes_total", Counter, Labels::None, "Total number of bytes allocated, even if freed."),
    ("go_memstats_heap_objects", Gauge, Labels::None, "Number of allocated objects."),
    ("go_threads", Gauge, Labels::None, "Number of OS threads created."),
    ("node_arp_entries", Gauge, Labels::Net, "ARP entries by device."),
    ("node_boot_time_seconds", Gauge, Labels::None, "Time of the last boot of this node, in unixtime."),
    ("node_context_switches_total", Counter, Labels::None, "Total number of context switches."),
    ("node_cooling_device_cur_state", Gauge, Labels::Sensor, "Current throttle state of the cooling device."),
    ("node_cpu_frequency_hertz", Gauge, Labels::Cpu, "Current CPU thread frequency in hertz."),
    ("node_cpu_guest_seconds_total", Counter, Labels::Cpu, "Seconds the CPUs spent in guests (VMs)."),
    ("node_cpu_seconds_total", Counter, Labels::CpuMode, "Seconds the CPUs spent in each mode."),
    ("node_disk_io_now", Gauge, Labels::Disk, "The number of I/Os currently in progress."),
    ("node_disk_io_time_seconds_total", Counter, Labels::Disk, "Total seconds spent doing I/Os."),
    ("node_disk_io_time_weighted_seconds_total", Counter, Labels::Disk, "The weighted number of seconds spent doing I/Os."),
    ("node_disk_read_bytes_total", Counter, Labels::Disk, "The total number of bytes read successfully."),
    ("node_disk_read_time_seconds_total", Counter, Labels::Disk, "The total number of seconds spent by all reads."),
    ("node_disk_reads_completed_total", Counter, Labels::Disk, "The total number of reads completed successfully."),
    ("node_disk_write_time_seconds_total", Counter, Labels::Disk, "The total number of seconds spent by all writes."),
    ("node_disk_writes_completed_total", Counter, Labels::Disk, "The total number of writes completed successfully."),
    ("node_disk_written_bytes_total", Counter, Labels::Disk, "The total number of bytes written successfully."),
    ("node_entropy_available_bits", Gauge, Labels::None, "Bits of available entropy."),
    ("node_filefd_allocated", Gauge, Labels::None, "File descriptors: allocated."),
    ("node_filefd_maximum", Gauge, Labels::None, "File descriptors: maximum."),
    ("node_filesystem_avail_bytes", Gauge, Labels::Mount, "Filesystem space available to non-root users in bytes."),
    ("node_filesystem_device_error", Gauge, Labels::Mount, "Whether an error occurred while getting statistics for the given device."),
    ("node_filesystem_files", Gauge, Labels::Mount, "Filesystem total file nodes."),
    ("node_filesystem_files_free", Gauge, Labels::Mount, "Filesystem total free file nodes."),
    ("node_filesystem_free_bytes", Gauge, Labels::Mount, "Filesystem free space in bytes."),
    ("node_filesystem_readonly", Gauge, Labels::Mount, "Filesystem read-only status."),
    ("node_filesystem_size_bytes", Gauge, Labels::Mount, "Filesystem size in bytes."),
    ("node_forks_total", Counter, Labels::None, "Total number of forks."),
    ("node_hwmon_temp_celsius", Gauge, Labels::Sensor, "Hardware monitor for temperature (input)."),
    ("node_hwmon_temp_crit_celsius", Gauge, Labels::Sensor, "Hardware monitor for temperature (crit)."),
    ("node_intr_total", Counter, Labels::None, "Total number of interrupts serviced."),
    ("node_load1", Gauge, Labels::None, "1m load average."),
    ("node_load15", Gauge, Labels::None, "15m load average."),
    ("node_load5", Gauge, Labels::None, "5m load average."),
    ("node_memory_Active_bytes", Gauge, Labels::None, "Memory information field Active_bytes."),
    ("node_memory_Buffers_bytes", Gauge, Labels::None, "Memory information field Buffers_bytes."),
    ("node_memory_Cached_bytes", Gauge, Labels::None, "Memory information field Cached_bytes."),
    ("node_memory_Dirty_bytes", Gauge, Labels::None, "Memory information field Dirty_bytes."),
    ("node_memory_MemAvailable_bytes", Gauge, Labels::None, "Memory information field MemAvailable_bytes."),
    ("node_memory_MemFree_bytes", Gauge, Labels::None, "Memory information field MemFree_bytes."),
    ("node_memory_MemTotal_bytes", Gauge, Labels::None, "Memory information field MemTotal_bytes."),
    ("node_memory_SwapFree_bytes", Gauge, Labels::None, "Memory information field SwapFree_bytes."),
    ("node_netstat_Ip_Forwarding", Untyped, Labels::None, "Statistic IpForwarding."),
    ("node_netstat_Tcp_ActiveOpens", Untyped, Labels::None, "Statistic TcpActiveOpens."),
    ("node_netstat_Tcp_InSegs", Untyped, Labels::None, "Statistic TcpInSegs."),
    ("node_netstat_Tcp_RetransSegs", Untyped, Labels::None, "Statistic TcpRetransSegs."),
    ("node_netstat_Udp_InDatagrams", Untyped, Labels::None, "Statistic UdpInDatagrams."),
    ("node_network_carrier", Gauge, Labels::Net, "Network device property: carrier."),
    ("node_network_mtu_bytes", Gauge, Labels::Net, "Network device property: mtu_bytes."),
    ("node_network_receive_bytes_total", Counter, Labels::Net, "Network device statistic receive_bytes."),
    ("node_network_receive_drop_total", Counter, Labels::Net, "Network device statistic receive_drop."),
    ("node_network_receive_errs_total", Counter, Labels::Net, "Network device statistic receive_errs."),
    ("node_network_receive_packets_total", Counter, Labels::Net, "Network device statistic receive_packets."),
    ("node_network_speed_bytes", Gauge, Labels::Net, "Network device property: speed_bytes."),
    ("node_network_transmit_bytes_total", Counter, Labels::Net, "Network device statistic transmit_bytes."),
    ("node_network_transmit_drop_total", Counter, Labels::Net, "Network device statistic transmit_drop."),
    ("node_network_transmit_errs_total", Counter, Labels::Net, "Network device statistic transmit_errs."),
    ("node_network_transmit_packets_total", Counter, Labels::Net, "Network device statistic transmit_packets."),
    ("node_network_up", Gauge, Labels::Net, "Value is 1 if operstate is 'up', 0 otherwise."),
    ("node_nf_conntrack_entries", Gauge, Labels::None, "Number of currently allocated flow entries for connection tracking."),
    ("node_pressure_cpu_waiting_seconds_total", Counter, Labels::None, "Total time in seconds that processes have waited for CPU time."),
    ("node_pressure_io_stalled_seconds_total", Counter, Labels::None, "Total time in seconds no process could make progress due to IO congestion."),
    ("node_procs_blocked", Gauge, Labels::None, "Number of processes blocked waiting for I/O to complete."),
    ("node_procs_running", Gauge, Labels::None, "Number of processes in runnable state."),
    ("node_schedstat_running_seconds_total", Counter, Labels::Cpu, "Number of seconds CPU spent running a process."),
    ("node_schedstat_timeslices_total", Counter, Labels::Cpu, "Number of timeslices executed by CPU."),
    ("node_schedstat_waiting_seconds_total", Counter, Labels::Cpu, "Number of seconds spent by processing waiting for this CPU."),
    ("node_scrape_collector_duration_seconds", Gauge, Labels::Collector, "Duration of a collector scrape."),
    ("node_scrape_collector_success", Gauge, Labels::Collector, "Whether a collector succeeded."),
    ("node_sockstat_TCP_alloc", Gauge, Labels::None, "Number of TCP sockets in state alloc."),
    ("node_sockstat_TCP_tw", Gauge, Labels::None, "Number of TCP sockets in state tw."),
    ("node_systemd_unit_state", Gauge, Labels::Unit, "Systemd unit state."),
    ("node_time_seconds", Gauge, Labels::None, "System time in seconds since epoch (1970)."),
    ("node_timex_offset_seconds", Gauge, Labels::None, "Time offset in between local system and reference clock."),
    ("node_uname_info", Gauge, Labels::Version, "Labeled system information as provided by the uname system call."),
    ("node_vmstat_pgfault", Untyped, Labels::None, "/proc/vmstat information field pgfault."),
    ("node_vmstat_pgmajfault", Untyped, Labels::None, "/proc/vmstat information field pgmajfault."),
    ("process_cpu_seconds_total", Counter, Labels::None, "Total user and system CPU time spent in seconds."),
    ("process_open_fds", Gauge, Labels::None, "Number of open file descriptors."),
    ("process_resident_memory_bytes", Gauge, Labels::None, "Resident memory size in bytes."),
    ("promhttp_metric_handler_request_duration_seconds", Histogram, Labels::Histogram, "Duration of handled requests by handler."),
    ("promhttp_metric_handler_requests_total", Counter, Labels::Collector, "Total number of scrapes by handler."),
];

/// All families with `size` processors, disks, interfaces and so on; `size` at least 1.
pub(super) fn families(size: usize) -> Vec<Family> {
    let make = |&(name, kind, labels, help): &Row| Family {
        name,
        kind,
        help,
        samples: samples(name, labels, size),
    };
    TABLE.iter().map(make).collect()
}

fn samples(name: &'static str, labels: Labels, size: usize) -> Vec<Sample> {
    let plain = |labels| Sample {
        name: name.to_owned(),
        labels,
    };
    let many = |one: &dyn Fn(usize) -> Vec<(&'static str, String)>| {
        (0..size).map(|i| plain(one(i))).collect::<Vec<_>>()
    };
    match labels {
        Labels::None => vec![plain(Vec::new())],
        Labels::Version => vec![plain(vec![
            ("machine", "x86_64".into()),
            ("release", "6.12.43+deb13-cloud-amd64".into()),
            ("version", "go1.24.4".into()),
        ])],
        Labels::CpuMode => (0..size)
            .flat_map(|cpu| MODES.map(|mode| (cpu, mode)))
            .map(|(cpu, mode)| plain(vec![("cpu", cpu.to_string()), ("mode", mode.into())]))
            .collect(),
        Labels::Cpu => many(&|i| vec![("cpu", i.to_string())]),
        Labels::Disk => many(&|i| vec![("device", format!("nvme{}n{}", i / 4, i % 4 + 1))]),
        Labels::Net => many(&|i| vec![("device", interface(i))]),
        Labels::Mount => many(&|i| {
            let id = scatter(i as u64);
            vec![
                ("device", format!("/dev/nvme{}n{}p1", i / 4, i % 4 + 1)),
                (
                    "fstype",
                    if i.is_multiple_of(3) { "xfs" } else { "ext4" }.into(),
                ),
                (
                    "mountpoint",
                    format!("/var/lib/kubelet/pods/{id:016x}/volumes/data-{i}"),
                ),
            ]
        }),
        Labels::Collector => many(&|i| {
            let (round, name) = (i / COLLECTORS.len(), COLLECTORS[i % COLLECTORS.len()]);
            let value = if round == 0 {
                name.into()
            } else {
                format!("{name}_{round}")
            };
            vec![("collector", value)]
        }),
        Labels::Unit => (0..size)
            .flat_map(|unit| STATES.map(|state| (unit, state)))
            .map(|(unit, state)| {
                let name = UNITS[unit % UNITS.len()];
                let (stem, kind) = name.rsplit_once('.').unwrap_or((name, "service"));
                plain(vec![
                    ("name", format!("{stem}-{}.{kind}", unit / UNITS.len())),
                    ("state", state.into()),
                    (
                        "type",
                        if unit.is_multiple_of(2) {
                            "simple"
                        } else {
                            "notify"
                        }
                        .into(),
                    ),
                ])
            })
            .collect(),
        Labels::Sensor => many(&|i| {
            let chip = format!("platform_coretemp_{}", i / 8);
            vec![("chip", chip), ("sensor", format!("temp{}", i % 8 + 1))]
        }),
        Labels::Histogram => histogram(name, size),
        Labels::Summary => {
            let mut all = ["0.25", "0.5", "0.75", "0.99"]
                .map(|quantile| plain(vec![("quantile", quantile.into())]))
                .into_iter()
                .collect::<Vec<_>>();
            all.push(Sample {
                name: format!("{name}_sum"),
                labels: Vec::new(),
            });
            all.push(Sample {
                name: format!("{name}_count"),
                labels: Vec::new(),
            });
            all
        }
    }
}

fn histogram(name: &str, size: usize) -> Vec<Sample> {
    let mut all = Vec::new();
    for handler in 0..size {
        let path = ("handler", format!("/api/v1/query_{handler}"));
        for bound in BOUNDS {
            all.push(Sample {
                name: format!("{name}_bucket"),
                labels: vec![path.clone(), ("le", bound.into())],
            });
        }
        for suffix in ["sum", "count"] {
            all.push(Sample {
                name: format!("{name}_{suffix}"),
                labels: vec![path.clone()],
            });
        }
    }
    all
}

fn interface(i: usize) -> String {
    match i {
        0 => "lo".into(),
        1 => "eth0".into(),
        2 => "cilium_host".into(),
        _ => format!("lxc{:012x}", scatter(i as u64) >> 16),
    }
}
