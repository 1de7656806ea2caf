//! The words of a story.
//!
//! ```text
//! client: put KEY = VALUE [with SESSION] [if CONDITION]      CONDITION: absent, present, at REVISION
//! client: delete KEY [if CONDITION]
//! client: transaction                         then lines: "if KEY TARGET RELATION VALUE", "if CONTEST held by TOKEN",
//!                                             "then OPERATION", "else OPERATION"
//! client: config NAMESPACE/NAME [KEY=TEXT ...] [keep N] [rollback VERSION] [if CONDITION]   ... at VERSION
//! client: drop NAMESPACE/NAME [if CONDITION]
//! client: applied NAMESPACE/NAME version VERSION by SESSION [failed] [KEY=TEXT]
//! client: session [ttl MS] [limit N] [as NAME] [KEY=TEXT ...]
//! client: end SESSION [exited]
//! client: claim CONTEST by SESSION [shared | permits N] [of CAPACITY] [priority N] [at once] [limits WAITING CLAIMS]
//!     [as NAME] [KEY=TEXT ...]
//! client: release CONTEST by SESSION [token TOKEN] [exited]
//! client: revoke CONTEST [token TOKEN]
//! duty N: forget NUMBER | compact REVISION | expire SESSION[+MS] ...
//!     | set NAMESPACE/NAME to SEATS seats [ttl MS] | unset NAMESPACE/NAME
//!     | allocate NAME INCARNATION | forget member MEMBER | size VOTERS+LEARNERS
//! member: found NUMBER with MEMBERS members | announce MEMBER NAME LEVEL [incarnation NUMBER] | lead MEMBER TERM
//! read: get KEY [at REVISION] | range [PREFIX*] [after KEY] [limit N] [at REVISION] | configs [NAMESPACE]
//!     | history NAMESPACE/NAME | cluster | numbers | sessions | CONTEST | consumers NAMESPACE/NAME
//! log: something else | restore | limits NAME=NUMBER ...
//! ```
//!
//! A contest is `election NAMESPACE/NAME` or `lock NAMESPACE/NAME`. A claim waits unless it is `at once`, and asks for all
//! permits unless it says otherwise. Any command may be a client's (`client`, `client REQUEST` with an idempotency key), a
//! duty's or a member's. `*N` as a value stands for N times the letter x.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use quorate::machine::Limits;
use quorate::machine::command::{
    Action, Author, Care, ClaimLimits, ClusterSize, Compare, CompareTarget, ConfigCondition, ConfigDocument, ConfigId,
    ConsumerReport, ContestId, ContestKind, ElectionSpec, EndCause, Fence, KeyCondition, KeyOperation, MemberRecord,
    Metadata, NewClaim, NewSession, Otherwise, Permits, Relation, SilentSession, Steering, Transaction,
};
use quorate::types::{
    ClusterId, FeatureLevel, FencingToken, IdempotencyKey, Incarnation, Key, Leadership, MemberId, Namespace, Revision,
    SessionId, Term, Ttl, Version,
};

pub enum Step {
    Command(Author, Action),
    Read(Read),
    /// A log entry that is no command.
    NoCommand,
    Restore,
    Limits(Box<dyn Fn(&mut Limits)>),
}

pub enum Read {
    Get { key: Key, at: Option<Revision> },
    Range { prefix: String, after: Option<Key>, limit: usize, at: Option<Revision> },
    Configs(Option<Namespace>),
    History(ConfigId),
    Cluster,
    Numbers,
    Sessions,
    Contest(ContestId),
    Consumers(ConfigId),
}

pub fn parse(lines: &[&str]) -> Result<Step> {
    let (who, what) = lines[0].split_once(": ").context("a step is WHO: WHAT")?;
    let mut words = Words(what.split_whitespace().collect());
    let step = match who.split_once(' ').unwrap_or((who, "")) {
        ("read", "") => Step::Read(read(&mut words)?),
        ("log", "") => log(&mut words)?,
        (author, detail) => Step::Command(self::author(author, detail)?, action(&mut words, &lines[1..])?),
    };
    if words.0.is_empty() { Ok(step) } else { bail!("{:?} is too much", words.0) }
}

