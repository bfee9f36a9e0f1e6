//! The private Postgres: it starts anywhere, keeps what it should, and leaves nothing behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use runner_broker::dev::postgres::{Error, Options, Postgres};
use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use tempfile::TempDir;

use crate::database::{TestDatabase, connect};

#[tokio::test]
async fn a_private_postgres_starts_answers_and_leaves_nothing_behind() {
    let postgres = Postgres::start(&Options::temporary()).unwrap();
    assert_eq!(ask(&postgres, "SELECT current_setting('server_encoding')").await, "UTF8");
    assert_eq!(ask(&postgres, "SHOW listen_addresses").await, "");
    assert_eq!(ask(&postgres, "SHOW fsync").await, "off");
    let (folder, pid) = (postgres.socket_folder().to_owned(), postgres.pid().unwrap());
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700, "nobody else gets in");
    drop(postgres);
    assert!(!folder.exists());
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn data_in_a_folder_of_ones_own_survives() {
    let home = open_folder();
    let options = Options::kept(home.path().join("new/folder"));
    let first = Postgres::start(&options).unwrap();
    assert_eq!(ask(&first, "SHOW fsync").await, "on");
    let (client, _connection) = connect(&first.url("postgres")).await;
    client.batch_execute("CREATE TABLE kept AS SELECT 'still here' AS word").await.unwrap();
    let sockets = first.socket_folder().to_owned();
    drop(first);
    assert!(!sockets.exists());
    let second = Postgres::start(&options).unwrap();
    assert_eq!(ask(&second, "SELECT word FROM kept").await, "still here");
}

#[tokio::test]
async fn a_second_instance_on_the_same_data_is_refused_and_the_first_goes_on() {
    let home = open_folder();
    let options = Options::kept(home.path());
    let first = Postgres::start(&options).unwrap();
    let refused = Postgres::start(&options).unwrap_err();
    let expected = format!(
        "{} is in use by another instance (Postgres runs as process {})",
        home.path().display(),
        first.pid().unwrap()
    );
    assert_eq!(refused.to_string(), expected);
    assert_eq!(ask(&first, "SELECT 'well'").await, "well");
}

#[tokio::test]
async fn a_server_comes_back_under_the_same_url_after_a_stop_and_after_a_kill() {
    let postgres = Postgres::start(&Options::temporary()).unwrap();
    let (client, _connection) = connect(&postgres.url("postgres")).await;
    client.batch_execute("CREATE TABLE kept AS SELECT 'still here' AS word").await.unwrap();
    postgres.stop();
    assert!(!postgres.is_running());
    assert!(client.batch_execute("SELECT 1").await.is_err(), "its connections are cut");
    postgres.restart().unwrap();
    assert_eq!(ask(&postgres, "SELECT word FROM kept").await, "still here");
    postgres.kill();
    assert_eq!(postgres.pid(), None);
    postgres.restart().unwrap();
    assert!(postgres.is_running());
    assert_eq!(ask(&postgres, "SELECT word FROM kept").await, "still here");
}

