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
    Rule { layers: Pattern::new(layers).expect("a pattern"), weights, input_bits, place: None }
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

fn asked(plan: &str) -> Asked<'_> {
    Asked { plan: Some(plan), ..Asked::default() }
}

/// What is wrong with a text, each with its place.
fn mistakes(plan: &str) -> Vec<String> {
    asked(plan).read().mistakes.iter().map(ToString::to_string).collect()
}

#[test]
fn rules_come_back_from_their_text() {
    let rules = rules(vec![
        rule("z*", Some(four()), Some(7)),
        rule("[b-d]\"'\\\\*\n", None, Some(4)),
        rule("a", Some(Choice::linear8()), Some(8)),
        rule("m", Some(Choice::linear8()), None),
    ]);
    let text = rules.to_toml();
    assert!(text.contains("\na = \"skip\"\n") || text.contains("\n\"a\" = \"skip\"\n"), "{text}");
    assert_eq!(asked(&text).rules().expect("as it was written"), rules);
    assert_eq!(asked(&text).rules().expect("as it was written").to_toml(), text);
    let whole = format!("{text}\n[outcome]\nanything = [1, \"two\"]\n");
    assert_eq!(asked(&whole).rules().expect("the outcome is not read"), rules);
}

#[test]
fn every_codebook_at_every_width_by_every_objective_comes_back() {
    for codebook in crate::codebook::all() {
        for bits in codebook.widths() {
            for &objective in codebook.objectives() {
                let choice = Choice::new(codebook.family(), Some(codebook.name()), bits, Some(objective));
                let all = rules(vec![rule("x", Some(choice.expect("it has them")), None)]);
                assert_eq!(asked(&all.to_toml()).rules().expect("its own text"), all);
            }
        }
    }
}

#[test]
fn what_a_rule_leaves_out_follows_from_what_it_says() {
    let text = r#"
        version = 1
        [defaults]
        weights = { codebook = "single-shift", bits = 3, objective = "angle" }
        [layers]
        "features.*.0" = { method = "apq", bits = 4 }
        "bits" = { bits = 4 }
        "wide" = { bits = 7 }
        "method" = { method = "aptq" }
        "codebook" = { codebook = "multi-binary" }
        "objective" = { objective = "l2" }
        "input" = { input_bits = 5 }
        "skip" = "skip"
        "true" = { skip = true }
    "#;
    let rules = asked(text).rules().expect("sound");
    let of = |layer: &str| rules.weights(layer, Role::Middle).to_string();
    assert_eq!(of("features.3.0"), "two-term 4 l2");
    assert_eq!(of("bits"), "single-shift 4 angle");
    assert_eq!(of("wide"), "multi-binary 7 l2");
    assert_eq!(of("method"), "sign-split 2 angle");
    assert_eq!(of("codebook"), "multi-binary 3 l2");
    assert_eq!(of("objective"), "single-shift 3 l2");
    assert_eq!((of("input"), rules.input_bits("input")), ("single-shift 3 angle".into(), Some(5)));
    for layer in ["skip", "true"] {
        assert_eq!((of(layer), rules.input_bits(layer)), ("linear8 8 l2".into(), Some(8)));
    }
    assert_eq!(rules.defaults.first, Choice::linear8());
    assert_eq!((rules.defaults.conv3x3_bits, rules.defaults.other_bits), (6, 8));
    // The order of the text decides, not that of the alphabet.
    let two = "version = 1\n[layers]\n\"b*\" = { bits = 2 }\n\"*a\" = { method = \"apq\", bits = 3 }\n";
    assert_eq!(asked(two).rules().expect("sound").weights("ba", Role::Middle).bits(), 3);
}

#[test]
fn a_last_layer_is_fitted_by_distance_whoever_says_its_codebook() {
    let ternary = rules(vec![rule("*", Some(ternary()), None)]);
    assert_eq!(ternary.weights("fc", Role::Last).objective(), Objective::L2);
    assert_eq!(ternary.weights("fc", Role::First).objective(), Objective::Angle);
}

