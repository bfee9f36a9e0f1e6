//! The model: random sequences of everything that callers, machines, GitHub and fate may do to three replicas,
//! several at a time; and after each, table, GitHub and log must tell the same story.
//!
//! `MODEL_SEED=7 cargo test model` plays one sequence, `MODEL_SEQUENCES=100000` so many from a random seed on.
//! Steps overlap, so a seed repeats its steps but not always their interleaving.

mod checks;
mod found;
mod play;
mod site;
mod steps;
mod told;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use site::Database;
use steps::{Step, steps};
use tokio::runtime::Runtime;

/// More of them are a step of their own in `.ci/run`.
const SEQUENCES: u64 = 20;
/// Sequences wait more than they work.
const LANES: usize = 6;
/// For making a failed sequence shorter.
const SHRINKING: Duration = Duration::from_secs(90);

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

#[test]
fn whatever_happens_to_three_replicas_the_table_github_and_the_log_tell_the_same_story() {
    let (first, count) = match (number("MODEL_SEED"), number("MODEL_SEQUENCES")) {
        (Some(seed), count) => (seed, count.unwrap_or(1)),
        (None, Some(count)) => (rand::random_range(1_000_000..u64::from(u32::MAX)), count),
        (None, None) => (0, SEQUENCES),
    };
    let begun = Instant::now();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let handed_out = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let lane = || {
        let lane = Lane::new();
        while !stop.load(Ordering::Relaxed) {
            let seed = first + next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            let steps = steps(seed);
            let (breaches, count) = lane.run(&steps);
            handed_out.fetch_add(count, Ordering::Relaxed);
            if !breaches.is_empty() && !stop.swap(true, Ordering::Relaxed) {
                eprintln!("MODEL_SEED={seed} failed, and is made shorter: {breaches:#?}");
                let shorter = lane.shrink(steps);
                failures.lock().unwrap_or_else(PoisonError::into_inner).push((seed, breaches, shorter));
            }
        }
    };
    let lanes = number("MODEL_LANES").map_or(LANES, |lanes| lanes as usize);
    std::thread::scope(|scope| (0..lanes).for_each(|_| drop(scope.spawn(lane))));
    let played = next.into_inner().min(count);
    let handed_out = handed_out.into_inner();
    eprintln!("{played} sequences from seed {first}, {handed_out} runners, in {:.1?}", begun.elapsed());
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((seed, breaches, (steps, again))) = failures.first() {
        let listed = |lines: &[String]| lines.join("\n  ");
        let steps: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        panic!(
            "MODEL_SEED={seed}\n  {}\nIn {} steps ({}):\n  {}",
            listed(breaches),
            steps.len(),
            listed(again),
            listed(&steps)
        );
    }
    assert!(handed_out > 0 || count < 20, "nothing happened");
}

/// Plays one sequence after the other.
struct Lane {
    runtime: Runtime,
    database: Database,
}

impl Lane {
    fn new() -> Lane {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let database = runtime.block_on(Database::new());
        Lane { runtime, database }
    }

    fn run(&self, steps: &[Step]) -> (Vec<String>, usize) {
        self.runtime.block_on(play::play(&self.database, steps))
    }

    /// The fewest steps found that still fail, and how.
    fn shrink(&self, mut steps: Vec<Step>) -> (Vec<Step>, Vec<String>) {
        let begun = Instant::now();
        let mut last = vec!["it did not fail again".to_owned()];
        let mut chunk = steps.len().div_ceil(2);
        loop {
            let mut at = 0;
            while at < steps.len() {
                if begun.elapsed() > SHRINKING {
                    return (steps, last);
                }
                let mut fewer = steps.clone();
                fewer.drain(at..(at + chunk).min(steps.len()));
                // Interleavings differ from time to time.
                match (0..3).map(|_| self.run(&fewer).0).find(|breaches| !breaches.is_empty()) {
                    Some(breaches) => (steps, last) = (fewer, breaches),
                    None => at += chunk,
                }
            }
            if chunk <= 1 {
                return (steps, last);
            }
            chunk = chunk.div_ceil(2);
        }
    }
}
