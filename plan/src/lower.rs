//! From the float network's layers to quantized units: fusing, widths, casts.

use std::collections::HashMap;

use dyadic_graph::network::{Layer, Network, Op, ValueId, Window};

use crate::codebook::Choice;
use crate::plan::{Act, Coding, Plan, TensorPlan, Unary, Unit, UnitOp, WeightPlan};
use crate::refusal::Refusal;

/// Choices that shape the plan.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How filters are quantized.
    pub method: Choice,
    /// How the last layer is quantized if `strict` (no normalization follows it that could absorb a scale).
    pub last_method: Choice,
    /// Whether the first and the last layer are quantized like the rest, not to 8 bits.
    pub strict: bool,
    /// Width of tensors that only stride-1 3×3 convolutions read.
    pub conv3x3_bits: u8,
    /// Width of every other tensor.
    pub other_bits: u8,
}

/// A chain of layers that becomes one unit; `last` is the index of its last layer.
struct Chain {
    first: usize,
    last: usize,
    norm: Option<usize>,
    residual: Option<ValueId>,
    act: Act,
    output: ValueId,
}

/// Lowers `network`.
///
/// # Errors
/// [`Refusal`], naming the first layer that cannot be quantized.
pub fn lower(network: &Network, options: &Options) -> Result<Plan, Refusal> {
    let mut lowering = Lowering::new(network, *options);
    let chains = lowering.chains();
    lowering.find_widths(&chains);
    for chain in &chains {
        lowering.emit(chain)?;
    }
    lowering.finish()
}

struct Lowering<'a> {
    network: &'a Network,
    options: Options,
    /// Layers that read each value.
    consumers: Vec<Vec<usize>>,
    /// The layer that writes each value.
    producer: Vec<Option<usize>>,
    /// Width each value's codes must have.
    width: Vec<u8>,
    /// The tensor that holds each value, and its casts by width.
    tensor: HashMap<(usize, u8), usize>,
    softmax: bool,
    output: ValueId,
    plan: Plan,
}

fn unsupported(layer: &Layer, reason: impl Into<String>) -> Refusal {
    Refusal { layer: layer.name.clone(), reason: reason.into() }
}

/// Channels, height and width of a value's shape.
fn chw(shape: &[usize]) -> Option<[usize; 3]> {
    match *shape {
        [c] => Some([c, 1, 1]),
        [c, w] => Some([c, 1, w]),
        [c, h, w] => Some([c, h, w]),
        _ => None,
    }
}

impl<'a> Lowering<'a> {
    fn new(network: &'a Network, options: Options) -> Self {
        let mut consumers = vec![Vec::new(); network.values.len()];
        let mut producer = vec![None; network.values.len()];
        for (index, layer) in network.layers.iter().enumerate() {
            for input in &layer.inputs {
                consumers[input.0].push(index);
            }
            producer[layer.output.0] = Some(index);
        }
        let plan = Plan {
            name: network.name.clone(),
            input_name: network.values[network.input.0].name.clone(),
            output_name: network.values[network.output.0].name.clone(),
            output: 0,
            softmax: false,
            tensors: Vec::new(),
            units: Vec::new(),
            weights: Vec::new(),
            steps: 0,
        };
        let width = vec![0; network.values.len()];
        let output = network.output;
        Lowering {
            network,
            options,
            consumers,
            producer,
            width,
            tensor: HashMap::new(),
            softmax: false,
            output,
            plan,
        }
    }

    /// The only reader of a value, if there is just one and the value is not the output.
    fn sole_consumer(&self, value: ValueId) -> Option<usize> {
        match self.consumers[value.0].as_slice() {
            [one] if value != self.output => Some(*one),
            _ => None,
        }
    }

    fn is_weighted(&self, layer: usize) -> bool {
        matches!(self.network.layers[layer].op, Op::Conv(_) | Op::Linear(_))
    }

    /// The weighted layer whose sum (after its own normalization) is `value`, read by nothing but `reader`.
    fn foldable_operand(&self, value: ValueId) -> Option<usize> {
        self.sole_consumer(value)?;
        let layer = self.producer[value.0]?;
        match &self.network.layers[layer].op {
            Op::BatchNorm(_) => {
                let before = self.network.layers[layer].inputs[0];
                self.sole_consumer(before)?;
                self.producer[before.0].filter(|&l| self.is_weighted(l))
            }
            _ => Some(layer).filter(|&l| self.is_weighted(l)),
        }
    }

