//! Few colours, each with one meaning.

/// Paints text, or leaves it as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Painter {
    on: bool,
}

impl Painter {
    pub(crate) fn new(on: bool) -> Self {
        Painter { on }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Headings, and what the eye should find first.
    pub(crate) fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// What can be skipped.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Done, ready, best.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Under way.
    pub(crate) fn busy(self, text: &str) -> String {
        self.paint("36", text)
    }

    /// Look here.
    pub(crate) fn warn(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Failed.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("31;1", text)
    }
}

/// Columns that the text takes on a terminal: escape sequences take none.
pub(crate) fn width(text: &str) -> usize {
    let mut columns = 0;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            columns += 1;
        }
    }
    columns
}

/// Text from a server as a terminal may show it: control characters, which could move the cursor or hide text,
/// become `?`.
pub(crate) fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_takes_no_columns_and_can_be_off() {
        assert_eq!(width(&Painter::new(true).good("ready")), 5);
        assert_eq!(Painter::new(false).bad("failed"), "failed");
        assert_eq!(Painter::new(true).bad(""), "");
    }

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(safe("a\x1b[2Jb\n"), "a?[2Jb?");
    }
}
