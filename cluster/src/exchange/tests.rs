//! Streams between two nodes, honest and not.

use super::*;
use crate::member::{Founder, HeavyTarget, JobId, JobVersion, Planned, Stage, ZoneId};
use crate::membership::Detection;
use crate::node::{Node, Outbox, Settings};
use crate::packet::Key;
use crate::spot::Replica;
use crate::state::{Cluster, Crash, Known, Own, Part, Side};
use proptest::prelude::*;

const NOW: Now = Now {
    unix_ms: 1_700_000_000_000,
    monotonic_ms: 5_000,
};

fn node_with(name: &str, cluster: &str, keys: &[Key]) -> Node {
    let number = name.as_bytes()[0];
    let settings = Settings {
        own: Own {
            name: name.into(),
            gossip_address: SocketAddr::from(([10, 0, 0, number], 7_946)),
            http_address: "10.0.0.1:9090".into(),
            zone: "".into(),
            software: "1".into(),
            incarnation: 1_000 + u64::from(number),
            detection_ms: 2_000,
            seed: 1,
            wait_for_size: 0,
            wait_timeout_ms: 0,
        },
        detection: Detection::within_ms(2_000),
        keys: Keys::new(cluster, keys),
        random: [number; 32],
    };
    Node::new(settings, NOW).unwrap()
}

fn node(name: &str) -> Node {
    node_with(name, "test", &[[1; 32]])
}

fn handover(bytes: &[u8]) -> Purpose {
    Purpose::Handover("b".into(), bytes.to_vec())
}

fn question(to: &str, bytes: &[u8]) -> Purpose {
    Purpose::Question(to.into(), bytes.to_vec())
}

/// The frames of a stream, first to last, and what both sides make of it.
fn talk(asker: &mut Node, answerer: &mut Node, purpose: Purpose) -> (Vec<Vec<u8>>, Then, Then) {
    let (mut asking, first) = asker.ask(purpose, NOW);
    let mut answering = Stream::answering();
    let mut frames = vec![first];
    let mut out = Outbox::default();
    let mut thens = [Then::Wait, Then::Wait];
    loop {
        let is_answerer = frames.len() % 2 == 1;
        let frame = &frames[frames.len() - 1];
        let taken = match is_answerer {
            true => answerer.take(&mut answering, frame, NOW, &mut out),
            false => asker.take(&mut asking, frame, NOW, &mut out),
        };
        let mut send = taken.send;
        let verdict = match &taken.then {
            Then::Handover { bytes, .. } if bytes == b"no" => Some(Err("busy".to_owned())),
            Then::Handover { .. } => Some(Ok(None)),
            Then::Question { bytes, .. } => Some(Ok(Some([&bytes[..], b"!"].concat()))),
            _ => None,
        };
        if let Some(verdict) = verdict {
            send = Some(answerer.verdict(&mut answering, verdict, NOW));
        }
        thens[usize::from(is_answerer)] = taken.then;
        match send {
            Some(frame) => frames.push(frame),
            None => break,
        }
    }
    let [asker, answerer] = thens;
    (frames, asker, answerer)
}

#[test]
fn four_frames_each() {
    let (mut a, mut b) = (node("a"), node("b"));
    let (frames, asker, answerer) = talk(&mut a, &mut b, Purpose::Exchange);
    assert_eq!(
        (frames.len(), asker, answerer),
        (4, Then::Over(None), Then::Over(None))
    );
    assert_eq!(
        b.address_of("a"),
        Some(SocketAddr::from(([10, 0, 0, b'a'], 7_946)))
    );
    assert_eq!(
        a.address_of("b"),
        Some(SocketAddr::from(([10, 0, 0, b'b'], 7_946)))
    );

    let bytes = vec![7; 1_000_000];
    let (frames, asker, answerer) = talk(&mut a, &mut b, handover(&bytes));
    assert_eq!((frames.len(), asker), (4, Then::Over(None)));
    let from = Arc::from("a");
    assert_eq!(answerer, Then::Handover { from, bytes });

    let (_, asker, _) = talk(&mut a, &mut b, handover(b"no"));
    assert_eq!(asker, Then::Failed(Failure::Refused("busy".to_owned())));

    let (_, asker, _) = talk(&mut a, &mut b, question("b", b"who"));
    assert_eq!(asker, Then::Over(Some(b"who!".to_vec())));
}

/// A name's address may be another node's by now: what is meant for one does not reach the other.
#[test]
fn what_is_meant_for_another_node_is_not_said() {
    for purpose in [
        Purpose::Handover("c".into(), b"targets".to_vec()),
        question("c", b"who"),
    ] {
        let (frames, asker, answerer) = talk(&mut node("a"), &mut node("b"), purpose);
        assert_eq!(asker, Then::Failed(Failure::Another("b".into())));
        assert_eq!((frames.len(), answerer), (2, Then::Wait));
    }
}

