//! The check by which Argo CD judges resources, which nothing here can run: whether it looks at what there is.

use std::collections::BTreeMap;

use quorate::operator::crds;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Patch {
    data: BTreeMap<String, String>,
}

/// What stands in double quotes behind a text.
fn quoted_behind<'a>(script: &'a str, text: &str) -> Vec<&'a str> {
    let behind = script.split(text).skip(1);
    behind.map(|rest| rest.trim_start_matches(['=', ' ']).split('"').nth(1).unwrap()).collect()
}

#[test]
fn argo_cd_looks_at_fields_and_conditions_of_every_kind() {
    let patch: Patch = serde_yaml::from_str(include_str!("../../examples/argocd/health.yaml")).unwrap();
    let definitions = crds::definitions().map(|definition| serde_json::to_value(definition).unwrap());
    assert_eq!(patch.data.len(), definitions.len());
    for definition in definitions {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        let script = &patch.data[&format!("resource.customizations.health.quorate.io_{kind}")];
        let status = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        let condition = &status["properties"]["conditions"]["items"]["properties"];
        let fields: Vec<_> =
            script.split("condition.").skip(1).map(|rest| rest.split([' ', ')', '}']).next().unwrap()).collect();
        assert!(fields.len() >= 6, "{kind}: {fields:?}");
        for field in fields.iter().map(|field| field.trim_end()) {
            assert_ne!(condition[field], Value::Null, "{kind} has no {field} in its conditions");
        }
        assert_eq!(quoted_behind(script, "condition.type"), ["Stalled", "Ready"], "{kind}");
        assert_eq!(quoted_behind(script, "condition.status"), ["True", "True"], "{kind}");
        // All that a check may answer.
        let answers = quoted_behind(script, "status = ");
        assert_eq!(answers, ["Progressing", "Degraded", "Healthy"], "{kind}");
        let words = |among: &[&str]| script.split_whitespace().filter(|word| among.contains(word)).count();
        assert_eq!(words(&["for", "if"]), words(&["end"]), "{kind}: a block is not ended");
    }
}
