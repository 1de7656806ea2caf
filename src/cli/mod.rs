//! What people and scripts type: each command is a thin call, and says in its exit code how it went.
//!
//! Read next: `serve.rs` (one member), `dev/` (three on one machine), `hold.rs` and `group.rs` (elections and locks for
//! commands), `bench/` (figures, also against etcd), `output.rs` (how results are printed).

mod apply;
mod bench;
mod crds;
mod dev;
mod get;
mod group;
mod hold;
mod output;
mod put;
mod serve;
mod status;
mod transfer;
mod watch;

use std::fmt;

use crate::client::{Client, ClientError, Patience};
use crate::raft::Clock;
use crate::server::SystemClock;
use crate::settings::InvalidSettings;
use crate::settings::args::{Cli, ClientArgs, Command};
use crate::types::{ConfigName, ContestName, InvalidName, Namespace};

/// How a command that was not done ended, as an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Unavailable = 4,
}

/// Why a command was not done, for a person.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub error: anyhow::Error,
}

impl Failure {
    fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Failed, error: error.into() }
    }

    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Usage, error: error.into() }
    }
}

/// With its causes, but for those that it has told already.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.error.to_string();
        for cause in self.error.chain().skip(1).map(ToString::to_string) {
            if !said.contains(&cause) {
                said = format!("{said}: {cause}");
            }
        }
        f.write_str(&said)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::BadEndpoint(_) => Exit::Usage,
            error if error.is_not_found() => Exit::NotFound,
            error if error.is_unavailable() => Exit::Unavailable,
            ClientError::Problem(problem) if problem.status == 400 => Exit::Usage,
            ClientError::Problem(_)
            | ClientError::Unreachable(_)
            | ClientError::NoAnswer(_)
            | ClientError::Foreign(_) => Exit::Failed,
        };
        let advice = match exit {
            Exit::Unavailable => "; is the cluster running (see `quorate status`), and are the --endpoints right?",
            Exit::Failed | Exit::Usage | Exit::NotFound => "",
        };
        Self { exit, error: anyhow::anyhow!("{error}{advice}") }
    }
}

impl From<InvalidSettings> for Failure {
    fn from(error: InvalidSettings) -> Self {
        Self::usage(error)
    }
}

impl From<InvalidName> for Failure {
    fn from(error: InvalidName) -> Self {
        Self::usage(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

/// Runs one command to its end; the exit code, which is that of the command that it has run, if any.
///
/// # Errors
/// When it was not done.
pub async fn run(cli: Cli) -> Result<u8, Failure> {
    let done = match cli.command {
        Command::Elect(args) => return hold::elect(args).await,
        Command::Lock(args) => return hold::lock(args).await,
        Command::Run(args) => return hold::run(args).await,
        Command::Guard(args) => return group::guard(args).await,
        Command::Serve(args) => serve::run(*args).await,
        Command::Dev(args) => dev::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Get(command) => get::run(command).await,
        Command::Put(command) => put::run(command).await,
        Command::Watch(command) => watch::run(command).await,
        Command::Apply(args) => apply::run(args).await,
        Command::Transfer(args) => transfer::run(args).await,
        Command::Crds(args) => crds::run(args).await,
        Command::Bench(command) => bench::run(command).await,
    };
    done.map(|()| 0)
}

/// The cluster that the arguments name.
fn connect(args: &ClientArgs) -> Result<Client, Failure> {
    Ok(Client::new(&args.endpoints, Patience::Until(args.timeout), SystemClock.random())?)
}

fn parse_config(target: &str) -> Result<(Namespace, ConfigName), Failure> {
    let (namespace, name) = parse_target(target)?;
    Ok((Namespace::new(namespace)?, ConfigName::new(name)?))
}

fn parse_contest(target: &str) -> Result<(Namespace, ContestName), Failure> {
    let (namespace, name) = parse_target(target)?;
    Ok((Namespace::new(namespace)?, ContestName::new(name)?))
}

/// `NAMESPACE/NAME`
fn parse_target(target: &str) -> Result<(&str, &str), Failure> {
    let wrong = || Failure::usage(anyhow::anyhow!("{target:?} is not NAMESPACE/NAME, such as default/web"));
    target.split_once('/').ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Outcome, ProblemReport};

    fn problem(status: u16) -> ClientError {
        ClientError::Problem(Box::new(ProblemReport {
            r#type: "https://quorate.io/problems/kind".to_owned(),
            title: "A title".to_owned(),
            status,
            detail: "what was wrong".to_owned(),
            outcome: Outcome::NotApplied,
            retryable: false,
            retry_after_ms: None,
        }))
    }

    #[test]
    fn every_failure_has_the_exit_code_that_scripts_rely_on() {
        let cases = [
            (problem(400), 2),
            (problem(404), 3),
            (problem(409), 1),
            (problem(410), 3),
            (problem(412), 1),
            (problem(413), 1),
            (problem(429), 1),
            (problem(503), 4),
            (problem(504), 4),
            (ClientError::Unreachable("gone".to_owned()), 4),
            (ClientError::NoAnswer("silent".to_owned()), 4),
            (ClientError::Foreign("odd".to_owned()), 1),
            (ClientError::BadEndpoint("x".to_owned()), 2),
        ];
        for (error, code) in cases {
            assert_eq!(Failure::from(error.clone()).exit as u8, code, "{error:?}");
        }
        assert_eq!(parse_config("no-slash").expect_err("wrong").exit, Exit::Usage);
    }
}
