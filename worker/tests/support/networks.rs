//! Small float networks, one for each unit, and images whose outputs differ from one to the next.

use super::data::{self, Dataset};
use dyadic_graph::network::{BatchNorm, Conv, Layer, Linear, Network, Op, Tensor, Value, ValueId, Window};

/// A network while it grows; its last value is the output.
pub(crate) struct Growing {
    network: Network,
    state: u64,
}

impl Growing {
    /// Reads `shape`: channels, height, width.
    pub(crate) fn new(name: &str, shape: [usize; 3]) -> Self {
        let input = Value { name: "input".into(), shape: shape.to_vec() };
        let network = Network {
            name: name.into(),
            values: vec![input],
            layers: Vec::new(),
            input: ValueId(0),
            output: ValueId(0),
        };
        Growing { network, state: 11 }
    }

    /// The value that the network reads.
    pub(crate) fn input(&self) -> ValueId {
        self.network.input
    }

    /// Done.
    pub(crate) fn finish(mut self, output: ValueId) -> Network {
        self.network.output = output;
        self.network.check().expect("a consistent network");
        self.network
    }

    /// −1 to 1.
    fn random(&mut self) -> f32 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    fn randoms(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| scale * self.random()).collect()
    }

    fn shape(&self, value: ValueId) -> Vec<usize> {
        self.network.values[value.0].shape.clone()
    }

    /// Any layer, with its output's shape.
    pub(crate) fn layer(&mut self, op: Op, inputs: &[ValueId], shape: Vec<usize>) -> ValueId {
        let output = ValueId(self.network.values.len());
        let name = format!("{}{}", op.name(), output.0);
        self.network.values.push(Value { name: format!("{name}:0"), shape });
        self.network.layers.push(Layer { name, op, inputs: inputs.to_vec(), output });
        output
    }

    /// A layer that keeps the shape.
    pub(crate) fn same(&mut self, op: Op, x: ValueId) -> ValueId {
        let shape = self.shape(x);
        self.layer(op, &[x], shape)
    }

    /// k × k, padded to keep the size, with bias.
    pub(crate) fn conv(&mut self, x: ValueId, filters: usize, kernel: usize, groups: usize) -> ValueId {
        let shape = self.shape(x);
        let per_group = shape[0] / groups;
        let count = per_group * kernel * kernel;
        let data = self.randoms(filters * count, (3.0 / count as f32).sqrt());
        let bias = Some(self.randoms(filters, 0.2));
        let weight = Tensor { shape: vec![filters, per_group, kernel, kernel], data };
        let window = window(kernel, 1, kernel / 2);
        let op = Op::Conv(Conv { window, groups, weight, bias });
        self.layer(op, &[x], vec![filters, shape[1], shape[2]])
    }

    /// Multiplies the last layer's weights; its bias keeps its place in the sum only where the factor is below 1.
    pub(crate) fn scale_last(&mut self, factor: f32) {
        if let Some(Layer { op: Op::Conv(conv), .. }) = self.network.layers.last_mut() {
            conv.weight.data.iter_mut().for_each(|w| *w *= factor);
            if let Some(bias) = &mut conv.bias {
                for b in bias.iter_mut() {
                    *b *= factor.min(1.0);
                }
            }
        }
    }

    /// `conv`, then ReLU.
    pub(crate) fn conv_relu(&mut self, x: ValueId, filters: usize, kernel: usize) -> ValueId {
        let y = self.conv(x, filters, kernel, 1);
        self.same(Op::Relu, y)
    }

    /// A pool with this window.
    pub(crate) fn pool(&mut self, op: Op, window: Window, x: ValueId) -> ValueId {
        let shape = self.shape(x);
        let out = |axis: usize| {
            let span = window.dilation[axis] * (window.kernel[axis] - 1) + 1;
            (shape[axis + 1] + window.padding[axis] + window.padding[axis + 2] - span) / window.stride[axis]
                + 1
        };
        self.layer(op, &[x], vec![shape[0], out(0), out(1)])
    }

    /// Fully connected over what is flattened first.
    pub(crate) fn linear(&mut self, x: ValueId, outputs: usize) -> ValueId {
        let features: usize = self.shape(x).iter().product();
        let x = if self.shape(x).len() > 1 { self.layer(Op::Flatten, &[x], vec![features]) } else { x };
        let data = self.randoms(outputs * features, (3.0 / features as f32).sqrt());
        let bias = Some(self.randoms(outputs, 0.1));
        let weight = Tensor { shape: vec![outputs, features], data };
        self.layer(Op::Linear(Linear { weight, bias }), &[x], vec![outputs])
    }

    /// Mean over the map.
    pub(crate) fn global(&mut self, x: ValueId) -> ValueId {
        let channels = self.shape(x)[0];
        self.layer(Op::GlobalAvgPool, &[x], vec![channels, 1, 1])
    }

    /// The usual end: a pool and ten outputs.
    pub(crate) fn head(mut self, x: ValueId) -> Network {
        let pooled = self.global(x);
        let output = self.linear(pooled, 10);
        self.finish(output)
    }
}

