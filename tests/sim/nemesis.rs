//! Who makes things fail, drawn from the seed.

use std::sync::Arc;
use std::time::Duration;

use quorate::raft::{Fitness, RaftRole};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, Loss, Running, name};
use crate::evidence::Deceit;
use crate::network::Weather;
use crate::volume::DiskFault;

/// Until then it is known what becomes of a copy of a disk that was put back.
const KNOWN: Duration = Duration::from_secs(10);

/// What goes on in one run.
pub struct Nemesis {
    cluster: Arc<Cluster>,
    rng: SmallRng,
    /// How long it usually waits between two blows, at the most.
    pause: Duration,
    /// Who starts again when.
    starts: Vec<Option<Instant>>,
    /// What a member loses if its disk ends it.
    loss: Loss,
}

impl Nemesis {
    pub fn new(cluster: &Arc<Cluster>, mut rng: SmallRng) -> Self {
        let pause = Duration::from_millis(rng.random_range(100..1000));
        let starts = vec![None; cluster.size()];
        Self { cluster: Arc::clone(cluster), rng, pause, starts, loss: Loss::Power }
    }

    /// Strikes again and again until `end`.
    pub async fn rage(&mut self, end: Instant) {
        while Instant::now() < end {
            sleep(self.pause.mul_f64(self.rng.random_range(0.05..1.0))).await;
            self.revive();
            if self.rng.random_bool(0.1) {
                self.cluster.copy(self.rng.random_range(0..self.cluster.size()));
            }
            match self.rng.random_range(0..100) {
                0..10 => self.end_one(),
                10..32 => self.harm_a_disk(),
                32..34 => self.end_all(),
                34..52 => self.split(),
                52..66 => self.cluster.wires.mend(),
                66..70 => self.deceive(),
                70..80 => self.change_weather(),
                80..88 => self.transfer().await,
                88..91 => self.judge_fitness(),
                91..94 => self.empty_a_volume(),
                94..96 => self.cluster.registry().set_away(self.rng.random_bool(0.5)),
                96..98 => self.put_a_copy_back().await,
                98..100 => self.break_connections(),
                _ => {}
            }
        }
    }

    /// Everything works from now on, and everybody comes back.
    pub fn make_peace(&mut self) {
        self.cluster.trace.note(format_args!("peace"));
        self.cluster.wires.mend();
        self.cluster.wires.set_weather(Weather::FAIR);
        self.cluster.wires.deceive(Deceit::default());
        self.cluster.registry().set_away(false);
        for volume in (0..self.cluster.size()).filter_map(|member| self.cluster.volume(member)) {
            volume.spare();
        }
        self.starts = vec![Some(Instant::now()); self.cluster.size()];
        self.revive();
    }

    /// Starts whoever has been down for long enough, and says when the others will.
    fn revive(&mut self) {
        for member in 0..self.cluster.scale() {
            if self.cluster.is_up(member) {
                self.starts[member] = None;
                continue;
            }
            // Whoever was ended by its own disk has not been put away yet.
            self.cluster.end(member, self.loss);
            let downtime = Duration::from_millis(self.rng.random_range(1..900));
            let start = *self.starts[member].get_or_insert_with(|| Instant::now() + downtime);
            if start <= Instant::now() {
                self.starts[member] = None;
                self.cluster.boot(member);
            }
        }
    }

    /// Usually the Raft leader, whose end is the most interesting.
    fn victim(&mut self) -> Option<Running> {
        let running = self.cluster.all_running();
        let leader = running.iter().find(|member| member.raft.status().role == RaftRole::Leader);
        match leader {
            Some(leader) if self.rng.random_bool(0.5) => Some(leader.clone()),
            _ if running.is_empty() => None,
            _ => Some(running[self.rng.random_range(0..running.len())].clone()),
        }
    }

    fn some_loss(&mut self) -> Loss {
        if self.rng.random_bool(0.7) { Loss::Power } else { Loss::Process }
    }

    fn end_one(&mut self) {
        let Some(victim) = self.victim() else { return };
        let loss = self.some_loss();
        self.strike(&victim, loss);
    }

    fn end_all(&mut self) {
        let loss = self.some_loss();
        self.cluster.count(|counts| counts.all_down += 1);
        for member in self.cluster.all_running() {
            self.strike(&member, loss);
        }
    }

    fn strike(&mut self, victim: &Running, loss: Loss) {
        self.cluster.count(|counts| counts.kills += u64::from(loss == Loss::Process));
        self.cluster.end(victim.number, loss);
    }

