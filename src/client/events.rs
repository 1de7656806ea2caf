//! Server-sent events: from the bytes of a stream to whole events. Pure.

/// One event as it stood in the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RawEvent {
    pub id: Option<String>,
    pub name: String,
    pub data: String,
}

/// Collects lines into events.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    event: RawEvent,
    bytes: usize,
}

/// A stream whose event grows past this is broken: a whole page of the largest values is smaller.
const MOST_BYTES: usize = 64 << 20;

impl Parser {
    /// Takes the next bytes and gives the events that they finish; `None` when the stream makes no sense.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<Vec<RawEvent>> {
        let mut events = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.bytes += part.len();
            if self.bytes > MOST_BYTES {
                return None;
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let line = std::str::from_utf8(&line).ok()?.trim_end_matches(['\n', '\r']);
                events.extend(self.take_line(line));
            }
        }
        Some(events)
    }

    fn take_line(&mut self, line: &str) -> Option<RawEvent> {
        if line.is_empty() {
            self.bytes = 0;
            let event = std::mem::take(&mut self.event);
            return (event != RawEvent::default()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments have no field name, and fields of a later release mean nothing to this one.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        let stream =
            b": hello\n\nid: e-1\nevent: put\ndata: {\"a\":\ndata: 1}\n\nevent: heartbeat\r\ndata:x\r\n\r\nid: cut";
        let whole = Parser::default().push(stream).expect("a stream");
        let put = RawEvent { id: Some("e-1".to_owned()), name: "put".to_owned(), data: "{\"a\":\n1}".to_owned() };
        let heartbeat = RawEvent { id: None, name: "heartbeat".to_owned(), data: "x".to_owned() };
        assert_eq!(whole, [put, heartbeat]);
        for cut in 0..stream.len() {
            let mut parser = Parser::default();
            let mut events = parser.push(&stream[..cut]).expect("a stream");
            events.extend(parser.push(&stream[cut..]).expect("a stream"));
            assert_eq!(events, whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_stream_that_is_no_text_is_refused() {
        assert_eq!(Parser::default().push(b"data: \xff\n"), None);
    }
}
