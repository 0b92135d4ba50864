//! From a real log through a real HTTP connection to a receiver that fails now and then.

use super::decode::{TimeSeries, decode_body};
use super::model::{LabelMap, Plain, block, endpoint, layout, map, route, target, whole};
use crate::config::CompressionChoice;
use crate::remote_write::from_log::EndpointReader;
use crate::remote_write::post::{Poster, ShardRequest, ToShard};
use crate::remote_write::{Now, Polled, QueueOptions, ShardQueue};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request as HttpRequest, StatusCode};
use ringscrape_wal::log::{LogOptions, ShardLog};
use ringscrape_wal::scrape::Scrape;
use ringscrape_wal::storage::MemoryStorage;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Requests seen, and the series of those that were taken.
type Server = Arc<Mutex<(u64, Vec<TimeSeries>)>>;

async fn receive(State(server): State<Server>, request: HttpRequest<Body>) -> StatusCode {
    let body = axum::body::to_bytes(request.into_body(), 1 << 20)
        .await
        .unwrap();
    let mut server = server.lock().unwrap();
    server.0 += 1;
    if server.0.is_multiple_of(3) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    server.1.extend(decode_body(&body).series);
    StatusCode::OK
}

/// One endpoint in one shard, as a shard holds it.
struct Shard {
    queue: ShardQueue,
    reader: EndpointReader,
    requests: mpsc::Sender<ShardRequest>,
    answers: mpsc::UnboundedReceiver<ToShard>,
    allowance: u32,
}

impl Shard {
    fn tick(&mut self, log: &mut ShardLog, now: Now) -> Polled {
        while let Ok(message) = self.answers.try_recv() {
            match message {
                ToShard::Allowance { requests, .. } => self.allowance = requests,
                ToShard::Ended {
                    id,
                    result,
                    elapsed_us,
                } => self.queue.on_result(id, &result, elapsed_us, now),
            }
        }
        let stats = self.queue.stats();
        let free = self.allowance.saturating_sub(stats.requests_in_flight);
        let mut requests = Vec::new();
        let mut source = self.reader.over(log);
        let polled = self.queue.poll(&mut source, now, free, &mut requests);
        for request in requests {
            let request = ShardRequest {
                shard: 0,
                request,
                backlog_samples: stats.samples_pending,
            };
            self.requests.try_send(request).expect("room for all");
        }
        let (low_water, highest_sent) = self.queue.cursor();
        log.cursors_mut().advance("test", low_water, highest_sent);
        polled
    }
}

#[test]
fn what_is_logged_arrives_over_http() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = Server::default();
        let router = axum::Router::new()
            .fallback(receive)
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut endpoint = endpoint();
        endpoint.url = format!("http://{}/write", listener.local_addr().unwrap());
        endpoint.compression = CompressionChoice::Auto;
        endpoint.queue.samples_per_send_max = 7;
        endpoint.queue.batch_send_deadline_ms = 5;
        endpoint.queue.backoff_min_ms = 1;
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

        let mut log = ShardLog::new(LogOptions::default(), 1);
        let start = log.end();
        log.cursors_mut().add("test", start);
        let options = QueueOptions {
            endpoint: Arc::new(endpoint.clone()),
            low_water: start,
            highest_sent: start,
            run_start: start,
            isolation_requests_per_s: 5.0,
        };
        let started = Instant::now();
        let now = || Now {
            monotonic_ms: started.elapsed().as_millis() as u64,
            unix_ms: 1_000_000,
        };
        let storage = Arc::new(MemoryStorage::new());
        let reader = EndpointReader::new("test", storage, "/wal".into());
        let (requests, receiver) = mpsc::channel(64);
        let (sender, answers) = mpsc::unbounded_channel();
        let poster = Poster::new(&endpoint, "1").unwrap();
        tokio::spawn(poster.run(receiver, vec![sender]));
        let mut shard = Shard {
            queue: ShardQueue::new(options, now()),
            reader,
            requests,
            answers,
            allowance: 1,
        };

        let mut expected = Vec::new();
        for turn in 0..30 {
            for key in 0..3_u64 {
                let labels = map(&[("target", &format!("t{key}"))]);
                let own: Vec<LabelMap> = (0..=4 * key)
                    .map(|index| map(&[("__name__", &format!("m{index}"))]))
                    .collect();
                let scrape = Scrape {
                    target: target(key, &labels),
                    route: route("test"),
                    timestamp_ms: turn,
                    layout: layout(&[whole(&block(&["target".to_owned()], &own, &[]))]),
                    values: own.iter().map(|_| turn as f64).collect(),
                    stale: Box::default(),
                    sides: None,
                };
                let filled = own.into_iter().map(|mut series| {
                    series.extend(labels.clone());
                    series
                });
                let plain = Plain {
                    labels: filled.collect(),
                    scrape,
                };
                expected.extend(plain.expected(false));
                log.append(Arc::new(plain.scrape), turn);
            }
            shard.tick(&mut log, now());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        shard.queue.flush();
        loop {
            let polled = shard.tick(&mut log, now());
            if polled.at_end && shard.queue.is_drained() {
                break;
            }
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{:?}",
                shard.queue
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(log.cursors().get("test").unwrap().low_water, log.end());
        // Targets overtake each other; the samples of one series do not.
        let mut got = server.lock().unwrap().1.clone();
        got.sort_by_key(|series| series.labels.clone());
        expected.sort_by_key(|series| series.labels.clone());
        assert_eq!(got, expected);
        let stats = shard.queue.stats();
        assert!(stats.requests[5] > 0 && stats.samples_failed() == 0);
    });
}
