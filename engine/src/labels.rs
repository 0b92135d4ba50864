//! Label sets: sorted, unique names, no empty values; and the builder that relabelling works on.

/// A final label set: sorted by name in byte order, names unique, no empty values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// Sorts, drops empty values; of a repeated name the last value wins.
    pub fn from_pairs<N: Into<Box<str>>, V: Into<Box<str>>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let mut map = std::collections::BTreeMap::new();
        for (name, value) in pairs {
            map.insert(name.into(), value.into());
        }
        Self(
            map.into_iter()
                .filter(|(_, value): &(_, Box<str>)| !value.is_empty())
                .collect(),
        )
    }

    /// The value of `name`, or `""` if it is absent: in Prometheus' model the two are the same.
    pub fn get(&self, name: &str) -> &str {
        match self.0.binary_search_by(|(have, _)| (**have).cmp(name)) {
            Ok(index) => &self.0[index].1,
            Err(_) => "",
        }
    }

    /// Name and value pairs, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The pairs, sorted by name.
    pub fn as_slice(&self) -> &[(Box<str>, Box<str>)] {
        &self.0
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A label value while relabelling: text, or "the value of the target's label number k", unknown
/// here because the result is shared by all targets of one shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// Known text; empty means that the label is absent.
    Text(String),
    /// Index into the target's sorted final labels. Never read or copied by a rule: labels that a
    /// rule may read or copy (`Rules::reads`) are given as text.
    Target(u16),
}

impl Value {
    /// Whether this is a known empty text. A target's label is never empty.
    pub fn is_empty(&self) -> bool {
        matches!(self, Value::Text(text) if text.is_empty())
    }
}

/// How many strings a builder keeps for later.
const SPARE_MAX: usize = 64;

/// Labels under construction: sorted by name, names unique; never holds an empty value.
#[derive(Debug, Default)]
pub struct LabelsBuilder {
    entries: Vec<(String, Value)>,
    /// Memory of former names and values.
    spare: Vec<String>,
}

impl Clone for LabelsBuilder {
    fn clone(&self) -> Self {
        Self {
            entries: self.entries.clone(),
            spare: Vec::new(),
        }
    }
}

impl PartialEq for LabelsBuilder {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for LabelsBuilder {}

impl std::hash::Hash for LabelsBuilder {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.entries.hash(state);
    }
}

impl LabelsBuilder {
    /// No labels.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `name`, if present.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.find(name).ok().map(|index| &self.entries[index].1)
    }

    /// The text of `name`, `""` if absent. A target's label is a programmer error here: the caller
    /// must have given labels that rules read as text.
    pub fn text(&self, name: &str) -> &str {
        match self.get(name) {
            None => "",
            Some(Value::Text(text)) => text,
            Some(Value::Target(_)) => {
                debug_assert!(false, "BUG: a rule reads {name}, which was given as a hole");
                ""
            }
        }
    }

    /// Sets `name`; an empty text removes it.
    pub fn set(&mut self, name: &str, value: Value) {
        match self.find(name) {
            Ok(index) if value.is_empty() => {
                self.entries.remove(index);
            }
            Ok(index) => self.entries[index].1 = value,
            Err(_) if value.is_empty() => {}
            Err(index) => {
                let name = self.string(name);
                self.entries.insert(index, (name, value));
            }
        }
    }

    /// Sets `name` to a text; an empty one removes it.
    pub fn set_text(&mut self, name: &str, text: &str) {
        let text = self.string(text);
        self.set(name, Value::Text(text));
    }

    /// Removes `name` if present.
    pub fn remove(&mut self, name: &str) {
        if let Ok(index) = self.find(name) {
            self.entries.remove(index);
        }
    }

    /// Removes the labels whose name `keep` refuses.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.entries.retain(|(name, _)| keep(name));
    }

    /// Name and value pairs, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Removes all labels and keeps the memory.
    pub fn clear(&mut self) {
        for (name, value) in self.entries.drain(..) {
            self.spare.push(name);
            if let Value::Text(text) = value {
                self.spare.push(text);
            }
        }
        self.spare.truncate(SPARE_MAX);
    }

    fn string(&mut self, text: &str) -> String {
        let mut string = self.spare.pop().unwrap_or_default();
        string.clear();
        string.push_str(text);
        string
    }

    /// The final set; holes must not be left (they are dropped in release builds).
    pub fn into_labels(self) -> Labels {
        Labels(
            self.entries
                .into_iter()
                .filter_map(|(name, value)| match value {
                    Value::Text(text) => Some((name.into(), text.into())),
                    Value::Target(_) => {
                        debug_assert!(false, "BUG: hole {name} in a final label set");
                        None
                    }
                })
                .collect(),
        )
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.entries
            .binary_search_by(|(have, _)| have.as_str().cmp(name))
    }
}

impl From<&Labels> for LabelsBuilder {
    fn from(labels: &Labels) -> Self {
        let entries = labels
            .iter()
            .map(|(name, value)| (name.to_owned(), Value::Text(value.to_owned())));
        Self {
            entries: entries.collect(),
            spare: Vec::new(),
        }
    }
}