    /// The weighted layer that absorbs an addition: the one with more multiply-accumulates, the later on a tie.
    fn addition_host(&self, add: usize) -> Option<usize> {
        let layer = &self.network.layers[add];
        if layer.inputs[0] == layer.inputs[1] {
            return None;
        }
        layer.inputs.iter().filter_map(|&v| self.foldable_operand(v)).max_by_key(|&l| (self.macs(l), l))
    }

    fn macs(&self, layer: usize) -> u64 {
        let layer = &self.network.layers[layer];
        let outputs: usize = self.network.values[layer.output.0].shape.iter().product();
        let per_output = match &layer.op {
            Op::Conv(conv) => conv.weight.shape[1..].iter().product(),
            Op::Linear(linear) => linear.weight.shape[1],
            _ => 0,
        };
        outputs as u64 * per_output as u64
    }

    /// Groups the layers into chains, ordered so that each follows what it reads.
    fn chains(&mut self) -> Vec<Chain> {
        let last = self.network.layers.len().checked_sub(1);
        let ends_in_softmax = |l: &&Layer| matches!(l.op, Op::Softmax) && l.output == self.network.output;
        if let Some(layer) = last.map(|l| &self.network.layers[l]).filter(ends_in_softmax) {
            self.softmax = true;
            self.output = layer.inputs[0];
        }
        let mut taken = vec![false; self.network.layers.len()];
        let mut chains = Vec::new();
        for first in 0..self.network.layers.len() {
            if taken[first] || (self.softmax && Some(first) == last) {
                continue;
            }
            let chain = self.chain_from(first);
            taken[first] = true;
            for layer in chain.norm.into_iter().chain(chain.first..=chain.last) {
                // Only the chain's own layers are marked: those on the way from `first` to its output.
                if self.on_chain(&chain, layer) {
                    taken[layer] = true;
                }
            }
            chains.push(chain);
        }
        chains.sort_by_key(|c| c.last);
        chains
    }

    fn on_chain(&self, chain: &Chain, layer: usize) -> bool {
        let mut value = self.network.layers[chain.first].output;
        if layer == chain.first {
            return true;
        }
        while value != chain.output {
            let Some(next) = self.sole_consumer(value) else { return false };
            if next == layer {
                return true;
            }
            value = self.network.layers[next].output;
        }
        false
    }

    fn chain_from(&self, first: usize) -> Chain {
        let layers = &self.network.layers;
        let output = layers[first].output;
        let mut chain = Chain { first, last: first, norm: None, residual: None, act: Act::None, output };
        let weighted = self.is_weighted(first);
        if !weighted && !matches!(layers[first].op, Op::Add | Op::BatchNorm(_)) {
            return chain;
        }
        let mut next = self.sole_consumer(chain.output);
        if let Some(n) = next.filter(|&n| weighted && matches!(layers[n].op, Op::BatchNorm(_))) {
            chain.norm = Some(n);
            chain.last = n;
            chain.output = layers[n].output;
            next = self.sole_consumer(chain.output);
        }
        let hosted = |n: usize| matches!(layers[n].op, Op::Add) && self.addition_host(n) == Some(first);
        if let Some(n) = next.filter(|&n| weighted && hosted(n)) {
            chain.residual = layers[n].inputs.iter().copied().find(|&v| v != chain.output);
            chain.last = n;
            chain.output = layers[n].output;
            next = self.sole_consumer(chain.output);
        }
        if let Some(n) = next {
            chain.act = match layers[n].op {
                Op::Relu => Act::Relu,
                Op::Clip { lo, hi } if lo == 0.0 && hi > 0.0 => Act::Clip(hi),
                _ => return chain,
            };
            chain.last = n;
            chain.output = layers[n].output;
        }
        chain
    }

