//! Makes the cluster hold what a folder declares. Every member runs it; it acts on the Raft leader only, in that leadership.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::documents::Problem;
use super::folder::{self, FolderChanges, FolderContent};
use super::plan::{Desired, Plan, ResourceId, plan};
use crate::coordinator::{Coordinator, CoordinatorError, Written};
use crate::machine::command::Action;
use crate::machine::outcome::Effect;
use crate::settings::Resources;
use crate::types::Leadership;

/// Proposals that wait for their commit at a time: they share its sync, and more would only fill the log's queue.
const IN_FLIGHT: usize = 16;
/// A proposal that takes longer is decided again from what is there then.
const PATIENCE: Duration = Duration::from_secs(5);
/// An editor that replaces a file leaves it missing or empty for a moment: what is gone must be gone twice, this far apart.
const SURELY_GONE: Duration = Duration::from_millis(30);
/// Before what the cluster could not do is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Runs until `stopping`.
pub async fn run(resources: Resources, coordinator: Coordinator, stopping: CancellationToken) {
    let resources = Arc::new(resources);
    let mut leadership = None;
    loop {
        leadership = tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            changed = coordinator.own_leadership_changes(leadership) => changed,
            () = work(&resources, &coordinator, leadership) => leadership,
        };
    }
}

/// Works for as long as it is polled, in one leadership; waits when there is none.
async fn work(resources: &Arc<Resources>, coordinator: &Coordinator, leadership: Option<Leadership>) {
    match leadership {
        Some(leadership) => Intake::new(resources, coordinator, leadership).follow().await,
        None => std::future::pending().await,
    }
}

/// The work of one leadership.
struct Intake<'a> {
    resources: &'a Arc<Resources>,
    coordinator: &'a Coordinator,
    leadership: Leadership,
    told: Told,
    gone: Gone,
}

/// What was told to be wrong, so that it is told once.
#[derive(Debug, Default)]
struct Told(BTreeSet<Problem>);

impl Told {
    /// Takes what is wrong now; gives what is newly wrong and what is wrong no more.
    fn replace(&mut self, problems: Vec<Problem>) -> (Vec<Problem>, Vec<Problem>) {
        let before = std::mem::replace(&mut self.0, problems.into_iter().collect());
        (self.0.difference(&before).cloned().collect(), before.difference(&self.0).cloned().collect())
    }
}

/// What was gone when last looked.
#[derive(Debug, Default)]
struct Gone(BTreeSet<ResourceId>);

impl Gone {
    /// Takes the deletes of what was there at the last look out of the plan; whether there were any.
    fn set_aside_what_is_new(&mut self, todo: &mut Plan) -> bool {
        let gone: BTreeSet<_> = todo.deletes.keys().cloned().collect();
        todo.deletes.retain(|resource, _| self.0.contains(resource));
        let unsure = gone.len() > todo.deletes.len();
        self.0 = gone;
        unsure
    }
}

/// When to look again.
enum Next {
    AfterChange,
    After(Duration),
}

impl<'a> Intake<'a> {
    fn new(resources: &'a Arc<Resources>, coordinator: &'a Coordinator, leadership: Leadership) -> Self {
        Self { resources, coordinator, leadership, told: Told::default(), gone: Gone::default() }
    }

    /// Looks, acts, and waits for a reason to look again.
    async fn follow(mut self) {
        let mut changes = FolderChanges::of(&self.resources.folder);
        loop {
            let content = self.look().await;
            match self.act(content).await {
                Next::AfterChange => changes.next().await,
                Next::After(pause) => tokio::time::sleep(pause).await,
            }
        }
    }

    async fn look(&self) -> FolderContent {
        let resources = Arc::clone(self.resources);
        let looked = tokio::task::spawn_blocking(move || folder::read(&resources.folder, resources.cluster.as_str()));
        // The thread can only be lost with the whole runtime; what was not seen is changed by nothing.
        looked.await.unwrap_or_else(|_| FolderContent { desired: nothing_known(), problems: Vec::new() })
    }

    async fn act(&mut self, content: FolderContent) -> Next {
        let FolderContent { desired, mut problems } = content;
        let mut todo = plan(&desired, &self.coordinator.state());
        let unsure = self.gone.set_aside_what_is_new(&mut todo);
        let results = self.propose(todo).await;
        let mut again = false;
        for (resource, result) in results {
            match result {
                Ok(written) => log_done(&resource, &written.effect),
                Err(CoordinatorError::Rejected { rejection, .. }) => {
                    if let Some(place) = desired.place(&resource) {
                        problems.push(place.problem(rejection.to_string()));
                    }
                }
                Err(error) => {
                    warn!(%resource, %error, "a resource is not replicated yet; it is tried again");
                    again = true;
                }
            }
        }
        self.tell(problems);
        match (unsure, again) {
            (true, _) => Next::After(SURELY_GONE),
            (false, true) => Next::After(AGAIN),
            (false, false) => Next::AfterChange,
        }
    }

