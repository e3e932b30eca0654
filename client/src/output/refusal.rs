//! What a server refuses about a model, for people: by operator, counted, a few names each. Programs get the whole list as JSON.

use std::fmt::Write;

use dyadic_proto::v1::Refusal;

use super::style::{Painter, safe, width};

/// Columns that a line may take.
const LINE: usize = 100;

/// Reasons of one operator that are shown, and names of one reason.
const REASONS: usize = 4;
const NAMES: usize = 3;

/// `65 nodes of 2 operators, Mul (49) and Gelu (16)`, and what is true of the model as a whole.
pub(crate) fn summary(refusals: &[Refusal]) -> String {
    let operators = operators(refusals);
    let nodes: usize = operators.iter().map(|operator| operator.count).sum();
    let whole = refusals.iter().filter(|refusal| refusal.nodes.is_empty());
    let mut parts: Vec<String> = whole.map(|refusal| safe(&refusal.reason)).collect();
    if nodes > 0 {
        let shown: Vec<String> = operators
            .iter()
            .take(5)
            .map(|operator| format!("{} ({})", operator.name, operator.count))
            .collect();
        let more = operators.len().saturating_sub(shown.len());
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        parts.push(format!(
            "{} of {}: {}{more}",
            counted(nodes, "node"),
            counted(operators.len(), "operator"),
            shown.join(", ")
        ));
    }
    parts.join("; ")
}

/// One paragraph an operator, the most frequent first; empty if nothing is refused about nodes.
pub(crate) fn render(refusals: &[Refusal], paint: Painter) -> String {
    let mut text = String::new();
    for Operator { name, count, reasons } in operators(refusals) {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  {} {}",
            paint.strong(&name),
            paint.dim(&format!("({})", counted(count, "node")))
        );
        for refusal in reasons.iter().take(REASONS) {
            push_wrapped(&mut text, 4, &format!("{}:", safe(&refusal.reason)));
            let names: Vec<String> = refusal.nodes.iter().take(NAMES).map(|name| safe(name)).collect();
            let more = refusal.nodes.len().saturating_sub(NAMES);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            push_wrapped(&mut text, 6, &format!("{}{more}", names.join(", ")));
        }
        if let Some(left) = reasons.get(REASONS..).filter(|left| !left.is_empty()) {
            let nodes = left.iter().map(|refusal| refusal.nodes.len()).sum();
            let _ = writeln!(
                text,
                "    {} for {}",
                counted(nodes, "node"),
                counted(left.len(), "further reason")
            );
        }
    }
    text
}

struct Operator<'a> {
    /// With its domain.
    name: String,
    count: usize,
    reasons: Vec<&'a Refusal>,
}

/// The refusals of nodes by operator, in the order they came.
fn operators(refusals: &[Refusal]) -> Vec<Operator<'_>> {
    let mut operators: Vec<Operator<'_>> = Vec::new();
    for refusal in refusals.iter().filter(|refusal| !refusal.nodes.is_empty()) {
        let dot = if refusal.domain.is_empty() { "" } else { "." };
        let name = safe(&format!("{}{dot}{}", refusal.domain, refusal.operator));
        let count = refusal.nodes.len();
        match operators.iter_mut().find(|operator| operator.name == name) {
            Some(operator) => {
                operator.count += count;
                operator.reasons.push(refusal);
            }
            None => operators.push(Operator { name, count, reasons: vec![refusal] }),
        }
    }
    operators
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Words on lines of at most [`LINE`] columns, where no word is longer.
fn push_wrapped(text: &mut String, indent: usize, words: &str) {
    let mut column = 0;
    for word in words.split(' ') {
        let columns = width(word);
        if column > 0 && column + 1 + columns > LINE {
            text.push('\n');
            column = 0;
        }
        if column == 0 {
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += columns;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(operator: &str, reason: &str, nodes: usize) -> Refusal {
        let name = |index| format!("/features/features.{index}/block/block.1/activation/{operator}");
        Refusal {
            operator: operator.to_owned(),
            domain: String::new(),
            reason: reason.to_owned(),
            nodes: (0..nodes).map(name).collect(),
        }
    }

    #[test]
    fn refusals_read_by_operator_with_counts_and_a_few_names() {
        let refusals = [
            refusal("Mul", "two values", 65),
            refusal("Mul", "a constant by position", 1),
            refusal("Gelu", "unknown", 2),
        ];
        assert_eq!(summary(&refusals), "68 nodes of 2 operators: Mul (66), Gelu (2)");
        let text = render(&refusals, Painter::new(false));
        assert!(text.lines().all(|line| line.len() <= LINE), "{text}");
        for part in ["  Mul (66 nodes)", "    two values:", "and 62 more", "  Gelu (2 nodes)"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.matches("features.0/").count(), 3);
    }

    #[test]
    fn what_is_true_of_the_whole_model_stands_in_the_summary() {
        let whole = Refusal { reason: "opset 29".to_owned(), ..Refusal::default() };
        assert_eq!(
            summary(&[whole.clone(), refusal("Gelu", "unknown", 1)]),
            "opset 29; 1 node of 1 operator: Gelu (1)"
        );
        assert_eq!(render(&[whole], Painter::new(false)), "");
    }

    #[test]
    fn many_reasons_are_counted_and_control_characters_do_not_reach_the_terminal() {
        let refusals: Vec<Refusal> =
            (0..9).map(|index| refusal("Add", &format!("shape {index}"), 2)).collect();
        assert!(render(&refusals, Painter::new(false)).contains("10 nodes for 5 further reasons"));
        let odd = Refusal { nodes: vec!["a\u{1b}[2Jb".to_owned()], ..refusal("Add", "odd", 0) };
        assert!(!render(&[odd], Painter::new(false)).contains('\u{1b}'));
    }
}
