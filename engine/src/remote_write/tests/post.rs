//! The network side against a real HTTP server on loopback with scripted answers.

use super::model::endpoint;
use crate::config::Endpoint;
use crate::remote_write::post::{PostError, Poster, ShardRequest, ToShard};
use crate::remote_write::request::Form;
use crate::remote_write::retry::Written;
use crate::remote_write::{Compression, Request, RequestId, SendResult};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request as HttpRequest, Response};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// What the server saw, and what it answers: by the first byte of the body.
#[derive(Default)]
struct Server {
    seen: Mutex<Vec<(HeaderMap, Vec<u8>)>>,
    on_their_way: AtomicUsize,
    on_their_way_max: AtomicUsize,
    release: Notify,
}

async fn answer(State(server): State<Arc<Server>>, request: HttpRequest<Body>) -> Response<Body> {
    let now = server.on_their_way.fetch_add(1, Ordering::SeqCst) + 1;
    server.on_their_way_max.fetch_max(now, Ordering::SeqCst);
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec();
    let script = body[0];
    server.seen.lock().unwrap().push((parts.headers, body));
    let response = Response::builder();
    let response = match script {
        b'o' => response.status(204).body(Body::empty()),
        b'n' => response
            .status(200)
            .header("X-Prometheus-Remote-Write-Samples-Written", "12")
            .header("X-Prometheus-Remote-Write-Exemplars-Written", "3")
            .body(Body::empty()),
        b'r' => response
            .status(503)
            .header("Retry-After", "7")
            .body(Body::from("overloaded by hunter2-secret")),
        b'b' => response
            .status(429)
            .header("Retry-After", "1")
            .body(Body::empty()),
        b'l' => response.status(400).body(Body::from(vec![b'x'; 1 << 20])),
        b'f' => response
            .status(307)
            .header("Location", "/elsewhere")
            .body(Body::empty()),
        b'h' => {
            std::future::pending::<()>().await;
            unreachable!()
        }
        // Waits until the test lets it go.
        _ => {
            server.release.notified().await;
            response.status(200).body(Body::empty())
        }
    };
    server.on_their_way.fetch_sub(1, Ordering::SeqCst);
    response.unwrap()
}

struct Setup {
    server: Arc<Server>,
    requests: mpsc::Sender<ShardRequest>,
    answers: Vec<mpsc::UnboundedReceiver<ToShard>>,
    run: tokio::task::JoinHandle<()>,
}

async fn setup(mut endpoint: Endpoint, shards: usize) -> Setup {
    let server = Arc::new(Server::default());
    let router = axum::Router::new()
        .fallback(answer)
        .with_state(server.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    endpoint.url = format!("http://ada:hunter2-secret@{address}/api/v1/write?tenant=1");
    let poster = Poster::new(&endpoint, "1.2.3").unwrap();
    let (requests, receiver) = mpsc::channel(64);
    let (senders, answers) = (0..shards).map(|_| mpsc::unbounded_channel()).unzip();
    let run = tokio::spawn(poster.run(receiver, senders));
    Setup {
        server,
        requests,
        answers,
        run,
    }
}

fn request(id: u64, body: &'static str, attempt: u32) -> ShardRequest {
    ShardRequest {
        shard: 0,
        request: Request {
            id: RequestId(id),
            body: body.as_bytes().into(),
            form: Form::v1(Compression::Snappy),
            attempt,
            samples: 1,
        },
        backlog_samples: 5,
    }
}

impl Setup {
    /// The next answer to shard `shard`; what it is allowed is skipped.
    async fn ended(&mut self, shard: usize) -> (RequestId, SendResult) {
        loop {
            match self.answers[shard].recv().await.unwrap() {
                ToShard::Ended { id, result, .. } => return (id, result),
                ToShard::Allowance { requests, .. } => assert!(requests >= 1),
            }
        }
    }

    async fn result(&mut self, body: &'static str) -> SendResult {
        self.requests.send(request(1, body, 0)).await.unwrap();
        self.ended(0).await.1
    }
}

fn on_tokio(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("the test hangs");
    });
}