#[test]
fn all_mistakes_of_a_text_are_told_at_once_with_their_places() {
    let text = r#"version = 1
epochs = 3
[defaults]
weights = { codebok = "two-term", bits = 4 }
first = { codebook = "two-trem" }
last = 8
conv3x3_bits = 9
[layers]
"[a" = { bits = 4 }
"b" = { codebook = "two-term", bits = 3 }
"c" = { method = "aptq", codebook = "unary" }
"d" = { skip = true, bits = 4 }
"e" = { input_bits = 1 }
"f" = { }
"g" = "linear8"
"h" = { method = "aptq", codebook = "linear8" }
"i" = { bits = "4" }
"#;
    let found = mistakes(text);
    for wanted in [
        "line 2, column 1: a plan has no \"epochs\"; there are version, network, defaults, layers, outcome",
        "line 4, column 13: defaults.weights has no \"codebok\"; there are method, codebook, bits, objective, and codebook is the nearest",
        "line 5, column 22: \"two-trem\" is not a codebook; there are sign-split, additive, two-term, single-shift, multi-binary, linear8, and two-term is the nearest",
        "line 6, column 8: defaults.last is not a table, as in { bits = 4 }",
        "line 7, column 16: conv3x3_bits: 9 is not in 4 to 8",
        "line 9, column 1: pattern \"[a\": ",
        "line 10, column 39: 3 is not a width of two-term, which has 4, 5",
        "line 11, column 37: \"unary\" is not a codebook",
        "line 12, column 7: `skip` says all",
        "line 13, column 22: input_bits: 1 is not in 2 to 8",
        "line 14, column 7: a layer's rule says nothing",
        "line 15, column 7: \"linear8\" is neither a table, as in { bits = 4 }, nor \"skip\"",
        "line 16, column 37: \"linear8\" is not a codebook of aptq, which has sign-split, additive",
        "line 17, column 16: bits: \"4\" is not in 2 to 8",
    ] {
        assert!(found.iter().any(|mistake| mistake.starts_with(wanted)), "{wanted}\nin {found:#?}");
    }
    assert_eq!(found.len(), 14, "{found:#?}");
    // What is right is kept, so that the patterns can be looked at.
    let rules = asked(text).read().rules;
    assert_eq!(rules.rules().len(), 8);
}

#[test]
fn texts_that_are_no_plans_are_refused_in_words() {
    let good = rules(vec![]).to_toml();
    assert_eq!(mistakes(&good), [""; 0]);
    for (text, expected) in [
        (good.replace("version = 1", "version = 2"), "another version"),
        (good.replace("version = 1", ""), "no `version = 1`"),
        (format!("{good}[[rule]]\nlayers = \"a\"\n"), "no \"rule\""),
        (format!("{good}{}", "#".repeat(text::MAX_TEXT)), "are allowed"),
        (
            format!("{good}[layers]\n\"a\" = {{ bits = 4 }}\n\"a\" = {{ bits = 5 }}\n"),
            "line 11, column 1: duplicate key",
        ),
        (format!("{good}[layers]\nfeatures.0 = {{ bits = 4 }}\n"), "stands in quotes"),
        (format!("{good}other = \n"), "line 9, column "),
        (String::from("\0"), "line 1, column 1"),
        (String::new(), "version"),
        ("[".repeat(100_000), "line 1"),
        (format!("version = 1\nlayers = {}", "{ a = ".repeat(1000)), "line 2"),
    ] {
        let found = mistakes(&text).join("\n");
        assert!(found.contains(expected), "{expected:?}: {found}");
    }
    let many = (0..=MAX_RULES).map(|i| format!("\"{i}\" = \"skip\"\n")).collect::<Vec<_>>().concat();
    let found = mistakes(&format!("{good}[layers]\n{many}"));
    assert_eq!(found, ["line 1010, column 1: 1001 rules are given; 1000 are allowed"]);
    let wrong = (0..500).map(|i| format!("\"{i}\" = 1\n")).collect::<Vec<_>>().concat();
    assert_eq!(mistakes(&format!("{good}[layers]\n{wrong}")).len(), 100);
}