/// What is left of a line.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn next(&mut self) -> Result<&'a str> {
        if self.0.is_empty() { bail!("a word is missing at the end") } else { Ok(self.0.remove(0)) }
    }

    fn parse<T: FromStr<Err: std::fmt::Display>>(&mut self) -> Result<T> {
        let word = self.next()?;
        word.parse().map_err(|error| anyhow!("{word}: {error}"))
    }

    /// Takes `word` and says whether it was next.
    fn take(&mut self, word: &str) -> bool {
        let is_next = self.0.first() == Some(&word);
        if is_next {
            self.0.remove(0);
        }
        is_next
    }

    /// The value behind `word`, when that is next.
    fn after<T: FromStr<Err: std::fmt::Display>>(&mut self, word: &str) -> Result<Option<T>> {
        if self.take(word) { self.parse().map(Some) } else { Ok(None) }
    }
}

fn author(author: &str, detail: &str) -> Result<Author> {
    Ok(match (author, detail) {
        ("client", "") => Author::Client(None),
        ("client", request) => Author::Client(Some(IdempotencyKey::new(request)?)),
        ("duty", leadership) => Author::Duty(Leadership::new(leadership.parse()?)),
        ("member", "") => Author::Member,
        _ => bail!("nobody is called {author}"),
    })
}

fn action(words: &mut Words<'_>, lines: &[&str]) -> Result<Action> {
    Ok(match words.next()? {
        "put" => {
            let (key, value, session) = put(words)?;
            Action::PutKey { key, value, session, only_if: key_condition(words)? }
        }
        "delete" => Action::DeleteKey { key: words.parse()?, only_if: key_condition(words)? },
        "transaction" => Action::Transact(transaction(lines)?),
        "config" => {
            let (config, document) = (config(words)?, document(words)?);
            Action::PutConfig { config, document, only_if: config_condition(words)? }
        }
        "drop" => Action::DeleteConfig { config: config(words)?, only_if: config_condition(words)? },
        "forget" if words.take("member") => Action::ForgetMember { member: MemberId::new(words.parse()?) },
        "forget" => Action::ForgetRequests { through: words.parse()? },
        "compact" => Action::Compact { through: Revision::new(words.parse()?) },
        "found" => {
            let cluster = ClusterId::from_random(words.parse()?);
            let newest_member = words.after("with")?.map(MemberId::new).context("a cluster has so many members")?;
            if !words.take("members") {
                bail!("a cluster has so many members");
            }
            Action::FoundCluster { cluster, newest_member }
        }
        "announce" => {
            let member = MemberId::new(words.parse()?);
            let (name, level): (&str, u64) = (words.next()?, words.parse()?);
            let record = member_record(name, level, words.after("incarnation")?)?;
            Action::AnnounceMember { member, record, before: Vec::new() }
        }
        "allocate" => {
            let (name, incarnation): (&str, u128) = (words.next()?, words.parse()?);
            Action::AllocateMember { record: member_record(name, 1, Some(incarnation))? }
        }
        "size" => {
            let (voters, learners) = words.next()?.split_once('+').context("a size is VOTERS+LEARNERS")?;
            Action::SetSize(ClusterSize { voters: voters.parse()?, learners: learners.parse()? })
        }
        "steer" => {
            let care = if words.take("paused") { Care::Paused } else { Care::Active };
            let preferred_leader = if words.take("preferring") { Some(words.parse()?) } else { None };
            Action::Steer(Steering { preferred_leader, care })
        }
        "lead" => Action::BeginLeadership { member: MemberId::new(words.parse()?), term: Term::new(words.parse()?) },
        other => return holding(other, words),
    })
}

