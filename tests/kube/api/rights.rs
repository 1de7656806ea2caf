//! What the API server lets the chart's accounts do, and what not.

use std::collections::BTreeSet;

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};
use kube::discovery::{ApiGroup, Discovery};

use super::fixture::{guarded, unchanged};
use crate::direct;
use crate::kubectl::{apply_as, kubectl, kubectl_with_input};
use crate::namespace::Namespace;
use crate::release::helm::Release;

/// What an account may do, and what it may not; in words like those of `kubectl auth can-i`, where HERE is the namespace of the
/// release, LISTED one that its values list, and THERE another one.
struct Rights {
    account: &'static str,
    may: &'static [&'static str],
    may_not: &'static [&'static str],
}

const MEMBER: Rights = Rights {
    account: "quorate",
    may: &[
        "get quorateclusters.quorate.io/quorate HERE",
        "patch quorateclusters.quorate.io/quorate --subresource=status HERE",
        "get statefulsets.apps/quorate HERE",
        "watch statefulsets.apps/quorate HERE",
        "patch statefulsets.apps/quorate --subresource=scale HERE",
        "list persistentvolumeclaims HERE",
        "get pods/quorate-0 HERE",
        "get nodes/node1",
        "watch quorateclusters.quorate.io THERE",
        "watch replicatedconfigs.quorate.io THERE",
        "watch leaderelections.quorate.io THERE",
        "patch replicatedconfigs.quorate.io/any --subresource=status THERE",
        "patch leaderelections.quorate.io/any --subresource=status THERE",
        "create events.events.k8s.io THERE",
    ],
    may_not: &[
        "* * HERE",
        "get * HERE",
        "get secrets HERE",
        "list secrets HERE",
        "get configmaps HERE",
        "get pods/other HERE",
        "list pods HERE",
        "watch pods HERE",
        "patch pods/quorate-0 HERE",
        "list pods THERE",
        "patch pods/any THERE",
        "get leases.coordination.k8s.io/any THERE",
        "create pods HERE",
        "create pods --subresource=exec HERE",
        "get pods --subresource=log HERE",
        "create serviceaccounts/quorate --subresource=token HERE",
        "delete pods HERE",
        "delete persistentvolumeclaims HERE",
        "delete statefulsets.apps/quorate HERE",
        "delete quorateclusters.quorate.io/quorate HERE",
        "delete replicatedconfigs.quorate.io HERE",
        "deletecollection replicatedconfigs.quorate.io HERE",
        "list statefulsets.apps HERE",
        "patch statefulsets.apps/quorate HERE",
        "update statefulsets.apps/quorate --subresource=scale HERE",
        "patch statefulsets.apps/other --subresource=scale HERE",
        "get quorateclusters.quorate.io/other HERE",
        "get quorateclusters.quorate.io/quorate THERE",
        "get replicatedconfigs.quorate.io/any HERE",
        "get leaderelections.quorate.io/any HERE",
        "patch quorateclusters.quorate.io/quorate HERE",
        "patch quorateclusters.quorate.io/other --subresource=status HERE",
        "create quorateclusters.quorate.io HERE",
        "patch replicatedconfigs.quorate.io/any HERE",
        "create replicatedconfigs.quorate.io HERE",
        "patch persistentvolumeclaims/data-quorate-0 HERE",
        "get statefulsets.apps/quorate THERE",
        "patch statefulsets.apps/quorate --subresource=scale THERE",
        "patch quorateclusters.quorate.io/quorate --subresource=status THERE",
        "list persistentvolumeclaims THERE",
        "get secrets THERE",
        "patch events.events.k8s.io THERE",
        "delete events.events.k8s.io THERE",
        "list nodes",
        "watch nodes",
        "patch nodes/node1",
        "get pods/any THERE",
        "list namespaces",
        "get customresourcedefinitions.apiextensions.k8s.io/quorateclusters.quorate.io",
        "create clusterrolebindings.rbac.authorization.k8s.io",
        "impersonate users",
    ],
};

