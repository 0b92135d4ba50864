//! Gossip threads on loopback, over real sockets.

use super::*;
use ringscrape_cluster::member::{JobId, JobVersion};
use ringscrape_cluster::packet::Cause;
use ringscrape_cluster::state::{Event, Wish};
use ringscrape_cluster::timeline::Timeline;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

const PATIENCE: Duration = Duration::from_secs(30);
const DETECTION_MS: u64 = 2_000;

/// A thread, and what the control loop would know.
struct Member {
    thread: GossipThread,
    from: mpsc::Receiver<FromGossip>,
    timeline: Option<Arc<Timeline>>,
    events: Vec<Event>,
    failed: Option<String>,
    _folder: TempDir,
}

fn options(name: &str, join: &[SocketAddr]) -> ClusterOptions {
    ClusterOptions {
        cluster_name: "test".to_owned(),
        node_name: Some(name.to_owned()),
        listen_address: Some(([127, 0, 0, 1], 0).into()),
        join_addresses: join.iter().map(ToString::to_string).collect(),
        detection_time_ms: DETECTION_MS,
        ..ClusterOptions::default()
    }
}

fn key_file(folder: &TempDir, key: &str) -> Option<std::path::PathBuf> {
    let path = folder.path().join("key");
    std::fs::write(&path, key).unwrap();
    Some(path)
}

impl Member {
    fn start(options: ClusterOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place {
            storage_path: folder.path().to_owned(),
            api_address: ([127, 0, 0, 1], 9_090).into(),
        };
        let (control, from) = mpsc::channel(GOSSIP_MESSAGES_MAX);
        let thread = GossipThread::start(options, &place, control).unwrap();
        let member = Self {
            thread,
            from,
            timeline: None,
            events: Vec::new(),
            failed: None,
            _folder: folder,
        };
        let job = JobVersion {
            job: JobId(1),
            config_hash: 1,
            since_ms: 1,
        };
        let wish = Wish {
            is_active: true,
            weight: 1,
            jobs: [job].into(),
            heavy: None,
        };
        member
            .thread
            .mailbox
            .try_send(ToGossip::Wish(wish))
            .unwrap();
        member
    }

    fn address(&self) -> SocketAddr {
        self.thread.gossip_address
    }

    /// The next message; handovers are taken unless they say no, questions answered with an echo.
    async fn take(&mut self) {
        match self.from.recv().await {
            Some(FromGossip::Timeline(timeline)) => self.timeline = Some(timeline),
            Some(FromGossip::Event(event)) => self.events.push(event),
            Some(FromGossip::HandOver { from, bytes, taken }) => {
                let word = match bytes == b"no" {
                    true => Err(format!("not from {from}")),
                    false => Ok(()),
                };
                taken.send(word).unwrap();
            }
            Some(FromGossip::Question { bytes, answer, .. }) => answer.send(Ok(bytes)).unwrap(),
            Some(FromGossip::Failed(reason)) => self.failed = Some(reason),
            None => std::future::pending().await,
        }
    }

    fn active(&self) -> Vec<&str> {
        let timeline = self.timeline.as_ref();
        let view = timeline.map(|timeline| timeline.view_at(crate::clock::now_ms()));
        let members = view.map(|view| view.members()).unwrap_or_default();
        members.iter().map(|member| &*member.name).collect()
    }

    async fn status(&mut self) -> GossipStatus {
        let (answer, answered) = oneshot::channel();
        self.thread
            .mailbox
            .send(ToGossip::Status(answer))
            .await
            .unwrap();
        answered.await.unwrap()
    }
}

/// Hears all members until a condition holds.
async fn until(what: &str, members: &mut [&mut Member], holds: impl Fn(&[&mut Member]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(members) {
        let left = deadline.saturating_duration_since(Instant::now());
        let next = futures_util::future::select_all(members.iter_mut().map(|m| Box::pin(m.take())));
        // A timeline's next change comes by time, without a message.
        let nap = left.min(Duration::from_millis(20));
        let _ = tokio::time::timeout(nap, next).await;
        if left.is_zero() {
            let seen: Vec<_> = members
                .iter()
                .map(|m| (m.active(), &m.events, &m.failed))
                .collect();
            panic!("not in time: {what}: {seen:?}");
        }
    }
}

fn all_see(names: &'static [&'static str]) -> impl Fn(&[&mut Member]) -> bool {
    move |members| members.iter().all(|member| member.active() == names)
}

