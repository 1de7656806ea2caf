//! `quorate apply -f`: the `ReplicatedConfig` documents of files, written over HTTP. Elections are set by resources only.

use std::path::Path;

use anyhow::{Context, anyhow};
use serde::Serialize;

use super::output::{Table, print};
use super::{Failure, connect};
use crate::api::wire::PutConfig;
use crate::client::{Client, ClientError};
use crate::machine::command::ConfigDocument;
use crate::operator::documents::{self, DeclaredConfig, FileContent};
use crate::operator::folder;
use crate::settings::args::ApplyArgs;

/// What became of one document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Applied {
    config: String,
    version: u64,
    revision: u64,
    changed: bool,
}

pub async fn run(args: ApplyArgs) -> Result<(), Failure> {
    let client = connect(&args.client)?;
    let (mut applied, mut wrong) = (Vec::new(), Vec::new());
    for path in &args.filename {
        let content = read(path)?;
        wrong.extend(content.problems.iter().map(ToString::to_string));
        for election in &content.elections {
            let what = format!(
                "{} cannot be set over HTTP: apply its resource, or put it into the members' folder",
                election.id
            );
            wrong.push(election.place.problem(what).to_string());
        }
        for declared in &content.configs {
            match put(&client, declared).await {
                Ok(done) => applied.push(done),
                // What is not valid or not allowed stops no other; without a cluster there is nothing to go on with.
                Err(error @ ClientError::Problem(_)) if !error.is_unavailable() => {
                    wrong.push(declared.place.problem(error.to_string()).to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    print(args.client.output, &applied, table)?;
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::failed(anyhow!("not everything was applied:\n  {}", wrong.join("\n  "))))
    }
}

fn read(path: &Path) -> Result<FileContent, Failure> {
    let of_file = |file: &Path| {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string());
        text.map(|text| documents::read(file, &text)).map_err(Failure::failed)
    };
    if !path.is_dir() {
        return of_file(path);
    }
    let mut all = FileContent::default();
    for file in folder::files(path).with_context(|| path.display().to_string()).map_err(Failure::failed)? {
        let content = of_file(&file)?;
        all.configs.extend(content.configs);
        all.elections.extend(content.elections);
        all.problems.extend(content.problems);
    }
    Ok(all)
}

async fn put(client: &Client, declared: &DeclaredConfig) -> Result<Applied, ClientError> {
    let ConfigDocument { data, history_limit, rollback_to } = &declared.wanted;
    let config = PutConfig {
        data: data.iter().map(|(key, text)| (key.to_string(), text.clone())).collect(),
        history_limit: Some(*history_limit),
        rollback_to: rollback_to.map(|version| version.get()),
    };
    let id = &declared.id;
    let put = client.put_config(&id.namespace, &id.name, &config).await?.body;
    Ok(Applied { config: id.to_string(), version: put.version, revision: put.revision, changed: put.changed })
}

fn table(applied: &Vec<Applied>) -> String {
    let mut table = Table::new(["CONFIG", "VERSION", "REVISION", "CHANGED"]);
    for done in applied {
        let changed = if done.changed { "yes" } else { "no" }.to_owned();
        table.row([done.config.clone(), done.version.to_string(), done.revision.to_string(), changed]);
    }
    table.render("")
}
