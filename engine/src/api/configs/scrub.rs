//! A configuration's text -> the same without its secrets, and two texts -> how they differ.

use super::yaml_text;
use crate::config::yaml::{self, At, Entry, Node, Value};
use similar::TextDiff;
use std::time::Duration;

/// What stands for a secret.
const SECRET: &str = "<secret>";
/// What stands for a secret inside a URL, where brackets are not allowed.
const SECRET_IN_URL: &str = "xxxxx";
/// Words that the key of a secret has.
const SECRET_WORDS: [&str; 9] = [
    "password",
    "passphrase",
    "secret",
    "token",
    "credential",
    "api_key",
    "apikey",
    "private_key",
    "access_key",
];
/// Keys with such a word that hold none.
const OPEN_KEYS: [&str; 1] = ["token_url"];
/// Mappings all of whose values are shown to nobody.
const SECRET_MAPPINGS: [&str; 2] = ["headers", "http_headers"];

/// How long comparing two texts may look for the shortest difference; then any will do.
const DIFF_PATIENCE: Duration = Duration::from_millis(100);
/// Lines around a difference.
const DIFF_CONTEXT_LINES: usize = 3;

/// The YAML of `text` without secrets and comments, under `name` whatever name it gives itself.
///
/// # Errors
/// It is not YAML, or no mapping.
pub(super) fn scrubbed(name: &str, text: &str) -> Result<String, String> {
    let mut tree = tree(name, text)?;
    hide(&mut tree, false);
    Ok(yaml_text::text(&tree))
}

/// How `new` differs from `old`, without what secrets either has.
pub(super) fn difference(name: &str, old: &str, new: &str) -> String {
    let trees = tree(name, old).and_then(|old| Ok((old, tree(name, new)?)));
    let Ok((mut old_tree, mut new_tree)) = trees else {
        return "one of the texts is not YAML\n".to_owned();
    };
    let are_same = yaml_text::text(&old_tree) == yaml_text::text(&new_tree);
    hide(&mut old_tree, false);
    hide(&mut new_tree, false);
    let (old, new) = (yaml_text::text(&old_tree), yaml_text::text(&new_tree));
    match (are_same, old == new) {
        (true, _) => "only comments or layout differ\n".to_owned(),
        (false, true) => "only secrets differ, which are not shown\n".to_owned(),
        (false, false) => TextDiff::configure()
            .timeout(DIFF_PATIENCE)
            .diff_lines(&old, &new)
            .unified_diff()
            .context_radius(DIFF_CONTEXT_LINES)
            .header("stored", "new")
            .to_string(),
    }
}

fn tree(name: &str, text: &str) -> Result<Node, String> {
    let mut tree = yaml::parse(text)
        .map_err(|(at, message)| format!("line {}, column {}: {message}", at.line, at.column))?;
    if matches!(tree.value, Value::Null) {
        tree.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut tree.value else {
        return Err(format!("a config is a mapping, not {}", tree.describe()));
    };
    entries.retain(|entry| entry.key != "name");
    let node = Node {
        at: At::default(),
        value: Value::Text(name.to_owned()),
    };
    let first = Entry {
        key: "name".to_owned(),
        key_at: At::default(),
        node,
    };
    entries.insert(0, first);
    Ok(tree)
}

/// Replaces secrets. `is_secret`: all below is one.
fn hide(node: &mut Node, is_secret: bool) {
    match &mut node.value {
        Value::Null => {}
        // An empty secret is none.
        Value::Text(text) if is_secret && !text.is_empty() => SECRET.clone_into(text),
        Value::Text(text) => {
            if let Some(hidden) = without_credentials(text) {
                *text = hidden;
            }
        }
        Value::List(items) => {
            for item in items {
                hide(item, is_secret);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                let is_key_of_tls =
                    entry.key == "key" && matches!(entry.node.value, Value::Text(_));
                let below = is_secret
                    || is_key_of_tls
                    || is_secret_key(&entry.key)
                    || SECRET_MAPPINGS.contains(&entry.key.as_str());
                hide(&mut entry.node, below);
            }
        }
    }
}

fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let names_file = key.ends_with("_file") || key.ends_with("_files");
    !names_file
        && !OPEN_KEYS.contains(&key.as_str())
        && SECRET_WORDS.iter().any(|word| key.contains(word))
}

