//! What the page about ReplicatedConfig says, done from its top to its end as it stands there, with members in pods.

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use super::helm::Release;
use crate::alone;
use crate::kubectl::{kubectl, shell};
use crate::support::markdown::Markdown;
use crate::support::trio::wait_for;

const PAGE: &str = include_str!("../../../docs/resources/replicated-config.md");

/// The config that the page makes, and where it is served.
const SHOP: &str = "default/shop";

/// A release that does what the page says, in a folder for its files.
struct Reader {
    release: Release,
    http: Client,
    folder: tempfile::TempDir,
}

impl Reader {
    async fn of_the_page() -> Self {
        Self { release: Release::running().await, http: Client::new(), folder: tempfile::tempdir().unwrap() }
    }

    /// The blocks of code of a part of the page, in a language, for the release where it is here. Tests are on no node, and reach pods but no
    /// Service that has an address of its own.
    fn blocks(&self, title: &str, language: &str) -> Vec<String> {
        let namespace = &self.release.namespace.name;
        let mut parts = PAGE.split("\n#").map(|part| part.trim_start_matches(['#', ' ']));
        let part = parts.find(|part| part.starts_with(title)).unwrap_or_else(|| panic!("no part is called {title}"));
        let part = Markdown::parse(part);
        let blocks = part.blocks(language).into_iter().map(|block| {
            block
                .replace("--namespace quorate ", &format!("--namespace {namespace} "))
                .replace("quorate.quorate.svc:", &format!("quorate-members.{namespace}.svc.cluster.local:"))
        });
        let blocks: Vec<_> = blocks.collect();
        assert!(!blocks.is_empty(), "there is no {language} in {title}");
        blocks
    }

    /// Types one of the scripts of a part; what it prints.
    async fn types(&self, title: &str, number: usize) -> String {
        let script = self.blocks(title, "sh").remove(number);
        let script = format!("cd {}\n{script}", self.folder.path().display());
        let said = shell(&script).await.unwrap_or_else(|refusal| panic!("{script}\n{refusal}"));
        println!("{script}\n{said}");
        said
    }

    async fn changes(&self, patch: &str) -> Result<String, String> {
        shell(&format!("kubectl patch rcfg shop --type merge --patch '{patch}'")).await
    }

    /// Declares another text, and waits until it is served.
    async fn declares(&self, port: u16) {
        self.changes(&json!({ "spec": { "data": { "app.yaml": format!("port: {port}\n") } } }).to_string())
            .await
            .unwrap();
        self.is_served(&format!("port: {port}")).await;
    }

    async fn asks(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.http.get(format!("{}{path}", self.release.members().urls()[0])).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// Waits until what is served has that text; gives its version.
    async fn is_served(&self, text: &str) -> u64 {
        wait_for(&format!("{text:?} is not served"), async || {
            let (_, config) = self.asks(&format!("/v1/config/{SHOP}")).await;
            config["data"]["app.yaml"].as_str().filter(|served| served.contains(text))?;
            config["version"].as_u64()
        })
        .await
    }

    async fn condition(&self, condition: &str, truth: &str) -> String {
        let path = format!("--output=jsonpath={{.status.conditions[?(@.type==\"{condition}\")]['status','message']}}");
        wait_for(&format!("{condition} is not {truth}"), async || {
            let told = kubectl(&["get", "rcfg/shop", &path]).await.ok()?;
            told.strip_prefix(truth).map(str::to_owned)
        })
        .await
    }

    /// Tells the cluster, as an application, that it runs a version.
    async fn runs(&self, version: u64) {
        let post = async |path: &str, body: Value| -> Value {
            let url = format!("{}{path}", self.release.members().urls()[0]);
            let answer = self.http.post(url).json(&body).send().await.unwrap();
            assert!(answer.status().is_success(), "{path}: {answer:?}");
            answer.json().await.unwrap()
        };
        let session = post("/v1/sessions", json!({ "ttlMs": 600_000, "client": "till" })).await["session"].take();
        let report = json!({ "session": session, "version": version, "ok": true, "message": "" });
        post(&format!("/v1/config/{SHOP}/applied"), report).await;
    }
}

/// A row of `kubectl get`, but for the age.
fn row(table: &str) -> Vec<&str> {
    let row = table.lines().nth(1).unwrap_or_else(|| panic!("no row in {table}"));
    let mut row: Vec<_> = row.split_whitespace().collect();
    row.pop();
    row
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_what_the_page_about_configs_says_sees_what_it_says() {
    let _alone = alone().await;
    let reader = Reader::of_the_page().await;
    let document = reader.folder.path().join("shop.yaml");
    std::fs::write(&document, &reader.blocks("Apply one", "yaml")[0]).unwrap();
    reader.types("Apply one", 0).await;
    reader.condition("Replicated", "True").await;
    let table = shell("kubectl get rcfg shop").await.unwrap();
    assert_eq!(row(&table), row(&reader.blocks("Apply one", "text")[0]), "{table}");
    reader.types("Wait for it", 0).await;
    reader.condition("Applied", "True").await;

    let refusal = reader.changes(r#"{"spec": {"data": {"a b": ""}}}"#).await.unwrap_err();
    let told = reader.blocks("What is refused, and where it is told", "text").remove(0);
    assert!(refusal.contains(told.trim()), "the page says {told}, and not {refusal}");

    let schema = reader.blocks("Check every text against a schema", "yaml").remove(0);
    reader.changes(&schema).await.unwrap();
    let message = reader.condition("Accepted", "False").await;
    assert!(PAGE.contains(&format!("`{}`", message.trim())), "the page says something else than {message}");
    reader.condition("Ready", "False").await;
    assert_eq!(reader.is_served("port: 8080").await, 1, "the last good version goes on being served");
    let said = reader.types("What is refused, and where it is told", 0).await;
    assert!(said.contains(message.trim()), "{said}");
    reader.changes(r#"{"spec": {"schema": null}}"#).await.unwrap();
    assert_eq!(reader.is_served("port: many").await, 2);

    reader.declares(8083).await;
    reader.declares(8084).await;
    let said = reader.types("Roll back", 0).await;
    assert!(said.contains("port: 8083"), "{said}");
    reader.types("Roll back", 1).await;
    assert_eq!(reader.is_served("port: 8083").await, 5, "a new version with the content of an old one");
    reader.types("Roll back", 2).await;
    assert_eq!(reader.is_served("port: 8084").await, 6);

    reader.runs(6).await;
    reader.types("Know who runs what", 0).await;
    reader.types("Delete it, and make it again", 0).await;
    wait_for("it is still served", async || {
        let (status, _) = reader.asks(&format!("/v1/config/{SHOP}")).await;
        (status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
    reader.types("Apply one", 0).await;
    assert_eq!(reader.is_served("port: 8080").await, 1, "made again, it starts anew");
    reader.types("Delete it, and make it again", 0).await;
}
