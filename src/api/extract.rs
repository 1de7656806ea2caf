//! From an HTTP request to valid values. Whatever is wrong becomes a problem document; nothing half-checked goes further.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant, timeout};

use super::Api;
use super::object::Object;
use super::problem::{Problem, ProblemKind};
use crate::coordinator::{Consistency, CoordinatorError, Read, Unavailable, Write};
use crate::machine::command::{ConfigCondition, KeyCondition};
use crate::types::{IdempotencyKey, Key, Revision, Version};

/// The largest body that is read.
const BODY: usize = 3 << 19;

/// Bytes of bodies that are on their way at a time. Only what has arrived counts, so that clients that promise a body and do
/// not send it keep nobody out.
pub const BODIES: usize = 64 << 20;

/// How long a client may take to send a body: the largest one at half a megabit a second.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// The deepest nesting of JSON that is read.
const DEPTH: usize = 64;

/// How long a call waits when it does not say.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest that a call may wait.
const LONGEST: u64 = 60_000;

/// The parts of the path, decoded.
#[derive(Debug)]
pub struct Names<T>(pub T);

impl<T, S> FromRequestParts<S> for Names<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        require_percent_encoding("path", parts.uri.path())?;
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(names)| Self(names)).map_err(|rejection| Problem::invalid("path", rejection.body_text()))
    }
}

/// A part of the path as a name with a rule.
///
/// # Errors
/// When it breaks the rule.
pub fn name<T>(pointer: &str, text: &str) -> Result<T, Problem>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| Problem::invalid(pointer, error.to_string()))
}

/// A key of the small metadata store.
///
/// # Errors
/// When it is too long, or no key.
pub fn key(pointer: &str, text: &str) -> Result<Key, Problem> {
    if text.len() > Key::LONGEST {
        let detail = format!("{pointer}: the key has {} bytes, and at most {} are allowed", text.len(), Key::LONGEST);
        return Err(Problem::new(ProblemKind::TooLarge, detail));
    }
    name(pointer, text)
}

/// Every percent sign begins a byte in two hexadecimal digits.
fn require_percent_encoding(pointer: &str, text: &str) -> Result<(), Problem> {
    let encodes = |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if text.split('%').skip(1).all(encodes) {
        return Ok(());
    }
    Err(Problem::invalid(pointer, "a percent sign is not followed by two hexadecimal digits; write it as %25"))
}

/// The query parameters: each is taken once, and what nobody takes is an error.
#[derive(Debug)]
pub struct Query(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut query = BTreeMap::new();
        for pair in parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if query.insert(name.clone(), value).is_some() {
                return Err(Problem::invalid(name, "this parameter is given twice"));
            }
        }
        Ok(Self(query))
    }
}

/// One part of a query in its form encoding.
fn decode(text: &str) -> Result<String, Problem> {
    require_percent_encoding("query", text)?;
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8();
    decoded.map(Into::into).map_err(|_| Problem::invalid("query", "the percent-encoded text is no UTF-8"))
}

impl Query {
    /// Takes a parameter, if it is there.
    ///
    /// # Errors
    /// When it is not what it should be.
    pub fn take<T>(&mut self, name: &str) -> Result<Option<T>, Problem>
    where
        T: FromStr,
        T::Err: Display,
    {
        let parse = |text: String| {
            let shown: String = text.chars().take(80).collect();
            text.parse().map_err(|error: T::Err| Problem::invalid(name, format!("{shown:?} is not valid: {error}")))
        };
        self.0.remove(name).map(parse).transpose()
    }

    /// Takes a number, if it is there.
    ///
    /// # Errors
    /// When it is negative, too large, or no number.
    pub fn take_number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        self.take::<Number>(name).map(|number| number.map(|Number(number)| number))
    }

    /// Takes a key, if it is there.
    ///
    /// # Errors
    /// When it is too long, or no key.
    pub fn take_key(&mut self, name: &str) -> Result<Option<Key>, Problem> {
        self.0.remove(name).map(|text| key(name, &text)).transpose()
    }

    /// Takes what says how a read is to be made.
    ///
    /// # Errors
    /// When one of the parameters is wrong.
    pub fn take_read(&mut self) -> Result<Read, Problem> {
        let consistency = match self.0.remove("consistency").as_deref() {
            None | Some("linearizable") => Consistency::Linearizable,
            Some("stale") => Consistency::Stale,
            Some(_) => return Err(Problem::invalid("consistency", "it is `linearizable` or `stale`")),
        };
        let min_revision = self.take_number("minRevision")?.map(Revision::new);
        Ok(Read { consistency, min_revision, deadline: self.take_deadline()? })
    }

    /// Takes until when the call may wait.
    ///
    /// # Errors
    /// When it is no number of milliseconds up to a minute.
    pub fn take_deadline(&mut self) -> Result<Instant, Problem> {
        let patience = match self.take_number("timeoutMs")? {
            None => PATIENCE,
            Some(millis @ 1..=LONGEST) => Duration::from_millis(millis),
            Some(_) => return Err(Problem::invalid("timeoutMs", format!("it is a number from 1 to {LONGEST}"))),
        };
        Ok(Instant::now() + patience)
    }

    /// Takes what says how a write is to be made, from the query and the headers.
    ///
    /// # Errors
    /// When one of them is wrong.
    pub fn take_write(&mut self, headers: &HeaderMap) -> Result<Write, Problem> {
        let key = header_text(headers, &IDEMPOTENCY_KEY)?.map(|text| name::<IdempotencyKey>("Idempotency-Key", text));
        Ok(Write { key: key.transpose()?, deadline: self.take_deadline()? })
    }

    /// Nothing is left over.
    ///
    /// # Errors
    /// When something is.
    pub fn finish(self) -> Result<(), Problem> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(Problem::invalid(name, "there is no such parameter here")),
        }
    }
}

