//! Whether the members computed the same state: every so many log entries each keeps the digest of its state, the Raft
//! leader asks for them now and then, and compares those of the same log index.
//!
//! A member whose digest differs from the one that a majority of the voters share has a broken copy: it is told so,
//! compares for itself, and stops, because whatever it serves may be wrong. Without such a majority nobody can say who is
//! right; then it is an error in the log and a metric, and everybody goes on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use super::messages::DigestSample;
use crate::machine::{Digest, Machine};
use crate::types::{LogIndex, MemberId};

/// Entries between two digests.
pub(super) const EVERY: u64 = 4096;

/// Digests that a member keeps: enough that a member some seconds behind has one in common with the others.
const KEPT: usize = 8;

/// The newest digests of one member. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Digests(Arc<Mutex<VecDeque<DigestSample>>>);

impl Digests {
    fn samples(&self) -> MutexGuard<'_, VecDeque<DigestSample>> {
        self.0.lock().expect("nobody panics while holding the digests")
    }

    /// Keeps the digest of `machine`, when it is due right after the entry at `index`.
    pub(super) fn note(&self, index: LogIndex, machine: &Machine) {
        if index.get().is_multiple_of(EVERY) {
            let mut samples = self.samples();
            samples.push_back(DigestSample { index, digest: machine.digest() });
            if samples.len() > KEPT {
                samples.pop_front();
            }
        }
    }

    /// What is kept, oldest first.
    pub(super) fn kept(&self) -> Vec<DigestSample> {
        self.samples().iter().copied().collect()
    }

    /// Why this member must not go on, if its own digest differs from the shared one.
    pub(super) fn contradiction(&self, shared: DigestSample) -> Option<String> {
        let own = self.kept().into_iter().find(|own| own.index == shared.index && own.digest != shared.digest)?;
        Some(format!(
            "the state of this member after log entry {} has digest {}, that of most members {}; its copy is broken: \
             restart it to compute it anew, and if that does not help, empty its volume, so that it joins as a new member",
            shared.index, own.digest, shared.digest
        ))
    }
}

/// What a comparison showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No two members have a digest of the same log index.
    Nothing,
    Equal,
    /// These members differ from the sample that most voters share.
    Diverged {
        shared: DigestSample,
        members: Vec<MemberId>,
    },
    /// Members differ at this log index, and no digest has a majority.
    Undecided(LogIndex),
}

/// Compares what members keep, at the newest log index of which two of them have a digest; `voters` is how many voters
/// there are.
pub(super) fn compare(kept: &BTreeMap<MemberId, Vec<DigestSample>>, voters: usize) -> Verdict {
    let mut by_index: BTreeMap<LogIndex, Vec<(MemberId, Digest)>> = BTreeMap::new();
    for (member, samples) in kept {
        for sample in samples {
            by_index.entry(sample.index).or_default().push((*member, sample.digest));
        }
    }
    let Some((index, digests)) = by_index.into_iter().rev().find(|(_, digests)| digests.len() > 1) else {
        return Verdict::Nothing;
    };
    let shared_by = |digest: Digest| digests.iter().filter(|(_, other)| *other == digest).count();
    let Some((_, most)) = digests.iter().copied().max_by_key(|(_, digest)| shared_by(*digest)) else {
        return Verdict::Nothing;
    };
    let members: Vec<_> = digests.iter().filter(|(_, digest)| *digest != most).map(|(member, _)| *member).collect();
    if members.is_empty() {
        Verdict::Equal
    } else if shared_by(most) * 2 > voters {
        Verdict::Diverged { shared: DigestSample { index, digest: most }, members }
    } else {
        Verdict::Undecided(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Limits;

    fn kept(samples: &[(u64, &[(u64, u128)])]) -> BTreeMap<MemberId, Vec<DigestSample>> {
        let sample = |(index, bits): &(u64, u128)| DigestSample {
            index: LogIndex::new(*index),
            digest: Digest::from_bits(*bits),
        };
        samples.iter().map(|(member, list)| (MemberId::new(*member), list.iter().map(sample).collect())).collect()
    }

    #[test]
    fn digests_are_kept_at_the_same_entries_everywhere_and_bounded() {
        let (digests, mut machine) = (Digests::default(), Machine::new(Limits::default()));
        for index in (0..20 * EVERY).step_by(1024).map(LogIndex::new) {
            machine.advance(index);
            digests.note(index, &machine);
        }
        let indexes: Vec<_> = digests.kept().iter().map(|sample| sample.index.get()).collect();
        assert_eq!(indexes, (12..20).map(|number| number * EVERY).collect::<Vec<_>>());
    }

    #[test]
    fn a_member_stops_only_when_its_own_digest_of_that_entry_is_another() {
        let (digests, mut machine) = (Digests::default(), Machine::new(Limits::default()));
        machine.advance(LogIndex::new(EVERY));
        digests.note(LogIndex::new(EVERY), &machine);
        let own = DigestSample { index: LogIndex::new(EVERY), digest: machine.digest() };
        assert_eq!(digests.contradiction(own), None);
        let elsewhere = DigestSample { index: LogIndex::new(2 * EVERY), digest: Digest::from_bits(1) };
        assert_eq!(digests.contradiction(elsewhere), None);
        let other = DigestSample { digest: Digest::from_bits(1), ..own };
        assert!(digests.contradiction(other).is_some_and(|cause| cause.contains("after log entry 4096")));
    }

    #[test]
    fn the_minority_is_named_and_only_when_there_is_a_majority() {
        assert_eq!(compare(&kept(&[(1, &[(8, 1)]), (2, &[(4, 1)])]), 3), Verdict::Nothing);
        assert_eq!(compare(&kept(&[(1, &[(4, 9), (8, 1)]), (2, &[(8, 1)]), (3, &[(4, 9)])]), 3), Verdict::Equal);
        let shared = DigestSample { index: LogIndex::new(8), digest: Digest::from_bits(1) };
        assert_eq!(
            compare(&kept(&[(1, &[(8, 1)]), (2, &[(8, 2)]), (3, &[(8, 1)])]), 3),
            Verdict::Diverged { shared, members: vec![MemberId::new(2)] }
        );
        let index = LogIndex::new(8);
        assert_eq!(compare(&kept(&[(1, &[(8, 1)]), (2, &[(8, 2)])]), 3), Verdict::Undecided(index));
        assert_eq!(compare(&kept(&[(1, &[(8, 1)]), (2, &[(8, 2)]), (3, &[(8, 3)])]), 3), Verdict::Undecided(index));
    }
}
