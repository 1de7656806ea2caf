//! Stories about the machine: each `.txt` file beside this one is a transcript that a person can read.
//!
//! A step is a line of input (a transaction takes several), a line of dashes, and what the machine said. After every step
//! all invariants are checked. `QUORATE_REWRITE=1 cargo test --test scenarios` writes what the machine says now; read the
//! difference before keeping it. `language.rs` has the words.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod language;
mod transcript;

use std::fs;
use std::path::{Path, PathBuf};

use quorate::encoding::DecodeError;
use quorate::machine::{Limits, Machine};
use quorate::types::{LogIndex, Timestamp};

use language::{Step, parse};

#[test]
fn every_story_goes_as_it_is_told() {
    #[expect(clippy::disallowed_methods, reason = "the test's own setting")]
    let rewrite = std::env::var("QUORATE_REWRITE").is_ok();
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "scenarios"].iter().collect();
    let mut stories: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    stories.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    stories.sort();
    assert!(stories.len() >= 15, "only {} stories", stories.len());
    for path in stories {
        let told = fs::read_to_string(&path).unwrap();
        let happened = tell(&told, &path);
        if rewrite {
            fs::write(&path, happened).unwrap();
        } else {
            compare(&told, &happened, &path);
        }
    }
}

fn compare(told: &str, happened: &str, path: &Path) {
    for (line, (told, happened)) in (1..).zip(told.lines().zip(happened.lines())) {
        assert_eq!(told, happened, "{}:{line}: told on the left, happened on the right", path.display());
    }
    assert_eq!(told.lines().count(), happened.lines().count(), "{} ends early", path.display());
}

/// Plays a story and writes it down again as it happens.
fn tell(story: &str, path: &Path) -> String {
    let mut stage = Stage { machine: Machine::new(Limits::default()), index: 0 };
    let mut written = Vec::new();
    for block in story.trim_end().split("\n\n") {
        let input: Vec<&str> = block.lines().take_while(|line| *line != "----").collect();
        let is_comment = input.iter().all(|line| line.starts_with('#'));
        if is_comment {
            written.push(block.to_owned());
            continue;
        }
        let step = parse(&input).unwrap_or_else(|error| panic!("{}: {error}, in:\n{block}", path.display()));
        let output = stage.play(step);
        stage.machine.check().unwrap_or_else(|violation| panic!("{}: {violation}, after:\n{block}", path.display()));
        written.push(format!("{}\n----\n{}", input.join("\n"), output.trim_end()));
    }
    written.join("\n\n") + "\n"
}

/// Where a story is played: one machine, whose log grows by one entry a step.
struct Stage {
    machine: Machine,
    index: u64,
}

impl Stage {
    fn play(&mut self, step: Step) -> String {
        match step {
            Step::Limits(change) => {
                let mut limits = *self.machine.limits();
                change(&mut limits);
                self.machine = Machine::new(limits);
                "a new machine".to_owned()
            }
            Step::Command(author, action) => {
                self.index += 1;
                let at = Timestamp::from_millis(self.index * 1000);
                let command = quorate::machine::command::Command { at, author, action };
                transcript::applied(&self.machine.apply(LogIndex::new(self.index), &command))
            }
            Step::NoCommand => {
                self.index += 1;
                self.machine.advance(LogIndex::new(self.index));
                format!("applied {}", self.index)
            }
            Step::Read(read) => transcript::read(&self.machine, read),
            Step::Restore => {
                let records: Vec<_> = self.machine.records().map(Ok::<_, DecodeError>).collect();
                let count = records.len();
                let restored = Machine::restore(*self.machine.limits(), records).unwrap();
                let same = restored.digest() == self.machine.digest();
                self.machine = restored;
                format!("{count} records; the digest is {}", if same { "the same" } else { "another" })
            }
        }
    }
}