#[test]
fn headers_are_those_of_remote_write_1_0() {
    on_tokio(async {
        let mut endpoint = endpoint();
        endpoint.headers = vec![
            ("X-Scope-OrgID".to_owned(), "tenant".to_owned()),
            ("content-type".to_owned(), "text/plain".to_owned()),
        ];
        let mut setup = setup(endpoint, 1).await;
        setup.requests.send(request(7, "ok", 0)).await.unwrap();
        let (id, result) = setup.ended(0).await;
        assert_eq!(id, RequestId(7));
        let SendResult::Status { code: 204, .. } = result else {
            panic!("{result:?}")
        };
        setup.requests.send(request(8, "ok", 3)).await.unwrap();
        setup.ended(0).await;
        let mut zstd = request(9, "ok", 0);
        zstd.request.form = Form::v1(Compression::Zstd);
        setup.requests.send(zstd).await.unwrap();
        setup.ended(0).await;
        let seen = std::mem::take(&mut *setup.server.seen.lock().unwrap());
        let (first, body) = &seen[0];
        assert_eq!(body, b"ok");
        for (name, value) in [
            ("content-encoding", "snappy"),
            ("content-type", "application/x-protobuf"),
            ("x-prometheus-remote-write-version", "0.1.0"),
            ("user-agent", "ringscrape/1.2.3"),
            ("x-scope-orgid", "tenant"),
            ("content-length", "2"),
            // ada:hunter2-secret
            ("authorization", "Basic YWRhOmh1bnRlcjItc2VjcmV0"),
        ] {
            let values: Vec<_> = first.get_all(name).iter().collect();
            assert_eq!(values, [value], "{name}");
        }
        assert!(first.get("retry-attempt").is_none());
        assert_eq!(seen[1].0.get("retry-attempt").unwrap(), "3");
        let (zstd, _) = &seen[2];
        assert_eq!(zstd.get("content-encoding").unwrap(), "zstd");
        let version = zstd.get("x-victoriametrics-remote-write-version");
        assert_eq!(version.unwrap(), "1");
        assert!(zstd.get("x-prometheus-remote-write-version").is_none());
    });
}