/// A number in a query, with an error that says what is allowed.
struct Number(u64);

impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("it is a whole number from 0 to {}", u64::MAX))
    }
}

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A header that may be there once.
pub fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    if headers.get_all(name).iter().nth(1).is_some() {
        return Err(Problem::invalid(name.as_str(), "this header is given twice"));
    }
    let text = |value: &'a axum::http::HeaderValue| {
        value.to_str().map_err(|_| Problem::invalid(name.as_str(), "it has characters that are not printable ASCII"))
    };
    headers.get(name).map(text).transpose()
}

/// What `If-Match` and `If-None-Match` require of a key; entity tags are mod revisions.
///
/// # Errors
/// When they are no entity tags, or both are there.
pub fn key_condition(headers: &HeaderMap) -> Result<KeyCondition, Problem> {
    Ok(match condition(headers)? {
        Condition::None => KeyCondition::Always,
        Condition::Absent => KeyCondition::Absent,
        Condition::Present => KeyCondition::Present,
        Condition::Tag(number) => KeyCondition::ModifiedAt(Revision::new(number)),
    })
}

/// What `If-Match` and `If-None-Match` require of a config; entity tags are versions.
///
/// # Errors
/// When they are no entity tags, or both are there.
pub fn config_condition(headers: &HeaderMap) -> Result<ConfigCondition, Problem> {
    Ok(match condition(headers)? {
        Condition::None => ConfigCondition::Always,
        Condition::Absent => ConfigCondition::Absent,
        Condition::Present => ConfigCondition::Present,
        Condition::Tag(number) => ConfigCondition::VersionIs(Version::new(number)),
    })
}

enum Condition {
    None,
    Absent,
    Present,
    Tag(u64),
}

fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let if_match = header_text(headers, &header::IF_MATCH)?;
    let if_none_match = header_text(headers, &header::IF_NONE_MATCH)?;
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::None),
        (None, Some("*")) => Ok(Condition::Absent),
        (None, Some(_)) => Err(Problem::invalid("If-None-Match", "a write takes only `*`")),
        (Some("*"), None) => Ok(Condition::Present),
        (Some(tag), None) => entity_tag(tag)
            .map(Condition::Tag)
            .ok_or_else(|| Problem::invalid("If-Match", "it is `*` or one entity tag such as \"17\"")),
        (Some(_), Some(_)) => Err(Problem::invalid("If-None-Match", "it cannot be combined with If-Match")),
    }
}

/// The number in an entity tag.
fn entity_tag(tag: &str) -> Option<u64> {
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// Whether the client has this entity already; tags are compared weakly (RFC 9110, section 13.1.2).
pub fn has_already(headers: &HeaderMap, tag: u64) -> bool {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let names_it = |known: &str| {
        let known = known.trim();
        known == "*" || entity_tag(known.strip_prefix("W/").unwrap_or(known)) == Some(tag)
    };
    known.is_some_and(|known| known.split(',').any(names_it))
}

/// A body of any bytes.
#[derive(Debug)]
pub struct RawBody(pub Bytes);

impl FromRequest<Api> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        read_body(request.into_body(), &api.bodies).await.map(Self)
    }
}

async fn read_body(body: Body, room: &Semaphore) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > BODY as u64 {
        return Err(too_large());
    }
    timeout(BODY_PATIENCE, receive(body, room)).await.unwrap_or_else(|_| {
        let detail = format!("the body was not whole after {} seconds", BODY_PATIENCE.as_secs());
        Err(Problem::new(ProblemKind::Timeout, detail))
    })
}

