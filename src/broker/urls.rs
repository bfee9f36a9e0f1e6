//! Where people see on GitHub what the broker knows.

use super::Broker;
use crate::model::Target;
use crate::store::jobs::Job;
use crate::store::runners::Runner;

impl Broker {
    /// Where people see a target on GitHub.
    pub fn url_of(&self, target: &Target) -> String {
        format!("{}/{target}", self.github_url.as_str().trim_end_matches('/'))
    }

    /// Where people see a runner on GitHub, or the runners of its target.
    pub fn settings_url_of(&self, runner: &Runner) -> String {
        let kind = if matches!(runner.target, Target::Organization(_)) { "organizations/" } else { "" };
        let base = self.github_url.as_str().trim_end_matches('/');
        let one = runner.github_runner_id.map(|id| format!("/{id}")).unwrap_or_default();
        format!("{base}/{kind}{}/settings/actions/runners{one}", runner.target)
    }

    /// Where people see a job on GitHub.
    pub fn url_of_job(&self, job: &Job) -> String {
        let base = self.github_url.as_str().trim_end_matches('/');
        format!("{base}/{}/actions/runs/{}/job/{}", job.repository, job.run_id, job.id)
    }

    /// Where GitHub shows a workflow run, or one job of it. `None`: the repository has a name of no GitHub's.
    pub fn url_of_run(&self, repository: &str, run: i64, job: Option<i64>) -> Option<String> {
        let target: Target = repository.parse().ok()?;
        let job = job.map(|job| format!("/job/{job}")).unwrap_or_default();
        Some(format!("{}/actions/runs/{run}{job}", self.url_of(&target)))
    }
}
