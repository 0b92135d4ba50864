//! One send and as many recv as it takes for each scrape, and nothing else: the bound.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Cost, Pace, server, thread_cpu};

/// As long as the head that the other ways send.
const REQUEST: [u8; 300] = [b'x'; 300];
/// Connections that are sent to and then received from together, so that what waiting costs is
/// shared.
const TOGETHER: u32 = 50;

/// The bound at any pace.
pub(crate) fn run(address: SocketAddr, pace: Pace) -> io::Result<Cost> {
    let response_bytes = server::response().len();
    let count = pace.connections.min(TOGETHER);
    let mut streams = (0..count)
        .map(|_| {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
        .collect::<io::Result<Vec<_>>>()?;
    let mut buffer = vec![0; 64 * 1024];
    let mut scrapes = 0;
    let (begin, cpu) = (Instant::now(), thread_cpu());
    while begin.elapsed() < pace.duration / 3 {
        for stream in &mut streams {
            stream.write_all(&REQUEST)?;
        }
        // All have arrived by then.
        std::thread::sleep(Duration::from_millis(10));
        for stream in &mut streams {
            let mut received = 0;
            while received < response_bytes {
                received += match stream.read(&mut buffer)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    bytes => bytes,
                };
            }
            scrapes += 1;
        }
    }
    Ok(Cost {
        cpu: thread_cpu() - cpu,
        scrapes,
    })
}