#[tokio::test]
async fn three_join_and_one_dies() {
    let mut a = Member::start(options("a", &[]));
    let join = [a.address()];
    let mut b = Member::start(options("b", &join));
    let mut c = Member::start(options("c", &join));
    until(
        "three are active",
        &mut [&mut a, &mut b, &mut c],
        all_see(&["a", "b", "c"]),
    )
    .await;

    // Dropped, it says nothing any more.
    let killed = Instant::now();
    drop(c);
    until("it is dropped", &mut [&mut a, &mut b], all_see(&["a", "b"])).await;
    // Twice the usual, for hosts that are busy with other tests.
    assert!(
        killed.elapsed() < Duration::from_millis(3 * DETECTION_MS),
        "{:?}",
        killed.elapsed()
    );

    // It comes back under its name, at another address.
    let mut c = Member::start(options("c", &[b.address()]));
    until(
        "it is back",
        &mut [&mut a, &mut b, &mut c],
        all_see(&["a", "b", "c"]),
    )
    .await;
    let status = a.status().await;
    assert_eq!(status.snapshot.members.len(), 3);
    assert!(status.counters.datagrams_sent > 0 && status.counters.datagrams_received > 0);
    assert_eq!(
        status
            .counters
            .refusals()
            .map(|(_, count)| count)
            .sum::<u64>(),
        0
    );
}

#[tokio::test]
async fn a_third_of_all_streams_may_break() {
    let drops = |name, join: &[SocketAddr]| {
        let drop_exchanges = 0.33;
        Member::start(ClusterOptions {
            drop_exchanges,
            ..options(name, join)
        })
    };
    let mut a = drops("a", &[]);
    let join = [a.address()];
    let mut b = drops("b", &join);
    let mut c = drops("c", &join);
    until(
        "three are active",
        &mut [&mut a, &mut b, &mut c],
        all_see(&["a", "b", "c"]),
    )
    .await;
}

#[tokio::test]
async fn strangers_and_namesakes_are_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let key_a = key_file(&folder, &"0a".repeat(32));
    let with_key = |name: &str, join: &[SocketAddr], key_file: &Option<std::path::PathBuf>| {
        let key_file = key_file.clone();
        Member::start(ClusterOptions {
            key_file,
            ..options(name, join)
        })
    };
    let mut a = with_key("a", &[], &key_a);
    let join = [a.address()];
    let mut b = with_key("b", &join, &key_a);
    until(
        "two are active",
        &mut [&mut a, &mut b],
        all_see(&["a", "b"]),
    )
    .await;

    let other = tempfile::tempdir().unwrap();
    let mut wrong_key = with_key("x", &join, &key_file(&other, &"0b".repeat(32)));
    let mut no_key = Member::start(options("y", &join));
    let mut wrong_name = Member::start(ClusterOptions {
        cluster_name: "other".to_owned(),
        key_file: key_a.clone(),
        ..options("z", &join)
    });
    let mut namesake = with_key("b", &join, &key_a);
    let cases = [
        (&mut wrong_key, "an unknown key"),
        (&mut no_key, "an unknown key"),
        (&mut wrong_name, "another cluster name"),
        (&mut namesake, "node names have to be unique"),
    ];
    for (member, reason) in cases {
        until(reason, &mut [&mut *member, &mut a, &mut b], |all| {
            all[0].failed.is_some()
        })
        .await;
        let failed = member.failed.clone().unwrap_or_default();
        assert!(failed.contains(reason), "{failed}");
        let ended = Instant::now();
        while !member.thread.is_finished() && ended.elapsed() < PATIENCE {
            tokio::task::yield_now().await;
        }
        assert!(member.thread.is_finished());
    }
    assert_eq!(a.active(), ["a", "b"]);
    assert_eq!(b.active(), ["a", "b"]);
    let refused = a.status().await.counters;
    let of = |cause| {
        refused
            .refusals()
            .find(|(c, _)| *c == cause)
            .map(|(_, n)| n)
    };
    assert!(
        of(Cause::Key) >= Some(2) && of(Cause::ClusterName) >= Some(1),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_handover_and_a_question() {
    let mut a = Member::start(options("a", &[]));
    let mut b = Member::start(options("b", &[a.address()]));
    until(
        "two are active",
        &mut [&mut a, &mut b],
        all_see(&["a", "b"]),
    )
    .await;
    let large = vec![7; 20 << 20];
    let cases = [(large, Ok(())), (b"no".to_vec(), Err("not from a"))];
    for (bytes, expected) in cases {
        let (done, word) = oneshot::channel();
        let to = Arc::from("b");
        let message = ToGossip::HandOver { to, bytes, done };
        a.thread.mailbox.send(message).await.unwrap();
        let word = answered(word, &mut b).await;
        match expected {
            Ok(()) => assert_eq!(word, Ok(())),
            Err(part) => assert!(word.unwrap_err().contains(part)),
        }
    }
    for (to, question) in [("b", &b"who?"[..]), ("nobody", b"who?")] {
        let (answer, word) = oneshot::channel();
        let message = ToGossip::Ask {
            to: to.into(),
            question: question.to_vec(),
            answer,
        };
        a.thread.mailbox.send(message).await.unwrap();
        let word = answered(word, &mut b).await;
        match to {
            "b" => assert_eq!(word.as_deref(), Ok(question)),
            _ => assert!(word.unwrap_err().contains("nobody")),
        }
    }
}

async fn answered<T>(mut word: oneshot::Receiver<T>, by: &mut Member) -> T {
    loop {
        tokio::select! {
            word = &mut word => return word.unwrap(),
            () = by.take() => {}
            () = tokio::time::sleep(PATIENCE) => panic!("no answer"),
        }
    }
}

#[tokio::test]
async fn garbage_on_both_sockets_does_no_harm() {
    let mut a = Member::start(options("a", &[]));
    let to = a.address();
    let sent = tokio::task::spawn_blocking(move || {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for len in 0..3_000_usize {
            udp.send_to(&vec![0xc7; len], to).unwrap();
        }
        // A length that is not followed by anything, a request, and nothing at all.
        let claims: [&[u8]; 3] = [&u32::MAX.to_be_bytes(), b"GET / HTTP/1.1\r\n\r\n", &[]];
        for claim in claims {
            let mut tcp = TcpStream::connect(to).unwrap();
            let mut rest = Vec::new();
            // Reset or closed, sooner or later, without a byte.
            let _ = tcp.write_all(claim);
            let _ = tcp.shutdown(std::net::Shutdown::Write);
            let _ = tcp.read_to_end(&mut rest);
            assert_eq!(rest, b"");
        }
        let many: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(to).unwrap()).collect();
        many.len()
    });
    assert_eq!(sent.await.unwrap(), 200);
    let mut b = Member::start(options("b", &[to]));
    until(
        "two are active",
        &mut [&mut a, &mut b],
        all_see(&["a", "b"]),
    )
    .await;
    let status = a.status().await;
    let refused = status.counters.refusals();
    assert!(refused.map(|(_, count)| count).sum::<u64>() > 0);
    assert!(
        status.streams.turned_away > 0 && status.streams.failed > 0,
        "{:?}",
        status.streams
    );
}

