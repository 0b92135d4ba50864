//! Every metric of the process in one table: name, kind, labels, meaning.
//!
//! Names that Prometheus users alert on are kept; our own begin with `ringscrape_`.

/// One metric family of our own exposition.
#[derive(Debug)]
pub struct Metric {
    /// Family name.
    pub name: &'static str,
    /// TYPE.
    pub kind: Kind,
    /// Label names.
    pub labels: &'static [&'static str],
    /// HELP: what it counts, in which unit, what to do about it.
    pub help: &'static str,
}

/// TYPE of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Cumulative buckets, sum and count since the process started.
    Histogram,
    /// Quantiles, sum and count since the process started.
    Summary,
}

impl Kind {
    /// As written in a TYPE line.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        }
    }
}

macro_rules! metrics {
    ($($ident:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $ident: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*
        /// All metrics, in the order of the exposition.
        pub static ALL: &[&Metric] = &[$(&$ident),*];
    };
}

metrics! {
    BUILD_INFO = Gauge "ringscrape_build_info" ["version"]
        "1, labelled with the version of the program.";
    SHARDS = Gauge "ringscrape_shards" []
        "Data plane threads, each pinned to a core.";
    START_TIME = Gauge "process_start_time_seconds" []
        "Start of the process, seconds since the Unix epoch.";
    CPU_SECONDS = Counter "process_cpu_seconds_total" []
        "User and system CPU time of the process, in seconds.";
    RESIDENT_BYTES = Gauge "process_resident_memory_bytes" []
        "Resident memory of the process, in bytes.";
    OPEN_FDS = Gauge "process_open_fds" []
        "Open file descriptors.";
    MAX_FDS = Gauge "process_max_fds" []
        "Limit of open file descriptors; each target being scraped holds one.";

    CONFIG_SUCCESSFUL = Gauge "prometheus_config_last_reload_successful" []
        "1 if the last read of the configuration file succeeded, 0 if the old one is kept.";
    CONFIG_SUCCESS_TIME = Gauge "prometheus_config_last_reload_success_timestamp_seconds" []
        "When the configuration in force was read, seconds since the Unix epoch.";

    CONFIGS_CREATED = Counter "agent_metrics_ha_configs_created_total" []
        "Configurations of the scraping service that were created through this node's API.";
    CONFIGS_UPDATED = Counter "agent_metrics_ha_configs_updated_total" []
        "Configurations of the scraping service that were replaced through this node's API.";
    CONFIGS_DELETED = Counter "agent_metrics_ha_configs_deleted_total" []
        "Configurations of the scraping service that were deleted through this node's API.";

    CONFIG_STORE_UP = Gauge "ringscrape_config_store_up" ["store"]
        "1 while the store of configurations answers (gossip: a majority of the members is there), 0 while what is known stays in force. Like all of the store, only with scraping_service.";
    CONFIG_STORE_FROM_DISK = Gauge "ringscrape_config_store_from_disk" []
        "1 while the configurations in force are those that this node's disk held at the start, because the store has not answered since.";
    CONFIG_STORE_LAST_SUCCESS = Gauge "ringscrape_config_store_last_success_timestamp_seconds" []
        "When the store last answered, seconds since the Unix epoch; none if it has not since the start.";
    CONFIG_STORE_ENTRIES = Gauge "ringscrape_config_store_entries" []
        "Stored configurations, as known here.";
    CONFIG_STORE_BYTES = Gauge "ringscrape_config_store_bytes" []
        "Bytes of their names and texts.";
    CONFIG_STORE_REVISION = Gauge "ringscrape_config_store_revision" []
        "The store's revision, as known here; rises with each change.";
    CONFIG_STORE_OPERATIONS = Counter "ringscrape_config_store_operations_total" ["operation", "result"]
        "Questions to the store by operation (read: all that it holds; apply: a batch of changes) and result: ok, not_connected, unconfirmed (it may still appear), conflict (a condition does not hold), missing (what was to be deleted), refused.";

    WEB_CONNECTIONS = Gauge "ringscrape_web_connections" []
        "Open connections of the web server, of 128 at most.";
    WEB_EVICTED = Counter "ringscrape_web_connections_evicted_total" []
        "Connections without a request that were closed to make room for others.";
    WEB_CONFIG_SUCCESSFUL = Gauge "ringscrape_web_config_last_reload_successful" []
        "1 if the web configuration and its certificates could be used when they were read last, 0 if the old ones are kept.";
    WEB_CONFIG_TIME = Gauge "ringscrape_web_config_last_reload_success_timestamp_seconds" []
        "When the web configuration in force was read, seconds since the Unix epoch.";
    WEB_CERTIFICATE_EXPIRY = Gauge "ringscrape_web_certificate_expiry_timestamp_seconds" []
        "When the web server's certificate ends, seconds since the Unix epoch.";
    WEB_HANDSHAKES = Counter "ringscrape_web_handshakes_total" ["result"]
        "TLS handshakes of the web server: ok; refused, for a certificate or what else the log says; timeout; plain, for clients without TLS.";
    WEB_UNAUTHORIZED = Counter "ringscrape_web_unauthorized_total" ["cause"]
        "Requests that were not answered: wrong, without a password or with a wrong one; busy, too many passwords at once.";

    SD_FILE_ERRORS = Counter "prometheus_sd_file_read_errors_total" []
        "Files of file_sd_configs that could not be read; their last good list stays in force.";
    SD_HTTP_FAILURES = Counter "prometheus_sd_http_failures_total" []
        "Failed requests of http_sd_configs; the last good list stays in force.";
    POOL_TARGETS = Gauge "prometheus_target_scrape_pool_targets" ["scrape_job"]
        "Active targets of the job.";
    POOL_EXCEEDED_LIMIT = Gauge "ringscrape_scrape_pool_exceeded_target_limit" ["scrape_job"]
        "1 while the job has more targets than target_limit: all of them fail.";
    POOL_DROPPED = Gauge "ringscrape_scrape_pool_dropped_targets" ["scrape_job"]
        "Targets that relabel_configs dropped.";
    POOL_FAILED = Gauge "ringscrape_scrape_pool_failed_targets" ["scrape_job"]
        "Discovered targets that no valid target could be built from; the log says why.";

    SCRAPES = Counter "ringscrape_scrapes_total" ["result"]
        "Finished scrapes by result: ok, or the cause of the failure.";
    SCRAPE_DURATION = Summary "ringscrape_scrape_duration_seconds" []
        "From the start of a scrape to the arrival of its last byte, in seconds.";
    SLOT_LATENESS = Summary "ringscrape_slot_lateness_seconds" []
        "How long after its slot a scrape was started, in seconds.";
    SLOTS_MISSED = Counter "ringscrape_slots_missed_total" ["cause"]
        "Slots in which a target was not scraped, by cause: overrun (the scrape before was still running), late (the process was), held (the node had stood still and had to ask what is its own).";
    TAKEOVER_MISSED = Counter "ringscrape_takeover_missed_slots_total" []
        "Slots in which no node scraped a target, between the crash of its owner and its takeover here.";
    TAKEOVER_SECONDS = Summary "ringscrape_takeover_seconds" []
        "Time from the last sign of life of a target's crashed owner to the first scrape here, in seconds.";
    HANDOVER_TARGETS = Counter "ringscrape_handover_targets_total" ["result"]
        "Targets that moved with what is known of their series, by result: sent (to another node), used (came in time), late (came after the first scrape: series that ended meanwhile get no staleness markers), unused (never scraped here).";
    SAMPLES = Counter "ringscrape_samples_total" []
        "Samples written to the log, the automatic series included.";
    STALE_MARKERS = Counter "ringscrape_stale_markers_total" []
        "Staleness markers written to the log.";
    MATCH_SAMPLES = Counter "ringscrape_match_samples_total" ["path"]
        "Sample lines read, by path: matched (known text) or parsed (new or changed text).";
    SCRAPE_BYTES = Counter "ringscrape_scrape_bytes_total" ["kind"]
        "Bytes of responses: wire (as received) and body (after decompression).";
    CONNECTIONS_OPENED = Counter "ringscrape_connections_opened_total" []
        "Connections opened to targets; the others were reused.";
    SAMPLES_DROPPED = Counter "ringscrape_samples_dropped_total" ["cause"]
        "Exposed samples that were not logged, by cause.";
    EXCEEDED_SAMPLE_LIMIT = Counter "prometheus_target_scrapes_exceeded_sample_limit_total" []
        "Scrapes that failed for sample_limit.";
    EXCEEDED_BODY_LIMIT = Counter "prometheus_target_scrapes_exceeded_body_size_limit_total" []
        "Scrapes that failed for body_size_limit.";
    DUPLICATES = Counter "prometheus_target_scrapes_sample_duplicate_timestamp_total" []
        "Samples of a series that the same body had already; the first one is kept.";
    OUT_OF_ORDER = Counter "prometheus_target_scrapes_sample_out_of_order_total" []
        "Samples whose explicit timestamp is not newer than the last one of the series.";
    OUT_OF_BOUNDS = Counter "prometheus_target_scrapes_sample_out_of_bounds_total" []
        "Samples whose explicit timestamp is more than ten minutes ahead.";
    TABLE_BYTES = Gauge "ringscrape_memory_bytes" ["purpose"]
        "Memory by purpose, in bytes, as accounted by the program.";

    WAL_RECORDS = Counter "ringscrape_wal_records_total" []
        "Scrapes appended to the log.";
    WAL_BYTES = Counter "ringscrape_wal_bytes_total" ["kind"]
        "Bytes appended to the log, by kind of frame.";
    WAL_SEGMENTS = Gauge "ringscrape_wal_segments" []
        "Segments on disk.";
    WAL_DISK_BYTES = Gauge "ringscrape_wal_disk_bytes" []
        "Bytes of all segments on disk.";
    WAL_THINNED = Counter "ringscrape_wal_thinned_segments_total" []
        "Segments of the log made smaller: more than half of each was for endpoints that have it, while others are behind.";
    WAL_THINNED_BYTES = Counter "ringscrape_wal_thinned_bytes_total" []
        "Bytes of disk that this gave back.";
    WAL_FORMER = Gauge "ringscrape_wal_former_directories" []
        "Directories of logs that a former number of shards has written and that are not sent whole yet.";
    WAL_FORMER_UNREADABLE = Gauge "ringscrape_wal_former_unreadable" []
        "Of ringscrape_wal_former_directories, those that cannot be read, and files that cannot be read in others. Sending waits two minutes for them and then goes on without; nothing of them is deleted.";
    WAL_CURSOR_FAILURES = Counter "ringscrape_wal_cursor_save_failures_total" []
        "Saves of the places up to which endpoints have acknowledged the log, that failed. What endpoints got since the last good one they get again after a restart; nothing is lost.";
    WAL_TAIL_BYTES = Gauge "ringscrape_wal_tail_bytes" []
        "Unsent part of the log that is held in memory, in bytes.";
    WAL_WRITE_ERRORS = Counter "ringscrape_wal_write_errors_total" ["cause"]
        "Failed writes and syncs of log files. Scraping and sending go on; see ringscrape_wal_not_durable_records_total.";
    WAL_NOT_DURABLE = Counter "ringscrape_wal_not_durable_records_total" []
        "Scrapes that were not on disk when writing failed, or came while it did; they are sent from memory.";
    WAL_REWRITTEN = Counter "ringscrape_wal_rewritten_records_total" []
        "Of ringscrape_wal_not_durable_records_total, those that were written once the disk took them again.";
    WAL_LOST = Counter "ringscrape_wal_lost_samples_total" ["cause"]
        "Samples deleted from the log before every endpoint had them, by cause.";
    WAL_CAP_RATIO = Gauge "ringscrape_wal_cap_ratio" ["remote_name", "cause"]
        "What the endpoint has not acknowledged, of what --storage.retention-bytes (cause retention_bytes) or --storage.retention-hours (retention_age) allow, in the shard where that is most. Above 1 the oldest samples are deleted, and counted in ringscrape_wal_lost_samples_total; from 0.8 on the log warns. Only with such a cap.";
    WAL_SYNC_SECONDS = Counter "ringscrape_wal_sync_seconds_total" []
        "Time spent waiting for syncs, in seconds.";
    WAL_SYNCS = Counter "ringscrape_wal_syncs_total" []
        "Syncs of log files.";
    WAL_DAMAGE_BY_CAUSE = Counter "ringscrape_wal_damage_total" ["cause"]
        "Damage found in the log, by cause: places of segments that were cut or skipped, cursor slots, missing segments, repairs that failed.";
    WAL_DAMAGE = Counter "ringscrape_wal_damaged_frames_total" []
        "Frames that were found damaged and skipped.";

    RW_SAMPLES = Counter "prometheus_remote_storage_samples_total" ["remote_name", "url"]
        "Samples that the receiver has acknowledged.";
    RW_EXEMPLARS = Counter "prometheus_remote_storage_exemplars_total" ["remote_name", "url"]
        "Exemplars put into requests.";
    RW_METADATA = Counter "prometheus_remote_storage_metadata_total" ["remote_name", "url"]
        "Metadata entries that the receiver has acknowledged.";
    RW_METADATA_FAILED = Counter "prometheus_remote_storage_metadata_failed_total" ["remote_name", "url"]
        "Metadata entries in requests that failed; they are sent again in the next round.";
    RW_FAILED = Counter "prometheus_remote_storage_samples_failed_total" ["remote_name", "url", "cause"]
        "Samples that the receiver refused for good, by cause.";
    RW_DROPPED = Counter "prometheus_remote_storage_samples_dropped_total" ["remote_name", "url", "cause"]
        "Samples that were not to be sent, by cause: write relabelling, age limit.";
    RW_RETRIED = Counter "prometheus_remote_storage_samples_retried_total" ["remote_name", "url"]
        "Samples of requests that had to be repeated.";
    RW_RESENT = Counter "ringscrape_remote_storage_samples_resent_total" ["remote_name", "url"]
        "Samples sent again after a start that the receiver had already.";
    RW_BYTES = Counter "prometheus_remote_storage_bytes_total" ["remote_name", "url"]
        "Compressed bytes of requests, repeated ones included.";
    RW_REQUESTS = Counter "ringscrape_remote_storage_requests_total" ["remote_name", "url", "result"]
        "Finished requests by result: status class or network.";
    RW_LATENCY = Histogram "prometheus_remote_storage_sent_batch_duration_seconds" ["remote_name", "url"]
        "Time from sending a request to its answer, in seconds.";
    RW_PENDING = Gauge "prometheus_remote_storage_samples_pending" ["remote_name", "url"]
        "Samples logged and read for sending but not acknowledged.";
    RW_IN_FLIGHT = Gauge "ringscrape_remote_storage_requests_in_flight" ["remote_name", "url"]
        "Requests being answered.";
    RW_HIGHEST_SENT = Gauge "prometheus_remote_storage_queue_highest_sent_timestamp_seconds" ["remote_name", "url"]
        "Timestamp of the newest acknowledged sample, seconds since the Unix epoch.";
    RW_LAG = Gauge "ringscrape_remote_storage_lag_seconds" ["remote_name", "url"]
        "Age of the oldest sample that the endpoint has not acknowledged, in seconds.";
    RW_COMPRESSION = Gauge "ringscrape_remote_storage_compression" ["remote_name", "url", "compression"]
        "Shards that compress requests this way; zstd where the endpoint takes it.";
    RW_MESSAGE = Gauge "ringscrape_remote_storage_message" ["remote_name", "url", "message"]
        "Shards that send this message: remote write 1.0, or 2.0 where it is configured and the endpoint takes it.";
    RW_SHARDS = Gauge "prometheus_remote_storage_shards" ["remote_name", "url"]
        "Requests that may be on their way to the endpoint now, of all shards together: follows its answers.";
    RW_SHARDS_MIN = Gauge "prometheus_remote_storage_shards_min" ["remote_name", "url"]
        "Lower bound of the same: `min_shards`.";
    RW_SHARDS_MAX = Gauge "prometheus_remote_storage_shards_max" ["remote_name", "url"]
        "Upper bound of the same: `max_shards`.";
    RW_LEFT_BYTES = Gauge "ringscrape_remote_storage_left_bytes" ["remote_name", "url"]
        "Bytes of the log that the endpoint has not acknowledged, about: definitions and records for other endpoints are counted too.";
    RW_LEFT_SAMPLES = Gauge "ringscrape_remote_storage_left_samples" ["remote_name", "url"]
        "Samples of the log that the endpoint has not acknowledged, about.";
    RW_LEFT_SECONDS = Gauge "ringscrape_remote_storage_left_seconds" ["remote_name", "url"]
        "Seconds until the endpoint has everything, going by the last half minute; 0 while it lags less than 10 s, +Inf while what is left grows.";
    CLUSTER_INFO = Gauge "cluster_node_info" ["cluster_name", "state"]
        "1, labelled with the state of this node: viewer, participant, draining, terminating, suspect or dead.";
    CLUSTER_PEERS = Gauge "cluster_node_peers" ["cluster_name", "state"]
        "Members of the cluster by state, this node among them, as this node knows them.";
    CLUSTER_ALIVE = Gauge "cluster_node_gossip_alive_peers" ["cluster_name"]
        "Members that are not dead, have not left and answer, this node among them.";
    CLUSTER_READY = Gauge "cluster_ready_for_traffic" ["cluster_name"]
        "1 once the cluster is found and has the size waited for, or waiting is over.";
    CLUSTER_MINIMUM = Gauge "cluster_minimum_size" ["cluster_name"]
        "How many members this node waits for before it scrapes; 0 = any number.";
    CLUSTER_RX_PACKETS = Counter "cluster_transport_rx_packets_total" []
        "Gossip packets received, whatever they were.";
    CLUSTER_TX_PACKETS = Counter "cluster_transport_tx_packets_total" []
        "Gossip packets sent.";
    CLUSTER_TX_FAILED = Counter "cluster_transport_tx_packets_failed_total" []
        "Gossip packets that the system did not take.";
    CLUSTER_RX_BYTES = Counter "cluster_transport_rx_bytes_total" []
        "Bytes of gossip packets received.";
    CLUSTER_TX_BYTES = Counter "cluster_transport_tx_bytes_total" []
        "Bytes of gossip packets sent.";
    CLUSTER_STREAMS = Gauge "cluster_transport_streams" []
        "Open streams between this node and others.";
    CLUSTER_OWNED = Gauge "ringscrape_cluster_owned_targets" []
        "Targets that this node owns.";
    CLUSTER_UNOWNED = Gauge "ringscrape_cluster_unowned_targets" []
        "Targets known to this node that nobody scrapes: no active member has their job, or room, or \
         they are replicas that there are not as many members for.";
    CLUSTER_REFUSED_TARGETS = Gauge "ringscrape_cluster_refused_targets" ["cause"]
        "Of these, how many because of the members' limits: budget (--cluster.samples-per-second-max).";
    CLUSTER_HEAVY = Gauge "ringscrape_cluster_heavy_targets" []
        "Targets that cost much, as this node tells the others: they are placed by their cost.";
    CLUSTER_SHARE = Gauge "ringscrape_cluster_ring_share" []
        "Part of the ring that is this node's, 0 to 1.";
    CLUSTER_MOVED = Counter "ringscrape_cluster_targets_moved_total" ["cause"]
        "Targets of the fleet that got another owner, by what changed: join, leave, crash, weight, jobs, heavy (what targets cost).";
    CLUSTER_ISOLATED = Gauge "ringscrape_cluster_isolated" []
        "1 while this node reaches less than half of the members of the last hour: it keeps its share and takes over nothing.";
    CLUSTER_STANDING_STILL = Gauge "ringscrape_cluster_standing_still" []
        "1 while this node scrapes nothing because it stood still and no peer has answered since.";
    CLUSTER_STANDSTILLS = Counter "ringscrape_cluster_standstills_total" []
        "How often this node stood still for longer than the detection time.";
    CLUSTER_DEATHS = Counter "ringscrape_cluster_deaths_total" []
        "How often others took this node for dead while it ran; it joined again.";
    CLUSTER_REFUSED = Counter "ringscrape_cluster_packets_refused_total" ["cause"]
        "Packets and frames of streams that were not taken, by cause.";
    CLUSTER_EXCHANGES = Counter "ringscrape_cluster_streams_total" ["result"]
        "Streams between this node and others by result: done, failed, turned_away (there were too many).";
    CLUSTER_JOINS_FAILED = Counter "ringscrape_cluster_join_rounds_failed_total" []
        "Rounds over the join addresses in which none answered.";
    CLUSTER_SKEW = Gauge "ringscrape_cluster_clock_skew_seconds" ["node"]
        "Clock of another node less this node's, in seconds, as measured in the last exchange.";
    CLUSTER_CONTACT = Gauge "ringscrape_cluster_last_contact_seconds" ["node"]
        "Time since another node, not dead and not gone, was last heard of, in seconds.";
    CLUSTER_DRIFT = Gauge "ringscrape_cluster_drifted_jobs" []
        "Jobs whose settings are not the same on all active members.";

    HIGHEST_TIMESTAMP = Gauge "prometheus_remote_storage_highest_timestamp_in_seconds" []
        "Timestamp of the newest logged sample, seconds since the Unix epoch.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_well_formed() {
        let mut seen = std::collections::HashSet::new();
        for metric in ALL {
            assert!(seen.insert(metric.name), "{} stands twice", metric.name);
            assert!(
                metric
                    .name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{}",
                metric.name
            );
            assert_eq!(
                metric.kind == Kind::Counter,
                metric.name.ends_with("_total"),
                "{}: counters, and only they, end in _total",
                metric.name
            );
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