    /// Finds, from the last chain to the first, how wide each value's codes must be.
    fn find_widths(&mut self, chains: &[Chain]) {
        let mut want = |value: ValueId, bits: u8| self.width[value.0] = self.width[value.0].max(bits);
        for chain in chains.iter().rev() {
            let layer = &self.network.layers[chain.first];
            if let Some(residual) = chain.residual {
                want(residual, self.options.other_bits);
            }
            let bits = match &layer.op {
                Op::Conv(conv) if narrow(&conv.window, conv.groups) => self.options.conv3x3_bits,
                // These pass the codes on as they are; the second walk settles them.
                Op::MaxPool(_) | Op::Flatten => 0,
                _ => self.options.other_bits,
            };
            for &input in &layer.inputs {
                want(input, bits);
            }
        }
        // A pool's or a flatten's input is as wide as its output; walk back so that chains of them settle.
        for chain in chains.iter().rev() {
            let layer = &self.network.layers[chain.first];
            if matches!(layer.op, Op::MaxPool(_) | Op::Flatten) {
                let through = self.width[layer.output.0].max(if layer.output == self.output {
                    self.options.other_bits
                } else {
                    0
                });
                let input = layer.inputs[0].0;
                self.width[input] = self.width[input].max(through);
            }
        }
    }

    /// A new tensor for `value`.
    fn new_tensor(&mut self, value: ValueId, coding: Coding, suffix: &str) -> Result<usize, Refusal> {
        let source = &self.network.values[value.0];
        let shape = chw(&source.shape).ok_or_else(|| Refusal {
            layer: source.name.clone(),
            reason: format!("its shape {:?} is not channels × height × width", source.shape),
        })?;
        let mut name = format!("{}{suffix}", source.name);
        while self.plan.tensors.iter().any(|t| t.name == name) {
            name.push('\'');
        }
        self.plan.tensors.push(TensorPlan { name, shape, coding });
        Ok(self.plan.tensors.len() - 1)
    }

    fn new_step(&mut self) -> usize {
        self.plan.steps += 1;
        self.plan.steps - 1
    }

    /// The tensor that holds `value` in `bits`, casting from a wider one if need be.
    fn read(&mut self, value: ValueId, bits: u8) -> Result<usize, Refusal> {
        if value == self.network.input && self.plan.tensors.is_empty() {
            self.new_tensor(value, Coding::Input, "")?;
        }
        if value == self.network.input {
            return Ok(0);
        }
        let width = self.width[value.0];
        if let Some(&tensor) = self.tensor.get(&(value.0, bits)) {
            return Ok(tensor);
        }
        let Some(&wide) = self.tensor.get(&(value.0, width)) else {
            return Err(Refusal {
                layer: self.network.values[value.0].name.clone(),
                reason: "it is read before it is written".into(),
            });
        };
        let Coding::Codes { bits: have, signed, .. } = self.plan.tensors[wide].coding else {
            return Ok(wide);
        };
        if have <= bits {
            return Ok(wide);
        }
        let step = self.new_step();
        let narrow = self.cast(value, wide, Coding::Codes { bits, signed, step }, &format!(":{bits}"))?;
        self.tensor.insert((value.0, bits), narrow);
        Ok(narrow)
    }

    /// A unit that re-codes `source`, which holds `value`; returns the new tensor.
    fn cast(
        &mut self,
        value: ValueId,
        source: usize,
        coding: Coding,
        suffix: &str,
    ) -> Result<usize, Refusal> {
        let output = self.new_tensor(value, coding, suffix)?;
        let name = format!("{}:cast", self.plan.tensors[output].name);
        self.plan.units.push(Unit { name, inputs: vec![source], output, op: UnitOp::Cast });
        Ok(output)
    }

