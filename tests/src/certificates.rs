//! A name -> certificates and keys in PEM, made by Debian's `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An authority, in a directory with all that it issues.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
    name: String,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

const CURVE: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];

impl Authority {
    /// Makes one in `directory`.
    ///
    /// # Panics
    /// If `openssl` cannot.
    pub fn new(directory: &Path, name: &str) -> Self {
        let authority = Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
        };
        let own = authority.issued(name);
        run(Command::new("openssl")
            .args(["req", "-x509", "-days", "2"])
            .args(CURVE)
            .args(["-subj", &format!("/CN={name}"), "-keyout"])
            .arg(&own.key)
            .arg("-out")
            .arg(&own.certificate));
        authority
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.issued(&self.name).certificate
    }

    /// A certificate for `subject` (`/O=Example/CN=ci`) with alternative names
    /// (`DNS:a,IP:127.0.0.1`), in force for two days.
    ///
    /// # Panics
    /// If `openssl` cannot.
    pub fn issue(&self, file: &str, subject: &str, names: &str) -> Issued {
        self.sign(file, subject, names, Command::new("openssl"))
    }

    /// One that was in force until some days ago.
    ///
    /// # Panics
    /// If `openssl` cannot, or Debian's `faketime`.
    pub fn issue_expired(&self, file: &str, subject: &str, names: &str) -> Issued {
        let mut then = Command::new("faketime");
        then.args(["-f", "-10d", "openssl"]);
        self.sign(file, subject, names, then)
    }

    fn sign(&self, file: &str, subject: &str, names: &str, mut openssl: Command) -> Issued {
        let (own, issued) = (self.issued(&self.name), self.issued(file));
        let request = self.directory.join(format!("{file}.csr"));
        run(Command::new("openssl")
            .arg("req")
            .args(CURVE)
            .args(["-subj", subject, "-addext"])
            .arg(format!("subjectAltName={names}"))
            .arg("-keyout")
            .arg(&issued.key)
            .arg("-out")
            .arg(&request));
        run(openssl
            .args([
                "x509",
                "-req",
                "-days",
                "2",
                "-copy_extensions",
                "copy",
                "-in",
            ])
            .arg(&request)
            .arg("-CA")
            .arg(&own.certificate)
            .arg("-CAkey")
            .arg(&own.key)
            .arg("-out")
            .arg(&issued.certificate));
        issued
    }

    fn issued(&self, file: &str) -> Issued {
        Issued {
            certificate: self.directory.join(format!("{file}.pem")),
            key: self.directory.join(format!("{file}.key")),
        }
    }
}

fn run(command: &mut Command) {
    let made = command.output().expect("openssl starts");
    assert!(made.status.success(), "{command:?}: {made:?}");
}
