//! Random graphs over wide tensors: up to 130 channels and 33 columns, every operation, operands that live long.

use dyadic_engine::Model;
use dyadic_engine::model::{Format, Shape, TensorId, Window};
use dyadic_engine::testing::{Builder, ConvCase, Rng};

/// Channel counts around the sizes of blocks and vectors.
pub(crate) const CHANNELS: [u32; 22] =
    [1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 127, 128, 130];

/// A random graph whose convolutions take at most about `budget` multiply-accumulates a sample.
pub(crate) fn wide_model(seed: u64, budget: u64) -> Model {
    let mut rng = Rng::new(seed ^ 0xF022);
    let shape = Shape { h: rng.code(1, 12) as u32, w: rng.code(1, 33) as u32, c: rng.pick(&CHANNELS) };
    let format = any_format(&mut rng);
    let (builder, input) = Builder::new(seed, shape, format);
    let mut graph = Graph { builder, rng, budget, tensors: Vec::new() };
    // The input has a free step, which pools and joins do not take.
    let first = if graph.rng.one_in(2) { graph.conv(input) } else { None };
    let first = first.unwrap_or_else(|| graph.builder.affine(input, format));
    graph.tensors.push(first);
    for _ in 0..graph.rng.below(8) {
        let next = graph.layer();
        graph.tensors.push(next);
    }
    let end = graph.end();
    graph.builder.finish(&format!("wide-{seed}"), end)
}

/// Any format that a convolution reads.
pub(crate) fn any_format(rng: &mut Rng) -> Format {
    let unsigned = rng.one_in(2);
    let bits = rng.code(if unsigned { 1 } else { 2 }, 8) as u8;
    if unsigned { Format::Unsigned { bits } } else { Format::Signed { bits } }
}

/// Any format that an addition reads.
pub(crate) fn any_operand(rng: &mut Rng) -> Format {
    if rng.one_in(3) { Format::Signed { bits: 16 } } else { any_format(rng) }
}

/// A window that the shape has room for; paddings may exceed the kernel.
pub(crate) fn any_window(rng: &mut Rng, shape: Shape) -> Window {
    loop {
        let side = rng.pick(&[1, 1, 2, 3, 3, 3, 4, 5, 7]);
        let square = rng.one_in(2);
        let kernel = if square { [side; 2] } else { [0; 2].map(|_| rng.code(1, 5) as u32) };
        let same = kernel.map(|side| side / 2);
        let window = Window {
            kernel,
            stride: [rng.pick(&[1, 1, 1, 2, 3]), rng.pick(&[1, 1, 1, 2, 4])],
            padding: if rng.one_in(2) {
                [same[0], same[1], same[0], same[1]]
            } else {
                [0; 4].map(|_| rng.below(u64::from(side) + 2) as u32)
            },
            dilation: if rng.one_in(4) { [0; 2].map(|_| rng.code(1, 3) as u32) } else { [1; 2] },
        };
        if window.output([shape.h, shape.w]).is_some() {
            return window;
        }
    }
}

/// A pool's window: its padding is smaller than its kernel, so that no window misses the input.
pub(crate) fn any_pool(rng: &mut Rng, shape: Shape) -> Window {
    let kernel = [shape.h, shape.w].map(|size| rng.code(1, size.min(5) as i32) as u32);
    let mut padding = [0; 4];
    for (side, amount) in padding.iter_mut().enumerate() {
        *amount = rng.below(u64::from(kernel[side % 2])) as u32;
    }
    let stride = [rng.code(1, 3) as u32, rng.code(1, 3) as u32];
    Window { kernel, stride, padding, dilation: [1; 2] }
}

/// One group, one for each channel, or some divisor.
pub(crate) fn any_groups(rng: &mut Rng, channels: u32) -> u32 {
    match rng.below(4) {
        0 => channels,
        1 => (2..=4).rev().find(|groups| channels.is_multiple_of(*groups)).unwrap_or(1),
        _ => 1,
    }
}

/// Multiply-accumulates of a convolution of a shape.
pub(crate) fn cost(shape: Shape, case: &ConvCase) -> u64 {
    let [h, w] = case.window.output([shape.h, shape.w]).unwrap_or_default();
    let taps = u64::from(case.window.kernel[0]) * u64::from(case.window.kernel[1]);
    h * w * taps * u64::from(shape.c / case.groups) * u64::from(case.filters)
}

/// A graph that grows.
struct Graph {
    builder: Builder,
    rng: Rng,
    budget: u64,
    /// What further layers may read: codes of at most 8 bits.
    tensors: Vec<TensorId>,
}

