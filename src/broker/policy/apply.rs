//! The policy as an administrator changes it: one transaction, one event with the difference, in force on
//! every replica within `POLICY_REFRESH`.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::broker::events::{About, Actor, Kind, event_at, record};
use crate::broker::{Broker, Error, Policy};
use crate::clock::Clock;
use crate::model::{GroupRef, Role};
use crate::policy::{Document, Fault, Member, Rules, TeamEntry};
use crate::store::Store;
use crate::store::policies::{self, RoleMember, Tables, Team, TeamMember};

/// Whence a change by an administrator comes, as `policy_versions` remembers it.
pub const BY_API: &str = "api";

/// What applying a document did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The new revision, and the difference, a line a change.
    Changed(Vec<String>),
    /// The policy already says this.
    Unchanged,
    /// This document was in force before and a newer one replaced it: an old replica's file.
    Superseded,
}

/// Applies a document. With `only_if_new` one that was applied before is left alone (a replica's
/// `POLICY_FILE` at start); `dry_run` only says what would change.
pub async fn apply(
    store: &Store,
    clock: &Clock,
    document: &Document,
    source: &str,
    only_if_new: bool,
    dry_run: bool,
) -> Result<Applied, Error> {
    let new = to_tables(document);
    let sha256 = sha256(document);
    store
        .transaction::<_, Error, _>(async |conn| {
            policies::lock(conn).await?;
            let old = policies::load(conn).await?;
            if old == new {
                return Ok(Applied::Unchanged);
            }
            if only_if_new && policies::was_applied(conn, &sha256).await? {
                return Ok(Applied::Superseded);
            }
            let known = policies::team_names(conn).await?;
            check_spelling(document, &known)?;
            let changes = difference(&from_tables(old.clone())?, document, &known);
            if dry_run {
                return Ok(Applied::Changed(changes));
            }
            let now = clock.now();
            let revision = policies::replace(conn, &old, &new, &sha256, source, now).await?;
            let event = event_at(now, Kind::PolicyApplied, Actor::System("policy"));
            let data =
                json!({ "source": source, "sha256": sha256, "revision": revision, "changes": changes });
            record(conn, event.with(data)).await?;
            Ok(Applied::Changed(changes))
        })
        .await
}

/// Where the policies that this database ever had came from.
pub async fn sources(store: &Store) -> Result<Vec<String>, Error> {
    let mut conn = store.conn().await?;
    Ok(policies::sources(&mut conn).await?)
}

/// The policy as it stands, as the document that `policy apply` takes.
pub async fn current(store: &Store) -> Result<Document, Error> {
    let tables = store.transaction::<_, Error, _>(async |conn| {
        policies::repeatable_read(conn).await?;
        Ok(policies::load(conn).await?)
    });
    from_tables(tables.await?)
}

impl Broker {
    /// Applies a document and uses it here at once.
    pub async fn apply_policy(
        &self,
        document: &Document,
        source: &str,
        only_if_new: bool,
    ) -> Result<Applied, Error> {
        document.check(&self.defaults()).map_err(|faults| Error::Policy(listed(&faults)))?;
        let applied = apply(&self.store, &self.clock, document, source, only_if_new, false).await?;
        self.refresh_policy().await?;
        Ok(applied)
    }

    /// Takes over a policy that was changed elsewhere, and who is not to be let in; cheap when nothing changed.
    pub async fn refresh_policy(&self) -> Result<(), Error> {
        // None has to wait for what another lacks.
        let inactive = self.refresh_inactive().await;
        let installations = self.refresh_installations().await;
        self.refresh_rules().await?;
        inactive.and(installations)
    }

    async fn refresh_rules(&self) -> Result<(), Error> {
        // One reads at a time, so that what was read earlier never replaces what was read later.
        let _alone = self.reading_policy.lock().await;
        let mut conn = self.store.conn().await?;
        if policies::revision(&mut conn).await? == self.policy.load().revision {
            return Ok(());
        }
        drop(conn);
        let (revision, tables) = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                policies::repeatable_read(conn).await?;
                Ok((policies::revision(conn).await?, policies::load(conn).await?))
            })
            .await?;
        let rules = Rules::compile(&from_tables(tables)?, &self.defaults())
            .map_err(|faults| Error::Policy(listed(&faults)))?;
        self.policy.store(std::sync::Arc::new(Policy { revision, rules }));
        Ok(())
    }
}

