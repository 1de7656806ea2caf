//! `quorate status`: the cluster as the member sees it that knows most, with or without a quorum.

use std::time::Duration;

use futures::future::join_all;

use super::output::{Table, or_dash, print};
use super::{Failure, connect};
use crate::api::wire::{Cluster, MemberRole, MemberState};
use crate::client::{Answer, Client, ClientError, Patience};
use crate::settings::args::{ClientArgs, StatusArgs};

pub async fn run(args: StatusArgs) -> Result<(), Failure> {
    let mut answers = ask_each(&args.client).await?;
    // What a quorum confirmed is worth more than what one member remembers, and that more than what it waits for.
    answers.sort_by_key(|answer| (answer.body.stale, answer.body.waiting.is_some()));
    let best = answers.first().expect("there is an answer or an error");
    let waiting = answers.iter().filter_map(|answer| Some((answer.member.as_str(), answer.body.waiting.as_deref()?)));
    let waiting: Vec<_> = waiting.collect();
    Ok(print(args.client.output, &best.body, |cluster| describe(cluster, &best.member, &waiting))?)
}

/// The answers of all endpoints that answer, at least one.
async fn ask_each(args: &ClientArgs) -> Result<Vec<Answer<Cluster>>, Failure> {
    let one = |endpoint: &String| connect(&ClientArgs { endpoints: vec![endpoint.clone()], ..args.clone() });
    let clients = args.endpoints.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    let patience = Patience::Once(args.timeout.min(ENOUGH));
    let asked = join_all(clients.iter().map(|client| client.with_patience(patience)).map(ask)).await;
    let (answers, errors): (Vec<_>, Vec<_>) = asked.into_iter().partition(Result::is_ok);
    let answers: Vec<_> = answers.into_iter().flatten().collect();
    match errors.into_iter().find_map(Result::err) {
        Some(error) if answers.is_empty() => Err(error.into()),
        Some(_) | None => Ok(answers),
    }
}

/// A member answers within a fraction of a second, whatever it knows; one that hangs must not hide the others.
const ENOUGH: Duration = Duration::from_secs(2);

async fn ask(client: Client) -> Result<Answer<Cluster>, ClientError> {
    client.cluster().await
}

fn describe(cluster: &Cluster, asked: &str, waiting: &[(&str, &str)]) -> String {
    let quorum = match (cluster.quorum.available, cluster.quorum.failure_tolerance) {
        (true, 0) => "available, but no more member may fail".to_owned(),
        (true, tolerance) => format!("available, {tolerance} more may fail"),
        (false, _) if cluster.members.is_empty() => "not known: no member of a cluster answers".to_owned(),
        (false, _) => format!("NOT available: fewer than {} voters answer", cluster.quorum.size),
    };
    let mut text = format!(
        "cluster   {}\nleader    {}\nterm      {}\nrevision  {}\nquorum    {quorum}\n",
        or_dash(cluster.cluster_id.as_ref()),
        cluster.leader.as_deref().unwrap_or("none"),
        cluster.term,
        cluster.revision,
    );
    if cluster.stale {
        text += &format!("stale     {asked} could not confirm this with a quorum: all of it may be old\n");
    }
    for (member, reason) in waiting {
        text += &format!("waiting   {member}: {reason}\n");
    }
    text + "\n" + &members(cluster).render("")
}

fn members(cluster: &Cluster) -> Table {
    let mut table = Table::new(["MEMBER", "ID", "ROLE", "STATE", "MATCHED", "LAG", "CONTACT", "VERSION", "URL"]);
    for member in &cluster.members {
        table.row([
            member.name.clone(),
            member.member_id.to_string(),
            role(member.role).to_owned(),
            state(member.state).to_owned(),
            or_dash(member.matched_index),
            or_dash(member.lag_entries),
            or_dash(member.last_contact_ms.map(|millis| format!("{millis}ms"))),
            or_dash(member.version.as_ref()),
            or_dash(member.url.as_ref()),
        ]);
    }
    table
}

fn role(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Voter => "voter",
        MemberRole::Learner => "learner",
    }
}

/// What a member does now, in one word.
pub fn state(state: MemberState) -> &'static str {
    match state {
        MemberState::Leader => "leader",
        MemberState::Follower => "follower",
        MemberState::Candidate => "candidate",
        MemberState::Unreachable => "unreachable",
    }
}
