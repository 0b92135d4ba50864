//! A task, a timer and a stream of the executor for each target: the plain way.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;
use glommio::timer::sleep;
use glommio::{LocalExecutorBuilder, Placement, spawn_local};

use super::{Cost, Pace, server, thread_cpu};

const REQUEST: [u8; 300] = [b'x'; 300];
const RING_DEPTH: usize = 2048;
/// Connections made at once.
const CONNECTING_MAX: u32 = 50;

/// Scrapes at `pace`.
pub(crate) fn run(address: SocketAddr, pace: Pace) -> io::Result<Cost> {
    // On this thread, which is pinned already.
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .ring_depth(RING_DEPTH)
        .io_memory(256 << 10)
        .make()
        .map_err(|error| io::Error::other(error.to_string()))?;
    executor.run(scrape(address, pace))
}

async fn scrape(address: SocketAddr, pace: Pace) -> io::Result<Cost> {
    let scrapes = Rc::new(Cell::new(0));
    let mut streams = Vec::new();
    for number in 0..pace.connections {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| io::Error::other(error.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|error| io::Error::other(error.to_string()))?;
        streams.push(stream);
        if number % CONNECTING_MAX == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let (begin, cpu) = (Instant::now(), thread_cpu());
    let interval = Duration::from_secs(1) / pace.per_second;
    let tasks: Vec<_> = (0..)
        .zip(streams)
        .map(|(number, stream)| {
            let scrapes = Rc::clone(&scrapes);
            let first = interval * number;
            let period = interval * pace.connections;
            spawn_local(async move {
                target(stream, begin, first, period, pace.duration, &scrapes).await
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    Ok(Cost {
        cpu: thread_cpu() - cpu,
        scrapes: scrapes.get(),
    })
}

/// Scrapes one target every `period`, from `first` on, for `duration` altogether.
async fn target(
    mut stream: TcpStream,
    begin: Instant,
    first: Duration,
    period: Duration,
    duration: Duration,
    scrapes: &Cell<u32>,
) -> io::Result<()> {
    let response_bytes = server::response().len();
    let mut due = first;
    while due < duration {
        sleep(due.saturating_sub(begin.elapsed())).await;
        due += period;
        stream.write_all(&REQUEST).await?;
        let mut buffer = vec![0; 16 * 1024];
        let mut received = 0;
        while received < response_bytes {
            received += match stream.read(&mut buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => bytes,
            };
        }
        scrapes.set(scrapes.get() + 1);
    }
    Ok(())
}
