//! A filter and a place in the list -> one page of what is stored.

use super::scrub;
use super::view::{ConfigView, ListView};
use crate::service::store::{Configs, StoredConfig};
use std::collections::HashMap;
use std::ops::Bound;

/// Configurations of a page if the request does not say.
const LIMIT_DEFAULT: usize = 1_000;
/// Most configurations of a page.
const LIMIT_MAX: usize = 10_000;
/// Bytes of contents after which a page ends early.
const CONTENT_BYTES_MAX: usize = 16 << 20;
/// The parameters that make a list more than names.
const PARAMETERS: [&str; 8] = [
    "limit",
    "after",
    "prefix",
    "search",
    "managed_by",
    "contents",
    "status",
    "details",
];

/// What somebody wants to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page {
    limit: usize,
    /// The last name of the page before.
    after: Option<String>,
    /// What names begin with.
    prefix: String,
    /// What is in a name or an owner's label, in lower case.
    search: String,
    managed_by: Option<String>,
    /// With texts.
    pub(super) has_contents: bool,
    /// With how they are doing.
    pub(super) has_status: bool,
}

impl Page {
    /// Reads the parameters of a request; `None`: it has none, and gets all names.
    ///
    /// # Errors
    /// Which one is wrong.
    pub(super) fn parse(parameters: &HashMap<String, String>) -> Result<Option<Self>, String> {
        if !PARAMETERS.iter().any(|name| parameters.contains_key(*name)) {
            return Ok(None);
        }
        let limit = match parameters.get("limit") {
            None => LIMIT_DEFAULT,
            Some(text) => match text.parse::<usize>() {
                Ok(limit) if limit > 0 => limit.min(LIMIT_MAX),
                _ => return Err(format!("limit={text:?} is no number above 0")),
            },
        };
        Ok(Some(Self {
            limit,
            after: parameters.get("after").cloned(),
            prefix: parameters.get("prefix").cloned().unwrap_or_default(),
            search: parameters
                .get("search")
                .map(|text| text.to_lowercase())
                .unwrap_or_default(),
            managed_by: parameters.get("managed_by").cloned(),
            has_contents: flag(parameters, "contents")?,
            has_status: flag(parameters, "status")?,
        }))
    }

    fn fits(&self, config: &StoredConfig) -> bool {
        let has = |text: &str| text.to_lowercase().contains(&self.search);
        config.name.starts_with(&self.prefix)
            && (self.search.is_empty() || has(&config.name) || has(&config.origin.managed_by))
            && (self.managed_by.as_ref()).is_none_or(|label| *label == config.origin.managed_by)
    }
}

/// A parameter that is `true` or `false`; not given is false.
pub(super) fn flag(parameters: &HashMap<String, String>, name: &str) -> Result<bool, String> {
    match parameters.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(format!("{name}={other:?} is neither true nor false")),
    }
}

/// All names, as Grafana Agent lists them.
pub(super) fn all_names(configs: &Configs) -> ListView {
    ListView {
        configs: configs
            .by_name
            .keys()
            .map(|name| name.to_string())
            .collect(),
        ..ListView::default()
    }
}

/// One page.
pub(super) fn page(configs: &Configs, page: &Page) -> ListView {
    let fitting = || configs.by_name.values().filter(|config| page.fits(config));
    let from = match &page.after {
        None => Bound::Unbounded,
        Some(after) => Bound::Excluded(after.as_str()),
    };
    let mut rest = (configs.by_name)
        .range::<str, _>((from, Bound::Unbounded))
        .map(|(_, config)| config)
        .filter(|config| page.fits(config))
        .peekable();
    let mut items = Vec::new();
    let mut content_bytes = 0;
    while items.len() < page.limit && content_bytes < CONTENT_BYTES_MAX {
        let Some(config) = rest.next() else { break };
        let item = view(config, page.has_contents);
        content_bytes += item.value.as_ref().map_or(0, String::len);
        items.push(item);
    }
    let last = items.last().map(|item| item.name.clone());
    ListView {
        configs: items.iter().map(|item| item.name.clone()).collect(),
        items: Some(items),
        revision: Some(configs.revision),
        total: Some(fitting().count() as u64),
        next: rest.peek().and(last),
        store_error: None,
    }
}

fn view(config: &StoredConfig, has_contents: bool) -> ConfigView {
    // What another program stored may be no YAML: its status tells why it does not run.
    let text = || scrub::scrubbed(&config.name, &config.text).unwrap_or_default();
    ConfigView {
        name: config.name.to_string(),
        revision: config.revision,
        managed_by: config.origin.managed_by.clone(),
        changed_by: config.origin.changed_by.clone(),
        changed_ms: config.origin.changed_ms,
        bytes: config.text.len() as u64,
        value: has_contents.then(text),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::configs;
    use super::*;

    fn parse(query: &[(&str, &str)]) -> Result<Option<Page>, String> {
        let parameters = query
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        Page::parse(&parameters.collect())
    }

    #[test]
    fn pages_follow_each_other() {
        let mut stored = configs(&[
            ("a", "x"),
            ("b1", "x"),
            ("b2", "x"),
            ("b3", "x"),
            ("c", "x"),
        ]);
        let ask = |stored: &Configs, query: &[(&str, &str)]| {
            page(stored, &parse(query).unwrap().unwrap())
        };
        let first = ask(&stored, &[("limit", "2"), ("prefix", "b")]);
        assert_eq!(first.configs, ["b1", "b2"]);
        assert_eq!((first.next.as_deref(), first.total), (Some("b2"), Some(3)));
        let second = ask(&stored, &[("limit", "2"), ("prefix", "b"), ("after", "b2")]);
        assert_eq!((second.configs, second.next), (vec!["b3".to_owned()], None));
        let exact = ask(&stored, &[("limit", "5")]);
        assert_eq!((exact.configs.len(), exact.next), (5, None));
        assert!(exact.items.unwrap().iter().all(|item| item.value.is_none()));

        let mut owned = (*stored.by_name["c"]).clone();
        owned.origin.managed_by = "me".to_owned();
        stored.by_name.insert("c".into(), owned.into());
        assert_eq!(ask(&stored, &[("managed_by", "me")]).configs, ["c"]);
        assert_eq!(ask(&stored, &[("search", "M")]).configs, ["c"]);
        assert_eq!(ask(&stored, &[("search", "B2")]).configs, ["b2"]);
        assert_eq!(ask(&stored, &[("managed_by", "")]).configs.len(), 4);
    }

    #[test]
    fn wrong_parameters_are_refused() {
        assert_eq!(parse(&[("other", "1")]), Ok(None));
        for (name, value) in [
            ("limit", "0"),
            ("limit", "x"),
            ("limit", ""),
            ("contents", "1"),
        ] {
            let error = parse(&[(name, value)]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }
}
