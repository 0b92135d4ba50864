//! Certificates, users and clients that say nothing -> who gets an answer of the web server.

use crate::{LIMIT, Ran, run, with_job};
use ringscrape_tests::certificates::{Authority, Issued};
use ringscrape_tests::engine::{Engine, Running, ringscrape, sum_of_metric};
use ringscrape_tests::{debian, http, net, wait};
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// bcrypt of `open sesame`, by crypt(3).
const HASH: &str = "$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";

/// A node with TLS, its authority, and a server's certificate for 127.0.0.1.
struct Secured {
    running: Running,
    authority: Authority,
    dir: TempDir,
}

impl Secured {
    /// `None`: a program is missing.
    fn start(web: &str, tokens: &str) -> Option<Self> {
        for program in ["openssl", "curl", "faketime"] {
            debian::program(program, program)?;
        }
        let dir = TempDir::new().expect("a temporary directory");
        let authority = Authority::new(dir.path(), "ca");
        authority.issue("server", "/CN=server", "IP:127.0.0.1,DNS:node.example");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let config = "scraping_service: {enabled: true, kvstore: {store: local}}\n";
        let config = write("config.yml", config);
        let mut flags = vec![format!(
            "--web.config.file={}",
            write("web.yml", web).display()
        )];
        if !tokens.is_empty() {
            let file = write("tokens", tokens);
            flags.push(format!("--config-api.tokens-file={}", file.display()));
        }
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let address = net::free_address();
        let running = Running::start_on(Engine::Ringscrape, dir.path(), &config, address, &flags);
        let node = Self {
            running,
            authority,
            dir,
        };
        let started = wait::within(LIMIT, || TcpStream::connect(address).ok());
        assert!(started.is_some(), "{}", node.running.process.log_tail());
        Some(node)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn address(&self) -> String {
        format!("https://{}", self.running.address)
    }

    /// The status and the text that curl gets; 0: none.
    fn curl(&self, path: &str, own: Option<&Issued>, more: &[&str]) -> (u16, String) {
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "--max-time",
            "10",
            "-w",
            "\n%{http_code}",
            "--cacert",
        ]);
        command.arg(self.authority.file());
        if let Some(own) = own {
            command.arg("--cert").arg(&own.certificate);
            command.arg("--key").arg(&own.key);
        }
        command.args(more);
        let ran = run(command.arg(format!("{}{path}", self.address())));
        let (text, status) = ran.out.rsplit_once('\n').unwrap_or_default();
        (status.parse().unwrap_or(0), format!("{text}{}", ran.errors))
    }

    /// `ringscrape` with this node's authority.
    fn ringscrape(&self, words: &[&str], own: Option<&Issued>) -> Ran {
        let mut command = Command::new(ringscrape());
        command
            .args(words)
            .arg("--ca-file")
            .arg(self.authority.file());
        if let Some(own) = own {
            command.arg("--cert-file").arg(&own.certificate);
            command.arg("--key-file").arg(&own.key);
        }
        if !words.contains(&"--address") {
            command.args(["--address", &self.address()]);
        }
        run(&mut command)
    }

    fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (_, text) = self.curl("/metrics", None, &[]);
        sum_of_metric(&text, name, labels)
    }

    #[track_caller]
    fn wait_for(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let found = wait::within(LIMIT, || condition().then_some(()));
        assert!(
            found.is_some(),
            "{what}; {}",
            self.running.process.log_tail()
        );
    }
}

const IF_GIVEN: &str = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  \
                        client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.pem\n";

