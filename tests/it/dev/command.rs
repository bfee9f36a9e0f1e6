//! `runner-broker dev`, as a newcomer uses it: started, pasted from, ended.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::commands::{command, runner_broker};
use crate::people::sign_in::visitor::Visitor;

/// A running `dev` with everything that it printed until it was up.
struct Dev {
    child: Child,
    port: u16,
    printed: String,
    stderr: BufReader<std::process::ChildStderr>,
    temporary: Option<TempDir>,
}

/// Three free ports in a row, below those that the system itself hands out; other ones at each call.
fn free_ports() -> u16 {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 1_000) as u16 * 20;
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let mut candidates = std::iter::repeat_with(|| first + 3 * CALLS.fetch_add(1, Ordering::Relaxed));
    candidates.find(|port| (0..3).all(|n| free(port + n))).expect("three free ports")
}

/// A folder that Postgres may enter when it runs as somebody else.
fn open_folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("rb-d-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn dev(args: &[&str], port: u16, temporary: &Path) -> Command {
    let environment = [("TMPDIR", temporary.display().to_string()), ("PATH", std::env::var("PATH").unwrap())];
    let port = port.to_string();
    let mut command = command(&[&["dev", "--port", &port], args].concat(), &environment);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

impl Dev {
    fn start(args: &[&str]) -> Dev {
        let (temporary, port) = (open_folder(), free_ports());
        let mut child = dev(args, port, temporary.path()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut printed = String::new();
        while !printed.contains("--sub carol") {
            let read = stderr.read_line(&mut printed).unwrap();
            assert!(read > 0, "it ended: {printed}");
        }
        Dev { child, port, printed, stderr, temporary: Some(temporary) }
    }

    /// The commands that it printed, each in one line.
    fn commands(&self) -> Vec<String> {
        let text = self.printed.replace(" \\\n", " ");
        let is_command = |line: &&str| line.starts_with("TOKEN=") || line.starts_with("curl ");
        text.lines().map(str::trim).filter(is_command).map(str::to_owned).collect()
    }

    /// Ctrl-C; the exit code, and the folder for temporary things.
    fn stop(mut self) -> (i32, TempDir) {
        let started = Instant::now();
        assert!(
            Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success()
        );
        // Read on, so that nothing it says holds it up.
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.stderr, &mut rest).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        assert!(!rest.contains("ERROR"), "{rest}");
        (code, self.temporary.take().unwrap())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether any process was started with this folder.
fn somebody_uses(folder: &Path) -> bool {
    let folder = folder.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(&folder))
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// Runs a command as it was printed: by a shell and curl or, where there is none, by our own client.
fn paste(token: &str, command: &str) -> (u16, Value) {
    let answer = match Command::new("curl").arg("--version").output() {
        Ok(_) => {
            let script = format!("{token}\n{command} -w '\\n%{{http_code}}'");
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        }
        Err(_) => by_ourselves(token, command),
    };
    let (body, status) = answer.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap())
}

fn by_ourselves(token: &str, command: &str) -> String {
    let token = token.trim_start_matches("TOKEN=").trim_matches('\'');
    let words = shlex::split(&command.replace("$TOKEN", token)).unwrap();
    let after = |flag: &str| -> Vec<String> {
        words
            .iter()
            .zip(&words[1..])
            .filter(|(word, _)| *word == flag)
            .map(|(_, value)| value.clone())
            .collect()
    };
    let url = words.iter().find(|word| word.starts_with("http")).unwrap().clone();
    let headers: Vec<String> = after("-H");
    let body = after("-d").into_iter().next();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let client = crate::support::client();
        let request = match body {
            Some(body) => client.post(url).body(body),
            None => client.get(url),
        };
        let request = headers
            .iter()
            .filter_map(|header| header.split_once(": "))
            .fold(request, |request, (name, value)| request.header(name, value));
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        format!("{}\n{status}", answer.text().await.unwrap())
    })
}

