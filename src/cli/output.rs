//! How results are printed: aligned for people, JSON or YAML for programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::settings::args::Output;

/// Rows of cells below a heading.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned).to_vec()] }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Columns as wide as their widest cell, two spaces apart, each line behind `indent`.
    pub fn render(&self, indent: &str) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            format!("{indent}{}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned() + "\n"
        };
        self.rows.iter().map(line).collect()
    }
}

/// Prints a result; `table` is asked only when a person reads it.
///
/// # Errors
/// When standard output cannot be written.
pub fn print<T: Serialize>(output: Output, result: &T, table: impl FnOnce(&T) -> String) -> io::Result<()> {
    match output {
        Output::Table => write_out(table(result).as_bytes()),
        Output::Json => write_out((serde_json::to_string_pretty(result)? + "\n").as_bytes()),
        Output::Yaml => write_out(serde_yaml::to_string(result).map_err(io::Error::other)?.as_bytes()),
    }
}

/// Prints one of many results, so that a program can take them one after the other.
///
/// # Errors
/// As [`print`].
pub fn print_event<T: Serialize>(output: Output, result: &T, line: impl FnOnce(&T) -> String) -> io::Result<()> {
    match output {
        Output::Table => write_out((line(result) + "\n").as_bytes()),
        Output::Json => write_out((serde_json::to_string(result)? + "\n").as_bytes()),
        Output::Yaml => {
            let text = serde_yaml::to_string(result).map_err(io::Error::other)?;
            write_out(format!("---\n{text}").as_bytes())
        }
    }
}

/// Writes bytes as they are.
///
/// # Errors
/// As [`print`].
pub fn write_out(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// What is absent is shown as a dash.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "N"]);
        table.row(["ä".to_owned(), "10".to_owned()]);
        table.row(["longer".to_owned(), String::new()]);
        assert_eq!(table.render(" "), " NAME    N\n ä       10\n longer\n");
    }
}
