//! Where Postgres comes from when the machine has none: a download, checked, or one message that helps.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::{Compression, write::GzEncoder};
use runner_broker::dev::postgres::download::{self, Download};
use runner_broker::dev::postgres::{Error, Options, Postgres, Search};

use super::postgres::open_folder;

#[test]
fn what_is_downloaded_is_checked_unpacked_once_and_runs() {
    let cache = open_folder();
    let real = real_binaries();
    let scripts = ["postgres", "initdb"]
        .map(|name| (name, format!("#!/bin/sh\nexec {}/{name} \"$@\"\n", real.display())));
    let server = Server::start(archive(&scripts), None);
    let options = Options { search: nothing_but(&server.base, cache.path()), ..Options::temporary() };
    drop(Postgres::start(&options).unwrap());
    drop(Postgres::start(&options).unwrap());
    assert_eq!(server.requests.load(Ordering::Relaxed), 2, "the checksum and the archive, once");
    assert_eq!(names(cache.path()), ["17.5.0", "lock"]);
}

#[test]
fn a_download_with_another_checksum_is_thrown_away() {
    let cache = open_folder();
    let server = Server::start(archive(&[("postgres", String::new())]), Some("00".repeat(32)));
    let refused = nothing_but(&server.base, cache.path()).download.fetch().unwrap_err();
    assert!(matches!(refused, download::Error::Checksum { .. }), "{refused}");
    assert_eq!(names(cache.path()), ["lock"]);
}

#[test]
fn a_download_without_postgres_in_it_is_thrown_away() {
    let cache = open_folder();
    let server = Server::start(archive(&[("psql", String::new())]), None);
    let refused = nothing_but(&server.base, cache.path()).download.fetch().unwrap_err();
    assert!(matches!(refused, download::Error::NoBinaries), "{refused}");
    assert_eq!(names(cache.path()), ["lock"]);
}

#[test]
fn a_machine_with_neither_postgres_nor_network_is_told_what_to_install() {
    let cache = open_folder();
    let search = nothing_but("http://127.0.0.1:1", cache.path());
    let missing = Postgres::start(&Options { search, ..Options::temporary() }).unwrap_err();
    assert!(matches!(missing, Error::Missing { .. }), "{missing}");
    let message = missing.to_string();
    assert!(message.contains("refused") && message.contains("Install it: `"), "{message}");
    assert!(message.contains("DATABASE_URL"), "{message}");
}

#[test]
fn data_of_another_version_is_left_alone() {
    let (home, cache) = (open_folder(), open_folder());
    fs::create_dir(home.path().join("data")).unwrap();
    fs::write(home.path().join("data/PG_VERSION"), "9\n").unwrap();
    let mut options = Options::kept(home.path());
    options.search.download = nothing_but("http://127.0.0.1:1", cache.path()).download;
    let refused = Postgres::start(&options).unwrap_err();
    assert!(matches!(refused, Error::Version { made_by: 9, .. }), "{refused}");
}

/// No binaries but those under this address.
fn nothing_but(base: &str, cache: &Path) -> Search {
    let download = Download { base: base.to_owned(), cache: cache.to_owned() };
    Search { path: OsString::new(), versioned: Vec::new(), download }
}

/// The folder of the binaries that this machine has.
fn real_binaries() -> PathBuf {
    let search = Search::of_this_machine();
    let on_path = std::env::split_paths(&search.path).map(|folder| folder.join("postgres"));
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut all = on_path.chain(debian.map(|version| version.path().join("bin/postgres")));
    let found =
        all.find_map(|binary| fs::canonicalize(binary).ok()).expect("this test needs a Postgres to wrap");
    found.parent().unwrap().to_owned()
}

/// As the releases are packed: a folder named like the file, with `bin` in it.
fn archive(scripts: &[(&str, String)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, text) in scripts {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        archive
            .append_data(&mut header, format!("postgresql-17.5.0-any/bin/{name}"), text.as_bytes())
            .unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

/// Serves one archive, whatever its target, and its checksum.
struct Server {
    base: String,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn start(archive: Vec<u8>, checksum: Option<String>) -> Server {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &archive);
        let checksum = checksum.unwrap_or_else(|| hex::encode(digest)) + "  postgresql.tar.gz\n";
        let files = HashMap::from([("gz", archive), ("sha256", checksum.into_bytes())]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let Some(first) = lines.next() else { continue };
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                let path = first.split(' ').nth(1).unwrap();
                assert!(path.starts_with("/17.5.0/postgresql-17.5.0-"), "{path}");
                let file = &files[path.rsplit('.').next().unwrap()];
                count.fetch_add(1, Ordering::Relaxed);
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    file.len()
                )
                .unwrap();
                stream.write_all(file).unwrap();
            }
        });
        Server { base, requests }
    }
}