    fn emit(&mut self, chain: &Chain) -> Result<(), Refusal> {
        let layer = &self.network.layers[chain.first];
        let other = self.options.other_bits;
        let value = chain.output;
        let bits = self.width[value.0].max(if value == self.output { other } else { 0 }).max(2);
        self.width[value.0] = bits;
        match &layer.op {
            Op::Conv(_) | Op::Linear(_) | Op::BatchNorm(_) => return self.emit_conv(chain, bits),
            Op::Flatten => {
                let source = self.read(layer.inputs[0], bits)?;
                let [_, h, w] = self.plan.tensors[source].shape;
                let to_linear = self.consumers[value.0]
                    .iter()
                    .all(|&c| matches!(self.network.layers[c].op, Op::Linear(_)));
                if (h, w) != (1, 1) && !(to_linear && value != self.output) {
                    return Err(unsupported(
                        layer,
                        "a flatten of a map is supported before fully connected layers only",
                    ));
                }
                self.tensor.insert((value.0, bits), source);
                return Ok(());
            }
            _ => {}
        }
        let mut inputs = Vec::new();
        for &input in &layer.inputs {
            let width = if matches!(layer.op, Op::MaxPool(_)) { bits } else { other };
            inputs.push(self.read(input, width)?);
        }
        let signed = |plan: &Plan, t: usize| plan.tensors[t].coding.range().0 < 0;
        let any_signed = inputs.iter().any(|&t| signed(&self.plan, t));
        let (op, coding) = match &layer.op {
            Op::Add => {
                let signed = any_signed && chain.act == Act::None;
                (UnitOp::Add(chain.act), Coding::Codes { bits, signed, step: self.new_step() })
            }
            Op::MaxPool(window) => match self.plan.tensors[inputs[0]].coding {
                Coding::Codes { .. } => (UnitOp::MaxPool(*window), self.plan.tensors[inputs[0]].coding),
                _ => return Err(unsupported(layer, "a pool directly on the network's input")),
            },
            Op::AvgPool { window, count_include_pad } => {
                if window.padding != [0; 4] && !count_include_pad {
                    return Err(unsupported(
                        layer,
                        "an average pool whose padding does not count in the divisor",
                    ));
                }
                (UnitOp::AvgPool(*window), Coding::Codes { bits, signed: any_signed, step: self.new_step() })
            }
            Op::GlobalAvgPool => {
                let [_, h, w] = self.plan.tensors[inputs[0]].shape;
                let window = Window { kernel: [h, w], stride: [1, 1], padding: [0; 4], dilation: [1, 1] };
                (UnitOp::AvgPool(window), Coding::Codes { bits, signed: any_signed, step: self.new_step() })
            }
            Op::Relu => self.unary(Unary::Relu, bits),
            Op::Clip { lo, hi } if *lo == 0.0 => self.unary(Unary::Clip(*hi), bits),
            Op::LeakyRelu { slope } => self.unary(Unary::LeakyRelu(*slope), bits),
            Op::Sigmoid => self.unary(Unary::Sigmoid, bits),
            Op::Tanh => self.unary(Unary::Tanh, bits),
            Op::Concat => {
                let step = self.new_step();
                let coding = Coding::Codes { bits, signed: any_signed, step };
                for (input, &value) in inputs.iter_mut().zip(&layer.inputs) {
                    *input = self.cast(value, *input, coding, &format!(":{}", layer.name))?;
                }
                (UnitOp::Concat, coding)
            }
            op => return Err(unsupported(layer, format!("{} has no integer form here", op_name(op)))),
        };
        let output = self.new_tensor(value, coding, "")?;
        self.tensor.insert((value.0, bits), output);
        self.plan.units.push(Unit { name: layer.name.clone(), inputs, output, op });
        Ok(())
    }

    fn unary(&mut self, unary: Unary, bits: u8) -> (UnitOp, Coding) {
        let step = self.new_step();
        (UnitOp::Unary(unary), Coding::Codes { bits, signed: unary.signed(), step })
    }

