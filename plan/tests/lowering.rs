//! What lowering makes of networks that the fixtures do not have, and what it refuses.

use dyadic_engine::check::MAX_DIM;
use dyadic_graph::network::{BatchNorm, Conv, Layer, Linear, Network, Op, Tensor, Value, ValueId, Window};
use dyadic_plan::codebook::{Choice, Family};
use dyadic_plan::{
    Asked, Coding, Pattern, Plan, Refusal, Resolved, Role, Rule, Rules, Settings, TensorPlan, Unit, UnitOp,
    lower,
};

/// A network that grows layer by layer, shapes inferred.
struct Builder(Network);

impl Builder {
    fn new(shape: &[usize]) -> Self {
        let input = Value { name: "input".into(), shape: shape.to_vec() };
        let (input_id, output) = (ValueId(0), ValueId(0));
        Builder(Network { name: "net".into(), values: vec![input], layers: vec![], input: input_id, output })
    }

    fn add(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        let shapes: Vec<&[usize]> = inputs.iter().map(|v| self.0.values[v.0].shape.as_slice()).collect();
        let shape = op.output_shape(&shapes).expect(name);
        self.0.values.push(Value { name: format!("{name}.out"), shape });
        let output = ValueId(self.0.values.len() - 1);
        self.0.layers.push(Layer { name: name.into(), op, inputs: inputs.to_vec(), output });
        self.0.output = output;
        output
    }

    fn channels(&self, value: ValueId) -> usize {
        self.0.values[value.0].shape[0]
    }

    fn conv(&mut self, name: &str, input: ValueId, filters: usize, kernel: usize) -> ValueId {
        let channels = self.channels(input);
        let shape = vec![filters, channels, kernel, kernel];
        let data = weights(shape.iter().product());
        let padding = [kernel / 2; 4];
        let window = Window { kernel: [kernel; 2], stride: [1; 2], padding, dilation: [1; 2] };
        let conv = Conv { window, groups: 1, weight: Tensor { shape, data }, bias: None };
        self.add(name, Op::Conv(conv), &[input])
    }

    fn linear(&mut self, name: &str, input: ValueId, outputs: usize) -> ValueId {
        let inputs = self.channels(input);
        let weight = Tensor { shape: vec![outputs, inputs], data: weights(outputs * inputs) };
        self.add(name, Op::Linear(Linear { weight, bias: None }), &[input])
    }

    fn norm(&mut self, name: &str, input: ValueId) -> ValueId {
        let of = |value: f32| vec![value; self.channels(input)];
        let (scale, shift, mean, variance) = (of(1.5), of(0.1), of(0.2), of(0.7));
        self.add(name, Op::BatchNorm(BatchNorm { scale, shift, mean, variance, epsilon: 1e-5 }), &[input])
    }

    fn relu(&mut self, name: &str, input: ValueId) -> ValueId {
        self.add(name, Op::Relu, &[input])
    }

    /// Pooled, flattened, classified.
    fn head(&mut self, input: ValueId) -> Network {
        let pooled = self.add("pool", Op::GlobalAvgPool, &[input]);
        let flat = self.add("flatten", Op::Flatten, &[pooled]);
        self.linear("fc", flat, 10);
        self.0.clone()
    }
}

/// Some weights, none like the next.
fn weights(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn window(kernel: usize, stride: usize, padding: usize, dilation: usize) -> Window {
    Window { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 4], dilation: [dilation; 2] }
}

fn rules() -> Rules {
    rules_of(Choice::new(Family::Aptq, None, 2, None).expect("the default"), 6, 8)
}

fn rules_of(weights: Choice, conv3x3_bits: u8, other_bits: u8) -> Rules {
    Rules::of(&Settings { weights, strict: false, conv3x3_bits, other_bits }).expect("in range")
}

fn planned(network: &Network) -> Plan {
    lower(network, &rules()).unwrap_or_else(|refusals| panic!("{refusals:?}"))
}

fn refused(network: &Network) -> Vec<Refusal> {
    match lower(network, &rules()) {
        Ok(plan) => panic!("{} has a plan of {} units", plan.name, plan.units.len()),
        Err(refusals) => refusals,
    }
}

fn unit<'a>(plan: &'a Plan, name: &str) -> &'a Unit {
    plan.units.iter().find(|unit| unit.name == name).unwrap_or_else(|| panic!("no unit {name}"))
}

