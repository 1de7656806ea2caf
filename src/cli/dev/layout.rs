//! Names, ports and folders of the three members, and whether they can be used.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use tokio::net::TcpListener;

use crate::cli::Failure;
use crate::settings::args::DevArgs;

/// Three members survive the loss of one.
const MEMBERS: u16 = 3;

/// In the state folder; held by the one program that uses the folder.
const LOCK: &str = "lock";

/// The state folder, which belongs to this program while this lives.
#[derive(Debug)]
pub struct StateFolder {
    /// Held for its lock, which ends with the process at the latest.
    _lock: File,
}

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Layout {
    pub resources: PathBuf,
    pub members: Vec<MemberPlace>,
}

/// Where one member is.
#[derive(Debug, Clone)]
pub struct MemberPlace {
    pub name: String,
    pub http: SocketAddr,
    pub health: SocketAddr,
    pub member: SocketAddr,
    pub data: PathBuf,
    pub log: PathBuf,
}

impl MemberPlace {
    /// Base URL of its HTTP API.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }
}

impl Layout {
    /// Checks that everything can be used, before anything is started.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn prepare(args: &DevArgs) -> Result<(Self, StateFolder), Failure> {
        let layout = Self::new(args);
        if !layout.resources.is_dir() {
            let folder = layout.resources.display();
            return Err(Failure::usage(anyhow!(
                "there is no folder {folder}; name one with resources: quorate dev DIR"
            )));
        }
        for member in &layout.members {
            for address in [member.http, member.health, member.member] {
                check_port(address).await?;
            }
        }
        let state = layout.prepare_state(&args.state, args.fresh).map_err(Failure::failed)?;
        Ok((layout, state))
    }

    fn new(args: &DevArgs) -> Self {
        let address = |offset: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, args.base_port + offset));
        let place = |number: u16| {
            let name = format!("quorate-{number}");
            MemberPlace {
                http: address(number),
                health: address(number + 10),
                member: address(number + 20),
                data: args.state.join(&name),
                log: args.state.join(format!("{name}.log")),
                name,
            }
        };
        Self { resources: args.resources.clone(), members: (0..MEMBERS).map(place).collect() }
    }

    /// Only what a member keeps is ever removed, whatever else stands in the folder.
    fn prepare_state(&self, state: &Path, fresh: bool) -> anyhow::Result<StateFolder> {
        let advice = || format!("the state folder {} cannot be used; name another with --state", state.display());
        fs::create_dir_all(state).with_context(advice)?;
        let lock = File::create(state.join(LOCK)).with_context(advice)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "the state folder {} is in use by another `quorate dev`; stop that one, or name another folder with --state",
                state.display()
            ),
            Err(TryLockError::Error(error)) => return Err(error).with_context(advice),
        }
        for member in self.members.iter().filter(|_| fresh) {
            remove(&member.data).with_context(advice)?;
        }
        Ok(StateFolder { _lock: lock })
    }

    /// What every member is told of all of them.
    pub fn initial_cluster(&self) -> String {
        let entries = self.members.iter().map(|member| format!("{}={}", member.name, member.member));
        entries.collect::<Vec<_>>().join(",")
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn check_port(address: SocketAddr) -> Result<(), Failure> {
    let port = address.port();
    let advice =
        || format!("port {port} cannot be used; is another `quorate dev` running? Choose other ports with --base-port");
    TcpListener::bind(address).await.with_context(advice).map(drop).map_err(Failure::failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(state: &Path, base_port: u16) -> DevArgs {
        DevArgs { resources: ".".into(), state: state.to_owned(), fresh: true, base_port }
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = taken.local_addr().expect("bound").port();
        let failure = Layout::prepare(&args(folder.path(), port)).await.expect_err("in use").to_string();
        assert!(failure.starts_with(&format!("port {port} cannot be used; ")), "{failure}");
        assert!(failure.contains("--base-port") && failure.contains("in use"), "{failure}");
    }

    #[test]
    fn fresh_empties_the_members_folders_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all(folder.path().join("quorate-1/log")).expect("created");
        fs::write(folder.path().join("mine"), "").expect("written");
        Layout::new(&args(folder.path(), 17_400)).prepare_state(folder.path(), true).expect("prepared");
        assert!(!folder.path().join("quorate-1").exists());
        assert!(folder.path().join("mine").exists());
    }

    #[test]
    fn a_state_folder_has_one_user_and_another_empties_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let layout = Layout::new(&args(folder.path(), 17_400));
        let held = layout.prepare_state(folder.path(), false).expect("the first");
        fs::create_dir(folder.path().join("quorate-1")).expect("created");
        let error = layout.prepare_state(folder.path(), true).expect_err("in use").to_string();
        assert!(error.contains("is in use by another `quorate dev`") && error.contains("--state"), "{error}");
        assert!(folder.path().join("quorate-1").exists());
        drop(held);
        layout.prepare_state(folder.path(), true).expect("free again");
    }

    #[test]
    fn a_state_folder_that_is_none_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        let error = Layout::new(&args(&file, 17_400)).prepare_state(&file, false).expect_err("a file");
        assert!(format!("{error:#}").contains("cannot be used; name another with --state: "), "{error:#}");
    }
}