#[test]
fn certificates_have_roles() {
    let tokens = "ci write subject:CN=ci,O=Example Inc\neye read san:eye.example\n";
    let Some(node) = Secured::start(IF_GIVEN, tokens) else {
        return;
    };
    let authority = &node.authority;
    let ci = authority.issue("ci", "/O=Example Inc/CN=ci", "DNS:ci.example");
    let eye = authority.issue("eye", "/CN=any", "DNS:eye.example");
    let other = authority.issue("other", "/CN=other", "DNS:other.example");
    let expired = authority.issue_expired("expired", "/O=Example Inc/CN=ci", "DNS:ci.example");
    let strange = Authority::new(node.dir.path(), "strange");
    let forged = strange.issue("forged", "/O=Example Inc/CN=ci", "DNS:ci.example");
    node.wait_for("it is ready", || node.curl("/-/ready", None, &[]).0 == 200);

    let configs = "/agent/api/v1/configs";
    assert_eq!(node.curl(configs, Some(&ci), &[]).0, 200);
    assert_eq!(node.curl(configs, Some(&eye), &[]).0, 200);
    assert_eq!(node.curl(configs, None, &[]).0, 401);
    let (status, text) = node.curl(configs, Some(&other), &[]);
    assert!(
        status == 401 && text.contains("CN=other"),
        "{status} {text}"
    );
    for refused in [&expired, &forged] {
        assert_eq!(node.curl(configs, Some(refused), &[]).0, 0);
    }

    let files = node.path("configs");
    std::fs::create_dir(&files).expect("a directory");
    std::fs::write(files.join("a.yml"), with_job("a")).expect("written");
    let sync = ["config-sync", files.to_str().expect("a path of UTF-8")];
    let no = node.ringscrape(&sync, Some(&eye)).expect(1);
    assert!(
        no.errors.contains("the certificate of eye may read only"),
        "{}",
        no.errors
    );
    let no = node.ringscrape(&sync, None).expect(1);
    assert!(
        no.errors.contains("a bearer token is needed"),
        "{}",
        no.errors
    );
    for refused in [&expired, &forged] {
        node.ringscrape(&sync, Some(refused)).expect(3);
    }
    node.ringscrape(&sync, Some(&ci)).expect(0);
    let log = node.running.process.log();
    let line = log
        .lines()
        .find(|line| line.contains("audit: configuration changed"));
    let line = line.unwrap_or_else(|| panic!("no such line:\n{log}"));
    for part in [
        "who=\"ci\"",
        "certificate=\"CN=ci,O=Example Inc\"",
        "config=\"a\"",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(node.metric("ringscrape_web_handshakes_total", &["result=\"refused\""]) >= 4.0);
}

#[test]
fn clients_check_whom_they_speak_to() {
    let Some(node) = Secured::start(IF_GIVEN, "") else {
        return;
    };
    node.wait_for("it is ready", || node.curl("/-/ready", None, &[]).0 == 200);
    let status = ["cluster", "status"];
    // Without a cluster there is nothing to tell, but that is an answer.
    let ran = node.ringscrape(&status, None);
    assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.errors);
    let port = node.running.address.port();
    let named = format!("https://localhost:{port}");
    let wrong = node
        .ringscrape(&["cluster", "status", "--address", &named], None)
        .expect(3);
    assert!(
        wrong.errors.contains("not valid for name"),
        "{}",
        wrong.errors
    );
    let right = [
        "cluster",
        "status",
        "--address",
        &named,
        "--server-name",
        "node.example",
    ];
    assert_eq!(node.ringscrape(&right, None).code, ran.code);
    let address = node.address();
    let unknown = run(Command::new(ringscrape())
        .args(status)
        .args(["--address", &address]));
    assert!(unknown.expect(3).errors.contains("UnknownIssuer"));
    let plain = format!("http://{}", node.running.address);
    let plain = run(Command::new(ringscrape())
        .args(status)
        .args(["--address", &plain]))
    .expect(1);
    assert!(plain.errors.contains("use https"), "{}", plain.errors);
    let answer = http::get(node.running.address, "/metrics").expect("an answer");
    assert_eq!(answer.status, 400);
    let old = node.curl("/-/ready", None, &["--tls-max", "1.1"]);
    assert_eq!(old.0, 0, "{}", old.1);
    assert_eq!(node.curl("/-/ready", None, &["--tls-max", "1.2"]).0, 200);
}

