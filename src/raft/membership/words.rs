//! What a person is told of the next change, or of what it waits for. It says the same for as long as it is the same, so that
//! nothing is written while nothing happens: no figures that change with every write.

use super::layout::Place;
use super::{Contact, Next, Picture, Progress, Reason};
use crate::machine::command::Care;
use crate::types::MemberId;

/// What is done next, or why nothing is; empty when the members are as they should be.
pub(in crate::raft) fn tell(picture: &Picture, next: &Next) -> String {
    let name = |member: &MemberId| picture.name(*member);
    match next {
        Next::LeaveJoint => "a change of the membership is finished".to_owned(),
        Next::Promote { learner, .. } => format!("{} gets a vote", name(learner)),
        Next::Replace { new, .. } => format!("{} takes the place of the member that it was before", name(new)),
        Next::Demote { voter, .. } => format!("{} gives its vote back", name(voter)),
        Next::Remove(member) => format!("{} leaves the cluster", name(member)),
        Next::HandOver { to, reason: Reason::Leaving } => {
            format!("leadership moves to {}, because {} is to vote no more", name(to), name(&picture.own))
        }
        Next::HandOver { to, reason: Reason::Unfit } => {
            format!("leadership moves to {}, because {} is on its way out", name(to), name(&picture.own))
        }
        Next::HandOver { to, reason: Reason::Preferred } => format!("leadership moves to {}, as preferred", name(to)),
        Next::Nothing | Next::Forget(_) => waiting(picture),
    }
}

fn waiting(picture: &Picture) -> String {
    let [voters] = &picture.voters[..] else { return "a change of the membership is being committed".to_owned() };
    if picture.progress == Progress::Pending {
        return "a change of the membership is being committed".to_owned();
    }
    let is_paused = picture.steering.care == Care::Paused;
    let (Some(wanted), false) = (picture.voters_wanted(), is_paused) else { return String::new() };
    let is_voter = |member: &MemberId| voters.contains(member);
    let members = picture.in_order(picture.nodes.keys().copied());
    let coming = members.iter().find(|member| !is_voter(member) && picture.place(**member) == Some(Place::Voter));
    if let Some(member) = coming {
        return why_not_promoted(picture, *member);
    }
    let missing = u64::from(picture.size.map_or(0, |size| size.voters + size.learners)).saturating_sub(names(picture));
    if missing > 0 {
        return format!("{missing} more to join: their pods have to start, and to be let in");
    }
    if voters.len() > wanted {
        return why_not_demoted(picture, &members);
    }
    match members.iter().find(|member| picture.place(**member) == Some(Place::Nowhere)) {
        Some(member) => format!("{} has to hear first that it votes no more", picture.name(*member)),
        None => String::new(),
    }
}

fn names(picture: &Picture) -> u64 {
    picture.names().collect::<std::collections::BTreeSet<_>>().len() as u64
}

fn why_not_promoted(picture: &Picture, member: MemberId) -> String {
    let name = picture.name(member);
    match picture.contact(member) {
        Contact::Before | Contact::Silent => format!("{name} should vote, and is not heard of"),
        Contact::Lately if !picture.has_caught_up(member) => format!("{name} catches up before it votes"),
        Contact::Lately => format!("{name} should vote, and {}", silence(picture)),
    }
}

fn why_not_demoted(picture: &Picture, members: &[MemberId]) -> String {
    let place = picture.place(picture.own);
    let others_leave = members.iter().any(|member| {
        *member != picture.own && picture.voters[0].contains(member) && picture.place(*member) != Some(Place::Voter)
    });
    match (place, others_leave) {
        (Some(Place::Learner | Place::Nowhere), false) => {
            format!("{} leads and is to vote no more; another voter has to catch up first", picture.name(picture.own))
        }
        _ => format!("there are more voters than there should be, and {}", silence(picture)),
    }
}

/// Who keeps a change from being safe.
fn silence(picture: &Picture) -> String {
    let is_silent = |member: &MemberId| picture.contact(*member) != Contact::Lately;
    let silent = picture.in_order(picture.voters.iter().flatten().copied().filter(is_silent));
    let names: Vec<_> = silent.into_iter().map(|member| picture.name(member)).collect();
    match names.is_empty() {
        true => "the next change is begun in a moment".to_owned(),
        false => format!("a change is not safe while nothing is heard of {}", names.join(", ")),
    }
}
