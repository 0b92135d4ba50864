//! Texts of stored configurations + a node's rules -> what they hold, each text read once.
//!
//! The API reads a text before it is stored, and asks for the jobs of all; the control loop reads
//! what is stored. Whoever comes second finds what the first one has read.

use super::instance::{Instance, InstanceRules};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of texts that are remembered although nothing says that they are stored.
const LOOSE_BYTES_MAX: usize = 64 << 20;

/// What a text holds, or what is wrong with it.
pub type Read = Result<Arc<Instance>, Arc<[String]>>;

/// Reads texts by the rules of one file.
#[derive(Debug)]
pub struct Reader {
    rules: InstanceRules,
    /// Held for a look only, not while a text is read.
    remembered: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// The text that was read last, by name.
    by_name: HashMap<Arc<str>, Entry>,
    /// Of texts that are not known to be stored.
    loose_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    text: Arc<str>,
    read: Read,
    is_stored: bool,
}

impl Reader {
    /// Nothing is read yet.
    pub fn new(rules: InstanceRules) -> Self {
        Self {
            rules,
            remembered: Mutex::default(),
        }
    }

    /// By what it reads.
    pub fn rules(&self) -> &InstanceRules {
        &self.rules
    }

    /// Reads what may be stored some time.
    pub fn try_out(&self, name: &Arc<str>, text: &Arc<str>) -> Read {
        self.read(name, text, false)
    }

    /// Reads what is stored: it is remembered until it is forgotten or there is another text.
    pub fn take(&self, name: &Arc<str>, text: &Arc<str>) -> Read {
        self.read(name, text, true)
    }

    /// The configuration is not stored any more.
    pub fn forget(&self, name: &str) {
        self.remembered().remove(name);
    }

    fn read(&self, name: &Arc<str>, text: &Arc<str>, is_stored: bool) -> Read {
        if let Some(read) = self.remembered().find(name, text, is_stored) {
            return read;
        }
        let read = Instance::parse(name, text, &self.rules)
            .map(Arc::new)
            .map_err(Arc::from);
        let entry = Entry {
            text: text.clone(),
            read: read.clone(),
            is_stored,
        };
        self.remembered().insert(name, entry);
        read
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        // What is there is whole: nothing panics with the lock held.
        let locked = self.remembered.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn find(&mut self, name: &str, text: &Arc<str>, is_stored: bool) -> Option<Read> {
        let entry = self.by_name.get_mut(name)?;
        if entry.text != *text {
            return None;
        }
        if is_stored && !entry.is_stored {
            entry.is_stored = true;
            self.loose_bytes -= entry.text.len();
        }
        Some(entry.read.clone())
    }

    fn insert(&mut self, name: &Arc<str>, entry: Entry) {
        self.remove(name);
        if !entry.is_stored {
            let loose = self.loose_bytes + entry.text.len();
            if loose > LOOSE_BYTES_MAX {
                self.by_name.retain(|_, entry| entry.is_stored);
                self.loose_bytes = 0;
            }
            self.loose_bytes += entry.text.len();
        }
        self.by_name.insert(name.clone(), entry);
    }

    fn remove(&mut self, name: &str) {
        if let Some(entry) = self.by_name.remove(name)
            && !entry.is_stored
        {
            self.loose_bytes -= entry.text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::collections::BTreeMap;
    use std::path::Path;

    fn reader() -> Reader {
        let text = "scraping_service: {enabled: true, kvstore: {store: local}, \
                    limits: {config_bytes: 0}}";
        let config = Config::parse(Path::new("/r.yml"), text, &|_| None).unwrap();
        let settings = config.scraping_service.clone().unwrap();
        Reader::new(InstanceRules::new(&config, &settings, BTreeMap::new()))
    }

    fn job(name: &str) -> Arc<str> {
        format!("scrape_configs: [{{job_name: {name}}}]").into()
    }

    #[test]
    fn a_text_is_read_once_whoever_asks() {
        let (reader, name) = (reader(), Arc::from("a"));
        let first = reader.try_out(&name, &job("j")).unwrap();
        // Come back from a store: an equal text, another `Arc`.
        let stored = reader.take(&name, &job("j")).unwrap();
        assert!(Arc::ptr_eq(&first, &stored));
        let other = reader.try_out(&name, &job("k")).unwrap();
        assert_eq!(other.job_names().collect::<Vec<_>>(), ["k"]);
        let back = reader.take(&name, &job("j")).unwrap();
        assert_eq!(back, first, "the text decides, not the name");
        reader.forget("a");
        let again = reader.try_out(&name, &job("j")).unwrap();
        assert!(!Arc::ptr_eq(&back, &again));
        let elsewhere = reader.try_out(&Arc::from("b"), &job("j")).unwrap();
        assert!(!Arc::ptr_eq(&again, &elsewhere), "names matter, too");
    }

    #[test]
    fn what_is_never_stored_is_bounded() {
        let reader = reader();
        let stored = reader.take(&Arc::from("stored"), &job("s")).unwrap();
        let large: Arc<str> = format!("#{}", "x".repeat(LOOSE_BYTES_MAX / 4)).into();
        for index in 0..20 {
            reader.try_out(&index.to_string().into(), &large).unwrap();
            let remembered = reader.remembered();
            let loose = remembered.by_name.values().filter(|one| !one.is_stored);
            let bytes: usize = loose.map(|one| one.text.len()).sum();
            assert_eq!(bytes, remembered.loose_bytes);
            assert!(bytes <= LOOSE_BYTES_MAX);
        }
        let again = reader.take(&Arc::from("stored"), &job("s")).unwrap();
        assert!(Arc::ptr_eq(&stored, &again));
    }
}
