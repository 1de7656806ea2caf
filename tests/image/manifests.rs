//! Members in pods, those of `manifests/` and those that only `tests/kube` runs: that they run the image as it is meant, and that
//! what they are told is right.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::Parser;
use quorate::settings::args::{Cli, Command};
use quorate::settings::{Founding, MemberSettings, Pod, Resources};
use quorate::types::Namespace;
use serde::Deserialize;
use serde_json::Value;

use super::{REFERENCE, last_stage};

/// Every object of `manifests/`, by kind and name.
fn manifests() -> BTreeMap<String, Value> {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")).unwrap();
    let files = files.map(|file| file.unwrap().path()).filter(|path| !path.ends_with("kustomization.yaml"));
    files.flat_map(|path| objects(&fs::read_to_string(path).unwrap())).collect()
}

/// The same of members that found their cluster together.
fn founders() -> BTreeMap<String, Value> {
    objects(include_str!("../kube/members.yaml"))
}

fn objects(yaml: &str) -> BTreeMap<String, Value> {
    let mut objects = BTreeMap::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let object = Value::deserialize(document).unwrap();
        let name = format!("{}/{}", word(&object["kind"]), word(&object["metadata"]["name"]));
        assert!(objects.insert(name.clone(), object).is_none(), "{name} is there twice");
    }
    objects
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

/// The variables that the image and the manifests give to a pod in the namespace `team`, expanded as Kubernetes does.
fn environment_of(pod: &str, container: &Value) -> BTreeMap<String, String> {
    let stage = last_stage();
    let mut variables: BTreeMap<_, _> =
        stage.pairs("ENV").map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for variable in list(&container["env"]) {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.name") => pod.to_owned(),
            Some("metadata.namespace") => "team".to_owned(),
            Some(other) => panic!("{other}"),
            None => {
                let given = word(&variable["value"]).to_owned();
                variables.iter().fold(given, |text, (name, value)| text.replace(&format!("$({name})"), value))
            }
        };
        variables.insert(word(&variable["name"]).to_owned(), value);
    }
    variables
}

/// What a member makes of its variables.
fn settings_of(variables: &BTreeMap<String, String>) -> MemberSettings {
    let mut arguments = vec!["quorate".to_owned(), "serve".to_owned()];
    for (name, value) in variables {
        // The one that is for the commands, which people run inside the pod.
        if let Some(name) = name.strip_prefix("QUORATE_").filter(|name| *name != "ENDPOINTS") {
            arguments.push(format!("--{}={value}", name.to_ascii_lowercase().replace('_', "-")));
        }
    }
    match Cli::try_parse_from(arguments).unwrap().command {
        Command::Serve(args) => MemberSettings::read(*args).unwrap(),
        other => panic!("parsed as {other:?}"),
    }
}

#[test]
fn pods_that_found_together_are_members_that_find_each_other_by_name() {
    let objects = founders();
    let set = &objects["StatefulSet/quorate"]["spec"];
    let service = word(&set["serviceName"]);
    let pods: BTreeMap<_, _> = (0..set["replicas"].as_u64().unwrap())
        .map(|ordinal| format!("quorate-{ordinal}"))
        .map(|pod| (pod.clone(), format!("{pod}.{service}.team.svc")))
        .collect();
    for (pod, host) in &pods {
        let variables = environment_of(pod, &set["template"]["spec"]["containers"][0]);
        let settings = settings_of(&variables);
        assert_eq!(settings.name.as_str(), pod);
        assert_eq!(settings.advertise_http, format!("http://{host}:8080"));
        let Founding::Together(members) = &settings.founding else { panic!("the manifests name all members") };
        let founding: BTreeMap<_, _> = members
            .iter()
            .map(|(name, address)| (name.to_string(), address.strip_suffix(":7400").unwrap().to_owned()))
            .collect();
        assert_eq!(founding, pods);
        assert_eq!(variables["QUORATE_ENDPOINTS"], "http://127.0.0.1:8080");
    }
    let headless = &objects[&format!("Service/{service}")]["spec"];
    assert_eq!((word(&headless["clusterIP"]), &headless["publishNotReadyAddresses"]), ("None", &true.into()));
}

