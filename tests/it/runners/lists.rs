//! Lists of tables with more rows than a page looks at: together the pages are all that fits, in order and each once,
//! and none of them reads the whole table.

use runner_broker::store::runners;
use serde_json::{Value, json};

use crate::support::{World, eventually, team};

/// More than twice of what a page looks at (`store::walk`).
const ROWS: i64 = 24_000;

/// Three teams with a member each, somebody who is in two, and an auditor.
async fn world() -> World {
    let world = World::new().await;
    let both = |name: &str| {
        format!("{}[[team.member]]\nissuer = \"ISSUER\"\nclaims = {{ team = \"both\" }}\n", team(name, ""))
    };
    let auditor = "[[auditor]]\nissuer = \"ISSUER\"\nclaims = { team = \"watch\" }\n";
    world.policy(&[both("blue"), both("red"), team("green", ""), auditor.to_owned()].concat()).await;
    world
}

/// Runners of blue's, red's and green's in turns; red has few.
async fn fill_runners(world: &World) {
    world
        .sql(&format!(
            "INSERT INTO runners (id, name, target, team, status, method, labels, ephemeral, runner_group_id,
                 issuer, subject, provisioned_by, created_at, updated_at, requested_at)
             SELECT ('00000000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid,
                 CASE WHEN i IN (100, 13000, 23900) THEN 'Needle_' || i ELSE 'hay-' || i END, 'octo-org',
                 CASE WHEN i % 97 = 0 THEN 'red' WHEN i % 2 = 0 THEN 'green' ELSE 'blue' END,
                 CASE WHEN i % 500 = 1 THEN 'active' WHEN i % 701 = 2 THEN 'failed' ELSE 'deleted' END, 'jit',
                 CASE WHEN i < 300 THEN '{{linux,old}}'::text[] ELSE '{{linux}}' END, i % 1000 <> 5, 1, 'i', 's', 'p',
                 now(), now(), now()
             FROM generate_series(1, {ROWS}) i; ANALYZE runners"
        ))
        .await;
}

/// Events of an hour each ten minutes apart; blue's and red's, few of red's.
async fn fill_events(world: &World) {
    world
        .sql(&format!(
            "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity, issuer, subject, team,
                 runner_id, runner_name)
             SELECT '2020-01-01'::timestamptz + i * interval '10 min', CASE WHEN i % 3000 = 7 THEN 'rare' ELSE 'usual' END,
                 'info', i % 450 <> 3, CASE WHEN i % 5000 = 9 THEN 'Ann' ELSE 'system:x' END, 'i',
                 CASE WHEN i % 4000 = 11 THEN 'Ann' WHEN i % 100 = 12 THEN 'both-user' ELSE 's' END,
                 CASE WHEN i % 97 = 0 THEN 'red' WHEN i % 2 = 0 THEN 'green' WHEN i % 3 = 0 THEN 'blue' END,
                 CASE WHEN i % 6000 = 13 THEN '00000000-0000-7000-8000-000000000001'::uuid END,
                 CASE WHEN i % 6000 = 13 THEN 'Builder' WHEN i % 6000 = 14 THEN 'builder' END
             FROM generate_series(1, {ROWS}) i; ANALYZE audit_log"
        ))
        .await;
}

