//! The file of `--web.config.file`, again and again -> how connections and requests are taken.

use super::certificates::{self, Held};
use super::figures::{Figures, FiguresNow};
use super::passwords::{Passwords, Verdict};
use super::settings::{Pem, TlsSettings, WebSettings};
use crate::clock;
use crate::config::read_web;
use axum::http::{HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info, warn};

/// How often the files are looked at. A change counts when two looks have found the same, since a
/// certificate and its key may be replaced one after the other.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How connections and requests are taken.
#[derive(Default)]
pub(crate) struct Site {
    /// `None`: plain.
    pub(super) tls: Option<TlsAcceptor>,
    /// Added to each answer.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Names with the hashes of their passwords; empty: nobody is asked for one.
    pub(crate) users: BTreeMap<String, String>,
    certificate_expires_s: Option<i64>,
}

/// The site in force, and what to do to have the next one.
pub(crate) struct Sites {
    /// `None`: plain HTTP for everybody.
    path: Option<PathBuf>,
    current: watch::Sender<Arc<Site>>,
    looks: Mutex<Looks>,
    /// What happens to connections.
    pub(super) figures: Figures,
    /// `None`: there is no file that could have users.
    passwords: Option<Passwords>,
}

/// What was found in the files, as a hash.
type Finding = [u8; 32];

struct Looks {
    /// What was tried last, and what came of it.
    tried: Finding,
    result: Result<(), String>,
    /// What the last look has found.
    seen: Finding,
}

/// The file and what it names.
struct Read {
    settings: WebSettings,
    held: Option<Held>,
    finding: Finding,
}

impl Read {
    /// Blocks on the disk. The error comes with what stands for the files that it is about.
    fn new(path: &Path) -> Result<Self, (String, Finding)> {
        let mut digest = Sha256::new();
        let read = Self::read(path, &mut digest);
        if let Err(reason) = &read {
            digest.update(reason);
        }
        let finding = digest.finalize().into();
        match read {
            Ok((settings, held)) => Ok(Self {
                settings,
                held,
                finding,
            }),
            Err(reason) => Err((reason, finding)),
        }
    }

    fn read(path: &Path, digest: &mut Sha256) -> Result<(WebSettings, Option<Held>), String> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            format!(
                "cannot read the web configuration {}: {error}",
                path.display()
            )
        })?;
        let mut note = |bytes: &[u8]| {
            digest.update(bytes.len().to_le_bytes());
            digest.update(bytes);
        };
        note(text.as_bytes());
        let settings = read_web(path, &text).map_err(|error| error.to_string())?;
        let held = match &settings.tls {
            Some(tls) => Some(hold(tls)?),
            None => None,
        };
        if let Some(held) = &held {
            note(&held.certificate);
            note(&held.key);
            note(held.client_authorities.as_deref().unwrap_or_default());
        }
        Ok((settings, held))
    }

    fn into_site(self) -> Result<Site, String> {
        let mut site = Site {
            users: self.settings.users,
            ..Site::default()
        };
        for (name, value) in &self.settings.headers {
            let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
            let value = HeaderValue::try_from(value).map_err(|error| format!("{name}: {error}"))?;
            site.headers.push((name, value));
        }
        if let (Some(settings), Some(held)) = (&self.settings.tls, &self.held) {
            let (config, own) = certificates::server_config(settings, held)?;
            site.tls = Some(TlsAcceptor::from(Arc::new(config)));
            site.certificate_expires_s = Some(own.expires_s);
        }
        Ok(site)
    }
}

fn hold(tls: &TlsSettings) -> Result<Held, String> {
    let bytes = |pem: &Pem| match pem {
        Pem::Text(text) => Ok(text.clone().into_bytes()),
        Pem::File(path) => {
            std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        }
    };
    Ok(Held {
        certificate: bytes(&tls.certificate)?,
        key: bytes(&tls.key)?,
        client_authorities: tls.client_authorities.as_ref().map(bytes).transpose()?,
    })
}

impl Site {
    /// Whether connections have TLS.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    fn warn(&self) {
        if !self.users.is_empty() && !self.has_tls() {
            warn!("basic_auth_users without tls_server_config: passwords can be read on their way");
        }
        if self
            .certificate_expires_s
            .is_some_and(|ends_s| ends_s < clock::now_ms() / 1_000)
        {
            warn!("the web server's certificate has expired");
        }
    }
}

