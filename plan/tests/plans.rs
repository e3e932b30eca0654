//! The plans of the fixtures as text: what is fused, where codes are re-coded, how wide they are.
//!
//! `DYADIC_WRITE_PLANS=1 cargo test -p dyadic-plan --test plans` writes them anew; the difference is then to be read.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use dyadic_graph::network::{Network, Window};
use dyadic_plan::codebook::{Choice, Family, Objective};
use dyadic_plan::{Act, Coding, Plan, Rules, Settings, Unary, UnitOp, lower};

fn folder(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

fn import(path: &Path) -> Network {
    let model = fs::read(path).expect("a fixture");
    let side = format!("{}.data", path.file_name().expect("a name").to_string_lossy());
    let data = fs::read(path.with_file_name(&side)).unwrap_or_default();
    dyadic_graph::import_bytes(&model, [(side, data.as_slice())]).expect("fixtures are supported")
}

fn window(w: &Window) -> String {
    let [kernel, stride, dilation] = [w.kernel, w.stride, w.dilation].map(|[a, b]| format!("{a}x{b}"));
    format!("{kernel} stride {stride} padding {:?} dilation {dilation}", w.padding)
}

fn act(act: Act) -> String {
    match act {
        Act::None => String::new(),
        Act::Relu => " relu".into(),
        Act::Clip(hi) => format!(" clip {hi}"),
    }
}

fn method(choice: Choice) -> String {
    match (choice.codebook().name(), choice.objective()) {
        ("sign-split", Objective::L2) => "sign-split l2".into(),
        ("sign-split", Objective::Angle) => "sign-split angle".into(),
        ("linear8", _) => "linear 8".into(),
        (name, _) => format!("{name} {}", choice.bits()),
    }
}

fn unit(plan: &Plan, op: &UnitOp) -> String {
    match op {
        UnitOp::Conv { weights, window: w, groups, act: a, logits } => {
            let layer = &plan.weights[*weights];
            let norm = if layer.norm.is_some() { " norm" } else { "" };
            let end = if *logits { " logits".into() } else { act(*a) };
            format!(
                "conv {:?} {} groups {groups}{norm}{end}, {}, {} macs",
                layer.shape,
                window(w),
                method(layer.method),
                layer.macs
            )
        }
        UnitOp::Cast => "cast".into(),
        UnitOp::Add(a) => format!("add{}", act(*a)),
        UnitOp::MaxPool(w) => format!("max pool {}", window(w)),
        UnitOp::AvgPool(w) => format!("average pool {}", window(w)),
        UnitOp::Unary(f) => match f {
            Unary::Relu => "relu".into(),
            Unary::Clip(hi) => format!("clip {hi}"),
            Unary::LeakyRelu(slope) => format!("leaky relu {slope}"),
            Unary::Elu(alpha) => format!("elu {alpha}"),
            Unary::Sigmoid => "sigmoid".into(),
            Unary::HardSigmoid(alpha, beta) => format!("hard sigmoid {alpha} {beta}"),
            Unary::Silu => "silu".into(),
            Unary::HardSwish => "hard swish".into(),
            Unary::Gelu(tanh) => if *tanh { "gelu by tanh" } else { "gelu" }.into(),
            Unary::Tanh => "tanh".into(),
        },
        UnitOp::Concat => "concat".into(),
        UnitOp::Scale { act: a, digits } => format!("scale by {digits} digits{}", act(*a)),
        UnitOp::Select(channels) => format!("select {channels:?}"),
    }
}

fn text(plan: &Plan) -> String {
    let mut out = String::new();
    let softmax = match (plan.softmax, plan.log) {
        (true, true) => " log-softmax",
        (true, false) => " softmax",
        (false, _) => "",
    };
    writeln!(out, "{} -> {}{softmax}", plan.input_name, plan.output_name).expect("text");
    let name = |t: usize| {
        let tensor = &plan.tensors[t];
        let coding = match tensor.coding {
            Coding::Input => "input".to_owned(),
            Coding::Codes { bits, signed, step } => {
                format!("{}{bits} step {step}", if signed { 's' } else { 'u' })
            }
            Coding::Sums => "sums".to_owned(),
        };
        format!("{} {:?} {coding}", tensor.name, tensor.shape)
    };
    for u in &plan.units {
        writeln!(out, "{}: {}", u.name, unit(plan, &u.op)).expect("text");
        for &input in &u.inputs {
            writeln!(out, "  < {}", name(input)).expect("text");
        }
        writeln!(out, "  > {}", name(u.output)).expect("text");
    }
    writeln!(out, "output {}, {} steps", name(plan.output), plan.steps).expect("text");
    out
}

fn check(name: &str, network: &Network, rules: &Rules) {
    let plan = lower(network, rules).unwrap_or_else(|refusals| panic!("{name}: {refusals:?}"));
    let found = text(&plan);
    let path = folder("tests/plans").join(format!("{name}.txt"));
    if std::env::var_os("DYADIC_WRITE_PLANS").is_some() {
        fs::write(&path, &found).expect("a writable folder");
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == kept, "the plan of {name} is not what {} says:\n{found}", path.display());
}

fn rules(family: Family, codebook: &str, bits: u8, strict: bool) -> Rules {
    let weights = Choice::new(family, Some(codebook), bits, None).expect("there is such a codebook");
    Rules::of(&Settings { weights, strict, conv3x3_bits: 6, other_bits: 8 }).expect("widths in range")
}

/// Fixtures without a plan, and why.
const REFUSED: [(&str, &str); 4] = [
    ("odds", "does not count in the divisor"),
    ("segments", "does not count in the divisor"),
    ("smooth", "PReLU"),
    ("enlarged", "no integer form"),
];

#[test]
fn plans_of_the_fixtures_stay_as_they_are() {
    let fixtures = folder("../graph/tests/fixtures");
    let mut names: Vec<PathBuf> = fs::read_dir(&fixtures)
        .expect("the fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .collect();
    names.sort();
    assert!(names.len() > 20);
    for path in names {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let rules = rules(Family::Aptq, "sign-split", 2, false);
        let network = import(&path);
        // An average whose padding does not count has no plan, and a slope for each channel has none.
        match REFUSED.into_iter().find(|(refused, _)| name.starts_with(refused)) {
            Some((_, reason)) => {
                let refusals = lower(&network, &rules).map(|_| ()).expect_err("it has no plan");
                assert!(refusals.iter().any(|r| r.to_string().contains(reason)), "{name}: {refusals:?}");
            }
            None => check(&name, &network, &rules),
        }
    }
}

#[test]
fn the_plan_of_the_example_stays_as_it_is() {
    let network = import(&folder("../examples/models/resnet20-cifar10.onnx"));
    check("example", &network, &rules(Family::Apq, "two-term", 5, false));
    check("example_strict", &network, &rules(Family::Apq, "single-shift", 3, true));
}
