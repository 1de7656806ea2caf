//! The checks by which Argo CD judges resources, in a Lua of the version that Argo CD has: what they say of a resource as the API
//! server gives it.

use std::collections::BTreeMap;

use mlua::{FromLua, Lua, LuaOptions, StdLib};
use quorate::operator::crds;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Patch {
    data: BTreeMap<String, String>,
}

/// What stands in double quotes behind a text.
fn quoted_behind<'a>(script: &'a str, text: &str) -> Vec<&'a str> {
    let behind = script.split(text).skip(1);
    behind.map(|rest| rest.trim_start_matches(['=', ' ']).split('"').nth(1).unwrap()).collect()
}

/// Each kind's check, with its CRD.
fn checks() -> impl Iterator<Item = (Value, String)> {
    let patch: Patch = serde_yaml::from_str(include_str!("../../examples/argocd/health.yaml")).unwrap();
    let definitions = crds::definitions().map(|definition| serde_json::to_value(definition).unwrap());
    assert_eq!(patch.data.len(), definitions.len());
    definitions.into_iter().map(move |definition| {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        let script = patch.data[&format!("resource.customizations.health.quorate.io_{kind}")].clone();
        (definition, script)
    })
}

/// Health and message by a check, of a resource with that generation and status.
fn judge(script: &str, kind: &Value, generation: u64, status: &Value) -> (String, String) {
    // Argo CD gives a check no more of the library than it needs.
    let lua = Lua::new_with(StdLib::NONE, LuaOptions::new()).unwrap();
    let object = json!({
        "apiVersion": "quorate.io/v1alpha1", "kind": kind, "spec": { "cluster": "default" }, "status": status,
        "metadata": { "name": "web", "namespace": "default", "generation": generation },
    });
    lua.globals().set("obj", table(&lua, &object)).unwrap();
    let health: mlua::Table = lua.load(script).eval().unwrap();
    let text = |field: &str| String::from_lua(health.get(field).unwrap(), &lua).unwrap();
    (text("status"), text("message"))
}

/// What is JSON in the API server, in Lua.
fn table(lua: &Lua, value: &Value) -> mlua::Value {
    match value {
        Value::Null => mlua::Value::Nil,
        Value::Bool(truth) => mlua::Value::Boolean(*truth),
        Value::Number(number) => mlua::Value::Number(number.as_f64().unwrap()),
        Value::String(text) => mlua::Value::String(lua.create_string(text).unwrap()),
        Value::Array(items) => {
            let items = items.iter().map(|item| table(lua, item));
            mlua::Value::Table(lua.create_sequence_from(items).unwrap())
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, field)| (name.as_str(), table(lua, field)));
            mlua::Value::Table(lua.create_table_from(fields).unwrap())
        }
    }
}

fn condition(type_: &str, status: &str, generation: u64) -> Value {
    json!({
        "type": type_, "status": status, "reason": "Because", "message": format!("{type_} is {status}"),
        "observedGeneration": generation, "lastTransitionTime": "2026-01-31T12:00:00Z",
    })
}

#[test]
fn argo_cd_takes_for_healthy_what_is_ready_as_it_is_declared_now_and_gives_up_on_what_is_stalled() {
    let new = ("Progressing", "no Quorate cluster has looked at it yet");
    let cases = [
        ("without a status", vec![], new),
        ("not ready yet", vec![condition("Ready", "Unknown", 7)], ("Progressing", "Ready is Unknown")),
        ("not ready", vec![condition("Ready", "False", 7)], ("Progressing", "Ready is False")),
        ("ready as it was declared before", vec![condition("Ready", "True", 6)], new),
        ("ready", vec![condition("Ready", "True", 7)], ("Healthy", "Ready is True")),
        (
            "ready and more",
            vec![condition("Accepted", "True", 7), condition("Ready", "True", 7), condition("Degraded", "True", 7)],
            ("Healthy", "Ready is True"),
        ),
        (
            "ready and on its way",
            vec![condition("Ready", "True", 7), condition("Reconciling", "True", 7)],
            ("Progressing", "Reconciling is True"),
        ),
        (
            "stalled",
            vec![condition("Ready", "False", 7), condition("Stalled", "True", 7)],
            ("Degraded", "Stalled is True"),
        ),
        (
            "stalled before, and ready now",
            vec![condition("Stalled", "True", 6), condition("Ready", "True", 7)],
            ("Healthy", "Ready is True"),
        ),
        (
            "not stalled",
            vec![condition("Stalled", "False", 7), condition("Ready", "True", 7)],
            ("Healthy", "Ready is True"),
        ),
    ];
    for (definition, script) in checks() {
        let kind = &definition["spec"]["names"]["kind"];
        for (what, conditions, (health, message)) in &cases {
            for conditions in [conditions.clone(), conditions.iter().rev().cloned().collect()] {
                let judged = judge(&script, kind, 7, &json!({ "conditions": conditions }));
                assert_eq!(judged, ((*health).to_owned(), (*message).to_owned()), "{kind}, {what}: {conditions:?}");
            }
        }
        for nothing in [Value::Null, json!({}), json!({ "observedGeneration": 6 })] {
            let judged = judge(&script, kind, 7, &nothing);
            assert_eq!(judged, (new.0.to_owned(), new.1.to_owned()), "{kind} with status {nothing}");
        }
        // As the API server fills it in where no status was written.
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        let filled_in = &schema["default"];
        let pending = filled_in["conditions"][0]["message"].as_str().expect("it says that it is pending");
        let judged = judge(&script, kind, 1, filled_in);
        assert_eq!(judged, ("Progressing".to_owned(), pending.to_owned()), "{kind} as it is made");
    }
}

#[test]
fn argo_cd_looks_at_fields_and_conditions_of_every_kind() {
    for (definition, script) in checks() {
        let kind = &definition["spec"]["names"]["kind"];
        let status = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        let condition = &status["properties"]["conditions"]["items"]["properties"];
        let fields: Vec<_> =
            script.split("condition.").skip(1).map(|rest| rest.split([' ', ')', '}']).next().unwrap()).collect();
        assert!(fields.len() >= 6, "{kind}: {fields:?}");
        for field in fields.iter().map(|field| field.trim_end()) {
            assert_ne!(condition[field], Value::Null, "{kind} has no {field} in its conditions");
        }
        assert_eq!(quoted_behind(&script, "condition.type"), ["Stalled", "Reconciling", "Ready"], "{kind}");
    }
}
