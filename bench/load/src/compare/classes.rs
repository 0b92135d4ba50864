//! The call stack of one moment -> which part of an agent's work it belongs to.
//!
//! The table below is all there is to it; a sample belongs to its leaf function, in the kernel to
//! what the kernel was called for. Stacks of user code are not walked: release builds have no frame
//! pointers.

/// A part of the work; the order is that of the table shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Network,
    Kernel,
    Inflate,
    Match,
    Log,
    Encode,
    Compress,
    Fetch,
    Send,
    Executor,
    Memory,
    Other,
}

impl Class {
    /// All of them; a class's place here is its number.
    pub(super) const ALL: [Class; 12] = [
        Class::Network,
        Class::Kernel,
        Class::Inflate,
        Class::Match,
        Class::Log,
        Class::Encode,
        Class::Compress,
        Class::Fetch,
        Class::Send,
        Class::Executor,
        Class::Memory,
        Class::Other,
    ];

    /// As people read it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Class::Network => "kernel: network",
            Class::Kernel => "kernel: wake-ups, ring, files",
            Class::Inflate => "inflate",
            Class::Match => "match and parse",
            Class::Log => "log",
            Class::Encode => "encode",
            Class::Compress => "compress",
            Class::Fetch => "HTTP of scrapes, schedule",
            Class::Send => "HTTP of remote write, control thread",
            Class::Executor => "executor",
            Class::Memory => "allocator, memcpy",
            Class::Other => "other",
        }
    }
}

/// Beginnings of kernel functions that only network calls have on their stack.
const NETWORK: &[&str] = &[
    "tcp_",
    "__tcp_",
    "ip_",
    "__ip_",
    "inet_",
    "__inet_",
    "sock_",
    "__sock_",
    "skb_",
    "__skb_",
    "sk_",
    "__sk_",
    "net_rx_",
    "__netif_",
    "__napi",
    "process_backlog",
    "loopback_",
    "__dev_queue_xmit",
    "dev_hard_",
    "io_recv",
    "io_send",
    "io_connect",
    "__sys_send",
    "__sys_recv",
    "___sys_send",
    "___sys_recv",
    "__sys_connect",
    "__x64_sys_send",
    "__x64_sys_recv",
    "__local_bh_enable_ip",
];

/// Beginnings of user functions, without what a trait's function has before the type; the first
/// that fits counts.
const FUNCTIONS: &[(&str, Class)] = &[
    ("zlib_rs::", Class::Inflate),
    ("libdeflate", Class::Inflate),
    ("deflate_decompress", Class::Inflate),
    ("crc32fast::", Class::Inflate),
    ("build_decode_table", Class::Inflate),
    ("crc32_x86", Class::Inflate),
    ("ringscrape_engine::fetch::whole", Class::Inflate),
    ("ringscrape_engine::fetch::inflate", Class::Inflate),
    ("snap::", Class::Compress),
    ("zstd", Class::Compress),
    ("ZSTD_", Class::Compress),
    ("HUF_", Class::Compress),
    ("FSE_", Class::Compress),
    ("HIST_", Class::Compress),
    ("ringscrape_engine::remote_write::zstd", Class::Compress),
    ("ringscrape_engine::remote_write::snappy", Class::Compress),
    ("ringscrape_engine::parse", Class::Match),
    ("ringscrape_engine::matcher", Class::Match),
    ("ringscrape_engine::scrape", Class::Match),
    ("ringscrape_engine::relabel", Class::Match),
    ("ringscrape_engine::labels", Class::Match),
    ("core::num::dec2flt", Class::Match),
    ("memchr::", Class::Match),
    ("__memcmp", Class::Match),
    ("ringscrape_wal::", Class::Log),
    ("ringscrape_engine::log", Class::Log),
    ("crc32c::", Class::Log),
    ("ringscrape_engine::remote_write::encode", Class::Encode),
    ("ringscrape_engine::remote_write::fill", Class::Encode),
    ("ringscrape_engine::remote_write::construct", Class::Encode),
    ("ringscrape_engine::remote_write::edits", Class::Encode),
    ("ringscrape_engine::remote_write::places", Class::Encode),
    ("ringscrape_engine::remote_write::record", Class::Encode),
    ("ringscrape_engine::remote_write::request", Class::Encode),
    ("ringscrape_engine::remote_write::rows", Class::Encode),
    ("ringscrape_engine::remote_write::sink", Class::Encode),
    ("ringscrape_engine::remote_write::wire", Class::Encode),
    ("ringscrape_engine::remote_write::derive", Class::Encode),
    ("ringscrape_engine::remote_write::batch", Class::Encode),
    ("ringscrape_engine::remote_write::from_log", Class::Encode),
    ("ringscrape_engine::remote_write::metadata", Class::Encode),
    ("ringscrape_engine::remote_write", Class::Send),
    ("ringscrape_engine::control", Class::Send),
    ("ringscrape_engine::api", Class::Send),
    ("reqwest::", Class::Send),
    ("hyper", Class::Send),
    ("tokio::", Class::Send),
    ("mio::", Class::Send),
    ("http::", Class::Send),
    ("tower", Class::Send),
    ("ringscrape_engine::fetch", Class::Fetch),
    ("ringscrape_engine::schedule", Class::Fetch),
    ("ringscrape_engine::shard", Class::Fetch),
    ("ringscrape_engine::mailbox", Class::Fetch),
    ("httparse::", Class::Fetch),
    ("glommio::", Class::Executor),
    ("io_uring", Class::Executor),
    ("_io_uring", Class::Executor),
    ("__io_uring", Class::Executor),
    ("__sys_io_uring", Class::Executor),
    ("syscall", Class::Executor),
    ("futures", Class::Executor),
    ("flume::", Class::Executor),
    ("crossbeam", Class::Executor),
    ("scoped_tls::", Class::Executor),
    ("__mem", Class::Memory),
    ("mem", Class::Memory),
    ("malloc", Class::Memory),
    ("free", Class::Memory),
    ("cfree", Class::Memory),
    ("calloc", Class::Memory),
    ("realloc", Class::Memory),
    ("_int_", Class::Memory),
    ("sysmalloc", Class::Memory),
    ("unlink_chunk", Class::Memory),
    ("alloc::", Class::Memory),
    ("__rust_", Class::Memory),
    ("__rdl_", Class::Memory),
];