#[test]
fn what_it_prints_can_be_pasted_and_nothing_stays_behind() {
    let dev = Dev::start(&[]);
    assert!(!dev.printed.contains("WARN"), "nothing to worry a newcomer: {}", dev.printed);
    let commands = dev.commands();
    let (token, calls) = commands.split_first().expect("commands");
    let answers: Vec<(u16, Value)> =
        calls.iter().filter(|call| call.starts_with("curl")).map(|call| paste(token, call)).collect();
    let [(201, made), (200, list), (403, refused)] = &answers[..] else { panic!("{answers:?}") };
    assert!(made["run_command"].as_str().unwrap().ends_with("./run.sh"), "{made}");
    assert_eq!(list["runners"][0]["runner_id"], made["runner_id"]);
    assert_eq!(refused["detail"], "Labels ['gpu'] not permitted by policy");

    // As the printed lines for other people, by the same binary.
    let others: Vec<&String> = calls.iter().filter(|call| call.starts_with("TOKEN=$(")).collect();
    assert!(
        others.len() == 2 && others.iter().all(|line| line.contains(&format!("--port {}", dev.port))),
        "{others:?}"
    );
    let carol = paste(
        others[1],
        &format!("curl -sS http://127.0.0.1:{}/api/v1/auth/me -H \"Authorization: Bearer $TOKEN\"", dev.port),
    );
    assert_eq!(
        (carol.0, &carol.1["subject"], &carol.1["roles"]),
        (200, &Value::from("carol"), &serde_json::json!(["admin"]))
    );
    let bob = paste(others[0], &calls[calls.iter().rposition(|call| call.starts_with("curl")).unwrap()]);
    assert_eq!(bob.0, 201, "team ml may have gpu: {}", bob.1);

    let temporary = dev.temporary.as_ref().unwrap().path().to_owned();
    assert!(somebody_uses(&temporary));
    let (code, folder) = dev.stop();
    assert_eq!(code, 0);
    assert!(is_empty(folder.path()) && !somebody_uses(&temporary));
}

#[test]
fn a_newcomer_opens_the_address_that_it_prints_and_clicks_himself_in() {
    let dev = Dev::start(&[]);
    let console = dev.printed.lines().find_map(|line| line.trim().strip_prefix("console "));
    let console = console.and_then(|rest| rest.split_whitespace().next()).expect("the console's address");
    let base = console.trim_end_matches('/').to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (provider, pressed) in [("dev", ("sub", "carol")), ("github", ("login", "alice"))] {
            let visitor = Visitor::of(&base);
            assert_eq!(visitor.get("/").await.header("location"), "/sign-in?return_to=%2F");
            let authorize = visitor.begin(provider, "/").await;
            let claims = ("claims", r#"{"groups": ["admins"]}"#);
            let back = visitor.choose(&authorize, &[pressed, claims]).await;
            let answer = visitor.get(&back).await;
            assert_eq!((answer.status, answer.header("location")), (303, "/"), "{}", answer.text);
            let page = visitor.get("/").await;
            assert!(page.status == 200 && page.text.contains(pressed.1), "{}", page.text);
        }
    });
    assert_eq!(dev.stop().0, 0);
}

#[test]
fn the_data_of_a_given_folder_outlives_a_restart() {
    let data = open_folder();
    let kept = data.path().join("data").display().to_string();
    let list = |dev: &Dev| {
        let commands = dev.commands();
        let (token, calls) = commands.split_first().unwrap();
        let curls: Vec<&String> = calls.iter().filter(|call| call.starts_with("curl")).collect();
        (paste(token, curls[0]), paste(token, curls[1]))
    };
    let first = Dev::start(&["--data-dir", &kept]);
    let (made, _) = list(&first);
    // Whoever tries out the calls for administrators can still come back.
    let commands = first.commands();
    let carol = commands.iter().find(|line| line.contains("--sub carol")).expect("an admin");
    let create = format!(
        "curl -sS http://127.0.0.1:{}/api/v1/admin/teams -H \"Authorization: Bearer $TOKEN\" \
         -H 'Content-Type: application/json' -d '{{\"name\": \"tried out\"}}'",
        first.port
    );
    assert_eq!(paste(carol, &create).0, 201);
    assert_eq!(first.stop().0, 0);
    let second = Dev::start(&["--data-dir", &kept]);
    let (_, listed) = list(&second);
    let names: Vec<&Value> =
        listed.1["runners"].as_array().unwrap().iter().map(|runner| &runner["runner_id"]).collect();
    assert!(names.len() == 2 && names.contains(&&made.1["runner_id"]), "{listed:?}");
    assert_eq!(second.stop().0, 0);
    assert!(!somebody_uses(data.path()));
}

#[test]
fn a_port_that_is_taken_is_named() {
    for (taken, what) in [
        (0, "cannot listen on 127.0.0.1:"),
        (1, "the OpenID provider cannot listen on port "),
        (2, "GitHub cannot listen on port "),
    ] {
        let (temporary, port) = (open_folder(), free_ports());
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port + taken)).unwrap();
        let output = dev(&[], port, temporary.path()).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains(&format!("{what}{}", port + taken)), "{err}");
        assert!(is_empty(temporary.path()) && !somebody_uses(temporary.path()), "{err}");
    }
}

#[test]
fn a_token_without_a_running_dev_is_told_what_to_do() {
    let port = free_ports().to_string();
    let ended = runner_broker(&["dev", "token", "--sub", "alice", "--port", &port], &[]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.contains("no 'runner-broker dev' answers") && ended.err.contains("--port"),
        "{}",
        ended.err
    );
    let bad = runner_broker(&["dev", "token", "--sub", "alice", "--claim", "team"], &[]);
    assert!(bad.code == 2 && bad.err.contains("NAME=VALUE"), "{}", bad.err);
}