const HOOK: Rights = Rights {
    account: "quorate-crds",
    may: &[
        "get customresourcedefinitions.apiextensions.k8s.io/quorateclusters.quorate.io",
        "patch customresourcedefinitions.apiextensions.k8s.io/replicatedconfigs.quorate.io",
        "create customresourcedefinitions.apiextensions.k8s.io/leaderelections.quorate.io",
    ],
    may_not: &[
        "* *",
        "create customresourcedefinitions.apiextensions.k8s.io",
        "list customresourcedefinitions.apiextensions.k8s.io",
        "patch customresourcedefinitions.apiextensions.k8s.io/others.example.com",
        "delete customresourcedefinitions.apiextensions.k8s.io/quorateclusters.quorate.io",
        "get secrets HERE",
        "get quorateclusters.quorate.io HERE",
        "patch statefulsets.apps/quorate --subresource=scale HERE",
    ],
};

/// The same once the values list a namespace.
const LISTED: Rights = Rights {
    account: "quorate",
    may: &[
        "list pods LISTED",
        "watch pods LISTED",
        "patch pods/any LISTED",
        "get leases.coordination.k8s.io/any LISTED",
        "create leases.coordination.k8s.io LISTED",
        "update leases.coordination.k8s.io/any LISTED",
    ],
    may_not: &[
        "patch pods/any THERE",
        "list pods THERE",
        "update leases.coordination.k8s.io/any THERE",
        "patch pods/any HERE",
        "create pods LISTED",
        "update pods/any LISTED",
        "delete pods/any LISTED",
        "patch pods/any --subresource=status LISTED",
        "create pods --subresource=exec LISTED",
        "delete leases.coordination.k8s.io/any LISTED",
        "list leases.coordination.k8s.io LISTED",
    ],
};

#[tokio::test]
async fn pods_and_leases_are_only_touched_in_namespaces_that_are_listed() {
    let _unchanged = unchanged().await;
    let _guarded = guarded().await;
    let release = Release::of(Namespace::fresh("rights").await);
    let values = "--set=leaderLabel.namespaces={default},mirrorLease.namespaces={default}";
    release.install(&[values]).await.unwrap();
    LISTED.check(&release).await;
    release.helm(&["uninstall", "quorate", "--no-hooks"]).await.unwrap();
}

impl Rights {
    /// Asks the API server.
    async fn check(&self, release: &Release) {
        let namespace = release.namespace.name.clone();
        let (account, questions) = (release.account(self.account), [(self.may, true), (self.may_not, false)]);
        direct::with_client(async move |client| {
            let known = Discovery::new(client.clone()).run_aggregated().await.unwrap();
            let known: BTreeSet<_> = known.groups().flat_map(resources).collect();
            let answers = questions.into_iter().flat_map(|(questions, expected)| {
                questions.iter().map(move |question| (*question, expected)).collect::<Vec<_>>()
            });
            let answers = answers.map(async |(question, expected)| {
                let asked = attributes(question, &namespace);
                // Whatever it is asked, the API server would say no of what it does not know.
                let resource = [&asked.resource, &asked.group].map(|part| part.clone().unwrap_or_default());
                let is_known = known.contains(&resource) || ["*", "users"].contains(&resource[0].as_str());
                assert!(is_known, "{question}: there is nothing of that name");
                assert_eq!(is_allowed(&client, &account, asked).await, expected, "{account}: {question}");
            });
            drop(join_all(answers).await);
        })
        .await;
    }
}

/// The resources of a group, each with the group.
fn resources(group: &ApiGroup) -> Vec<[String; 2]> {
    group.recommended_resources().into_iter().map(|(resource, _)| [resource.plural, resource.group]).collect()
}