/// A square window.
pub(crate) fn window(kernel: usize, stride: usize, padding: usize) -> Window {
    Window { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 4], dilation: [1; 2] }
}

const SHAPE: [usize; 3] = [3, 12, 12];

/// One small network for each unit and each way of using it.
pub(crate) fn all() -> Vec<Network> {
    let mut nets =
        vec![affine_on_the_input(), affine_between(), concat_of_unequal(), add_alone(), global_pool_last()];
    let unary = [
        ("leaky", Op::LeakyRelu { slope: 0.1 }),
        ("steep", Op::LeakyRelu { slope: 1.5 }),
        ("sigmoid", Op::Sigmoid),
        ("tanh", Op::Tanh),
        ("relu6", Op::Clip { lo: 0.0, hi: 1.0 }),
        ("elu", Op::Elu { alpha: 1.0 }),
        ("silu", Op::Silu),
        ("hard-swish", Op::HardSwish),
        ("hard-sigmoid", Op::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }),
        ("gelu", Op::Gelu { tanh: false }),
        ("gelu-tanh", Op::Gelu { tanh: true }),
    ];
    for (name, op) in unary {
        let mut net = Growing::new(name, SHAPE);
        let x = net.conv(net.input(), 8, 3, 1);
        let x = net.same(op, x);
        let x = net.conv_relu(x, 8, 3);
        nets.push(net.head(x));
    }
    let uneven = Window { padding: [0, 0, 1, 1], ..window(3, 2, 0) };
    let pools = [
        ("max", Op::MaxPool(window(2, 2, 0)), window(2, 2, 0)),
        ("uneven-max", Op::MaxPool(uneven), uneven),
        ("average", average(window(3, 2, 1)), window(3, 2, 1)),
    ];
    for (name, op, window) in pools {
        let mut net = Growing::new(name, SHAPE);
        let x = net.conv_relu(net.input(), 8, 3);
        let x = net.pool(op, window, x);
        let x = net.conv_relu(x, 8, 3);
        nets.push(net.head(x));
    }
    let mut net = Growing::new("depthwise", SHAPE);
    let x = net.conv_relu(net.input(), 8, 1);
    let x = net.conv(x, 8, 3, 8);
    let x = net.same(Op::Clip { lo: 0.0, hi: 6.0 }, x);
    let x = net.conv_relu(x, 8, 1);
    nets.push(net.head(x));
    nets.push(residual());
    for (name, op) in [("softmax", Op::Softmax), ("log-softmax", Op::LogSoftmax)] {
        let mut net = Growing::new(name, SHAPE);
        let x = net.conv_relu(net.input(), 8, 3);
        let x = net.global(x);
        let x = net.linear(x, 10);
        let output = net.same(op, x);
        nets.push(net.finish(output));
    }
    nets.push(gated(Op::Sigmoid));
    nets.push(gated(Op::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }));
    nets.push(products());
    nets.push(shuffled());
    nets.push(input_as_residual());
    nets.push(pool_first());
    nets.push(faint());
    nets.push(hidden());
    nets
}

/// Squeeze and excitation: a factor a channel, from the means.
pub(crate) fn gated(gate: Op) -> Network {
    let mut net = Growing::new(&format!("gated-{}", gate.name().to_lowercase()), SHAPE);
    let x = net.conv(net.input(), 12, 3, 1);
    let x = net.same(Op::HardSwish, x);
    let y = net.global(x);
    let y = net.conv_relu(y, 6, 1);
    let y = net.conv(y, 12, 1, 1);
    let y = net.same(gate, y);
    let shape = net.shape(x);
    let x = net.layer(Op::Mul, &[x, y], shape);
    let x = net.conv_relu(x, 8, 1);
    net.head(x)
}

