//! Whole models: random graphs of every operation, and a ResNet-20 for measuring.

use super::{Builder, ConvCase, Rng};
use crate::model::{Format, Model, Normalization, Shape, TensorId, Window};

/// A random graph: up to about a dozen nodes over small tensors, every operation, odd sizes, residuals.
pub fn random_model(seed: u64) -> Model {
    let mut rng = Rng::new(seed ^ 0x5EED);
    let shape = Shape { h: rng.code(1, 9) as u32, w: rng.code(1, 9) as u32, c: rng.code(1, 12) as u32 };
    let format = any_format(&mut rng);
    let (mut builder, mut x) = Builder::new(seed, shape, format);
    // MaxPool and Concat keep a step, and the input's is free.
    x = builder.affine(x, format);
    for _ in 0..rng.below(9) {
        x = random_layer(&mut builder, &mut rng, x);
    }
    let end = if rng.one_in(3) { x } else { random_end(&mut builder, &mut rng, x) };
    builder.finish(&format!("random-{seed}"), end)
}

fn any_format(rng: &mut Rng) -> Format {
    let bits = rng.code(2, 8) as u8;
    if rng.one_in(2) { Format::Unsigned { bits } } else { Format::Signed { bits } }
}

fn random_layer(builder: &mut Builder, rng: &mut Rng, x: TensorId) -> TensorId {
    let shape = builder.shape(x);
    match rng.below(11) {
        0..=2 => random_conv(builder, rng, x),
        3 => {
            let wide = if rng.one_in(2) { Format::Signed { bits: 16 } } else { any_format(rng) };
            let case = ConvCase { output: wide, ..random_case(rng, shape, shape.c, true) };
            let residual = builder.conv(x, &case, None);
            let case = ConvCase { output: any_format(rng), ..random_case(rng, shape, shape.c, true) };
            builder.conv(x, &case, Some(residual))
        }
        4 => {
            let wide = Format::Signed { bits: 16 };
            let a = builder.affine(x, wide);
            let b = builder.lut(x, wide);
            builder.add(a, b, any_format(rng))
        }
        5 => builder.max_pool(x, random_pool(rng, shape)),
        6 => builder.avg_pool(x, random_pool(rng, shape), any_format(rng)),
        7 => builder.lut(x, any_format(rng)),
        8 if shape.c <= 24 => {
            let format = any_format(rng);
            let parts = [builder.affine(x, format), builder.lut(x, format), builder.affine(x, format)];
            builder.concat(&parts[..rng.code(1, 3) as usize])
        }
        9 => {
            let gate = if rng.one_in(2) {
                builder.lut(x, any_format(rng))
            } else {
                let window =
                    Window { kernel: [shape.h, shape.w], stride: [1; 2], padding: [0; 4], dilation: [1; 2] };
                builder.avg_pool(x, window, any_format(rng))
            };
            builder.scale(x, gate, any_format(rng))
        }
        10 => {
            let count = rng.code(1, 20) as u32;
            let whole = rng.one_in(3);
            let first = rng.below(shape.c.into()) as u32;
            let channel = |i: u32, rng: &mut Rng| {
                if whole { (first + i) % shape.c } else { rng.below(shape.c.into()) as u32 }
            };
            let channels = (0..count).map(|i| channel(i, rng)).collect();
            builder.select(x, channels)
        }
        _ => builder.affine(x, any_format(rng)),
    }
}

fn random_conv(builder: &mut Builder, rng: &mut Rng, x: TensorId) -> TensorId {
    let shape = builder.shape(x);
    let filters = rng.code(1, 19) as u32;
    let case = random_case(rng, shape, filters, false);
    builder.conv(x, &case, None)
}

/// A case that fits the shape; `same` keeps height and width.
fn random_case(rng: &mut Rng, shape: Shape, filters: u32, same: bool) -> ConvCase {
    let groups = match rng.below(4) {
        0 => shape.c,
        1 => (1..=shape.c).rev().find(|g| shape.c.is_multiple_of(*g) && *g <= 3).unwrap_or(1),
        _ => 1,
    };
    let window = if same { same_window(rng) } else { random_window(rng, shape) };
    ConvCase {
        filters: filters.next_multiple_of(groups),
        window,
        groups,
        bits: rng.code(2, 8) as u8,
        output: any_format(rng),
        extreme: rng.one_in(3),
    }
}

fn same_window(rng: &mut Rng) -> Window {
    let [a, b] = [0, 1].map(|_| rng.below(3) as u32);
    let dilation = [rng.code(1, 2) as u32, rng.code(1, 2) as u32];
    let (down, right) = (a * dilation[0], b * dilation[1]);
    Window { kernel: [2 * a + 1, 2 * b + 1], stride: [1; 2], padding: [down, right, down, right], dilation }
}

fn random_window(rng: &mut Rng, shape: Shape) -> Window {
    loop {
        let window = Window {
            kernel: [rng.code(1, 5) as u32, rng.code(1, 5) as u32],
            stride: [rng.code(1, 3) as u32, rng.code(1, 3) as u32],
            padding: [0; 4].map(|_| rng.below(3) as u32),
            dilation: [rng.code(1, 2) as u32, rng.code(1, 3) as u32],
        };
        if window.output([shape.h, shape.w]).is_some() {
            return window;
        }
    }
}

