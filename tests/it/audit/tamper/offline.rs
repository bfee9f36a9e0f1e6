//! The same in an export, with no database to ask.

use super::{CHANGES, by_force, export, finds, sealed_world, verify, verify_file};
use crate::audit::sealer::{Signed, seal, write};
use crate::cli::commands::runner_broker;

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_what_was_changed_by_force_is_found_out_without_a_database() {
    let clean = sealed_world().await;
    let ended = verify_file(&clean, &export(&clean, &[]), &[]);
    let wanted = "31 events verified\n0 sealed events are not in this file\n\
         this file says that it covers since 2020-01-01T00:00:00Z: compare with your request\n";
    assert_eq!((ended.code, ended.out.as_str()), (0, wanted), "{}", ended.err);
    for (change, what) in CHANGES {
        let is_of_tree = change.contains("audit_tree") || change.contains("audit_checkpoints");
        if is_of_tree {
            continue;
        }
        let signed = sealed_world().await;
        by_force(&signed, change).await;
        finds(&verify_file(&signed, &export(&signed, &[]), &[]), what, change);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_edited_is_found_out() {
    let signed = sealed_world().await;
    write(&signed.world, 2).await;
    let file = export(&signed, &[]);
    let text = std::fs::read_to_string(&file).unwrap();
    let ended = verify_file(&signed, &file, &[]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(
        ended.out.starts_with("31 events verified\n")
            && ended.out.contains("\n2 events are not sealed yet\n"),
        "{}",
        ended.out
    );
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 34);
    let without = |skip: usize| {
        lines.iter().enumerate().filter(|(i, _)| *i != skip).map(|(_, l)| *l).collect::<Vec<_>>()
    };
    let planted = lines[31].replace("\"id\":32", "\"id\":99").replace("\"e1\"", "\"planted\"");
    let old = planted.replace("\"timestamp\":\"20", "\"timestamp\":\"19");
    let again = [&lines[..], &[lines[4]]].concat();
    let edits: Vec<(Vec<&str>, &str)> = vec![
        (without(0), "the event of leaf 0 was removed"),
        (without(16), "the event of leaf 16 was removed, with its leaf after event 16"),
        (without(30), "the event of leaf 30 was removed"),
        (again, "event 5 was added: there is another for leaf 4"),
        ([&[old.as_str()], &lines[..]].concat(), "event 99 was added and never sealed"),
    ];
    for (edited, what) in edits {
        std::fs::write(&file, edited.join("\n") + "\n").unwrap();
        finds(&verify_file(&signed, &file, &[]), what, what);
    }
    for (from, to, what) in [
        ("\"success\":true", "\"success\":false", "event 1 (leaf 0) was changed"),
        ("{\"n\": 4}", "{\"n\":4}", "event 5 (leaf 4) was changed"),
    ] {
        std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
        finds(&verify_file(&signed, &file, &[]), what, what);
    }
    for (broken, what) in [
        (text.replacen("\"id\":", "\"more\":1,\"id\":", 1), "unknown field"),
        (lines[..33].join("\n"), "has no 'seal'"),
        ("nonsense\n".into(), "not an event of this log"),
    ] {
        std::fs::write(&file, broken).unwrap();
        let ended = verify_file(&signed, &file, &[]);
        assert!(ended.code == 1 && ended.err.contains(what), "{what}: {}", ended.err);
    }
    let swapped = text
        .replace("\"leaf_index\":3,", "\"leaf_index\":X,")
        .replace("\"leaf_index\":8,", "\"leaf_index\":3,");
    std::fs::write(&file, swapped.replace("\"leaf_index\":X,", "\"leaf_index\":8,")).unwrap();
    finds(&verify_file(&signed, &file, &[]), "is not what was sealed", "moved");
    assert_eq!(verify_file(&signed, "/nowhere", &[]).code, 2);
    std::fs::write(signed.path("audit.vkey"), "nonsense").unwrap();
    assert_eq!(verify(&signed, &[]).code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_log_is_checked_by_what_the_export_carries() {
    let signed = Signed::new().await;
    let world = &signed.world;
    world
        .sql(
            "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity)
             SELECT '2026-01-01T00:00:00Z'::timestamptz + i * interval '1 minute', 'e' || i, 'info', true, 'u'
             FROM generate_series(1, 1500) i",
        )
        .await;
    seal(world).await;
    let checkpoint = signed.path_text("checkpoint.txt");
    let part = ["--until", "2026-01-01T20:00:00Z", "--checkpoint", &checkpoint];
    let file = signed.path_text("part.json");
    let arguments =
        [&["export-audit-log", "--since", "2026-01-01T05:00:00Z", "--output", &file], &part[..]].concat();
    let ended = runner_broker(&arguments, &[("DATABASE_URL", world.database_url().to_owned())]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let ended = verify_file(&signed, &file, &[]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(
        ended.out.starts_with("900 events verified\n601 sealed events are not in this file"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains("covers since 2026-01-01T05:00:00Z until 2026-01-01T20:00:00Z"),
        "{}",
        ended.out
    );
    let text = std::fs::read_to_string(&file).unwrap();
    serde_json::from_str::<Vec<serde_json::Value>>(&text).expect("a JSON array");
    let lines: Vec<&str> = text.lines().collect();
    let without: Vec<&str> = lines.iter().filter(|line| !line.contains("\"e700\"")).copied().collect();
    std::fs::write(&file, without.join("\n")).unwrap();
    finds(&verify_file(&signed, &file, &[]), "the event of leaf 700 was removed", "one of the part");

    // Taken out of the database, though the export is honest about what it has.
    by_force(&signed, "DELETE FROM audit_log WHERE event_type = 'e800'").await;
    assert_eq!(runner_broker(&arguments, &[("DATABASE_URL", world.database_url().to_owned())]).code, 0);
    finds(&verify_file(&signed, &file, &[]), "(leaf 800) was removed", "gone from the table");
}
