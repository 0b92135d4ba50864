//! A fleet's size and ports -> listeners, target lists and a configuration that scrapes them.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use socket2::{Domain, Socket, Type};

use super::args::FleetArgs;
use crate::error::Error;
use crate::units::prometheus_duration;

/// The sockets of a fleet.
pub(super) struct Listeners {
    pub(super) open: Vec<TcpListener>,
    /// Addresses of `open`, in the same order.
    pub(super) addresses: Vec<SocketAddr>,
    /// Bound but not listening: connections to its port are refused and nobody else can take it.
    pub(super) closed: Option<(Socket, SocketAddr)>,
}

/// Opens the ports that `args` ask for.
pub(super) fn listen(args: &FleetArgs) -> Result<Listeners, Error> {
    let mut open = Vec::new();
    let mut addresses = Vec::new();
    for index in 0..args.ports {
        let port = if args.port == 0 { 0 } else { args.port + index };
        let address = SocketAddr::from((args.listen_ip, port));
        let listener = bind(address, 4096)?;
        addresses.push(
            listener
                .local_addr()
                .map_err(Error::io("read a listener's address"))?,
        );
        open.push(listener);
    }
    let closed = if args.faults.down > 0.0 {
        let fail = |error| Error::io("reserve a port for targets that are down")(error);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(fail)?;
        socket
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .map_err(fail)?;
        let address = socket.local_addr().map_err(fail)?.as_socket();
        address.map(|address| (socket, address))
    } else {
        None
    };
    Ok(Listeners {
        open,
        addresses,
        closed,
    })
}

/// A listener with a backlog that thousands of targets may connect to at once.
pub(crate) fn bind(address: SocketAddr, backlog: i32) -> Result<TcpListener, Error> {
    let make = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        Ok::<TcpListener, std::io::Error>(socket.into())
    };
    make().map_err(Error::io(format!("listen on {address}")))
}

/// The `instance` label of a target: as long as real ones; the sink reads the number back.
pub(crate) fn instance(target: u32) -> String {
    format!("node-{target:06}.fleet.internal:9100")
}

/// The number in an `instance` label of [`instance`], or `None` for any other text.
pub(crate) fn read_instance(label: &str) -> Option<u32> {
    label
        .strip_prefix("node-")?
        .strip_suffix(".fleet.internal:9100")?
        .parse()
        .ok()
}

/// The path that a target is scraped at.
pub(super) fn path(target: u32) -> String {
    format!("/t/{target}/metrics")
}

/// All targets in the JSON that file_sd and http_sd share.
pub(super) fn file_sd(args: &FleetArgs, listeners: &Listeners) -> String {
    let mut out = String::with_capacity(args.targets as usize * 140);
    out.push('[');
    for target in 0..args.targets {
        let address = match &listeners.closed {
            Some((_, closed)) if args.faults.refuses(target) => *closed,
            _ => listeners.addresses[target as usize % listeners.addresses.len()],
        };
        let _ = write!(
            out,
            "{}{{\"targets\":[\"{address}\"],\"labels\":{{\"instance\":\"{}\",\
             \"__metrics_path__\":\"{}\"}}}}",
            if target == 0 { "\n" } else { ",\n" },
            instance(args.first_target + target),
            path(args.first_target + target)
        );
    }
    out.push_str("\n]\n");
    out
}

/// A Prometheus configuration that scrapes the targets in `file_sd` and, with an URL, forwards
/// them.
pub(crate) fn config(args: &FleetArgs, file_sd: &Path, remote_write_url: Option<&str>) -> String {
    let interval = prometheus_duration(args.scrape_interval);
    let mut out = format!(
        "global:\n  scrape_interval: {interval}\n  scrape_timeout: {interval}\n\
         scrape_configs:\n  - job_name: {}\n    file_sd_configs:\n      - files: ['{}']\n",
        args.job,
        file_sd.display()
    );
    if let Some(url) = remote_write_url {
        let _ = write!(out, "remote_write:\n  - url: {url}\n");
    }
    out
}

/// Writes what `--file-sd` and `--write-config` ask for.
pub(super) fn write_files(args: &FleetArgs, list: &str) -> Result<(), Error> {
    let mut list_path = args.file_sd.clone();
    if let Some(path) = &args.write_config {
        // A configuration without a list file gets one beside it.
        let beside = list_path.get_or_insert_with(|| path.with_extension("targets.json"));
        let beside =
            std::path::absolute(beside).map_err(Error::io("find the working directory"))?;
        write(
            path,
            &config(args, &beside, args.remote_write_url.as_deref()),
        )?;
    }
    match list_path {
        Some(path) => write(&path, list),
        None => Ok(()),
    }
}

/// Writes the addresses as JSON; the file appears complete or not at all.
pub(crate) fn write_ready(path: &Path, addresses: &[SocketAddr]) -> Result<(), Error> {
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let text = serde_json::json!({ "addresses": list }).to_string();
    let partial = path.with_extension("partial");
    write(&partial, &text)?;
    fs::rename(&partial, path).map_err(Error::io(format!("write {}", path.display())))
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::io(format!("write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_gives_the_target_back() {
        for target in [0, 7, 999_999, 1_000_000] {
            assert_eq!(read_instance(&instance(target)), Some(target));
        }
        for label in ["", "node-1", "127.0.0.1:9100", "node-x.fleet.internal:9100"] {
            assert_eq!(read_instance(label), None);
        }
    }

    #[test]
    fn lists_are_json_and_refusing_targets_point_to_a_closed_port() {
        let mut args = FleetArgs {
            targets: 50,
            ports: 3,
            ..FleetArgs::default()
        };
        args.faults.down = 50.0;
        let listeners = listen(&args).unwrap();
        let closed = listeners.closed.as_ref().unwrap().1.to_string();
        let list: serde_json::Value = serde_json::from_str(&file_sd(&args, &listeners)).unwrap();
        let list = list.as_array().unwrap();
        assert_eq!(list.len(), 50);
        let refusing = list
            .iter()
            .filter(|group| group["targets"][0] == closed.as_str())
            .count();
        let expected = (0..50)
            .filter(|target| args.faults.refuses(*target))
            .count();
        assert_eq!(refusing, expected);
        assert!(refusing > 0);
        assert!(std::net::TcpStream::connect(&closed).is_err());
    }
}