/// Takes room for a body as it arrives, and gives it back when the body is whole.
async fn receive(mut body: Body, room: &Semaphore) -> Result<Bytes, Problem> {
    let (mut received, mut taken) = (BytesMut::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let broken = |_| Problem::new(ProblemKind::InvalidRequest, "the body ended before it was whole");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if received.len() + data.len() > BODY {
            return Err(too_large());
        }
        let size = u32::try_from(data.len()).map_err(|_| too_large())?;
        let no_room = |_| Problem::from(CoordinatorError::NotDone(Unavailable::Overloaded));
        taken.push(room.try_acquire_many(size).map_err(no_room)?);
        received.extend_from_slice(&data);
    }
    Ok(received.freeze())
}

fn too_large() -> Problem {
    Problem::new(ProblemKind::TooLarge, format!("the body has more than {BODY} bytes"))
}

/// A JSON body of a known shape.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let body = read_body(request.into_body(), &api.bodies).await?;
        parse_json(&body).map(Self)
    }
}

/// A JSON body of a known shape, or its default when there is no body.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<Api> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        JsonBody::from_request(request, api).await.map(|JsonBody(body)| Self(body))
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = header_text(headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = format!("the body is read as application/json, and its Content-Type is {media_type:?}");
    Err(Problem::new(ProblemKind::UnsupportedMediaType, detail))
}

fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if depth(body) > DEPTH {
        return Err(Problem::invalid("", format!("the JSON is nested deeper than {DEPTH} levels")));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let Object(value) = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| Problem::invalid(pointer(error.path()), error.inner().to_string()))?;
    json.end().map_err(|error| Problem::invalid("", error.to_string()))?;
    Ok(value)
}

/// How deep brackets nest outside of strings.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in json {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => quoted = !quoted,
            (false, b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            (true | false, _) => {}
        }
    }
    deepest
}

/// The step of a JSON Pointer to what has this key.
pub fn step_to(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// A path of serde as a JSON Pointer.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => step_to(key),
        Segment::Enum { variant } => format!("/{variant}"),
        Segment::Unknown => String::new(),
    };
    path.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused_before_it_is_read_whole() {
        const CHUNK: usize = 64 << 10;
        let sent = Arc::new(AtomicUsize::new(0));
        let sending = Arc::clone(&sent);
        let endless = futures::stream::repeat_with(move || {
            sending.fetch_add(CHUNK, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from_static(&[0; CHUNK]))
        });
        let problem = read_body(Body::from_stream(endless), &Semaphore::new(BODIES)).await.unwrap_err();
        assert_eq!(problem.kind(), ProblemKind::TooLarge);
        let taken = sent.load(Ordering::Relaxed);
        assert!((BODY..=BODY + 2 * CHUNK).contains(&taken), "{taken} bytes were taken");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let stuck = futures::stream::pending::<Result<Bytes, Infallible>>();
        let problem = read_body(Body::from_stream(stuck), &Semaphore::new(BODIES)).await.unwrap_err();
        assert_eq!(problem.kind(), ProblemKind::Timeout);
    }

    #[tokio::test]
    async fn bodies_take_room_as_they_arrive_and_give_it_back() {
        let room = Semaphore::new(3);
        for _ in 0..2 {
            assert_eq!(read_body(Body::from("abc"), &room).await.unwrap(), "abc");
        }
        let problem = read_body(Body::from("abcd"), &room).await.unwrap_err();
        assert_eq!(problem.kind(), ProblemKind::Unavailable);
        assert_eq!(room.available_permits(), 3);
    }

    #[test]
    fn a_client_has_an_entity_by_any_of_its_tags() {
        let has = |tags: &str| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, tags.parse().unwrap())]);
            has_already(&headers, 17)
        };
        for tags in ["\"17\"", "\"3\", \"17\"", "W/\"17\"", "*"] {
            assert!(has(tags), "{tags}");
        }
        assert!(!has("\"3\"") && !has("17"));
    }

    #[test]
    fn a_percent_sign_begins_two_digits() {
        for good in ["", "a", "%2F", "a%c3%a4b", "%25"] {
            assert!(require_percent_encoding("path", good).is_ok(), "{good}");
        }
        for bad in ["%", "%2", "a%zz", "%%25", "%ä"] {
            assert!(require_percent_encoding("path", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert_eq!(depth(br#"{"a":[1,{"b":"]]}}"}],"c\"[[[":0}"#), 3);
        assert_eq!(depth(b"]]]][["), 2);
    }

    #[test]
    fn an_entity_tag_is_a_quoted_number() {
        assert_eq!(entity_tag("\"17\""), Some(17));
        for wrong in ["17", "\"17", "W/\"17\"", "\"a\"", "\"-1\"", "\"\""] {
            assert_eq!(entity_tag(wrong), None, "{wrong}");
        }
    }
}
