//! A corpus file -> a case: configuration, the bodies of each scrape, expected differences.
//!
//! A file is lines of `# description`, one line of attributes, then sections that begin with
//! `--- KIND [NUMBER] [attribute ...]`:
//!
//! | section | meaning |
//! |---|---|
//! | `job` | keys of the scrape job |
//! | `global` | keys of `global:`; the case gets a process of its own |
//! | `remote_write` | keys of the `remote_write` entry; likewise |
//! | these with `only=ringscrape` or `only=agent` | what the other engine does not get |
//! | `discovery` | file_sd content; each further one replaces the former |
//! | `body N` | what scrape N and later ones get, until the next body |
//! | `difference ID` | lines by which ringscrape differs, explained in DIFFERENCES.md |
//!
//! Attributes of a case: `scrapes=N`, `solo` (own process), `collapsed` (see [`super::compare`]),
//! `ipv6` (needs it), `extra-metrics` (with `solo`: the reference's feature flag). Of a body:
//! `status=N`, `type=TEXT` (`_` stands for a space), `fault=NAME[:NUMBER]`, `chomp` (no last
//! newline), `host=IP`, `path=/SUFFIX`. Tokens in a body: see [`super::script`].

use std::net::IpAddr;
use std::path::Path;

use ringscrape_tests::engine::Engine;

/// Configuration lines, each part for both engines or for one.
pub(crate) type Keys = Vec<(Option<Engine>, String)>;

/// One configuration with its bodies.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// File name without `.case`: job name, first path element and label to attribute by.
    pub(crate) name: String,
    pub(crate) scrapes: u64,
    pub(crate) solo: bool,
    pub(crate) collapsed: bool,
    pub(crate) ipv6: bool,
    pub(crate) extra_metrics: bool,
    pub(crate) job: Keys,
    pub(crate) global: Keys,
    pub(crate) remote_write: Keys,
    pub(crate) discovery: Vec<String>,
    pub(crate) bodies: Vec<Body>,
    pub(crate) differences: Vec<Difference>,
}

/// What a target serves from scrape `from` on.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) from: u64,
    pub(crate) host: Option<IpAddr>,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) fault: (String, u64),
    pub(crate) text: String,
}

/// Lines in which ringscrape may and must differ from the reference.
#[derive(Debug, Clone)]
pub(crate) struct Difference {
    pub(crate) id: String,
    pub(crate) lines: Vec<String>,
}

/// Reads every `*.case` of a folder, sorted by name.
///
/// # Panics
/// If a file is malformed, with file and line.
pub(crate) fn read_corpus(folder: &Path) -> Vec<Case> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", folder.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "case"))
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            let name = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default();
            let text = std::fs::read_to_string(path)
                .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
            parse(name, &text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect()
}

/// Reads one case.
///
/// # Errors
/// Line number and fault.
pub(crate) fn parse(name: &str, text: &str) -> Result<Case, String> {
    let mut case = Case {
        name: name.to_owned(),
        scrapes: 0,
        solo: false,
        collapsed: false,
        ipv6: false,
        extra_metrics: false,
        job: Vec::new(),
        global: Vec::new(),
        remote_write: Vec::new(),
        discovery: Vec::new(),
        bodies: Vec::new(),
        differences: Vec::new(),
    };
    let mut section: Option<(usize, &str)> = None;
    let mut content = String::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if let Some(head) = line.strip_prefix("--- ") {
            if let Some((at, head)) = section.replace((index + 1, head.trim_end())) {
                case.add(head, &content)
                    .map_err(|error| format!("line {at}: {error}"))?;
            }
            content.clear();
        } else if section.is_some() {
            content.push_str(line);
        } else if !line.starts_with('#') {
            case.attributes(line)
                .map_err(|error| format!("line {}: {error}", index + 1))?;
        }
    }
    if let Some((at, head)) = section {
        case.add(head, &content)
            .map_err(|error| format!("line {at}: {error}"))?;
    }
    if !text.starts_with("# ") {
        return Err("the first line describes the case: `# …`".to_owned());
    }
    let last = case
        .bodies
        .iter()
        .map(|body| body.from)
        .max()
        .ok_or("no body")?;
    case.scrapes = case.scrapes.max(last);
    case.solo |= !case.global.is_empty() || !case.remote_write.is_empty();
    Ok(case)
}