    fn emit_conv(&mut self, chain: &Chain, bits: u8) -> Result<(), Refusal> {
        let layer = &self.network.layers[chain.first];
        let (want, mut weight, window, groups) = self.geometry(layer)?;
        let x = self.read(layer.inputs[0], want)?;
        if let Op::Linear(_) = layer.op {
            // Fully connected over a map: a convolution whose kernel is the whole map.
            let [c, h, w] = self.plan.tensors[x].shape;
            weight.shape = [weight.shape[0], c, h, w];
        }
        let window = Window { kernel: [weight.shape[2], weight.shape[3]], ..window };
        let mut inputs = vec![x];
        if let Some(residual) = chain.residual {
            inputs.push(self.read(residual, self.options.other_bits)?);
        }
        let norm = chain.norm.unwrap_or(chain.first);
        if let Op::BatchNorm(norm) = &self.network.layers[norm].op {
            weight.norm = Some(norm.clone());
        }
        weight.macs = self.macs(chain.first);
        let logits = chain.output == self.output
            && chain.act == Act::None
            && chain.residual.is_none()
            && weight.norm.is_none();
        let first = x == 0;
        if first && logits {
            return Err(unsupported(layer, "a network of one layer: its input has no power-of-two step"));
        }
        weight.method = match (first || logits, self.options.strict) {
            _ if matches!(layer.op, Op::BatchNorm(_)) => Choice::linear8(),
            (true, false) => Choice::linear8(),
            _ if logits => self.options.last_method,
            _ => self.options.method,
        };
        let coding = if logits {
            Coding::Sums
        } else {
            Coding::Codes { bits, signed: chain.act == Act::None, step: self.new_step() }
        };
        let output = self.new_tensor(chain.output, coding, "")?;
        self.tensor.insert((chain.output.0, bits), output);
        self.plan.weights.push(weight);
        let op =
            UnitOp::Conv { weights: self.plan.weights.len() - 1, window, groups, act: chain.act, logits };
        self.plan.units.push(Unit { name: layer.name.clone(), inputs, output, op });
        Ok(())
    }

    /// Width wanted of the input, weights, window and groups of a weighted layer.
    fn geometry(&self, layer: &Layer) -> Result<(u8, WeightPlan, Window, usize), Refusal> {
        let plan = |shape: [usize; 4], data: &[f32], bias: &Option<Vec<f32>>| WeightPlan {
            name: layer.name.clone(),
            shape,
            data: data.to_vec(),
            bias: bias.clone().unwrap_or_else(|| vec![0.0; shape[0]]),
            norm: None,
            method: self.options.method,
            macs: 0,
        };
        match &layer.op {
            Op::Conv(conv) => {
                let [o, i, kh, kw] = *conv.weight.shape.as_slice() else {
                    return Err(unsupported(layer, "its weights are not 4-dimensional"));
                };
                let bits = if narrow(&conv.window, conv.groups) {
                    self.options.conv3x3_bits
                } else {
                    self.options.other_bits
                };
                Ok((bits, plan([o, i, kh, kw], &conv.weight.data, &conv.bias), conv.window, conv.groups))
            }
            Op::Linear(linear) => {
                let [o, i] = *linear.weight.shape.as_slice() else {
                    return Err(unsupported(layer, "its weights are not 2-dimensional"));
                };
                let window = Window { kernel: [1, 1], stride: [1, 1], padding: [0; 4], dilation: [1, 1] };
                let weight = plan([o, i, 1, 1], &linear.weight.data, &linear.bias);
                Ok((self.options.other_bits, weight, window, 1))
            }
            Op::BatchNorm(norm) => {
                // Standing alone it is the normalization of a depthwise 1×1 convolution by 1.
                let channels = norm.scale.len();
                let window = Window { kernel: [1, 1], stride: [1, 1], padding: [0; 4], dilation: [1, 1] };
                Ok((
                    self.options.other_bits,
                    plan([channels, 1, 1, 1], &vec![1.0; channels], &None),
                    window,
                    channels,
                ))
            }
            op => Err(unsupported(layer, format!("{} has no weights", op_name(op)))),
        }
    }

    fn finish(mut self) -> Result<Plan, Refusal> {
        let width = self.width[self.output.0];
        let Some(&output) = self.tensor.get(&(self.output.0, width)) else {
            return Err(Refusal {
                layer: self.plan.output_name.clone(),
                reason: "the network's output is its input".into(),
            });
        };
        self.plan.output = output;
        self.plan.softmax = self.softmax;
        if self.plan.weights.is_empty() {
            return Err(Refusal {
                layer: self.plan.name.clone(),
                reason: "the network has no convolution and no fully connected layer".into(),
            });
        }
        Ok(self.plan)
    }
}

/// Whether an exact integer Winograd transform exists for it, which wants narrow activations.
fn narrow(window: &Window, groups: usize) -> bool {
    window.kernel == [3, 3] && window.stride == [1, 1] && window.dilation == [1, 1] && groups == 1
}

fn op_name(op: &Op) -> String {
    let text = format!("{op:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_string()
}
