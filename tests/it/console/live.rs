//! Pages that update by themselves.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use reqwest::Response;
use runner_broker::cli::serve::start;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::pages::peopled;
use crate::browser::Browser;
use crate::support::{World, eventually};

const LONG: Duration = Duration::from_secs(20);

async fn open(browser: &Browser<'_>, of: &str) -> Response {
    let asked = browser.ask(&format!("/events?of={of}")).header("accept", "text/event-stream");
    asked.send().await.expect("an answer")
}

/// Reads on until the text is there; what was read. `None`: the stream ended before.
async fn read_until(stream: &mut Response, text: &str) -> Option<String> {
    let mut read = String::new();
    let reading = async {
        while !read.contains(text) {
            let chunk = stream.chunk().await.ok()??;
            read.push_str(&String::from_utf8_lossy(&chunk));
        }
        Some(())
    };
    tokio::time::timeout(LONG, reading).await.expect("in time")?;
    Some(read)
}

/// Whether it ends, in time.
async fn ends(stream: &mut Response) -> bool {
    let reading = async { while let Ok(Some(_)) = stream.chunk().await {} };
    tokio::time::timeout(LONG, reading).await.is_ok()
}

#[actix_web::test]
async fn an_open_overview_shows_what_happens_to_whom_it_concerns() {
    let world = peopled().await;
    let (blue, red) = (world.signed_in("blue").await, world.signed_in("red").await);
    let mut seen = open(&blue, "overview").await;
    let mut others = open(&red, "overview").await;
    assert_eq!(seen.status(), 200);
    assert_eq!(seen.headers()["content-type"], "text/event-stream");
    assert_eq!(seen.headers()["cache-control"], "no-store");
    let none = r#"status=pending"><strong>0</strong>"#;
    assert!(read_until(&mut seen, none).await.is_some() && read_until(&mut others, none).await.is_some());
    world.jit("b1").await;
    world.pass(4);
    let news = read_until(&mut seen, r#"status=pending"><strong>1</strong>"#).await.expect("news");
    assert!(news.contains("event: parts\ndata: "), "{news}");
    world.post("/api/v1/runners/jit", "red", json!({ "runner_name": "r1" })).await;
    world.pass(4);
    let news = read_until(&mut others, r#"status=pending"><strong>1</strong>"#).await.expect("news");
    assert!(!news.contains(">b1<"), "{news}");
}

#[actix_web::test]
async fn an_open_list_hears_that_something_happened() {
    let world = peopled().await;
    let blue = world.signed_in("blue").await;
    let mut stream = open(&blue, "runners").await;
    read_until(&mut stream, "retry: ").await.expect("a beginning");
    world.jit("b1").await;
    world.pass(4);
    assert!(read_until(&mut stream, "event: look\n").await.is_some());
}

#[actix_web::test]
async fn nobody_else_is_shown_anything() {
    let world = peopled().await;
    let nobody = Browser::with(&world, "runner-broker=forged");
    let answer = nobody.get("/events?of=overview").await;
    assert_eq!(answer.status, 303);
    let stranger = world.signed_in("nobodys").await.get("/events?of=overview").await;
    assert!(stranger.header("content-type").starts_with("text/html"), "{:?}", stranger.headers);
}

#[actix_web::test]
async fn a_stream_ends_with_its_session_and_keeps_nobody_signed_in() {
    let world = peopled().await;
    let (out, idle) = (world.signed_in("blue").await, world.signed_in("red").await);
    let mut streams = [open(&out, "overview").await, open(&idle, "runners").await];
    for stream in &mut streams {
        read_until(stream, "retry: ").await.expect("a beginning");
    }
    world.sql("DELETE FROM sessions WHERE subject = 'blue-user'").await;
    assert!(ends(&mut streams[0]).await);
    world.pass(3_601);
    assert!(ends(&mut streams[1]).await);
    assert_eq!(idle.get("/").await.status, 303);
}

#[actix_web::test]
async fn a_stream_ends_when_its_reader_is_deactivated() {
    let world = peopled().await;
    let blue = world.signed_in("blue").await;
    let mut stream = open(&blue, "overview").await;
    read_until(&mut stream, "retry: ").await.expect("a beginning");
    crate::people::identities::seen(&world, &["blue"]).await;
    let answer = crate::people::identities::set(&world, "deactivate", "blue", "boss").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(ends(&mut stream).await);
}

#[actix_web::test]
async fn streams_that_begin_at_the_same_moment_all_go_on() {
    let world = peopled().await;
    let mut browsers = Vec::new();
    for _ in 0..8 {
        browsers.push(world.signed_in("blue").await);
    }
    let opened = join_all(browsers.iter().map(|browser| open(browser, "runners"))).await;
    for mut stream in opened {
        assert!(read_until(&mut stream, "retry: ").await.is_some());
    }
}

#[actix_web::test]
async fn of_too_many_streams_of_one_session_the_oldest_ends() {
    let world = peopled().await;
    let blue = world.signed_in("blue").await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = open(&blue, "runners").await;
        read_until(&mut stream, "retry: ").await.expect("a beginning");
        streams.push(stream);
    }
    let mut others = open(&world.signed_in("red").await, "runners").await;
    read_until(&mut others, "retry: ").await.expect("a beginning");
    let mut ninth = open(&blue, "runners").await;
    read_until(&mut ninth, "retry: ").await.expect("a beginning");
    assert!(ends(&mut streams[0]).await, "the page that was left");
    for stream in streams[1..].iter_mut().chain([&mut ninth, &mut others]) {
        assert!(read_until(stream, "still here").await.is_some(), "the rest goes on");
    }
}

#[actix_web::test]
async fn many_who_look_on_cost_no_more_than_one() {
    let world = peopled().await;
    let mut streams = Vec::new();
    for number in 0..12 {
        let reader = world.signed_in_as(json!({ "sub": format!("reader-{number}"), "team": "blue" })).await;
        let mut stream = open(&reader, "overview").await;
        read_until(&mut stream, "retry: ").await.expect("a beginning");
        streams.push(stream);
    }
    world.sql("SELECT pg_stat_reset()").await;
    let scans = "SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'runners'";
    let counted = async || world.sql(scans).await[0].parse::<i64>().expect("a number");
    let before = counted().await;
    let mut all =
        futures_util::stream::select_all(streams.into_iter().map(|stream| Box::pin(stream.bytes_stream())));
    for round in 0..3 {
        world.jit(&format!("b{round}")).await;
        world.pass(4);
        let mut told = 0;
        while told < 12 {
            let chunk = tokio::time::timeout(LONG, all.next()).await.expect("in time").expect("a stream");
            told += chunk.expect("a chunk").windows(12).filter(|window| window == b"event: parts").count();
        }
    }
    eventually("the statistics are there", async || counted().await > before).await;
    assert!(counted().await - before < 100, "{} scans for three rounds", counted().await - before);
}

#[actix_web::test]
async fn open_streams_do_not_keep_the_server_from_stopping() {
    let world = World::new().await;
    let started = start(world.config.clone(), world.clock.clone()).await.expect("a broker");
    let (stop, address) = (CancellationToken::new(), started.server.address);
    let serving = tokio::spawn(started.server.until(stop.clone()));
    let page = world.signed_in("blue").await.ask("/events?of=overview").build().expect("a request");
    let cookie = page.headers()["cookie"].clone();
    let asked = world.client().get(format!("http://{address}/events?of=overview")).header("cookie", cookie);
    let mut stream = asked.send().await.expect("an answer");
    read_until(&mut stream, "retry: ").await.expect("a beginning");
    stop.cancel();
    assert!(ends(&mut stream).await);
    tokio::time::timeout(Duration::from_secs(5), serving)
        .await
        .expect("in time")
        .expect("it ends")
        .expect("well");
}