impl Case {
    /// The body of scrape `number` of the target at `host` whose path ends in `path`.
    pub(crate) fn body(&self, host: IpAddr, path: &str, number: u64) -> Option<&Body> {
        let pick = |wanted: Option<IpAddr>| {
            self.bodies
                .iter()
                .filter(|body| body.host == wanted && body.path == path && body.from <= number)
                .max_by_key(|body| body.from)
        };
        pick(Some(host)).or_else(|| pick(None))
    }

    /// Whether the job's own text (for any engine) sets `key`.
    pub(crate) fn sets(&self, key: &str) -> bool {
        self.job
            .iter()
            .any(|(_, text)| text.lines().any(|line| line.starts_with(key)))
    }

    fn attributes(&mut self, line: &str) -> Result<(), String> {
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some(("scrapes", number)) => self.scrapes = parse_number(number)?,
                None if word == "solo" => self.solo = true,
                None if word == "collapsed" => self.collapsed = true,
                None if word == "ipv6" => self.ipv6 = true,
                None if word == "extra-metrics" => self.extra_metrics = true,
                _ => return Err(format!("unknown attribute {word:?}")),
            }
        }
        Ok(())
    }

    fn add(&mut self, head: &str, content: &str) -> Result<(), String> {
        let mut words = head.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        match (kind, words.as_slice()) {
            ("job", only) => self.job.push((parse_only(only)?, content.to_owned())),
            ("global", only) => self.global.push((parse_only(only)?, content.to_owned())),
            ("remote_write", only) => {
                self.remote_write
                    .push((parse_only(only)?, content.to_owned()));
            }
            ("discovery", []) => self.discovery.push(content.to_owned()),
            ("difference", [id]) => self.differences.push(Difference {
                id: (*id).to_owned(),
                lines: content
                    .lines()
                    .filter(|l| !l.is_empty())
                    .map(str::to_owned)
                    .collect(),
            }),
            ("body", [number, attributes @ ..]) => {
                self.bodies
                    .push(parse_body(parse_number(number)?, attributes, content)?);
            }
            _ => return Err(format!("unknown section {head:?}")),
        }
        Ok(())
    }
}

fn parse_only(words: &[&str]) -> Result<Option<Engine>, String> {
    match words {
        [] => Ok(None),
        ["only=ringscrape"] => Ok(Some(Engine::Ringscrape)),
        ["only=agent"] => Ok(Some(Engine::Agent)),
        _ => Err(format!("unknown attributes {words:?}")),
    }
}

fn parse_body(from: u64, attributes: &[&str], content: &str) -> Result<Body, String> {
    let mut body = Body {
        from,
        host: None,
        path: String::new(),
        status: 200,
        content_type: "text/plain; version=0.0.4".to_owned(),
        fault: (String::new(), 0),
        text: content.to_owned(),
    };
    for word in attributes {
        match word.split_once('=').unwrap_or((word, "")) {
            ("status", number) => body.status = parse_number(number)?,
            ("type", text) => body.content_type = text.replace('_', " "),
            ("host", host) => body.host = Some(host.parse().map_err(|e| format!("{host}: {e}"))?),
            ("path", path) => path.clone_into(&mut body.path),
            ("fault", fault) => {
                let (name, number) = fault.split_once(':').unwrap_or((fault, "0"));
                body.fault = (name.to_owned(), parse_number(number)?);
            }
            ("chomp", "") => {
                body.text.pop();
            }
            _ => return Err(format!("unknown attribute {word:?}")),
        }
    }
    Ok(body)
}

fn parse_number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not a number: {text:?}"))
}
