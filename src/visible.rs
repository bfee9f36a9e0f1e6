//! Characters that nobody sees, or that turn the text around them: where people read what others chose, each is shown
//! as its number.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether this character is a control, has no width, or changes the direction of what follows (Unicode's general
/// categories Cc and Cf, the line and paragraph separators, and the fillers of Hangul).
pub fn is_misleading(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}'
            | '\u{8e2}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// The text with such characters as JSON spells them (`\u202e`), but for line breaks and tabs.
pub fn visible(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| is_misleading(c) && !matches!(c, '\n' | '\r' | '\t');
    if !text.chars().any(hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match hidden(c) {
            false => shown.push(c),
            true => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(shown, "\\u{unit:04x}");
                }
            }
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_would_see_is_shown_as_json_spells_it() {
        assert_eq!(visible("evil\u{202e}ecila\u{200b}"), "evil\\u202eecila\\u200b");
        assert_eq!(visible("\u{1b}[2J\u{0}\u{85}\u{feff}"), "\\u001b[2J\\u0000\\u0085\\ufeff");
        assert_eq!(visible("a\u{e0041}b\u{ad}"), "a\\udb40\\udc41b\\u00ad");
        for text in ["", "plain\n\ttext\r\n", "é ß 日本 👩 עברית"] {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text));
        }
        let quoted = format!("\"{}\"", visible("a\u{e0041}\u{202e}b"));
        assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), "a\u{e0041}\u{202e}b");
    }
}
