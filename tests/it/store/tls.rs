//! TLS to Postgres: whom we believe, by `sslmode` and `sslrootcert`, and how we show who we are.

use std::net::TcpListener;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use runner_broker::dev::postgres::{Options, Postgres};
use runner_broker::store::{Error, Store};
use tempfile::TempDir;

use crate::database::connect;

/// A server that only speaks TLS over TCP, and the files of those who would talk to it.
struct Encrypted {
    postgres: Postgres,
    port: u16,
    folder: TempDir,
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn authority() -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params, key())
}

impl Encrypted {
    /// With a certificate for `localhost` by an authority of its own. `ours.pem` is that authority's,
    /// `other.pem` another's; `client.pem` and `client.key` are the user postgres'.
    async fn start() -> Encrypted {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
        let mut options = Options::temporary();
        options.settings = [("listen_addresses", "localhost"), ("port", &port.to_string())]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let postgres = tokio::task::spawn_blocking(move || Postgres::start(&options));
        let postgres = postgres.await.expect("a thread").expect("a Postgres");
        let server = Encrypted { postgres, port, folder: tempfile::tempdir().expect("a folder") };
        let (ours, ours_key) = authority();
        let ours_pem = ours.self_signed(&ours_key).expect("a certificate").pem();
        let (other, other_key) = authority();
        server.write("ours.pem", &ours_pem);
        server.write("other.pem", &other.self_signed(&other_key).expect("a certificate").pem());
        let issuer = Issuer::new(ours, ours_key);
        let (server_key, client_key) = (key(), key());
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let cert = params.signed_by(&server_key, &issuer).expect("a certificate").pem();
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, "postgres");
        server.write("client.pem", &params.signed_by(&client_key, &issuer).expect("a certificate").pem());
        server.write("client.key", &client_key.serialize_pem());

        // The server writes its files itself, so that they are its own, whoever we are.
        let (admin, _connection) = connect(&server.socket_url()).await;
        for (name, text) in [
            ("server.crt", cert.as_str()),
            ("root.crt", &ours_pem),
            ("server.key", &server_key.serialize_pem()),
            (
                "pg_hba.conf",
                "local all all trust\nhostssl certified all all cert\nhostssl postgres all all trust\n",
            ),
        ] {
            let copy = format!(
                "COPY (SELECT unnest(string_to_array($${text}$$, E'\\n'))) TO PROGRAM 'umask 077; cat > {name}'"
            );
            admin.batch_execute(&copy).await.expect(name);
        }
        for statement in [
            "CREATE DATABASE certified",
            "ALTER SYSTEM SET ssl_ca_file = 'root.crt'",
            "ALTER SYSTEM SET ssl = on",
            "SELECT pg_reload_conf()",
        ] {
            admin.batch_execute(statement).await.expect(statement);
        }
        let believed = server.url("localhost", "postgres", "sslmode=verify-full&sslrootcert=OURS");
        crate::support::eventually("TLS", async || ask(&believed).await.is_ok()).await;
        server
    }

    fn socket_url(&self) -> String {
        format!("{}&port={}", self.postgres.url("postgres"), self.port)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).expect("a file");
    }

    fn url(&self, host: &str, database: &str, params: &str) -> String {
        let files = params
            .replace("OURS", &self.file("ours.pem").display().to_string())
            .replace("OTHER", &self.file("other.pem").display().to_string())
            .replace("CLIENT", &self.file("client").display().to_string());
        format!("postgres://postgres:hunter2@{host}:{}/{database}?{files}", self.port)
    }
}

/// Whether the database answers a store of this URL.
async fn ask(url: &str) -> Result<(), String> {
    let store = Store::new(&url.into(), 1).map_err(|err| format!("{err:?}"))?;
    match store.ping().await {
        Ok(()) => Ok(()),
        Err(Error::Unavailable(why)) => {
            assert!(!why.contains("hunter2"), "{why}");
            Err(why)
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_believed_only_as_far_as_the_url_says() {
    let server = Encrypted::start().await;
    let asked = async |host: &str, params: &str| ask(&server.url(host, "postgres", params)).await;
    asked("localhost", "sslmode=verify-full&sslrootcert=OURS").await.expect("who it says it is");
    asked("127.0.0.1", "sslmode=verify-ca&sslrootcert=OURS").await.expect("vouched for");
    let refused = [
        // Another name than the certificate's.
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=OURS", "certificate"),
        // Somebody else's authority, the system's, and what Postgres' own clients would take unseen.
        ("localhost", "sslmode=verify-full&sslrootcert=OTHER", "certificate"),
        ("localhost", "sslmode=verify-ca&sslrootcert=OTHER", "certificate"),
        ("localhost", "sslmode=verify-full", "certificate"),
        ("localhost", "sslmode=require", "certificate"),
        ("127.0.0.1", "sslmode=require&sslrootcert=OURS", "certificate"),
        // It has no entry for those who come without TLS.
        ("localhost", "sslmode=disable", "pg_hba.conf"),
    ];
    for (host, params, why) in refused {
        let answer = asked(host, params).await.expect_err(params);
        assert!(answer.contains(why), "{params}: {answer}");
    }
    // Not plain all the same.
    let store_url = server.url("localhost", "postgres", "sslmode=verify-full&sslrootcert=OURS");
    let store = Store::new(&store_url.as_str().into(), 1).expect("a URL");
    store.ping().await.expect("a database");
    let (admin, _connection) = connect(&server.socket_url()).await;
    let ssl = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
               WHERE application_name = 'runner-broker'";
    let rows = admin.query(ssl, &[]).await.expect("an answer");
    assert!(!rows.is_empty() && rows.iter().all(|row| row.get::<_, bool>(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_lets_us_in_where_one_is_wanted() {
    let server = Encrypted::start().await;
    let verified = "sslmode=verify-full&sslrootcert=OURS";
    ask(&server.url("localhost", "certified", verified)).await.expect_err("nobody");
    let with = format!("{verified}&sslcert=CLIENT.pem&sslkey=CLIENT.key");
    ask(&server.url("localhost", "certified", &with)).await.expect("the user postgres");
    let wrong = format!("{verified}&sslcert=CLIENT.pem&sslkey=OURS");
    let why = ask(&server.url("localhost", "certified", &wrong)).await.expect_err("no key");
    assert!(why.contains("sslkey") && !why.contains("hunter2"), "{why}");
    let missing = format!("{verified}-nowhere");
    let why = ask(&server.url("localhost", "certified", &missing)).await.expect_err("no file");
    assert!(why.contains("sslrootcert"), "{why}");
}
