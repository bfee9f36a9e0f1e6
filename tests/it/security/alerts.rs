//! Security events posted to a receiver: signed, tried again, and nobody waits for them.

mod alike;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use runner_broker::alerts::Poster;
use runner_broker::background;
use runner_broker::broker::security::Severity;
use runner_broker::config::Alerts;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::people::identities::replica;
use crate::support::{World, eventually};

const SECRET: &str = "a secret for alerts";
/// Receivers' URLs often carry one.
const KEY: &str = "key-in-the-path";

/// What a receiver does with a post.
#[derive(Clone, Debug)]
enum Reply {
    Status(u16),
    Redirect(String),
    /// 200 and a body without an end.
    Endless,
    Hang,
}

/// One that was received.
#[derive(Clone, Debug)]
struct Post {
    head: String,
    body: String,
}

impl Post {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")));
        line.and_then(|line| line.split_once(": ")).map(|(_, value)| value).unwrap_or_default()
    }
}

/// A receiver on a free port.
struct Receiver {
    url: String,
    posts: Arc<Mutex<Vec<Post>>>,
    reply: Arc<Mutex<Reply>>,
}

impl Receiver {
    async fn new() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/{KEY}?token={KEY}", listener.local_addr().expect("an address"));
        let posts = Arc::new(Mutex::new(Vec::new()));
        let reply = Arc::new(Mutex::new(Reply::Status(200)));
        let receiver = Receiver { url, posts: posts.clone(), reply: reply.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(receive(stream, posts.clone(), reply.clone()));
            }
        });
        receiver
    }

    fn replies(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    fn config(&self) -> Alerts {
        Alerts { url: self.url.parse().unwrap(), secret: SECRET.into() }
    }

    fn poster(&self) -> Poster {
        Poster::new(&self.config()).unwrap()
    }

    async fn world(&self) -> World {
        World::with(|config| config.broker.alerts = Some(self.config())).await
    }
}

