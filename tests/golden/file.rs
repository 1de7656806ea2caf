//! A golden file: for each sample a comment that shows the value, and a line with its bytes in hexadecimal.

use std::fmt::{Debug, Write};
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;

/// Compares the bytes of `samples` with the file, in order.
pub fn compare<T: Debug>(name: &str, samples: &[(T, Bytes)]) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect();
    let mut text = String::new();
    for (value, bytes) in samples {
        writeln!(text, "# {value:?}\n{}\n", hex(bytes)).unwrap();
    }
    #[expect(clippy::disallowed_methods, reason = "the test's own setting")]
    if std::env::var("QUORATE_REWRITE_GOLDEN").is_ok() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (line, (golden, now)) in (1..).zip(golden.lines().zip(text.lines())) {
        assert_eq!(golden, now, "{name}:{line}: the golden file is on the left, this code's bytes are on the right");
    }
    assert_eq!(golden.len(), text.len(), "{name} has more or fewer samples than the code");
}

/// The bytes of each line of a file.
pub fn read(name: &str) -> Vec<Bytes> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect();
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(unhex).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(line: &str) -> Bytes {
    let digits: Vec<u8> = line.chars().map(|digit| digit.to_digit(16).unwrap().try_into().unwrap()).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte at the end of {line}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
