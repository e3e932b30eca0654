//! A builder that adds random layers, each within the rules, to a model.

use super::Rng;
use crate::digits::Digits;
use crate::model::{
    Add, Conv, Epilogue, Format, Input, Model, Node, Op, Output, Requantize, Scale, Shape, Step, Tensor,
    TensorId, Weights, Window,
};

/// Geometry and widths of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct ConvCase {
    /// Output channels.
    pub filters: u32,
    /// The window.
    pub window: Window,
    /// Groups.
    pub groups: u32,
    /// Weight code width; 2 gives ternary filters every other time.
    pub bits: u8,
    /// The output's codes.
    pub output: Format,
    /// Whether each level stands at an end of its range, so that the sums come close to their bounds.
    pub extreme: bool,
}

impl ConvCase {
    /// A square kernel with "same" padding at stride 1.
    pub fn square(filters: u32, side: u32, stride: u32) -> Self {
        let pad = side / 2;
        ConvCase {
            filters,
            window: Window { kernel: [side; 2], stride: [stride; 2], padding: [pad; 4], dilation: [1; 2] },
            groups: 1,
            bits: 2,
            output: Format::Unsigned { bits: 6 },
            extreme: false,
        }
    }
}

/// Adds layers one after the other. Panics where a layer cannot be built: test code asks for possible ones.
#[derive(Debug)]
pub struct Builder {
    /// Source of every number.
    pub rng: Rng,
    tensors: Vec<Tensor>,
    nodes: Vec<Node>,
}

impl Builder {
    /// A model with an input of this shape and format.
    pub fn new(seed: u64, shape: Shape, format: Format) -> (Self, TensorId) {
        let input = Tensor { name: "input".to_owned(), shape, format, step: Step::Free(0.018_5) };
        (Builder { rng: Rng::new(seed), tensors: vec![input], nodes: Vec::new() }, TensorId(0))
    }

    /// A tensor's shape.
    pub fn shape(&self, id: TensorId) -> Shape {
        self.tensors[id.0 as usize].shape
    }

    /// A tensor's format.
    pub fn format(&self, id: TensorId) -> Format {
        self.tensors[id.0 as usize].format
    }

    fn push(&mut self, kind: &str, inputs: Vec<TensorId>, tensor: (Shape, Format, Step), op: Op) -> TensorId {
        let output = TensorId(self.tensors.len() as u32);
        let name = format!("{kind}{}", self.nodes.len());
        let (shape, format, step) = tensor;
        self.tensors.push(Tensor { name: format!("{name}_out"), shape, format, step });
        self.nodes.push(Node { name, inputs, output, op });
        output
    }

    fn greatest(&self, id: TensorId) -> u64 {
        let (lo, hi) = self.format(id).range();
        u64::from(lo.unsigned_abs().max(hi.unsigned_abs()))
    }

    /// A convolution, with the output tensor `residual` added if there is one.
    pub fn conv(&mut self, x: TensorId, case: &ConvCase, residual: Option<TensorId>) -> TensorId {
        let (shape, weights, bounds) = self.filters(x, case);
        let rule = self.requantize(&bounds, residual, case.output);
        let bounds = bounds.iter().map(|&bound| bound as u32).collect();
        let epilogue = Epilogue::Requantize(rule);
        let conv = Conv { window: case.window, groups: case.groups, weights, bounds, epilogue };
        let inputs = std::iter::once(x).chain(residual).collect();
        self.push("conv", inputs, (shape, case.output, Step::PowerOfTwo(-4)), Op::Conv(conv))
    }

    /// A convolution that writes 32-bit sums; `case.output` is not looked at.
    pub fn logits(&mut self, x: TensorId, case: &ConvCase) -> TensorId {
        let (shape, weights, bounds) = self.filters(x, case);
        let room = |bound: u64| 30 - (64 - bound.leading_zeros()).min(30);
        let shift =
            bounds.iter().map(|&bound| self.rng.below(u64::from(room(bound).min(6)) + 1) as u8).collect();
        let bias = bounds.iter().map(|_| self.rng.code(-100_000, 100_000)).collect();
        let bounds = bounds.iter().map(|&bound| bound as u32).collect();
        let epilogue = Epilogue::Logits { shift, bias };
        let conv = Conv { window: case.window, groups: case.groups, weights, bounds, epilogue };
        self.push("logits", vec![x], (shape, Format::Accumulator, Step::PowerOfTwo(-10)), Op::Conv(conv))
    }

