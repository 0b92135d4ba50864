//! A log made for the test -> each command's text, word for word.

use crate::made::{BEGIN_MS, Made};
use crate::{json, printed, wal};
use ringscrape_wal::scrape::Position;
use std::path::Path;

/// 30 scrapes in 3 segments: `first` has 15 of them, `second` has no cursor.
fn made() -> Made {
    let made = Made::new(30);
    made.save_cursors(&[("first", made.positions[15], made.positions[18])]);
    made
}

#[test]
fn stats_as_a_table() {
    let text = printed(&["stats"], made().path(), 0);
    // Sizes follow the coding of values: they are not what this is about.
    let text: String = text
        .lines()
        .map(|line| {
            let mut words: Vec<&str> = line.split_ascii_whitespace().collect();
            if let Some(at) = words.iter().position(|word| *word == "KiB") {
                words[at - 1] = "N";
            }
            if let Some(at) = words.iter().position(|word| *word == "bytes") {
                words[at - 1] = "N";
            }
            words.join(" ") + "\n"
        })
        .collect();
    assert_eq!(
        text,
        "\
log in DIR
1 shards, 3 segments, N KiB on disk, 30 scrapes, 60 samples, N bytes a sample
from 2023-11-14T22:13:20.000Z to 2023-11-14T22:18:10.000Z

FROM SAMPLES in 1m0s each
2023-11-14T22:13:00.000Z 8 ###########################
2023-11-14T22:14:00.000Z 12 ########################################
2023-11-14T22:15:00.000Z 12 ########################################
2023-11-14T22:16:00.000Z 12 ########################################
2023-11-14T22:17:00.000Z 12 ########################################
2023-11-14T22:18:00.000Z 4 ##############

JOB INSTANCE SERIES SCRAPES SAMPLES BYTES OLDEST NEWEST
node host-0 2 15 30 N KiB 2023-11-14T22:13:20.000Z 2023-11-14T22:18:00.000Z
node host-1 2 15 30 N KiB 2023-11-14T22:13:30.000Z 2023-11-14T22:18:10.000Z

ENDPOINT UNSENT SAMPLES ON THE WAY BEHIND OLDEST UNSENT STATE
first N KiB 30 6 2m20s 2023-11-14T22:15:50.000Z configured
second N KiB 30 0 4m40s 2023-11-14T22:13:30.000Z no cursor: gets all

no damage
"
    );
}

#[test]
fn stats_as_json_are_the_same_from_any_folder() {
    let made = made();
    let stats = json(&["stats"], made.path(), 0);
    assert_eq!(stats["samples"], 60);
    assert_eq!(stats["segments"], 3);
    assert_eq!(stats["in_use_by"], serde_json::Value::Null);
    assert_eq!(stats["by_time"]["slot_seconds"], 60);
    assert_eq!(stats["by_time"]["slots"][1]["samples"], 12);
    assert_eq!(stats["targets"][1]["instance"], "host-1");
    assert_eq!(stats["targets"][1]["series"], 2);
    let first = &stats["endpoints"][0];
    assert_eq!(first["endpoint"], "first");
    assert_eq!(first["unsent"]["samples"], 30);
    assert_eq!(first["unsent"]["oldest"], "2023-11-14T22:15:50.000Z");
    assert_eq!(first["unacknowledged_samples"], 6);
    assert_eq!(first["behind_seconds"], 140.0);
    let low_water = made.positions[15];
    let low_water = format!("{}:{}", low_water.segment, low_water.offset);
    assert_eq!(first["cursors"][0]["low_water"], low_water);
    for folder in ["wal", "wal/shard-000"] {
        let there = json(&["stats"], &made.path().join(folder), 0);
        assert_eq!(there["endpoints"], stats["endpoints"], "{folder}");
    }
}

#[test]
fn verify_says_sound_or_where_not_and_what_to_do() {
    let made = made();
    let text = printed(&["verify"], made.path(), 0);
    assert!(
        text.contains("30 scrapes, 60 samples read\nno damage\n"),
        "{text}"
    );

    let record = made.positions[12];
    made.damage(record.segment, record.offset + 20);
    let report = json(&["verify"], made.path(), 1);
    assert_eq!(report["sound"], false);
    let place = &report["damage"][0];
    assert_eq!(place["from"], record.offset);
    assert_eq!(place["kind"], "checksum");
    let file = place["file"].as_str().expect("a path");
    assert_eq!(file, "DIR/wal/shard-000/00000000000000000002.wal");
    let text = printed(&["verify"], made.path(), 1);
    assert!(text.contains("checksum: what stood here is lost"), "{text}");
    assert!(text.contains("29 scrapes"), "{text}");
    // Reading changes nothing.
    assert!(!made.path().join("wal/shard-000/quarantine").exists());
}

#[test]
fn verify_tells_kinds_of_damage_apart() {
    let made = made();
    std::fs::write(made.segment(1), [7; 999]).expect("written");
    let bytes = std::fs::read(made.segment(3)).expect("a segment");
    let last = made.positions[29].offset as usize;
    std::fs::write(made.segment(3), &bytes[..last + 7]).expect("written");
    std::fs::write(made.path().join("wal/shard-000/cursors"), [9; 100]).expect("written");
    let report = json(&["verify"], made.path(), 1);
    let kinds: Vec<_> = (0..2)
        .map(|at| report["damage"][at]["kind"].clone())
        .collect();
    assert_eq!(kinds, ["header", "torn tail"]);
    assert_eq!(report["damaged_cursors"].as_array().map(Vec::len), Some(1));
    assert_eq!(report["records"], 19);
}

