//! The seam for the disk, in the simulator: the real log store and snapshot store run on a [`Disk`] that can fail.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use openraft_rt::AsyncRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use quorate::raft::volume::{Space, Volume, VolumeReader, VolumeWriter};
use quorate::tasks::{Exit, Tasks};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;
use tokio::time::{Sleep, sleep};

use crate::disk::{Disk, File};
use crate::life::Life;
use crate::trace::Trace;

/// What goes wrong at a step: a sync of a file, a rename or a sync of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// The member ends right before the step.
    EndBefore,
    /// The member ends when the step is done but nobody has been told.
    EndAfter,
    /// The step fails, and what it should have made durable may be lost even if it is tried again.
    Fail,
}

/// One member's disk during one life. Clones share it.
#[derive(Debug, Clone)]
pub struct SimVolume {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    member: usize,
    disk: Disk,
    life: Life,
    trace: Trace,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: SmallRng,
    /// How long a sync usually takes at the most.
    latency: Duration,
    /// The next fault, after that many more steps.
    fault: Option<(u64, DiskFault)>,
    has_failed: bool,
    has_ended_its_member: bool,
}

impl SimVolume {
    pub fn new(member: usize, disk: &Disk, life: &Life, trace: &Trace, rng: &mut SmallRng) -> Self {
        let state = State {
            rng: SmallRng::from_rng(rng),
            latency: Duration::from_micros(rng.random_range(200..3000)),
            fault: None,
            has_failed: false,
            has_ended_its_member: false,
        };
        let (disk, life, trace) = (disk.clone(), life.clone(), trace.clone());
        Self { shared: Arc::new(Shared { member, disk, life, trace, state: Mutex::new(state) }) }
    }

    /// Arms a fault.
    pub fn fail_after(&self, steps: u64, fault: DiskFault) {
        self.shared.state.lock().unwrap().fault = Some((steps, fault));
    }

    /// Takes an armed fault back.
    pub fn spare(&self) {
        self.shared.state.lock().unwrap().fault = None;
    }

    /// Whether it has told its member of a failed sync.
    pub fn has_failed(&self) -> bool {
        self.shared.state.lock().unwrap().has_failed
    }