/// Products of one shape, of either sign, one with an activation behind it.
pub(crate) fn products() -> Network {
    let mut net = Growing::new("products", SHAPE);
    let a = net.conv(net.input(), 8, 3, 1);
    let b = net.conv(net.input(), 8, 3, 1);
    let gate = net.same(Op::Sigmoid, b);
    let shape = net.shape(a);
    let x = net.layer(Op::Mul, &[a, gate], shape.clone());
    let y = net.layer(Op::Mul, &[a, b], shape);
    let y = net.same(Op::Relu, y);
    let x = net.conv_relu(x, 8, 3);
    let y = net.conv_relu(y, 8, 3);
    let shape = net.shape(x);
    let z = net.layer(Op::Add, &[x, y], shape);
    net.head(z)
}

/// Half of the channels goes past a convolution, then both are shuffled.
pub(crate) fn shuffled() -> Network {
    let mut net = Growing::new("shuffled", SHAPE);
    let x = net.conv_relu(net.input(), 12, 3);
    let [_, h, w] = net.shape(x)[..] else { unreachable!("a map") };
    let left = net.layer(Op::Select { channels: (0..6).collect() }, &[x], vec![6, h, w]);
    let right = net.layer(Op::Select { channels: (6..12).collect() }, &[x], vec![6, h, w]);
    let right = net.conv_relu(right, 6, 1);
    let both = net.layer(Op::Concat, &[left, right], vec![12, h, w]);
    let channels = (0..12).map(|i| i % 2 * 6 + i / 2).collect();
    let x = net.layer(Op::Select { channels }, &[both], vec![12, h, w]);
    let x = net.conv_relu(x, 8, 3);
    net.head(x)
}

fn average(window: Window) -> Op {
    Op::AvgPool { window, count_include_pad: true }
}

/// `(x − mean)/std` inside the graph, as exporters leave it.
pub(crate) fn affine_on_the_input() -> Network {
    let mut net = Growing::new("affine-on-the-input", SHAPE);
    let norm = BatchNorm::from_affine(vec![4.0, 3.5, 4.5], vec![-2.0, 1.5, -1.8]);
    let x = net.same(Op::BatchNorm(norm), net.input());
    let x = net.conv_relu(x, 8, 3);
    let x = net.conv_relu(x, 8, 3);
    net.head(x)
}

/// A constant factor and offset between a convolution and its activation, and a normalization whose statistics are not
/// the data's.
pub(crate) fn affine_between() -> Network {
    let mut net = Growing::new("affine-between", SHAPE);
    let x = net.conv(net.input(), 8, 3, 1);
    let x = net.same(Op::BatchNorm(BatchNorm::from_affine(vec![0.1; 8], vec![0.05; 8])), x);
    let x = net.same(Op::Relu, x);
    let x = net.conv(x, 8, 3, 1);
    let norm = BatchNorm {
        scale: vec![1.5; 8],
        shift: vec![0.3; 8],
        mean: vec![-0.2; 8],
        variance: vec![4.0; 8],
        epsilon: 1e-3,
    };
    let x = net.same(Op::BatchNorm(norm), x);
    let x = net.same(Op::Relu, x);
    net.head(x)
}

/// A concatenation whose first operand is a hundredth of its second.
pub(crate) fn concat_of_unequal() -> Network {
    let mut net = Growing::new("concat-of-unequal", SHAPE);
    let x = net.conv_relu(net.input(), 8, 3);
    let small = net.conv(x, 4, 1, 1);
    let small = net.same(Op::BatchNorm(BatchNorm::from_affine(vec![0.01; 4], vec![0.0; 4])), small);
    let small = net.same(Op::Relu, small);
    let large = net.conv_relu(x, 4, 3);
    let joined = net.layer(Op::Concat, &[small, large], vec![8, 12, 12]);
    let x = net.conv_relu(joined, 8, 3);
    net.head(x)
}

