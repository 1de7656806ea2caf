//! `quorate get`: configs and keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::output::{Table, print, write_out};
use super::{Exit, Failure, connect, parse_config};
use crate::api::wire::{Config, ConfigList, KeyValue};
use crate::client::{Client, ClientError, Freshness};
use crate::settings::args::{GetCommand, Output, ReadArgs};
use crate::types::{Key, Namespace};

pub async fn run(command: GetCommand) -> Result<(), Failure> {
    match command {
        GetCommand::Config { target, version, read } if target.contains('/') => {
            one_config(&target, version, &read).await
        }
        GetCommand::Config { target, version: None, read } => configs(&target, &read).await,
        GetCommand::Config { version: Some(_), .. } => {
            Err(Failure::usage(anyhow::anyhow!("--version needs one config: NAMESPACE/NAME")))
        }
        GetCommand::Kv { prefix: Some(prefix), read, .. } => keys(&prefix, &read).await,
        GetCommand::Kv { key, prefix: None, read } => one_key(&key.unwrap_or_default(), &read).await,
    }
}

fn freshness(read: &ReadArgs) -> Freshness {
    if read.stale { Freshness::Stale } else { Freshness::Linearizable }
}

async fn one_config(target: &str, version: Option<u64>, read: &ReadArgs) -> Result<(), Failure> {
    let (namespace, name) = parse_config(target)?;
    let config = connect(&read.client)?.config(&namespace, &name, version, freshness(read)).await?.body;
    Ok(print(read.client.output, &config, |config| describe(target, config))?)
}

/// A config for a person: one line of numbers, then each text under its name.
fn describe(target: &str, config: &Config) -> String {
    let owner = if config.managed { ", owned by a resource" } else { "" };
    let rollback = config.rollback_of.map_or(String::new(), |version| format!(", rolled back to version {version}"));
    let head = format!(
        "{target}: version {}, revision {}, {}{owner}{rollback}\n",
        config.version, config.revision, config.updated_at
    );
    let texts = config.data.iter().map(|(key, text)| {
        let lines: String = text.lines().map(|line| format!("  {line}\n")).collect();
        format!("\n{key}\n{lines}")
    });
    std::iter::once(head).chain(texts).collect()
}

async fn configs(namespace: &str, read: &ReadArgs) -> Result<(), Failure> {
    let list = connect(&read.client)?.configs(&Namespace::new(namespace)?, freshness(read)).await?.body;
    Ok(print(read.client.output, &list, config_table)?)
}

fn config_table(list: &ConfigList) -> String {
    let mut table = Table::new(["NAMESPACE", "NAME", "VERSION", "REVISION", "UPDATED", "OWNER"]);
    for config in &list.configs {
        table.row([
            config.namespace.clone(),
            config.name.clone(),
            config.version.to_string(),
            config.revision.to_string(),
            config.updated_at.clone(),
            if config.managed { "resource" } else { "clients" }.to_owned(),
        ]);
    }
    table.render("")
}

/// The bytes as they are for a person; with the numbers for a program.
async fn one_key(key: &str, read: &ReadArgs) -> Result<(), Failure> {
    let (client, key) = (connect(&read.client)?, Key::new(key)?);
    match read.client.output {
        Output::Table => Ok(write_out(&client.key(&key, freshness(read)).await?.body)?),
        Output::Json | Output::Yaml => {
            // In key order, the key itself comes before all that begin with it.
            let page = client.keys(key.as_str(), None, freshness(read)).await?.body;
            let found = page.kvs.into_iter().next().filter(|kv| kv.key == key.as_str());
            let missing = || anyhow::anyhow!("key {:?} does not exist", key.as_str());
            let kv = found.ok_or_else(|| Failure { exit: Exit::NotFound, error: missing() })?;
            Ok(print(read.client.output, &kv, |_| String::new())?)
        }
    }
}

async fn keys(prefix: &str, read: &ReadArgs) -> Result<(), Failure> {
    let kvs = all_keys(&connect(&read.client)?, prefix, freshness(read)).await?;
    Ok(print(read.client.output, &kvs, key_table)?)
}

async fn all_keys(client: &Client, prefix: &str, freshness: Freshness) -> Result<Vec<KeyValue>, ClientError> {
    let mut kvs: Vec<KeyValue> = Vec::new();
    loop {
        let after = kvs.last().map(|kv| kv.key.clone());
        let page = client.keys(prefix, after.as_deref(), freshness).await?.body;
        kvs.extend(page.kvs);
        if !page.more {
            return Ok(kvs);
        }
    }
}

fn key_table(kvs: &Vec<KeyValue>) -> String {
    let mut table = Table::new(["KEY", "REVISION", "VERSION", "VALUE"]);
    for kv in kvs {
        table.row([kv.key.clone(), kv.mod_revision.to_string(), kv.version.to_string(), readable(&kv.value)]);
    }
    table.render("")
}

/// A value that came as base64, as text where it is one.
pub fn readable(base64: &str) -> String {
    let text = BASE64.decode(base64).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match text {
        Some(text) if !text.chars().any(char::is_control) => text,
        Some(text) => format!("{text:?}"),
        None => format!("base64:{base64}"),
    }
}
