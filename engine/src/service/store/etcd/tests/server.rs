//! A real etcd on loopback, and a way to it that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A server with its data.
pub(super) struct Server {
    folder: tempfile::TempDir,
    process: Option<Child>,
    pub(super) port: u16,
    peer_port: u16,
    /// Whether it makes itself a certificate.
    is_tls: bool,
}

impl Server {
    /// Started and answering. `None` after printing why: there is no etcd, which skips the test.
    ///
    /// # Panics
    /// The same with `CI=true`: there a skip would hide a hole.
    pub(super) fn start() -> Option<Self> {
        Self::start_with(false)
    }

    /// The same, with a certificate that it signs itself; its clients need it, too.
    pub(super) fn start_with_tls() -> Option<Self> {
        Self::start_with(true)
    }

    fn start_with(is_tls: bool) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        for (program, package) in [("etcd", "etcd-server"), ("openssl", "openssl")] {
            let mut folders = std::env::split_paths(&path);
            let is_needed = is_tls || program == "etcd";
            if is_needed && !folders.any(|folder| folder.join(program).is_file()) {
                let is_ci = std::env::var("CI").as_deref() == Ok("true");
                assert!(
                    !is_ci,
                    "{program} is not installed (Debian package {package})"
                );
                eprintln!("skipped: {program} is not installed (Debian package {package})");
                return None;
            }
        }
        let mut server = Self {
            folder: tempfile::tempdir().unwrap(),
            process: None,
            port: free_port(),
            peer_port: free_port(),
            is_tls,
        };
        if is_tls {
            server.make_certificate();
        }
        server.run();
        Some(server)
    }

    /// Starts it (again) with the data that it has.
    pub(super) fn run(&mut self) {
        let scheme = if self.is_tls { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", self.port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let process = Command::new("etcd")
            .args(["--name", "test", "--logger", "zap", "--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.data())
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("test={peer}")])
            .args(self.tls_args())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let until = Instant::now() + Duration::from_secs(30);
        while !self.answers() {
            assert!(Instant::now() < until, "etcd does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The certificate of one that runs with TLS.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// Of its certificate.
    pub(super) fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    fn make_certificate(&self) {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=etcd"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(self.key())
            .arg("-out")
            .arg(self.certificate())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    fn tls_args(&self) -> Vec<PathBuf> {
        let cert = || self.certificate();
        match self.is_tls {
            true => vec![
                "--client-cert-auth".into(),
                "--cert-file".into(),
                cert(),
                "--key-file".into(),
                self.key(),
                "--trusted-ca-file".into(),
                cert(),
            ],
            false => Vec::new(),
        }
    }

    fn answers(&self) -> bool {
        if self.is_tls {
            return TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        }
        let body = r#"{"key":"YQ=="}"#;
        try_call(self.port, "kv/range", body).is_ok_and(|answer| answer.contains("revision"))
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Asks its gateway.
    pub(super) fn call(&self, path: &str, body: &str) -> String {
        try_call(self.port, path, body).unwrap()
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(super) fn wipe(&self) {
        std::fs::remove_dir_all(self.data()).unwrap();
    }

    pub(super) fn signal(&self, signal: i32) {
        let pid = self.process.as_ref().unwrap().id() as i32;
        // SAFETY: the child is not yet waited for, so the number is its.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn try_call(port: u16, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let len = body.len();
    write!(
        stream,
        "POST /v3/{path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {len}\r\n\
         Connection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A forwarder to a server.
pub(super) struct Way {
    pub(super) port: u16,
    is_cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Way {
    pub(super) fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let way = Self {
            port: listener.local_addr().unwrap().port(),
            is_cut: Arc::default(),
            open: Arc::default(),
        };
        let (is_cut, open) = (way.is_cut.clone(), way.open.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let to = TcpStream::connect(("127.0.0.1", target));
                let (Ok(to), false) = (to, is_cut.load(SeqCst)) else {
                    continue;
                };
                let mut all = open.lock().unwrap();
                all.extend([stream.try_clone().unwrap(), to.try_clone().unwrap()]);
                forward(stream.try_clone().unwrap(), to.try_clone().unwrap());
                forward(to, stream);
            }
        });
        way
    }

    /// No connection stays, and none works from now on, or does again.
    pub(super) fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
