//! Options -> locked storage, one pinned executor per core, the control loop; returns when asked to
//! stop.

use crate::config::{Config, ConfigError};
use crate::control::{Clustering, Control, Service};
use crate::gossip::{ClusterOptions, GOSSIP_MESSAGES_MAX, GossipThread, Place};
use crate::log::SyncPolicy;
use crate::mailbox::{FromShard, MAILBOX_MESSAGES_MAX, ShardIndex};
use crate::metrics::{nofile_limits, raise_nofile_limit};
use crate::server::Sites;
use crate::service::settings::ServiceSettings;
use crate::service::store::{self, GossipLinks, StorePlace};
use crate::shard::{ShardOptions, ShardThread};
use crate::storage::{FormerLog, Storage, StorageError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// What `ringscrape run` is told on its command line.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Configuration file.
    pub config_file: PathBuf,
    /// Folder of the log.
    pub storage_path: PathBuf,
    /// Cap on the log's bytes; 0 = none.
    pub retention_bytes_max: u64,
    /// Cap on the age of unsent samples; 0 = none.
    pub retention_age_ms_max: u64,
    /// When the log is synced.
    pub sync: SyncPolicy,
    /// Where the API listens.
    pub listen_address: SocketAddr,
    /// How the API listens: TLS, users; `None` = plain HTTP for everybody.
    pub web_config_file: Option<PathBuf>,
    /// Whether `/-/reload` is served.
    pub lifecycle: bool,
    /// Whether the texts of stored configurations can be read through the API.
    pub reads_configs: bool,
    /// Who may use the API of stored configurations: a file of tokens.
    pub config_tokens_file: Option<PathBuf>,
    /// How long to go on sending at stop.
    pub flush_deadline_ms: u64,
    /// Data plane threads; `None` = one per usable core.
    pub shards: Option<usize>,
    /// The part in a cluster; `None` = this node scrapes all targets.
    pub cluster: Option<ClusterOptions>,
}

impl RunOptions {
    /// Reads the configuration file. What the command line says wins.
    pub(crate) fn load_config(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(&self.config_file)?;
        if let (Some(path), Some(settings)) =
            (&self.config_tokens_file, &mut config.scraping_service)
        {
            Arc::make_mut(settings).tokens_file = Some(path.clone());
        }
        Ok(config)
    }
}

/// Why the process could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The storage folder cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The web configuration, or what it names, is wrong.
    #[error("{reason}")]
    WebConfig {
        /// What, and where.
        reason: String,
    },
    /// The API's address cannot be listened on.
    #[error("cannot listen on {address} (--web.listen-address): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A thread or the runtime could not be started.
    #[error("cannot start {what}: {reason}")]
    Start {
        /// What.
        what: String,
        /// Why, and what to do.
        reason: String,
    },
    /// This node cannot take part in its cluster.
    #[error("cannot take part in the cluster: {reason}")]
    Cluster {
        /// Why, and what to do.
        reason: String,
    },
    /// A shard ended although nobody asked it to.
    #[error("shard {shard} has ended: {reason}")]
    Shard {
        /// Which.
        shard: ShardIndex,
        /// Why.
        reason: String,
    },
    /// Shards did not finish after they were told to.
    #[error(
        "{running} shards did not stop in time: what their logs had written is complete, the last \
         scrapes may be missing; look for a disk that does not answer"
    )]
    Stop {
        /// How many.
        running: usize,
    },
}

