//! Headers that are read by hand: `Authorization`, `X-Forwarded-For`, `If-Match`, `Idempotency-Key`. An input is
//! the value of each of them.

#![no_main]

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::test::TestRequest;
use actix_web::{FromRequest, HttpRequest};
use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use runner_broker::http::inputs::{IdempotencyKey, JitRequest, Seen, address, bearer, etag};

const OUTSIDE: &str = "203.0.113.9";

static PROXIES: LazyLock<Vec<IpNet>> =
    LazyLock::new(|| ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a network")).to_vec());

fuzz_target!(|input: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    forwarded(&value);

    if let Some(token) = bearer(&with("authorization", &value)) {
        assert!(!token.is_empty() && token == token.trim());
    }

    let Some(Seen { seen }) = read::<Seen>("if-match", &value) else { panic!("If-Match is always read") };
    if let runner_broker::broker::policy::if_match::IfMatch::Tags(tags) = &seen {
        let quoted: Vec<String> = tags.iter().map(|tag| etag(tag).1).collect();
        if let Ok(again) = HeaderValue::from_str(&quoted.join(", ")) {
            assert_eq!(read::<Seen>("if-match", &again).map(|again| again.seen), Some(seen));
        }
    }

    if let Some(key) = read::<IdempotencyKey>("idempotency-key", &value) {
        let request: JitRequest = serde_json::from_str("{}").expect("every field has a default");
        let key = key.for_request("jit", &request).expect("a header that was accepted is a key");
        assert!((1..=255).contains(&key.key.len()));
        let again = IdempotencyKey::given(Some(&key.key)).for_request("jit", &request);
        assert!(again.is_none_or(|again| again.key == key.key && again.fingerprint == key.fingerprint));
    }
});

/// What a caller writes is believed as far as trusted proxies have written on.
fn forwarded(value: &HeaderValue) {
    let from = |peer: &str, value: &HeaderValue| {
        let peer = SocketAddr::new(peer.parse().expect("an address"), 9);
        let request =
            TestRequest::default().peer_addr(peer).insert_header(("x-forwarded-for", value.clone()));
        address(&request.to_http_request(), &PROXIES)
    };
    let outside: IpAddr = OUTSIDE.parse().expect("an address");
    assert_eq!(from(OUTSIDE, value), Some(outside), "a caller without a proxy says nothing about itself");
    assert!(from("10.0.0.1", value).is_some());
    let proxied = [value.as_bytes(), b", ", OUTSIDE.as_bytes()].concat();
    if let Ok(text) = std::str::from_utf8(&proxied)
        && text.is_ascii()
        && let Ok(proxied) = HeaderValue::from_str(text)
        && proxied.to_str().is_ok()
    {
        assert_eq!(from("10.0.0.1", &proxied), Some(outside), "the proxy saw who it was");
    }
}

fn with(name: &'static str, value: &HeaderValue) -> HttpRequest {
    TestRequest::default().insert_header((HeaderName::from_static(name), value.clone())).to_http_request()
}

/// Extractors that read a header only are ready at once.
fn read<T: FromRequest>(name: &'static str, value: &HeaderValue) -> Option<T> {
    let request = with(name, value);
    match pin!(T::from_request(&request, &mut Payload::None)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => read.ok(),
        Poll::Pending => panic!("{name} is not ready at once"),
    }
}