fn member_record(name: &str, level: u64, incarnation: Option<u128>) -> Result<MemberRecord> {
    Ok(MemberRecord {
        name: name.parse()?,
        incarnation: Incarnation::from_random(incarnation.unwrap_or(1)),
        url: format!("http://{name}:8080"),
        version: "0.1.0".to_owned(),
        features: FeatureLevel::new(level),
        life: None,
    })
}

/// The commands of sessions and of what they hold.
fn holding(command: &str, words: &mut Words<'_>) -> Result<Action> {
    Ok(match command {
        "applied" => {
            let config = config(words)?;
            let version = Version::new(words.after("version")?.context("a report names a version")?);
            let (session, ok) = (by(words)?, !words.take("failed"));
            let message = metadata(words)?.into_iter().map(|(key, text)| format!("{key} {text}")).collect();
            Action::ReportConsumer { config, session, report: ConsumerReport { version, ok, message } }
        }
        "session" => {
            let ttl = Ttl::from_millis(words.after("ttl")?.unwrap_or(3000))?;
            let limit = words.after("limit")?.unwrap_or(100);
            let (client, metadata) = (words.after("as")?, metadata(words)?);
            Action::CreateSession { session: NewSession { ttl, client, metadata }, limit }
        }
        "end" => Action::EndSession { session: session(words)?, cause: cause(words) },
        "expire" => {
            let silent = std::mem::take(&mut words.0).into_iter().map(|word| {
                let (session, overdue_ms) = word.split_once('+').unwrap_or((word, "0"));
                Ok(SilentSession { session: SessionId::new(session.parse()?), overdue_ms: overdue_ms.parse()? })
            });
            Action::ExpireSessions(silent.collect::<Result<_>>()?)
        }
        "claim" => claim(words)?,
        "release" => {
            let (contest, session) = (contest(words)?, by(words)?);
            let token = words.after("token")?.map(FencingToken::new);
            Action::Release { contest, session, token, cause: cause(words) }
        }
        "revoke" => {
            let contest = contest(words)?;
            Action::Revoke { contest, token: words.after("token")?.map(FencingToken::new) }
        }
        "set" => {
            let ContestId { namespace, name, .. } = named(ContestKind::Election, words)?;
            let seats = words.after("to")?.context("an election is set to so many seats")?;
            if !words.take("seats") {
                bail!("an election is set to so many seats");
            }
            let session_ttl = words.after("ttl")?.map(Ttl::from_millis).transpose()?;
            Action::SetElection { namespace, name, spec: Some(ElectionSpec { seats, session_ttl }) }
        }
        "unset" => {
            let ContestId { namespace, name, .. } = named(ContestKind::Election, words)?;
            Action::SetElection { namespace, name, spec: None }
        }
        other => bail!("{other} is no command"),
    })
}

fn claim(words: &mut Words<'_>) -> Result<Action> {
    let (contest, session) = (contest(words)?, by(words)?);
    let permits = if words.take("shared") { Some(1) } else { words.after("permits")? };
    let (capacity, priority) = (words.after("of")?, words.after("priority")?.unwrap_or(0));
    let otherwise = if words.take("at") && words.take("once") { Otherwise::Refuse } else { Otherwise::Wait };
    let limits = if words.take("limits") {
        ClaimLimits { waiting: words.parse()?, claims: words.parse()? }
    } else {
        ClaimLimits { waiting: 100, claims: 100 }
    };
    let (candidate, metadata) = (words.after("as")?, metadata(words)?);
    let permits = permits.map_or(Permits::All, Permits::Some);
    let claim = NewClaim { candidate, priority, permits, capacity, otherwise, metadata };
    Ok(Action::Claim { contest, session, claim, limits })
}

fn contest(words: &mut Words<'_>) -> Result<ContestId> {
    let kind = match words.next()? {
        "election" => ContestKind::Election,
        "lock" => ContestKind::Lock,
        other => bail!("{other} is neither an election nor a lock"),
    };
    named(kind, words)
}

