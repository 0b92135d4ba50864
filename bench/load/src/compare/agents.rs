//! A name or a template -> the command line that runs one agent.

use std::path::{Path, PathBuf};

use super::machine;
use crate::error::Error;

/// An agent that can be measured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Agent {
    pub(super) name: String,
    /// What it says it is, once it was asked.
    pub(super) version: String,
    program: PathBuf,
    arguments: Vec<String>,
}

/// What the placeholders of a template stand for.
pub(super) struct Places {
    pub(super) config: String,
    pub(super) scrape_config: String,
    pub(super) remote_write_url: String,
    pub(super) data_dir: String,
    pub(super) listen: String,
}

const RINGSCRAPE: &str =
    "run --config.file={config} --storage.path={data_dir} --web.listen-address={listen}";
const PROMETHEUS: &str = "{agent_mode} --config.file={config} --storage.agent.path={data_dir} \
    --web.listen-address={listen}";
// Bodies above 16 MiB are refused by default; the scenario with 100,000 series needs more.
const VMAGENT: &str = "-promscrape.config={scrape_config} \
    -remoteWrite.url={remote_write_url} -remoteWrite.tmpDataPath={data_dir} \
    -httpListenAddr={listen} -promscrape.maxScrapeSize=268435456";

/// Reads the `--agent` flags; none is all three built-in ones.
///
/// # Errors
/// `Invalid` naming the flag that is none of the forms.
pub(super) fn select(flags: &[String]) -> Result<Vec<Agent>, Error> {
    if flags.is_empty() {
        return ["ringscrape", "prometheus", "vmagent"]
            .into_iter()
            .map(read)
            .collect();
    }
    flags.iter().map(|flag| read(flag)).collect()
}

fn read(flag: &str) -> Result<Agent, Error> {
    let agent = |name: &str, program: &Path, arguments: &str| Agent {
        name: name.to_owned(),
        version: String::new(),
        program: program.to_owned(),
        arguments: arguments.split_whitespace().map(str::to_owned).collect(),
    };
    if flag == "ringscrape" {
        let program = std::env::current_exe().map_err(Error::io("find this program"))?;
        return Ok(agent(flag, &program, RINGSCRAPE));
    }
    let invalid = || {
        Error::Invalid(format!(
            "--agent `{flag}` is neither ringscrape, prometheus or vmagent, nor NAME=PROGRAM with \
             the path of one of these, nor NAME=COMMAND"
        ))
    };
    let (name, command) = flag.split_once('=').unwrap_or((flag, flag));
    let is_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(invalid());
    }
    let command = command.trim();
    let (program, arguments) = command
        .split_once(char::is_whitespace)
        .unwrap_or((command, ""));
    let program = Path::new(program);
    if !arguments.is_empty() {
        return Ok(agent(name, program, arguments));
    }
    let arguments = built_in(program).ok_or_else(invalid)?;
    Ok(agent(name, program, arguments))
}

/// The arguments for a program whose command line is known.
fn built_in(program: &Path) -> Option<&'static str> {
    match program.file_name()?.to_str()? {
        "ringscrape" => Some(RINGSCRAPE),
        "prometheus" => Some(PROMETHEUS),
        "vmagent" => Some(VMAGENT),
        _ => None,
    }
}

impl Agent {
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Asks a known program for its version, unless `told` has a NAME=VERSION for it.
    ///
    /// # Errors
    /// `Io` naming the program: not found, not executable.
    pub(super) fn identify(&mut self, told: &[String]) -> Result<(), Error> {
        let mut told = told.iter().filter_map(|told| told.split_once('='));
        let told = told.rfind(|(name, _)| *name == self.name);
        self.version = match told {
            Some((_, version)) => version.to_owned(),
            // Another program may do anything when asked.
            None if built_in(&self.program).is_none() => String::new(),
            None => machine::version(&self.program)
                .map_err(Error::io(format!("start {}", self.program.display())))?,
        };
        Ok(())
    }

    /// Prometheus' flag for its agent mode was renamed in version 3.
    fn agent_mode(&self) -> &'static str {
        let major = self.version.split('.').next().unwrap_or_default();
        if major.parse().is_ok_and(|major: u32| major >= 3) {
            "--agent"
        } else {
            "--enable-feature=agent"
        }
    }

    /// The command line without the paths and addresses of this run.
    pub(super) fn command(&self) -> String {
        let program = self.program.file_name().unwrap_or_default();
        let mut text = program.to_string_lossy().into_owned();
        for word in &self.arguments {
            text.push(' ');
            text.push_str(&word.replace("{agent_mode}", self.agent_mode()));
        }
        text
    }

    /// The arguments with their placeholders filled in.
    pub(super) fn arguments(&self, places: &Places) -> Vec<String> {
        let fill = |word: &String| {
            word.replace("{agent_mode}", self.agent_mode())
                .replace("{config}", &places.config)
                .replace("{scrape_config}", &places.scrape_config)
                .replace("{remote_write_url}", &places.remote_write_url)
                .replace("{data_dir}", &places.data_dir)
                .replace("{listen}", &places.listen)
        };
        self.arguments.iter().map(fill).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_and_own() {
        let names: Vec<_> = select(&[])
            .unwrap()
            .into_iter()
            .map(|agent| agent.name)
            .collect();
        assert_eq!(names, ["ringscrape", "prometheus", "vmagent"]);
        let own = &select(&["x=/bin/x --a={config} -l {listen}".into()]).unwrap()[0];
        let places = Places {
            config: "C".into(),
            scrape_config: "S".into(),
            remote_write_url: "U".into(),
            data_dir: "D".into(),
            listen: "L".into(),
        };
        assert_eq!(own.arguments(&places), ["--a=C", "-l", "L"]);
        for flag in ["other", "=x", "x=", "a/b=x", "x=/bin/true", "=vmagent"] {
            assert!(select(&[flag.into()]).is_err(), "{flag}");
        }
    }

    #[test]
    fn programs_elsewhere_have_the_built_in_arguments() {
        let mut agents = select(&["new=/x/prometheus".into(), "prometheus".into()]).unwrap();
        let told = ["new=3.5.0".to_owned(), "prometheus=2.42.0".to_owned()];
        for agent in &mut agents {
            agent.identify(&told).unwrap();
        }
        assert!(agents[0].identify(&[]).is_err(), "it is not there");
        assert_eq!(agents[0].program(), Path::new("/x/prometheus"));
        let arguments =
            |mode: &str| format!("prometheus {}", PROMETHEUS.replace("{agent_mode}", mode));
        assert_eq!(agents[0].command(), arguments("--agent"));
        assert_eq!(agents[1].command(), arguments("--enable-feature=agent"));
    }
}