#[test]
fn a_server_that_does_not_start_says_why() {
    let mut options = Options::temporary();
    options.settings.push(("shared_buffers".into(), "plenty".into()));
    let failed = Postgres::start(&options).unwrap_err();
    assert!(matches!(failed, Error::Failed { program: "postgres", .. }), "{failed}");
    assert!(failed.to_string().contains(r#"invalid value for parameter "shared_buffers""#), "{failed}");
}

#[test]
fn a_folder_that_only_root_can_enter_is_refused_before_anything_is_tried() {
    if !geteuid().is_root() {
        return; // everybody else runs Postgres as himself
    }
    let home = open_folder();
    fs::set_permissions(home.path(), Permissions::from_mode(0o700)).unwrap();
    let refused = Postgres::start(&Options::kept(home.path().join("data"))).unwrap_err();
    assert!(matches!(refused, Error::Unreachable { .. }), "{refused}");
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own_with_the_schema() {
    let migrate = async |url: &str| {
        let (client, _connection) = connect(url).await;
        client.batch_execute("CREATE TABLE words (word text)").await.unwrap();
    };
    let one = TestDatabase::create("words", migrate).await;
    let two = TestDatabase::create("words", async |_: &str| unreachable!("the template is there")).await;
    let (client, _connection) = connect(one.url()).await;
    client.batch_execute("INSERT INTO words VALUES ('one')").await.unwrap();
    let (client, _connection) = connect(two.url()).await;
    assert!(client.query("SELECT * FROM words", &[]).await.unwrap().is_empty());
    let url = two.url().to_owned();
    drop(two);
    assert!(
        tokio_postgres::connect(&url, tokio_postgres::NoTls).await.is_err(),
        "it is dropped though in use"
    );
}

#[test]
fn whoever_starts_it_may_be_killed_and_nothing_stays_behind() {
    let temporary = open_folder();
    let (mut process, pid) = another_process(None, temporary.path(), None);
    kill_process_group(Pid::from_child(&process), Signal::KILL).unwrap();
    process.wait().unwrap();
    until(|| !is_alive(pid) && is_empty(temporary.path()));
}

#[test]
fn a_ctrl_c_at_the_terminal_leaves_nothing_behind() {
    let temporary = open_folder();
    let (mut process, pid) = another_process(None, temporary.path(), None);
    kill_process_group(Pid::from_child(&process), Signal::INT).unwrap();
    process.wait().unwrap();
    until(|| !is_alive(pid) && is_empty(temporary.path()));
}

#[test]
fn a_kill_while_it_is_still_starting_leaves_nothing_behind() {
    for milliseconds in [0, 1, 2, 5, 10, 100, 300, 500, 600] {
        let temporary = open_folder();
        let mut process = other_process(None, temporary.path(), None).spawn().unwrap();
        until(|| !is_empty(temporary.path()));
        std::thread::sleep(Duration::from_millis(milliseconds));
        kill_process_group(Pid::from_child(&process), Signal::KILL).unwrap();
        process.wait().unwrap();
        until(|| is_empty(temporary.path()) && !any_process_in(temporary.path()));
    }
}

#[tokio::test]
async fn kept_data_can_be_used_at_once_after_its_user_was_killed() {
    let (temporary, home) = (open_folder(), open_folder());
    let (mut process, _) = another_process(None, temporary.path(), Some(home.path()));
    kill_process_group(Pid::from_child(&process), Signal::KILL).unwrap();
    process.wait().unwrap();
    let postgres = Postgres::start(&Options::kept(home.path())).unwrap();
    assert_eq!(ask(&postgres, "SELECT 'well'").await, "well");
    until(|| is_empty(temporary.path()));
}

#[test]
fn it_starts_for_a_user_without_rights() {
    if !geteuid().is_root() {
        return; // then all other tests show it
    }
    let temporary = open_folder();
    fs::set_permissions(temporary.path(), Permissions::from_mode(0o777)).unwrap();
    let program = temporary.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let (mut process, pid) = another_process(Some((&program, 65534)), temporary.path(), None);
    kill_process_group(Pid::from_child(&process), Signal::KILL).unwrap();
    process.wait().unwrap();
    fs::remove_file(program).unwrap();
    until(|| !is_alive(pid) && is_empty(temporary.path()));
}

/// What the tests above run in a process of its own, to kill it; in any other process there is nothing to do.
#[test]
fn start_and_wait_to_be_killed() {
    if std::env::var_os(KILLED).is_none() {
        return;
    }
    let options = match std::env::var_os("TEST_DATA_DIR") {
        Some(folder) => Options::kept(folder),
        None => Options::temporary(),
    };
    let postgres = Postgres::start(&options).unwrap_or_else(|err| panic!("{err}"));
    fs::write(std::env::temp_dir().join("pid.new"), postgres.pid().unwrap().to_string()).unwrap();
    fs::rename(std::env::temp_dir().join("pid.new"), std::env::temp_dir().join("pid")).unwrap();
    loop {
        std::thread::park();
    }
}

/// Set in the processes that are there to be killed.
const KILLED: &str = "TEST_IS_TO_BE_KILLED";

/// This program again, as another user if given, in a process group of its own.
fn other_process(user: Option<(&Path, u32)>, temporary: &Path, data_dir: Option<&Path>) -> Command {
    let program = user.map_or_else(|| std::env::current_exe().unwrap(), |(program, _)| program.to_owned());
    // Whoever runs the tests in the background has them ignore Ctrl-C, and their children with them.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(program);
    command.args(["--exact", "dev::postgres::start_and_wait_to_be_killed", "--nocapture"]);
    command.env(KILLED, "1");
    command.env("TMPDIR", temporary).current_dir("/").process_group(0).stdout(Stdio::null());
    if let Some(data_dir) = data_dir {
        command.env("TEST_DATA_DIR", data_dir);
    }
    if let Some((_, uid)) = user {
        command.uid(uid).gid(uid);
    }
    command
}

/// The same, once its Postgres runs, and that one's process id.
fn another_process(user: Option<(&Path, u32)>, temporary: &Path, data_dir: Option<&Path>) -> (Child, u32) {
    let mut process = other_process(user, temporary, data_dir).spawn().unwrap();
    let file = temporary.join("pid");
    until(|| file.exists() || process.try_wait().unwrap().is_some());
    let pid = fs::read_to_string(&file).expect("it has started").parse().unwrap();
    fs::remove_file(file).unwrap();
    assert!(is_alive(pid));
    (process, pid)
}

/// One value as text.
async fn ask(postgres: &Postgres, query: &str) -> String {
    let (client, _connection) = connect(&postgres.url("postgres")).await;
    client.query_one(query, &[]).await.unwrap_or_else(|err| panic!("{query}: {err:?}")).get(0)
}

/// A temporary folder that the user whom Postgres runs as can enter.
pub fn open_folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("rb-t-").tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

fn until(condition: impl FnMut() -> bool) {
    let (mut condition, since) = (condition, Instant::now());
    while !condition() {
        assert!(since.elapsed() < Duration::from_secs(30), "waited for 30 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that has ended and that nobody asked about, as in containers without an init, is not.
fn is_alive(pid: u32) -> bool {
    let ended = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    !ended && rustix::process::test_kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap()).is_ok()
}

/// But for the file in which another process says that its Postgres runs.
fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder)
        .unwrap()
        .all(|entry| entry.unwrap().file_name().as_encoded_bytes().starts_with(b"pid"))
}

/// Whether a command line names this folder; known on Linux alone.
fn any_process_in(folder: &Path) -> bool {
    let folder = folder.to_str().unwrap();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .any(|command| String::from_utf8_lossy(&command).contains(folder))
}
