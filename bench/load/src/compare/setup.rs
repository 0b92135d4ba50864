//! Flags that all runs of agents have -> the agents, a directory for them, and what one run gave.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::agents::{self, Agent};
use crate::error::Error;
use crate::{output, sys};

/// The agents of `--agent`, each with its version; without such a flag the built-in ones, of which
/// those that are not installed are left out if `may_lack` says so.
///
/// # Errors
/// A flag is none of the forms; a program is not there.
pub(super) fn agents(
    flags: &[String],
    versions: &[String],
    may_lack: bool,
) -> Result<Vec<Agent>, Error> {
    let mut chosen = Vec::new();
    for mut agent in agents::select(flags)? {
        match agent.identify(versions) {
            Ok(()) => chosen.push(agent),
            // What nobody asked for need not be there.
            Err(_) if may_lack && flags.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(chosen)
}

/// Where agents have their data.
pub(super) struct Place {
    dir: PathBuf,
    /// Goes with it.
    _temporary: Option<TempDir>,
}

impl Place {
    /// The directory of `--dir`, or a temporary one.
    ///
    /// # Errors
    /// None can be made.
    pub(super) fn new(dir: Option<&Path>) -> Result<Place, Error> {
        let temporary = match dir {
            Some(_) => None,
            None => Some(tempfile::tempdir().map_err(Error::io("create a temporary directory"))?),
        };
        let made = temporary.as_ref().map(TempDir::path);
        Ok(Place {
            dir: dir.or(made).unwrap_or(Path::new(".")).to_owned(),
            _temporary: temporary,
        })
    }

    /// The directory of one run.
    pub(super) fn of(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// What a run gave, or what `failed` makes of a complaint: what one agent does wrong costs the
/// figures of no other one.
///
/// # Errors
/// What is not the agent's fault; a signal has come.
pub(super) fn outcome<T>(
    run: Result<T, Error>,
    failed: impl FnOnce(String) -> T,
) -> Result<T, Error> {
    if sys::signalled() {
        let text = "stopped before all agents had their turn";
        return Err(Error::Child(text.into()));
    }
    match run {
        Err(Error::Child(complaint)) => {
            output::note(&complaint);
            Ok(failed(complaint))
        }
        run => run,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_asked_for_must_be_there() {
        let flags = ["x=/nowhere/prometheus".to_owned()];
        assert!(agents(&flags, &[], true).is_err());
        assert!(agents(&["x".to_owned()], &[], true).is_err());
    }

    #[test]
    fn a_temporary_place_goes_and_a_named_one_stays() {
        let place = Place::new(None).unwrap();
        let dir = place.of("x").parent().unwrap().to_owned();
        assert!(dir.exists());
        drop(place);
        assert!(!dir.exists());
        let named = tempfile::tempdir().unwrap();
        let place = Place::new(Some(named.path())).unwrap();
        assert_eq!(place.of("x"), named.path().join("x"));
        drop(place);
        assert!(named.path().exists());
    }

    #[test]
    fn an_agents_fault_is_a_finding_and_another_one_an_error() {
        let failed = |complaint: String| format!("failed: {complaint}");
        let outcome = |run| outcome(run, failed).map_err(|error| error.to_string());
        assert_eq!(outcome(Ok("fine".into())), Ok("fine".into()));
        let fault = Err(Error::Child("it died".into()));
        assert_eq!(outcome(fault), Ok("failed: it died".into()));
        let other = Err(Error::Invalid("no port".into()));
        assert_eq!(outcome(other), Err("no port".into()));
    }
}