async fn receive(mut stream: TcpStream, posts: Arc<Mutex<Vec<Post>>>, reply: Arc<Mutex<Reply>>) {
    let mut bytes = Vec::new();
    let post = loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let post = Post { head: head.to_owned(), body: body.to_owned() };
            if post.header("content-length").parse().unwrap_or(0) <= body.len() {
                break post;
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    };
    posts.lock().unwrap().push(post);
    let reply = reply.lock().unwrap().clone();
    let answer = match &reply {
        Reply::Status(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"),
        Reply::Redirect(to) => format!("HTTP/1.1 307 X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"),
        Reply::Endless => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
        Reply::Hang => String::new(),
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    while matches!(reply, Reply::Endless) && stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    if matches!(reply, Reply::Hang) {
        std::future::pending::<()>().await;
    }
}

/// One security event, always of the same caller's.
async fn violate(world: &World, name: &str) {
    violate_in("blue", world, "blue-user", name).await;
}

async fn violate_in(team: &str, world: &World, subject: &str, name: &str) {
    let token = world.issuer.mint(json!({ "sub": subject, "team": team }));
    let refused = json!({ "runner_name": name, "labels": ["gpu"] });
    let answer = world.call(Method::POST, "/api/v1/runners/jit", &token, &[], Some(refused)).await;
    assert_eq!(answer.status, 403);
}

/// Rounds until nothing is due.
async fn round(world: &World, receiver: &Receiver) -> (usize, usize, usize) {
    let done = world.broker.post_alerts(&receiver.poster()).await.unwrap();
    (done.posted, done.put_off, done.given_up)
}

/// Events that nobody was told of, and posts that are not out.
async fn waiting(world: &World) -> usize {
    let query = "SELECT 1 FROM alerts UNION ALL SELECT 1 FROM alert_posts WHERE due_at IS NOT NULL";
    world.sql(query).await.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_security_event_is_posted_once_with_all_that_the_log_has_of_it() {
    let receiver = Receiver::new().await;
    let world = receiver.world().await;
    violate(&world, "b1").await;
    assert_eq!(world.jit("b2").await.status, 201);
    assert_eq!(waiting(&world).await, 1, "only security events are posted");
    assert_eq!(round(&world, &receiver).await, (1, 0, 0));
    assert_eq!((round(&world, &receiver).await, waiting(&world).await), ((0, 0, 0), 0));
    let posts = receiver.posts();
    assert_eq!(posts.len(), 1);
    assert!(posts[0].head.starts_with(&format!("POST /{KEY}?token={KEY} HTTP/1.1")), "{}", posts[0].head);
    assert_eq!(posts[0].header("content-type"), "application/json");
    let body = posts[0].json();
    for (field, value) in
        [("type", "label_policy_violation"), ("severity", "warning"), ("action_taken", "refused")]
    {
        assert_eq!(body[field], json!(value));
    }
    assert_eq!(body["attempt"], json!(1));
    assert_eq!(body["count"], json!(1));
    assert_eq!(
        (&body["first_event_id"], &body["last_event_id"]),
        (&body["event"]["id"], &body["event"]["id"])
    );
    let mut logged = world.log("event_type = 'provision_refused'").await.remove(0);
    logged.as_object_mut().unwrap().remove("xid");
    let mut event = body["event"].clone();
    assert_eq!(event["runner_name"], "b1");
    // Postgres writes the time in another form.
    let time = |event: &mut Value| {
        let text = event["timestamp"].take();
        chrono::DateTime::parse_from_rfc3339(text.as_str().unwrap()).unwrap()
    };
    assert_eq!(time(&mut event), time(&mut logged));
    assert_eq!(event, logged);
    let sent_at = chrono::DateTime::parse_from_rfc3339(body["sent_at"].as_str().unwrap()).unwrap();
    assert!((world.clock.now() - sent_at.to_utc()).num_seconds() < 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_openssl_line_verifies_the_signature() {
    let receiver = Receiver::new().await;
    let world = receiver.world().await;
    violate(&world, "b1").await;
    round(&world, &receiver).await;
    let post = receiver.posts().remove(0);
    let document = include_str!("../../../docs/ALERTS.md");
    let line = document.lines().find(|line| line.starts_with("openssl dgst")).expect("the line");
    let verify = |body: &str, secret: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("body.json"), body).unwrap();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", line]).current_dir(&folder).env("ALERT_WEBHOOK_SECRET", secret);
        let output = shell.output().expect("a shell");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let signature = post.header("x-runner-broker-signature-256").to_owned();
    assert_eq!(verify(&post.body, SECRET), signature);
    assert_ne!(verify(&post.body, "another"), signature);
    assert_ne!(verify(&post.body.replace("b1", "b2"), SECRET), signature);
    let fields = [
        "id",
        "sent_at",
        "attempt",
        "type",
        "severity",
        "action_taken",
        "count",
        "first_event_id",
        "last_event_id",
        "event",
    ];
    assert_eq!(post.json().as_object().unwrap().len(), fields.len());
    for field in fields {
        assert!(document.contains(&format!("`{field}`")) && !post.json()[field].is_null(), "{field}");
    }
    for kind in runner_broker::broker::security::Type::ALL {
        let row = format!("| `{kind}` | {} |", kind.severity().as_str());
        assert!(document.contains(&row), "{row}");
    }
    assert_eq!(Severity::ALL.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_is_tried_again_under_the_same_id_with_growing_pauses() {
    let receiver = Receiver::new().await;
    let world = receiver.world().await;
    violate(&world, "b1").await;
    for (reply, pause) in [
        (Reply::Status(500), 5),
        (Reply::Status(404), 10),
        (Reply::Redirect(format!("{}/elsewhere", receiver.url)), 20),
        (Reply::Status(304), 40),
    ] {
        receiver.replies(reply.clone());
        assert_eq!(round(&world, &receiver).await, (0, 1, 0), "{reply:?}");
        world.pass(pause - 2);
        assert_eq!(round(&world, &receiver).await, (0, 0, 0), "{reply:?}: not before its time");
        world.pass(2);
    }
    receiver.replies(Reply::Status(204));
    assert_eq!((round(&world, &receiver).await, waiting(&world).await), ((1, 0, 0), 0));
    let posts = receiver.posts();
    assert_eq!(posts.len(), 5, "no redirect is followed");
    let ids: Vec<Value> = posts.iter().map(|post| post.json()["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0] && id.is_string()), "{ids:?}");
    let attempts: Vec<Value> = posts.iter().map(|post| post.json()["attempt"].clone()).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5]);
    // Each attempt is signed for its own time.
    assert_ne!(posts[0].json()["sent_at"], posts[4].json()["sent_at"]);
    assert_ne!(
        posts[0].header("x-runner-broker-signature-256"),
        posts[4].header("x-runner-broker-signature-256")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_day_it_is_given_up_and_that_is_a_metric() {
    let receiver = Receiver::new().await;
    let world = receiver.world().await;
    receiver.replies(Reply::Status(503));
    violate(&world, "b1").await;
    let mut attempts = 0;
    loop {
        match round(&world, &receiver).await {
            (0, 1, 0) => attempts += 1,
            (0, 0, 1) => break,
            (0, 0, 0) => world.pass(if attempts < 10 { 30 } else { 300 }),
            other => panic!("{other:?}"),
        }
    }
    assert!((90..120).contains(&attempts), "every quarter of an hour in the end: {attempts}");
    assert_eq!(waiting(&world).await, 0);
    let metrics = world.call(reqwest::Method::GET, "/metrics", "", &[], None).await.text;
    assert!(metrics.contains(r#"broker_alerts_total{result="given_up"}"#), "{metrics}");
    assert_eq!(world.log("event_type = 'provision_refused'").await.len(), 1, "the log has it all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_receiver_hangs_no_connection_is_held_and_no_caller_waits() {
    let receiver = Receiver::new().await;
    let world = receiver.world().await;
    receiver.replies(Reply::Hang);
    violate(&world, "b1").await;
    let posting = tokio::spawn({
        let (broker, poster) = (replica(&world, 1), receiver.poster());
        async move {
            let began = Instant::now();
            let posting = broker.post_alerts(&poster);
            let asking = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                // Its only connection is free meanwhile.
                broker.store().ping().await.unwrap();
                began.elapsed()
            };
            let (done, pinged) = tokio::join!(posting, asking);
            (done.unwrap(), pinged, began.elapsed())
        }
    });
    eventually("the post", async || receiver.posts().len() == 1).await;
    let began = Instant::now();
    violate(&world, "b2").await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // Held by the replica that posts it: nobody else takes it.
    assert_eq!(round(&world, &receiver).await, (0, 0, 0));
    let (done, pinged, took) = posting.await.unwrap();
    assert!(pinged < Duration::from_secs(4), "{pinged:?}");
    assert!((9..15).contains(&took.as_secs()), "a time limit ends it: {took:?}");
    assert_eq!(done.put_off, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_had_claimed_when_it_died_is_posted_by_another_after_a_minute() {
    let receiver = Receiver::new().await;
    let world = receiver.world().await;
    receiver.replies(Reply::Hang);
    violate(&world, "b1").await;
    let poster = receiver.poster();
    let died = tokio::time::timeout(Duration::from_secs(1), world.broker.post_alerts(&poster)).await;
    assert!(died.is_err());
    receiver.replies(Reply::Status(200));
    let other = replica(&world, 2);
    assert_eq!(other.post_alerts(&poster).await.unwrap().posted, 0);
    world.pass(61);
    assert_eq!(other.post_alerts(&poster).await.unwrap().posted, 1);
    let posts = receiver.posts();
    assert_eq!(posts[0].json()["id"], posts[1].json()["id"], "the receiver can tell");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_an_end_is_not_read() {
    let receiver = Receiver::new().await;
    let world = receiver.world().await;
    receiver.replies(Reply::Endless);
    violate(&world, "b1").await;
    let began = Instant::now();
    assert_eq!(round(&world, &receiver).await, (1, 0, 0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_written_with_its_event_or_not_at_all() {
    let receiver = Receiver::new().await;
    let world = receiver.world().await;
    world.sql("ALTER TABLE alerts ADD CONSTRAINT no CHECK (event_id < 0) NOT VALID").await;
    let refused = json!({ "runner_name": "b1", "labels": ["gpu"] });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", refused).await.status, 500);
    assert!(world.log("event_type = 'provision_refused'").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_receiver_nothing_waits_to_be_posted() {
    let world = World::new().await;
    violate(&world, "b1").await;
    assert_eq!(waiting(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_jobs_post_and_stop_in_the_middle() {
    let receiver = Receiver::new().await;
    let world = receiver.world().await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(background::run(world.broker.clone(), world.verifier.clone(), stop.clone()));
    violate(&world, "b1").await;
    eventually("the post", async || receiver.posts().len() == 1).await;
    eventually("the row's end", async || waiting(&world).await == 0).await;
    receiver.replies(Reply::Hang);
    violate_in("blue", &world, "another", "b2").await;
    eventually("the post", async || receiver.posts().len() == 2).await;
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), running).await.expect("an end").unwrap();
    assert_eq!(waiting(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_receivers_host_and_no_more_of_its_url() {
    let receiver = Receiver::new().await;
    receiver.replies(Reply::Status(500));
    let refused = receiver.poster().post(b"{}".to_vec()).await.unwrap_err().to_string();
    assert_eq!(refused, "127.0.0.1 answered 500; 2xx is wanted, and redirects are not followed");
    let url = format!("http://user:{KEY}@127.0.0.1:1/{KEY}?{KEY}").parse().unwrap();
    let config = Alerts { url, secret: SECRET.into() };
    let unreachable = Poster::new(&config).unwrap().post(b"{}".to_vec()).await.unwrap_err();
    for text in [unreachable.to_string(), format!("{unreachable:?}")] {
        assert!(!text.contains(KEY) && text.contains("127.0.0.1"), "{text}");
    }
    assert!(!format!("{:?}", config.secret).contains(SECRET));
}
