//! Makes the cluster hold what a folder declares. Every member runs it; it acts on the Raft leader only, in that leadership.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::documents::Problem;
use super::folder::{self, FolderChanges, FolderContent};
use super::plan::{Plan, ResourceId, plan};
use super::proposing::{Carried, carry_out};
use crate::coordinator::Coordinator;
use crate::types::{Leadership, Namespace};

/// An editor that replaces a file leaves it missing or empty for a moment: what is gone must be gone twice, this far apart.
const SURELY_GONE: Duration = Duration::from_millis(30);
/// Before what the cluster could not do is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// The folder, and the cluster whose resources count.
#[derive(Debug, Clone)]
pub struct Folder {
    pub path: PathBuf,
    pub cluster: Namespace,
}

/// Runs until `stopping`.
pub async fn run(folder: Folder, coordinator: Coordinator, stopping: CancellationToken) {
    let following =
        coordinator.in_each_leadership(|leadership| Intake::new(&folder, &coordinator, leadership).follow());
    stopping.run_until_cancelled(following).await;
}

/// The work of one leadership.
struct Intake<'a> {
    folder: &'a Folder,
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
    fn new(folder: &'a Folder, coordinator: &'a Coordinator, leadership: Leadership) -> Self {
        Self { folder, coordinator, leadership, told: Told::default(), gone: Gone::default() }
    }

    /// Looks, acts, and waits for a reason to look again.
    async fn follow(mut self) {
        let mut changes = FolderChanges::of(&self.folder.path);
        loop {
            let content = self.look().await;
            match self.act(content).await {
                Next::AfterChange => changes.next().await,
                Next::After(pause) => tokio::time::sleep(pause).await,
            }
        }
    }

    async fn look(&self) -> FolderContent {
        let Folder { path, cluster } = self.folder.clone();
        let looked = tokio::task::spawn_blocking(move || folder::read(&path, cluster.as_str()));
        // The thread can only be lost with the whole runtime; what was not seen is changed by nothing.
        looked.await.unwrap_or_else(|_| FolderContent::unknown())
    }

    async fn act(&mut self, content: FolderContent) -> Next {
        let mut todo = plan(&content.desired(), &self.coordinator.state());
        let unsure = self.gone.set_aside_what_is_new(&mut todo);
        let (mut again, mut problems) = (false, content.problems.clone());
        for (resource, result) in carry_out(self.coordinator, self.leadership, todo).await {
            match result {
                Carried::Out => {}
                Carried::Rejected(rejection) => {
                    problems.extend(content.place(&resource).map(|place| place.problem(rejection.to_string())));
                }
                Carried::NotYet => again = true,
            }
        }
        self.tell(problems);
        match (unsure, again) {
            (true, _) => Next::After(SURELY_GONE),
            (false, true) => Next::After(AGAIN),
            (false, false) => Next::AfterChange,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::machine::command::{Action, ConfigCondition, ConfigId};
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
