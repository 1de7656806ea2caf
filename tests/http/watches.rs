//! Watches: snapshot first, the chain of revisions, resume, and what happens to one that falls behind.

use std::sync::Arc;

use quorate::machine::event::{Change, Event as MachineEvent};
use quorate::settings::SessionSettings;
use quorate::types::{Key, Revision, Timestamp};
use quorate::watch::HubLimits;
use serde_json::json;

use crate::fixture::{Request, Service};

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_begins_with_a_snapshot_and_goes_on_in_a_chain() {
    let service = Service::start().await;
    let first = service.send(Request::put("/v1/kv/a/1", "x")).await.expect(200).json()["modRevision"].clone();
    let mut watch = service.watch(Request::get("/v1/watch?prefix=a/")).await;
    let snapshot = watch.next().await.unwrap();
    assert_eq!((snapshot.kind.as_str(), &snapshot.data["revision"]), ("snapshot", &first));
    assert_eq!(snapshot.data["kvs"][0]["key"], "a/1");

    service.send(Request::put("/v1/kv/b", "not wanted")).await.expect(200);
    service.send(Request::put("/v1/kv/a/2", "y")).await.expect(200);
    service.send(Request::delete("/v1/kv/a/1")).await.expect(200);
    let put = watch.next().await.unwrap();
    assert_eq!((put.kind.as_str(), &put.data["prevRevision"]), ("put", &first));
    assert_eq!((&put.data["key"], &put.data["kv"]["value"]), (&json!("a/2"), &json!("eQ==")));
    let deleted = watch.next().await.unwrap();
    assert_eq!((deleted.kind.as_str(), &deleted.data["prevRevision"]), ("delete", &put.data["revision"]));

    let cluster = service.send(Request::get("/v1/cluster")).await.json();
    let epoch = &cluster["clusterId"].as_str().unwrap()[..8];
    assert_eq!(put.id, Some(format!("{epoch}-{}", put.data["revision"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumes_behind_the_last_event_and_in_another_cluster_starts_again() {
    let service = Service::start().await;
    let mut revisions = Vec::new();
    for value in ["1", "2", "3"] {
        let put = service.send(Request::put("/v1/kv/a", value)).await.expect(200).json();
        revisions.push(put["modRevision"].as_u64().unwrap());
    }
    let mut watch = service.watch(Request::get(format!("/v1/watch?fromRevision={}", revisions[0]))).await;
    let first = watch.next().await.unwrap();
    assert_eq!(first.data["revision"], revisions[0]);
    let resume = Request::get("/v1/watch").header("last-event-id", first.id.as_ref().unwrap());
    let resumed = service.watch(resume).await.next().await.unwrap();
    assert_eq!(
        (&resumed.data["revision"], &resumed.data["prevRevision"]),
        (&json!(revisions[1]), &json!(revisions[0]))
    );
    let foreign = Request::get("/v1/watch").header("last-event-id", &format!("ffffffff-{}", revisions[0]));
    assert_eq!(service.watch(foreign).await.next().await.unwrap().kind, "snapshot");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_has_seen_more_than_this_member_waits_for_it_instead_of_going_back() {
    let service = Service::start().await;
    let first = service.send(Request::put("/v1/kv/a", "1")).await.expect(200).json()["modRevision"].as_u64().unwrap();
    let ahead = Request::get(format!("/v1/watch?fromRevision={}", first + 2));
    let (mut watch, _) = tokio::join!(service.watch(ahead), async {
        service.send(Request::put("/v1/kv/a", "2")).await.expect(200);
        service.send(Request::put("/v1/kv/a", "3")).await.expect(200);
    });
    let event = watch.next().await.unwrap();
    assert_eq!((event.kind.as_str(), &event.data["revision"]), ("put", &json!(first + 2)));
    let far = service.send(Request::get(format!("/v1/watch?fromRevision={}", first + 1000))).await.expect(504);
    assert_eq!(far.json()["type"], "https://quorate.io/problems/timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_snapshot_and_a_large_range_come_in_pages() {
    let service = Service::start().await;
    let value = "v".repeat(1 << 20);
    for key in ["a", "b", "c", "d", "e"] {
        service.send(Request::put(format!("/v1/kv/{key}"), &value)).await.expect(200);
    }
    let keys = |body: &serde_json::Value| -> Vec<String> {
        body["kvs"].as_array().unwrap().iter().map(|kv| kv["key"].as_str().unwrap().to_owned()).collect()
    };
    let mut watch = service.watch(Request::get("/v1/watch")).await;
    let mut pages = Vec::new();
    loop {
        let event = watch.next().await.unwrap();
        assert_eq!(event.kind, "snapshot");
        let more = event.data["more"] == true;
        assert_eq!(event.id.is_none(), more, "only a whole snapshot can be resumed from");
        pages.push(keys(&event.data));
        if !more {
            break;
        }
    }
    assert_eq!(pages, [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
    let page = service.send(Request::get("/v1/kv?after=a&limit=4")).await.expect(200).json();
    assert_eq!((keys(&page), &page["more"]), (vec!["b".to_owned(), "c".to_owned()], &json!(true)));
    service.send(Request::put("/v1/kv/a", "x")).await.expect(200);
    assert_eq!(watch.next().await.unwrap().kind, "put");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_changes_of_one_revision_come_together_and_only_the_last_can_be_resumed_from() {
    let service = Service::start().await;
    let mut watch = service.watch(Request::get("/v1/watch")).await;
    watch.next().await.unwrap();
    let body = r#"{"success":[{"op":"put","key":"a","value":""},{"op":"put","key":"b","value":""}]}"#;
    service.send(Request::post("/v1/txn", body).json()).await.expect(200);
    let (one, two) = (watch.next().await.unwrap(), watch.next().await.unwrap());
    assert_eq!((&one.data["key"], &two.data["key"]), (&json!("a"), &json!("b")));
    assert_eq!(one.data["revision"], two.data["revision"]);
    assert_eq!((one.id.is_some(), two.id.is_some()), (false, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_fell_out_of_the_ring_gets_a_new_snapshot() {
    let service = Service::start_with(HubLimits { events: 2, bytes: usize::MAX }, SessionSettings::default()).await;
    let first = service.send(Request::put("/v1/kv/a", "0")).await.expect(200).json()["modRevision"].clone();
    for value in ["1", "2", "3", "4"] {
        service.send(Request::put("/v1/kv/a", value)).await.expect(200);
    }
    let mut watch = service.watch(Request::get(format!("/v1/watch?fromRevision={first}"))).await;
    let snapshot = watch.next().await.unwrap();
    assert_eq!((snapshot.kind.as_str(), &snapshot.data["kvs"][0]["value"]), ("snapshot", &json!("NA==")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_event_ends_the_watch_and_is_counted() {
    let service = Service::start().await;
    let mut watch = service.watch(Request::get("/v1/watch")).await;
    let revision = watch.next().await.unwrap().data["revision"].as_u64().unwrap();
    // Planted: the event of the next revision never comes.
    let change = Change::KeyDeleted { key: Key::new("a").unwrap() };
    let event = MachineEvent { revision: Revision::new(revision + 2), at: Timestamp::default(), changes: vec![change] };
    service.hub.publish([Arc::new(event)]);
    assert_eq!(watch.next().await, None, "the stream ends rather than skip an event");
    let gaps = service.registry.gather().into_iter().find(|family| family.name() == "quorate_watch_gaps_total");
    assert_eq!(gaps.unwrap().get_metric()[0].get_counter().get_value(), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn configs_and_the_leader_can_be_watched() {
    let service = Service::start().await;
    let mut config = service.watch(Request::get("/v1/config/default/shop/watch")).await;
    let nothing = config.next().await.unwrap();
    assert_eq!((nothing.kind.as_str(), nothing.data["config"].is_null()), ("snapshot", true));
    let put = Request::put("/v1/config/default/shop", r#"{"data":{"a":"1"}}"#).json();
    service.send(put).await.expect(200);
    let changed = config.next().await.unwrap();
    assert_eq!((changed.kind.as_str(), &changed.data["config"]["data"]["a"]), ("config", &json!("1")));
    service.send(Request::delete("/v1/config/default/shop")).await.expect(200);
    assert_eq!(config.next().await.unwrap().kind, "delete");

    let leader = service.watch(Request::get("/v1/leader/watch")).await.next().await.unwrap();
    assert_eq!((leader.kind.as_str(), &leader.data["leader"]["name"]), ("snapshot", &json!("solo")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_waits_for_what_the_client_has_seen_and_never_goes_back() {
    let service = Service::start().await;
    let put = service.send(Request::put("/v1/kv/a", "1")).await.expect(200).json();
    let next = put["modRevision"].as_u64().unwrap() + 1;
    let cluster = service.send(Request::get("/v1/cluster")).await.json();
    let id = format!("{}-{next}", &cluster["clusterId"].as_str().unwrap()[..8]);
    let resume = |query: &str| Request::get(format!("/v1/watch{query}")).header("last-event-id", &id);
    service.send(resume("?timeoutMs=50")).await.expect(504);
    let (mut watch, put) = tokio::join!(service.watch(resume("")), service.send(Request::put("/v1/kv/a", "2")));
    put.expect(200);
    service.send(Request::put("/v1/kv/a", "3")).await.expect(200);
    let event = watch.next().await.unwrap();
    assert_eq!((event.kind.as_str(), &event.data["revision"]), ("put", &json!(next + 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_watch_says_that_it_is_complete() {
    let service = Service::start().await;
    let mut watch = service.watch(Request::get("/v1/watch?prefix=quiet/")).await;
    watch.next().await.unwrap();
    let put = service.send(Request::put("/v1/kv/loud", "x")).await.expect(200).json();
    let heartbeat = watch.next().await.unwrap();
    assert_eq!((heartbeat.kind.as_str(), &heartbeat.data["revision"]), ("heartbeat", &put["modRevision"]));
}
