//! All resources of one kind, as the API server has told of them last.

use std::collections::BTreeMap;

use kube::runtime::watcher::Event;

use super::error::ApiError;
use super::index::ObjectKey;
use super::object::Object;

/// All resources of one kind.
#[derive(Debug)]
pub(super) struct Objects<T> {
    present: BTreeMap<ObjectKey, Versioned<T>>,
    /// What a new list has told so far.
    listing: Option<BTreeMap<ObjectKey, Versioned<T>>>,
    /// Whether it was listed ever.
    pub(super) listed: bool,
    /// Why it is not watched now: its watch tells something else once it is again.
    pub(super) trouble: Option<ApiError>,
}

#[derive(Debug)]
struct Versioned<T> {
    /// The API server's own counter: what is told twice may come in the wrong order.
    version: u64,
    object: T,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self { present: BTreeMap::new(), listing: None, listed: false, trouble: None }
    }
}

impl<T> Objects<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &T)> {
        self.present.iter().map(|(key, versioned)| (key, &versioned.object))
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&T> {
        self.present.get(key).map(|versioned| &versioned.object)
    }

    /// Whether it is seen as it is now.
    pub(super) fn is_seen(&self) -> bool {
        self.listed && self.trouble.is_none()
    }

    pub(super) fn version(&self, key: &ObjectKey) -> Option<u64> {
        self.present.get(key).map(|versioned| versioned.version)
    }

    /// Takes what a write was answered. Only the watch tells what there is: the object may be gone by now.
    pub(super) fn refresh(&mut self, object: &Object, refresh: impl FnOnce(&mut T, &Object)) {
        let (key, version) = (key(object), version(object));
        if let Some(known) = self.present.get_mut(&key).filter(|known| known.version <= version) {
            known.version = version;
            refresh(&mut known.object, object);
        }
    }

    /// Takes what the watch tells. Whoever reads an object is given what is known of it so far.
    pub(super) fn take(&mut self, event: Result<Event<Object>, ApiError>, read: impl FnOnce(Object, Option<&T>) -> T) {
        let event = match event {
            Ok(event) => event,
            Err(error) => return self.trouble = Some(error),
        };
        match event {
            Event::Init => self.listing = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                let (key, version) = (key(&object), version(&object));
                let object = read(object, self.get(&key));
                self.listing.get_or_insert_default().insert(key, Versioned { version, object });
            }
            Event::InitDone => {
                self.present = self.listing.take().unwrap_or_default();
                (self.listed, self.trouble) = (true, None);
            }
            Event::Apply(object) => {
                self.trouble = None;
                let (key, version) = (key(&object), version(&object));
                if self.present.get(&key).is_none_or(|known| known.version <= version) {
                    let object = read(object, self.get(&key));
                    self.present.insert(key, Versioned { version, object });
                }
            }
            Event::Delete(object) => {
                self.trouble = None;
                self.present.remove(&key(&object));
            }
        }
    }
}

fn version(object: &Object) -> u64 {
    object.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

fn key(object: &Object) -> ObjectKey {
    let metadata = &object.metadata;
    let [namespace, name] = [&metadata.namespace, &metadata.name].map(|part| part.clone().unwrap_or_default());
    ObjectKey { namespace, name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: u64) -> Object {
        let text = format!(
            r#"{{"apiVersion": "v1", "kind": "K", "metadata": {{"name": "a", "namespace": "n", "resourceVersion": "{version}"}}}}"#
        );
        serde_json::from_str(&text).expect("an object")
    }

    /// Keeps of each object its version alone.
    fn take(objects: &mut Objects<u64>, event: Event<Object>) {
        objects.take(Ok(event), |object, _| version(&object));
    }

    fn refresh(objects: &mut Objects<u64>, answered: u64) {
        objects.refresh(&object(answered), |known, object| *known = version(object));
    }

    fn present(objects: &Objects<u64>) -> Vec<u64> {
        objects.iter().map(|(_, version)| *version).collect()
    }

    #[test]
    fn the_answer_to_a_write_refreshes_an_object_and_brings_none_back_that_is_gone() {
        let mut objects = Objects::default();
        take(&mut objects, Event::Apply(object(5)));
        refresh(&mut objects, 6);
        assert_eq!(present(&objects), [6]);
        take(&mut objects, Event::Apply(object(5)));
        assert_eq!(present(&objects), [6], "the watch tells late what is older");
        take(&mut objects, Event::Delete(object(8)));
        refresh(&mut objects, 7);
        assert_eq!(present(&objects), Vec::<u64>::new());
    }

    #[test]
    fn a_new_list_counts_once_it_is_complete_and_ends_the_trouble_which_an_answer_does_not() {
        let mut objects = Objects::default();
        for event in [Event::Init, Event::InitApply(object(5)), Event::InitDone] {
            assert!(!objects.is_seen());
            take(&mut objects, event);
        }
        assert!(objects.is_seen());
        objects.take(Err(ApiError::timeout()), |object, _| version(&object));
        refresh(&mut objects, 6);
        assert!(!objects.is_seen());
        take(&mut objects, Event::Init);
        assert_eq!(present(&objects), [6], "what was known stays until the list is there");
        take(&mut objects, Event::InitDone);
        assert_eq!((present(&objects), objects.is_seen()), (Vec::new(), true));
    }
}
