//! How long the randomised rings run: one setting for all of them.

/// `QUORATE_TEST_EFFORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// While one works: minutes in all.
    Short,
    /// Before a change is taken.
    Full,
}

impl Effort {
    /// As the environment says; short when it says nothing.
    pub fn from_environment() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the tests' own setting, which the program never sees")]
        match std::env::var("QUORATE_TEST_EFFORT").as_deref() {
            Err(_) | Ok("short") => Self::Short,
            Ok("full") => Self::Full,
            Ok(other) => panic!("QUORATE_TEST_EFFORT is {other:?}; it may be short or full"),
        }
    }

    /// The number for this effort.
    pub fn pick<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }
}
