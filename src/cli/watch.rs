//! `quorate watch`: changes as they happen, one line each, until interrupted.

use serde_json::{Value, json};

use super::get::readable;
use super::output::print_event;
use super::{Failure, connect, parse_config};
use crate::client::{Watch, WatchEvent};
use crate::server::Stops;
use crate::settings::args::{Output, WatchCommand};

pub async fn run(command: WatchCommand) -> Result<(), Failure> {
    let (watch, output) = match command {
        WatchCommand::Config { target, client } => {
            let (namespace, name) = parse_config(&target)?;
            (connect(&client)?.watch_config(&namespace, &name), client.output)
        }
        WatchCommand::Kv { prefix, client } => (connect(&client)?.watch_keys(&prefix), client.output),
        WatchCommand::Leader { client } => (connect(&client)?.watch_leader(), client.output),
    };
    // The first process of a container ends by a signal only when it listens for it.
    let mut stops = Stops::listen()?;
    tokio::select! {
        biased;
        _ = stops.next() => Ok(()),
        followed = follow(watch, output) => followed,
    }
}

async fn follow(mut watch: Watch, output: Output) -> Result<(), Failure> {
    loop {
        let event = watch.next().await?;
        // A person wants to see changes; a program may want to know that nothing was missed.
        if output == Output::Table && event.name == "heartbeat" {
            continue;
        }
        let shown = json!({ "event": event.name, "data": event.data });
        print_event(output, &shown, |_| describe(&event))?;
    }
}

fn describe(event: &WatchEvent) -> String {
    let data = &event.data;
    let revision = &data["revision"];
    let what = if let Some(kvs) = data["kvs"].as_array() {
        let keys: Vec<_> = kvs.iter().map(describe_key).collect();
        if keys.is_empty() { "no keys".to_owned() } else { keys.join(", ") }
    } else if data["kv"].is_object() {
        describe_key(&data["kv"])
    } else if let Some(key) = data["key"].as_str() {
        key.to_owned()
    } else if data.get("config").is_some() {
        describe_config(&data["config"])
    } else {
        data["leader"]["name"].as_str().map_or("nobody leads".to_owned(), |name| format!("{name} leads"))
    };
    format!("revision {revision}  {}  {what}", event.name)
}

fn describe_key(kv: &Value) -> String {
    format!("{} = {}", kv["key"].as_str().unwrap_or_default(), readable(kv["value"].as_str().unwrap_or_default()))
}

fn describe_config(config: &Value) -> String {
    match config["data"].as_object() {
        Some(data) => {
            let keys: Vec<_> = data.keys().map(String::as_str).collect();
            format!("version {} with {}", config["version"], keys.join(", "))
        }
        None => "there is no such config".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_event_is_one_line() {
        let cases = [
            ("put", json!({"revision": 7, "key": "a", "kv": {"key": "a", "value": "MQ=="}}), "revision 7  put  a = 1"),
            ("delete", json!({"revision": 8, "key": "a"}), "revision 8  delete  a"),
            ("snapshot", json!({"revision": 9, "kvs": [{"key": "a", "value": "MQ=="}]}), "revision 9  snapshot  a = 1"),
            (
                "config",
                json!({"revision": 3, "config": {"version": 2, "data": {"x": ""}}}),
                "revision 3  config  version 2 with x",
            ),
            ("config", json!({"revision": 4, "config": null}), "revision 4  config  there is no such config"),
            ("leader", json!({"revision": 5, "leader": {"name": "b"}}), "revision 5  leader  b leads"),
            ("leader", json!({"revision": 6, "leader": null}), "revision 6  leader  nobody leads"),
        ];
        for (name, data, line) in cases {
            assert_eq!(describe(&WatchEvent { name: name.to_owned(), data }), line);
        }
    }
}