/// The names in the certificate that the node shows.
fn shown(node: &Secured) -> String {
    let (_, text) = node.curl("/-/healthy", None, &["-v", "-k"]);
    let line = text.lines().find(|line| line.contains("subject:"));
    line.unwrap_or_default().trim().to_owned()
}

#[test]
fn certificates_are_renewed_and_bad_ones_refused() {
    let Some(mut node) = Secured::start(IF_GIVEN, "") else {
        return;
    };
    node.wait_for("the first", || shown(&node).ends_with("CN=server"));
    let renew = |node: &Secured, name: &str| {
        let issued = node
            .authority
            .issue(name, &format!("/CN={name}"), "IP:127.0.0.1");
        std::fs::copy(issued.certificate, node.path("server.pem")).expect("copied");
        std::fs::copy(issued.key, node.path("server.key")).expect("copied");
    };
    renew(&node, "second");
    node.running.process.signal(libc::SIGHUP);
    node.wait_for("the second, by SIGHUP", || {
        shown(&node).ends_with("CN=second")
    });
    renew(&node, "third");
    node.wait_for("the third, by itself", || {
        shown(&node).ends_with("CN=third")
    });

    // The key of another certificate.
    let key = std::fs::read(node.path("server.key")).expect("read");
    std::fs::copy(node.path("ca.key"), node.path("server.key")).expect("copied");
    let loaded = "ringscrape_web_config_last_reload_successful";
    node.wait_for("it is noticed", || node.metric(loaded, &[]) == 0.0);
    assert!(shown(&node).ends_with("CN=third"));
    assert!(
        node.running
            .process
            .log()
            .contains("the old one stays in force")
    );
    std::fs::write(node.path("server.key"), key).expect("written");
    node.wait_for("it is good again", || node.metric(loaded, &[]) == 1.0);
    assert!(node.metric("ringscrape_web_certificate_expiry_timestamp_seconds", &[]) > 1e9);

    // Names, and another authority, from one moment to the next.
    let web = IF_GIVEN.replace("VerifyClientCertIfGiven", "RequireAndVerifyClientCert");
    let web = format!("{web}  client_allowed_sans: [good.example]\n");
    let good = node.authority.issue("good", "/CN=x", "DNS:good.example");
    let bad = node.authority.issue("bad", "/CN=x", "DNS:bad.example");
    assert_eq!(node.curl("/-/healthy", Some(&bad), &[]).0, 200);
    std::fs::write(node.path("web.yml"), web).expect("written");
    node.running.process.signal(libc::SIGHUP);
    node.wait_for("the other", || {
        node.curl("/-/healthy", Some(&bad), &[]).0 == 0
    });
    assert_eq!(node.curl("/-/healthy", Some(&good), &[]).0, 200);
    assert_eq!(node.curl("/-/healthy", None, &[]).0, 0);
}

#[test]
fn who_says_nothing_holds_nothing() {
    let Some(node) = Secured::start(IF_GIVEN, "") else {
        return;
    };
    node.wait_for("it is ready", || node.curl("/-/ready", None, &[]).0 == 200);
    let connect = || TcpStream::connect(node.running.address).expect("a connection");
    let begun = Instant::now();
    let mut silent: Vec<TcpStream> = (0..300).map(|_| connect()).collect();
    assert_eq!(node.curl("/-/ready", None, &[]).0, 200);
    assert!(node.metric("ringscrape_web_connections", &[]) <= 128.0);
    assert!(node.metric("ringscrape_web_connections_evicted_total", &[]) >= 172.0);
    let mut newest = silent.pop().expect("one");
    newest.set_read_timeout(Some(LIMIT)).expect("a timeout");
    // An end, not a timeout.
    assert_eq!(newest.read(&mut [0]).unwrap_or(0), 0);
    assert!(begun.elapsed() < Duration::from_secs(25));
    assert!(node.metric("ringscrape_web_handshakes_total", &["result=\"timeout\""]) >= 1.0);
}

