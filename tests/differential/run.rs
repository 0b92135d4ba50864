//! Cases and an engine -> every sample that the engine sent for each case.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::exporter::{self, Exporter, Page};
use ringscrape_tests::recorder::{Recorder, Sample};
use ringscrape_tests::wait;

use crate::case::{Case, Keys};
use crate::script;

/// How long a run may take in all.
const RUN_LIMIT: Duration = Duration::from_secs(90);
/// How long an engine has to stop and flush.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Scrapes that a target gets beyond those compared, so that all of these were sent.
const SCRAPES_EXTRA: u64 = 2;

/// What an engine did with the corpus.
pub(crate) struct Outcome {
    /// Samples by case name, in order of arrival.
    pub(crate) samples: BTreeMap<String, Vec<Sample>>,
    /// T0, ms since the epoch.
    pub(crate) start_ms: i64,
    /// Breaches of the remote-write specification.
    pub(crate) violations: Vec<String>,
}

/// Runs all cases at once: solo ones in a process each, the others as jobs of one process.
/// `port` is the targets' port, the same in each run, so that labels are comparable.
///
/// # Panics
/// If an engine does not start, does not finish its scrapes in time or does not stop with 0.
pub(crate) fn run(engine: Engine, cases: &[Case], port: u16) -> Outcome {
    let start_ms = now_ms();
    let exporter = serve(cases, port, start_ms);
    let recorder = Recorder::start();
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    let mut groups: BTreeMap<String, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        let group = if case.solo {
            case.name.clone()
        } else {
            "shared".to_owned()
        };
        groups.entry(group).or_default().push(case);
    }
    let mut discovery = Discovery::default();
    let mut running: Vec<Running> = Vec::new();
    for (group, cases) in &groups {
        let folder = dir.path().join(group);
        std::fs::create_dir(&folder).expect("cannot make a directory");
        for case in cases {
            discovery.write(case, &folder, port);
        }
        let config = configuration(engine, cases, &folder, port, &recorder.url(group));
        let extra = match engine {
            Engine::Agent if cases.iter().any(|case| case.extra_metrics) => {
                ["--enable-feature=extra-scrape-metrics"].as_slice()
            }
            _ => &[],
        };
        running.push(Running::start(engine, &folder, &config, extra));
    }
    let pending = || {
        let pending = cases
            .iter()
            .filter(|case| !is_complete(case, &exporter, &recorder));
        pending
            .map(|case| case.name.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    };
    wait::until(
        &format!("{} has finished its scrapes", engine.name()),
        RUN_LIMIT,
        || format!("unfinished: {}", pending()),
        || {
            for process in &mut running {
                assert!(process.process.is_alive(), "{} ended early", engine.name());
            }
            let moved = discovery.advance(cases, &recorder, port);
            (moved && pending().is_empty()).then_some(())
        },
    );
    for process in &mut running {
        process.process.signal(libc::SIGTERM);
    }
    for process in &mut running {
        let status = process.process.wait(STOP_LIMIT);
        assert!(status.success(), "{} ended with {status}", engine.name());
    }
    let mut samples: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    for (group, cases) in &groups {
        for sample in recorder.samples(group) {
            let owner = match cases.as_slice() {
                [only] if only.solo => only.name.clone(),
                _ => sample.label("job").unwrap_or_default().to_owned(),
            };
            samples.entry(owner).or_default().push(sample);
        }
    }
    Outcome {
        samples,
        start_ms,
        violations: recorder.violations(),
    }
}

/// The addresses that targets listen on.
pub(crate) fn hosts() -> Vec<IpAddr> {
    let mut hosts: Vec<IpAddr> = (1..=4)
        .map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
        .collect();
    if exporter::has_ipv6() {
        hosts.push(IpAddr::V6(Ipv6Addr::LOCALHOST));
    }
    hosts
}

fn now_ms() -> i64 {
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    i64::try_from(time.as_millis()).expect("BUG: milliseconds since 1970 fit in i64")
}

