//! What else goes wrong on a real machine: an emptied volume, a full or broken disk, ports and directories that somebody else
//! has, and strangers on the wire.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use reqwest::{RequestBuilder, StatusCode};
use tokio::time::{Instant, sleep};

use crate::alone;
use crate::trio::{SIZE, Trio, free_ports, name, wait_for};

/// How long something that must not happen is watched for: several elections.
const WATCHED: Duration = Duration::from_secs(3);

/// Puts a key through one member; what came of it.
async fn put(trio: &Trio, member: usize, key: &str, value: Vec<u8>) -> Option<StatusCode> {
    let url = format!("{}/v1/kv/{key}?timeoutMs=1000", trio.url(member));
    trio.http.put(url).body(value).send().await.ok().map(|answer| answer.status())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_an_emptied_volume_neither_votes_nor_founds_and_joins_as_a_new_one() {
    let _alone = alone().await;
    let mut trio = Trio::running().await;
    assert_eq!(put(&trio, 0, "before", b"1".to_vec()).await, Some(StatusCode::OK));
    let cluster = trio.get_json(0, "/v1/cluster").await.unwrap()["clusterId"].clone();
    for member in 0..SIZE {
        trio.kill(member);
    }
    fs::remove_dir_all(trio.data(0)).unwrap();

    // Alone, it founds nothing; with one other, it does not make a quorum.
    trio.start(0);
    sleep(WATCHED).await;
    let alone = trio.get_json(0, "/v1/cluster").await.expect("it answers from what it knows");
    assert!(alone["clusterId"].is_null(), "it has founded a cluster: {alone}");
    trio.start(1);
    let end = Instant::now() + WATCHED;
    while Instant::now() < end {
        assert_ne!(put(&trio, 1, "between", b"2".to_vec()).await, Some(StatusCode::OK), "it has voted");
    }
    let waiting = trio.get_json(0, "/v1/cluster").await.unwrap();
    let text = waiting["waiting"].as_str().unwrap_or_else(|| panic!("it does not say what is wrong: {waiting}"));
    println!("{} says: {text}", name(0));

    // The two with their volumes are the cluster that they were.
    trio.start(2);
    trio.wait_until_ready(2).await;
    wait_for("two intact members do not serve", async || {
        (put(&trio, 2, "after", b"3".to_vec()).await == Some(StatusCode::OK)).then_some(())
    })
    .await;
    assert_eq!(trio.get_json(2, "/v1/cluster").await.unwrap()["clusterId"], cluster);
    // The third is a new member with a new id, which takes the place of the one that lost its volume.
    wait_for("the emptied member does not vote again", async || {
        let seen = trio.get_json(0, "/v1/cluster").await?;
        let of_members = |field: &str| -> Vec<_> {
            let members = seen["members"].as_array().into_iter().flatten();
            members.map(|member| format!("{} {}", member["memberId"], member[field].as_str().unwrap_or("?"))).collect()
        };
        let is_whole = of_members("role") == ["2 voter", "3 voter", "4 voter"] && seen["stale"] == false;
        (is_whole && of_members("name")[2] == format!("4 {}", name(0))).then_some(())
    })
    .await;
    for member in 0..SIZE {
        let answer = trio.http.get(format!("{}/v1/kv/before", trio.url(member))).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "1");
    }
    assert_eq!(trio.get_json(0, "/v1/cluster").await.unwrap()["clusterId"], cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raft_leader_that_falls_silent_takes_no_request_with_it_once_another_leads() {
    let _alone = alone().await;
    let trio = Trio::running().await;
    let silent = trio.leader().await;
    let others: Vec<_> = (0..SIZE).filter(|member| *member != silent).collect();
    for member in &others {
        assert_eq!(put(&trio, *member, "before", b"1".to_vec()).await, Some(StatusCode::OK));
    }
    trio.freeze(silent);
    let began = Instant::now();
    // An election takes about a second; a connection is given up after eight.
    let enough = Duration::from_secs(5);
    let requests = others.iter().flat_map(|member| {
        let url = format!("{}/v1/kv/during?timeoutMs=20000", trio.url(*member));
        [trio.http.put(&url).body("2"), trio.http.get(&url)]
    });
    let answers = join_all(requests.map(RequestBuilder::send)).await;
    let took = began.elapsed();
    println!("what was on its way to a silent Raft leader was answered within {took:?}");
    assert!(took < enough, "it took {took:?}");
    for answer in answers {
        let (status, text) = (answer.as_ref().unwrap().status(), answer.unwrap().text().await.unwrap());
        let is_known = status.is_success() || status == StatusCode::NOT_FOUND;
        assert!(is_known || text.contains("\"outcome\":\"unknown\""), "{status} {text}");
    }
    trio.thaw(silent);
    wait_for("the member that was silent does not serve", async || {
        (put(&trio, silent, "after", b"3".to_vec()).await == Some(StatusCode::OK)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_disk_refuses_a_write_stops_within_a_second_and_the_others_go_on() {
    let _alone = alone().await;
    let mut trio = Trio::new();
    let limited = 2;
    for member in 0..SIZE {
        let command = trio.command(member);
        if member == limited {
            trio.start_with(member, with_small_files(&command));
        } else {
            trio.start(member);
        }
    }
    for member in 0..SIZE {
        trio.wait_until_ready(member).await;
    }
    let mut failed = None;
    for number in 0..1000 {
        put(&trio, 0, &format!("big{}", number % 8), vec![b'.'; 200_000]).await;
        if failed.is_none() && trio.log(limited).contains("File too large") {
            failed = Some(Instant::now());
        }
        let Some(status) = trio.ended(limited) else { continue };
        assert!(!status.success() && status.code().is_some(), "it ended with {status}:\n{}", trio.log(limited));
        let took = failed.map_or(Duration::ZERO, |failed| failed.elapsed());
        println!("a failed write ended {} with {status}, {took:?} after its log said so", name(limited));
        assert!(took < Duration::from_secs(1), "it took {took:?} to stop");
        wait_for("the others do not serve", async || {
            (put(&trio, 0, "after", b"1".to_vec()).await == Some(StatusCode::OK)).then_some(())
        })
        .await;
        return;
    }
    panic!("its disk has never refused a write:\n{}", trio.log(limited));
}

/// The same command line, with files of at most 8 MiB: a write beyond fails as on a full disk.
fn with_small_files(command: &Command) -> Command {
    let mut limited = Command::new("sh");
    // 16,384 blocks of 512 bytes, the signal that would end the process instead ignored.
    limited.args(["-c", "trap '' XFSZ && ulimit -f 16384 && exec \"$@\"", "sh"]);
    limited.arg(command.get_program()).args(command.get_args());
    limited
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_and_ends_the_member() {
    let _alone = alone().await;
    let mut trio = Trio::new();
    for port in [trio.http_port(0), trio.wire_port(0)] {
        let _holder = TcpListener::bind(("127.0.0.1", port)).unwrap();
        trio.start(0);
        let status = trio.wait_until_ended(0).await;
        assert!(!status.success(), "it ended with {status}");
        let log = trio.log(0);
        assert!(log.contains(&port.to_string()) && log.contains("in use"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_belongs_to_one_process() {
    let _alone = alone().await;
    let trio = Trio::running().await;
    let ports = free_ports(3).try_into().expect("three");
    let output = trio.command_on(0, ports).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("in use") && text.contains(&name(0)), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_on_the_member_port_are_sent_away_and_counted() {
    let _alone = alone().await;
    let trio = Trio::running().await;
    let before = refused(&trio.metrics(0).await);
    let mut rng = SmallRng::seed_from_u64(3);
    let garbage: Vec<u8> = (0..10_000).map(|_| rng.random()).collect();
    let giant = [u32::MAX.to_be_bytes().as_slice(), &[0; 64]].concat();
    let http = b"GET / HTTP/1.1\r\nHost: quorate-0\r\n\r\n".to_vec();
    for stranger in [garbage, giant, http] {
        let mut stream = TcpStream::connect(("127.0.0.1", trio.wire_port(0))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // The member may close before all of it is sent.
        drop(stream.write_all(&stranger));
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let is_reset = ended.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(ended.is_ok() || is_reset, "the connection is still open: {ended:?}");
    }
    // A connection is counted once it is closed, which its other end may see first.
    wait_for("3 strangers were sent away, and not counted", async || {
        (refused(&trio.metrics(0).await) >= before + 3.0).then_some(())
    })
    .await;
    assert_eq!(put(&trio, 0, "after", b"1".to_vec()).await, Some(StatusCode::OK));
}

#[tokio::test(flavor = "multi_thread")]
#[cfg(target_os = "linux")]
async fn bad_input_costs_no_memory_however_much_of_it_comes() {
    const MUCH: usize = 4 << 20;
    const ROUNDS: usize = 20;
    const ROOM: u64 = 24 << 20;
    let _alone = alone().await;
    let trio = Trio::running().await;
    let head = |rest: &str| format!("PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\n{rest}");
    let deep =
        format!("POST /v1/txn HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {MUCH}\r\n\r\n");
    let (http, wire) = (trio.http_port(0), trio.wire_port(0));
    let inputs = [
        ("a giant frame", wire, u32::MAX.to_be_bytes().to_vec(), 0),
        ("a frame without an end", wire, 0x00ff_ffff_u32.to_be_bytes().to_vec(), b'f'),
        ("a giant body", http, head(&format!("Content-Length: {}\r\n\r\n", 1_u64 << 40)).into_bytes(), b'b'),
        ("a giant chunk", http, head("Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n").into_bytes(), b'c'),
        ("a giant header", http, head("Giant: ").into_bytes(), b'h'),
        ("a giant path", http, b"GET /v1/kv/".to_vec(), b'p'),
        ("deep JSON", http, deep.into_bytes(), b'['),
    ];
    let round = || {
        for (what, port, start, fill) in &inputs {
            let mut stream = TcpStream::connect(("127.0.0.1", *port)).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
            stream.write_all(start).unwrap_or_else(|error| panic!("{what}: {error}"));
            // It may be sent away before all of it is sent.
            drop(stream.write_all(&vec![*fill; MUCH]));
        }
    };
    // What any traffic at all costs, such as threads and their stacks, is there after one round.
    round();
    assert_eq!(put(&trio, 0, "before", b"1".to_vec()).await, Some(StatusCode::OK));
    let before = trio.peak_memory(0);
    (0..ROUNDS).for_each(|_| round());
    assert_eq!(put(&trio, 0, "after", b"1".to_vec()).await, Some(StatusCode::OK));
    let more = trio.peak_memory(0) - before;
    println!("{ROUNDS} rounds of {} bad inputs of {MUCH} bytes each: {more} bytes more than after one", inputs.len());
    assert!(more < ROOM, "bad input took {more} bytes");
}

/// Refused connections, of every cause.
fn refused(metrics: &str) -> f64 {
    let counters = metrics.lines().filter(|line| line.starts_with("quorate_member_connections_closed_total"));
    counters.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}