/// What `VERB RESOURCE.GROUP/NAME --subresource=OF WHERE` asks for.
fn attributes(question: &str, here: &str) -> ResourceAttributes {
    let mut words = question.split(' ');
    let mut asked = ResourceAttributes { verb: words.next().map(str::to_owned), ..Default::default() };
    let resource = words.next().expect("a resource");
    let (resource, name) = resource.split_once('/').unwrap_or((resource, ""));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    (asked.resource, asked.group) = (Some(resource.to_owned()), Some(group.to_owned()));
    asked.name = Some(name.to_owned());
    for word in words {
        match word {
            "HERE" => asked.namespace = Some(here.to_owned()),
            "THERE" => asked.namespace = Some("kube-system".to_owned()),
            "LISTED" => asked.namespace = Some("default".to_owned()),
            word => {
                let subresource = word.strip_prefix("--subresource=").unwrap_or_else(|| panic!("{word} in {question}"));
                asked.subresource = Some(subresource.to_owned());
            }
        }
    }
    asked
}

/// What the API server would say to an account that asks for it.
async fn is_allowed(client: &Client, account: &str, asked: ResourceAttributes) -> bool {
    let (of_namespace, _) = account.rsplit_once(':').expect("an account has a namespace");
    let of_namespace = of_namespace.replace("serviceaccount:", "serviceaccounts:");
    let groups = ["system:serviceaccounts", &of_namespace, "system:authenticated"].map(str::to_owned).to_vec();
    let spec = SubjectAccessReviewSpec {
        user: Some(account.to_owned()),
        groups: Some(groups),
        resource_attributes: Some(asked),
        ..Default::default()
    };
    let review = SubjectAccessReview { spec, ..Default::default() };
    let reviews = Api::<SubjectAccessReview>::all(client.clone());
    let status = reviews.create(&PostParams::default(), &review).await.unwrap().status.expect("it is answered");
    assert_eq!(status.evaluation_error, None);
    status.allowed
}

#[tokio::test]
async fn each_account_may_do_what_it_has_to_and_nothing_else() {
    let _unchanged = unchanged().await;
    let _guarded = guarded().await;
    let release = Release::of(Namespace::fresh("rights").await);
    release.install(&[]).await.unwrap();
    let hook = release.rendered(&["--show-only=templates/crds-upgrade.yaml"]).await;
    let (rights, _job) =
        hook.split_once("---\n# Source: quorate/templates/crds-upgrade.yaml\napiVersion: batch/v1").unwrap();
    apply_as("helm", rights).await.unwrap();
    for rights in [MEMBER, HOOK] {
        rights.check(&release).await;
    }
}

#[tokio::test]
async fn the_hooks_account_can_bring_a_missing_crd_and_no_other() {
    let release = Release::of(Namespace::fresh("rights").await);
    let hook = release.rendered(&["--show-only=templates/crds-upgrade.yaml"]).await;
    // Kinds of this test alone, as the others need those of the chart.
    let group = format!("{}.quorate.io", release.namespace.name);
    let crd = |plural: &str| {
        let own =
            include_str!("../mechanisms.yaml").split("---").find(|part| part.contains("CustomResourceDefinition"));
        own.unwrap().replace("contests", plural).replace("NAMESPACE", &release.namespace.name)
    };
    let hook = hook.replace("quorateclusters.quorate.io", &format!("contests.{group}"));
    let (rights, _job) =
        hook.split_once("---\n# Source: quorate/templates/crds-upgrade.yaml\napiVersion: batch/v1").unwrap();
    apply_as("helm", rights).await.unwrap();
    let account = format!("--as={}", release.account("quorate-crds"));
    let apply = ["apply", "--server-side", "--validate=false", "--filename=-", &account];
    kubectl_with_input(&apply, &crd("contests")).await.unwrap();
    let refusal = kubectl_with_input(&apply, &crd("others")).await.unwrap_err();
    assert!(refusal.contains("cannot patch resource \"customresourcedefinitions\""), "{refusal}");
    let create = ["create", "--validate=false", "--filename=-", &account];
    kubectl(&["delete", "crd", &format!("contests.{group}")]).await.unwrap();
    let refusal = kubectl_with_input(&create, &crd("contests")).await.unwrap_err();
    assert!(refusal.contains("cannot create resource"), "{refusal}");
}