fn named(kind: ContestKind, words: &mut Words<'_>) -> Result<ContestId> {
    let (namespace, name) = words.next()?.split_once('/').context("a contest is NAMESPACE/NAME")?;
    Ok(ContestId { kind, namespace: namespace.parse()?, name: name.parse()? })
}

fn session(words: &mut Words<'_>) -> Result<SessionId> {
    words.parse().map(SessionId::new)
}

fn by(words: &mut Words<'_>) -> Result<SessionId> {
    if words.take("by") { session(words) } else { bail!("it is done by a session") }
}

fn cause(words: &mut Words<'_>) -> EndCause {
    if words.take("exited") { EndCause::ClientExited } else { EndCause::GivenUp }
}

/// All that is left of a line, if it says KEY=TEXT.
fn metadata(words: &mut Words<'_>) -> Result<Metadata> {
    let mut metadata = Metadata::new();
    while let Some((key, value)) = words.0.first().and_then(|word| word.split_once('=')) {
        metadata.insert(key.to_owned(), text(value)?);
        words.next()?;
    }
    Ok(metadata)
}

fn put(words: &mut Words<'_>) -> Result<(Key, Bytes, Option<SessionId>)> {
    let (key, equals, value) = (words.parse()?, words.next()?, words.next()?);
    let session = words.after("with")?.map(SessionId::new);
    if equals == "=" { Ok((key, text(value)?.into(), session)) } else { bail!("{equals} should be =") }
}

/// A text; `*N` is a long one.
fn text(word: &str) -> Result<String> {
    Ok(match word.strip_prefix('*') {
        Some(length) => "x".repeat(length.parse()?),
        None => word.to_owned(),
    })
}

fn key_condition(words: &mut Words<'_>) -> Result<KeyCondition> {
    if !words.take("if") {
        return Ok(KeyCondition::Always);
    }
    Ok(match words.next()? {
        "absent" => KeyCondition::Absent,
        "present" => KeyCondition::Present,
        "at" => KeyCondition::ModifiedAt(Revision::new(words.parse()?)),
        other => bail!("{other} is no condition"),
    })
}

fn config_condition(words: &mut Words<'_>) -> Result<ConfigCondition> {
    if !words.take("if") {
        return Ok(ConfigCondition::Always);
    }
    Ok(match words.next()? {
        "absent" => ConfigCondition::Absent,
        "present" => ConfigCondition::Present,
        "at" => ConfigCondition::VersionIs(Version::new(words.parse()?)),
        other => bail!("{other} is no condition"),
    })
}

fn config(words: &mut Words<'_>) -> Result<ConfigId> {
    let (namespace, name) = words.next()?.split_once('/').context("a config is NAMESPACE/NAME")?;
    Ok(ConfigId { namespace: namespace.parse()?, name: name.parse()? })
}

fn document(words: &mut Words<'_>) -> Result<ConfigDocument> {
    let mut data = BTreeMap::new();
    while let Some((key, value)) = words.0.first().and_then(|word| word.split_once('=')) {
        data.insert(key.parse()?, text(value)?);
        words.next()?;
    }
    let history_limit = words.after("keep")?.unwrap_or(20);
    Ok(ConfigDocument { data, history_limit, rollback_to: words.after("rollback")?.map(Version::new) })
}

fn transaction(lines: &[&str]) -> Result<Transaction> {
    let mut transaction = Transaction { compare: Vec::new(), success: Vec::new(), failure: Vec::new() };
    for line in lines {
        let mut words = Words(line.split_whitespace().collect());
        match words.next()? {
            "if" => transaction.compare.push(compare(&mut words)?),
            "then" => transaction.success.push(operation(&mut words)?),
            "else" => transaction.failure.push(operation(&mut words)?),
            other => bail!("{other} is no part of a transaction"),
        }
        if !words.0.is_empty() {
            bail!("{:?} is too much", words.0);
        }
    }
    Ok(transaction)
}

