//! A listening socket and a router -> answers, over a bounded number of connections.
//!
//! When all places are taken, the connection that has had no request for the longest goes: one that
//! says nothing holds its place only as long as nobody else wants it.

use super::figures::Figures;
use super::handshake::{self, Shaken};
use super::{Peer, Site, Sites};
use crate::clock;
use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::warn;

/// Connections at once. Each is an open file, of those that are kept back for such things.
pub(super) const CONNECTIONS_MAX: usize = 128;
/// How long a connection may wait for a request, or be about to send its head. Longer than the
/// usual intervals of scrapes, so that scrapers keep their connections.
const IDLE: Duration = Duration::from_secs(120);
/// How long a request may go on that was under way when what let its connection in ceased to hold.
const LAST_ANSWER_PATIENCE: Duration = Duration::from_secs(120);
/// After a failure to accept that is not about one connection, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves for ever.
pub(crate) async fn serve(listener: TcpListener, router: Router, sites: Arc<Sites>) {
    let mut places = Places::default();
    loop {
        let (socket, address) = accept(&listener).await;
        places.make_room(&sites.figures).await;
        let place = Arc::new(Place::new(&places.freed));
        let (router, sites) = (router.clone(), sites.clone());
        let task = tokio::spawn(connection(socket, address, router, sites, place.clone()));
        places.taken.push((place, task));
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                let of_one = [ConnectionAborted, ConnectionRefused, ConnectionReset];
                if !of_one.contains(&error.kind()) {
                    warn!(%error, "cannot take a connection of the API; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// All connections.
#[derive(Default)]
struct Places {
    taken: Vec<(Arc<Place>, JoinHandle<()>)>,
    /// Told when a connection ends or is idle.
    freed: Arc<Notify>,
}

/// How one connection is doing.
struct Place {
    requests: AtomicU64,
    /// When its last request ended, else when it began.
    idle_since_ms: AtomicU64,
    freed: Arc<Notify>,
}

impl Place {
    fn new(freed: &Arc<Notify>) -> Self {
        Self {
            requests: AtomicU64::new(0),
            idle_since_ms: AtomicU64::new(clock::monotonic_ms()),
            freed: freed.clone(),
        }
    }

    /// `None`: it is busy.
    fn idle_since_ms(&self) -> Option<u64> {
        let is_idle = self.requests.load(Ordering::Relaxed) == 0;
        is_idle.then(|| self.idle_since_ms.load(Ordering::Relaxed))
    }
}

/// A request under way.
struct Busy(Arc<Place>);

impl Busy {
    fn new(place: &Arc<Place>) -> Self {
        place.requests.fetch_add(1, Ordering::Relaxed);
        Self(place.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let now_ms = clock::monotonic_ms();
        self.0.idle_since_ms.store(now_ms, Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_one();
    }
}

impl Places {
    async fn make_room(&mut self, figures: &Figures) {
        loop {
            self.taken.retain(|(_, task)| !task.is_finished());
            if self.taken.len() < CONNECTIONS_MAX {
                return;
            }
            let idle = self.taken.iter().enumerate();
            let idle = idle.filter_map(|(index, (place, _))| Some((place.idle_since_ms()?, index)));
            if let Some((_, index)) = idle.min() {
                // In order of age: of those that are idle since the same moment the oldest goes.
                let (_, task) = self.taken.remove(index);
                task.abort();
                Figures::add(&figures.evicted);
                return;
            }
            self.freed.notified().await;
        }
    }
}

/// Counts a connection as long as it lives.
struct Open<'a>(&'a AtomicU64, &'a Notify);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        self.1.notify_one();
    }
}

async fn connection(
    socket: TcpStream,
    address: SocketAddr,
    router: Router,
    sites: Arc<Sites>,
    place: Arc<Place>,
) {
    Figures::add(&sites.figures.connections);
    let _open = Open(&sites.figures.connections, &place.freed);
    // Only a matter of latency.
    let _ = socket.set_nodelay(true);
    let mut changes = sites.watch();
    let site = changes.borrow_and_update().clone();
    let mut peer = Peer {
        address,
        certificate: None,
    };
    let Some(acceptor) = &site.tls else {
        return talk(socket, peer, router, &place, changes, LAST_ANSWER_PATIENCE).await;
    };
    let shaken = handshake::shake(socket, address, acceptor, &sites.figures).await;
    if let Some(Shaken {
        stream,
        certificate,
    }) = shaken
    {
        peer.certificate = certificate;
        talk(stream, peer, router, &place, changes, LAST_ANSWER_PATIENCE).await;
    }
}

/// Answers requests until the client has no more, or what it was let in by does not hold any more.
async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    place: &Arc<Place>,
    mut changes: watch::Receiver<Arc<Site>>,
    last_answer_patience: Duration,
) {
    let expires_s = peer.certificate.as_ref().map(|own| own.expires_s);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let busy = Busy::new(place);
        let answer = TowerToHyperService::new(router.clone()).call(request);
        async move {
            let answer = answer.await;
            drop(busy);
            answer
        }
    });
    let talking = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service);
    let mut talking = pin!(talking);
    let ended = async {
        tokio::select! {
            changed = changes.changed() => drop(changed),
            () = until(expires_s) => {}
        }
    };
    tokio::select! {
        // How a connection ends is up to the client.
        _ = talking.as_mut() => return,
        () = ended => {}
    }
    talking.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(last_answer_patience, talking).await;
}

async fn until(expires_s: Option<i64>) {
    match expires_s {
        Some(expires_s) => {
            let left_s = expires_s.saturating_sub(clock::now_ms() / 1_000);
            let left_s = u64::try_from(left_s).unwrap_or(0);
            tokio::time::sleep(Duration::from_secs(left_s.saturating_add(1))).await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn an_answer_without_end_does_not_outlive_what_let_it_in() {
        let (mut client, server) = tokio::io::duplex(1_024);
        let (asked, mut is_asked) = mpsc::channel(1);
        let answer = || async move {
            asked.send(()).await.unwrap();
            std::future::pending::<&str>().await
        };
        let router = Router::new().route("/", get(answer));
        let (site, changes) = watch::channel(Arc::default());
        let peer = Peer {
            address: "127.0.0.1:1".parse().unwrap(),
            certificate: None,
        };
        let place = Arc::new(Place::new(&Arc::default()));
        let patience = Duration::from_millis(10);
        tokio::spawn(async move { talk(server, peer, router, &place, changes, patience).await });
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        client.write_all(request).await.unwrap();
        is_asked.recv().await.unwrap();
        site.send_replace(Arc::default());
        let end = tokio::time::timeout(Duration::from_secs(30), client.read_u8()).await;
        assert!(end.expect("the connection ends").is_err());
    }
}