impl Sites {
    /// Reads the file, if there is one. Blocks on the disk.
    ///
    /// # Errors
    /// What the operator has to change.
    pub(crate) fn load(path: Option<&Path>) -> Result<Arc<Self>, String> {
        let (site, finding) = match path {
            Some(path) => {
                let read = Read::new(path).map_err(|(reason, _)| reason)?;
                let finding = read.finding;
                (read.into_site()?, finding)
            }
            None => (Site::default(), Finding::default()),
        };
        site.warn();
        Ok(Arc::new(Self {
            path: path.map(Path::to_owned),
            current: watch::Sender::new(Arc::new(site)),
            looks: Mutex::new(Looks {
                tried: finding,
                result: Ok(()),
                seen: finding,
            }),
            figures: Figures::new(clock::now_ms()),
            passwords: path.map(|_| Passwords::start()).transpose()?,
        }))
    }

    /// The one in force.
    pub(crate) fn current(&self) -> Arc<Site> {
        self.current.borrow().clone()
    }

    /// The one in force, and those after it.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Site>> {
        self.current.subscribe()
    }

    /// Whether `password` is that of the user `name` of `site`.
    pub(crate) async fn check(&self, site: &Site, name: &str, password: &[u8]) -> Verdict {
        let verdict = match &self.passwords {
            Some(passwords) => passwords.check(&site.users, name, password).await,
            None => Verdict::Wrong,
        };
        match verdict {
            Verdict::Right => {}
            Verdict::Wrong => self.note_unauthorized(),
            Verdict::Busy => Figures::add(&self.figures.passwords_busy),
        }
        verdict
    }

    /// Counts a request that is not answered for lack of a password.
    pub(crate) fn note_unauthorized(&self) {
        Figures::add(&self.figures.passwords_wrong);
    }

    /// Counts of the web server.
    pub(crate) fn figures_now(&self) -> FiguresNow {
        let mut now = self.figures.now();
        now.is_loaded = now.is_loaded.filter(|_| self.path.is_some());
        now.certificate_expires_s = self.current.borrow().certificate_expires_s;
        now
    }

    /// Reads the files again, as the operator asks for it. Blocks on the disk.
    ///
    /// # Errors
    /// They cannot be used: the former stay in force.
    pub(crate) fn reload(&self) -> Result<(), String> {
        self.look(true)
    }

    /// Looks at the files as long as it runs.
    pub(crate) async fn follow(self: Arc<Self>) {
        if self.path.is_none() {
            return;
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let sites = self.clone();
            // The result has been logged, and is kept.
            let _ = tokio::task::spawn_blocking(move || sites.look(false)).await;
        }
    }

    /// `is_asked`: what is found counts at once, and what is wrong is logged again.
    fn look(&self, is_asked: bool) -> Result<(), String> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let read = Read::new(path);
        let finding = match &read {
            Ok(read) => read.finding,
            Err((_, finding)) => *finding,
        };
        let is_new = finding != looks.tried;
        let is_due = is_asked || finding == looks.seen;
        looks.seen = finding;
        if !is_due || (!is_new && looks.result.is_ok()) || (!is_new && !is_asked) {
            return looks.result.clone();
        }
        let site = read.map_err(|(reason, _)| reason).and_then(Read::into_site);
        looks.tried = finding;
        looks.result = site.map(|site| {
            site.warn();
            self.current.send_replace(Arc::new(site));
            self.figures
                .loaded_ms
                .store(clock::now_ms(), Ordering::Relaxed);
            info!(file = %path.display(), "web configuration and certificates loaded");
        });
        if let Err(reason) = &looks.result {
            error!(
                reason,
                "cannot use the web configuration; the old one stays in force"
            );
        }
        let is_loaded = looks.result.is_ok();
        self.figures.is_loaded.store(is_loaded, Ordering::Relaxed);
        looks.result.clone()
    }
}

/// Reads a file for `--web.config.file` and all that it names; the answer says what it has.
///
/// # Errors
/// What is wrong with it.
pub fn check_web_config(path: &Path) -> Result<String, String> {
    let read = Read::new(path).map_err(|(reason, _)| reason)?;
    let site = read.into_site()?;
    let tls = if site.has_tls() { "TLS" } else { "no TLS" };
    Ok(format!(
        "{}: {tls}, {} users, {} headers",
        path.display(),
        site.users.len(),
        site.headers.len()
    ))
}
