//! A real etcd on loopback, and a way to it that can be cut.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ringscrape_tests::process::Process;
use ringscrape_tests::{debian, http, net, wait};

const LIMIT: Duration = Duration::from_secs(30);

/// A server with its data.
pub(crate) struct Etcd {
    dir: PathBuf,
    pub(crate) address: SocketAddr,
    peer: SocketAddr,
    process: Option<Process>,
}

impl Etcd {
    /// Started and answering; `None`: there is none, which skips the test.
    pub(crate) fn start(dir: &Path) -> Option<Self> {
        debian::program("etcd", "etcd-server")?;
        let mut etcd = Self {
            dir: dir.join("etcd"),
            address: net::free_address(),
            peer: net::free_address(),
            process: None,
        };
        etcd.run();
        Some(etcd)
    }

    /// Starts it (again) with the data that it has.
    pub(crate) fn run(&mut self) {
        let url = format!("http://{}", self.address);
        let peer = format!("http://{}", self.peer);
        let mut command = Command::new("etcd");
        command
            .args(["--name", "test", "--logger", "zap", "--log-level", "warn"])
            .arg("--data-dir")
            .arg(&self.dir)
            .args(["--listen-client-urls", &url])
            .args(["--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}")]);
        let process = Process::spawn("etcd", &mut command);
        let log = || process.log_tail();
        wait::until("etcd answers", LIMIT, log, || {
            let health = http::get(self.address, "/health");
            health.is_ok_and(|r| r.status == 200).then_some(())
        });
        self.process = Some(process);
    }

    pub(crate) fn kill(&mut self) {
        self.process.take().expect("etcd runs").kill();
    }

    pub(crate) fn signal(&mut self, signal: i32) {
        self.process.as_mut().expect("etcd runs").signal(signal);
    }

    /// Forgets all but the present.
    pub(crate) fn compact(&self) {
        let ask = |path: &str, body: &str| {
            let answer = http::send(self.address, "POST", path, &[], body);
            let answer = answer.expect("etcd answers");
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.json()
        };
        let now = ask("/v3/kv/range", r#"{"key":"YQ=="}"#);
        let revision = now["header"]["revision"].as_str().expect("a revision");
        let body = format!(r#"{{"revision":"{revision}","physical":true}}"#);
        ask("/v3/kv/compaction", &body);
    }
}

/// A forwarder to a server.
pub(crate) struct Way {
    pub(crate) address: SocketAddr,
    is_cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Way {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let way = Self {
            address: listener.local_addr().expect("it is bound"),
            is_cut: Arc::default(),
            open: Arc::default(),
        };
        let (is_cut, open) = (way.is_cut.clone(), way.open.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if !is_cut.load(SeqCst) {
                    // A server that is not there: the stream is closed.
                    let _ = join(stream, target, &open);
                }
            }
        });
        way
    }

    /// From now on no connection stays and none works, or they do again.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, SeqCst);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn join(from: TcpStream, target: SocketAddr, open: &Mutex<Vec<TcpStream>>) -> io::Result<()> {
    let to = TcpStream::connect(target)?;
    let both = [from.try_clone()?, to.try_clone()?];
    open.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend(both);
    forward(from.try_clone()?, to.try_clone()?);
    forward(to, from);
    Ok(())
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