    fn filters(&mut self, x: TensorId, case: &ConvCase) -> (Shape, Weights, Vec<u64>) {
        let input = self.shape(x);
        let [h, w] = case.window.output([input.h, input.w]).expect("the window fits");
        let [rows, columns] = case.window.kernel;
        let per_filter = (rows * columns * input.c / case.groups) as usize;
        let weights = self.weights(case.filters as usize, per_filter, case);
        let greatest = self.greatest(x);
        let bounds = (0..case.filters as usize)
            .map(|filter| {
                let levels = (0..per_filter).map(|index| weights.level(filter, index, per_filter));
                levels.map(|level| u64::from(level.unsigned_abs())).sum::<u64>() * greatest
            })
            .collect();
        (Shape { h: h as u32, w: w as u32, c: case.filters }, weights, bounds)
    }

    fn weights(&mut self, filters: usize, per_filter: usize, case: &ConvCase) -> Weights {
        let bits = case.bits;
        let ternary = bits == 2 && (!case.extreme || self.rng.one_in(2));
        let entries = if bits == 8 { 0 } else { filters << bits };
        let mut tables: Vec<i8> = (0..entries).map(|_| self.level(case.extreme)).collect();
        if ternary {
            for table in tables.chunks_exact_mut(4) {
                table.copy_from_slice(&[self.rng.pick(&[-1, -2]), 0, self.rng.pick(&[1, 2]), 0]);
            }
        }
        let count = filters * per_filter;
        let codes: Vec<u8> = match bits {
            8 => (0..count).map(|_| self.level(case.extreme) as u8).collect(),
            _ if ternary => (0..count).map(|_| self.rng.below(3) as u8).collect(),
            _ => (0..count).map(|_| self.rng.below(1 << bits) as u8).collect(),
        };
        let digits =
            |levels: &mut dyn Iterator<Item = i8>| levels.map(|l| Digits::of(l).len()).max().unwrap_or(0);
        let terms = if bits == 8 {
            digits(&mut codes.iter().map(|&code| code as i8))
        } else {
            digits(&mut tables.iter().copied())
        } as u8;
        let exponents = (0..filters).map(|_| self.rng.code(-12, 0)).collect();
        Weights { bits, terms, codes: codes.into(), tables, exponents }
    }

    fn level(&mut self, extreme: bool) -> i8 {
        if extreme { self.rng.pick(&[127, 127, 127, -127]) } else { self.rng.code(-127, 127) as i8 }
    }

    /// Random parameters within the proven ranges, scaled so that outputs neither vanish nor always saturate.
    fn requantize(&mut self, bounds: &[u64], residual: Option<TensorId>, output: Format) -> Requantize {
        let (least, most) = output.range();
        let residual_bound = residual.map(|id| self.greatest(id));
        let mut rule = Requantize {
            pre: Vec::new(),
            multiplier: Vec::new(),
            bias: Vec::new(),
            residual_shift: Vec::new(),
            shift: Vec::new(),
            lo: least,
            hi: most,
        };
        if self.rng.one_in(4) {
            let (a, b) = (self.rng.code(least, most), self.rng.code(least, most));
            (rule.lo, rule.hi) = (a.min(b), a.max(b));
        }
        for &bound in bounds {
            let pre = (64 - bound.leading_zeros()).saturating_sub(15) + self.rng.pick(&[0, 0, 0, 1]);
            let multiplier = self.rng.code(1, 127) * self.rng.pick(&[1, 1, 1, -1]);
            let reach = (bound.div_ceil(1 << pre) * u64::from(multiplier.unsigned_abs())).max(1);
            // Real sums stay well below their bound: let a sixteenth of it fill the output's range.
            let width = (i64::from(most) - i64::from(least)) as u64;
            let shift = (reach / 16 / width + 1).ilog2().min(31);
            let bias = self.rng.code(-(1 << 20), 1 << 20) >> self.rng.below(12);
            rule.pre.push(pre as u8);
            rule.multiplier.push(multiplier as i8);
            rule.bias.push(bias);
            rule.shift.push(shift as u8);
            if let Some(greatest) = residual_bound {
                let limit = ((1u64 << 22) / greatest).ilog2();
                rule.residual_shift.push(shift.min(limit) as u8);
            }
        }
        rule
    }

