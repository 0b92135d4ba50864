//! A command -> its success, its output, or its output passed on line by line.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Prints one line; a reader that went away is no error.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// The cargo that runs this, in the root of the workspace.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(arguments);
    command
}

/// Runs a command with its output shown; what went wrong as complaints.
pub(crate) fn shown(command: &mut Command) -> Vec<String> {
    say(&format!("$ {}", text_of(command)));
    match command.status() {
        Ok(status) if status.success() => Vec::new(),
        Ok(status) => vec![format!("ended with {status}")],
        Err(error) => vec![format!("cannot start: {error}")],
    }
}

/// Runs a command and gives its standard output.
///
/// # Errors
/// When it cannot start or fails; its error output is in the text.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("cannot start {}: {error}", text_of(command)))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let reason = String::from_utf8_lossy(&output.stderr);
        Err(format!("{} failed: {}", text_of(command), reason.trim()))
    }
}

/// Runs a command, shows its standard output and hands each line on. True if it succeeded.
pub(crate) fn each_line(command: &mut Command, mut take: impl FnMut(&str)) -> bool {
    say(&format!("$ {}", text_of(command)));
    let Ok(mut child) = command.stdout(Stdio::piped()).spawn() else {
        return false;
    };
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            say(&line);
            take(&line);
        }
    }
    child.wait().is_ok_and(|status| status.success())
}

fn text_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let words = command.get_args().map(|word| word.to_string_lossy());
    words.fold(name.into_owned(), |text, word| format!("{text} {word}"))
}