#[test]
fn a_pod_of_the_manifests_is_a_member_that_kubernetes_tells_what_to_do() {
    let set = &manifests()["StatefulSet/quorate"]["spec"];
    for ordinal in [0, 11] {
        let pod = format!("quorate-{ordinal}");
        let settings = settings_of(&environment_of(&pod, &set["template"]["spec"]["containers"][0]));
        assert_eq!(settings.name.as_str(), pod);
        assert_eq!(settings.advertise_http, format!("http://{pod}.quorate-members.team.svc:8080"));
        assert_eq!(settings.founding, Founding::FromOnePod);
        let namespace = Namespace::new("team").unwrap();
        let place = Pod { namespace, stateful_set: "quorate".to_owned(), ordinal };
        assert_eq!(settings.resources, Some(Resources::Kubernetes(place)));
        assert_eq!(settings.cluster.as_str(), "default");
    }
    let headless = &manifests()["Service/quorate-members"]["spec"];
    assert_eq!((word(&headless["clusterIP"]), &headless["publishNotReadyAddresses"]), ("None", &true.into()));
    assert_eq!(set["serviceName"], "quorate-members");
}

#[test]
fn the_ports_of_image_pods_and_services_are_the_same() {
    for objects in [manifests(), founders()] {
        check_ports(&objects);
    }
}

fn check_ports(objects: &BTreeMap<String, Value>) {
    let container = &objects["StatefulSet/quorate"]["spec"]["template"]["spec"]["containers"][0];
    let variables = environment_of("quorate-0", container);
    let settings = settings_of(&variables);
    let ports = [("http", settings.http), ("health", settings.health), ("members", settings.member_listen)];
    let ports = BTreeMap::from(ports.map(|(name, address)| (name, u64::from(address.port()))));
    let stage = last_stage();
    let exposed: BTreeSet<_> = stage.one("EXPOSE").split(' ').map(str::to_owned).collect();
    assert_eq!(exposed, ports.values().map(|port| format!("{port}/tcp")).collect());
    let named =
        list(&container["ports"]).iter().map(|port| (word(&port["name"]), port["containerPort"].as_u64().unwrap()));
    assert_eq!(named.collect::<BTreeMap<_, _>>(), ports);
    for (name, service) in objects.iter().filter(|(name, _)| name.starts_with("Service/")) {
        for port in list(&service["spec"]["ports"]) {
            assert_eq!(port["port"], ports[word(&port["targetPort"])], "{name}");
        }
        if let Some(port) = service["metadata"]["annotations"]["prometheus.io/port"].as_str() {
            assert_eq!(port, ports["health"].to_string(), "{name}");
        }
    }
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "health", "{probe}");
    }
}

#[test]
fn the_pods_run_what_make_image_writes_as_its_user_on_a_volume_where_it_keeps_its_data() {
    for objects in [manifests(), founders()] {
        check_pod(&objects);
    }
}

fn check_pod(objects: &BTreeMap<String, Value>) {
    let pod = &objects["StatefulSet/quorate"]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["image"], REFERENCE);
    let security = &pod["securityContext"];
    assert_eq!(last_stage().one("USER"), format!("{}:{}", security["runAsUser"], security["runAsGroup"]));
    assert_eq!(security["fsGroup"], security["runAsGroup"]);
    let settings = settings_of(&environment_of("quorate-0", container));
    assert_eq!(container["volumeMounts"][0]["mountPath"], settings.data_dir.to_str().unwrap());
    let patience = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(settings.stop_delay >= Duration::from_secs(2), "asked before everybody knows that it stops");
    assert!(settings.stop_delay + settings.stop_timeout < Duration::from_secs(patience), "killed while stopping");
}

#[test]
fn everything_that_selects_the_pods_selects_them_by_the_labels_that_they_have() {
    for objects in [manifests(), founders()] {
        check_selectors(&objects);
    }
}

fn check_selectors(objects: &BTreeMap<String, Value>) {
    let template = &objects["StatefulSet/quorate"]["spec"]["template"];
    let (labels, pod) = (&template["metadata"]["labels"], &template["spec"]);
    let selectors = [
        &objects["StatefulSet/quorate"]["spec"]["selector"]["matchLabels"],
        &objects["PodDisruptionBudget/quorate"]["spec"]["selector"]["matchLabels"],
        &objects["Service/quorate"]["spec"]["selector"],
        &objects["Service/quorate-members"]["spec"]["selector"],
        &pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"]["labelSelector"]
            ["matchLabels"],
        &pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ];
    for selector in selectors {
        assert_eq!(selector, labels);
    }
    assert!(objects.contains_key(&format!("ServiceAccount/{}", word(&pod["serviceAccountName"]))));
}
