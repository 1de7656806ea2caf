//! What members say that cannot take part, so that people need not look for them: whoever leads shows it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::types::MemberName;

/// A member says again and again what is wrong. Once it has not for so long, it is not wrong any more, or the member is away.
const FRESH: Duration = Duration::from_secs(10);

/// Members that are remembered: more than a cluster has. Who comes after that is not heard.
const MOST: usize = 64;

/// The longest text, in bytes: a sentence of ours has less.
const LONGEST: usize = 1024;

/// What was said lately.
#[derive(Debug, Default)]
pub(super) struct Reports(Mutex<BTreeMap<MemberName, (Instant, String)>>);

impl Reports {
    fn said(&self) -> MutexGuard<'_, BTreeMap<MemberName, (Instant, String)>> {
        self.0.lock().expect("nobody panics while holding the reports")
    }

    /// A member says why it cannot take part.
    pub(super) fn take(&self, name: &MemberName, text: &str, now: Instant) {
        let mut said = self.said();
        said.retain(|_, (at, _)| now < *at + FRESH);
        if said.len() < MOST || said.contains_key(name) {
            let text = text[..text.floor_char_boundary(LONGEST)].to_owned();
            if said.insert(name.clone(), (now, text.clone())).is_none() {
                tracing::warn!(%name, reason = text, "a member cannot take part");
            }
        }
    }

    /// What is wrong now, by the names of the members.
    pub(super) fn list(&self, now: Instant) -> BTreeMap<MemberName, String> {
        let said = self.said();
        let fresh = said.iter().filter(|(_, (at, _))| now < *at + FRESH);
        fresh.map(|(name, (_, text))| (name.clone(), text.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_said_again_is_forgotten_and_there_is_a_bound() {
        let (reports, start) = (Reports::default(), Instant::now());
        let name = |text: String| MemberName::new(text).unwrap();
        reports.take(&name("a".to_owned()), &"é".repeat(1000), start);
        assert_eq!(reports.list(start)[&name("a".to_owned())].len(), LONGEST);
        assert!(reports.list(start + FRESH).is_empty());
        for number in 0..200 {
            reports.take(&name(format!("m-{number}")), "why", start);
        }
        assert_eq!(reports.list(start).len(), MOST);
    }
}