fn written<'a>(plan: &'a Plan, name: &str) -> &'a TensorPlan {
    &plan.tensors[unit(plan, name).output]
}

fn casts(plan: &Plan) -> Vec<&Unit> {
    plan.units.iter().filter(|unit| unit.op == UnitOp::Cast).collect()
}

fn step(coding: Coding) -> Option<usize> {
    match coding {
        Coding::Codes { step, .. } => Some(step),
        _ => None,
    }
}

/// Every unit writes what no other writes, after what it reads; every step is some tensor's.
fn check(plan: &Plan) {
    let mut done = vec![false; plan.tensors.len()];
    done[0] = true;
    for unit in &plan.units {
        assert!(unit.inputs.iter().all(|&input| done[input]), "{} reads too early", unit.name);
        assert!(!std::mem::replace(&mut done[unit.output], true), "{} writes again", unit.name);
        let coding = |tensor: usize| plan.tensors[tensor].coding;
        if matches!(unit.op, UnitOp::Concat | UnitOp::MaxPool(_)) {
            assert!(unit.inputs.iter().all(|&input| coding(input) == coding(unit.output)), "{}", unit.name);
        }
    }
    assert!(done.iter().all(|&done| done));
    let mut steps: Vec<usize> = plan.tensors.iter().filter_map(|tensor| step(tensor.coding)).collect();
    steps.sort_unstable();
    steps.dedup();
    assert_eq!(steps, (0..plan.steps).collect::<Vec<_>>());
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let mut b = Builder::new(&[3, 12, 12]);
    let x = b.conv("conv1", ValueId(0), 4, 3);
    let x = b.add("softmax-like clip", Op::Clip { lo: -0.5, hi: 0.75 }, &[x]);
    let pool = |window, count_include_pad| Op::AvgPool { window, count_include_pad };
    let y = b.add("uneven", pool(window(3, 1, 1, 1), false), &[x]);
    let z = b.add("dilated", pool(window(2, 1, 1, 2), true), &[x]);
    let x = b.add("sum", Op::Add, &[y, z]);
    let flat = b.add("flatten", Op::Flatten, &[x]);
    b.relu("relu", flat);
    let names: Vec<String> = refused(&b.0).into_iter().map(|refusal| refusal.layer).collect();
    assert_eq!(names, ["softmax-like clip", "uneven", "dilated", "flatten"]);
}

#[test]
fn an_average_pool_with_a_dilation_is_refused_by_name() {
    let mut b = Builder::new(&[3, 12, 12]);
    let x = b.conv("conv1", ValueId(0), 4, 3);
    let op = Op::AvgPool { window: window(2, 1, 0, 2), count_include_pad: true };
    let x = b.add("wide", op, &[x]);
    let [refusal] = &refused(&b.head(x))[..] else { panic!("one reason") };
    assert_eq!(
        (refusal.layer.as_str(), refusal.reason.as_str()),
        ("wide", "an average pool with a dilation")
    );
}

#[test]
fn a_pool_whose_window_lies_in_the_padding_is_refused() {
    let mut b = Builder::new(&[3, 12, 12]);
    let x = b.conv("conv1", ValueId(0), 4, 3);
    let x = b.add("max", Op::MaxPool(window(2, 2, 2, 1)), &[x]);
    let refusals = refused(&b.head(x));
    assert!(refusals[0].layer == "max" && refusals[0].reason.contains("padding"), "{refusals:?}");
}

#[test]
fn clips_that_no_table_can_be_are_refused() {
    for (lo, hi) in [(0.0, -1.0), (0.0, 0.0), (-1.0, 1.0), (0.0, f32::NAN), (f32::NEG_INFINITY, 1.0)] {
        let mut b = Builder::new(&[3, 12, 12]);
        let x = b.conv("conv1", ValueId(0), 4, 3);
        let x = b.add("clip", Op::Clip { lo, hi }, &[x]);
        let refusals = refused(&b.head(x));
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        assert!(refusals[0].layer == "clip" && refusals[0].reason.contains("clip"), "{refusals:?}");
    }
}

