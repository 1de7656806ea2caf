//! `quorate put`: a key, or a config that no custom resource owns.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::Context;

use super::output::print;
use super::{Failure, connect, parse_config};
use crate::api::wire::PutConfig;
use crate::settings::args::{ClientArgs, PutCommand};
use crate::types::Key;

pub async fn run(command: PutCommand) -> Result<(), Failure> {
    match command {
        PutCommand::Kv { key, value, client } => put_key(&key, value, &client).await,
        PutCommand::Config { target, data, client } => put_config(&target, &data, &client).await,
    }
}

async fn put_key(key: &str, value: String, args: &ClientArgs) -> Result<(), Failure> {
    let key = Key::new(key)?;
    let value = if value == "-" { read_input()? } else { value.into_bytes() };
    let put = connect(args)?.put_key(&key, value.into()).await?.body;
    Ok(print(args.output, &put, |put| format!("{key}: version {}, revision {}\n", put.version, put.mod_revision))?)
}

fn read_input() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    std::io::stdin().read_to_end(&mut value).context("standard input cannot be read").map_err(Failure::failed)?;
    Ok(value)
}

async fn put_config(target: &str, data: &[String], args: &ClientArgs) -> Result<(), Failure> {
    let (namespace, name) = parse_config(target)?;
    let data: BTreeMap<_, _> = data.iter().map(|entry| parse_entry(entry)).collect::<Result<_, _>>()?;
    let config = PutConfig { data, history_limit: None, rollback_to: None };
    let put = connect(args)?.put_config(&namespace, &name, &config).await?.body;
    let change = if put.changed { "" } else { " (unchanged)" };
    Ok(print(args.output, &put, |put| {
        format!("{target}: version {}, revision {}{change}\n", put.version, put.revision)
    })?)
}

/// `KEY=TEXT` or `KEY=@FILE`
fn parse_entry(entry: &str) -> Result<(String, String), Failure> {
    let (key, text) = entry
        .split_once('=')
        .ok_or_else(|| Failure::usage(anyhow::anyhow!("{entry:?} is neither KEY=TEXT nor KEY=@FILE")))?;
    let text = match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).with_context(|| file.to_owned()).map_err(Failure::failed)?,
        None => text.to_owned(),
    };
    Ok((key.to_owned(), text))
}