/// An addition that no convolution can absorb: both operands come from pools.
pub(crate) fn add_alone() -> Network {
    let mut net = Growing::new("add-alone", SHAPE);
    let a = net.conv_relu(net.input(), 8, 3);
    let b = net.conv_relu(a, 8, 3);
    let a = net.pool(Op::MaxPool(window(2, 2, 0)), window(2, 2, 0), a);
    let b = net.pool(average(window(2, 2, 0)), window(2, 2, 0), b);
    let x = net.layer(Op::Add, &[a, b], vec![8, 6, 6]);
    let x = net.conv_relu(x, 8, 3);
    net.head(x)
}

/// A convolution, its activation and a global pool at the end, as in SqueezeNet.
pub(crate) fn global_pool_last() -> Network {
    let mut net = Growing::new("global-pool-last", SHAPE);
    let x = net.conv_relu(net.input(), 8, 3);
    let x = net.conv_relu(x, 20, 1);
    let x = net.global(x);
    let output = net.layer(Op::Flatten, &[x], vec![20]);
    net.finish(output)
}

/// Basic blocks, one with a projection.
pub(crate) fn residual() -> Network {
    let mut net = Growing::new("residual", SHAPE);
    let x = net.conv_relu(net.input(), 8, 3);
    let y = net.conv_relu(x, 8, 3);
    let y = net.conv(y, 8, 3, 1);
    let sum = net.layer(Op::Add, &[y, x], vec![8, 12, 12]);
    let x = net.same(Op::Relu, sum);
    let y = net.conv(x, 16, 3, 1);
    let z = net.conv(x, 16, 1, 1);
    let sum = net.layer(Op::Add, &[y, z], vec![16, 12, 12]);
    let x = net.same(Op::Relu, sum);
    net.head(x)
}

/// Sums a ten-thousandth of what follows: far below the ε that normalizations usually have.
pub(crate) fn faint() -> Network {
    let mut net = Growing::new("faint", SHAPE);
    let x = net.conv_relu(net.input(), 8, 3);
    let x = net.conv(x, 8, 3, 1);
    net.scale_last(1e-4);
    let x = net.same(Op::Relu, x);
    let x = net.conv(x, 8, 3, 1);
    net.scale_last(1e4);
    let x = net.same(Op::Relu, x);
    net.head(x)
}

/// A fully connected layer between others: one value a channel.
pub(crate) fn hidden() -> Network {
    let mut net = Growing::new("hidden", SHAPE);
    let x = net.conv_relu(net.input(), 8, 3);
    let x = net.global(x);
    let x = net.linear(x, 16);
    let x = net.same(Op::Relu, x);
    let output = net.linear(x, 10);
    net.finish(output)
}

/// A pool that reads the input.
pub(crate) fn pool_first() -> Network {
    let mut net = Growing::new("pool-first", SHAPE);
    let input = net.input();
    let x = net.pool(average(window(2, 2, 0)), window(2, 2, 0), input);
    let x = net.conv_relu(x, 8, 3);
    net.head(x)
}

/// The input itself as an operand of an addition.
pub(crate) fn input_as_residual() -> Network {
    let mut net = Growing::new("input-as-residual", SHAPE);
    let input = net.input();
    let y = net.conv(input, 3, 3, 1);
    let sum = net.layer(Op::Add, &[y, input], vec![3, 12, 12]);
    let x = net.same(Op::Relu, sum);
    let x = net.conv_relu(x, 8, 3);
    net.head(x)
}

/// Images of two labels, each with a brightness, a slope and noise of its own.
pub(crate) fn images(count: usize, [height, width, channels]: [usize; 3], seed: u64) -> Dataset {
    let mut set = data::random(count, [height, width, channels], seed);
    let size = height * width * channels;
    let knobs = data::random(count, [1, 1, 3 * channels], seed + 1);
    for (index, image) in set.images.chunks_exact_mut(size).enumerate() {
        let knobs = &knobs.images[index * 3 * channels..][..3 * channels];
        for (at, value) in image.iter_mut().enumerate() {
            let (y, x, c) = (at / channels / width, at / channels % width, at % channels);
            let [level, down, across] = [knobs[3 * c], knobs[3 * c + 1], knobs[3 * c + 2]].map(f32::from);
            let (v, u) = (y as f32 / height as f32 - 0.5, x as f32 / width as f32 - 0.5);
            let smooth = level + (down - 128.0) * v + (across - 128.0) * u;
            *value = (0.75 * smooth + 0.25 * f32::from(*value)).clamp(0.0, 255.0) as u8;
        }
        set.labels[index] = (index % 2) as u32;
    }
    set
}