/// Threads that do the data plane's work have names that begin so; what has no rule in any other
/// thread belongs to the control thread.
const SHARD_THREAD: &str = "shard";

/// One moment of one thread.
#[derive(Debug, Default)]
pub(super) struct Stack<'a> {
    pub(super) thread: &'a str,
    /// Whether the leaf is a function of the kernel.
    pub(super) in_kernel: bool,
    /// Functions from the leaf on.
    pub(super) functions: Vec<&'a str>,
}

/// The class of a moment.
pub(super) fn classify(stack: &Stack<'_>) -> Class {
    let begins = |function: &str, with: &[&str]| with.iter().any(|one| function.starts_with(one));
    if stack.in_kernel {
        let network = stack
            .functions
            .iter()
            .any(|function| begins(function, NETWORK));
        return if network {
            Class::Network
        } else {
            Class::Kernel
        };
    }
    let leaf = stack.functions.first().copied().unwrap_or_default();
    let bare = leaf.trim_start_matches(['<', '&', '*']);
    let rule = FUNCTIONS
        .iter()
        .find(|(beginning, _)| bare.starts_with(beginning));
    match rule {
        Some((_, class)) => *class,
        None if stack.thread.starts_with(SHARD_THREAD) => Class::Other,
        None => Class::Send,
    }
}

/// Reads the output of `perf script -F comm,ip,sym`: per moment a line with the thread, then a line
/// for each function, `address name`, then an empty one.
pub(super) fn stacks(text: &str) -> Vec<Stack<'_>> {
    let mut all: Vec<Stack<'_>> = Vec::new();
    for line in text.lines() {
        if line.trim().is_empty() {
            continue;
        }
        if !line.starts_with([' ', '\t']) {
            all.push(Stack {
                thread: line.trim(),
                ..Stack::default()
            });
        } else if let Some(stack) = all.last_mut() {
            let (address, function) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
            if stack.functions.is_empty() {
                // Addresses of the kernel are in the upper half, printed with all 16 digits.
                stack.in_kernel = address.len() == 16 && address.starts_with("ff");
            }
            stack.functions.push(function);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_their_classes() {
        let text = "\
shard-0-1 \n\t          67ee89 zlib_rs::inflate::inflate_fast_help\n\n\
shard-0-1 \n\tffffffff81b47cf4 __check_object_size\n\tffffffff81b4834f tcp_recvmsg\n\n\
shard-0-1 \n\tffffffff81b47cf4 finish_task_switch.isra.0\n\tffffffff81b4834f __schedule\n\n\
shard-0-1 \n\t            10 <glommio::sys::source::Source as core::ops::drop::Drop>::drop\n\n\
shard-0-1 \n\t            10 ringscrape_engine::remote_write::encode::Writer::part\n\n\
shard-0-1 \n\t            10 ringscrape_engine::remote_write::queue::ShardQueue::stats\n\n\
shard-0-1 \n\t            10 ringscrape_engine::fetch::fetcher::Fetcher<D>::poll\n\n\
shard-0-1 \n\t            10 __memmove_avx512_unaligned_erms\n\n\
shard-0-1 \n\t            10 __memcmp_evex_movbe\n\n\
shard-0-1 \n\t            10 core::ops::function::FnOnce::call_once\n\n\
ringscrape \n\t            10 core::ops::function::FnOnce::call_once\n\n\
shard-0-1 \n";
        let classes: Vec<Class> = stacks(text).iter().map(classify).collect();
        assert_eq!(
            classes,
            [
                Class::Inflate,
                Class::Network,
                Class::Kernel,
                Class::Executor,
                Class::Encode,
                Class::Send,
                Class::Fetch,
                Class::Memory,
                Class::Match,
                Class::Other,
                Class::Send,
                Class::Other,
            ]
        );
    }

    #[test]
    fn no_rule_is_hidden_by_one_before_it() {
        for (place, (beginning, _)) in FUNCTIONS.iter().enumerate() {
            let before = FUNCTIONS[..place]
                .iter()
                .find(|(earlier, _)| beginning.starts_with(earlier));
            assert_eq!(before, None, "{beginning}");
        }
        for (place, class) in Class::ALL.iter().enumerate() {
            assert_eq!(*class as usize, place);
        }
    }
}
