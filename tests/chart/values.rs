//! The values: which there are, what is allowed, and that each of them does something.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use quorate::settings::args::{Cli, Command};
use quorate::settings::{FastFailover, MemberSettings, Timing};
use serde_json::{Map, Value};

use crate::helm::{CHART, EVERYTHING, ROOT, documents, file, rendered, run, template};

/// Settings of a member that are the chart's own matter: who it is, and where its pod finds what it needs.
const GIVEN: [&str; 15] = [
    "advertiseHttp",
    "cluster",
    "dataDir",
    "health",
    "http",
    "initialCluster",
    "kubernetes",
    "memberListen",
    "name",
    "namespace",
    "resources",
    "settings",
    "stopDelay",
    "stopTimeout",
    "stopWithParent",
];

fn defaults() -> Value {
    documents(&file("charts/quorate/values.yaml")).remove(0)
}

fn everything() -> Value {
    documents(&file(EVERYTHING)).remove(0)
}

fn schema() -> Value {
    serde_json::from_str(&file("charts/quorate/values.schema.json")).unwrap()
}

/// The values that a user sets one by one, by their paths: what is empty by default is one.
fn leaves(values: &Value) -> BTreeMap<Vec<String>, Value> {
    fn collect(path: &[String], value: &Value, found: &mut BTreeMap<Vec<String>, Value>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (name, value) in map {
                    collect(&[path, std::slice::from_ref(name)].concat(), value, found);
                }
            }
            value => drop(found.insert(path.to_vec(), value.clone())),
        }
    }
    let mut found = BTreeMap::new();
    collect(&[], values, &mut found);
    found
}

fn at<'a>(values: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(values, |value, name| &value[name])
}

fn keys(map: &Value) -> BTreeSet<&str> {
    map.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_schema_knows_the_values_that_there_are_and_no_others() {
    fn compare(path: &str, schema: &Value, defaults: &Value) {
        let Some(properties) = schema["properties"].as_object().filter(|_| path != ".podLabels") else { return };
        assert_eq!(schema["additionalProperties"], false, "{path} is open");
        // What is empty by default is described by a comment.
        if defaults.as_object().is_some_and(Map::is_empty) {
            return;
        }
        let known: BTreeSet<_> = properties.keys().map(String::as_str).filter(|name| *name != "global").collect();
        assert_eq!(known, keys(defaults), "{path}");
        for (name, schema) in properties.iter().filter(|(name, _)| *name != "global") {
            compare(&format!("{path}.{name}"), schema, &defaults[name]);
        }
    }
    compare("", &schema(), &defaults());
}

#[test]
fn the_schema_is_open_only_where_names_are_the_users_own() {
    fn look(path: &str, schema: &Value) {
        if schema["type"] == "object" && path != "/properties/global" {
            let more = &schema["additionalProperties"];
            assert!(*more == false || more.is_object(), "{path} is open");
        }
        let parts: Vec<_> = match schema {
            Value::Object(map) => map.iter().map(|(name, part)| (name.clone(), part)).collect(),
            Value::Array(parts) => parts.iter().enumerate().map(|(at, part)| (at.to_string(), part)).collect(),
            _ => Vec::new(),
        };
        parts.iter().for_each(|(name, part)| look(&format!("{path}/{name}"), part));
    }
    look("", &schema());
}

#[test]
fn settings_are_those_of_a_member() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let camel = |id: &str| {
        let mut words = id.split('_');
        let first = words.next().unwrap().to_owned();
        words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
    };
    let of_a_member: BTreeSet<_> = serve.get_arguments().map(|argument| camel(argument.get_id().as_str())).collect();
    let schema = schema();
    let settings = keys(&schema["properties"]["settings"]["properties"]);
    let expected = of_a_member.iter().map(String::as_str).filter(|name| !GIVEN.contains(name));
    assert_eq!(settings, expected.collect());
    let values = file("charts/quorate/values.yaml");
    let listed = values.split_once("# Allowed: ").unwrap().1.split_once(".\n").unwrap().0;
    let listed = listed.replace("\n#", "");
    assert_eq!(listed.split(", ").collect::<BTreeSet<_>>(), settings, "values.yaml lists others");
}

