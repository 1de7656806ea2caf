//! Reads Markdown just well enough to see what a page leads to and names: links, headings, code spans, and blocks of code.

use std::collections::BTreeSet;

/// A page: its blocks of code, each with its language, and its paragraphs; a row of a table or an item of a list is one too.
pub struct Markdown {
    paragraphs: Vec<String>,
    blocks: Vec<(String, String)>,
}

impl Markdown {
    pub fn parse(text: &str) -> Self {
        let (mut paragraphs, mut blocks) = (vec![String::new()], Vec::new());
        let mut block: Option<(String, String)> = None;
        for line in text.lines() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                match block.take() {
                    None => block = Some((language.to_owned(), String::new())),
                    Some(ended) => blocks.push(ended),
                }
            } else if let Some((_, code)) = &mut block {
                code.push_str(line);
                code.push('\n');
            } else {
                let begins_anew = line.trim().is_empty() || line.starts_with(['|', '#']) || line.starts_with("- ");
                if begins_anew {
                    paragraphs.push(String::new());
                }
                let last = paragraphs.last_mut().expect("there is one from the start");
                last.push_str(line.trim());
                last.push('\n');
            }
        }
        Self { paragraphs, blocks }
    }

    /// Where the links of the page lead.
    pub fn links(&self) -> Vec<String> {
        let without_code = self.paragraphs.iter().map(|paragraph| paragraph.split('`').step_by(2).collect::<String>());
        let targets = |text: String| {
            let parts: Vec<_> =
                text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(to, _)| to.to_owned()).collect();
            parts
        };
        without_code.flat_map(targets).collect()
    }

    /// The blocks of code in a language.
    pub fn blocks(&self, language: &str) -> Vec<&str> {
        self.blocks.iter().filter(|(other, _)| other == language).map(|(_, code)| code.as_str()).collect()
    }

    /// The code spans of each paragraph.
    pub fn spans_by_paragraph(&self) -> Vec<Vec<&str>> {
        self.paragraphs.iter().map(|paragraph| paragraph.split('`').skip(1).step_by(2).collect()).collect()
    }
}

/// What one writes after `#` to get to the headings of a page.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_block = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if !in_block && line.starts_with('#') {
            let title = line.trim_start_matches('#').trim();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            found.insert(kept.collect::<String>().to_lowercase().replace(' ', "-"));
        }
    }
    found
}
