//! Three processes of a kind on loopback, with their data in a folder that goes when they go.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::etcd::Etcd;
use super::peer::Peer;
use super::quorate::Quorate;
use crate::cli::group::Group;
use crate::settings::args::Pace;

/// How many there are: the fewest that survive the loss of one.
pub const SIZE: usize = 3;

/// How long they may take until they serve.
const PATIENCE: Duration = Duration::from_secs(30);

/// A session of a moment shows that a process serves.
const MOMENT: Duration = Duration::from_secs(1);

pub struct Trio {
    /// Where clients reach each of them.
    pub urls: Vec<String>,
    commands: Vec<Vec<String>>,
    processes: Vec<Group>,
    folder: TempDir,
}

impl Trio {
    /// Three members of Quorate.
    pub async fn quorate(directory: Option<&Path>, pace: Pace) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the path of this program is unknown")?;
        let [clients, members, health] = free_ports()?;
        let cluster = list(&members, |number, port| format!("quorate-{number}=127.0.0.1:{port}"));
        let command = |number: usize, data: &Path| {
            let address = |ports: &[u16]| format!("127.0.0.1:{}", ports[number]);
            let pace: &[&str] = match pace {
                Pace::Default => &[],
                Pace::Tuned => &["--heartbeat=50ms", "--election-min=125ms", "--election-max=250ms"],
            };
            let mut command = vec![
                program.display().to_string(),
                "serve".to_owned(),
                "--log=warn".to_owned(),
                format!("--name=quorate-{number}"),
                format!("--data-dir={}", data.display()),
                format!("--initial-cluster={cluster}"),
                format!("--http={}", address(&clients)),
                format!("--member-listen={}", address(&members)),
                format!("--health={}", address(&health)),
            ];
            command.extend(pace.iter().map(|&flag| flag.to_owned()));
            command
        };
        Self::start::<Quorate>(directory, &clients, command).await
    }

    /// Three members of etcd.
    pub async fn etcd(program: &Path, directory: Option<&Path>, pace: Pace) -> anyhow::Result<Self> {
        let [clients, members] = free_ports()?;
        let cluster = list(&members, |number, port| format!("etcd-{number}=http://127.0.0.1:{port}"));
        let command = |number: usize, data: &Path| {
            let [client, member] = [clients[number], members[number]].map(|port| format!("http://127.0.0.1:{port}"));
            let pace: &[&str] = match pace {
                Pace::Default => &[],
                Pace::Tuned => &["--heartbeat-interval=50", "--election-timeout=250", "--pre-vote=true"],
            };
            let mut command = vec![
                program.display().to_string(),
                "--log-level=error".to_owned(),
                format!("--name=etcd-{number}"),
                format!("--data-dir={}", data.display()),
                format!("--initial-cluster={cluster}"),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={member}"),
                format!("--initial-advertise-peer-urls={member}"),
            ];
            command.extend(pace.iter().map(|&flag| flag.to_owned()));
            command
        };
        Self::start::<Etcd>(directory, &clients, command).await
    }

    async fn start<P: Peer>(
        directory: Option<&Path>,
        ports: &[u16],
        command: impl Fn(usize, &Path) -> Vec<String>,
    ) -> anyhow::Result<Self> {
        let folder = directory.map_or_else(|| TempDir::with_prefix("quorate-bench-"), TempDir::new_in)?;
        let urls = ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let commands = (0..SIZE).map(|number| command(number, &folder.path().join(number.to_string()))).collect();
        let mut trio = Self { urls, commands, processes: Vec::new(), folder };
        for number in 0..SIZE {
            let process = trio.launch(number)?;
            trio.processes.push(process);
        }
        match trio.wait_until_it_serves::<P>().await {
            Ok(()) => Ok(trio),
            Err(error) => {
                trio.stop().await;
                Err(error)
            }
        }
    }

    fn launch(&self, number: usize) -> anyhow::Result<Group> {
        let log = File::create(self.log(number))?;
        let mut process = Group::command(&self.commands[number]).map_err(|failure| failure.error)?;
        process.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Group::start(process).map_err(|failure| failure.error)
    }

    /// Sends a signal to one of the processes.
    pub fn signal(&self, number: usize, signal: Signal) {
        self.processes[number].signal(signal);
    }

    /// Waits until one of the processes has ended, and starts it again on its data.
    pub async fn restart(&mut self, number: usize) -> anyhow::Result<()> {
        let ended = timeout(PATIENCE, self.processes[number].ended()).await;
        ended.context("a process does not end")?.map_err(|failure| failure.error)?;
        self.processes[number] = self.launch(number)?;
        Ok(())
    }

    /// Where the data is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where that one keeps its data.
    pub fn data(&self, number: usize) -> PathBuf {
        self.folder.path().join(number.to_string())
    }

    /// The processes that stand between this one and each of them.
    pub fn guards(&self) -> Vec<Option<u32>> {
        self.processes.iter().map(Group::guard).collect()
    }

    fn log(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("{number}.log"))
    }

    /// Waits until each of them serves.
    pub async fn wait_until_it_serves<P: Peer>(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for number in 0..SIZE {
            while let Err(error) = greet::<P>(&self.urls[number]).await {
                if Instant::now() > deadline || !self.processes[number].runs() {
                    let log = std::fs::read_to_string(self.log(number)).unwrap_or_default();
                    bail!("{error:#}; its log says:\n{log}");
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Ends the processes; then their folder can go.
    pub async fn stop(self) {
        for process in self.processes {
            process.kill().await;
        }
    }
}

async fn greet<P: Peer>(url: &str) -> anyhow::Result<()> {
    let mut peer = P::connect(url).await?;
    peer.begin_session(MOMENT).await.map(drop)
}

/// Ports that nobody listens on, for so many purposes. All are held until the last is found, so that they differ.
fn free_ports<const N: usize>() -> anyhow::Result<[[u16; SIZE]; N]> {
    let mut listeners = Vec::new();
    let mut ports = [[0; SIZE]; N];
    for port in ports.iter_mut().flatten() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

fn list(ports: &[u16], entry: impl Fn(usize, u16) -> String) -> String {
    ports.iter().enumerate().map(|(number, port)| entry(number, *port)).collect::<Vec<_>>().join(",")
}