/// All pages of a list: what is in `field` of each row, and how many pages there were.
async fn all(world: &World, path: &str, who: &str, list: &str, field: &str) -> (Vec<String>, usize) {
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let answer = world.get(&format!("/api/v1/{path}&limit=200{cursor}"), who).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let rows = answer.body[list].as_array().expect("a list");
        seen.extend(rows.iter().map(|row| row[field].to_string().trim_matches('"').to_owned()));
        pages += 1;
        match answer.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (seen, pages),
        }
        assert!(pages < 300, "{path}: it does not end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_runners_together_are_all_that_fit_in_order() {
    let world = world().await;
    fill_runners(&world).await;
    let own = "team IN ('blue', 'red')";
    for (who, query, condition) in [
        ("watch", "q=needle_", "name LIKE 'Needle%'"),
        ("watch", "q=nothing", "false"),
        ("watch", "label=old", "'old' = ANY(labels)"),
        ("watch", "label=old&team=red", "'old' = ANY(labels) AND team = 'red'"),
        ("watch", "status=active", "status = 'active'"),
        ("watch", "status=active&team=blue&q=1", "status = 'active' AND team = 'blue' AND name LIKE '%1%'"),
        ("watch", "status=failed", "status = 'failed'"),
        ("watch", "status=failed&ephemeral=false", "status = 'failed' AND NOT ephemeral"),
        ("watch", "status=deleted&team=red", "status = 'deleted' AND team = 'red'"),
        ("watch", "ephemeral=false", "NOT ephemeral"),
        ("watch", "ephemeral=false&status=deleted", "NOT ephemeral AND status = 'deleted'"),
        ("watch", "ephemeral=true&q=hay-77", "ephemeral AND name LIKE 'hay-77%'"),
        ("both", "q=needle", &format!("name LIKE 'Needle%' AND {own}")),
        ("both", "status=failed", &format!("status = 'failed' AND {own}")),
        ("both", "status=active", &format!("status = 'active' AND {own}")),
        ("both", "ephemeral=false", &format!("NOT ephemeral AND {own}")),
        ("both", "team=red", "team = 'red'"),
        ("both", "team=green", "false"),
        ("both", "label=old&ephemeral=false", &format!("'old' = ANY(labels) AND NOT ephemeral AND {own}")),
        ("green", "label=old", "'old' = ANY(labels) AND team = 'green'"),
        ("nobody", "status=active", "false"),
    ] {
        let (seen, _) = all(&world, &format!("runners?{query}"), who, "runners", "runner_id").await;
        let wanted = world.sql(&format!("SELECT id FROM runners WHERE {condition} ORDER BY id DESC")).await;
        assert_eq!(seen, wanted, "{who}: {query}");
    }
    // What the whole table is paged by needs no more pages than it must.
    let (seen, pages) = all(&world, "runners?", "both", "runners", "runner_id").await;
    let wanted = world.sql(&format!("SELECT id FROM runners WHERE {own} ORDER BY id DESC")).await;
    assert_eq!((seen.len(), pages), (wanted.len(), wanted.len().div_ceil(200)));
    assert_eq!(seen, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_finds_little_ends_a_page_early_and_says_that_there_may_be_more() {
    let world = world().await;
    fill_runners(&world).await;
    let page = world.get("/api/v1/runners?q=needle", "watch").await.body;
    assert_eq!(page["runners"][0]["runner_name"], json!("Needle_23900"));
    let names = |page: &Value| page["runners"].as_array().unwrap().len();
    assert_eq!((names(&page), &page["total"], &page["total_capped"]), (1, &json!(1), &json!(true)));
    let cursor = page["next_cursor"].as_str().expect("another page");
    let page = world.get(&format!("/api/v1/runners?q=needle&cursor={cursor}"), "watch").await.body;
    assert_eq!((names(&page), &page["runners"][0]["runner_name"]), (1, &json!("Needle_13000")));
    // Whoever acts on all of them gets all of them.
    let needles = runners::Filter { q: Some("needle".into()), ..runners::Filter::default() };
    let mut conn = world.broker.store().conn().await.unwrap();
    for (most, wanted) in
        [(10, vec!["Needle_23900", "Needle_13000", "Needle_100"]), (2, vec!["Needle_23900", "Needle_13000"])]
    {
        let found = runners::up_to(&mut conn, &runners::Scope::All, &needles, most).await.unwrap();
        assert_eq!(found.iter().map(|runner| runner.name.as_str()).collect::<Vec<_>>(), wanted);
    }
    drop(conn);
    // Of few rows all are seen at once.
    let page = world.get("/api/v1/runners?q=hay&team=red", "watch").await.body;
    let red = world.sql("SELECT count(*) FROM runners WHERE team = 'red'").await.remove(0);
    assert_eq!((page["total"].to_string(), &page["total_capped"]), (red, &json!(false)));
    let page = world.get("/api/v1/runners?status=active", "watch").await.body;
    assert_eq!((&page["total"], &page["total_capped"], names(&page)), (&json!(48), &json!(false), 48));
    assert_eq!(page["next_cursor"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_the_log_together_are_all_that_fit_in_order() {
    let world = world().await;
    fill_events(&world).await;
    // What the world's own start has left.
    let before = world.sql("SELECT count(*) FROM audit_log WHERE timestamp > '2025-01-01'").await;
    assert_ne!(before, ["0"]);
    let runner = "00000000-0000-7000-8000-000000000001";
    let issuer = world.issuer.url().to_owned();
    world
        .sql(&format!(
            "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity, issuer, subject)
         SELECT '2020-07-01', 'own', 'info', true, 'me', '{issuer}', 'both-user' FROM generate_series(1, 3)"
        ))
        .await;
    let own = format!("((subject = 'both-user' AND issuer = '{issuer}') OR team IN ('blue', 'red'))");
    for (who, query, condition) in [
        ("watch", "event_type=rare", "event_type = 'rare'"),
        ("watch", "event_type=nothing", "false"),
        ("watch", "runner=BUILDER", "lower(runner_name) = 'builder'"),
        ("watch", &format!("runner={runner}"), &format!("runner_id = '{runner}'")),
        ("watch", "user=Ann", "(user_identity = 'Ann' OR subject = 'Ann')"),
        ("watch", "user=Ann&team=blue", "(user_identity = 'Ann' OR subject = 'Ann') AND team = 'blue'"),
        ("watch", "team=red&success=false", "team = 'red' AND NOT success"),
        ("watch", "success=false", "NOT success"),
        ("watch", "success=false&event_type=rare", "NOT success AND event_type = 'rare'"),
        (
            "watch",
            "since=2020-06-01&until=2020-06-02&success=true",
            "timestamp >= '2020-06-01' AND timestamp < '2020-06-02'",
        ),
        ("watch", "until=2020-01-02&event_type=usual", "timestamp < '2020-01-02' AND event_type = 'usual'"),
        ("watch", "since=2020-06-01&event_type=rare", "timestamp >= '2020-06-01' AND event_type = 'rare'"),
        ("watch", "since=2019-01-01&until=2019-12-31", "false"),
        ("watch", "since=2999-01-01", "false"),
        ("both", "event_type=rare", &format!("event_type = 'rare' AND {own}")),
        ("both", "user=Ann", &format!("(user_identity = 'Ann' OR subject = 'Ann') AND {own}")),
        ("both", "event_type=own", "event_type = 'own'"),
        ("both", "team=green", "false"),
        ("both", "success=false", &format!("NOT success AND {own}")),
        ("both", "runner=builder", &format!("lower(runner_name) = 'builder' AND {own}")),
        (
            "both",
            "since=2020-06-01&until=2020-06-20",
            &format!("timestamp >= '2020-06-01' AND timestamp < '2020-06-20' AND {own}"),
        ),
    ] {
        let (seen, _) = all(&world, &format!("audit?{query}"), who, "logs", "id").await;
        let wanted = world.sql(&format!("SELECT id FROM audit_log WHERE {condition} ORDER BY id DESC")).await;
        assert_eq!(seen, wanted, "{who}: {query}");
    }
    let (seen, _) = all(&world, "audit?", "both", "logs", "id").await;
    let wanted = world.sql(&format!("SELECT id FROM audit_log WHERE {own} ORDER BY id DESC")).await;
    assert_eq!(seen, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_minutes_off_hides_no_event_and_one_that_is_years_off_hides_no_other() {
    let world = world().await;
    world
        .sql(
            "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity)
             SELECT at::timestamptz, 'x', 'info', true, at FROM unnest(ARRAY['2020-01-01T12:20Z', '1970-01-01T00:00Z',
                 '2020-01-01T12:00Z', '2020-01-01T12:40Z', '2099-01-01T00:00Z', '2020-01-01T12:10Z']) AS at",
        )
        .await;
    let seen = async |query: &str| {
        all(&world, &format!("audit?event_type=x&{query}"), "watch", "logs", "user_identity").await.0
    };
    assert_eq!(
        seen("since=2020-01-01T12:10:00Z&until=2020-01-01T12:30:00Z").await,
        ["2020-01-01T12:10Z", "2020-01-01T12:20Z"]
    );
    assert_eq!(seen("since=2020-01-01T12:30:00Z").await, ["2099-01-01T00:00Z", "2020-01-01T12:40Z"]);
    let until = seen("until=2020-01-01T12:11:00Z").await;
    assert_eq!(until, ["2020-01-01T12:10Z", "2020-01-01T12:00Z", "1970-01-01T00:00Z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_reads_the_whole_table_whatever_is_asked_for() {
    let world = world().await;
    fill_runners(&world).await;
    fill_events(&world).await;
    // Where Postgres believes that everything is recent and fits.
    world.sql("UPDATE runners SET status = 'deleted' WHERE status = 'active'").await;
    let scans = "SELECT sum(seq_scan) FROM pg_stat_user_tables WHERE relname IN ('runners', 'audit_log')";
    let read = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname IN ('runners', 'audit_log')";
    let used = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'audit_log_name'";
    let number = async |query: &str| world.sql(query).await.remove(0).parse::<i64>().expect("a number");
    let paths = [
        "runners?q=nothing",
        "runners?label=nothing",
        "runners?status=active",
        "runners?q=nothing&team=green",
        "audit?success=false&event_type=usual&since=2020-03-01&user=system:x",
        "audit?team=green&event_type=nothing",
        "audit?user=nobody",
        "audit?runner=nobody",
    ];
    let ask = async || {
        for path in paths {
            assert_eq!(world.get(&format!("/api/v1/{path}"), "watch").await.status, 200);
        }
    };
    ask().await;
    eventually("the index's use", async || number(used).await > 0).await;
    let (scans_before, read_before) = (number(scans).await, number(read).await);
    ask().await;
    eventually("the index's use", async || number(used).await > 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(number(scans).await, scans_before);
    // A page, where it ends, and for runners how many there are: three walks at most.
    let read = number(read).await - read_before;
    assert!(read < 3 * 10_000 * paths.len() as i64, "{read}");
}
