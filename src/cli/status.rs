//! `quorate status`: the cluster as the member sees it that knows most, with or without a quorum.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::output::{Table, or_dash, print};
use super::{Exit, Failure, connect};
use crate::api::wire::{Cluster, MemberRole, MemberState};
use crate::client::{Answer, Client, ClientError, Patience};
use crate::settings::args::{ClientArgs, StatusArgs};

/// What one endpoint said.
struct Asked<'a> {
    endpoint: &'a str,
    answer: Result<Answer<Cluster>, ClientError>,
}

pub async fn run(args: StatusArgs) -> Result<(), Failure> {
    let clients = connect_each(&args.client)?;
    let deadline = Instant::now() + args.client.timeout;
    loop {
        let asked = ask_each(&args.client, &clients).await;
        let objections = if args.check { objections(&asked) } else { Vec::new() };
        if objections.is_empty() {
            return show(&args.client, asked);
        }
        if Instant::now() + PAUSE > deadline {
            // Whoever looks for the reason wants to see the rest as well.
            drop(show(&args.client, asked));
            return Err(Failure { exit: Exit::Unavailable, error: anyhow::anyhow!(objections.join("\n")) });
        }
        sleep(PAUSE).await;
    }
}

/// A member answers within a fraction of a second, whatever it knows; one that hangs must not hide the others.
const ENOUGH: Duration = Duration::from_secs(2);

/// Before a check is tried again: the members may just be electing.
const PAUSE: Duration = Duration::from_millis(200);

fn connect_each(args: &ClientArgs) -> Result<Vec<Client>, Failure> {
    let one = |endpoint: &String| connect(&ClientArgs { endpoints: vec![endpoint.clone()], ..args.clone() });
    args.endpoints.iter().map(one).collect()
}

async fn ask_each<'a>(args: &'a ClientArgs, clients: &[Client]) -> Vec<Asked<'a>> {
    let patience = Patience::Once(args.timeout.min(ENOUGH));
    let answers = join_all(clients.iter().map(|client| client.with_patience(patience)).map(ask)).await;
    args.endpoints.iter().zip(answers).map(|(endpoint, answer)| Asked { endpoint, answer }).collect()
}

/// What keeps the members from being all there and agreed, each with the endpoint that says so.
fn objections(asked: &[Asked<'_>]) -> Vec<String> {
    let mut objections = Vec::new();
    let mut first: Option<(&str, &Cluster)> = None;
    for Asked { endpoint, answer } in asked {
        let cluster = match answer {
            Ok(answer) => &answer.body,
            Err(ClientError::Unreachable(cause) | ClientError::NoAnswer(cause)) => {
                objections
                    .push(format!("{cause}: see whether its process, or its pod, runs, and what it has logged last"));
                continue;
            }
            Err(error) => {
                objections.push(format!("{endpoint}: {error}"));
                continue;
            }
        };
        if let Some(reason) = &cluster.waiting {
            objections.push(format!("{endpoint} takes no part: {reason}"));
        } else if cluster.stale || !cluster.quorum.available || cluster.leader.is_none() {
            objections.push(format!("{endpoint} knows of no quorum that confirms a leader"));
        } else if let Some((other, agreed)) = first {
            if (&cluster.cluster_id, &cluster.leader) != (&agreed.cluster_id, &agreed.leader) {
                objections.push(format!(
                    "{endpoint} says that {} leads, {other} that {} does",
                    leadership(cluster),
                    leadership(agreed)
                ));
            }
        } else {
            let refused = cluster.refused.iter();
            objections.extend(refused.map(|refused| format!("{} is refused: {}", refused.name, refused.reason)));
            first = Some((endpoint, cluster));
        }
    }
    objections
}

fn leadership(cluster: &Cluster) -> String {
    format!("{} of cluster {}", or_dash(cluster.leader.as_ref()), or_dash(cluster.cluster_id.as_ref()))
}

/// Prints the answer of the member that knows most.
fn show(args: &ClientArgs, asked: Vec<Asked<'_>>) -> Result<(), Failure> {
    let mut answers = Vec::new();
    let mut failure = None;
    for asked in asked {
        match asked.answer {
            Ok(answer) => answers.push(answer),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    // What a quorum confirmed is worth more than what one member remembers, and that more than what it waits for.
    answers.sort_by_key(|answer| (answer.body.stale, answer.body.waiting.is_some()));
    let Some(best) = answers.first() else {
        return Err(failure.expect("every endpoint has an answer or an error").into());
    };
    let waiting = answers.iter().filter_map(|answer| Some((answer.member.as_str(), answer.body.waiting.as_deref()?)));
    let waiting: Vec<_> = waiting.collect();
    Ok(print(args.output, &best.body, |cluster| describe(cluster, &best.member, &waiting))?)
}

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
    for refused in cluster.refused.iter().filter(|refused| waiting.iter().all(|(member, _)| *member != refused.name)) {
        text += &format!("refused   {}: {}\n", refused.name, refused.reason);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::Quorum;
    use crate::types::Revision;

    fn cluster(leader: Option<&str>) -> Cluster {
        Cluster {
            cluster_id: Some("c1".to_owned()),
            revision: 7,
            term: 2,
            leader: leader.map(str::to_owned),
            members: Vec::new(),
            quorum: Quorum { available: true, size: 2, failure_tolerance: 1 },
            stale: false,
            refused: Vec::new(),
            waiting: None,
        }
    }

    fn asked(endpoint: &str, cluster: Cluster) -> Asked<'_> {
        let (revision, member) = (Revision::from(cluster.revision), endpoint.to_owned());
        Asked { endpoint, answer: Ok(Answer { revision, member, body: cluster }) }
    }

    #[test]
    fn members_that_name_one_leader_with_a_quorum_are_not_objected_to() {
        let asked = ["a", "b", "c"].map(|endpoint| asked(endpoint, cluster(Some("q-1"))));
        assert_eq!(objections(&asked), Vec::<String>::new());
    }

    #[test]
    fn everything_else_is_said_with_the_endpoint_that_it_is_about() {
        let waiting = Cluster { waiting: Some("the volume is empty".to_owned()), ..cluster(Some("q-1")) };
        let foreign = Cluster { cluster_id: Some("c2".to_owned()), ..cluster(Some("q-1")) };
        let stale = Cluster { stale: true, ..cluster(Some("q-1")) };
        let answers = [
            Asked { endpoint: "a", answer: Err(ClientError::Unreachable("a: refused".to_owned())) },
            asked("b", waiting),
            asked("c", stale),
            asked("d", cluster(None)),
            asked("e", cluster(Some("q-1"))),
            asked("f", cluster(Some("q-2"))),
            asked("g", foreign),
        ];
        let expected = [
            "a: refused: see whether its process, or its pod, runs, and what it has logged last",
            "b takes no part: the volume is empty",
            "c knows of no quorum that confirms a leader",
            "d knows of no quorum that confirms a leader",
            "f says that q-2 of cluster c1 leads, e that q-1 of cluster c1 does",
            "g says that q-1 of cluster c2 leads, e that q-1 of cluster c1 does",
        ];
        assert_eq!(objections(&answers), expected);
    }
}