#[test]
fn headers_of_remote_write_2_0_are_sent_and_read() {
    on_tokio(async {
        let mut setup = setup(endpoint(), 1).await;
        for (form, expected) in [
            (
                Form::v2(Compression::Snappy),
                Some(Written {
                    samples: 12,
                    histograms: 0,
                    exemplars: 3,
                }),
            ),
            // What a 1.0 receiver does not say.
            (Form::v1(Compression::Snappy), None),
        ] {
            let mut second = request(1, "noted", 0);
            second.request.form = form;
            setup.requests.send(second).await.unwrap();
            let SendResult::Status { written, .. } = setup.ended(0).await.1 else {
                panic!("no status")
            };
            assert_eq!(written, expected);
        }
        let seen = std::mem::take(&mut *setup.server.seen.lock().unwrap());
        for (name, value) in [
            ("content-encoding", "snappy"),
            (
                "content-type",
                "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            ),
            ("x-prometheus-remote-write-version", "2.0.0"),
        ] {
            let values: Vec<_> = seen[0].0.get_all(name).iter().collect();
            assert_eq!(values, [value], "{name}");
        }
    });
}

#[test]
fn answers_are_read_within_bounds_and_without_secrets() {
    on_tokio(async {
        let mut setup = setup(endpoint(), 1).await;
        assert_eq!(
            setup.result("retry").await,
            SendResult::Status {
                code: 503,
                retry_after_ms: Some(7_000),
                reason: "overloaded by <secret>".to_owned(),
                written: None,
            }
        );
        let SendResult::Status { code, reason, .. } = setup.result("long").await else {
            panic!("no status")
        };
        assert_eq!((code, reason.len()), (400, 8 << 10));
        // Not followed: the server saw one request.
        let before = setup.server.seen.lock().unwrap().len();
        let SendResult::Status { code: 307, .. } = setup.result("follow").await else {
            panic!("no redirect")
        };
        assert_eq!(setup.server.seen.lock().unwrap().len(), before + 1);
    });
}

#[test]
fn no_answer_is_a_timeout_and_no_server_a_failure_without_the_url() {
    on_tokio(async {
        let mut short = endpoint();
        short.remote_timeout_ms = 50;
        let mut hanging = setup(short, 1).await;
        assert_eq!(hanging.result("hang").await, SendResult::TimedOut);

        // A port that was just free: nobody listens.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut nobody = endpoint();
        nobody.url = format!("http://ada:hunter2-secret@{address}/");
        let (requests, receiver) = mpsc::channel(1);
        let (sender, mut answers) = mpsc::unbounded_channel();
        let poster = Poster::new(&nobody, "1").unwrap();
        tokio::spawn(poster.run(receiver, vec![sender]));
        requests.send(request(1, "ok", 0)).await.unwrap();
        loop {
            match answers.recv().await.unwrap() {
                ToShard::Allowance { .. } => {}
                ToShard::Ended { result, .. } => {
                    let SendResult::Failed(text) = result else {
                        panic!("{result:?}")
                    };
                    assert!(!text.contains("hunter2") && !text.contains("ada"), "{text}");
                    assert!(text.to_lowercase().contains("refused"), "{text}");
                    break;
                }
            }
        }
    });
}

#[test]
fn never_more_requests_than_the_endpoint_allows() {
    on_tokio(async {
        let mut two = endpoint();
        two.queue.requests_in_flight_max = 2;
        let mut setup = setup(two, 2).await;
        for id in 0..6 {
            let mut next = request(id, "wait", 0);
            next.shard = (id % 2) as usize;
            setup.requests.send(next).await.unwrap();
        }
        let [first, second] = &mut setup.answers[..] else {
            panic!("two shards")
        };
        let mut ids = Vec::new();
        while ids.len() < 6 {
            setup.server.release.notify_one();
            // Until one of those that wait has ended; which one is the network's choice.
            loop {
                let message = tokio::select! {
                    message = first.recv() => message,
                    message = second.recv() => message,
                };
                if let Some(ToShard::Ended { id, .. }) = message {
                    ids.push(id.0);
                    break;
                }
            }
        }
        ids.sort_unstable();
        assert_eq!(ids, [0, 1, 2, 3, 4, 5]);
        assert_eq!(setup.server.on_their_way_max.load(Ordering::SeqCst), 2);
        // Ends when nobody can ask any more.
        drop(setup.requests);
        setup.run.await.unwrap();
    });
}

/// Two shards: what one of them is told to wait for, the other waits for as well.
#[test]
fn retry_after_holds_for_the_whole_endpoint() {
    on_tokio(async {
        let mut setup = setup(endpoint(), 2).await;
        let SendResult::Status {
            retry_after_ms: Some(1_000),
            ..
        } = setup.result("brief").await
        else {
            panic!("no wish")
        };
        let told = std::time::Instant::now();
        let mut other = request(2, "ok", 0);
        other.shard = 1;
        setup.requests.send(other).await.unwrap();
        setup.ended(1).await;
        assert!(told.elapsed() >= Duration::from_millis(950));
    });
}

#[test]
fn permits_follow_the_backlog() {
    on_tokio(async {
        let mut endpoint = endpoint();
        endpoint.queue.requests_in_flight_min = 10;
        endpoint.queue.requests_in_flight_max = 10;
        let mut setup = setup(endpoint, 2).await;
        let ToShard::Allowance { requests, bound } = setup.answers[0].recv().await.unwrap() else {
            panic!("no allowance")
        };
        assert_eq!((requests, bound), (5, 10));
        let mut next = request(1, "ok", 0);
        next.backlog_samples = 1_000_000;
        setup.requests.send(next).await.unwrap();
        loop {
            if let ToShard::Allowance { requests, .. } = setup.answers[0].recv().await.unwrap() {
                assert_eq!(requests, 9);
                break;
            }
        }
    });
}

#[test]
fn settings_that_cannot_be_sent_to_are_refused_without_secrets() {
    for url in [
        "ftp://a:hunter2@b/",
        "http://",
        "nonsense hunter2",
        "unix:/hunter2",
    ] {
        let mut bad = endpoint();
        bad.url = url.to_owned();
        let error = Poster::new(&bad, "1").unwrap_err();
        assert!(matches!(error, PostError::Url { .. }), "{url}");
        let text = error.to_string();
        assert!(
            text.contains("\"test\"") && !text.contains("hunter2"),
            "{text}"
        );
    }
    for (name, value) in [("bad name", "x"), ("x", "line\nbreak hunter2")] {
        let mut bad = endpoint();
        bad.headers = vec![(name.to_owned(), value.to_owned())];
        let text = Poster::new(&bad, "1").unwrap_err().to_string();
        assert!(text.contains(name) && !text.contains("hunter2"), "{text}");
    }
}