/// A pool whose padding is smaller than its kernel, so that no window misses the input.
fn random_pool(rng: &mut Rng, shape: Shape) -> Window {
    let kernel = [shape.h, shape.w].map(|size| rng.code(1, size.min(4) as i32) as u32);
    let stride = [rng.code(1, 3) as u32, rng.code(1, 3) as u32];
    let mut padding = [0; 4];
    for (side, amount) in padding.iter_mut().enumerate() {
        *amount = rng.below(u64::from(kernel[side % 2])) as u32;
    }
    Window { kernel, stride, padding, dilation: [1; 2] }
}

fn random_end(builder: &mut Builder, rng: &mut Rng, x: TensorId) -> TensorId {
    let shape = builder.shape(x);
    let window = Window { kernel: [shape.h, shape.w], stride: [1; 2], padding: [0; 4], dilation: [1; 2] };
    let case = ConvCase {
        filters: rng.code(1, 11) as u32,
        window,
        groups: 1,
        bits: rng.pick(&[2, 4, 8]),
        output: Format::Accumulator,
        extreme: rng.one_in(4),
    };
    builder.logits(x, &case)
}

/// A ResNet-20 for 32 × 32 RGB images, 40.8 million multiply-accumulates, with random weights of `bits` bits and
/// 8-bit first and last layers: 6-bit codes into the 3 × 3 convolutions, 8-bit ones elsewhere.
pub fn resnet20(seed: u64, bits: u8) -> Model {
    let narrow = Format::Unsigned { bits: 6 };
    let full = Format::Unsigned { bits: 8 };
    let shape = Shape { h: 32, w: 32, c: 3 };
    let (mut builder, input) = Builder::new(seed, shape, Format::Signed { bits: 8 });
    let first = ConvCase { bits: 8, output: full, ..ConvCase::square(16, 3, 1) };
    let mut skip = builder.conv(input, &first, None);
    for (stage, filters) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..3 {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let x = builder.affine(skip, narrow);
            let case = ConvCase { bits, output: narrow, ..ConvCase::square(filters, 3, stride) };
            let middle = builder.conv(x, &case, None);
            if stride == 2 {
                let case = ConvCase { bits, output: full, ..ConvCase::square(filters, 1, 2) };
                skip = builder.conv(skip, &case, None);
            }
            let case = ConvCase { bits, output: full, ..ConvCase::square(filters, 3, 1) };
            skip = builder.conv(middle, &case, Some(skip));
        }
    }
    let window = Window { kernel: [8; 2], stride: [1; 2], padding: [0; 4], dilation: [1; 2] };
    let pooled = builder.avg_pool(skip, window, full);
    let last = ConvCase { bits: 8, ..ConvCase::square(10, 1, 1) };
    let logits = builder.logits(pooled, &last);
    let mut model = builder.finish(&format!("resnet20-{bits}bit"), logits);
    model.input.normalization =
        Some(Normalization { mean: vec![0.491_4, 0.482_2, 0.446_5], std: vec![0.247, 0.243_5, 0.261_6] });
    model
}

/// A little network of the usual shape for 12 × 12 RGB images: convolutions, a residual, a depthwise layer, a pool,
/// logits for five classes.
pub fn small_cnn(seed: u64, bits: u8) -> Model {
    let narrow = Format::Unsigned { bits: 6 };
    let shape = Shape { h: 12, w: 12, c: 3 };
    let (mut builder, input) = Builder::new(seed, shape, Format::Signed { bits: 8 });
    let first = ConvCase { bits: 8, output: narrow, ..ConvCase::square(8, 3, 1) };
    let x = builder.conv(input, &first, None);
    let middle = builder.conv(x, &ConvCase { bits, ..ConvCase::square(8, 3, 1) }, None);
    let x = builder.conv(middle, &ConvCase { bits, ..ConvCase::square(8, 3, 1) }, Some(x));
    let x = builder.conv(x, &ConvCase { bits, groups: 8, ..ConvCase::square(8, 3, 2) }, None);
    let x = builder.conv(x, &ConvCase { bits, output: narrow, ..ConvCase::square(12, 1, 1) }, None);
    let window = Window { kernel: [6; 2], stride: [1; 2], padding: [0; 4], dilation: [1; 2] };
    let pooled = builder.avg_pool(x, window, Format::Unsigned { bits: 8 });
    let logits = builder.logits(pooled, &ConvCase { bits: 8, ..ConvCase::square(5, 1, 1) });
    let mut model = builder.finish(&format!("small-cnn-{bits}bit"), logits);
    model.input.normalization =
        Some(Normalization { mean: vec![0.491_4, 0.482_2, 0.446_5], std: vec![0.247, 0.243_5, 0.261_6] });
    model.output.labels = ["zero", "one", "two", "three", "four"].map(str::to_owned).to_vec();
    model
}