#[test]
fn strangers_are_told_why() {
    let cases = [
        (node_with("b", "other", &[[1; 32]]), Cause::ClusterName),
        (node_with("b", "test", &[[2; 32]]), Cause::Key),
        (node_with("b", "test", &[]), Cause::Key),
    ];
    for (mut stranger, cause) in cases {
        let (frames, asker, answerer) = talk(&mut stranger, &mut node("a"), Purpose::Exchange);
        assert_eq!(frames.len(), 2);
        assert_eq!(asker, Then::Failed(Failure::RefusedByPeer(cause)));
        assert_eq!(answerer, Then::Failed(Failure::Unreadable(cause)));
    }
    let (_, mut first) = node("b").ask(Purpose::Exchange, NOW);
    first[2] += 1;
    let taken = node("a").take(
        &mut Stream::answering(),
        &first,
        NOW,
        &mut Outbox::default(),
    );
    assert_eq!(
        taken.send.and_then(|frame| read_refusal(&frame)),
        Some(Cause::Version)
    );
    // What is not ours gets no answer.
    let garbage = b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n and more";
    let taken = node("a").take(
        &mut Stream::answering(),
        garbage,
        NOW,
        &mut Outbox::default(),
    );
    assert_eq!(taken.send, None);
}

#[test]
fn a_node_does_not_talk_to_itself() {
    let (_, asker, _) = talk(&mut node("a"), &mut node("a"), Purpose::Exchange);
    assert_eq!(asker, Then::Failed(Failure::Own));
    let (_, _, answerer) = talk(&mut node("a"), &mut node("a"), question("a", &[1]));
    assert_eq!(answerer, Then::Failed(Failure::Own));
}

#[test]
fn a_recorded_conversation_is_worth_nothing() {
    for purpose in [Purpose::Exchange, handover(b"targets")] {
        let (mut a, mut b) = (node("a"), node("b"));
        let (frames, ..) = talk(&mut a, &mut b, purpose.clone());
        let mut out = Outbox::default();

        // To the answerer: its own number is another one now.
        let mut stream = Stream::answering();
        let mut fresh = node("c");
        assert_eq!(
            fresh.take(&mut stream, &frames[0], NOW, &mut out).then,
            Then::Wait
        );
        let taken = fresh.take(&mut stream, &frames[2], NOW, &mut out);
        assert_eq!(taken.then, Then::Failed(Failure::OutOfTurn));
        assert_eq!(
            fresh.address_of("a"),
            None,
            "nothing was taken from the first frame"
        );

        // To the asker: it has another number, too.
        let (mut stream, _) = a.ask(purpose, NOW);
        let taken = a.take(&mut stream, &frames[1], NOW, &mut out);
        assert_eq!(taken.then, Then::Failed(Failure::OutOfTurn));
    }
}

#[test]
fn frames_out_of_turn_end_the_stream() {
    let (mut a, mut b) = (node("a"), node("b"));
    let (frames, ..) = talk(&mut a, &mut b, Purpose::Exchange);
    let mut out = Outbox::default();
    for frame in &frames[1..] {
        let mut stream = Stream::answering();
        let taken = b.take(&mut stream, frame, NOW, &mut out);
        assert_eq!(taken.then, Then::Failed(Failure::OutOfTurn));
        let taken = b.take(&mut stream, &frames[0], NOW, &mut out);
        assert_eq!(taken.then, Then::Failed(Failure::OutOfTurn), "it is over");
    }
}

fn stage() -> Stage {
    let job = |id| JobVersion {
        job: JobId(id),
        config_hash: 5,
        since_ms: 6,
    };
    let heavy = |key| HeavyTarget {
        key,
        job: JobId(1),
        zone: ZoneId(7),
        replica: Replica { index: 1, count: 2 },
        samples_per_s: 3,
    };
    Stage {
        from_ms: 5,
        is_active: true,
        weight: 2,
        jobs: [job(1), job(2)].into(),
        heavy: [heavy(1), heavy(9)].into(),
    }
}

fn member() -> Member {
    let address = SocketAddr::from(([10, 0, 0, 1], 7_946));
    Member {
        name: "m".into(),
        incarnation: 4,
        version: 3,
        founder: Founder {
            founded_ms: 1,
            id: u64::MAX,
        },
        gossip_address: address,
        http_address: "10.0.0.1:9090".into(),
        zone: "z".into(),
        software: "1".into(),
        now: stage(),
        next: Some(Planned {
            stage: stage(),
            is_agreed: true,
            proposed_ms: 1,
        }),
    }
}

fn crash() -> Crash {
    Crash {
        name: "c".into(),
        incarnation: 3,
        until_ms: 5,
        made_ms: 6,
        by: "m".into(),
        by_incarnation: 4,
        side: Side {
            members: 3,
            lowest: "a".into(),
        },
    }
}

