//! `DATABASE_URL`: every host has an address, and no message holds the password.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runner_broker::store::DatabaseUrl;

const PASSWORD: &str = "jX5vQ2wK";

fuzz_target!(|text: &str| {
    // Here it would be no password.
    if !text.contains(PASSWORD) {
        play(text);
        let begins_or_follows = if text.contains('?') { '&' } else { '?' };
        for with_password in [
            format!("postgres://broker:{PASSWORD}@{text}"),
            format!("postgres://broker@{text}{begins_or_follows}password={PASSWORD}"),
            format!("host=db user=broker password={PASSWORD} {text}"),
        ] {
            play(&with_password);
        }
    }
});

fn play(text: &str) {
    match DatabaseUrl::parse(text) {
        Ok(url) => {
            assert!(!url.hosts.is_empty());
            for host in &url.hosts {
                assert!(!host.name.contains(PASSWORD), "{}", host.name);
                assert_eq!(host.config.get_hosts().len().max(host.config.get_hostaddrs().len()), 1);
                assert_eq!(host.config.get_ports().len(), 1);
            }
        }
        Err(why) => {
            assert!(!why.is_empty());
            assert!(!why.contains(PASSWORD), "{text}: {why}");
        }
    }
}
