//! Labels of leaders' pods whose writes nobody has heard the end of.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde_json::Value;

use super::elected::{LONG, Sight, nothing_changes};
use super::elections::{LABELLED, held};
use super::operated::Operated;
use crate::proxy::{Fault, Proxy};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_labelled_while_it_is_not_known_whether_somebody_else_was() {
    let proxy = Proxy::start().await;
    let mut cluster = Operated::prepared().await.with_kubeconfig(proxy.kubeconfig());
    cluster.start_all().await;
    cluster.make_pods("web", &["web-0", "web-1"]).await;
    cluster.apply("LeaderElection", "main", LABELLED).await.unwrap();
    // The members know of all pods.
    let elsewhere = cluster.campaign(0, "main", "other-0", LONG).await;
    let is_told = |object: &Value| held(object).contains("selects no pod that is called other-0");
    cluster.wait_until("le/main", "told", is_told).await;
    cluster.end(0, &elsewhere).await;
    // The API server sets the label, and nobody hears of it.
    proxy.turn(Fault::Mute);
    let first = cluster.campaign(0, "main", "web-0", LONG).await;
    cluster.wait_until_labelled(&["web-0"]).await;
    let sight = Sight::of(&cluster.resources.namespace.name).await;
    // It takes labels, and does not say which there are.
    proxy.set(Fault::Answers(StatusCode::INTERNAL_SERVER_ERROR, Some(Method::GET)));
    let second = cluster.campaign(1, "main", "web-1", LONG);
    let (second, ()) = tokio::join!(second, cluster.end(2, &first));
    assert!(second.token > first.token);
    nothing_changes("the label", Duration::from_secs(3), async || cluster.labelled().await).await;
    proxy.set(Fault::None);
    cluster.wait_until_labelled(&["web-1"]).await;
    sight.assert_never_two();
}
