//! Values as claims and labels have them, made up: a pattern that matches most of them was not written for one of them.

use std::sync::LazyLock;

use super::witness::Dice;
use crate::policy::pattern::Pattern;

/// How many values of each shape.
const EACH: usize = 64;

/// A shape: how one value of it is made.
type Shape = fn(&mut Dice) -> String;

const SHAPES: &[Shape] = &[
    word,
    |dice| format!("{} {}", name(dice), name(dice)),
    |dice| (0..4 + dice.pick(7)).map(|_| digit(dice)).collect(),
    uuid,
    |dice| format!("{}@{}.{}", word(dice), word(dice), ["com", "org", "net", "io", "example"][dice.pick(5)]),
    |dice| format!("{}/{}", word(dice), word(dice)),
    |dice| format!("/{}/{}", word(dice), word(dice)),
    |dice| format!("refs/heads/{}", word(dice)),
    |dice| format!("repo:{}/{}:ref:refs/heads/main", word(dice), word(dice)),
    |dice| format!("repo:{}/{}:ref:refs/heads/{}", word(dice), word(dice), word(dice)),
    |dice| format!("repo:{}/{}:environment:production", word(dice), word(dice)),
    |dice| format!("repo:{}/{}:pull_request", word(dice), word(dice)),
    |dice| format!("project_path:{}/{}:ref_type:branch:ref:main", word(dice), word(dice)),
    |dice| format!("{}/{}/.github/workflows/ci.yml@refs/heads/main", word(dice), word(dice)),
    |dice| format!("system:serviceaccount:{}:{}", word(dice), word(dice)),
    |dice| format!("{}|{}", word(dice), uuid(dice)),
    |dice| format!("spiffe://{}.example/{}", word(dice), word(dice)),
];

/// Of each shape some values; always the same ones.
static VALUES: LazyLock<Vec<Vec<String>>> = LazyLock::new(|| {
    let of = |(n, shape): (usize, &Shape)| {
        let mut dice = Dice::new(n as u64 * 7_919 + 17);
        (0..EACH).map(|_| shape(&mut dice)).collect()
    };
    SHAPES.iter().enumerate().map(of).collect()
});

fn letter(dice: &mut Dice) -> char {
    char::from(b'a' + dice.pick(26) as u8)
}

fn digit(dice: &mut Dice) -> char {
    char::from(b'0' + dice.pick(10) as u8)
}

/// A login, an organisation, a repository, a branch, a label: letters, now and then with a hyphen or a digit.
fn word(dice: &mut Dice) -> String {
    let mut word: String = (0..3 + dice.pick(6)).map(|_| letter(dice)).collect();
    match dice.pick(8) {
        0 => word.push(digit(dice)),
        1 => word.extend(['-', letter(dice), letter(dice)]),
        _ => {}
    }
    word
}

fn name(dice: &mut Dice) -> String {
    let word: String = (0..3 + dice.pick(6)).map(|_| letter(dice)).collect();
    word[..1].to_uppercase() + &word[1..]
}

fn uuid(dice: &mut Dice) -> String {
    let mut hex = |count: usize| -> String {
        (0..count).map(|_| char::from(b"0123456789abcdef"[dice.pick(16)])).collect()
    };
    [8, 4, 4, 4, 12].map(&mut hex).join("-")
}

/// Whether a pattern matches at least half of the values of some shape.
pub fn matches_most(pattern: &Pattern) -> bool {
    let most = |values: &Vec<String>| {
        values.iter().filter(|value| pattern.matches(value)).count() * 2 >= values.len()
    };
    !pattern.is_literal() && VALUES.iter().any(most)
}

/// Whether a pattern matches at least half of the words that labels are made of.
pub fn matches_most_words(pattern: &Pattern) -> bool {
    let matched = VALUES[0].iter().filter(|value| pattern.matches(value)).count();
    !pattern.is_literal() && matched * 2 >= EACH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(pattern: &str) -> bool {
        matches_most(&Pattern::exact(pattern).unwrap())
    }

    #[test]
    fn a_pattern_is_judged_by_what_it_matches() {
        for open in [
            ".*",
            ".+",
            "alice|.*",
            "[^x]*",
            "[^/]+",
            ".*/.*",
            "[^/]+/[^/]+",
            "(?i)[a-z0-9-]+",
            "[0-9]+",
            r"\S+",
            "repo:.*",
            "repo:[^:]+:ref:refs/heads/main",
            ".*:ref:refs/heads/main",
            "system:serviceaccount:.*",
            ".*@.*",
            "(?s).{3,}",
            "[0-9a-f-]{36}",
        ] {
            assert!(most(open), "{open}");
        }
        for tight in [
            "alice",
            "alice|bob",
            "octo-org/ml-.*",
            "refs/heads/(main|release/.*)",
            r".*@example\.com",
            r".*@corp\.example",
            "repo:octo-org/ml:.*",
            "system:serviceaccount:ml:.*",
            "a",
            "x.*",
            "team-[0-9]+",
            ".*/ml",
            "[0-9]{4}",
        ] {
            assert!(!most(tight), "{tight}");
        }
    }
}
