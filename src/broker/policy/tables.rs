//! The policy's document as rows of its tables, and back.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::broker::Error;
use crate::model::{GroupRef, Role};
use crate::policy::{DenyEntry, Document, Member, TeamEntry, Until};
use crate::store::policies::{DenyRule, RoleMember, Tables, Team, TeamMember};

/// The SHA-256 of a document, by which it is recognised.
pub(in crate::broker) fn sha256(document: &Document) -> String {
    crate::model::sha256(document.to_toml())
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
    tables.deny_rules.extend(document.deny.iter().enumerate().map(|(position, entry)| DenyRule {
        position: position as i32,
        issuer: entry.issuer.clone(),
        claims: json!(entry.claims),
        comment: entry.comment.clone(),
        until: entry.until.map(Until::at),
    }));
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
    document.deny = tables.deny_rules.into_iter().map(denial).collect::<Result<_, _>>()?;
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

pub(in crate::broker) fn denial(row: DenyRule) -> Result<DenyEntry, Error> {
    let Member { issuer, claims } = member(row.issuer, row.claims)?;
    let until = row.until.map(|at| Until::new(at).ok_or_else(|| unknown("until")));
    Ok(DenyEntry { issuer, claims, comment: row.comment, until: until.transpose()? })
}

fn unknown(what: &str) -> Error {
    Error::Store(crate::store::Error::Row(what.to_owned()))
}
