//! A node's address and what its web server asks for -> its answers, by HTTP or HTTPS.
//!
//! Requests are few: each has a connection of its own, goes to the address that was given and
//! follows no redirect, since a token or a password is for that address alone.

use crate::text::causes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderName};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use ringscrape_engine::tls::{self, ClientFiles};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use url::Url;

/// How long connecting may take, TLS included.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How a node's web server is spoken to.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessArguments {
    /// Authorities that vouch for the node's certificate, in PEM, for addresses with https://.
    /// Without it those of the system are trusted.
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The certificate to show to the node, in PEM.
    #[arg(long, global = true, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// The certificate's key, in PEM.
    #[arg(long, global = true, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// The name in the node's certificate, if it is not the host in the address.
    #[arg(long, global = true, value_name = "NAME")]
    server_name: Option<String>,
    /// A user of the node's web server (basic_auth_users).
    #[arg(long, global = true, value_name = "NAME", requires = "password_file")]
    username: Option<String>,
    /// A file with the user's password.
    #[arg(long, global = true, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
}

/// One node's web server.
pub(crate) struct Http {
    /// As given, with a scheme and without a slash at the end.
    address: String,
    host: String,
    port: u16,
    /// `None`: plain.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    authorization: Option<String>,
    patience: Duration,
    runtime: Runtime,
}

/// Words that only one request has.
pub(crate) type Headers<'a> = &'a [(HeaderName, &'a str)];

impl Http {
    /// `address`: `http://host:port` or `https://host:port`; without a scheme: the former.
    ///
    /// # Errors
    /// The address or a file cannot be used.
    pub(crate) fn new(
        address: &str,
        access: &AccessArguments,
        patience: Duration,
    ) -> Result<Self, String> {
        let address = match address.contains("://") {
            true => address.to_owned(),
            false => format!("http://{address}"),
        };
        let wrong = |reason: String| format!("--address {address}: {reason}");
        let url = Url::parse(&address).map_err(|error| wrong(error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("give --username and --password-file".to_owned()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("a host, a port and a path only".to_owned()));
        }
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tls = match url.scheme() {
            "http" if access.needs_tls() => {
                let text = "certificates are for https: give it as https://...";
                return Err(wrong(text.to_owned()));
            }
            "http" => None,
            "https" => {
                let config = tls::client_config(&ClientFiles {
                    authorities: access.ca_file.clone(),
                    certificate: access.cert_file.clone(),
                    key: access.key_file.clone(),
                })?;
                let name = tls::server_name(access.server_name.as_deref().unwrap_or(host))?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
            _ => return Err(wrong("neither http nor https".to_owned())),
        };
        let address = address.trim_end_matches('/').to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start: {error}"))?;
        Ok(Self {
            host: host.to_owned(),
            port: url.port_or_known_default().unwrap_or(80),
            authorization: access.authorization()?,
            address,
            tls,
            patience,
            runtime,
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The address of a path with parameters.
    pub(crate) fn url(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Url, String> {
        let text = format!("{}{path}", self.address);
        let mut url = Url::parse(&text).map_err(|error| error.to_string())?;
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        Ok(url)
    }

    /// Sends a request; `url` is one of this server. The answer: status and text.
    ///
    /// # Errors
    /// No answer has come.
    pub(crate) fn send(
        &self,
        method: Method,
        url: &Url,
        headers: Headers<'_>,
        body: String,
    ) -> Result<(u16, String), String> {
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let mut request = Request::builder().method(method).uri(path);
        // With the port, as browsers send it; the server may be known by another name.
        let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
        request = request.header(HOST, host);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let has_own = headers.iter().any(|(name, _)| *name == AUTHORIZATION);
        if let Some(value) = self.authorization.as_ref().filter(|_| !has_own) {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| error.to_string())?;
        self.runtime.block_on(async {
            let exchange = timeout(self.patience, self.exchange(request)).await;
            exchange.unwrap_or_else(|_| Err(format!("nothing within {:?}", self.patience)))
        })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(u16, String), String> {
        let late = |_| format!("no connection within {CONNECT_PATIENCE:?}");
        let connecting = TcpStream::connect((&*self.host, self.port));
        let socket = timeout(CONNECT_PATIENCE, connecting).await.map_err(late)?;
        let socket = socket.map_err(|error| causes(&error))?;
        match &self.tls {
            None => talk(socket, request).await,
            Some((connector, name)) => {
                let shaking = connector.connect(name.clone(), socket);
                let shaken = timeout(CONNECT_PATIENCE, shaking).await.map_err(late)?;
                talk(shaken.map_err(|error| causes(&error))?, request).await
            }
        }
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(u16, String), String> {
    let opened = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.map_err(|error| causes(&error))?;
    let driver = tokio::spawn(connection);
    let answered = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    };
    let answered = answered.await;
    driver.abort();
    let (status, body) = answered.map_err(|error: hyper::Error| causes(&error))?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

impl AccessArguments {
    fn needs_tls(&self) -> bool {
        self.ca_file.is_some() || self.cert_file.is_some() || self.server_name.is_some()
    }

    fn authorization(&self) -> Result<Option<String>, String> {
        let (Some(name), Some(file)) = (&self.username, &self.password_file) else {
            return Ok(None);
        };
        if name.contains(':') {
            return Err("--username: a name has no colon".to_owned());
        }
        let password = read_secret(file)?;
        let both = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            format!("{name}:{password}"),
        );
        Ok(Some(format!("Basic {both}")))
    }
}

/// The text of a file without the end of its line.
///
/// # Errors
/// It cannot be read, or is empty.
fn read_secret(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the password {}: {error}", path.display()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    match text.is_empty() {
        true => Err(format!("{} holds no password", path.display())),
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(address: &str, access: &AccessArguments) -> Result<Http, String> {
        Http::new(address, access, Duration::from_secs(1))
    }

    #[test]
    fn an_address_may_lack_its_scheme() {
        let http = new("10.0.0.1:9095/", &AccessArguments::default()).unwrap();
        let url = http
            .url("/api/v1/cluster/owner", &[("target", "a b&c")])
            .unwrap();
        assert_eq!(
            url.as_str(),
            "http://10.0.0.1:9095/api/v1/cluster/owner?target=a+b%26c"
        );
        assert_eq!((&*http.host, http.port), ("10.0.0.1", 9095));
        let http = new("http://[::1]/prefix", &AccessArguments::default()).unwrap();
        assert_eq!((&*http.host, http.port), ("::1", 80));
        let url = http.url("/x", &[]).unwrap();
        assert_eq!(url.as_str(), "http://[::1]/prefix/x");
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let plain = AccessArguments::default();
        let with_ca = AccessArguments {
            ca_file: Some("nowhere.pem".into()),
            ..AccessArguments::default()
        };
        let with_user = AccessArguments {
            username: Some("ann".to_owned()),
            password_file: Some("nowhere".into()),
            ..AccessArguments::default()
        };
        for (address, access, wanted) in [
            ("ftp://x", &plain, "neither http nor https"),
            ("http://a:b@x", &plain, "--password-file"),
            ("http://x?a=b", &plain, "only"),
            ("http://x", &with_ca, "https://"),
            ("https://x", &with_ca, "nowhere.pem"),
            ("http://x", &with_user, "nowhere"),
            ("http://", &plain, "empty host"),
        ] {
            let error = new(address, access).map(drop).unwrap_err();
            assert!(error.contains(wanted), "{address}: {error}");
        }
    }
}
