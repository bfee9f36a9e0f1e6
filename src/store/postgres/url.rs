//! Reads `DATABASE_URL` as libpq does: several hosts, the choice among them, and the TLS parameters (`verify-full`,
//! `sslrootcert`, …) that tokio-postgres' own parser refuses.
//!
//! tokio-postgres refuses `verify-full` and `sslrootcert`, hence a parser of our own.

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::model::with_causes;

/// The default of `connect_timeout` for a single host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for each of several hosts: all must be tried while a caller still waits.
const CONNECT_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(2);

/// A server that disappears without closing its connections (its machine lost power) is noticed within this time.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(6);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// A parsed `DATABASE_URL`.
pub struct Url {
    /// In the order in which they are tried.
    pub hosts: Vec<Address>,
    /// How TLS is verified, for all hosts.
    pub tls: Tls,
    /// For one address of a host: from the first packet to the end of authentication.
    pub connect_timeout: Duration,
}

/// One host with everything needed to connect to it, except its address.
pub struct Address {
    /// Without other hosts.
    pub config: Config,
    /// The name to look up and the port. `None`: `config` has the address or the socket's path.
    pub lookup: Option<(String, u16)>,
    /// For messages.
    pub name: String,
}

/// How TLS is verified, and our own certificate.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// `verify-ca`: the certificate may be for any name.
    pub any_name: bool,
    /// The authorities' certificates (PEM). `None`: the system's roots.
    pub roots: Option<PathBuf>,
    /// Our certificate chain and its key (PEM).
    pub client: Option<(PathBuf, PathBuf)>,
}

impl Url {
    /// Parses the URL.
    ///
    /// # Errors
    /// A message that names the parameter and never holds a password.
    pub fn parse(text: &str) -> Result<Url, String> {
        let (rest, params) = split(text);
        let mut kept: Vec<&str> = Vec::new();
        let (mut mode, mut session, mut timeout) = (None, None, None);
        let (mut roots, mut cert, mut key, mut hosts) = (None, None, None, None);
        for param in params {
            let (name, value) = param.split_once('=').unwrap_or((param, ""));
            let name = decoded(name)?;
            let place = match &*name {
                "sslmode" => &mut mode,
                "target_session_attrs" => &mut session,
                "connect_timeout" => &mut timeout,
                "sslrootcert" => &mut roots,
                "sslcert" => &mut cert,
                "sslkey" => &mut key,
                // In a URL tokio-postgres takes it for a single one.
                "host" => &mut hosts,
                _ => {
                    kept.push(param);
                    continue;
                }
            };
            *place = Some(decoded(value)?.into_owned()).filter(|value| !value.is_empty());
        }
        let plain = match kept.is_empty() {
            true => rest.to_owned(),
            false => format!("{rest}?{}", kept.join("&")),
        };
        let mut config: Config = plain.parse().map_err(|err| with_causes(&err))?;
        for host in hosts.iter().flat_map(|hosts| hosts.split(',')) {
            config.host(host);
        }
        config.ssl_mode(ssl_mode(mode.as_deref())?);
        let tls = tls(mode.as_deref(), roots, cert, key)?;
        let several = count(&config) > 1;
        config.target_session_attrs(session_attrs(session.as_deref(), several)?);
        let usual = if several { CONNECT_TIMEOUT_OF_SEVERAL } else { CONNECT_TIMEOUT };
        let connect_timeout = match timeout.as_deref().map(str::parse::<u64>) {
            None | Some(Ok(0)) => usual,
            Some(Ok(seconds)) => Duration::from_secs(seconds),
            Some(Err(_)) => return Err("connect_timeout: wanted a number of seconds".into()),
        };
        config.application_name(config.get_application_name().unwrap_or("runner-broker").to_owned());
        set_keepalives(&mut config, &plain);
        Ok(Url { hosts: addresses(&config)?, tls, connect_timeout })
    }
}

/// The part before the `?`, and the parameters after it. A password may contain a `?`, too.
fn split(text: &str) -> (&str, Vec<&str>) {
    let host = text.find('@').map_or(0, |at| at + 1);
    match text[host..].find('?') {
        None => (text, Vec::new()),
        Some(at) => {
            let params = text[host + at + 1..].split('&').filter(|param| !param.is_empty());
            (&text[..host + at], params.collect())
        }
    }
}

fn decoded(text: &str) -> Result<Cow<'_, str>, String> {
    percent_decode_str(text).decode_utf8().map_err(|_| "a parameter is not UTF-8".into())
}

fn ssl_mode(mode: Option<&str>) -> Result<SslMode, String> {
    match mode {
        None | Some("prefer") => Ok(SslMode::Prefer),
        Some("disable") => Ok(SslMode::Disable),
        Some("require" | "verify-ca" | "verify-full") => Ok(SslMode::Require),
        Some(other) => Err(format!(
            "sslmode: found '{other}', wanted disable, prefer, require, verify-ca or verify-full"
        )),
    }
}

