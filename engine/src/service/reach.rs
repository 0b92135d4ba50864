//! The networks that a stored configuration may reach -> HTTP clients that connect nowhere else.
//!
//! Names are checked by the addresses they have when a connection is made; addresses in URLs, also
//! of redirects, before that.

use super::settings::Networks;
use reqwest::ClientBuilder;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use url::{Host, Url};

/// Redirects that are followed, as reqwest does by itself.
const REDIRECTS_MAX: usize = 10;

/// Lets a client connect to `networks` only. It follows redirects as long as they stay there.
pub(crate) fn confine(builder: ClientBuilder, networks: &Arc<Networks>) -> ClientBuilder {
    let for_redirects = networks.clone();
    let policy = Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS_MAX {
            return attempt.error("too many redirects");
        }
        match check(&for_redirects, attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(reason) => attempt.error(reason),
        }
    });
    let resolver = Confined {
        networks: networks.clone(),
    };
    builder.redirect(policy).dns_resolver(resolver)
}

/// Checks a URL whose host is an address; names are checked when they are resolved.
///
/// # Errors
/// The address is not in the networks.
pub(crate) fn check(networks: &Networks, url: &Url) -> Result<(), String> {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    match networks.allows(address) {
        true => Ok(()),
        false => Err(refusal(&address.to_string())),
    }
}

/// Why something is not reached.
pub(crate) fn refusal(host: &str) -> String {
    format!(
        "{host} is in none of the networks that stored configurations may reach \
         (`scraping_service.allow_networks`)"
    )
}

/// The system's resolver, without what may not be reached.
#[derive(Debug)]
struct Confined {
    networks: Arc<Networks>,
}

impl Resolve for Confined {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = self.networks.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|one| networks.allows(one.ip())).collect();
            if allowed.is_empty() {
                return Err(refusal(name.as_str()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::settings::Network;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn only(network: &str) -> Arc<Networks> {
        Arc::new(Networks::Listed(vec![Network::parse(network).unwrap()]))
    }

    fn client(networks: &Arc<Networks>) -> reqwest::Client {
        confine(reqwest::Client::builder().no_proxy(), networks)
            .build()
            .unwrap()
    }

    /// Answers each connection with a redirect.
    async fn redirecting(to: String) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let answer =
                    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    async fn error(client: &reqwest::Client, url: &str) -> String {
        let error = client.get(url).send().await.unwrap_err();
        format!("{error:?}")
    }

    #[tokio::test]
    async fn a_name_is_refused_by_its_address() {
        let port = redirecting("http://192.0.2.1/".to_owned()).await;
        let url = format!("http://localhost:{port}/");
        let refused = error(&client(&only("10.0.0.0/8")), &url).await;
        assert!(
            refused.contains("localhost is in none of the networks"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn a_redirect_does_not_lead_out_of_the_networks() {
        let port = redirecting("http://169.254.169.254/secret".to_owned()).await;
        let url = format!("http://127.0.0.1:{port}/");
        let refused = error(&client(&Arc::new(Networks::default())), &url).await;
        assert!(refused.contains("169.254.169.254 is in none"), "{refused}");
        let again = redirecting(format!("http://127.0.0.1:{port}/")).await;
        let url = format!("http://127.0.0.1:{again}/");
        let refused = error(&client(&only("127.0.0.0/8")), &url).await;
        assert!(refused.contains("169.254.169.254 is in none"), "{refused}");
    }

    #[test]
    fn addresses_in_urls_are_checked() {
        let check = |url: &str| check(&Networks::default(), &Url::parse(url).unwrap());
        for closed in [
            "http://169.254.169.254/",
            "http://2852039166/",
            "http://[fe80::1]/",
            "http://[::ffff:a9fe:a9fe]/",
        ] {
            assert!(check(closed).is_err(), "{closed}");
        }
        assert_eq!(check("http://metadata/"), Ok(()));
        assert_eq!(check("http://10.0.0.1/"), Ok(()));
    }
}