/// Its step is any number, and residual operands and additions shift: it needs a power of two first.
#[test]
fn the_networks_input_is_cast_where_steps_must_be_powers_of_two() {
    let mut b = Builder::new(&[3, 12, 12]);
    let input = ValueId(0);
    let x = b.conv("conv1", input, 3, 3);
    let x = b.add("residual", Op::Add, &[x, input]);
    let x = b.relu("relu", x);
    let sum = b.add("sum", Op::Add, &[x, input]);
    let pooled = b.add("max", Op::MaxPool(window(3, 1, 1, 1)), &[input]);
    let x = b.add("concat", Op::Concat, &[sum, pooled]);
    let plan = planned(&b.head(x));
    check(&plan);
    for unit in &plan.units {
        let residual_or_add = match unit.op {
            UnitOp::Conv { .. } => &unit.inputs[1..],
            UnitOp::Cast => &[],
            _ => &unit.inputs[..],
        };
        assert!(!residual_or_add.contains(&0), "{} reads the input's free step", unit.name);
    }
    // One cast serves both additions; the concatenation's class is another.
    let of_input: Vec<_> = casts(&plan).into_iter().filter(|cast| cast.inputs == [0]).collect();
    assert_eq!(of_input.len(), 2, "{of_input:?}");
    assert_eq!(unit(&plan, "conv1").inputs[1], unit(&plan, "sum").inputs[1]);
}

#[test]
fn a_network_of_one_layer_casts_its_input() {
    let mut b = Builder::new(&[20]);
    b.linear("fc", ValueId(0), 10);
    let plan = planned(&b.0);
    check(&plan);
    assert_eq!(plan.units.len(), 2);
    assert_eq!(plan.tensors[plan.output].coding, Coding::Sums);
    assert_eq!(step(plan.tensors[unit(&plan, "fc").inputs[0]].coding), Some(0));
}

/// Layer `index` of a dense block reads all that came before it.
fn dense_layer(b: &mut Builder, index: usize, features: &[ValueId]) -> ValueId {
    let name = |part: &str| format!("{part}{index}");
    let x = match features {
        [one] => *one,
        all => b.add(&name("concat"), Op::Concat, all),
    };
    let x = b.norm(&name("norm"), x);
    let x = b.relu(&name("relu"), x);
    b.conv(&name("conv"), x, 4, 3)
}

#[test]
fn a_dense_block_is_one_class_of_steps() {
    let mut b = Builder::new(&[3, 12, 12]);
    let x = b.conv("stem", ValueId(0), 8, 3);
    let x = b.relu("stem relu", x);
    let mut features = vec![b.add("stem pool", Op::MaxPool(window(2, 2, 0, 1)), &[x])];
    for index in 0..12 {
        features.push(dense_layer(&mut b, index, &features.clone()));
    }
    let x = b.add("concat", Op::Concat, &features);
    let x = b.norm("norm", x);
    let x = b.relu("relu", x);
    let plan = planned(&b.head(x));
    check(&plan);
    let classes: Vec<_> = (0..12).map(|i| written(&plan, &format!("conv{i}")).coding).collect();
    assert!(classes.iter().all(|coding| *coding == classes[0]), "{classes:?}");
    assert_eq!(written(&plan, "concat").coding, classes[0]);
    // The stem cannot be negative, the other features can: that is the one conflict.
    assert_eq!(casts(&plan).len(), 1, "{:?}", casts(&plan));
}

#[test]
fn branches_write_the_step_of_their_concatenation() {
    let mut b = Builder::new(&[3, 12, 12]);
    let x = b.conv("stem", ValueId(0), 8, 1);
    let x = b.relu("stem relu", x);
    let branch = |b: &mut Builder, name: &str, kernel| {
        let y = b.conv(name, x, 4, kernel);
        b.relu(&format!("{name} relu"), y)
    };
    let (one, three) = (branch(&mut b, "one", 1), branch(&mut b, "three", 3));
    let joined = b.add("concat", Op::Concat, &[one, three]);
    let last = b.conv("last", joined, 4, 1);
    let last = b.relu("last relu", last);
    let plan = planned(&b.head(last));
    check(&plan);
    let classes = ["one", "three", "concat"].map(|name| written(&plan, name).coding);
    assert_eq!(classes[0], classes[2]);
    assert_eq!(classes[1], classes[2]);
    // Only the 3×3 branch reads its codes re-coded.
    assert_eq!(casts(&plan).len(), 1);
}