fn serve(cases: &[Case], port: u16, start_ms: i64) -> Exporter {
    let by_name: HashMap<String, Case> = cases
        .iter()
        .map(|case| (case.name.clone(), case.clone()))
        .collect();
    Exporter::start_on(&hosts(), port, move |scrape| {
        let path = scrape.request.path().trim_start_matches('/').to_owned();
        let (name, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
        let body = by_name
            .get(name)
            .and_then(|case| case.body(scrape.request.local.ip(), rest, scrape.number));
        match body {
            Some(body) => script::page(body, scrape.request, start_ms),
            None => Page {
                status: 404,
                ..Page::text("no such page\n")
            },
        }
    })
}

fn configuration(engine: Engine, cases: &[&Case], dir: &Path, port: u16, url: &str) -> String {
    let mut text = "global:\n  scrape_interval: 1s\n  scrape_timeout: 900ms\n".to_owned();
    let mut remote_write = String::new();
    for case in cases {
        push_keys(&mut text, engine, &case.global);
        push_keys(&mut remote_write, engine, &case.remote_write);
    }
    text.push_str(&format!("remote_write:\n- url: {url}\n"));
    text.push_str("  queue_config: {batch_send_deadline: 100ms}\n");
    text.push_str(&remote_write);
    text.push_str("scrape_configs:\n");
    for case in cases {
        text.push_str(&format!("- job_name: {}\n", case.name));
        if !case.sets("metrics_path:") {
            text.push_str(&format!("  metrics_path: /{}\n", case.name));
        }
        if !case.discovery.is_empty() {
            let file = dir.join(format!("{}.json", case.name));
            text.push_str(&format!(
                "  file_sd_configs: [{{files: ['{}']}}]\n",
                file.display()
            ));
        } else if !case.sets("static_configs:") && !case.sets("http_sd_configs:") {
            text.push_str("  static_configs: [{targets: ['127.0.0.1:<PORT>']}]\n");
        }
        push_keys(&mut text, engine, &case.job);
    }
    text.replace("<PORT>", &port.to_string())
}

fn push_keys(text: &mut String, engine: Engine, keys: &Keys) {
    for (_, part) in keys
        .iter()
        .filter(|(only, _)| only.is_none_or(|only| only == engine))
    {
        for line in part.lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
}

/// Whether a case was scraped often enough, by what the targets served and what arrived.
fn is_complete(case: &Case, exporter: &Exporter, recorder: &Recorder) -> bool {
    if case.discovery.len() > 1 {
        return true; // `Discovery::advance` has waited for it.
    }
    let wanted = case.scrapes + SCRAPES_EXTRA;
    let group = if case.solo {
        case.name.as_str()
    } else {
        "shared"
    };
    let mut ups: HashMap<String, u64> = HashMap::new();
    for sample in recorder.samples(group) {
        if sample.name() == "up" && (case.solo || sample.label("job") == Some(&case.name)) {
            *ups.entry(sample.label("instance").unwrap_or_default().to_owned())
                .or_insert(0) += 1;
        }
    }
    if !ups.is_empty() {
        return ups.values().all(|count| *count >= wanted);
    }
    // `up` may be relabelled away when sending: then the requests tell.
    hosts()
        .iter()
        .any(|host| exporter.count(*host, &format!("/{}", case.name)) > wanted)
}

/// The file_sd files and how far each case has come through its versions.
#[derive(Default)]
struct Discovery {
    steps: HashMap<String, Step>,
}

struct Step {
    file: std::path::PathBuf,
    version: usize,
    /// `up` samples that had arrived when the version was written.
    ups_before: usize,
    done: bool,
}

impl Discovery {
    fn write(&mut self, case: &Case, dir: &Path, port: u16) {
        if case.discovery.is_empty() {
            return;
        }
        let file = dir.join(format!("{}.json", case.name));
        put(&file, &case.discovery[0], port);
        let done = case.discovery.len() == 1;
        self.steps.insert(
            case.name.clone(),
            Step {
                file,
                version: 0,
                ups_before: 0,
                done,
            },
        );
    }

    /// Goes to the next version where the present one has shown its effect: three scrapes if it
    /// has targets, markers for every `up` series if it has none. True when all are through.
    fn advance(&mut self, cases: &[Case], recorder: &Recorder, port: u16) -> bool {
        for case in cases {
            let Some(step) = self.steps.get_mut(&case.name).filter(|step| !step.done) else {
                continue;
            };
            let group = if case.solo {
                case.name.as_str()
            } else {
                "shared"
            };
            let ups: Vec<Sample> = recorder
                .samples(group)
                .into_iter()
                .filter(|s| s.name() == "up" && (case.solo || s.label("job") == Some(&case.name)))
                .collect();
            let shown = if case.discovery[step.version].contains("127.") {
                ups.len() >= step.ups_before + 3
            } else {
                ups.last().is_some_and(Sample::is_stale)
            };
            if !shown {
                continue;
            }
            step.version += 1;
            step.ups_before = ups.len();
            match case.discovery.get(step.version) {
                Some(next) => put(&step.file, next, port),
                None => step.done = true,
            }
        }
        self.steps.values().all(|step| step.done)
    }
}

/// Replaces a file in one step, as file_sd wants it.
fn put(file: &Path, content: &str, port: u16) {
    let draft = file.with_extension("draft");
    std::fs::write(&draft, content.replace("<PORT>", &port.to_string()))
        .and_then(|()| std::fs::rename(&draft, file))
        .expect("cannot write a discovery file");
}