#[test]
fn settings_beside_a_text_fill_in_what_it_leaves_out_and_may_not_contradict_it() {
    let only_layers = "version = 1\n[layers]\n\"a\" = \"skip\"\n";
    let asked = Asked {
        method: Some(Family::Apq),
        bits: Some(5),
        strict: true,
        other_bits: Some(7),
        ..asked(only_layers)
    };
    let filled = asked.rules().expect("sound");
    assert_eq!(filled.defaults.weights.to_string(), "two-term 5 l2");
    assert_eq!((filled.defaults.first.bits(), filled.defaults.other_bits), (5, 7));

    let text = rules(vec![]).to_toml();
    let contrary = Asked {
        method: Some(Family::Apq),
        codebook: Some("two-term"),
        bits: Some(4),
        objective: Some(Objective::L2),
        strict: true,
        conv3x3_bits: Some(7),
        other_bits: Some(9),
        plan: Some(&text),
    };
    let found = contrary.read().mistakes;
    let fields: Vec<_> = found.iter().map(|mistake| mistake.field).collect();
    let wanted = [
        "activation_bits.other",
        "method",
        "codebook",
        "bits",
        "objective",
        "strict",
        "strict",
        "activation_bits.conv3x3",
    ];
    assert_eq!(fields, wanted, "{found:#?}");
    assert!(
        found[3].to_string().contains("line 4, column 11: the plan says sign-split 2 angle here; bits 4"),
        "{found:#?}"
    );
}

#[test]
fn settings_that_were_filled_in_from_a_text_agree_with_it() {
    let text = "version = 1\n[defaults]\nweights = { codebook = \"additive\" }\nlast = { bits = 5 }\n\
                [layers]\n\"a\" = { bits = 3 }\n";
    let first = asked(text).rules().expect("sound");
    let Defaults { weights, conv3x3_bits, other_bits, .. } = first.defaults;
    let canonical = first.to_toml();
    let again = Asked {
        method: Some(weights.codebook().family()),
        codebook: Some(weights.codebook().name()),
        bits: Some(weights.bits().into()),
        objective: Some(weights.objective()),
        strict: first.is_strict(),
        conv3x3_bits: Some(conv3x3_bits.into()),
        other_bits: Some(other_bits.into()),
        plan: Some(&canonical),
    };
    assert_eq!(again.rules().expect("they agree"), first);
    assert!(!first.is_plain() && rules(vec![]).is_plain());
}

#[test]
fn too_many_rules_are_refused() {
    let twice = vec![rule("a", None, None), rule("b", None, None), rule("a", None, None)];
    assert_eq!(Rules::new(rules(vec![]).defaults, twice), Err(RuleError::Twice("a".into())));
    let many = vec![rule("*", None, None); MAX_RULES + 1];
    assert_eq!(Rules::new(rules(vec![]).defaults, many), Err(RuleError::Count(MAX_RULES + 1)));
    assert!(Pattern::new(&"a".repeat(MAX_PATTERN + 1)).is_err());
}

#[test]
fn no_text_makes_the_reader_panic_and_every_mistake_lies_in_the_text() {
    let good = rules(vec![rule("a*", Some(four()), Some(7)), rule("b", Some(Choice::linear8()), Some(8))]);
    let good: Vec<char> = good.to_toml().chars().collect();
    let alphabet: Vec<char> = "[]{}\"'=,.*\\\n #é0189abits".chars().collect();
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..3000 {
        let mut text = good.clone();
        for _ in 0..=random(4) {
            let at = random(text.len());
            match random(3) {
                0 => text[at] = alphabet[random(alphabet.len())],
                1 => text.insert(at, alphabet[random(alphabet.len())]),
                _ => drop(text.remove(at)),
            }
        }
        let text: String = text.into_iter().collect();
        let Read { rules, mistakes } = asked(&text).read();
        let lines = text.split('\n').count();
        let lies =
            |m: &Mistake| m.place.is_some_and(|place| (1..=lines).contains(&place.line) && place.column >= 1);
        assert!(mistakes.iter().all(lies), "{mistakes:?}\n{text}");
        if mistakes.is_empty() {
            assert_eq!(asked(&rules.to_toml()).rules().as_ref(), Ok(&rules), "{text}");
        }
    }
}
