//! Which versions of which served names are known to this server, and what "latest" means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::InferError;
use super::loaded::Loaded;

/// What became of a version on this server.
#[derive(Clone)]
pub enum State {
    /// Being read and checked.
    Loading,
    /// Ready.
    Ready(Arc<Loaded>),
    /// Cannot be served.
    Unavailable(String),
    /// Not kept in memory: newer ones are.
    Retired,
}

#[derive(Clone, Default)]
struct Served {
    versions: BTreeMap<u64, State>,
    /// Versions that are kept but not live.
    held: BTreeSet<u64>,
    /// What a promote or rollback fixed.
    pinned: Option<u64>,
}

/// All served names.
#[derive(Default)]
pub struct Registry(RwLock<BTreeMap<String, Served>>);

/// One version, for listings.
pub struct Entry {
    /// Served name.
    pub name: String,
    /// Version.
    pub version: u64,
    /// What became of it.
    pub state: State,
}

impl State {
    /// The protocol's word for it, and the reason if it is not ready.
    pub fn describe(&self) -> (&'static str, String) {
        match self {
            Self::Loading => ("LOADING", String::new()),
            Self::Ready(_) => ("READY", String::new()),
            Self::Unavailable(reason) => ("UNAVAILABLE", reason.clone()),
            Self::Retired => ("UNAVAILABLE", "unloaded; newer versions are loaded".to_owned()),
        }
    }
}

impl Registry {
    /// Notes what became of a version.
    pub fn set(&self, name: &str, version: u64, state: State) {
        self.write().entry(name.to_owned()).or_default().versions.insert(version, state);
    }

    /// Notes what "latest" is fixed to.
    pub fn pin(&self, name: &str, version: Option<u64>) {
        self.write().entry(name.to_owned()).or_default().pinned = version;
    }

    /// Notes which versions the gate keeps from being the latest by themselves.
    pub fn hold(&self, name: &str, held: BTreeSet<u64>) {
        self.write().entry(name.to_owned()).or_default().held = held;
    }

    /// Forgets a version that was given up; requests that it has taken are answered.
    pub fn forget(&self, name: &str, version: u64) {
        let mut registry = self.write();
        let Some(served) = registry.get_mut(name) else { return };
        served.versions.remove(&version);
        served.held.remove(&version);
        served.pinned = served.pinned.filter(|pinned| *pinned != version);
        if served.versions.is_empty() {
            registry.remove(name);
        }
    }

    /// Forgets names and versions that `keep` does not know.
    pub fn retain(&self, keep: impl Fn(&str, u64) -> bool) {
        self.write().retain(|name, served| {
            served.versions.retain(|version, _| keep(name, *version));
            !served.versions.is_empty()
        });
    }

    /// What became of a version, if it is known.
    pub fn state(&self, name: &str, version: u64) -> Option<State> {
        self.read().get(name)?.versions.get(&version).cloned()
    }

    /// Every version, by name and number.
    pub fn entries(&self) -> Vec<Entry> {
        let entry = |name: &String, (version, state): (&u64, &State)| Entry {
            name: name.clone(),
            version: *version,
            state: state.clone(),
        };
        self.read()
            .iter()
            .flat_map(|(name, served)| served.versions.iter().map(move |version| entry(name, version)))
            .collect()
    }

    /// Versions of a name that are ready, ascending.
    pub fn ready_versions(&self, name: &str) -> Vec<u64> {
        let served = self.read().get(name).cloned().unwrap_or_default();
        let ready = |(version, state): (u64, State)| matches!(state, State::Ready(_)).then_some(version);
        served.versions.into_iter().filter_map(ready).collect()
    }

    /// The version that an empty version stands for now, if one is ready.
    pub fn latest(&self, name: &str) -> Option<u64> {
        self.resolve(name, "").ok().map(|loaded| loaded.version)
    }

    /// The version that a request means. An empty text means the latest: the one that was fixed, or else the highest
    /// that is live and ready.
    pub fn resolve(&self, name: &str, version: &str) -> Result<Arc<Loaded>, InferError> {
        let version = parse_version(version)?;
        let registry = self.read();
        let served = registry.get(name).ok_or_else(|| InferError::UnknownModel(name.to_owned()))?;
        let not_ready =
            |reason: &str| InferError::NotReady { model: name.to_owned(), reason: reason.to_owned() };
        let Some(version) = version.or(served.pinned) else {
            let mut live =
                served.versions.iter().rev().filter(|(version, _)| !served.held.contains(version)).peekable();
            return match (live.peek(), served.held.last()) {
                (None, Some(&version)) => Err(InferError::NotLive { model: name.to_owned(), version }),
                _ => live
                    .find_map(|(_, state)| match state {
                        State::Ready(loaded) => Some(loaded.clone()),
                        _ => None,
                    })
                    .ok_or_else(|| not_ready("no version is loaded yet")),
            };
        };
        match served.versions.get(&version) {
            None => Err(InferError::UnknownVersion { model: name.to_owned(), version }),
            Some(State::Ready(loaded)) => Ok(loaded.clone()),
            Some(State::Loading) => Err(not_ready("it is loading")),
            Some(State::Unavailable(reason)) => Err(not_ready(reason)),
            Some(State::Retired) => Err(not_ready("it is unloaded; newer versions are loaded")),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Served>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Served>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A version as requests write it: empty for the latest, or a positive decimal number.
fn parse_version(text: &str) -> Result<Option<u64>, InferError> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    match text.parse() {
        Ok(version) if digits => Ok(Some(version)),
        _ => Err(InferError::Request(format!("version {text:?} is not a positive decimal number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_positive_decimal_numbers() {
        assert_eq!(parse_version("").unwrap(), None);
        assert_eq!(parse_version("1").unwrap(), Some(1));
        assert_eq!(parse_version("120").unwrap(), Some(120));
        for text in ["0", "01", "-1", "+1", "1.0", " 1", "v1", "latest", "18446744073709551616", "١"] {
            assert!(parse_version(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_known_but_not_ready_is_told_apart_from_what_is_unknown() {
        let registry = Registry::default();
        assert!(matches!(registry.resolve("m", ""), Err(InferError::UnknownModel(_))));
        registry.set("m", 1, State::Loading);
        assert!(matches!(registry.resolve("m", ""), Err(InferError::NotReady { .. })));
        assert!(matches!(registry.resolve("m", "1"), Err(InferError::NotReady { .. })));
        assert!(matches!(registry.resolve("m", "2"), Err(InferError::UnknownVersion { version: 2, .. })));
        registry.set("m", 1, State::Unavailable("torn".to_owned()));
        assert!(
            matches!(registry.resolve("m", "1"), Err(InferError::NotReady { reason, .. }) if reason == "torn")
        );
        registry.retain(|_, _| false);
        assert!(matches!(registry.resolve("m", ""), Err(InferError::UnknownModel(_))));
    }

    #[test]
    fn a_name_of_which_nothing_is_live_says_how_to_promote() {
        let registry = Registry::default();
        registry.set("m", 1, State::Loading);
        registry.set("m", 2, State::Loading);
        registry.hold("m", BTreeSet::from([1, 2]));
        let error = registry.resolve("m", "").err().expect("nothing is live");
        assert!(error.to_string().contains("`dyadic model promote m 2`"), "{error}");
        assert!(matches!(registry.resolve("m", "2"), Err(InferError::NotReady { .. })), "by its number");
        registry.hold("m", BTreeSet::from([2]));
        assert!(matches!(registry.resolve("m", ""), Err(InferError::NotReady { .. })), "version 1 loads");
    }
}