    async fn propose(&self, todo: Plan) -> BTreeMap<ResourceId, Result<Written<Effect>, CoordinatorError>> {
        let actions = todo.puts.into_iter().chain(todo.deletes);
        let propose = |(resource, action): (ResourceId, Action)| async {
            let deadline = Instant::now() + PATIENCE;
            (resource, self.coordinator.propose_duty(self.leadership, action, deadline).await)
        };
        stream::iter(actions.map(propose)).buffer_unordered(IN_FLIGHT).collect().await
    }

    /// Logs what is newly wrong, and what is right again.
    fn tell(&mut self, problems: Vec<Problem>) {
        let (new, ended) = self.told.replace(problems);
        for problem in new {
            warn!(%problem, "a resource is wrong; the last good version stays");
        }
        for problem in ended {
            info!(%problem, "a problem with a resource is gone");
        }
    }
}

fn nothing_known() -> Desired {
    let mut desired = Desired::default();
    desired.unclear.anything = true;
    desired
}

fn log_done(resource: &ResourceId, effect: &Effect) {
    match effect {
        Effect::ConfigPut { version, revision, changed: true } => {
            info!(%resource, %version, %revision, "replicated what a resource declares");
        }
        Effect::ConfigDeleted { existed: true } => info!(%resource, "deleted what no resource declares any more"),
        Effect::ElectionSet => info!(%resource, "set as its resource says, or as without one"),
        Effect::ConfigPut { changed: false, .. }
        | Effect::ConfigDeleted { existed: false }
        | Effect::ClusterFounded
        | Effect::MemberAnnounced
        | Effect::LeadershipBegun(_)
        | Effect::KeyPut(_)
        | Effect::KeyDeleted(_)
        | Effect::Transacted { .. }
        | Effect::ConsumerReported { .. }
        | Effect::SessionCreated(_)
        | Effect::SessionEnded { .. }
        | Effect::SessionsExpired { .. }
        | Effect::Claimed(_)
        | Effect::Released { .. }
        | Effect::Revoked { .. }
        | Effect::RequestsForgotten { .. }
        | Effect::Compacted { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::command::{ConfigCondition, ConfigId};
    use crate::operator::documents::Place;
    use crate::types::{ConfigName, Namespace};

    fn deleting(names: &[&str]) -> Plan {
        let deletes = names.iter().map(|name| {
            let namespace = Namespace::new("default").expect("a label");
            let config = ConfigId { namespace, name: ConfigName::new(*name).expect("a name") };
            (ResourceId::Config(config.clone()), Action::DeleteConfig { config, only_if: ConfigCondition::Always })
        });
        Plan { puts: BTreeMap::new(), deletes: deletes.collect() }
    }

    #[test]
    fn only_what_is_gone_at_two_looks_in_a_row_is_deleted() {
        let mut gone = Gone::default();
        let mut look = |names: &[&str]| {
            let mut todo = deleting(names);
            let unsure = gone.set_aside_what_is_new(&mut todo);
            (todo == deleting(&[]), todo == deleting(&["one"]), unsure)
        };
        assert_eq!(look(&["one"]), (true, false, true), "perhaps an editor is replacing the file");
        assert_eq!(look(&[]), (true, false, false), "it was");
        assert_eq!(look(&["one"]), (true, false, true), "that was another time");
        assert_eq!(look(&["one", "two"]), (false, true, true));
        assert_eq!(look(&[]), (true, false, false));
    }

    #[test]
    fn a_problem_is_told_once_and_so_is_its_end() {
        let problem = |line| Place { file: "a.yaml".into(), document: 1, line }.problem("wrong".to_owned());
        let mut told = Told::default();
        assert_eq!(told.replace(vec![problem(1), problem(2)]), (vec![problem(1), problem(2)], vec![]));
        assert_eq!(told.replace(vec![problem(2), problem(1)]), (vec![], vec![]));
        assert_eq!(told.replace(vec![problem(2), problem(3)]), (vec![problem(3)], vec![problem(1)]));
        assert_eq!(told.replace(vec![]), (vec![], vec![problem(2), problem(3)]));
    }
}
