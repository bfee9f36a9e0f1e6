//! What diesel believes of the tables, held against Postgres.

use std::collections::BTreeSet;

use crate::support::World;

/// Every migration's folder, oldest first.
fn migrations() -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).expect("migrations");
    let mut folders: Vec<_> = folder.map(|entry| entry.expect("a migration").path()).collect();
    folders.sort();
    folders
}

/// `table.column: Type` of every `table!`.
fn believed() -> BTreeSet<String> {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/schema.rs"));
    let mut table = String::new();
    let mut columns = BTreeSet::new();
    for line in source.expect("the schema").lines().map(str::trim) {
        if let Some((name, sql_type)) = line.split_once(" -> ") {
            columns.insert(format!("{table}.{name}: {}", sql_type.trim_end_matches(',')));
        } else if let Some((name, _)) = line.split_once(" (").filter(|_| line.ends_with(") {")) {
            table = name.to_owned();
        }
    }
    columns
}

/// The same, as Postgres has it.
async fn actual(world: &World) -> BTreeSet<String> {
    let query = "SELECT table_name || '.' || column_name || ': ' || is_nullable || ' ' || udt_name
                 FROM information_schema.columns WHERE table_schema = 'public'
                 AND table_name <> '__diesel_schema_migrations'";
    let rows = world.sql(query).await;
    rows.iter()
        .map(|row| {
            let (column, described) = row.split_once(": ").expect("a column");
            let (nullable, udt) = described.split_once(' ').expect("a type");
            let sql_type = match udt {
                "text" => "Text",
                "_text" => "Array<Text>",
                "jsonb" => "Jsonb",
                "int8" => "Int8",
                "int4" => "Int4",
                "bool" => "Bool",
                "uuid" => "Uuid",
                "timestamptz" => "Timestamptz",
                "bytea" => "Bytea",
                other => other,
            };
            match nullable {
                "YES" => format!("{column}: Nullable<{sql_type}>"),
                _ => format!("{column}: {sql_type}"),
            }
        })
        .collect()
}

/// Columns, constraints, indexes, triggers and functions.
async fn whole(world: &World) -> Vec<String> {
    let query = "
        SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' '
            || coalesce(column_default, '') || is_identity FROM information_schema.columns
            WHERE table_schema = 'public'
        UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        ORDER BY 1";
    world.sql(query).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_as_diesel_sees_it_is_the_schema_as_postgres_has_it() {
    let world = World::new().await;
    let mut actual = actual(&world).await;
    assert!(actual.remove("audit_log.xid: xid8"), "{actual:#?}");
    assert_eq!(believed(), actual);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_migrations_undone_and_done_again_leave_the_same_schema() {
    let world = World::new().await;
    let before = whole(&world).await;
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).expect("a migration");
    for migration in migrations().iter().rev() {
        world.sql(&read(migration.join("down.sql"))).await;
    }
    let empty = whole(&world).await;
    assert!(empty.iter().all(|line| line.contains("__diesel_schema_migrations")), "{empty:#?}");
    for migration in migrations() {
        world.sql(&read(migration.join("up.sql"))).await;
    }
    assert_eq!(whole(&world).await, before);
}
