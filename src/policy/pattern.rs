//! A regular expression that matches whole values only, and plain text wherever it is no more than that.

use std::fmt;

use regex::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, HirKind, Look};

/// The most bytes of one compiled pattern; a policy has thousands of them.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    meaning: Meaning,
}

#[derive(Clone, Debug)]
enum Meaning {
    /// Most patterns are plain text, for which a regular expression would be slow to make and large.
    Literal { text: String, ignore_case: bool },
    /// `begins` is the plain text that every match begins with: thousands of repositories differ in it, and
    /// it is compared in no time.
    Expression { begins: String, regex: Regex },
}

impl Pattern {
    /// For claims: every character counts.
    pub fn exact(pattern: &str) -> Result<Pattern, String> {
        Pattern::compile(pattern, false)
    }

    /// For labels: GitHub takes `GPU` and `gpu` for the same one.
    pub fn ignoring_case(pattern: &str) -> Result<Pattern, String> {
        Pattern::compile(pattern, true)
    }

    fn compile(pattern: &str, ignore_case: bool) -> Result<Pattern, String> {
        let meaning = match literal(&parse(pattern, false)?) {
            Some(text) => Meaning::Literal { text, ignore_case },
            None => {
                let expression = parse(pattern, ignore_case)?;
                let first = match expression.kind() {
                    HirKind::Concat(parts) => parts.first(),
                    _ => None,
                };
                let begins = first.and_then(literal).unwrap_or_default();
                Meaning::Expression { begins, regex: anchored(expression)? }
            }
        };
        Ok(Pattern { text: pattern.to_owned(), meaning })
    }

    pub fn matches(&self, value: &str) -> bool {
        match &self.meaning {
            Meaning::Literal { text, ignore_case: true } => text.eq_ignore_ascii_case(value),
            Meaning::Literal { text, ignore_case: false } => text == value,
            Meaning::Expression { begins, regex } => value.starts_with(begins) && regex.is_match(value),
        }
    }

    /// Whether it matches this one value because it spells it out, not by a wildcard.
    pub fn is_exactly(&self, value: &str) -> bool {
        matches!(self.meaning, Meaning::Literal { .. }) && self.matches(value)
    }

    /// Whether it is plain text.
    pub fn is_literal(&self) -> bool {
        matches!(self.meaning, Meaning::Literal { .. })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub(super) fn parse(pattern: &str, ignore_case: bool) -> Result<Hir, String> {
    ParserBuilder::new().case_insensitive(ignore_case).nest_limit(100).build().parse(pattern).map_err(|err| {
        match err {
            regex_syntax::Error::Parse(err) => err.kind().to_string(),
            regex_syntax::Error::Translate(err) => err.kind().to_string(),
            other => other.to_string(),
        }
    })
}

/// The text, if the expression is no more than that.
fn literal(expression: &Hir) -> Option<String> {
    match expression.kind() {
        HirKind::Literal(literal) => String::from_utf8(literal.0.to_vec()).ok(),
        _ => None,
    }
}

/// The anchors go around the parsed expression, not its text: no `a)|(b`, no `(?x) … #` can get past them.
fn anchored(expression: Hir) -> Result<Regex, String> {
    let whole = Hir::concat(vec![Hir::look(Look::Start), expression, Hir::look(Look::End)]);
    RegexBuilder::new(&whole.to_string()).size_limit(MAX_COMPILED_BYTES).build().map_err(|err| match err {
        regex::Error::CompiledTooBig(_) => "too large when compiled".to_owned(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_values_match() {
        for pattern in ["gpu", "gpu|tpu", "(?x) gpu # a comment", "(?m)gpu", "(gpu)"] {
            let pattern = Pattern::exact(pattern).unwrap();
            assert!(pattern.matches("gpu"), "{pattern}");
            for near in ["gpu-evil", "my-gpu", "gpu\nevil", "evil\ngpu", "gpu ", "gp", ""] {
                assert!(!pattern.matches(near), "{pattern} {near:?}");
            }
        }
        assert!(Pattern::exact("a|ab").unwrap().matches("ab"));
        for (pattern, value) in
            [("octo/ml-.*", "octo/ml-"), ("ab*", "a"), ("ab?c", "ac"), ("(?i)ab.*", "ABc")]
        {
            assert!(Pattern::exact(pattern).unwrap().matches(value), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_only_fits_inside_a_group_is_no_pattern() {
        for bad in ["a)|(b", "cuda-[", "*", "(?P<n", "a{999999}", "\\w{500}{50}"] {
            assert!(Pattern::exact(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_is_spelled_out_is_a_literal() {
        for (pattern, is_literal) in [
            (r"ubuntu-22\.04", true),
            (r"Ubuntu-22\.04", true),
            ("ubuntu-22.04", false),
            ("ubuntu-.*", false),
            (r"ubuntu-22\.04|x", false),
            (r"ubuntu-22\.0[4]?", false),
        ] {
            let compiled = Pattern::ignoring_case(pattern).unwrap();
            assert!(compiled.matches("ubuntu-22.04"), "{pattern}");
            assert_eq!(compiled.is_exactly("ubuntu-22.04"), is_literal, "{pattern}");
        }
    }

    #[test]
    fn labels_ignore_case_and_claims_do_not() {
        assert!(Pattern::ignoring_case("CUDA-[0-9]+").unwrap().matches("cuda-12"));
        assert!(Pattern::ignoring_case("GPU").unwrap().matches("gpu"));
        assert!(!Pattern::exact("Admins").unwrap().matches("admins"));
        assert!(!Pattern::exact("Admins.*").unwrap().matches("admins"));
    }
}
