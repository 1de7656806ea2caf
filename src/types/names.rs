//! Names: parsed once at the border, valid ever after.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::numbers::SessionId;

/// Why a text is not the name that it should be. The message says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{kind} {text:?} is not valid: {rule}")]
pub struct InvalidName {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

/// How much of a wrong name an error repeats.
const SHOWN: usize = 80;

/// Declares a newtype over text with a rule that every value meets. Copies share it: the machine's tables copy names all the time.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// What is allowed, as a sentence for people.
            pub const RULE: &'static str = $rule;

            /// Checks a text that crosses a border.
            ///
            /// # Errors
            /// When it breaks the rule.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) {
                    Ok(Self(text.into()))
                } else {
                    let text = text.chars().take(SHOWN).collect();
                    Err(InvalidName { kind: $kind, text, rule: Self::RULE })
                }
            }

            /// The text, for a border.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, which the name shares.
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A Kubernetes namespace, or its stand-in outside Kubernetes.
    Namespace, "namespace",
    "1 to 63 lower-case letters, digits or '-', starting and ending with a letter or digit (a DNS label)",
    is_dns_label
}
name! {
    /// The name of a replicated configuration document inside its namespace.
    ConfigName, "config name",
    "1 to 253 lower-case letters, digits, '-' or '.', each part between dots a DNS label (a DNS subdomain)",
    is_dns_subdomain
}
name! {
    /// The name of an election or a lock inside its namespace.
    ContestName, "name",
    "1 to 253 lower-case letters, digits, '-' or '.', each part between dots a DNS label (a DNS subdomain)",
    is_dns_subdomain
}
name! {
    /// What a client calls itself, for people: a pod's name, a host and a process.
    ClientName, "client name",
    "1 to 253 printable ASCII characters",
    |text| (1..=253).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
name! {
    /// One entry of a config's `data`, as in a ConfigMap.
    DocumentKey, "data key",
    "1 to 253 letters, digits, '-', '_' or '.', not '.' or '..' (as in a ConfigMap)",
    |text| {
        (1..=253).contains(&text.len())
            && text != "."
            && text != ".."
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    }
}
name! {
    /// A key of the small metadata store.
    Key, "key",
    "1 to 512 bytes of UTF-8 without control characters, and no '.' or '..' between slashes",
    |text| {
        (1..=Key::LONGEST).contains(&text.len())
            && !text.chars().any(char::is_control)
            && !text.split('/').any(|part| part == "." || part == "..")
    }
}
name! {
    /// A member's name: the pod's name in Kubernetes.
    MemberName, "member name",
    "1 to 63 lower-case letters, digits or '-', starting and ending with a letter or digit (a DNS label)",
    is_dns_label
}
name! {
    /// Identifies a cluster for ever: drawn at random when it is founded.
    ClusterId, "cluster id",
    "32 lower-case hexadecimal digits",
    is_hex_128
}
name! {
    /// Identifies one life of a volume: drawn at random before its member joins.
    Incarnation, "incarnation",
    "32 lower-case hexadecimal digits",
    is_hex_128
}
name! {
    /// A client's name for one request, so that a retry is harmless.
    IdempotencyKey, "idempotency key",
    "1 to 64 printable ASCII characters",
    |text| (1..=64).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// A session as it is called outside: which cluster it is of, and its number there. Prints as `1f0c32ab-17`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionName {
    cluster: String,
    pub session: SessionId,
}

impl SessionName {
    /// What is allowed, as a sentence for people.
    pub const RULE: &'static str = "the beginning of a cluster id, '-' and a number, as the cluster gave it";

    /// The first digits of a cluster id, enough to tell a mix-up.
    const DIGITS: usize = 8;

    /// A session of a cluster.
    pub fn new(cluster: &ClusterId, session: SessionId) -> Self {
        Self { cluster: cluster.as_str()[..Self::DIGITS].to_owned(), session }
    }

    /// Whether it is a session of that cluster.
    pub fn is_of(&self, cluster: &ClusterId) -> bool {
        cluster.as_str().starts_with(&self.cluster)
    }
}

impl FromStr for SessionName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let parts = text.split_once('-').filter(|(cluster, number)| {
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            // A number is written in one way only.
            let is_number = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
            cluster.len() == Self::DIGITS && cluster.bytes().all(is_digit) && is_number
        });
        let parsed = parts.and_then(|(cluster, number)| Some((cluster.to_owned(), number.parse().ok()?)));
        match parsed {
            Some((cluster, number)) => Ok(Self { cluster, session: SessionId::new(number) }),
            None => {
                let text = text.chars().take(SHOWN).collect();
                Err(InvalidName { kind: "session", text, rule: Self::RULE })
            }
        }
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.cluster, self.session)
    }
}

impl Key {
    /// Bytes of the longest key.
    pub const LONGEST: usize = 512;
}

/// Lets a map be searched by any text, such as a prefix that is no key itself.
impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl ClusterId {
    /// From 128 random bits.
    pub fn from_random(bits: u128) -> Self {
        Self(format!("{bits:032x}").into())
    }
}

impl Incarnation {
    /// From 128 random bits.
    pub fn from_random(bits: u128) -> Self {
        Self(format!("{bits:032x}").into())
    }
}

/// RFC 1123 label.
fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// RFC 1123 subdomain.
fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

fn is_hex_128(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_subdomains_follow_rfc_1123() {
        for good in ["a", "a-1", "0", &"x".repeat(63)] {
            assert!(Namespace::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"x".repeat(64)] {
            assert!(Namespace::new(bad).is_err(), "{bad}");
        }
        assert!(ConfigName::new("a.b-c.d").is_ok());
        for bad in ["", ".", "a..b", ".a", "a.", &["abc"; 80].join(".")] {
            assert!(ConfigName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_have_no_control_characters_and_no_dot_segments() {
        for good in ["a", "a/b", "/a//b/", "a..b", "...", "schlüssel", &"k".repeat(512)] {
            assert!(Key::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a\0b", "a\nb", "..", "a/../b", "./a", &"k".repeat(513)] {
            assert!(Key::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_session_is_read_back_and_known_to_its_cluster_only() {
        let (cluster, other) = (ClusterId::from_random(7 << 120), ClusterId::from_random(8 << 120));
        let name = SessionName::new(&cluster, SessionId::new(17));
        assert_eq!(name.to_string(), "07000000-17");
        assert_eq!(name.to_string().parse(), Ok(name.clone()));
        assert!(name.is_of(&cluster) && !name.is_of(&other));
        for bad in ["", "17", "07000000-", "07000000-0", "07000000-017", "0700000-17", "07000000-+1", "07000000-1x"] {
            assert!(bad.parse::<SessionName>().is_err(), "{bad}");
        }
        assert!("07000000-99999999999999999999".parse::<SessionName>().is_err());
    }

    #[test]
    fn an_error_names_the_rule_and_repeats_a_bounded_part_of_the_text() {
        let error = Namespace::new("X".repeat(1000)).unwrap_err().to_string();
        assert!(error.contains(Namespace::RULE), "{error}");
        assert!(error.len() < 300, "{error}");
    }
}
