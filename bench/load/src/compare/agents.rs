//! A name or a template -> the command line that runs one agent.

use std::path::PathBuf;

use crate::error::Error;

/// An agent that can be measured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Agent {
    pub(super) name: String,
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
const PROMETHEUS: &str = "prometheus --enable-feature=agent --config.file={config} \
    --storage.agent.path={data_dir} --web.listen-address={listen}";
// Bodies above 16 MiB are refused by default; the scenario with 100,000 series needs more.
const VMAGENT: &str = "vmagent -promscrape.config={scrape_config} \
    -remoteWrite.url={remote_write_url} -remoteWrite.tmpDataPath={data_dir} \
    -httpListenAddr={listen} -promscrape.maxScrapeSize=268435456";

/// Reads the `--agent` flags; none is all three built-in ones.
///
/// # Errors
/// `Invalid` naming the flag that is neither a known name nor NAME=COMMAND.
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
    match flag {
        "ringscrape" => {
            let program = std::env::current_exe().map_err(Error::io("find this program"))?;
            let arguments = RINGSCRAPE.split_whitespace().map(str::to_owned).collect();
            return Ok(Agent {
                name: flag.into(),
                program,
                arguments,
            });
        }
        "prometheus" => return read(&format!("prometheus={PROMETHEUS}")),
        "vmagent" => return read(&format!("vmagent={VMAGENT}")),
        _ => {}
    }
    let invalid = || {
        Error::Invalid(format!(
            "--agent `{flag}` is neither ringscrape, prometheus or vmagent nor NAME=COMMAND"
        ))
    };
    let (name, command) = flag.split_once('=').ok_or_else(invalid)?;
    let mut words = command.split_whitespace().map(str::to_owned);
    let program = words.next().ok_or_else(invalid)?;
    if name.is_empty()
        || !name
            .chars()
            .all(|c| c.is_alphanumeric() || "-_.".contains(c))
    {
        return Err(invalid());
    }
    Ok(Agent {
        name: name.into(),
        program: program.into(),
        arguments: words.collect(),
    })
}

impl Agent {
    pub(super) fn program(&self) -> &std::path::Path {
        &self.program
    }

    /// The arguments with their placeholders filled in.
    pub(super) fn arguments(&self, places: &Places) -> Vec<String> {
        let fill = |word: &String| {
            word.replace("{config}", &places.config)
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
        for flag in ["other", "=x", "x=", "a/b=x"] {
            assert!(select(&[flag.into()]).is_err(), "{flag}");
        }
    }
}