#[tokio::test]
async fn a_stop_is_told_to_others() {
    let mut a = Member::start(options("a", &[]));
    let mut b = Member::start(options("b", &[a.address()]));
    until(
        "two are active",
        &mut [&mut a, &mut b],
        all_see(&["a", "b"]),
    )
    .await;
    b.thread.mailbox.send(ToGossip::Stop).await.unwrap();
    let ended = Instant::now();
    while !b.thread.is_finished() && ended.elapsed() < PATIENCE {
        tokio::task::yield_now().await;
    }
    assert!(b.thread.is_finished());
    until("it is gone", &mut [&mut a], all_see(&["a"])).await;
}

#[test]
fn flags_that_make_no_sense_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place {
        storage_path: folder.path().to_owned(),
        api_address: ([127, 0, 0, 1], 9_090).into(),
    };
    let plain = || options("a", &[]);
    let open = Some(([0, 0, 0, 0], 0).into());
    let cases = [
        (
            ClusterOptions {
                node_name: Some("a b".into()),
                ..plain()
            },
            "--cluster.node-name",
        ),
        (
            ClusterOptions {
                detection_time_ms: 5,
                ..plain()
            },
            "--cluster.detection-time",
        ),
        (
            ClusterOptions {
                weight: 0,
                ..plain()
            },
            "--cluster.weight",
        ),
        (
            ClusterOptions {
                weight: 1 << 30,
                ..plain()
            },
            "--cluster.weight",
        ),
        (
            ClusterOptions {
                zone: "z".repeat(200),
                ..plain()
            },
            "--cluster.zone",
        ),
        (
            ClusterOptions {
                join_addresses: vec!["http://a".into()],
                ..plain()
            },
            "--cluster.join-addresses",
        ),
        (
            ClusterOptions {
                listen_address: open,
                advertise_address: Some("127.0.0.1".into()),
                ..plain()
            },
            "--cluster.key-file",
        ),
        (
            ClusterOptions {
                listen_address: open,
                advertise_interfaces: vec!["none".into()],
                ..plain()
            },
            "--cluster.advertise-address",
        ),
    ];
    for (options, flag) in cases {
        let (control, _from) = mpsc::channel(GOSSIP_MESSAGES_MAX);
        let error = GossipThread::start(options, &place, control).unwrap_err();
        assert!(error.to_string().contains(flag), "{error}");
    }
}