#[test]
fn an_operand_of_another_width_is_recoded_alone() {
    let mut b = Builder::new(&[3, 12, 12]);
    let x = b.conv("stem", ValueId(0), 4, 1);
    let wide = b.relu("stem relu", x);
    let y = b.conv("branch", wide, 4, 1);
    let narrow = b.relu("branch relu", y);
    // A 3×3 convolution reads the concatenation in 6 bits, a 1×1 convolution the first operand in 8.
    let joined = b.add("concat", Op::Concat, &[wide, narrow]);
    let x = b.conv("last", joined, 4, 3);
    let plan = planned(&b.head(x));
    check(&plan);
    assert_eq!(written(&plan, "stem").coding.name(), "u8");
    assert_eq!(written(&plan, "branch").coding, written(&plan, "concat").coding);
    assert_eq!(written(&plan, "branch").coding.name(), "u6");
    assert_eq!(casts(&plan).len(), 1);
}

/// The levels that fit the weights as they are decide where the largest level everywhere would be too much.
#[test]
fn sums_past_32_bits_are_refused_before_anything_is_trained() {
    let mut b = Builder::new(&[16, 128, 128]);
    let x = b.conv("conv1", ValueId(0), 1, 1);
    let x = b.relu("relu", x);
    let flat = b.add("flatten", Op::Flatten, &[x]);
    b.linear("fc", flat, 2);
    // Weights all alike take the largest level everywhere: 16,384 · 255 · 127 fit.
    let flat_weights = |network: &mut Network, count: usize| {
        if let Op::Linear(linear) = &mut network.layers[3].op {
            linear.weight.data = vec![127.0 / 128.0; count];
        }
    };
    flat_weights(&mut b.0, 2 * 16_384);
    planned(&b.0);

    let mut b = Builder::new(&[1, 300, 300]);
    let x = b.conv("conv1", ValueId(0), 1, 1);
    let x = b.relu("relu", x);
    let flat = b.add("flatten", Op::Flatten, &[x]);
    b.linear("fc", flat, 2);
    // As they are, most weights have small levels: nothing is refused that can be done.
    planned(&b.0);
    flat_weights(&mut b.0, 2 * 90_000);
    let [refusal] = &refused(&b.0)[..] else { panic!("one reason") };
    assert!(refusal.layer == "fc" && refusal.reason.contains("2^31"), "{refusal}");
}

#[test]
fn what_the_engine_cannot_hold_is_refused() {
    let mut b = Builder::new(&[1, 1, 8]);
    b.conv("conv1", ValueId(0), MAX_DIM as usize + 1, 1);
    let refusals = refused(&b.0);
    assert!(
        refusals.iter().any(|r| r.layer == "conv1" && r.reason.contains(&MAX_DIM.to_string())),
        "{refusals:?}"
    );
}

#[test]
fn values_of_other_ranks_are_refused_by_the_layer_that_writes_them() {
    let mut b = Builder::new(&[3, 12, 12]);
    let x = b.conv("conv1", ValueId(0), 4, 3);
    let mut network = b.head(x);
    network.values[0].shape = vec![1, 3, 12, 12];
    let refusals = refused(&network);
    assert!(!refusals.is_empty());
}

#[test]
fn pooled_logits_have_16_bits_and_their_convolution_is_the_last_layer() {
    let mut b = Builder::new(&[3, 12, 12]);
    let x = b.conv("conv1", ValueId(0), 4, 3);
    let x = b.relu("relu1", x);
    let x = b.conv("conv2", x, 10, 1);
    let x = b.relu("relu2", x);
    let x = b.add("pool", Op::GlobalAvgPool, &[x]);
    b.add("flatten", Op::Flatten, &[x]);
    let plan = planned(&b.0);
    check(&plan);
    assert_eq!(plan.tensors[plan.output].coding.name(), "s16");
    let roles: Vec<_> = plan.weights.iter().map(|weights| weights.role).collect();
    assert_eq!(roles, [Role::First, Role::Last]);
    assert_eq!(plan.weights[1].method, Choice::linear8());
}

#[test]
fn logits_may_be_a_flattened_convolution() {
    let mut b = Builder::new(&[3, 12, 12]);
    let x = b.conv("conv1", ValueId(0), 4, 3);
    let x = b.add("pool", Op::GlobalAvgPool, &[x]);
    let x = b.conv("conv2", x, 10, 1);
    b.add("flatten", Op::Flatten, &[x]);
    let plan = planned(&b.0);
    check(&plan);
    assert_eq!(plan.tensors[plan.output].coding, Coding::Sums);
}