#[test]
fn what_is_no_log_is_named() {
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    for path in [dir.path(), Path::new("/nonexistent/data")] {
        for command in ["stats", "verify", "dump"] {
            let output = wal(&[command], path);
            assert_eq!(output.status.code(), Some(3), "{command}");
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(text.contains(&*path.to_string_lossy()), "{text}");
            assert!(text.contains("give the folder of --storage.path"), "{text}");
        }
    }
}

#[test]
fn dump_prints_what_was_asked_for() {
    let made = made();
    let dump = |more: &[&str]| printed(&[&["dump"], more].concat(), made.path(), 0);
    assert_eq!(
        dump(&["--name=load", "--instance=host-1", "--limit=2"]),
        "load{instance=\"host-1\",job=\"node\"} 1.5 2023-11-14T22:13:30.000Z\n\
         load{instance=\"host-1\",job=\"node\"} 3.5 2023-11-14T22:13:50.000Z\n"
    );
    assert_eq!(dump(&[]).lines().count(), 60);
    assert_eq!(dump(&["--job=other"]), "");
    assert_eq!(dump(&["--label=instance=host-0"]).lines().count(), 30);
    let since = format!("--since={}", BEGIN_MS / 1_000 + 100);
    let until = format!("--until={}", BEGIN_MS / 1_000 + 120);
    assert_eq!(
        dump(&[&since, &until]),
        "up{instance=\"host-0\",job=\"node\"} 1 2023-11-14T22:15:00.000Z\n\
         load{instance=\"host-0\",job=\"node\"} 10.5 2023-11-14T22:15:00.000Z\n\
         up{instance=\"host-1\",job=\"node\"} 1 2023-11-14T22:15:10.000Z\n\
         load{instance=\"host-1\",job=\"node\"} 11.5 2023-11-14T22:15:10.000Z\n"
    );
    let lines = dump(&["--output=json", "--limit=1"]);
    let sample: serde_json::Value = serde_json::from_str(lines.trim()).expect("JSON");
    assert_eq!(sample["labels"]["__name__"], "up");
    assert_eq!(sample["value"], "1");
    assert_eq!(sample["timestamp_ms"], BEGIN_MS);
    assert_eq!(sample["shard"], "shard-000");
}

#[test]
fn cut_says_first_what_it_removes_and_then_does() {
    let made = made();
    // Within the second segment.
    let before = format!("--before={}", BEGIN_MS / 1_000 + 170);
    let plan = json(&["cut", &before], made.path(), 1);
    assert_eq!(plan["done"], false);
    assert_eq!(plan["removed"]["samples"], 34);
    assert_eq!(plan["files"].as_array().map(Vec::len), Some(1));
    assert_eq!(plan["lost"][0]["samples"], 4);
    assert_eq!(plan["lost"][1]["endpoint"], "second");
    assert_eq!(plan["lost"][1]["samples"], 16);
    assert!(made.segment(1).exists());
    let text = printed(&["cut", &before], made.path(), 1);
    assert!(
        text.ends_with("nothing was changed: add --yes to do it\n"),
        "{text}"
    );

    let text = printed(&["cut", &before, "--yes"], made.path(), 0);
    assert!(text.contains("removed 1 segments"), "{text}");
    assert!(!made.segment(1).exists() && made.segment(2).exists());
    let stats = json(&["stats"], made.path(), 0);
    assert_eq!(stats["samples"], 40);
    // Record 17 is the first that is not older.
    assert_eq!(stats["endpoints"][0]["unsent"]["samples"], 26);
    assert_eq!(stats["endpoints"][1]["unsent"]["samples"], 14);
    assert_eq!(
        stats["endpoints"][0]["unsent"]["oldest"],
        "2023-11-14T22:16:10.000Z"
    );
}

#[test]
fn cut_takes_damage_or_one_segment() {
    let made = made();
    let bytes = std::fs::read(made.segment(3)).expect("a segment");
    let last = made.positions[29].offset as usize;
    std::fs::write(made.segment(3), &bytes[..last + 7]).expect("written");
    std::fs::write(made.segment(1), [7; 999]).expect("written");
    made.damage(2, made.positions[12].offset + 20);
    let done = json(&["cut", "--damaged", "--yes"], made.path(), 0);
    assert_eq!(done["damage_removed"].as_array().map(Vec::len), Some(2));
    assert_eq!(done["damage_left"][0]["kind"], "checksum");
    assert!(
        made.path()
            .join("wal/shard-000/quarantine/00000000000000000001.wal")
            .exists()
    );
    let report = json(&["verify"], made.path(), 1);
    assert_eq!(report["damage"].as_array().map(Vec::len), Some(1));

    let text = printed(
        &["cut", "--segment=shard-000/2", "--keep", "--yes"],
        made.path(),
        0,
    );
    assert!(text.contains("9 scrapes, 18 samples"), "{text}");
    assert!(
        made.path()
            .join("wal/shard-000/quarantine/00000000000000000002.wal")
            .exists()
    );
    assert_eq!(json(&["verify"], made.path(), 0)["records"], 9);
    for (segment, said) in [("shard-009/1", "no shard"), ("shard-000/77", "00077.wal")] {
        let output = wal(&["cut", &format!("--segment={segment}")], made.path());
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn a_cut_is_refused_without_a_part_or_below_the_storage_path() {
    let made = made();
    assert_eq!(wal(&["cut", "--yes"], made.path()).status.code(), Some(2));
    let shard = made.path().join("wal/shard-000");
    let output = wal(&["cut", "--damaged", "--yes"], &shard);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("--storage.path"), "{text}");
    assert!(made.end > Position::default());
}
