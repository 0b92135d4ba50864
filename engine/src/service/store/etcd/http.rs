//! A request -> a connection of its own, plain or with TLS, and the answer as it comes.
//!
//! Requests are few and short, or last as long as a watch: connections are not kept for later. So a
//! request that fails on one is never repeated behind the caller's back.

use super::tls;
use crate::discovery::causes;
use crate::service::settings::EtcdSettings;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// If `dial_timeout` is 0.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// One server.
pub(super) struct Endpoint {
    /// Without a path.
    pub(super) url: String,
    host: String,
    port: u16,
    /// `None`: plain.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum HttpError {
    /// The request did not go out.
    Unsent(String),
    /// It may have.
    Lost(String),
}

/// An answer, its body yet to be read. Dropped, its connection ends.
pub(super) struct Answer {
    pub(super) status: u16,
    body: Incoming,
    _driver: Driver,
}

/// The task of a connection.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// # Errors
/// What the operator has to change.
pub(super) fn endpoints(settings: &EtcdSettings) -> Result<Vec<Endpoint>, String> {
    let connector = settings.tls.as_ref().map(tls::connector).transpose()?;
    let named = settings.tls.as_ref().map(|tls| tls.server_name.as_str());
    let named = named.filter(|name| !name.is_empty());
    let all = settings.endpoints.iter().map(|text| {
        let wrong = |reason: String| format!("etcd endpoint {text:?}: {reason}");
        let (url, is_tls) = parse(text, connector.is_some()).map_err(wrong)?;
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tls = match connector.clone().filter(|_| is_tls) {
            Some(connector) => {
                let name = tls::server_name(named.unwrap_or(host)).map_err(wrong)?;
                Some((connector, name))
            }
            None => None,
        };
        Ok(Endpoint {
            url: url.as_str().trim_end_matches('/').to_owned(),
            host: host.to_owned(),
            port: url.port_or_known_default().unwrap_or(2_379),
            tls,
        })
    });
    let all: Vec<Endpoint> = all.collect::<Result<_, String>>()?;
    match all.is_empty() {
        true => Err("etcd needs at least one endpoint".to_owned()),
        false => Ok(all),
    }
}

/// `host:port` or a URL -> a URL without a path, and whether it is one with TLS.
fn parse(text: &str, has_tls: bool) -> Result<(url::Url, bool), String> {
    let with_scheme = match (text.contains("://"), has_tls) {
        (true, _) => text.to_owned(),
        (false, true) => format!("https://{text}"),
        (false, false) => format!("http://{text}"),
    };
    let url = url::Url::parse(&with_scheme).map_err(|error| error.to_string())?;
    let is_tls = match url.scheme() {
        "https" if has_tls => true,
        "https" => return Err("https needs tls_enabled".to_owned()),
        "http" => false,
        _ => return Err("neither host:port nor a URL of http or https".to_owned()),
    };
    let has_more = !matches!(url.path(), "" | "/")
        || url.query().is_some()
        || !url.username().is_empty()
        || url.password().is_some();
    match has_more {
        true => Err("a host and a port only, no path, no credentials".to_owned()),
        false => Ok((url, is_tls)),
    }
}

impl Endpoint {
    /// Sends a request and waits for the status.
    pub(super) async fn post(
        &self,
        path: &str,
        token: Option<&str>,
        body: String,
        dial_timeout_ms: u64,
    ) -> Result<Answer, HttpError> {
        let patience = match dial_timeout_ms {
            0 => DIAL_TIMEOUT,
            ms => Duration::from_millis(ms),
        };
        let unsent = |text: String| HttpError::Unsent(format!("{}: {text}", self.url));
        let dialing = TcpStream::connect((&*self.host, self.port));
        let dialed = timeout(patience, dialing).await;
        let late = || unsent(format!("no connection within {patience:?}"));
        let socket = dialed.map_err(|_| late())?;
        let socket = socket.map_err(|error| unsent(error.to_string()))?;
        // Only a matter of latency.
        let _ = socket.set_nodelay(true);
        let request = self.request(path, token, body).map_err(unsent)?;
        match &self.tls {
            None => self.exchange(socket, request).await,
            Some((connector, name)) => {
                let shaking = connector.connect(name.clone(), socket);
                let shaken = timeout(patience, shaking).await.map_err(|_| late())?;
                let stream = shaken.map_err(|error| unsent(error.to_string()))?;
                self.exchange(stream, request).await
            }
        }
    }

    fn request(
        &self,
        path: &str,
        token: Option<&str>,
        body: String,
    ) -> Result<http::Request<Full<Bytes>>, String> {
        let authority = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let mut request = http::Request::post(format!("/v3/{path}"))
            .header("Host", authority)
            .header("Content-Type", "application/json")
            .header(
                "User-Agent",
                concat!("ringscrape/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(token) = token {
            request = request.header("Authorization", token);
        }
        let request = request.body(Full::new(Bytes::from(body)));
        request.map_err(|error| error.to_string())
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Answer, HttpError> {
        let lost =
            |error: hyper::Error| HttpError::Lost(format!("{}: {}", self.url, causes(&error)));
        let begun = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = begun.map_err(lost)?;
        let driver = Driver(tokio::spawn(async move {
            // The request's own result says it.
            let _ = connection.await;
        }));
        let response = sender.send_request(request).await.map_err(lost)?;
        Ok(Answer {
            status: response.status().as_u16(),
            body: response.into_body(),
            _driver: driver,
        })
    }
}

impl Answer {
    /// More of the body; `None`: that was all. Nothing is lost if it is not waited for to the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => return Err(causes(&error)),
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_endpoints_there_are() {
        let url = |text| parse(text, false).map(|(url, _)| url.to_string());
        assert_eq!(url("a:2379").unwrap(), "http://a:2379/");
        assert_eq!(url("http://a:2379/").unwrap(), "http://a:2379/");
        let (with_tls, is_tls) = parse("[::1]:1", true).unwrap();
        assert_eq!((with_tls.as_str(), is_tls), ("https://[::1]:1/", true));
        for wrong in [
            "https://a:1",
            "ftp://a",
            "http://a/b",
            "http://u:p@a",
            "http://",
        ] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }
}