#[test]
fn a_member_takes_the_settings_that_the_values_give_it() {
    let objects = documents(&rendered(&["--values", EVERYTHING]).unwrap());
    let set = objects.iter().find(|object| object["kind"] == "StatefulSet").unwrap();
    let variables = set["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let pod = [("QUORATE_NAME", "payments-quorate-0"), ("QUORATE_NAMESPACE", "payments")];
    let expanded =
        |text: &str| pod.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value));
    let given = variables.iter().filter_map(|it| Some((it["name"].as_str()?, expanded(it["value"].as_str()?))));
    let all = given.chain(pod.map(|(name, value)| (name, value.to_owned())));
    let flags = all.map(|(name, value)| {
        let flag = name.strip_prefix("QUORATE_").expect("it is a setting").to_lowercase().replace('_', "-");
        format!("--{flag}={value}")
    });
    let arguments: Vec<_> = ["quorate", "serve"].map(str::to_owned).into_iter().chain(flags).collect();
    let Command::Serve(arguments) = Cli::try_parse_from(arguments).unwrap().command else { panic!("it serves") };
    let MemberSettings { timing, sessions, .. } = MemberSettings::read(*arguments).unwrap();
    let wanted = Timing {
        heartbeat: Duration::from_millis(200),
        election_min: Duration::from_millis(600),
        election_max: Duration::from_secs(1),
        fast_failover: FastFailover::Off,
    };
    assert_eq!(timing, wanted);
    let limits = [sessions.max_sessions, sessions.max_holds, sessions.max_waiting, sessions.max_metadata];
    assert_eq!(limits, [1_000_000, 2048, 20_000, 8192]);
}

#[test]
fn each_value_does_something() {
    let (defaults, everything) = (defaults(), everything());
    let plain = rendered(&[]).unwrap();
    let all = rendered(&["--values", EVERYTHING]).unwrap();
    for (path, default) in leaves(&defaults) {
        let (name, other) = (path.join("."), at(&everything, &path));
        assert_ne!(*other, default, "{EVERYTHING} leaves {name} as it is by default");
        let set = |value: &Value| format!("{name}={value}");
        let changed = rendered(&["--set-json", &set(other)]).unwrap();
        // Some do nothing until something else is enabled.
        let reset = rendered(&["--values", EVERYTHING, "--set-json", &set(&default)]);
        assert!(changed != plain || reset.unwrap() != all, "{name} does nothing");
    }
    let schema = schema();
    let settings = keys(&schema["properties"]["settings"]["properties"]);
    assert_eq!(settings, keys(&everything["settings"]), "{EVERYTHING} lacks some settings");
}