    /// Takes the volume of one member away, and with it all that the member knew, unless another one is on its way back.
    fn empty_a_volume(&mut self) {
        let Some(victim) = self.victim().filter(|_| self.cluster.can_do_without_a_volume()) else { return };
        self.cluster.empty(victim.number);
    }

    /// Puts a copy back that was made of a member's disk, and lets nothing else fail until it is known what becomes of it: one of
    /// three may fail, and this is one.
    async fn put_a_copy_back(&mut self) {
        let Some(victim) = self.victim().filter(|_| self.cluster.is_whole()) else { return };
        self.cluster.wires.mend();
        for volume in (0..self.cluster.size()).filter_map(|member| self.cluster.volume(member)) {
            volume.spare();
        }
        if self.cluster.put_back(victim.number) {
            let until = Instant::now() + KNOWN;
            while Instant::now() < until && !self.cluster.takes_part(victim.number) {
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Arms a disk, so that its member ends or fails in the middle of something.
    fn harm_a_disk(&mut self) {
        let victim = self.victim();
        let Some(volume) = victim.and_then(|victim| self.cluster.volume(victim.number)) else { return };
        self.loss = self.some_loss();
        let fault = match self.rng.random_range(0..5) {
            0 => DiskFault::Fail,
            1 | 2 => DiskFault::EndAfter,
            _ => DiskFault::EndBefore,
        };
        volume.fail_after(self.rng.random_range(0..8), fault);
    }

    /// Cuts one member off, or two from each other, in both directions or in one.
    fn split(&mut self) {
        let size = self.cluster.size();
        let loner = self.victim().map_or(0, |victim| victim.number);
        let spared = if self.rng.random_bool(0.3) { Some((loner + 1) % size) } else { None };
        let direction = self.rng.random_range(0..4);
        self.cluster.wires.mend();
        self.cluster.trace.note(format_args!("{loner} is cut off, but not from {spared:?}, direction {direction}"));
        self.cluster.count(|counts| match direction {
            0 | 1 => counts.one_way_partitions += 1,
            _ => counts.partitions += 1,
        });
        for other in (0..size).filter(|other| *other != loner && Some(*other) != spared) {
            if direction != 0 {
                self.cluster.wires.cut(&name(loner), &name(other));
            }
            if direction != 1 {
                self.cluster.wires.cut(&name(other), &name(loner));
            }
        }
    }

    fn change_weather(&mut self) {
        let weather = Weather {
            delay: Duration::from_micros(self.rng.random_range(100..20_000)),
            slow: self.rng.random_range(0.0..0.05),
            lost: self.rng.random_range(0.0..0.1),
            doubled: self.rng.random_range(0.0..0.1),
            hurried: self.rng.random_range(0.0..0.5),
        };
        self.cluster.wires.set_weather(weather);
    }

    /// Lets members see the end of others that live, or hides the end of those that do not; or makes all that they see true.
    fn deceive(&mut self) {
        let lies = if self.rng.random_bool(0.6) { self.rng.random_range(0.1..1.0) } else { 0.0 };
        let proxied = (0..self.cluster.size()).filter(|_| self.rng.random_bool(0.3)).map(name).collect();
        let deceit = Deceit { lies, proxied };
        self.cluster.trace.note(format_args!("{deceit:?}"));
        self.cluster.count(|counts| counts.deceits += 1);
        self.cluster.wires.deceive(deceit);
        // Otherwise nobody would look.
        self.break_connections();
    }

    /// Breaks the connections to a member that lives.
    fn break_connections(&mut self) {
        if let Some(victim) = self.victim() {
            self.cluster.wires.break_connections(&name(victim.number));
        }
    }

    /// Lets some members know that they should not lead, and all others that they may.
    fn judge_fitness(&mut self) {
        for member in self.cluster.all_running() {
            let is_unfit = self.rng.random_bool(0.5);
            self.cluster.trace.note(format_args!(
                "member {} is {}",
                member.number,
                if is_unfit { "unfit" } else { "fit" }
            ));
            self.cluster.count(|counts| counts.unfit_members += u64::from(is_unfit));
            member.raft.set_fitness(if is_unfit { Fitness::Unfit } else { Fitness::Fit });
        }
    }

    /// Asks for another Raft leader.
    async fn transfer(&mut self) {
        let Some(asked) = self.victim() else { return };
        let deadline = Instant::now() + Duration::from_millis(300);
        let result = asked.life.outlives(asked.raft.transfer(None, deadline)).await;
        if let Some(Ok(_)) = result {
            self.cluster.count(|counts| counts.transfers += 1);
        }
    }
}
