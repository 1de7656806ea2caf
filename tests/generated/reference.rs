//! A CRD as a page for people. Pure: the same CRD gives the same page.

use std::fmt::Write;

use serde_json::Value;

/// The page of one kind.
pub fn page(definition: &Value) -> String {
    let (names, version) = (&definition["spec"]["names"], &definition["spec"]["versions"][0]);
    let schema = &version["schema"]["openAPIV3Schema"];
    let kind = text(names, "kind");
    let mut page = format!("# {kind}\n\n<!-- {MADE_FROM} -->\n\n{}\n\n", text(schema, "description"));
    let api = format!("{}/{}", text(&definition["spec"], "group"), text(version, "name"));
    write!(page, "`apiVersion: {api}`, `kind: {kind}`; {}.\n\n", text(&definition["spec"], "scope").to_lowercase())
        .unwrap();
    write!(page, "`kubectl get {}` or `kubectl get {}`", text(names, "plural"), text(&names["shortNames"], 0)).unwrap();
    write!(page, "; `kubectl get {}` lists all kinds.", text(&names["categories"], 0)).unwrap();
    if let Some(scale) = version["subresources"].get("scale") {
        write!(page, " `kubectl scale` changes `{}`.", text(scale, "specReplicasPath").trim_start_matches('.'))
            .unwrap();
    }
    page.push_str("\n\n");
    for part in ["spec", "status"] {
        let schema = &schema["properties"][part];
        write!(page, "## {part}\n\n{}\n\n", text(schema, "description")).unwrap();
        page.push_str("| field | type | default | limits | what it is |\n| --- | --- | --- | --- | --- |\n");
        fields("", schema, &mut page);
        page.push('\n');
    }
    page.push_str("## What the API server refuses\n\nBeside what is outside of the limits above:\n\n");
    rules("the resource", schema, &mut page);
    page.push_str("\n## Columns of `kubectl get`\n\n| column | shows |\n| --- | --- |\n");
    for column in version["additionalPrinterColumns"].as_array().into_iter().flatten() {
        let shows = column["description"].as_str().unwrap_or("How old the resource is");
        let wide = if column["priority"] == 1 { "; with `--output wide`" } else { "" };
        writeln!(page, "| {} | {shows}{wide} |", text(column, "name")).unwrap();
    }
    page
}

const MADE_FROM: &str = "Made from the CRD (tests/generated); a change here is lost.";

fn text(value: &Value, index: impl serde_json::value::Index) -> &str {
    value[index].as_str().unwrap_or_else(|| panic!("a text is missing in {value}"))
}

/// A row for each field of an object, and for what is in it.
fn fields(prefix: &str, schema: &Value, page: &mut String) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let required =
            schema["required"].as_array().is_some_and(|required| required.contains(&Value::from(name.as_str())));
        let default = match field.get("default") {
            Some(default) => format!("`{default}`"),
            None if required && prefix.is_empty() => "required".to_owned(),
            None => String::new(),
        };
        let what = text(field, "description").replace("\n\n", "<br><br>").replace('|', "\\|");
        let limits = limits(field).join(", ").replace('|', "\\|");
        writeln!(page, "| `{path}` | {} | {default} | {limits} | {what} |", type_of(field)).unwrap();
        fields(&format!("{path}."), field, page);
        if field["items"]["properties"].is_object() {
            fields(&format!("{path}[]."), &field["items"], page);
        }
    }
}

fn type_of(field: &Value) -> String {
    match text(field, "type") {
        "string" if field["format"] == "date-time" => "time".to_owned(),
        "string" => "text".to_owned(),
        "integer" => "whole number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => match type_of(&field["items"]).as_str() {
            "object" => "list of objects".to_owned(),
            items => format!("list of {items}s"),
        },
        "object" if field["additionalProperties"].is_object() => {
            format!("map of {}s", type_of(&field["additionalProperties"]))
        }
        "object" if field["x-kubernetes-preserve-unknown-fields"] == true => "any object".to_owned(),
        other => other.to_owned(),
    }
}

fn limits(field: &Value) -> Vec<String> {
    let number = |name: &str| field[name].as_f64();
    let mut limits = Vec::new();
    match (number("minimum"), number("maximum")) {
        (Some(least), Some(most)) => limits.push(format!("{least} to {most}")),
        (Some(least), None) => limits.push(format!("at least {least}")),
        (None, Some(most)) => limits.push(format!("at most {most}")),
        (None, None) => {}
    }
    match (number("minLength"), number("maxLength")) {
        (Some(least), Some(most)) => limits.push(format!("{least} to {most} characters")),
        (None, Some(most)) => limits.push(format!("at most {most} characters")),
        (_, None) => {}
    }
    for (name, things) in [("maxItems", "items"), ("maxProperties", "fields")] {
        limits.extend(number(name).map(|most| format!("at most {most} {things}")));
    }
    let values = field["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let values: Vec<_> = values.map(|value| format!("`{value}`")).collect();
    if !values.is_empty() {
        limits.push(values.join(", "));
    }
    limits.extend(field["pattern"].as_str().map(|pattern| format!("`{pattern}`")));
    for inner in ["items", "additionalProperties"] {
        if field[inner].is_object() && !field[inner]["properties"].is_object() {
            limits.extend(limits_of_each(&field[inner]));
        }
    }
    limits
}

fn limits_of_each(inner: &Value) -> Option<String> {
    let limits = limits(inner);
    (!limits.is_empty()).then(|| format!("each {}", limits.join(", ")))
}

/// A line for each rule, with what it is about.
fn rules(path: &str, schema: &Value, page: &mut String) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        writeln!(page, "- {path}: {}", text(rule, "message")).unwrap();
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = match path {
            "the resource" => format!("`{name}`"),
            path => format!("`{}.{name}`", path.trim_matches('`')),
        };
        rules(&path, field, page);
    }
}