/// The faults of a document, a line each.
pub fn listed(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What a document is recognised by.
pub(in crate::broker) fn sha256(document: &Document) -> String {
    hex::encode(digest(&SHA256, document.to_toml().as_bytes()))
}

/// What changes for whom, a line a change. `known` are all teams there ever were.
pub(in crate::broker) fn difference(old: &Document, new: &Document, known: &[String]) -> Vec<String> {
    let teams = |document: &Document| -> BTreeMap<String, TeamEntry> {
        document.team.iter().map(|team| (team.name.clone(), team.clone())).collect()
    };
    let (before, after) = (teams(old), teams(new));
    let mut changes = Vec::new();
    for (name, team) in &after {
        match before.get(name) {
            None if known.contains(name) => changes.push(format!("team {name}: reactivated")),
            None => changes.push(format!("team {name}: added")),
            Some(was) if was != team => changes.extend(team_changes(was, team)),
            Some(_) => {}
        }
    }
    changes.extend(
        before
            .keys()
            .filter(|name| !after.contains_key(*name))
            .map(|name| format!("team {name}: deactivated")),
    );
    changes.extend(member_changes("admin", &old.admin, &new.admin));
    changes.extend(member_changes("auditor", &old.auditor, &new.auditor));
    if changes.is_empty() {
        changes.push("the order of entries".to_owned());
    }
    changes
}

fn member_changes(role: &str, was: &[Member], is: &[Member]) -> Vec<String> {
    let shown = |member: &Member| format!("{} {}", member.issuer, json!(member.claims));
    let added = is.iter().filter(|member| !was.contains(member));
    let removed = was.iter().filter(|member| !is.contains(member));
    added
        .map(|member| format!("{role}: added {}", shown(member)))
        .chain(removed.map(|member| format!("{role}: removed {}", shown(member))))
        .collect()
}

/// Teams are told apart without case, and a team's runners and events keep its name as it was first written.
fn check_spelling(document: &Document, known: &[String]) -> Result<(), Error> {
    let misspelt = document.team.iter().filter_map(|team| {
        let known = known.iter().find(|known| known.eq_ignore_ascii_case(&team.name))?;
        let fault = format!("team '{}': this team exists as '{known}'; write its name so", team.name);
        (*known != team.name).then_some(fault)
    });
    let faults: Vec<String> = misspelt.collect();
    if faults.is_empty() { Ok(()) } else { Err(Error::Policy(faults.join("\n"))) }
}

pub(in crate::broker) fn team_changes(was: &TeamEntry, is: &TeamEntry) -> Vec<String> {
    let fields = |team: &TeamEntry| match serde_json::to_value(team) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (was_fields, is_fields) = (fields(was), fields(is));
    let names: std::collections::BTreeSet<&String> = was_fields.keys().chain(is_fields.keys()).collect();
    let shown = |value: Option<&Value>| value.map_or("unset".to_owned(), Value::to_string);
    names
        .into_iter()
        .filter(|name| was_fields.get(*name) != is_fields.get(*name))
        .map(|name| {
            format!(
                "team {}: {name}: {} → {}",
                is.name,
                shown(was_fields.get(name)),
                shown(is_fields.get(name))
            )
        })
        .collect()
}

pub(in crate::broker) fn to_tables(document: &Document) -> Tables {
    let mut tables = Tables::default();
    for (position, team) in document.team.iter().enumerate() {
        tables.teams.push(Team {
            name: team.name.clone(),
            description: team.description.clone(),
            required_labels: team.required_labels.clone(),
            allowed_labels: team.allowed_labels.clone(),
            methods: team.methods.iter().map(ToString::to_string).collect(),
            targets: team.targets.clone(),
            runner_groups: team.runner_groups.as_ref().map(|groups| json!(groups)),
            max_runners: team.max_runners,
            requests_per_minute: team.requests_per_minute,
            active: true,
            position: position as i32,
        });
        tables.team_members.extend(team.member.iter().enumerate().map(|(position, member)| TeamMember {
            team: team.name.clone(),
            position: position as i32,
            issuer: member.issuer.clone(),
            claims: json!(member.claims),
        }));
    }
    for (role, members) in [(Role::Admin, &document.admin), (Role::Auditor, &document.auditor)] {
        tables.role_members.extend(members.iter().enumerate().map(|(position, member)| RoleMember {
            role: role.to_string(),
            position: position as i32,
            issuer: member.issuer.clone(),
            claims: json!(member.claims),
        }));
    }
    tables.sort();
    tables
}

pub(in crate::broker) fn from_tables(tables: Tables) -> Result<Document, Error> {
    let mut document = Document { team: entries(tables.teams, tables.team_members)?, ..Document::default() };
    for row in tables.role_members {
        let entry = member(row.issuer, row.claims)?;
        match row.role.parse() {
            Ok(Role::Admin) => document.admin.push(entry),
            Ok(Role::Auditor) => document.auditor.push(entry),
            Err(_) => return Err(unknown("role")),
        }
    }
    Ok(document)
}

/// These teams with their members, each in the order of the rows.
pub(in crate::broker) fn entries(teams: Vec<Team>, rows: Vec<TeamMember>) -> Result<Vec<TeamEntry>, Error> {
    let mut members: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    for row in rows {
        members.entry(row.team).or_default().push(member(row.issuer, row.claims)?);
    }
    let entry = |team: Team| {
        let groups: Option<Vec<GroupRef>> = team
            .runner_groups
            .map(serde_json::from_value)
            .transpose()
            .map_err(|_| unknown("runner_groups"))?;
        let methods: Result<Vec<_>, _> = team.methods.iter().map(|method| method.parse()).collect();
        Ok(TeamEntry {
            member: members.remove(&team.name).unwrap_or_default(),
            description: team.description,
            required_labels: team.required_labels,
            allowed_labels: team.allowed_labels,
            methods: methods.map_err(|_| unknown("methods"))?,
            targets: team.targets,
            runner_groups: groups,
            max_runners: team.max_runners,
            requests_per_minute: team.requests_per_minute,
            name: team.name,
        })
    };
    teams.into_iter().map(entry).collect()
}

pub(in crate::broker) fn member(issuer: String, claims: Value) -> Result<Member, Error> {
    Ok(Member { issuer, claims: serde_json::from_value(claims).map_err(|_| unknown("claims"))? })
}

fn unknown(what: &str) -> Error {
    Error::Store(crate::store::Error::Row(what.to_owned()))
}