#[test]
fn users_have_passwords() {
    // SHA-256 of `abc`, from FIPS 180-2, appendix B.1.
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let web = format!(
        "{IF_GIVEN}basic_auth_users: {{ann: {HASH}}}\n\
         http_server_config: {{headers: {{X-Frame-Options: deny}}}}\n"
    );
    let tokens = format!("bot write {hash}\nann read user:ann\nci write san:ci.example\n");
    let Some(node) = Secured::start(&web, &tokens) else {
        return;
    };
    let ann = ["-u", "ann:open sesame"];
    node.wait_for("it is ready", || node.curl("/-/ready", None, &ann).0 == 200);
    let (status, text) = node.curl("/metrics", None, &["-i"]);
    assert_eq!(status, 401);
    let head = text.to_lowercase();
    assert!(head.contains("www-authenticate: basic"), "{text}");
    assert!(head.contains("x-frame-options: deny"), "{text}");
    for wrong in ["ann:open", "eve:open sesame", "ann:"] {
        assert_eq!(
            node.curl("/metrics", None, &["-u", wrong]).0,
            401,
            "{wrong}"
        );
    }
    let (configs, config) = ("/agent/api/v1/configs", "/agent/api/v1/config/a");
    let token = ["-H", "Authorization: Bearer abc"];
    assert_eq!(node.curl(configs, None, &token).0, 200);
    assert_eq!(
        node.curl("/metrics", None, &token).0,
        401,
        "tokens are for configurations"
    );
    assert_eq!(
        node.curl(configs, None, &["-H", "Authorization: Bearer abd"])
            .0,
        401
    );
    assert_eq!(node.curl(configs, None, &ann).0, 200);
    let put = [
        "-u",
        "ann:open sesame",
        "-X",
        "PUT",
        "-d",
        "scrape_configs: []",
    ];
    assert_eq!(node.curl(config, None, &put).0, 403);
    let ci = node.authority.issue("ci", "/CN=x", "DNS:ci.example");
    assert_eq!(node.curl(config, Some(&ci), &put[2..]).0, 201);
    assert_eq!(node.curl("/metrics", Some(&ci), &[]).0, 401);

    let password = node.path("password");
    std::fs::write(&password, "open sesame\n").expect("written");
    let no = node.ringscrape(&["cluster", "status"], None).expect(1);
    assert!(no.errors.contains("--username"), "{}", no.errors);
    let file = password.to_str().expect("a path of UTF-8");
    let words = [
        "cluster",
        "status",
        "--username",
        "ann",
        "--password-file",
        file,
    ];
    let ran = node.ringscrape(&words, None);
    assert!(!ran.errors.contains("401"), "{}", ran.errors);
}

#[test]
fn a_file_is_checked_before_it_is_used() {
    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("web.yml");
    let check = |text: &str| {
        std::fs::write(&file, text).expect("written");
        run(Command::new(ringscrape())
            .args(["check", "web-config"])
            .arg(&file))
    };
    check(&format!("basic_auth_users: {{ann: {HASH}}}")).expect(0);
    let missing = check("tls_server_config: {cert_file: a.pem, key_file: a.key}").expect(1);
    assert!(missing.errors.contains("a.pem"), "{}", missing.errors);
    assert!(
        check("rate_limit: {}")
            .expect(1)
            .errors
            .contains("no meaning here")
    );
    let config = dir.path().join("config.yml");
    std::fs::write(&config, "{}").expect("written");
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let refused = run(Command::new(ringscrape())
        .arg("run")
        .args([flag("config.file", &config), flag("web.config.file", &file)])
        .arg(flag("storage.path", &dir.path().join("data"))))
    .expect(1);
    assert!(refused.errors.contains("rate_limit"), "{}", refused.errors);
}
