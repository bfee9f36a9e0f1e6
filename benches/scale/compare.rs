//! The same asked of a small and of a large database in turns, so that whatever else the machine does meets both alike.

use std::time::Instant;

use regex::Regex;
use serde_json::json;

use crate::client::{Connection, Load, Measured};
use crate::site::{Site, session_of};
use crate::table::Table;

/// What is asked may take so many times as long with a thousand times the history.
const MOST: f64 = 1.5;

/// Milliseconds, the small database's first.
pub struct Line {
    pub group: &'static str,
    pub what: String,
    pub p50: [f64; 2],
    pub p99: [f64; 2],
    /// Of the broker and Postgres, for one; nothing where it is not known.
    pub cpu: Option<[f64; 2]>,
    /// How many rows an answer has, where the two differ.
    pub remark: String,
}

/// One of the two, as a caller asks it.
pub struct Side {
    load: Load,
    caller: String,
    connection: Connection,
    replica: usize,
}

impl Side {
    pub async fn of(site: &Site, replica: usize, caller: &str) -> Side {
        let token = site.issuer.mint(json!({ "sub": caller, "team": caller }));
        let load = Load { ports: vec![site.replicas[replica].port], token };
        let connection = load.connect(0).await.expect("a connection");
        Side { load, caller: caller.to_owned(), connection, replica }
    }

    /// Milliseconds, and how many rows the answer has.
    async fn get(&mut self, path: &str) -> (f64, String) {
        // The API goes by the token, pages by the session.
        let session = format!("\r\ncookie: runner-broker={}\r\n\r\n", session_of(&self.caller));
        let request = self.load.get(path).replace("\r\n\r\n", &session);
        let sent = Instant::now();
        let (status, body) = self.connection.call(&request).await.expect("an answer");
        let took = sent.elapsed().as_secs_f64() * 1000.0;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(body));
        (took, described(body))
    }

    async fn provision(&mut self, name: &str) -> f64 {
        let request = self.load.jit(name);
        let sent = Instant::now();
        let (status, body) = self.connection.call(&request).await.expect("an answer");
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(body));
        sent.elapsed().as_secs_f64() * 1000.0
    }

    /// Seconds of CPU so far.
    fn cpu(&self, site: &Site) -> f64 {
        crate::process::cpu(site.replicas[self.replica].id()) + site.cpu().postgres
    }

    /// So many answers after a few that warm caches; the rows in one, and the CPU for one.
    pub async fn measure(&mut self, site: &Site, path: &str, rounds: u64) -> (Measured, String, f64) {
        for _ in 0..2 {
            self.get(path).await;
        }
        let (begun, mut took, mut rows) = (self.cpu(site), Vec::new(), String::new());
        for _ in 0..rounds {
            let (one, described) = self.get(path).await;
            took.push(one);
            rows = described;
        }
        let cpu = (self.cpu(site) - begun) * 1000.0 / rounds as f64;
        (Measured::of_milliseconds(&took), rows, cpu)
    }
}

/// The same path on both, each as its own rows want it.
pub async fn ask(
    site: &Site,
    sides: &mut [Side; 2],
    group: &'static str,
    paths: [&str; 2],
    rounds: u64,
) -> Line {
    let mut took = [Vec::new(), Vec::new()];
    let (mut cpu, mut rows) = ([0.0; 2], [String::new(), String::new()]);
    for (side, path) in sides.iter_mut().zip(paths) {
        for _ in 0..3 {
            side.get(path).await;
        }
    }
    // In blocks, as CPU is counted in hundredths of a second.
    for _ in 0..rounds.div_ceil(10) {
        for (place, side) in sides.iter_mut().enumerate() {
            let begun = side.cpu(site);
            for _ in 0..10 {
                let (one, described) = side.get(paths[place]).await;
                took[place].push(one);
                rows[place] = described;
            }
            cpu[place] += (side.cpu(site) - begun) * 1000.0;
        }
    }
    let count = took[0].len() as f64;
    let length = |rows: &str| rows.split(' ').next().unwrap_or_default().trim_end_matches(',').to_owned();
    let remark = match length(&rows[0]) == length(&rows[1]) {
        true => String::new(),
        false => format!("{} and {} rows", length(&rows[0]), length(&rows[1])),
    };
    line(group, shown(paths[1]), took, Some(cpu.map(|cpu| cpu / count)), remark)
}