fn compare(words: &mut Words<'_>) -> Result<Compare> {
    if matches!(words.0[..], [_, _, "held", "by", _]) {
        let contest = contest(words)?;
        words.0.drain(..2);
        return Ok(Compare::Fence(Fence { contest, token: FencingToken::new(words.parse()?) }));
    }
    let (key, target, relation) = (words.parse()?, words.next()?, words.next()?);
    let relation = match relation {
        "=" => Relation::Equal,
        "!=" => Relation::NotEqual,
        "<" => Relation::Less,
        ">" => Relation::Greater,
        other => bail!("{other} is no relation"),
    };
    let target = match target {
        "version" => CompareTarget::Version(Version::new(words.parse()?)),
        "created" => CompareTarget::CreateRevision(Revision::new(words.parse()?)),
        "changed" => CompareTarget::ModRevision(Revision::new(words.parse()?)),
        "value" => CompareTarget::Value(text(words.next()?)?.into()),
        other => bail!("{other} cannot be compared"),
    };
    Ok(Compare::Key { key, relation, target })
}

fn operation(words: &mut Words<'_>) -> Result<KeyOperation> {
    Ok(match words.next()? {
        "get" => KeyOperation::Get(words.parse()?),
        "delete" => KeyOperation::Delete(words.parse()?),
        "put" => {
            let (key, value, session) = put(words)?;
            KeyOperation::Put { key, value, session }
        }
        other => bail!("{other} is no operation"),
    })
}

fn read(words: &mut Words<'_>) -> Result<Read> {
    Ok(match words.next()? {
        "get" => Read::Get { key: words.parse()?, at: words.after("at")?.map(Revision::new) },
        "range" => {
            let prefix = words.0.first().and_then(|word| word.strip_suffix('*')).map(str::to_owned);
            if prefix.is_some() {
                words.next()?;
            }
            let (after, limit) = (words.after("after")?, words.after("limit")?.unwrap_or(usize::MAX));
            let at = words.after("at")?.map(Revision::new);
            Read::Range { prefix: prefix.unwrap_or_default(), after, limit, at }
        }
        "configs" => Read::Configs(if words.0.is_empty() { None } else { Some(words.parse()?) }),
        "history" => Read::History(config(words)?),
        "cluster" => Read::Cluster,
        "numbers" => Read::Numbers,
        "sessions" => Read::Sessions,
        "election" => Read::Contest(named(ContestKind::Election, words)?),
        "lock" => Read::Contest(named(ContestKind::Lock, words)?),
        "consumers" => Read::Consumers(config(words)?),
        other => bail!("{other} cannot be read"),
    })
}

fn log(words: &mut Words<'_>) -> Result<Step> {
    match words.next()? {
        "something" if words.take("else") => Ok(Step::NoCommand),
        "restore" => Ok(Step::Restore),
        "limits" => {
            let mut changes = Vec::new();
            for word in std::mem::take(&mut words.0) {
                let (name, number) = word.split_once('=').context("a limit is NAME=NUMBER")?;
                changes.push((name.to_owned(), number.parse::<u32>()?));
            }
            Ok(Step::Limits(Box::new(move |limits| {
                changes.iter().for_each(|(name, number)| limit(limits, name, *number));
            })))
        }
        other => bail!("{other} is not for the log"),
    }
}

fn limit(limits: &mut Limits, name: &str, number: u32) {
    match name {
        "value_bytes" => limits.value_bytes = number.into(),
        "config_bytes" => limits.config_bytes = number.into(),
        "config_versions" => limits.config_versions = number.into(),
        "operations" => limits.operations = number.into(),
        "state_bytes" => limits.state_bytes = number.into(),
        "history_revisions" => limits.history_revisions = number as usize,
        "history_bytes" => limits.history_bytes = number.into(),
        "requests" => limits.requests = number as usize,
        "request_bytes" => limits.request_bytes = number.into(),
        other => panic!("{other} is no limit"),
    }
}
