//! Configurations put through the API -> what the nodes scrape and where they send it.

mod agent;
mod cluster;
mod gossip;
mod one_node;

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringscrape_tests::{http, wait};
use serde_json::Value;

/// How long anything may take here that has no limit of its own.
const LIMIT: Duration = Duration::from_secs(30);

/// One test at a time: some measure times.
static ONE: Mutex<()> = Mutex::new(());

fn one_at_a_time() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts a configuration; the status and the text of the answer.
fn put(address: SocketAddr, name: &str, yaml: &str) -> (u16, String) {
    change(address, "PUT", name, yaml)
}

fn delete(address: SocketAddr, name: &str) -> (u16, String) {
    change(address, "DELETE", name, "")
}

fn change(address: SocketAddr, method: &str, name: &str, yaml: &str) -> (u16, String) {
    let path = format!("/agent/api/v1/config/{name}");
    let answer = http::send(address, method, &path, &[], yaml).expect("no answer");
    (answer.status, answer.text())
}

/// How a configuration is doing on all nodes, as the node at `address` says.
fn status(address: SocketAddr, name: &str) -> Option<Value> {
    let path = format!("/api/v1/cluster/configs?name={name}");
    let answer = http::get(address, &path).ok()?;
    let mut view = answer.json();
    view["data"]["configs"].as_array_mut()?.pop()
}

/// Waits for a condition.
fn until<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    wait::until(what, limit, String::new, condition)
}
