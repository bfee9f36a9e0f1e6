//! An error with its causes on one line, for logs and for people. The only place that walks a chain of sources.

use std::error::Error;

/// The error's text followed by each cause's, separated by `: `. A cause that the line already quotes is left
/// out: many libraries put it into their own text.
pub fn with_causes(err: &dyn Error) -> String {
    let mut line = err.to_string();
    let mut next = err.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        cause: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (text, rest) = texts.split_first().expect("a text");
        Layer { text, cause: (!rest.is_empty()).then(|| Box::new(layers(rest))) }
    }

    #[test]
    fn every_cause_is_named_once() {
        for (texts, line) in [
            (&["no answer"][..], "no answer"),
            (&["no answer", "connection refused"], "no answer: connection refused"),
            (&["no answer: refused", "refused", "os error 111"], "no answer: refused: os error 111"),
            (&["no answer", "no answer", ""], "no answer"),
        ] {
            assert_eq!(with_causes(&layers(texts)), line);
        }
    }
}