impl Graph {
    /// Mostly one of the latest, so that the graph becomes deep.
    fn any_tensor(&mut self) -> TensorId {
        let latest = self.tensors.len() - 1;
        let back = if self.rng.one_in(4) { self.rng.below(latest as u64 + 1) as usize } else { 0 };
        self.tensors[latest - back]
    }

    fn layer(&mut self) -> TensorId {
        let x = self.any_tensor();
        let shape = self.builder.shape(x);
        let format = any_format(&mut self.rng);
        let layer = match self.rng.below(10) {
            0..=4 => self.conv(x),
            5 => {
                let window = any_pool(&mut self.rng, shape);
                Some(self.builder.max_pool(x, window))
            }
            6 => {
                let whole = Window { kernel: [shape.h, shape.w], ..one_by_one() };
                let window = if self.rng.one_in(3) { whole } else { any_pool(&mut self.rng, shape) };
                Some(self.builder.avg_pool(x, window, format))
            }
            7 => {
                let operands = [any_operand(&mut self.rng), any_operand(&mut self.rng)];
                let a = self.builder.affine(x, operands[0]);
                let b = if self.rng.one_in(3) { x } else { self.builder.lut(x, operands[1]) };
                Some(self.builder.add(a, b, format))
            }
            8 if shape.c <= 65 => {
                let parts = [self.builder.affine(x, format), self.builder.lut(x, format)];
                Some(self.builder.concat(&parts[..self.rng.code(1, 2) as usize]))
            }
            _ => Some(self.builder.lut(x, format)),
        };
        layer.unwrap_or_else(|| self.builder.affine(x, format))
    }

    /// A convolution, where the budget has room for one; often with a residual operand.
    fn conv(&mut self, x: TensorId) -> Option<TensorId> {
        let shape = self.builder.shape(x);
        let groups = any_groups(&mut self.rng, shape.c);
        let filters = if groups == shape.c { groups } else { self.rng.pick(&CHANNELS) };
        let case = ConvCase {
            filters: filters.next_multiple_of(groups),
            window: any_window(&mut self.rng, shape),
            groups,
            bits: self.rng.pick(&[2, 2, 2, 3, 4, 5, 6, 7, 8]),
            output: any_format(&mut self.rng),
            extreme: self.rng.one_in(3),
        };
        let residual = match self.rng.below(3) {
            0 => None,
            1 => self.like(&case, shape),
            _ => self.made_like(x, &case, shape),
        };
        self.pay(cost(shape, &case))?;
        Some(self.builder.conv(x, &case, residual))
    }

    fn pay(&mut self, macs: u64) -> Option<()> {
        self.budget = self.budget.checked_sub(macs)?;
        Some(())
    }

    /// A tensor that is there already, of the shape of the case's output.
    fn like(&self, case: &ConvCase, shape: Shape) -> Option<TensorId> {
        let [h, w] = case.window.output([shape.h, shape.w])?;
        let fits = |id: &TensorId| {
            let Shape { h: rows, w: columns, c } = self.builder.shape(*id);
            (u64::from(rows), u64::from(columns), c) == (h, w, case.filters)
        };
        self.tensors.iter().copied().rev().find(fits)
    }

    /// The output of another convolution of the same geometry, of any format that an addition reads.
    fn made_like(&mut self, x: TensorId, case: &ConvCase, shape: Shape) -> Option<TensorId> {
        self.pay(cost(shape, case))?;
        let case = ConvCase { output: any_operand(&mut self.rng), ..*case };
        Some(self.builder.conv(x, &case, None))
    }

    /// Logits over the whole of the last tensor, or that tensor.
    fn end(&mut self) -> TensorId {
        let x = self.tensors[self.tensors.len() - 1];
        let shape = self.builder.shape(x);
        let case = ConvCase {
            filters: self.rng.code(1, 20) as u32,
            window: Window { kernel: [shape.h, shape.w], ..one_by_one() },
            groups: 1,
            bits: self.rng.pick(&[2, 4, 8]),
            output: Format::Accumulator,
            extreme: self.rng.one_in(4),
        };
        if self.rng.one_in(3) || self.pay(cost(shape, &case)).is_none() {
            return x;
        }
        self.builder.logits(x, &case)
    }
}

/// The smallest window.
pub(crate) fn one_by_one() -> Window {
    Window { kernel: [1; 2], stride: [1; 2], padding: [0; 4], dilation: [1; 2] }
}
