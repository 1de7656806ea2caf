//! How it is shown: one screen that is drawn anew on a terminal, or lines as things happen.

use std::io::{self, IsTerminal, Write};

use super::layout::MemberPlace;
use super::view::{Member, View};
use crate::cli::output::{Table, write_out};
use crate::cli::status;

/// Where it is shown.
pub struct Screen {
    terminal: bool,
    shown: String,
    /// Lines of the story that were printed; only without a terminal.
    printed: usize,
}

impl Screen {
    pub fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), shown: String::new(), printed: 0 }
    }

    /// Shows what has changed.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn show(&mut self, view: &View) -> io::Result<()> {
        if self.terminal { self.draw(view) } else { self.print(view) }
    }

    fn draw(&mut self, view: &View) -> io::Result<()> {
        let story: String = view.story.iter().map(|line| format!("  {line}\n")).collect();
        let text = format!("{}\nWhat happened\n{story}", top(view));
        if text == self.shown {
            return Ok(());
        }
        let first = if self.shown.is_empty() { "\x1b[2J" } else { "" };
        let mut out = io::stdout().lock();
        // Home, then the text, each line cleared to its end, then everything below: no flicker.
        write!(out, "{first}\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))?;
        out.flush()?;
        self.shown = text;
        Ok(())
    }

    fn print(&mut self, view: &View) -> io::Result<()> {
        let new = view.told - self.printed;
        for line in view.story.iter().skip(view.story.len().saturating_sub(new)) {
            write_out(format!("{line}\n").as_bytes())?;
        }
        self.printed = view.told;
        if self.shown.is_empty() && view.is_settled() {
            self.shown = top(view);
            write_out(format!("\n{}\n", self.shown).as_bytes())?;
        }
        Ok(())
    }
}

/// Everything but the story.
fn top(view: &View) -> String {
    let leader = view.leader.as_ref().map_or("nobody leads".to_owned(), |leader| format!("{leader} leads"));
    let mut text = format!("Quorate, three members on this machine: {leader}. Ctrl-C stops all.\n\n");
    text += &members(view).render("  ");
    for (place, member) in view.layout.members.iter().zip(&view.members) {
        if let Member::Waiting { waits, .. } = member {
            text += &format!("  {} waits: {}\n", place.name, waits.reason);
        }
    }
    text += &format!("\nResources in {}\n", view.layout.resources.display());
    text += &configs(view).render("  ");
    text.extend(view.problems.iter().map(|problem| format!("  WRONG: {problem}\n")));
    text += "\nTry\n";
    text.extend(curls(view).map(|line| format!("  {line}\n")));
    text
}

fn members(view: &View) -> Table {
    let mut table = Table::new(["MEMBER", "PID", "STATE", "HTTP", "HEALTH", "LOG"]);
    for ((place, member), pid) in view.layout.members.iter().zip(&view.members).zip(&view.pids) {
        let health = format!("http://{}", place.health);
        table.row([
            place.name.clone(),
            pid.clone(),
            state(member),
            place.url(),
            health,
            place.log.display().to_string(),
        ]);
    }
    table
}

fn state(member: &Member) -> String {
    match member {
        Member::Starting(_) => "starting".to_owned(),
        Member::CatchingUp { entries, .. } => format!("catching up, {entries} entries behind"),
        Member::Waiting { .. } => "waits".to_owned(),
        Member::Up(state) => status::state(*state).to_owned(),
        Member::UpWithoutQuorum => "up, no quorum".to_owned(),
        Member::Down => "down".to_owned(),
    }
}

fn configs(view: &View) -> Table {
    let all = view.layout.members.len();
    let mut table = Table::new(["CONFIG", "VERSION", "MEMBERS"]);
    for (config, seen) in &view.configs {
        let version = seen.version.map_or_else(|| "not yet".to_owned(), |version| version.to_string());
        table.row([config.to_string(), version, format!("{} of {all}", seen.members)]);
    }
    table
}

/// One line against each member.
fn curls(view: &View) -> impl Iterator<Item = String> {
    let urls: Vec<_> = view.layout.members.iter().map(MemberPlace::url).collect();
    let config = view.configs.keys().next().map_or_else(|| "default/NAME".to_owned(), ToString::to_string);
    let paths = ["/v1/leader".to_owned(), format!("/v1/config/{config}"), "/v1/kv/greeting".to_owned()];
    let verbs = ["curl", "curl", "curl -X PUT --data hello"];
    verbs.into_iter().zip(urls).zip(paths).map(|((verb, url), path)| format!("{verb} {url}{path}"))
}
