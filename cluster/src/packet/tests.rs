//! What the wire form promises, against plain models.

use super::replay::WINDOW;
use super::*;
use crate::limits::MEMBERS_MAX;
use proptest::prelude::*;
use std::collections::BTreeSet;

const OLD: Key = [1; 32];
const NEW: Key = [2; 32];

fn keys(of: &[Key]) -> Keys {
    Keys::new("blue", of)
}

#[test]
fn keys_rotate_one_node_at_a_time() {
    let steps = [
        keys(&[OLD]),
        keys(&[OLD, NEW]),
        keys(&[NEW, OLD]),
        keys(&[NEW]),
    ];
    for pair in steps.windows(2) {
        for (from, to) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            let sealed = seal(from, Kind::Frame, &[7; 24], b"text");
            assert_eq!(open(to, Kind::Frame, &sealed), Ok(b"text".to_vec()));
        }
    }
    let sealed = seal(&steps[0], Kind::Frame, &[7; 24], b"text");
    assert_eq!(open(&steps[3], Kind::Frame, &sealed), Err(Cause::Key));
}

#[test]
fn refusals_say_why() {
    let sealed = seal(&keys(&[OLD]), Kind::Frame, &[7; 24], b"text");
    let other = Keys::new("green", &[OLD]);
    assert_eq!(open(&other, Kind::Frame, &sealed), Err(Cause::ClusterName));
    assert_eq!(open(&keys(&[NEW]), Kind::Frame, &sealed), Err(Cause::Key));
    assert_eq!(open(&keys(&[]), Kind::Frame, &sealed), Err(Cause::Key));
    assert_eq!(
        open(&keys(&[OLD]), Kind::Datagram, &sealed),
        Err(Cause::Kind)
    );
    let mut later = sealed.clone();
    later[2] += 1;
    assert_eq!(
        open(&keys(&[OLD]), Kind::Frame, &later),
        Err(Cause::Version)
    );
    assert_eq!(
        open(&keys(&[OLD]), Kind::Frame, b"GET / HTTP/1.1\r\n"),
        Err(Cause::Length)
    );
    assert_eq!(
        open(&keys(&[OLD]), Kind::Frame, &[b'x'; 99]),
        Err(Cause::Magic)
    );
    for cause in Cause::ALL {
        assert_eq!(read_refusal(&refusal(cause)), Some(cause));
    }
    assert_eq!(read_refusal(&sealed), None);
    assert_eq!(read_refusal(b""), None);
}

#[test]
fn clusters_without_a_secret_are_kept_apart_by_name() {
    let (blue, green) = (Keys::new("blue", &[]), Keys::new("green", &[]));
    let sealed = seal(&blue, Kind::Frame, &[7; 24], b"text");
    assert_eq!(open(&blue, Kind::Frame, &sealed), Ok(b"text".to_vec()));
    assert_eq!(open(&green, Kind::Frame, &sealed), Err(Cause::ClusterName));
    assert!(!blue.is_secret() && keys(&[OLD]).is_secret());
    assert!(!format!("{:?}", keys(&[OLD])).contains("1, 1"));
}

#[test]
fn the_largest_datagram_fits() {
    let name = "n".repeat(crate::name::NAME_BYTES_MAX);
    let payload = vec![0xff; PAYLOAD_BYTES_MAX];
    let largest = Datagram {
        name: &name,
        incarnation: u64::MAX,
        sequence: u64::MAX,
        to: u64::MAX,
        sent_ms: i64::MIN,
        digest: u64::MAX,
        followers: &[],
        payload: &payload,
    };
    let sealed = largest.seal(&keys(&[OLD]), &[7; 24]).expect("fits");
    assert!(sealed.len() <= DATAGRAM_BYTES_MAX);
    let plain = Datagram::open(&keys(&[OLD]), &sealed).unwrap();
    assert_eq!(Datagram::read(&plain), Ok(largest));
    let payload = vec![0xff; PAYLOAD_BYTES_MAX + 100];
    let larger = Datagram {
        payload: &payload,
        ..largest
    };
    assert_eq!(larger.seal(&keys(&[OLD]), &[7; 24]), None);
}