#[test]
fn rules_change_the_layers_that_they_name() {
    let mut b = Builder::new(&[3, 12, 12]);
    let x = b.conv("a/conv1", ValueId(0), 4, 3);
    let x = b.relu("a/relu", x);
    let x = b.conv("b/conv2", x, 4, 3);
    let x = b.relu("b/relu", x);
    let network = b.head(x);
    let four = Choice::new(Family::Apq, Some("two-term"), 4, None).expect("it exists");
    let rule = |layers: &str, weights, input_bits| Rule {
        layers: Pattern::new(layers).expect("a pattern"),
        weights,
        input_bits,
        place: None,
    };
    let with = |all| Rules::new(rules().defaults, all).expect("in range");
    let plan = lower(&network, &with(vec![rule("b/*", Some(four), Some(5))])).expect("a plan");
    assert_eq!(plan.weights[1].method, four);
    assert_eq!(plan.weights[0].method, Choice::linear8());
    assert_eq!(written(&plan, "a/conv1").coding.name(), "u5");
    let rows = plan.rows();
    assert_eq!(
        (rows[1].weights.as_deref(), &rows[1].reads[..]),
        (Some("two-term 4 l2"), &["u5".to_owned()][..])
    );

    let refusals = lower(&network, &with(vec![rule("c/*", None, Some(5))])).expect_err("a slip");
    assert!(refusals[0].layer == "c/*" && refusals[0].reason.contains("no layer"), "{refusals:?}");
}

#[test]
fn a_plans_text_is_stable_and_its_rules_come_back() {
    let mut b = Builder::new(&[3, 12, 12]);
    let x = b.conv("conv \"1\"", ValueId(0), 4, 3);
    let x = b.relu("relu", x);
    let x = b.conv("conv2", x, 4, 3);
    let network = b.head(x);
    let plan = planned(&network);
    let text = plan.to_toml();
    assert_eq!(text, planned(&network).to_toml());
    let asked = Asked { plan: Some(&text), ..Asked::default() };
    assert_eq!(asked.rules().expect("its own text"), rules());
    let outcome = Resolved::from_toml(&text).expect("its own text");
    assert_eq!((outcome.total, outcome.layers), (plan.total(), plan.rows()));
    let read: toml::Table = text.parse().expect("TOML");
    let read = &read["outcome"];
    let layers = read["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), plan.units.len());
    assert_eq!(layers[0]["name"].as_str(), Some("conv \"1\""));
    let sum = |field: &str| layers.iter().filter_map(|layer| layer[field].as_integer()).sum::<i64>();
    for field in ["bytes", "macs", "shift_adds"] {
        assert_eq!(read["total"][field].as_integer(), Some(sum(field)), "{field}");
    }
    let share: f64 = layers.iter().filter_map(|layer| layer["share"].as_float()).sum();
    assert!((share - 1.0).abs() < 1e-3, "{share}");
}

#[test]
fn broken_networks_are_refused_and_nothing_panics() {
    let mut b = Builder::new(&[3, 12, 12]);
    let x = b.conv("conv1", ValueId(0), 4, 3);
    let good = b.head(x);
    let mut early = good.clone();
    early.layers.swap(0, 1);
    let mut far = good.clone();
    far.layers[0].inputs = vec![ValueId(99)];
    let mut nothing = good.clone();
    nothing.layers.clear();
    nothing.output = nothing.input;
    for broken in [early, far, nothing] {
        assert!(!refused(&broken).is_empty());
    }
}

#[test]
fn a_network_with_more_codes_than_its_proof_can_cover_is_refused_by_the_name_of_its_largest_layer() {
    // 2^28 a sample with four golden inputs: 256 channels of 1024 × 1024, twice, would be 2^29.
    let network = |side: usize, channels: usize| {
        let mut b = Builder::new(&[1, side, side]);
        let x = b.conv("small", ValueId(0), 1, 1);
        let x = b.relu("relu", x);
        let mut x = b.conv("wide", x, channels, 1);
        for layer in ["second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"] {
            x = b.relu(&format!("{layer}/relu"), x);
            x = b.conv(layer, x, channels, 1);
        }
        let x = b.relu("end", x);
        b.head(x)
    };
    // Nine layers of 2^26 codes: past 2^29, which two golden inputs have room for.
    let refusals = refused(&network(2048, 16));
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    let Refusal { layer, reason, .. } = &refusals[0];
    assert!(layer != "small" && reason.contains("536870912") && reason.contains("67108864"), "{refusals:?}");
    // The same in a quarter of the area.
    planned(&network(1024, 16));
}
