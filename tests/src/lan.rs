//! A number of hosts -> namespaces on one link whose losses, delays and cuts a test decides.
//!
//! Each host is a namespace with one TUN device; a thread of the test passes the packets between
//! them, or does not. Nothing leaves the namespaces. Needs the right to make namespaces (root).

use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Largest packet passed on, bytes; the devices' MTU is below it.
const PACKET_BYTES_MAX: usize = 2048;
/// How long the thread sleeps at most before it looks whether the link is gone.
const POLL_MS: i32 = 20;

/// What happens to the packets from one host to another.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wire {
    /// Share that is lost, 0 to 1.
    pub loss: f64,
    /// How much later the others arrive.
    pub delay: Duration,
}

impl Wire {
    /// Nothing passes.
    pub const CUT: Self = Self {
        loss: 1.0,
        delay: Duration::ZERO,
    };
}

/// From one host to another.
#[derive(Debug, Clone, Copy)]
struct Path {
    wire: Wire,
    packet_bytes_max: usize,
}

/// Namespaces on one link. Dropping it removes them.
#[derive(Debug)]
pub struct Lan {
    names: Vec<String>,
    paths: Arc<Mutex<Vec<Vec<Path>>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lan {
    /// `hosts` namespaces that reach each other without loss or delay.
    ///
    /// # Errors
    /// If namespaces or devices cannot be made here; the text says what failed.
    pub fn new(hosts: usize) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        let path = Path {
            wire: Wire::default(),
            packet_bytes_max: usize::MAX,
        };
        let mut lan = Self {
            names: Vec::new(),
            paths: Arc::new(Mutex::new(vec![vec![path; hosts]; hosts])),
            ended: Arc::new(AtomicBool::new(false)),
            thread: None,
        };
        let mut devices = Vec::new();
        for host in 0..hosts {
            let name = format!("ringscrape-{id}-{number}-{host}");
            ip(&["netns", "add", &name])?;
            // From here on it is removed when `lan` is dropped.
            lan.names.push(name.clone());
            devices.push(lan.within(host, || open_device(&name))??);
        }
        let (paths, ended) = (Arc::clone(&lan.paths), Arc::clone(&lan.ended));
        let thread = std::thread::Builder::new()
            .name("lan".into())
            .spawn(move || pass_packets(devices, &paths, &ended))?;
        lan.thread = Some(thread);
        Ok(lan)
    }

    /// Address of a host.
    pub fn address(&self, host: usize) -> Ipv4Addr {
        address_of(host)
    }

    /// What happens from now on to packets from `from` to `to`.
    pub fn set_path(&self, from: usize, to: usize, path: Wire) {
        if let Ok(mut paths) = self.paths.lock() {
            paths[from][to].wire = path;
        }
    }

    /// From now on packets from `from` to `to` that are larger are lost, and nobody is told: a
    /// short question passes, and a long answer does not.
    pub fn set_packet_bytes_max(&self, from: usize, to: usize, bytes: usize) {
        if let Ok(mut paths) = self.paths.lock() {
            paths[from][to].packet_bytes_max = bytes;
        }
    }

    /// The same in both directions, for each pair of a host of `some` and one of `others`.
    pub fn set_between(&self, some: &[usize], others: &[usize], path: Wire) {
        for &from in some {
            for &to in others.iter().filter(|to| **to != from) {
                self.set_path(from, to, path);
                self.set_path(to, from, path);
            }
        }
    }

    /// Lets the programs that run on a host from now on look names up at an address: they see a
    /// `resolv.conf` of their own.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_resolver(&self, host: usize, server: IpAddr) -> io::Result<()> {
        let dir = self.etc(host);
        std::fs::create_dir_all(&dir)?;
        let text = format!("nameserver {server}\noptions timeout:1 attempts:1\n");
        std::fs::write(dir.join("resolv.conf"), text)
    }

    /// What lies here `ip netns exec` puts over what is in `/etc`.
    fn etc(&self, host: usize) -> PathBuf {
        PathBuf::from("/etc/netns").join(&self.names[host])
    }

    /// A command that runs on a host; its process is the program's own.
    pub fn command(&self, host: usize, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[host]]);
        command.arg(program);
        command
    }

    /// Runs `work` on a host: the sockets that it opens are there.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    ///
    /// # Panics
    /// If `work` does.
    pub fn within<T: Send>(&self, host: usize, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let file = PathBuf::from("/run/netns").join(&self.names[host]);
        std::thread::scope(|scope| {
            let run = || {
                let namespace = File::open(file)?;
                // SAFETY: plain system call; it moves this thread only, which ends soon after.
                let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
                match result {
                    0 => Ok(work()),
                    _ => Err(io::Error::last_os_error()),
                }
            };
            scope
                .spawn(run)
                .join()
                .expect("what runs on a host panicked")
        })
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for (host, name) in self.names.iter().enumerate() {
            let _ = ip(&["netns", "del", name]);
            let _ = std::fs::remove_dir_all(self.etc(host));
        }
    }
}

fn address_of(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host as u8 + 1)
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "ip {}: {reason}",
        arguments.join(" ")
    )))
}

