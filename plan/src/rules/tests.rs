use super::*;
use crate::codebook::Family;

fn choice(family: Family, name: &str, bits: u8) -> Choice {
    Choice::new(family, Some(name), bits, None).expect("there is such a codebook")
}

fn ternary() -> Choice {
    choice(Family::Aptq, "sign-split", 2)
}

fn four() -> Choice {
    choice(Family::Apq, "two-term", 4)
}

fn rules(rules: Vec<Rule>) -> Rules {
    let defaults = Rules::of(&Settings { weights: ternary(), strict: false, conv3x3_bits: 6, other_bits: 8 });
    Rules::new(defaults.expect("in range").defaults, rules).expect("in range")
}

fn rule(layers: &str, weights: Option<Choice>, input_bits: Option<u8>) -> Rule {
    Rule { layers: Pattern::new(layers).expect("a pattern"), weights, input_bits }
}

#[test]
fn the_first_and_the_last_layer_have_8_bits_unless_the_job_is_strict() {
    let of = |strict| Rules::of(&Settings { weights: ternary(), strict, conv3x3_bits: 6, other_bits: 8 });
    let (lax, strict) = (of(false).expect("in range"), of(true).expect("in range"));
    for role in [Role::First, Role::Last] {
        assert_eq!(lax.weights("x", role), Choice::linear8());
        assert_eq!(strict.weights("x", role).codebook().name(), "sign-split");
    }
    assert_eq!(lax.weights("x", Role::Middle), ternary());
    assert_eq!(strict.weights("x", Role::Last).objective(), Objective::L2);
}

#[test]
fn the_last_rule_that_says_something_wins() {
    let eight = Choice::linear8();
    let rules = rules(vec![
        rule("*", Some(eight), None),
        rule("/layer?/*", Some(four()), Some(8)),
        rule("/layer2/{conv1,conv2}", None, Some(5)),
    ]);
    assert_eq!(rules.weights("/conv1", Role::Middle), eight);
    assert_eq!(rules.weights("/layer1/0/conv1", Role::Middle), four());
    assert_eq!(rules.input_bits("/conv1"), None);
    assert_eq!(rules.input_bits("/layer1/0/conv1"), Some(8));
    // It says nothing of the weights: an earlier one does.
    assert_eq!(rules.weights("/layer2/conv2", Role::First), four());
    assert_eq!(rules.input_bits("/layer2/conv2"), Some(5));
    assert_eq!(rules.input_bits("/layer2/conv3"), Some(8));
}

#[test]
fn rules_come_back_from_their_text() {
    let rules = rules(vec![rule("a*", Some(four()), Some(7)), rule("[b-d]\"'\\\\*", None, Some(4))]);
    let text = toml::to_string(&rules.to_text()).expect("text and numbers");
    let whole = format!("version = 1\nnetwork = \"n\"\n{text}\n[[layer]]\nname = \"a\"\nshare = 0.5\n");
    assert_eq!(Rules::from_toml(&whole).expect("as it was written"), rules);
}

#[test]
fn a_text_that_is_wrong_says_where() {
    let with = |defaults: &str, rest: &str| {
        format!(
            "version = 1\n{rest}\n[defaults]\nweights = \"two-term 4\"\nfirst = \"linear8 8\"\nlast = \"linear8 8\"\n{defaults}"
        )
    };
    let good = "conv3x3_bits = 6\nother_bits = 8\n";
    assert!(Rules::from_toml(&with(good, "")).is_ok());
    for (text, expected) in [
        (with(good, "").replace("version = 1", "version = 2"), "version 2"),
        (with(good, "").replace("two-term 4", "two-term 9"), "9"),
        (with(good, "").replace("two-term 4", "three-term 4"), "three-term 4"),
        (with(good, "").replace("two-term 4", "two-term 4 l2 more"), "more"),
        (with(good, "").replace("two-term 4", "two-term 4 cosine"), "cosine"),
        (with("conv3x3_bits = 6\nother_bits = 9\n", ""), "9 bits"),
        (with("conv3x3_bits = 6\n", ""), "other_bits"),
        (with(good, "epochs = 3"), "epochs"),
        (format!("{}[[rule]]\nlayers = \"[a\"\n", with(good, "")), "[a"),
        (format!("{}[[rule]]\nlayers = \"\"\n", with(good, "")), "bytes long"),
        (format!("{}[[rule]]\nlayers = \"a\"\nbits = 3\n", with(good, "")), "bits"),
        (with(good, &"#".repeat(text::MAX_TEXT)), "bytes"),
        (String::from("\0"), "text"),
    ] {
        let error = Rules::from_toml(&text).expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected:?}: {error}");
    }
}

#[test]
fn too_many_rules_are_refused() {
    let many = vec![rule("*", None, None); MAX_RULES + 1];
    assert_eq!(Rules::new(rules(vec![]).defaults, many), Err(RuleError::Count(MAX_RULES + 1)));
    assert!(Pattern::new(&"a".repeat(MAX_PATTERN + 1)).is_err());
}
