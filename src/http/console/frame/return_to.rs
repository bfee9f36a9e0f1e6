//! The page to return to after a sign-in: always one of ours, whatever the address says.

use url::Url;

/// In bytes: it goes through a cookie, and those are limited.
const LONGEST: usize = 2_000;

/// The path and query that `asked` is, or the first page if it is anything else: another host, a scheme, what a
/// browser might take for either, or a page of the sign-in itself.
pub fn local(asked: Option<&str>) -> &str {
    asked.filter(|path| is_local(path)).unwrap_or("/")
}

fn is_local(path: &str) -> bool {
    // A browser takes a backslash for a slash, and drops tabs and line ends wherever they are.
    let is_plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if !is_plain || path.len() > LONGEST || !path.starts_with('/') || path.starts_with("//") {
        return false;
    }
    // As a browser will read it.
    let here = Url::parse("https://here.invalid/sign-in").ok();
    here.and_then(|here| here.join(path).ok()).is_some_and(|url| {
        let is_sign_in = ["/sign-in", "/sign-out"].iter().any(|page| {
            url.path().strip_prefix(page).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        url.origin().ascii_serialization() == "https://here.invalid"
            && url.username().is_empty()
            && url.fragment().is_none()
            && !is_sign_in
    })
}

/// `page` with where to go on afterwards.
pub fn with(page: &str, back: &str) -> String {
    match serde_urlencoded::to_string([("return_to", back)]) {
        Ok(query) => format!("{page}?{query}"),
        Err(_) => page.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pages_of_ours_are_returned_to() {
        for path in [
            "/",
            "/runners",
            "/runners?status=active&label=a%2Fb",
            "/runners/0190",
            "/?a=//evil.example",
            "/%09/x",
            "/@evil.example",
            "/sign-in-log",
            "/.//evil.example",
        ] {
            assert_eq!(local(Some(path)), path);
        }
        assert_eq!(local(None), "/");
    }

    #[test]
    fn nothing_leads_elsewhere_or_round_in_circles() {
        for path in [
            "",
            "runners",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/ /evil.example",
            "https://evil.example",
            "https:/evil.example",
            "HTTPS:evil.example",
            "javascript:alert(1)",
            "data:text/html,x",
            "/\u{2028}",
            "/ä",
            "/\u{0}",
            "/\r\nSet-Cookie: a=b",
            "/runners#fragment",
            "@evil.example",
            "?return_to=/",
            "/sign-in",
            "/sign-in?return_to=/sign-in",
            "/sign-in/dev",
            "/x/../sign-in/dev",
            "/./sign-out",
        ] {
            assert_eq!(local(Some(path)), "/", "{path:?}");
        }
        assert_eq!(local(Some(&format!("/{}", "a".repeat(LONGEST)))), "/");
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_stays_here(asked in r"(/|\\|\.|@|:|//|https:|\t|\n|%2f|evil\.example|a|\?|#|\PC){0,12}") {
            let base = Url::parse("https://here.example/sign-in/dev/callback").unwrap();
            let url = base.join(local(Some(&asked))).unwrap();
            prop_assert_eq!(url.origin(), base.origin());
            prop_assert!(url.username().is_empty());
        }
    }
}