/// A URL's text without its password and without query parameters that are secrets; `None`: it has
/// neither.
fn without_credentials(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..authority_end];
    let user_end = authority.rfind('@').or_else(|| {
        // A password with a slash in it is no URL's, but still not to be shown.
        let port = authority.rsplit_once(':')?.1;
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        let path_end = rest.find(['?', '#']).unwrap_or(rest.len());
        (!is_port).then(|| rest[..path_end].rfind('@')).flatten()
    });
    let (user, rest) = match user_end {
        Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
        None => (None, rest),
    };
    let mut hidden = format!("{scheme}://");
    if let Some(user) = user {
        hidden.push_str(match user.split_once(':') {
            Some((user, _)) => user,
            None => user,
        });
        if user.contains(':') {
            hidden.push(':');
            hidden.push_str(SECRET_IN_URL);
        }
        hidden.push('@');
    }
    match rest.split_once('?') {
        None => hidden.push_str(rest),
        Some((path, query)) => {
            let (query, fragment) = match query.split_once('#') {
                Some((query, fragment)) => (query, Some(fragment)),
                None => (query, None),
            };
            hidden.push_str(path);
            let pairs = query.split('&').map(|pair| match pair.split_once('=') {
                Some((name, _)) if is_secret_key(name) => format!("{name}={SECRET_IN_URL}"),
                _ => pair.to_owned(),
            });
            hidden.push('?');
            hidden.push_str(&pairs.collect::<Vec<_>>().join("&"));
            if let Some(fragment) = fragment {
                hidden.push('#');
                hidden.push_str(fragment);
            }
        }
    }
    (hidden != text).then_some(hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_scrubbed_wherever_a_configuration_has_them() {
        let text = "
# password: HUSH
name: other
scrape_configs:
- job_name: a
  basic_auth: {username: admin, password: HUSH}
  authorization: {type: Bearer, credentials: HUSH}
  params: {token: [HUSH], module: [http]}
  static_configs: [{targets: ['127.0.0.1:1'], labels: {cluster: c}}]
  oauth2: {client_id: me, client_secret: HUSH, token_url: 'http://u:HUSH@h/t', \
                    client_secret_file: /run/s}
remote_write:
- url: http://user:HUSH@localhost/push?api_key=HUSH&db=x
  headers: {X-Any: HUSH}
  bearer_token: HUSH
  sigv4: {access_key: HUSH, secret_key: 'HU
    SH'}
  tls_config: {key: HUSH, key_file: /run/k}
  basic_auth: {password: ''}
";
        let shown = scrubbed("exists", text).unwrap();
        let wanted = "\
name: exists
scrape_configs:
- job_name: a
  basic_auth:
    username: admin
    password: <secret>
  authorization:
    type: Bearer
    credentials: <secret>
  params:
    token:
    - <secret>
    module:
    - http
  static_configs:
  - targets:
    - 127.0.0.1:1
    labels:
      cluster: c
  oauth2:
    client_id: me
    client_secret: <secret>
    token_url: \"http://u:xxxxx@h/t\"
    client_secret_file: /run/s
remote_write:
- url: \"http://user:xxxxx@localhost/push?api_key=xxxxx&db=x\"
  headers:
    X-Any: <secret>
  bearer_token: <secret>
  sigv4:
    access_key: <secret>
    secret_key: <secret>
  tls_config:
    key: <secret>
    key_file: /run/k
  basic_auth:
    password: \"\"
";
        assert_eq!(shown, wanted);
    }

    #[test]
    fn only_the_secret_parts_of_a_url_go() {
        for (url, shown) in [
            ("http://u:p@h/", Some("http://u:xxxxx@h/")),
            ("http://u:p@w@h/?a=1", Some("http://u:xxxxx@h/?a=1")),
            ("http://u:p/w@h/x", Some("http://u:xxxxx@h/x")),
            ("http://u@h/", None),
            ("http://h/?token=a#f", Some("http://h/?token=xxxxx#f")),
            ("http://h/?a=b@c", None),
            ("http://h:80/a@b", None),
            ("plain:text@x", None),
        ] {
            assert_eq!(without_credentials(url).as_deref(), shown, "{url}");
        }
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        assert!(scrubbed("a", "[1]").unwrap_err().contains("a mapping"));
        assert!(scrubbed("a", "{").is_err());
        assert_eq!(scrubbed("a", ""), Ok("name: a\n".to_owned()));
    }

    #[test]
    fn differences_show_lines_and_no_secrets() {
        let diff = |old, new| difference("n", old, new);
        assert_eq!(diff("a: 1 # x", "a: 1"), "only comments or layout differ\n");
        let both = diff("password: a", "password: b");
        assert_eq!(both, "only secrets differ, which are not shown\n");
        let lines = diff("a: 1\npassword: a", "a: 2\npassword: b");
        let wanted = "--- stored\n+++ new\n@@ -1,3 +1,3 @@\n name: n\n-a: 1\n+a: 2\n \
                      password: <secret>\n";
        assert_eq!(lines, wanted);
    }
}
