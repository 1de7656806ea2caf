//! Reads a Dockerfile, apart from how `image/archive.py` does it.

use serde_json::Value;

/// The instructions of one stage.
pub struct Stage(Vec<(String, String)>);

impl Stage {
    /// The stages of a Dockerfile, in order.
    pub fn all(dockerfile: &str) -> Vec<Self> {
        let without_comments: Vec<_> = dockerfile.lines().filter(|line| !line.starts_with('#')).collect();
        let joined = without_comments.join("\n").replace("\\\n", " ");
        let mut stages = Vec::new();
        for (word, rest) in joined.lines().filter_map(|line| line.split_once(' ')) {
            if word == "FROM" {
                stages.push(Self(Vec::new()));
            }
            stages.last_mut().unwrap().0.push((word.to_owned(), rest.trim().to_owned()));
        }
        stages
    }

    /// What follows the word of an instruction, each time that it comes.
    pub fn each(&self, word: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(other, _)| other == word).map(|(_, rest)| rest.as_str())
    }

    /// What follows the word of an instruction that comes once.
    pub fn one(&self, word: &str) -> &str {
        let found: Vec<_> = self.each(word).collect();
        assert_eq!(found.len(), 1, "{word}");
        found[0]
    }

    pub fn json(&self, word: &str) -> Value {
        serde_json::from_str(self.one(word)).unwrap()
    }

    /// What follows a word, as pairs of NAME="VALUE".
    pub fn pairs(&self, word: &str) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = self.one(word);
        std::iter::from_fn(move || {
            let (name, after) = rest.split_once("=\"")?;
            let (value, after) = after.split_once('"').unwrap();
            rest = after;
            Some((name.trim(), value))
        })
    }
}
