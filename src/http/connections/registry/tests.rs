//! Who gets a connection, and who makes room.

use super::*;
use crate::http::connections::limits::Share;

const BYTES: usize = 2_000_000;

/// Of a server that started two seconds ago.
fn connections() -> Arc<Connections> {
    let share = Share { connections: 12, connections_of_one: 4, bytes: BYTES };
    let limits = Limits { strangers: share.clone(), callers: share, memory: 0, open_files: 0 };
    let proxies = vec!["10.0.0.0/8".parse().unwrap()];
    Connections::started_at(Instant::now() - Duration::from_secs(2), limits, proxies)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn is_open(connection: &Connection) -> bool {
    !connection.closed.load(Ordering::Relaxed)
}

#[test]
fn an_address_has_its_share_and_an_ipv6_network_is_one_address() {
    let all = connections();
    let held: Vec<_> = (0..4).map(|_| all.admit(ip("192.0.2.1")).unwrap()).collect();
    assert!(all.admit(ip("::ffff:192.0.2.1")).is_none(), "the same address, as IPv6 shows it");
    let other: Vec<_> = (1..5).map(|n| all.admit(ip(&format!("2001:db8::{n}"))).unwrap()).collect();
    assert!(all.admit(ip("2001:db8::ffff:1")).is_none());
    assert!(all.admit(ip("2001:db8:0:1::1")).is_some());
    all.remove(&held[0]);
    assert!(all.admit(ip("192.0.2.1")).is_some());
    assert!(other.iter().all(|one| is_open(one)));
}

#[test]
fn somebody_new_gets_in_and_who_has_most_makes_room() {
    let all = connections();
    let flood: Vec<_> = (0..12).map(|n| all.admit(ip(&format!("192.0.2.{}", n / 4))).unwrap()).collect();
    all.begin(&flood[0], false);
    let new = all.admit(ip("198.51.100.1")).expect("a place");
    assert!(is_open(&new) && is_open(&flood[0]), "one that is worked on stays");
    assert_eq!(flood.iter().filter(|one| !is_open(one)).count(), 1);
    assert!(all.admit(ip("192.0.2.0")).is_none(), "a flood does not push itself around");
}

#[test]
fn behind_a_proxy_everybody_has_the_same_address_and_no_share() {
    let all = connections();
    let held: Vec<_> = (0..12).map(|_| all.admit(ip("10.1.2.3")).unwrap()).collect();
    assert!(all.verified(&held[0], "https://issuer", "me"));
    all.answered(&held[0], 0).unwrap();
    all.written(&held[0]);
    assert_eq!(all.lock().callers.connections, 0, "the next request may be anybody's");
}

#[test]
fn the_bytes_of_all_together_are_bounded_and_the_oldest_request_of_who_has_most_ends() {
    let all = connections();
    let old = all.admit(ip("192.0.2.1")).unwrap();
    all.begin(&old, true);
    all.received(&old, &[0; 900_000], true).unwrap();
    old.since.store(1, Ordering::Relaxed);
    let other = all.admit(ip("192.0.2.2")).unwrap();
    all.begin(&other, true);
    all.received(&other, &[0; 200_000], true).unwrap();
    assert!(!is_open(&old) && is_open(&other));
    assert_eq!(all.received(&old, &[0], true), Err(Ending::Shed));
    assert_eq!(all.received(&other, &[0; BYTES], true), Err(Ending::Shed), "nobody holds more than there is");
    assert_eq!(all.lock().strangers.bytes, 0);
}

#[test]
fn a_verified_caller_leaves_the_strangers_and_has_a_share_too() {
    let all = connections();
    let held: Vec<_> = (0..5).map(|n| all.admit(ip(&format!("192.0.2.{n}"))).unwrap()).collect();
    assert!(held[..4].iter().all(|one| all.verified(one, "https://issuer", "me")));
    assert!(!all.verified(&held[4], "https://issuer", "me"));
    assert!(all.verified(&held[4], "https://issuer", "somebody else"));
    let groups = all.lock();
    assert_eq!((groups.strangers.connections, groups.callers.connections), (0, 5));
}

#[test]
fn who_does_not_read_an_answer_to_its_end_loses_the_connection() {
    let all = connections();
    let reader = all.admit(ip("192.0.2.1")).unwrap();
    let answer = |written: &[bool]| {
        all.received(&reader, b"GET / HTTP/1.1\r\n\r\n", true).unwrap();
        all.begin(&reader, false);
        all.answered(&reader, 0).unwrap();
        written.iter().for_each(|written| all.wrote(&reader, *written));
        all.written(&reader);
    };
    answer(&[true, false, true]);
    assert_eq!(reader.since.load(Ordering::Relaxed), 0, "all is written");
    // The next piece of a stream has to wait for its reader.
    all.wrote(&reader, false);
    reader.since.fetch_sub(1, Ordering::Relaxed);
    let waits_since = reader.since.load(Ordering::Relaxed);
    all.wrote(&reader, false);
    assert_eq!(reader.since.load(Ordering::Relaxed), waits_since, "it still waits for the same piece");
    let late = waits_since + PATIENCE_WITH_STRANGERS.as_millis() as u64 + 1;
    assert_eq!(all.lock().strangers.waiting_longer_than(late, PATIENCE_WITH_STRANGERS).len(), 1);
    all.wrote(&reader, true);
    all.written(&reader);
    assert_eq!(reader.since.load(Ordering::Relaxed), 0);
}

#[test]
fn a_long_head_ends_its_connection_but_a_body_does_not() {
    let all = connections();
    let long = [b'x'; LONGEST_HEAD];
    let head = all.admit(ip("192.0.2.1")).unwrap();
    all.received(&head, &long, true).unwrap();
    assert_eq!(all.received(&head, b"x", true), Err(Ending::HeadTooLong));
    for end in ["\r\n\r\n", "\n\n", "\n\r\n"] {
        let body = all.admit(ip("192.0.2.1")).unwrap();
        all.received(&body, format!("GET / HTTP/1.1{}", &end[..2]).as_bytes(), true).unwrap();
        all.received(&body, &end.as_bytes()[2..], true).unwrap();
        all.received(&body, &long, true).expect("what came with the head, before anybody looked at it");
        all.begin(&body, true);
        all.received(&body, &long, true).unwrap();
        all.answered(&body, 0).unwrap();
        all.received(&body, &long, true).expect("the rest of a body that nobody reads");
        all.received(&body, b"x", true).unwrap();
        all.begin(&body, false);
        all.answered(&body, 0).unwrap();
        all.received(&body, &long, true).unwrap();
        assert_eq!(all.received(&body, b"x", true), Err(Ending::HeadTooLong), "{end:?}");
        all.remove(&body);
    }
    let tls = all.admit(ip("192.0.2.1")).unwrap();
    all.received(&tls, &[long, long].concat(), false).expect("nobody can read that");
}