fn tls(
    mode: Option<&str>,
    roots: Option<String>,
    cert: Option<String>,
    key: Option<String>,
) -> Result<Tls, String> {
    let roots = roots.filter(|roots| roots != "system").map(PathBuf::from);
    let any_name = mode == Some("verify-ca");
    // Anybody can have a certificate of a public authority for some name.
    if any_name && roots.is_none() {
        return Err(
            "sslmode: verify-ca needs the authority's file in sslrootcert, or take verify-full".into()
        );
    }
    let client = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        _ => return Err("sslcert and sslkey: wanted both or none".into()),
    };
    Ok(Tls { any_name, roots, client })
}

/// Of several hosts all but one are standbys, and the broker writes.
fn session_attrs(wanted: Option<&str>, several: bool) -> Result<TargetSessionAttrs, String> {
    match wanted {
        None if several => Ok(TargetSessionAttrs::ReadWrite),
        None | Some("any") => Ok(TargetSessionAttrs::Any),
        Some("read-write" | "primary") => Ok(TargetSessionAttrs::ReadWrite),
        Some(other) => Err(format!(
            "target_session_attrs: found '{other}', wanted read-write, primary or any: the broker writes"
        )),
    }
}

/// Sets what the URL does not. Without these settings a lost machine is noticed after a quarter of an hour.
fn set_keepalives(config: &mut Config, plain: &str) {
    if !plain.contains("tcp_user_timeout=") {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    if !plain.contains("keepalives") {
        config
            .keepalives_idle(KEEPALIVE_INTERVAL)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(2);
    }
}

fn count(config: &Config) -> usize {
    config.get_hosts().len().max(config.get_hostaddrs().len())
}

fn addresses(config: &Config) -> Result<Vec<Address>, String> {
    let (hosts, addrs, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let number = count(config);
    match number {
        0 => return Err("host: none is named".into()),
        _ if !hosts.is_empty() && !addrs.is_empty() && hosts.len() != addrs.len() => {
            return Err("hostaddr: wanted one for each host".into());
        }
        _ if ports.len() > 1 && ports.len() != number => return Err("port: wanted one for each host".into()),
        _ => {}
    }
    let port = |i: usize| ports.get(i).or(ports.first()).copied().unwrap_or(5432);
    Ok((0..number).map(|i| address(config, hosts.get(i), addrs.get(i), port(i))).collect())
}

fn address(config: &Config, host: Option<&Host>, addr: Option<&IpAddr>, port: u16) -> Address {
    let mut one = without_hosts(config);
    one.port(port);
    let (name, lookup) = match (host, addr) {
        (Some(Host::Unix(path)), _) => {
            // As libpq does: nobody can listen in on a socket.
            one.host_path(path).ssl_mode(SslMode::Disable);
            (path.display().to_string(), None)
        }
        (Some(Host::Tcp(host)), addr) => {
            one.host(host);
            if let Some(addr) = addr {
                one.hostaddr(*addr);
            }
            (format!("{host}:{port}"), addr.is_none().then(|| (host.clone(), port)))
        }
        (None, Some(addr)) => {
            one.hostaddr(*addr);
            (format!("{addr}:{port}"), None)
        }
        (None, None) => (String::new(), None),
    };
    Address { config: one, lookup, name }
}

/// tokio-postgres can add hosts to a configuration, but not take them away.
fn without_hosts(config: &Config) -> Config {
    let mut one = Config::new();
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(dbname) = config.get_dbname() {
        one.dbname(dbname);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding());
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(url: &Url) -> Vec<&str> {
        url.hosts.iter().map(|host| host.name.as_str()).collect()
    }

    #[test]
    fn of_several_hosts_each_is_tried_and_must_accept_writes() {
        let url = Url::parse("postgres://me:p%40ss?x@db1:5433,[::1],db3/b?application_name=x").unwrap();
        assert_eq!(names(&url), ["db1:5433", "::1:5432", "db3:5432"]);
        for host in &url.hosts {
            assert_eq!(host.config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
            assert_eq!(host.config.get_password(), Some(&b"p@ss?x"[..]));
            assert_eq!((host.config.get_user(), host.config.get_dbname()), (Some("me"), Some("b")));
            assert_eq!(host.config.get_application_name(), Some("x"));
            assert_eq!(host.config.get_hosts().len(), 1);
        }
        assert_eq!(url.connect_timeout, CONNECT_TIMEOUT_OF_SEVERAL);
        let sockets =
            Url::parse("postgres:///b?user=u&host=/run/a,/run/b&port=1,2&sslmode=verify-full").unwrap();
        assert_eq!(names(&sockets), ["/run/a", "/run/b"]);
        assert_eq!(sockets.hosts[1].config.get_ports(), [2]);
        assert_eq!(sockets.hosts[1].config.get_ssl_mode(), SslMode::Disable);
        let any = Url::parse("postgres://u@a,b/b?target_session_attrs=any&connect_timeout=7").unwrap();
        assert_eq!(any.hosts[0].config.get_target_session_attrs(), TargetSessionAttrs::Any);
        assert_eq!(any.connect_timeout, Duration::from_secs(7));
        let one = Url::parse("postgres://u@a/b?hostaddr=10.0.0.1").unwrap();
        assert_eq!(one.hosts[0].config.get_target_session_attrs(), TargetSessionAttrs::Any);
        assert_eq!(one.hosts[0].lookup, None);
    }

    #[test]
    fn tls_is_verified_as_far_as_the_url_says() {
        let tls = |params: &str| Url::parse(&format!("postgres://u:secret@h/b?{params}")).unwrap();
        let full = tls("sslmode=verify-full&sslrootcert=%2Fetc%2Fa%20b.pem");
        assert_eq!(full.hosts[0].config.get_ssl_mode(), SslMode::Require);
        assert_eq!(full.tls, Tls { roots: Some("/etc/a b.pem".into()), ..Tls::default() });
        assert!(tls("sslmode=verify-ca&sslrootcert=/a.pem").tls.any_name);
        assert_eq!(tls("sslmode=verify-full&sslrootcert=system").tls, Tls::default());
        let client = tls("sslcert=/c.pem&sslkey=/k.pem").tls.client;
        assert_eq!(client, Some(("/c.pem".into(), "/k.pem".into())));
        assert_eq!(tls("sslmode=").hosts[0].config.get_ssl_mode(), SslMode::Prefer);
        assert_eq!(tls("sslmode=disable").hosts[0].config.get_ssl_mode(), SslMode::Disable);
    }

    #[test]
    fn what_is_wrong_is_named_without_the_password() {
        for (params, named) in [
            ("sslmode=allow", "sslmode"),
            ("sslmode=verify-ca", "sslrootcert"),
            ("sslmode=verify-ca&sslrootcert=system", "sslrootcert"),
            ("sslcert=/c.pem", "sslkey"),
            ("target_session_attrs=standby", "target_session_attrs"),
            ("connect_timeout=soon", "connect_timeout"),
            ("wrong=1", "wrong"),
            ("port=1,2,3", "port"),
            ("hostaddr=1.2.3.4,1.2.3.5", "hostaddr"),
        ] {
            let why = Url::parse(&format!("postgres://u:secret@h/b?{params}")).err().expect(params);
            assert!(why.contains(named) && !why.contains("secret"), "{params}: {why}");
        }
        assert!(Url::parse("postgres:///b").err().unwrap().contains("host"));
    }

    use proptest::prelude::*;

    proptest! {
        /// On what both understand, a URL means what it means to tokio-postgres.
        #[test]
        fn a_plain_url_is_read_as_tokio_postgres_reads_it(
            user in "[a-z]{1,8}",
            password in proptest::option::of("([a-zA-Z0-9._~!?$*-]|%40|%2F|%3A|%C3%A9){1,12}"),
            hosts in proptest::collection::vec(("[a-z]{1,8}(\\.[a-z]{2,5})?|10\\.0\\.0\\.[1-9]|\\[::1\\]", 1..65_535_u16), 1..4),
            dbname in "[a-z_]{1,8}",
            application_name in proptest::option::of("[a-z]{1,8}(%20[a-z]{1,4})?"),
            options in proptest::option::of("-c%20geqo=off"),
            sslmode in proptest::option::of(proptest::sample::select(vec!["disable", "prefer", "require"])),
            user_timeout in proptest::option::of(1..100_u64),
        ) {
            let password = password.map(|password| format!(":{password}")).unwrap_or_default();
            let all: Vec<String> = hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
            let params: Vec<String> = [
                application_name.map(|name| format!("application_name={name}")),
                options.map(|options| format!("options={options}")),
                sslmode.map(|mode| format!("sslmode={mode}")),
                user_timeout.map(|seconds| format!("tcp_user_timeout={seconds}")),
            ]
            .into_iter()
            .flatten()
            .collect();
            let text = format!("postgres://{user}{password}@{}/{dbname}?{}", all.join(","), params.join("&"));
            let theirs: Config = text.parse().unwrap();
            let ours = Url::parse(&text).unwrap();
            prop_assert_eq!(ours.hosts.len(), theirs.get_hosts().len());
            for (at, host) in ours.hosts.iter().enumerate() {
                let one = &host.config;
                prop_assert_eq!(one.get_hosts(), &theirs.get_hosts()[at..=at]);
                prop_assert_eq!(one.get_ports(), &theirs.get_ports()[at..=at]);
                prop_assert_eq!(one.get_user(), theirs.get_user());
                prop_assert_eq!(one.get_password(), theirs.get_password());
                prop_assert_eq!(one.get_dbname(), theirs.get_dbname());
                prop_assert_eq!(one.get_options(), theirs.get_options());
                prop_assert_eq!(one.get_ssl_mode(), theirs.get_ssl_mode());
                let name = theirs.get_application_name().unwrap_or("runner-broker");
                prop_assert_eq!(one.get_application_name(), Some(name));
                let timeout = theirs.get_tcp_user_timeout().copied().unwrap_or(TCP_USER_TIMEOUT);
                prop_assert_eq!(one.get_tcp_user_timeout(), Some(&timeout));
            }
        }
    }
}
