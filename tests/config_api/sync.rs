//! `ringscrape config-sync`, as from a shell.

use crate::{Node, Ran, run, with_job};
use ringscrape_tests::engine::ringscrape;
use ringscrape_tests::http;
use ringscrape_tests::server::{Server, answer};
use serde_json::{Value, json};
use std::process::Command;

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.out))
}

#[test]
fn a_plan_is_shown_then_made_then_there_is_nothing_to_do() {
    let node = Node::start(&["--config.enable-read-api"]);
    let (a, b) = (with_job("a"), with_job("b"));
    let dir = node.files(
        "configs",
        &[("a.yml", &a), ("b.yaml", &b), ("notes.txt", "[")],
    );
    let plan = node.sync(&dir, &["--dry-run"]).expect(0);
    let wanted =
        "+ create a\n+ create b\nto do: 2 to create, 0 to update, 0 to delete, 0 unchanged\n";
    assert_eq!(plan.out, wanted, "no colours, as this is no terminal");
    assert!(node.names().is_empty(), "a dry run changes nothing");
    let checked = node.sync(&dir, &["--check"]).expect(1);
    assert_eq!(checked.out, wanted);
    let done = node.sync(&dir, &[]).expect(0);
    assert!(
        done.out
            .ends_with("done: 2 created, 0 updated, 0 deleted, 0 unchanged\n")
    );
    assert_eq!(node.names(), ["a", "b"]);
    let nothing = "nothing to do, 2 unchanged\n";
    assert_eq!(node.sync(&dir, &["--check"]).expect(0).out, nothing);
    assert_eq!(node.sync(&dir, &[]).expect(0).out, nothing);

    std::fs::write(dir.join("a.yml"), with_job("other")).expect("written");
    std::fs::remove_file(dir.join("b.yaml")).expect("removed");
    let changed = node.sync(&dir, &[]).expect(0);
    assert!(
        changed.out.contains("~ update a\n    --- stored\n"),
        "{}",
        changed.out
    );
    assert!(
        changed
            .out
            .contains("    -- job_name: a\n    +- job_name: other\n")
    );
    assert!(changed.out.contains("- delete b\n"), "{}", changed.out);
    assert_eq!(node.names(), ["a"]);
    let shown = node.ask("GET", "configs/a", "", &[]).text();
    assert!(shown.contains("job_name: other"), "{shown}");
}

#[test]
fn the_flags_of_agentctl_are_known() {
    let node = Node::start(&[]);
    let dir = node.files("configs", &[("a.yml", &with_job("a"))]);
    for flag in ["-a", "--addr"] {
        let mut command = Command::new(ringscrape());
        command
            .arg("config-sync")
            .arg(flag)
            .arg(format!("http://{}", node.running.address));
        let ran = run(command.arg("-d").arg(&dir)).expect(0);
        assert!(ran.out.contains("+ create a"), "{}", ran.out);
    }
}

#[test]
fn files_that_cannot_be_used_stop_everything() {
    let node = Node::start(&[]);
    let good = with_job("a");
    for (name, files, part) in [
        (
            "twice",
            vec![("a.yml", &*good), ("a.yaml", &good)],
            "both called \"a\"",
        ),
        (
            "no-yaml",
            vec![("a.yml", &good), ("b.yml", "[")],
            "b.yml: line",
        ),
        (
            "invalid",
            vec![("a.yml", &good), ("b.yml", "scrape_confugs: []")],
            "scrape_confugs",
        ),
        (
            "one-job",
            vec![("a.yml", &good), ("b.yml", &good)],
            "job name \"a\"",
        ),
    ] {
        let dir = node.files(name, &files);
        for arguments in [&["--dry-run"][..], &[]] {
            let ran = node.sync(&dir, arguments).expect(1);
            assert!(ran.errors.contains(part), "{name}: {}", ran.errors);
        }
    }
    assert!(node.names().is_empty());
    let ran = node.sync(&node.dir.path().join("nowhere"), &[]).expect(1);
    assert!(ran.errors.contains("cannot read"), "{}", ran.errors);
}

#[test]
fn empty_directories_and_mass_deletes_need_a_word() {
    let node = Node::start(&[]);
    let texts: Vec<(String, String)> = (0..4)
        .map(|n| (format!("c{n}.yml"), with_job(&format!("j{n}"))))
        .collect();
    let files: Vec<(&str, &str)> = texts
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let all = node.files("all", &files);
    node.sync(&all, &[]).expect(0);
    let few = node.files("few", &files[..1]);
    let refused = node.sync(&few, &[]).expect(1);
    assert!(refused.errors.contains("3 of 4"), "{}", refused.errors);
    assert!(
        refused.errors.contains("--allow-mass-delete"),
        "{}",
        refused.errors
    );
    let empty = node.files("empty", &[]);
    let refused = node.sync(&empty, &[]).expect(1);
    assert!(
        refused.errors.contains("--allow-empty"),
        "{}",
        refused.errors
    );
    assert_eq!(node.names().len(), 4, "nothing was deleted");
    let half = node.files("half", &files[..2]);
    node.sync(&half, &[]).expect(0);
    node.sync(&few, &["--allow-mass-delete"]).expect(0);
    assert_eq!(node.names(), ["c0"]);
    node.sync(&empty, &["--allow-empty"]).expect(0);
    assert!(node.names().is_empty());
}