/// Runs the engine until SIGTERM or SIGINT. `Ok`: stopped as asked; what was not sent is in the
/// log.
///
/// # Errors
/// The process could not start, or a shard has died.
pub fn run(options: RunOptions) -> Result<(), RunError> {
    let config = options.load_config()?;
    let sites = Sites::load(options.web_config_file.as_deref());
    let sites = sites.map_err(|reason| RunError::WebConfig { reason })?;
    let storage = Storage::lock(&options.storage_path)?;
    raise_nofile_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| start_error("the control thread", &error))?;
    let result = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(options.listen_address)
            .await
            .map_err(|source| RunError::Listen {
                address: options.listen_address,
                source,
            })?;
        let address = listener.local_addr().unwrap_or(options.listen_address);
        let clustering = match options.cluster.clone() {
            Some(cluster) => Some(join(cluster, storage.path(), address)?),
            None => None,
        };
        let service = match &config.scraping_service {
            Some(settings) => {
                let links = clustering.as_ref().map(Clustering::store_links);
                Some(serve(&config, settings, &storage, links)?)
            }
            None => None,
        };
        let cores = usable_cores();
        let shard_count = options.shards.unwrap_or(cores.len()).max(1);
        let former: Arc<[FormerLog]> = storage.former_logs(shard_count)?.into();
        let (reports, reported) = mpsc::channel::<(ShardIndex, FromShard)>(MAILBOX_MESSAGES_MAX);
        let connections_max = connections_max(shard_count);
        // Others find a node dead after half of that at the earliest.
        let detection_ms = (options.cluster.as_ref()).map_or(0, |one| one.detection_time_ms);
        let standstill_ms = detection_ms / 2;
        let mut shards = Vec::with_capacity(shard_count);
        for shard in 0..shard_count {
            let options = ShardOptions {
                shard,
                shard_count,
                core: cores[shard % cores.len()],
                former: former.clone(),
                storage_path: storage.path().to_owned(),
                sync: options.sync,
                retention_bytes_max: options.retention_bytes_max.div_ceil(shard_count as u64),
                retention_age_ms_max: options.retention_age_ms_max,
                connections_max,
                standstill_ms,
            };
            let thread =
                ShardThread::start(options, reports.clone()).map_err(|reason| RunError::Start {
                    what: format!("shard {shard}"),
                    reason,
                })?;
            shards.push(thread);
        }
        drop(reports);
        let scheme = if sites.current().has_tls() {
            "https"
        } else {
            "http"
        };
        info!(
            version = env!("CARGO_PKG_VERSION"),
            shards = shard_count,
            api = %format_args!("{scheme}://{address}"),
            storage = %options.storage_path.display(),
            config = %options.config_file.display(),
            "ringscrape starts"
        );
        Control::new(
            options, config, sites, shards, reported, clustering, service,
        )
        .run(listener)
        .await
    });
    // A look-up that hangs in the system's resolver must not keep the process.
    runtime.shutdown_background();
    result
}

/// Starts this node's part in its cluster.
fn join(
    options: ClusterOptions,
    storage_path: &Path,
    api_address: SocketAddr,
) -> Result<Clustering, RunError> {
    let (control, messages) = mpsc::channel(GOSSIP_MESSAGES_MAX);
    let place = Place {
        storage_path: storage_path.to_owned(),
        api_address,
    };
    let thread = GossipThread::start(options.clone(), &place, control);
    let thread = thread.map_err(|error| RunError::Cluster {
        reason: error.to_string(),
    })?;
    info!(node = %thread.name, gossip = %thread.gossip_address, "part of a cluster");
    Ok(Clustering::new(thread, options, messages))
}

/// Starts the store of configurations.
fn serve(
    config: &Config,
    settings: &Arc<ServiceSettings>,
    storage: &Storage,
    links: Option<GossipLinks>,
) -> Result<Service, RunError> {
    let place = StorePlace {
        storage_path: storage.path().to_owned(),
    };
    let store = store::start_in_cluster(&settings.store, &place, links);
    let store = store.map_err(|reason| RunError::Start {
        what: "the store of configurations".to_owned(),
        reason,
    })?;
    let service = Service::new(config, settings.clone(), store);
    service.map_err(|reason| RunError::Start {
        what: "the scraping service".to_owned(),
        reason,
    })
}

fn start_error(what: &str, error: &dyn std::error::Error) -> RunError {
    RunError::Start {
        what: what.to_owned(),
        reason: error.to_string(),
    }
}

/// Open files that are left for the API, remote write, discovery and the log.
pub(crate) const FILES_RESERVED: u64 = 192;
/// Of them, those that each shard itself has.
const FILES_PER_SHARD: u64 = 16;

/// Connections that one shard may keep open, out of the process's limit of open files; some are
/// left for the log, the API and remote write.
fn connections_max(shard_count: usize) -> usize {
    let (limit, _) = nofile_limits();
    let reserved = FILES_RESERVED + FILES_PER_SHARD * shard_count as u64;
    let usable = limit.saturating_sub(reserved) as usize;
    if limit < 1024 {
        warn!(
            limit,
            "the limit of open files is low: raise it (ulimit -n, or LimitNOFILE= in a systemd \
             unit) to more than the number of targets"
        );
    }
    (usable / shard_count).max(1)
}

/// Numbers of the cores that this process may run on.
fn usable_cores() -> Vec<usize> {
    // SAFETY: cpu_set_t is plain data for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let size = std::mem::size_of::<libc::cpu_set_t>();
    // SAFETY: `set` is valid for writes of `size` bytes.
    let known = unsafe { libc::sched_getaffinity(0, size, &raw mut set) } == 0;
    let cores: Vec<usize> = (0..libc::CPU_SETSIZE as usize)
        // SAFETY: the index is below CPU_SETSIZE.
        .filter(|core| known && unsafe { libc::CPU_ISSET(*core, &set) })
        .collect();
    if cores.is_empty() { vec![0] } else { cores }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_core_to_run_on() {
        assert!(!usable_cores().is_empty());
    }
}
