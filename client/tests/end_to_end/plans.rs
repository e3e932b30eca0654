//! A plan as a file: printed, edited, submitted, kept with the run, compared; and runs found by their beginnings and tags.

use std::path::Path;

use serde_json::Value;

use super::stack::{Stack, text};
use super::{assert_code, string};

const MODEL: [&str; 6] = ["--model", "lenet", "--dataset", "digits", "--method", "aptq"];

/// `job` is a finished ternary one.
pub(crate) fn a_plan_file_is_edited_submitted_kept_and_compared(stack: &Stack, job: &str) {
    let printed = text(&stack.ok(&[&["job", "plan"], &MODEL[..], &["--toml"]].concat()).stdout);
    let units = stack.json(&[&["job", "plan"], &MODEL[..]].concat())["units"].clone();
    let ternary = |unit: &&Value| unit["bits"] == 2;
    let layer = string(&units.as_array().expect("units").iter().find(ternary).expect("a layer")["name"]);

    let file = stack.folder.path().join("plan.toml");
    let path = file.to_str().expect("UTF-8");
    let edited = format!("[layers]\n\"{layer}\" = {{ codebook = \"multi-binary\", bits = 6 }}\n\n[outcome]");
    let edited = printed.replace("[outcome]", &edited);
    std::fs::write(&file, &edited).expect("written");
    let with = ["--model", "lenet", "--dataset", "digits", "--plan", path];
    let planned = text(&stack.ok(&[&["job", "plan"], &with[..], &["--toml"]].concat()).stdout);
    let changed: Vec<&str> = planned.lines().filter(|line| !printed.contains(line)).collect();
    assert!(
        changed.iter().any(|line| line.contains("multi-binary 6 l2") && line.contains(&layer)),
        "{changed:?}"
    );
    assert!(changed.len() < 12, "{changed:?}");

    let submit = [&["job", "submit"], &with[..], &["--epochs", "0", "--tag", "by=plan", "--wait"]].concat();
    stack.ok(&submit);
    let run = stack.json(&["runs", "show", "last"]);
    let made = run["layers"].as_array().expect("layers").iter().find(|l| l["layer"] == layer.as_str());
    assert_eq!(made.expect("the layer")["values"]["bits"], 6.0);
    assert_eq!(run["plan"]["toml"], planned.as_str());
    let id = string(&run["job"]["id"]);
    assert_eq!(text(&stack.ok(&["runs", "show", &id, "--plan"]).stdout), planned);
    let shown = text(&stack.ok(&["runs", "show", &id]).stdout);
    assert!(shown.contains("multi-binary 6 l2") && shown.contains("1 rule for layers"), "{shown}");
    assert!(text(&stack.ok(&["job", "list"]).stdout).contains("1 rule"));

    let compared = text(&stack.ok(&["runs", "compare", job, &id]).stdout);
    let line = compared.lines().find(|line| line.starts_with(&layer)).unwrap_or_else(|| panic!("{compared}"));
    assert!(line.contains("sign-split 2 angle, ") && line.contains("multi-binary 6 l2, "), "{line}");

    std::fs::write(
        &file,
        edited.replace("multi-binary", "multi-binarry").replace("version = 1", "version = 3"),
    )
    .expect("written");
    let refused = stack.run(&[&["job", "submit"], &with[..]].concat());
    assert_code(&refused, 6);
    let told = text(&refused.stderr);
    assert!(told.contains("for 2 reasons") && told.contains("line 1, column 11: "), "{told}");
    assert!(told.contains("multi-binary is the nearest"), "{told}");
    assert_code(&stack.run(&[&["job", "plan"], &with[..], &["--bits", "2"]].concat()), 6);
    assert_code(
        &stack.run(&["job", "plan", "--model", "lenet", "--dataset", "digits", "--plan", "/nonexistent"]),
        2,
    );
}

/// The newest run is tagged `by=plan`, `job` is older.
pub(crate) fn runs_are_found_by_their_beginnings_and_tags(stack: &Stack, job: &str) {
    let newest = string(&stack.json(&["job", "show", "last"])["id"]);
    assert_eq!(stack.json(&["job", "show", &job[..35]])["id"], job);
    assert_eq!(stack.json(&["runs", "show", &newest[..35]])["job"]["id"], newest.as_str());
    let several = stack.run(&["job", "show", &job[..2]]);
    assert_code(&several, 2);
    assert!(text(&several.stderr).contains("several jobs"), "{}", text(&several.stderr));
    let nobody = stack.run(&["job", "show", "ffff"]);
    assert_code(&nobody, 3);
    assert!(text(&nobody.stderr).contains("`dyadic job list`"), "{}", text(&nobody.stderr));
    let nothing = stack.run(&["model", "show", "nothing"]);
    assert!(text(&nothing.stderr).contains("`dyadic model list`"), "{}", text(&nothing.stderr));

    let tagged = stack.json(&["runs", "list", "--tag", "by=plan"]);
    let ids: Vec<&Value> = tagged.as_array().expect("runs").iter().map(|run| &run["job"]["id"]).collect();
    assert_eq!(ids, [newest.as_str()]);
    assert!(text(&stack.ok(&["runs", "list"]).stdout).contains("by=plan"));
    assert!(text(&stack.ok(&["job", "list", "--tag", "by=nobody"]).stderr).contains("no such jobs"));

    let file = stack.folder.path().join("e.csv");
    stack.ok(&["runs", "export", job, "--out", file.to_str().expect("UTF-8")]);
    let table = std::fs::read_to_string(Path::new(&file)).expect("written");
    let mut lines = table.lines();
    assert!(lines.next().is_some_and(|headings| headings.starts_with("run,experiment,model,")), "{table}");
    assert!(lines.all(|line| line.starts_with(job)) && table.contains(",accuracy,"), "{table}");

    let limit =
        stack.run(&["job", "submit", "--model", "lenet", "--dataset", "digits", "--train-limit", "-5"]);
    assert_code(&limit, 2);
    assert!(text(&limit.stderr).contains("invalid value '-5'"), "{}", text(&limit.stderr));
}