/// Provisions on both.
pub async fn provisions(site: &Site, sides: &mut [Side; 2], rounds: u64) -> Line {
    let mut took = [Vec::new(), Vec::new()];
    let mut cpu = [0.0; 2];
    for block in 0..rounds.div_ceil(10) + 1 {
        for (place, side) in sides.iter_mut().enumerate() {
            let begun = side.cpu(site);
            for n in 0..10 {
                let one = side.provision(&format!("new-{}-{place}-{block}-{n}", std::process::id())).await;
                // The first few warm connections.
                if block > 0 {
                    took[place].push(one);
                }
            }
            if block > 0 {
                cpu[place] += (side.cpu(site) - begun) * 1000.0;
            }
        }
    }
    let count = took[0].len() as f64;
    line("provision", "`POST /runners/jit`".into(), took, Some(cpu.map(|cpu| cpu / count)), String::new())
}

pub fn line(
    group: &'static str,
    what: String,
    took: [Vec<f64>; 2],
    cpu: Option<[f64; 2]>,
    remark: String,
) -> Line {
    let [p50, p99] =
        [0.5, 0.99].map(|q| [0, 1].map(|place| Measured::of_milliseconds(&took[place]).quantile(q)));
    Line { group, what, p50, p99, cpu, remark }
}

/// A path without what differs from run to run.
fn shown(path: &str) -> String {
    let mut path = path.trim_start_matches("/api/v1").to_owned();
    for (what, with) in [
        (r"repo:[^&]*", "{subject}"),
        (r"\d{4}-\d\d-\d\d", "{yesterday}"),
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "{id}"),
        (r"ci-[0-9a-f]+-[0-9a-f]+", "{name}"),
        (r"([/=])\d{3,}", "$1{id}"),
    ] {
        path = Regex::new(what).expect("fixed").replace_all(&path, with).into_owned();
    }
    format!("`{path}`")
}

/// What `Line::cells` goes under.
pub fn table(sizes: [u64; 2]) -> Table {
    let [small, large] = sizes.map(|size| format!("p50, {size} runners"));
    let head = ["kind", "what", &small, &large, "times", "p99", "p99", "CPU", "CPU", "remark"];
    Table::new("scale", &head)
}

impl Line {
    fn times(&self) -> f64 {
        self.p50[1] / self.p50[0]
    }

    /// What takes too long is in bold.
    pub fn cells(&self) -> Vec<String> {
        let mark = if self.times() > MOST { "**" } else { "" };
        let times = format!("{mark}{:.2}{mark}", self.times());
        let milliseconds =
            |values: [f64; 2], places: usize| values.map(|value| format!("{value:.places$} ms"));
        let cpu = self.cpu.map_or_else(Default::default, |cpu| milliseconds(cpu, 1));
        let [small, large] = milliseconds(self.p50, 2);
        let [small99, large99] = milliseconds(self.p99, 1);
        let [cpu, other] = cpu;
        let words = [self.group.to_owned(), self.what.clone()];
        words
            .into_iter()
            .chain([small, large, times, small99, large99, cpu, other, self.remark.clone()])
            .collect()
    }
}

/// How many there are that take too long, and which.
pub fn print_verdict(lines: &[Line]) {
    let (fine, slower): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(|line| line.times() <= MOST);
    let named = |line: &&Line| format!("{} {} ({:.2})", line.group, line.what, line.times());
    let slower: Vec<String> = slower.iter().map(named).collect();
    println!(
        "\n{} of {} take at most {MOST} times as long; not: {}",
        fine.len(),
        lines.len(),
        slower.join(", ")
    );
}

/// How many rows a page has, of how many, and whether there is another one.
fn described(body: &[u8]) -> String {
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else { return String::new() };
    let Some(list) = body.as_object().and_then(|fields| fields.values().find_map(|value| value.as_array()))
    else {
        return String::new();
    };
    let total = match (body["total"].as_i64(), body["total_capped"].as_bool()) {
        (Some(total), Some(true)) => format!(" of {total}+"),
        (Some(total), _) => format!(" of {total}"),
        _ => String::new(),
    };
    let more = if body["next_cursor"].is_null() { "" } else { ", more" };
    format!("{}{total}{more}", list.len())
}