#[test]
fn senders_are_bounded() {
    let mut replays = Replays::default();
    for sender in 0..MEMBERS_MAX + 10 {
        replays.take(&sender.to_string(), 1, 1).unwrap();
        // Heard all the time, so never forgotten.
        if sender > 0 {
            replays.take("0", 1, sender as u64 + 1).unwrap();
        }
    }
    assert_eq!(replays.take("0", 1, 2), Err(Cause::Replayed));
    let last = (MEMBERS_MAX + 9).to_string();
    assert_eq!(replays.take(&last, 1, 1), Err(Cause::Replayed));
    assert_eq!(
        replays.take("1", 1, 1).map(|f| f.name.to_string()),
        Ok("1".into())
    );
}

/// All that was ever seen; what the window must agree with where it has an opinion.
#[derive(Default)]
struct PlainReplays {
    incarnation: u64,
    seen: BTreeSet<u64>,
}

impl PlainReplays {
    fn take(&mut self, incarnation: u64, sequence: u64) -> Result<(), Cause> {
        if incarnation < self.incarnation {
            return Err(Cause::Stale);
        }
        if incarnation > self.incarnation {
            self.incarnation = incarnation;
            self.seen.clear();
        }
        let is_below = self.seen.last().is_some_and(|h| sequence + WINDOW <= *h);
        if is_below || !self.seen.insert(sequence) {
            return Err(Cause::Replayed);
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        plain in prop::collection::vec(any::<u8>(), 0..2_000),
        nonce in any::<[u8; 24]>(),
        key in any::<Key>(),
    ) {
        let sealed = seal(&keys(&[key]), Kind::Frame, &nonce, &plain);
        prop_assert_eq!(sealed.len(), plain.len() + OVERHEAD_BYTES);
        prop_assert_eq!(open(&keys(&[NEW, key]), Kind::Frame, &sealed), Ok(plain));
    }

    #[test]
    fn nothing_changed_or_cut_opens(
        plain in prop::collection::vec(any::<u8>(), 0..300),
        bit in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let keys = keys(&[OLD, NEW]);
        let sealed = seal(&keys, Kind::Datagram, &[9; 24], &plain);
        let mut flipped = sealed.clone();
        let bit = bit.index(8 * sealed.len());
        flipped[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(open(&keys, Kind::Datagram, &flipped).is_err());
        prop_assert!(open(&keys, Kind::Datagram, &sealed[..cut.index(sealed.len())]).is_err());
    }

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..1_500)) {
        let keys = keys(&[OLD]);
        prop_assert!(Datagram::open(&keys, &bytes).is_err());
        let mut dressed = header(Kind::Datagram, keys.sealing().id(), keys.cluster_hash()).to_vec();
        dressed.extend_from_slice(&bytes);
        prop_assert!(Datagram::open(&keys, &dressed).is_err());
        // As plain text it may make sense; then it has a fit name.
        if let Ok(datagram) = Datagram::read(&bytes) {
            prop_assert!(crate::name::is_name(datagram.name));
        }
        read_refusal(&bytes);
    }

    #[test]
    fn windows_agree_with_remembering_all(
        packets in prop::collection::vec((1..4_u64, 0..3_000_u64), 1..400),
    ) {
        let mut replays = Replays::default();
        let mut plain = PlainReplays::default();
        for (incarnation, sequence) in packets {
            let taken = replays.take("a", incarnation, sequence).map(|_| ());
            prop_assert_eq!(taken, plain.take(incarnation, sequence));
        }
    }

    #[test]
    fn dense_windows_agree_too(packets in prop::collection::vec(0..40_u64, 1..400), base: u64) {
        let mut replays = Replays::default();
        let mut plain = PlainReplays::default();
        for step in packets {
            let sequence = base.min(u64::MAX - 2_000) + step * 47;
            let taken = replays.take("a", 1, sequence).map(|_| ());
            prop_assert_eq!(taken, plain.take(1, sequence));
        }
    }
}