#[test]
fn a_value_that_is_not_allowed_is_refused_with_its_place() {
    let digest = format!("image.digest=\"{}\"", "0".repeat(64));
    let cases = [
        ("voters=4", "at '/voters': value must be one of 1, 3, 5, 7"),
        ("voters=\"3\"", "at '/voters': value must be one of"),
        ("learners=21", "at '/learners': maximum"),
        ("learners=-1", "at '/learners': minimum"),
        ("paused=\"yes\"", "at '/paused': got string, want boolean"),
        ("preferredLeader=\"quorate\"", "at '/preferredLeader'"),
        ("cluster=\"Team A\"", "at '/cluster'"),
        ("cluster=\"\"", "at '/cluster'"),
        ("fullnameOverride=\"1st\"", "at '/fullnameOverride'"),
        ("image.tag=\"a:b\"", "at '/image/tag'"),
        (digest.as_str(), "at '/image/digest'"),
        ("image.pullPolicy=\"Sometimes\"", "at '/image/pullPolicy': value must be one of"),
        ("imagePullSecrets=[\"registry\"]", "at '/imagePullSecrets/0': got string, want object"),
        ("settings.loud=true", "at '/settings': additional properties 'loud' not allowed"),
        ("settings.heartbeat=\"1 s\"", "at '/settings/heartbeat'"),
        ("settings.clockDrift=\"21%\"", "at '/settings/clockDrift'"),
        ("settings.maxHolds=100001", "at '/settings/maxHolds': maximum"),
        ("settings.heartbeat=100", "at '/settings/heartbeat': got number, want string"),
        ("storage.size=\"2GB\"", "at '/storage/size'"),
        ("resources.limit={}", "at '/resources': additional properties 'limit' not allowed"),
        ("resources.limits={\"memory\":\"1GB\"}", "at '/resources/limits/memory'"),
        ("podSecurityContext.runAsUser=0", "at '/podSecurityContext/runAsUser': minimum"),
        ("podSecurityContext.privileged=true", "additional properties 'privileged' not allowed"),
        ("tolerations=[{\"keys\":\"a\"}]", "at '/tolerations/0': additional properties 'keys' not allowed"),
        ("podLabels={\"app.kubernetes.io/name\":\"x\"}", "at '/podLabels/app.kubernetes.io~1name': false schema"),
        ("podAnnotations={\"a\":1}", "at '/podAnnotations/a': got number, want string"),
        (
            "affinity.nodeAffinity.required={}",
            "at '/affinity/nodeAffinity': additional properties 'required' not allowed",
        ),
        (
            "affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution=[{\"weight\":101}]",
            "at '/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0",
        ),
        (
            "topologySpreadConstraints=[{\"labelSelector\":{\"app\":\"x\"}}]",
            "at '/topologySpreadConstraints/0/labelSelector': additional properties 'app' not allowed",
        ),
        (
            "networkPolicy.clients=[{\"ipBlock\":{\"cidrs\":[]}}]",
            "at '/networkPolicy/clients/0/ipBlock': additional properties 'cidrs' not allowed",
        ),
        ("networkPolicy.clients=[{}]", "at '/networkPolicy/clients/0': minProperties"),
        ("scaleGuard.enabled=1", "at '/scaleGuard/enabled': got number, want boolean"),
        ("leaderLabel.namespaces=[\"Shop\"]", "at '/leaderLabel/namespaces/0'"),
        ("leaderLabel.namespaces=[\"a\",\"a\"]", "at '/leaderLabel/namespaces': items at 0 and 1 are equal"),
        ("mirrorLease.namespaces=\"shop\"", "at '/mirrorLease/namespaces': got string, want array"),
        ("fencing.resources=[]", "at '/fencing/resources': minItems"),
        ("fencing.resources=[{\"resources\":[\"pods\"]}]", "at '/fencing/resources/0': missing property 'apiGroups'"),
        ("fencing.failurePolicy=\"Maybe\"", "at '/fencing/failurePolicy': value must be one of"),
        ("replicas=3", "additional properties 'replicas' not allowed"),
    ];
    for (value, expected) in cases {
        let refusal = rendered(&["--set-json", value]).expect_err(value);
        assert!(refusal.contains(expected), "{value}: {refusal}");
    }
}

#[test]
fn a_release_whose_name_makes_no_names_of_objects_is_refused_with_what_to_do() {
    let long = "q".repeat(51);
    for name in [long.as_str(), "1st", "with.dot", "true", "y"] {
        let refusal = template(name, CHART, &[]).expect_err(name);
        assert!(refusal.contains("Choose another name for the release, or set fullnameOverride"), "{refusal}");
        template(name, CHART, &["--set=fullnameOverride=good"]).unwrap();
    }
    template(&"q".repeat(50), CHART, &[]).unwrap();
}

#[test]
fn another_chart_may_depend_on_it() {
    let place = tempfile::tempdir().unwrap();
    let chart = "apiVersion: v2\nname: shop\nversion: 1.0.0\n\
                 dependencies: [{name: quorate, version: \"*\", condition: global.quorate}]\n";
    fs::write(place.path().join("Chart.yaml"), chart).unwrap();
    fs::write(place.path().join("values.yaml"), "global: {quorate: true}\nquorate: {voters: 5}\n").unwrap();
    fs::create_dir(place.path().join("charts")).unwrap();
    let (parent, own) = (place.path().to_str().unwrap(), format!("{ROOT}/{CHART}"));
    run("cp", &["-r", &own, &format!("{parent}/charts/quorate")], "").unwrap();
    let text = template("shop", parent, &[]).unwrap();
    assert!(text.contains("voters: 5") && text.contains("name: shop-members"), "{text}");
}
