//! Texts that a pattern matches, made from the pattern itself.

use std::collections::BTreeSet;

use regex_syntax::hir::{Class, Hir, HirKind};

use crate::policy::pattern::{Pattern, parse};

/// How many are tried to be made, and how long they are at most.
const TRIED: usize = 160;
const LONGEST: usize = 300;
/// A class of so many characters stands for each of them.
const FEW: usize = 26;
/// How many parts of an expression are looked at for one text: repetitions of repetitions would have no end.
const MOST_STEPS: usize = 2_000;

/// Some of what the pattern matches, whatever branches it has; empty if none was found.
pub fn witnesses(pattern: &Pattern) -> Vec<String> {
    let Ok(expression) = parse(pattern.as_str(), false) else { return Vec::new() };
    let tried = if pattern.is_literal() { 1 } else { TRIED };
    let made = (0..tried).map(|n| {
        let mut attempt = Attempt { dice: Dice::new(n as u64), text: String::new(), steps: 0 };
        attempt.write(&expression);
        attempt.text
    });
    let made: BTreeSet<String> = made.filter(|text| pattern.matches(text)).collect();
    made.into_iter().collect()
}

/// Numbers that look random, and are always the same ones. The first is the seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Less than `count`, which is not 0.
    pub fn pick(&mut self, count: usize) -> usize {
        let picked = self.0 % count as u64;
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut next = self.0;
        next = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        next = (next ^ (next >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = next ^ (next >> 31);
        picked as usize
    }
}

/// One text in the making.
struct Attempt {
    dice: Dice,
    text: String,
    steps: usize,
}

impl Attempt {
    fn write(&mut self, expression: &Hir) {
        self.steps += 1;
        if self.text.len() > LONGEST || self.steps > MOST_STEPS {
            return;
        }
        match expression.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => self.text.push_str(&String::from_utf8_lossy(&literal.0)),
            HirKind::Class(class) => self.text.extend(one_of(class, &mut self.dice)),
            HirKind::Repetition(of) => {
                let wanted = of.min.saturating_add([1, 0, 3, 7][self.dice.pick(4)]);
                for _ in 0..wanted.min(of.max.unwrap_or(u32::MAX)) {
                    // What repeats may be empty, and repeat what repeats.
                    if self.text.len() > LONGEST || self.steps > MOST_STEPS {
                        return;
                    }
                    self.write(&of.sub);
                }
            }
            HirKind::Capture(of) => self.write(&of.sub),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.write(part)),
            HirKind::Alternation(branches) => {
                let chosen = self.dice.pick(branches.len());
                self.write(&branches[chosen]);
            }
        }
    }
}

/// A character of the class: any of a few, or else a usual one.
fn one_of(class: &Class, dice: &mut Dice) -> Option<char> {
    if let Class::Unicode(class) = class {
        let all = || class.ranges().iter().flat_map(|range| range.start()..=range.end());
        let size = all().take(FEW + 1).count();
        if (1..=FEW).contains(&size) {
            return all().nth(dice.pick(size));
        }
    }
    let has = |wanted: char| match class {
        Class::Unicode(class) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&wanted))
        }
        Class::Bytes(class) => {
            let range = |range: &regex_syntax::hir::ClassBytesRange| range.start()..=range.end();
            u8::try_from(wanted).is_ok_and(|byte| class.ranges().iter().any(|of| range(of).contains(&byte)))
        }
    };
    let usual: Vec<char> = "aqkz07-_AQ./:@ ".chars().filter(|usual| has(*usual)).collect();
    if !usual.is_empty() {
        return Some(usual[dice.pick(usual.len())]);
    }
    match class {
        Class::Unicode(class) if !class.ranges().is_empty() => {
            Some(class.ranges()[dice.pick(class.ranges().len())].start())
        }
        Class::Unicode(_) | Class::Bytes(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_branch_of_a_pattern_is_found() {
        for (pattern, wanted) in [
            ("alice", "alice"),
            ("alice|bob", "bob"),
            ("(a|b)(c|d)", "bd"),
            ("x{3}", "xxx"),
            ("ab?", "a"),
            ("[0-9]", "7"),
            ("é", "é"),
            ("[é-ü]", "é"),
            ("(?i)q", "Q"),
        ] {
            let found = witnesses(&Pattern::exact(pattern).unwrap());
            assert!(found.iter().any(|text| text == wanted), "{pattern}: {found:?}");
        }
        assert!(witnesses(&Pattern::exact("a$b").unwrap()).is_empty());
        assert!(witnesses(&Pattern::exact("a{400}").unwrap()).is_empty());
        let nested = format!(r"{}\b{}a", "(".repeat(45), "*)".repeat(45));
        assert!(witnesses(&Pattern::exact(&nested).unwrap()).len() <= 1, "and it ends");
        let many: Vec<String> = (0..100).map(|n| format!("word{n}x")).collect();
        assert_eq!(witnesses(&Pattern::exact(&many.join("|")).unwrap()).len(), 100);
    }
}