fn summary() -> Summary {
    let cluster = Cluster {
        founder: member().founder,
        size_class: 3,
    };
    Summary {
        name: "m".into(),
        incarnation: 4,
        gossip_address: SocketAddr::from(([10, 0, 0, 1], 7_946)),
        cluster: Some(cluster),
        unix_ms: NOW.unix_ms,
        is_published: true,
        digest: u64::MAX,
        has_of_you: Some((4, 3)),
    }
}

fn part() -> Part {
    let known = |place| Known {
        place,
        incarnation: 4,
        version: 3,
        hash: u64::MAX,
    };
    Part {
        differs: vec![1, 2],
        members: vec![known(1), known(2)],
        crashes: vec![3, 4],
    }
}

fn answer(members: Vec<Member>, crashes: Vec<Crash>, summary: Summary, part: Part) -> Vec<u8> {
    let delta = Delta {
        cluster: summary.cluster,
        members: members.into_iter().map(Arc::new).collect(),
        crashes: crashes.into_iter().map(Arc::new).collect(),
    };
    let frame = Frame {
        asker: 1,
        answerer: 2,
        body: Body::Answer(summary, delta, part),
    };
    frame.write()
}

/// Each changes one value to one that nobody sends.
#[test]
fn what_is_out_of_bounds_is_refused() {
    let plain = answer(vec![member()], vec![crash()], summary(), part());
    assert!(Frame::read(&plain).is_ok());

    let members: [fn(&mut Member); 13] = [
        |m| m.name = "".into(),
        |m| m.name = "a b".into(),
        |m| m.incarnation = u64::MAX,
        |m| m.version = u64::MAX,
        |m| m.founder.founded_ms = i64::MIN,
        |m| m.gossip_address.set_port(0),
        |m| m.zone = "z".repeat(1_000).into(),
        |m| m.http_address = "h".repeat(1_000).into(),
        |m| m.now.from_ms = i64::MAX,
        |m| m.now.weight = u32::MAX,
        |m| m.now.jobs = m.now.jobs.iter().rev().copied().collect(),
        |m| m.now.heavy = m.now.heavy.iter().rev().copied().collect(),
        |m| m.next.as_mut().unwrap().stage.weight = crate::limits::WEIGHT_MAX + 1,
    ];
    for (index, change) in members.into_iter().enumerate() {
        let mut member = member();
        change(&mut member);
        let read = Frame::read(&answer(vec![member], vec![crash()], summary(), part()));
        assert_eq!(read, Err(Cause::Malformed), "member {index}");
    }
    let crashes: [fn(&mut Crash); 5] = [
        |c| c.name = "".into(),
        |c| c.by = "\n".into(),
        |c| c.side.lowest = "".into(),
        |c| c.until_ms = i64::MIN,
        |c| c.incarnation = u64::MAX,
    ];
    for (index, change) in crashes.into_iter().enumerate() {
        let mut crash = crash();
        change(&mut crash);
        let read = Frame::read(&answer(vec![member()], vec![crash], summary(), part()));
        assert_eq!(read, Err(Cause::Malformed), "crash {index}");
    }
    let summaries: [fn(&mut Summary); 4] = [
        |s| s.name = "".into(),
        |s| s.unix_ms = i64::MIN,
        |s| s.incarnation = u64::MAX,
        |s| s.has_of_you = Some((1, u64::MAX)),
    ];
    for (index, change) in summaries.into_iter().enumerate() {
        let mut summary = summary();
        change(&mut summary);
        let read = Frame::read(&answer(vec![member()], vec![crash()], summary, part()));
        assert_eq!(read, Err(Cause::Malformed), "summary {index}");
    }
    let parts: [fn(&mut Part); 5] = [
        |p| p.members.reverse(),
        |p| p.members.push(p.members[1]),
        |p| p.members[0].version = u64::MAX,
        |p| p.crashes.reverse(),
        |p| p.differs = vec![0; 10_000],
    ];
    for (index, change) in parts.into_iter().enumerate() {
        let mut part = part();
        change(&mut part);
        let read = Frame::read(&answer(vec![member()], vec![crash()], summary(), part));
        assert_eq!(read, Err(Cause::Malformed), "part {index}");
    }
    let longer = [&plain[..], &[0]].concat();
    assert_eq!(Frame::read(&longer), Err(Cause::Malformed));
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(
        at in any::<prop::sample::Index>(),
        byte: u8,
        cut in any::<prop::sample::Index>(),
        random in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut plain = answer(vec![member()], vec![crash()], summary(), part());
        let at = at.index(plain.len());
        plain[at] = byte;
        let cut = cut.index(plain.len());
        prop_assert!(Frame::read(&plain[..cut]).is_err());
        for text in [&plain, &random] {
            if let Ok(frame) = Frame::read(text) {
                prop_assert_eq!(Frame::read(&frame.write()), Ok(frame));
            }
        }
    }
}
