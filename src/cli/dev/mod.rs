//! `quorate dev`: three members on this machine, each a process of its own that can be killed, with resources from a
//! folder. It shows on one screen who leads and what happens, and starts a member again that has ended.
//!
//! It sees the cluster only as any client does: over HTTP. Read next: `layout.rs` (names, ports and folders), `child.rs`
//! (one process), `observe.rs` (what is asked of the members), `failover.rs` (how long a loss was felt), `view.rs` (what is
//! known), `screen.rs` (how it is shown).

mod child;
mod failover;
mod layout;
mod observe;
mod screen;
mod view;

use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Failure;
use crate::server::{Stop, Stops};
use crate::settings::args::DevArgs;
use crate::tasks::{Exit, Tasks};
use child::{Child, Ended};
use failover::FailOver;
use layout::{Layout, MemberPlace};
use observe::{Observation, Observer};
use screen::Screen;
use view::View;

/// How long a member that has ended stays down, so that a person sees how the others do without it.
const DOWN: Duration = Duration::from_secs(2);
/// How often the members are asked how they are.
const LOOK: Duration = Duration::from_millis(200);
/// How long a member may take to stop before it is killed: a little more than it gives itself.
const STOP: Duration = Duration::from_secs(11);

/// What the screen waits for.
enum Happening {
    Ended(Ended),
    Observed(Box<Observation>),
    FailedOver(FailOver),
}

pub async fn run(args: DevArgs) -> Result<(), Failure> {
    // The folder is kept to the end, so that a second program does not take it.
    let (layout, _state) = Layout::prepare(&args).await?;
    let mut stops = Stops::listen()?;
    let (tasks, mut failures) = Tasks::new();
    // Every task has at most one message on its way, and there are fewer than ten.
    let (tell, mut happenings) = mpsc::channel(16);
    let mut dev = Dev::start(layout, tasks.clone(), tell)?;
    let stop = loop {
        tokio::select! {
            biased;
            stop = stops.next() => break stop,
            failure = failures.next() => return Err(Failure::failed(anyhow!("{}: {}", failure.task, failure.cause))),
            () = dev.next_start() => dev.start_again()?,
            Some(happening) = happenings.recv() => dev.take(happening),
        }
        dev.show()?;
    };
    dev.stop(stop, stops, &tasks).await
}

/// Everything that runs.
struct Dev {
    layout: Layout,
    tasks: Tasks,
    tell: mpsc::Sender<Happening>,
    slots: Vec<Slot>,
    view: View,
    screen: Screen,
}

/// A member's process, or when it is started again.
enum Slot {
    Running(Child),
    DownUntil(Instant),
}

impl Dev {
    fn start(layout: Layout, tasks: Tasks, tell: mpsc::Sender<Happening>) -> Result<Self, Failure> {
        let view = View::new(&layout);
        let mut dev = Self { layout, tasks, tell, slots: Vec::new(), view, screen: Screen::new() };
        for number in 0..dev.layout.members.len() {
            let child = dev.start_child(number)?;
            dev.view.started(number, &child);
            dev.slots.push(Slot::Running(child));
        }
        dev.start_observer()?;
        Ok(dev)
    }

    fn start_observer(&self) -> Result<(), Failure> {
        let (observer, tell, stopping) = (Observer::new(&self.layout)?, self.tell.clone(), self.tasks.stopping());
        let look = async move {
            loop {
                let observation = observer.look().await;
                if tell.send(Happening::Observed(Box::new(observation))).await.is_err() {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        self.tasks.spawn("observer", Exit::Fatal, async move {
            let _ = stopping.run_until_cancelled(look).await;
        });
        Ok(())
    }

    fn start_child(&self, number: usize) -> Result<Child, Failure> {
        let tell = self.tell.clone();
        let ended = move |ended| async move { drop(tell.send(Happening::Ended(ended)).await) };
        Child::start(&self.layout, number, &self.tasks, ended)
    }

    /// Waits until a member has been down long enough.
    async fn next_start(&self) {
        let times = self.slots.iter().filter_map(|slot| match slot {
            Slot::DownUntil(time) => Some(*time),
            Slot::Running(_) => None,
        });
        match times.min() {
            Some(time) => tokio::time::sleep_until(time).await,
            None => std::future::pending().await,
        }
    }

    fn start_again(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        for number in 0..self.slots.len() {
            if matches!(self.slots[number], Slot::DownUntil(time) if time <= now) {
                let child = self.start_child(number)?;
                self.view.started_again(number, &child);
                self.slots[number] = Slot::Running(child);
            }
        }
        Ok(())
    }

    fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Ended(ended) => self.take_ended(ended),
            Happening::Observed(observation) => self.view.observed(*observation),
            Happening::FailedOver(done) => self.view.failed_over(done),
        }
    }

    fn take_ended(&mut self, ended: Ended) {
        self.slots[ended.number] = Slot::DownUntil(ended.at + DOWN);
        self.view.ended(&ended);
        let survivors = self.survivors();
        let tell = self.tell.clone();
        let lost = self.layout.members[ended.number].name.clone();
        self.tasks.spawn("fail-over probe", Exit::Normal, async move {
            let done = failover::measure(lost, ended.at, &survivors).await;
            // Nobody reads any more once everything is stopping.
            drop(tell.send(Happening::FailedOver(done)).await);
        });
    }

    /// Who may acknowledge a write; when nobody is left, those who are started again.
    fn survivors(&self) -> Vec<String> {
        let urls = self.layout.members.iter().map(MemberPlace::url);
        let is_running = |(_, slot): &(String, &Slot)| matches!(slot, Slot::Running(_));
        let running: Vec<_> = urls.clone().zip(&self.slots).filter(is_running).map(|(url, _)| url).collect();
        if running.is_empty() { urls.collect() } else { running }
    }

    fn show(&mut self) -> Result<(), Failure> {
        Ok(self.screen.show(&self.view)?)
    }

    /// Stops the followers first, so that nobody is elected on the way down. A second signal kills what is left.
    async fn stop(mut self, stop: Stop, mut stops: Stops, tasks: &Tasks) -> Result<(), Failure> {
        self.view.say(format!("{stop}: the members are stopped, the Raft leader last"));
        self.show()?;
        let leader = self.view.leader();
        let mut slots: Vec<_> = self.slots.drain(..).enumerate().collect();
        slots.sort_by_key(|(number, _)| Some(*number) == leader);
        let mut slots = slots.into_iter();
        for (number, slot) in slots.by_ref() {
            let Slot::Running(child) = slot else { continue };
            let name = &self.layout.members[number].name;
            tokio::select! {
                biased;
                _ = stops.next() => break,
                ended = child.stop(STOP) => self.view.say(format!("{name} {ended}")),
            }
            self.screen.show(&self.view)?;
        }
        // A child that is dropped is killed.
        drop(slots);
        tasks.stop(Duration::from_secs(1)).await;
        Ok(())
    }
}