    /// The sum of two tensors of one shape.
    pub fn add(&mut self, a: TensorId, b: TensorId, output: Format) -> TensorId {
        let (lo, hi) = output.range();
        let operand_shift = [self.rng.below(7) as u8, self.rng.below(7) as u8];
        let shift = u8::max(operand_shift[0], operand_shift[1]) + self.rng.below(2) as u8;
        let bias = if shift > 0 { 1 << (shift - 1) } else { self.rng.code(-3, 3) };
        let op = Op::Add(Add { operand_shift, bias, shift, lo, hi });
        self.push("add", vec![a, b], (self.shape(a), output, Step::PowerOfTwo(-4)), op)
    }

    /// A per-channel requantize.
    pub fn affine(&mut self, x: TensorId, output: Format) -> TensorId {
        let shape = self.shape(x);
        let bounds = vec![self.greatest(x); shape.c as usize];
        let rule = self.requantize(&bounds, None, output);
        self.push("affine", vec![x], (shape, output, Step::PowerOfTwo(-4)), Op::Affine(rule))
    }

    /// A maximum over windows; not for the input, whose step is free.
    pub fn max_pool(&mut self, x: TensorId, window: Window) -> TensorId {
        let input = self.tensors[x.0 as usize].clone();
        let [h, w] = window.output([input.shape.h, input.shape.w]).expect("the window fits");
        let shape = Shape { h: h as u32, w: w as u32, c: input.shape.c };
        self.push("max_pool", vec![x], (shape, input.format, input.step), Op::MaxPool(window))
    }

    /// A mean over windows.
    pub fn avg_pool(&mut self, x: TensorId, window: Window, output: Format) -> TensorId {
        let input = self.shape(x);
        let [h, w] = window.output([input.h, input.w]).expect("the window fits");
        let taps = u64::from(window.kernel[0]) * u64::from(window.kernel[1]);
        let bounds = vec![taps * self.greatest(x); input.c as usize];
        let rule = self.requantize(&bounds, None, output);
        let shape = Shape { h: h as u32, w: w as u32, c: input.c };
        self.push("avg_pool", vec![x], (shape, output, Step::PowerOfTwo(-4)), Op::AvgPool(window, rule))
    }

    /// A random table.
    pub fn lut(&mut self, x: TensorId, output: Format) -> TensorId {
        let ((lo, hi), (least, most)) = (self.format(x).range(), output.range());
        let table = (lo..=hi).map(|_| self.rng.code(least, most) as i16).collect();
        self.push("lut", vec![x], (self.shape(x), output, Step::PowerOfTwo(-4)), Op::Lut(table))
    }

    /// A product; the gate has x's shape or one code a channel.
    pub fn scale(&mut self, x: TensorId, gate: TensorId, output: Format) -> TensorId {
        let digits = self.rng.code(1, 5) as u8;
        let (lo, hi) = output.range();
        let shift = self.rng.code(0, 10) as u8;
        let scale = Scale { digits, bias: self.rng.code(-2000, 2000), shift, lo, hi };
        let tensor = (self.shape(x), output, Step::PowerOfTwo(-4));
        self.push("scale", vec![x, gate], tensor, Op::Scale(scale))
    }

    /// Channels by their numbers; not for the input, whose step is free.
    pub fn select(&mut self, x: TensorId, channels: Vec<u32>) -> TensorId {
        let input = self.tensors[x.0 as usize].clone();
        let tensor = (Shape { c: channels.len() as u32, ..input.shape }, input.format, input.step);
        self.push("select", vec![x], tensor, Op::Select(channels))
    }

    /// Channels of tensors that share format and step, one after the other.
    pub fn concat(&mut self, parts: &[TensorId]) -> TensorId {
        let first = self.tensors[parts[0].0 as usize].clone();
        let c = parts.iter().map(|&id| self.shape(id).c).sum();
        let tensor = (Shape { c, ..first.shape }, first.format, first.step);
        self.push("concat", parts.to_vec(), tensor, Op::Concat)
    }

    /// The model, read at `output`.
    pub fn finish(self, name: &str, output: TensorId) -> Model {
        let model = Model {
            name: name.to_owned(),
            input: Input { name: "input".to_owned(), tensor: TensorId(0), normalization: None },
            tensors: self.tensors,
            nodes: self.nodes,
            output: Output {
                name: "output".to_owned(),
                tensor: output,
                softmax: false,
                log: false,
                labels: Vec::new(),
            },
        };
        if let Err(error) = model.check() {
            panic!("the generator built a model that fails its checks: {error}");
        }
        model
    }
}