#[test]
fn only_what_bears_the_label_is_touched() {
    let node = Node::start(&[]);
    node.ask("PUT", "config/by-hand", &with_job("hand"), &[]);
    node.ask(
        "PUT",
        "config/of-team?managed_by=team",
        &with_job("team"),
        &[],
    );
    let dir = node.files("configs", &[("mine.yml", &with_job("mine"))]);
    node.sync(&dir, &[]).expect(0);
    assert_eq!(
        node.names(),
        ["by-hand", "mine", "of-team"],
        "others' are not deleted"
    );

    std::fs::write(dir.join("by-hand.yml"), with_job("hand")).expect("written");
    let refused = node.sync(&dir, &[]).expect(1);
    assert!(refused.errors.contains("--take-over"), "{}", refused.errors);
    node.sync(&dir, &["--take-over"]).expect(0);
    std::fs::remove_file(dir.join("by-hand.yml")).expect("removed");
    let ran = node.sync(&dir, &[]).expect(0);
    assert!(
        ran.out.contains("- delete by-hand"),
        "it is managed now: {}",
        ran.out
    );

    std::fs::write(dir.join("of-team.yml"), with_job("team")).expect("written");
    let refused = node.sync(&dir, &["--take-over"]).expect(1);
    assert!(
        refused.errors.contains("others manage of-team"),
        "{}",
        refused.errors
    );
    let of_team = node.files("team", &[("of-team.yml", &with_job("other"))]);
    node.sync(&of_team, &["--managed-by", "team"]).expect(0);
    assert_eq!(node.names(), ["mine", "of-team"]);
}

#[test]
fn json_tells_the_same() {
    let node = Node::start(&[]);
    let dir = node.files("configs", &[("a.yml", &with_job("a"))]);
    let plan = json(&node.sync(&dir, &["--check", "--output=json"]).expect(1));
    let counts = json!({"created": 1, "updated": 0, "deleted": 0, "unchanged": 0});
    assert_eq!(
        (&plan["counts"], &plan["applied"]),
        (&counts, &json!(false))
    );
    let done = json(&node.sync(&dir, &["--output", "json"]).expect(0));
    assert_eq!(
        (&done["applied"], &done["changes"][0]["name"]),
        (&json!(true), &json!("a"))
    );
    let empty = node.files("empty", &[]);
    let refused = json(&node.sync(&empty, &["--output=json"]).expect(1));
    assert!(
        refused["refusals"][0]
            .as_str()
            .is_some_and(|text| text.contains("--allow-empty"))
    );
    assert!(refused["error"].is_string());
}

#[test]
fn a_token_is_needed_where_there_are_some() {
    let token_dir = tempfile::TempDir::new().expect("cannot make a temporary directory");
    // SHA-256 of `abc`, from FIPS 180-2, appendix B.1.
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let tokens = token_dir.path().join("tokens");
    std::fs::write(&tokens, format!("ci write {hash}\n")).expect("written");
    let node = Node::start(&[&format!("--config-api.tokens-file={}", tokens.display())]);
    let dir = node.files("configs", &[("a.yml", &with_job("a"))]);
    let refused = node.sync(&dir, &[]).expect(1);
    assert!(
        refused.errors.contains("--token-file"),
        "{}",
        refused.errors
    );
    let token = token_dir.path().join("token");
    std::fs::write(&token, "abc\n").expect("written");
    let flag = format!("--token-file={}", token.display());
    node.sync(&dir, &[&flag]).expect(0);
    assert!(node.running.process.log().contains("who=\"ci\""));
    let headers = [("Authorization", "Bearer abc")];
    let list = node.ask("GET", "configs?details=true", "", &headers).json();
    assert_eq!(list["data"]["items"][0]["changed_by"], "ci");
}

/// Somebody else is quicker, between the plan and the changes.
#[test]
fn a_conflict_is_told_and_nothing_is_changed() {
    let node = Node::start(&["--config.enable-read-api"]);
    let (a, b) = (with_job("a"), with_job("b"));
    let dir = node.files("configs", &[("a.yml", &a), ("b.yml", &b)]);
    node.sync(&dir, &[]).expect(0);
    let address = node.running.address;
    let between = Server::start(&[address.ip()], 0, move |request, stream| {
        if request.method == "POST" && !request.query().contains("dry_run") {
            let text = with_job("meanwhile");
            http::send(address, "PUT", "/agent/api/v1/config/a", &[], &text)?;
        }
        let body = String::from_utf8_lossy(&request.body);
        let got = http::send(address, &request.method, &request.target, &[], &body)?;
        answer(stream, got.status, &[], &got.body)
    });
    for (file, job) in [("a.yml", "new-a"), ("b.yml", "new-b")] {
        std::fs::write(dir.join(file), with_job(job)).expect("written");
    }
    let ran = node
        .sync(&dir, &["--address", &between.address().to_string()])
        .expect(1);
    for part in [
        "conflict",
        "nothing was changed",
        "configuration a",
        "its revision is",
    ] {
        assert!(ran.errors.contains(part), "{part}: {}", ran.errors);
    }
    let b = node.ask("GET", "configs/b", "", &[]).text();
    assert!(b.contains("job_name: b"), "{b}");
    node.sync(&dir, &[]).expect(0);
}

#[test]
fn nobody_there_is_told_from_a_no() {
    let dir = tempfile::TempDir::new().expect("cannot make a temporary directory");
    std::fs::write(dir.path().join("a.yml"), with_job("a")).expect("written");
    let mut command = Command::new(ringscrape());
    let address = ringscrape_tests::net::free_address().to_string();
    command
        .arg("config-sync")
        .arg(dir.path())
        .args(["--address", &address]);
    let ran = run(&mut command).expect(3);
    assert!(ran.errors.contains("no answer from"), "{}", ran.errors);
    let mut wrong = Command::new(ringscrape());
    run(wrong.args(["config-sync", "--nonsense"])).expect(2);
    let mut nobodys = Command::new(ringscrape());
    nobodys
        .arg("config-sync")
        .arg(dir.path())
        .arg("--managed-by=");
    // Else it would delete what was made by hand.
    run(&mut nobodys).expect(2);
}