/// Opens the TUN device of the namespace that this thread is in, and sets it up.
fn open_device(name: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lan0") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request lives across the call and has the layout that the call takes.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let host = name
        .rsplit('-')
        .next()
        .and_then(|host| host.parse().ok())
        .unwrap_or(0);
    let address = format!("{}/24", address_of(host));
    ip(&["-n", name, "address", "add", &address, "dev", "lan0"])?;
    ip(&["-n", name, "link", "set", "lan0", "mtu", "1500", "up"])?;
    ip(&["-n", name, "link", "set", "lo", "up"])?;
    Ok(file)
}

/// A packet that arrives later; the earliest is the greatest.
struct Delayed {
    at: Instant,
    number: u64,
    to: usize,
    bytes: Vec<u8>,
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Delayed {}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn pass_packets(mut devices: Vec<File>, paths: &Mutex<Vec<Vec<Path>>>, ended: &AtomicBool) {
    let mut buffer = [0; PACKET_BYTES_MAX];
    let mut delayed = BinaryHeap::<Delayed>::new();
    let mut number = 0_u64;
    let mut polled: Vec<libc::pollfd> = devices
        .iter()
        .map(|device| libc::pollfd {
            fd: device.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    while !ended.load(Ordering::Relaxed) {
        let wait_ms = delayed.peek().map_or(POLL_MS, |first| {
            let wait = first.at.saturating_duration_since(Instant::now());
            (wait.as_micros().div_ceil(1_000) as i32).min(POLL_MS)
        });
        // SAFETY: the array lives across the call and has the length given.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, wait_ms) };
        for from in 0..devices.len() {
            while let Ok(length) = devices[from].read(&mut buffer) {
                let packet = &buffer[..length];
                let Some(to) = destination(packet, devices.len()) else {
                    continue;
                };
                let Ok(path) = paths.lock().map(|paths| paths[from][to]) else {
                    return;
                };
                number += 1;
                if length > path.packet_bytes_max {
                    continue;
                }
                let path = path.wire;
                if path.loss > 0.0 && random(number) < path.loss {
                    continue;
                }
                if path.delay.is_zero() {
                    let _ = devices[to].write(packet);
                } else {
                    delayed.push(Delayed {
                        at: Instant::now() + path.delay,
                        number,
                        to,
                        bytes: packet.to_vec(),
                    });
                }
            }
        }
        while delayed
            .peek()
            .is_some_and(|first| first.at <= Instant::now())
        {
            if let Some(packet) = delayed.pop() {
                let _ = devices[packet.to].write(&packet.bytes);
            }
        }
    }
}

/// The host that an IPv4 packet goes to.
fn destination(packet: &[u8], hosts: usize) -> Option<usize> {
    let is_ipv4 = packet.first()? >> 4 == 4;
    let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    (0..hosts).find(|host| is_ipv4 && address_of(*host).octets() == address)
}

/// From 0 to 1, the same in each run. Source: Steele et al., Fast Splittable Pseudorandom Number
/// Generators, 2014 (SplitMix64).
fn random(number: u64) -> f64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    /// Sends 100 datagrams from host 0 to host 1 and counts those that arrive.
    fn arrive(lan: &Lan) -> usize {
        arrive_of(lan, 1)
    }

    /// The same with datagrams of so many bytes.
    fn arrive_of(lan: &Lan, bytes: usize) -> usize {
        let to = (lan.address(1), 9_000);
        let receiver = lan.within(1, || UdpSocket::bind(to)).unwrap().unwrap();
        let sender = lan.within(0, || UdpSocket::bind((lan.address(0), 0)));
        let sender = sender.unwrap().unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        for _ in 0..100 {
            sender.send_to(&vec![b'x'; bytes], to).unwrap();
        }
        let mut byte = [0];
        (0..100)
            .take_while(|_| receiver.recv(&mut byte).is_ok())
            .count()
    }

    #[test]
    fn packets_pass_are_lost_or_are_cut() {
        let lan = match Lan::new(2) {
            Ok(lan) => lan,
            Err(error) => {
                eprintln!("skipped: no network namespaces here: {error}");
                return;
            }
        };
        assert_eq!(arrive(&lan), 100);
        let path = |loss, delay_ms| Wire {
            loss,
            delay: Duration::from_millis(delay_ms),
        };
        lan.set_path(0, 1, path(0.0, 50));
        let start = Instant::now();
        assert_eq!(arrive(&lan), 100);
        assert!(start.elapsed() >= Duration::from_millis(50));
        lan.set_path(0, 1, path(0.5, 0));
        assert!((20..80).contains(&arrive(&lan)));
        lan.set_path(1, 0, Wire::CUT);
        lan.set_path(0, 1, path(0.0, 0));
        assert_eq!(arrive(&lan), 100, "one way");
        lan.set_packet_bytes_max(0, 1, 500);
        assert_eq!((arrive_of(&lan, 400), arrive_of(&lan, 600)), (100, 0));
        lan.set_packet_bytes_max(0, 1, usize::MAX);
        lan.set_between(&[0], &[1], Wire::CUT);
        assert_eq!(arrive(&lan), 0);
    }
}