    /// Whether a fault has ended its member.
    pub fn has_ended_its_member(&self) -> bool {
        self.shared.state.lock().unwrap().has_ended_its_member
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl Shared {
    fn alive(&self) -> io::Result<()> {
        if self.life.is_over() { Err(power_is_off()) } else { Ok(()) }
    }

    /// Does something that makes data durable, unless a fault is due. Fails when `file` should have been synced and was not.
    fn step(&self, name: &str, file: Option<&File>, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.alive()?;
        let mut state = self.state.lock().unwrap();
        self.trace.note(format_args!("member {} disk: {name}", self.member));
        let due = match state.fault {
            Some((0, fault)) => {
                state.fault = None;
                Some(fault)
            }
            Some((steps, fault)) => {
                state.fault = Some((steps - 1, fault));
                None
            }
            None => None,
        };
        match due {
            None => work(),
            Some(DiskFault::EndBefore) => {
                state.has_ended_its_member = true;
                self.life.end();
                Err(power_is_off())
            }
            Some(DiskFault::EndAfter) => {
                work()?;
                state.has_ended_its_member = true;
                self.life.end();
                Err(power_is_off())
            }
            Some(DiskFault::Fail) => {
                state.has_failed = true;
                if let Some(file) = file {
                    file.fail_to_sync(&mut state.rng);
                }
                Err(io::Error::other("the disk reports an error"))
            }
        }
    }

    /// How long the disk takes for a batch of work; now and then it stalls.
    fn delay(&self) -> Duration {
        let mut state = self.state.lock().unwrap();
        let usual = state.latency;
        let stall = if state.rng.random_bool(0.005) { 50 } else { 1 };
        usual.mul_f64(state.rng.random_range(0.2..1.0)) * stall
    }
}

impl Volume for SimVolume {
    fn backend(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        self.shared.alive()?;
        let file = self.shared.disk.open_or_create(name);
        Ok(Box::new(Handle { name: name.to_owned(), file, shared: Arc::clone(&self.shared) }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn VolumeWriter>> {
        self.shared.alive()?;
        let file = self.shared.disk.open_or_create(name);
        file.set_len(0);
        Ok(Box::new(Handle { name: name.to_owned(), file, shared: Arc::clone(&self.shared) }))
    }

    fn open(&self, name: &str) -> io::Result<Option<Box<dyn VolumeReader>>> {
        self.shared.alive()?;
        let Some(file) = self.shared.disk.open(name) else { return Ok(None) };
        Ok(Some(Box::new(Handle { name: name.to_owned(), file, shared: Arc::clone(&self.shared) })))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.shared.step(&format!("rename {from} to {to}"), None, || self.shared.disk.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.shared.alive()?;
        self.shared.disk.remove(name);
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.shared.alive()?;
        Ok(self.shared.disk.names().into_iter().filter(|name| !name.contains('/')).collect())
    }

    fn set_aside(&self, name: &str, directory: &str) -> io::Result<()> {
        self.rename(name, &format!("{directory}/{name}"))?;
        self.sync_directory()
    }

    fn directories(&self) -> io::Result<Vec<String>> {
        self.shared.alive()?;
        let names = self.shared.disk.names();
        let mut names: Vec<_> = names.iter().filter_map(|name| Some(name.split_once('/')?.0.to_owned())).collect();
        names.dedup();
        Ok(names)
    }

    fn remove_directory(&self, directory: &str) -> io::Result<()> {
        self.shared.alive()?;
        for name in self.shared.disk.names().iter().filter(|name| name.starts_with(&format!("{directory}/"))) {
            self.shared.disk.remove(name);
        }
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.shared.step("sync directory", None, || {
            self.shared.disk.sync_directory();
            Ok(())
        })
    }

    fn space(&self) -> io::Result<Space> {
        self.shared.alive()?;
        Ok(Space { free: 1 << 30, total: 1 << 30 })
    }

    fn run_writer(&self, name: &'static str, tasks: &Tasks, writer: BoxFuture<'static, ()>) {
        let shared = Arc::clone(&self.shared);
        tasks.spawn(name, Exit::Fatal, SlowWriter { writer, shared, pause: None });
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        let shared = Arc::clone(&self.shared);
        drop(DeterministicRng::<TokioRuntime>::spawn(async move {
            sleep(shared.delay()).await;
            if !shared.life.is_over() {
                work();
            }
        }));
    }
}

/// A writer that gets to work only some time after it is woken, as if the disk were busy meanwhile.
struct SlowWriter {
    writer: BoxFuture<'static, ()>,
    shared: Arc<Shared>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Future for SlowWriter {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let delay = self.shared.delay();
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(delay)));
        if pause.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.pause = None;
        self.writer.as_mut().poll(context)
    }
}

/// An open file.
#[derive(Debug)]
struct Handle {
    name: String,
    file: File,
    shared: Arc<Shared>,
}

fn offset(number: u64) -> usize {
    usize::try_from(number).expect("a simulated file fits in memory")
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        self.shared.alive()?;
        Ok(self.file.len() as u64)
    }

    fn read(&self, start: u64, out: &mut [u8]) -> io::Result<()> {
        self.shared.alive()?;
        self.file.read_at(offset(start), out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.shared.alive()?;
        self.file.set_len(offset(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.shared.step(&format!("sync {}", self.name), Some(&self.file), || {
            self.file.sync();
            Ok(())
        })
    }

    fn write(&self, start: u64, data: &[u8]) -> io::Result<()> {
        self.shared.alive()?;
        self.file.write_at(offset(start), data);
        Ok(())
    }
}

impl VolumeWriter for Handle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(self.file.len() as u64, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl VolumeReader for Handle {
    fn len(&self) -> io::Result<u64> {
        StorageBackend::len(self)
    }

    fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read(start, buffer)
    }
}
