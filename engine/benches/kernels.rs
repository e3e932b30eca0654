//! Speed of the chosen kernel: single convolutions, everything else at the sizes of ResNet-18 and ResNet-20, the
//! input's edge, and a whole ResNet-20.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dyadic_engine::model::{Format, Normalization, Op, Shape, TensorId, Window};
use dyadic_engine::testing::{Builder, ConvCase, resnet20};
use dyadic_engine::{Engine, Model};

fn convolutions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conv");
    let square = ConvCase::square;
    let cases = [
        ("3x3 16ch 32px", 16, 32, square(16, 3, 1)),
        ("3x3 32ch 16px", 32, 16, square(32, 3, 1)),
        ("3x3 64ch 8px", 64, 8, square(64, 3, 1)),
        ("3x3 256ch 14px", 256, 14, square(256, 3, 1)),
        ("1x1 64ch 28px", 64, 28, square(128, 1, 1)),
        ("3x3 depthwise 64ch 28px", 64, 28, ConvCase { groups: 64, ..square(64, 3, 1) }),
        ("7x7 stride 2, 3ch 112px", 3, 112, ConvCase { bits: 8, ..square(64, 7, 2) }),
    ];
    for (name, channels, side, case) in cases {
        let shape = Shape { h: side, w: side, c: channels };
        let (mut builder, x) = Builder::new(1, shape, Format::Unsigned { bits: 6 });
        let y = builder.conv(x, &case, None);
        let model = builder.finish(name, y);
        let macs = model.summary().iter().map(|node| node.macs).sum();
        let engine = Engine::new(model).expect("the generator's models are valid");
        let mut scratch = engine.scratch();
        let input = vec![1; engine.input_shape().len()];
        let mut out = vec![0; engine.output_len()];
        group.throughput(Throughput::Elements(macs));
        group.bench_function(name, |bencher| {
            bencher.iter(|| engine.run_codes(&mut scratch, black_box(&input), 1, &mut out));
        });
    }
    group.finish();
}

const BYTES: Format = Format::Unsigned { bits: 8 };
const SIX: Format = Format::Unsigned { bits: 6 };
const WORDS: Format = Format::Signed { bits: 16 };

fn window(kernel: u32, stride: u32, padding: u32) -> Window {
    Window { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 4], dilation: [1; 2] }
}

/// Gives all channels of every cast the first one's numbers.
fn uniform(model: &mut Model) {
    for node in &mut model.nodes {
        if let Op::Affine(rule) = &mut node.op {
            let (pre, multiplier) = (rule.pre[0], rule.multiplier[0]);
            let (bias, shift) = (rule.bias[0], rule.shift[0]);
            rule.pre.fill(pre);
            rule.multiplier.fill(multiplier);
            rule.bias.fill(bias);
            rule.shift.fill(shift);
        }
    }
}

/// The last node of a model alone, without what prepares its operands.
fn elementwise_and_pools(criterion: &mut Criterion) {
    type Layer = fn(&mut Builder, TensorId) -> TensorId;
    let mut group = criterion.benchmark_group("elementwise and pools");
    let max: Layer = |b, x| b.max_pool(x, window(3, 2, 1));
    let halve: Layer = |b, x| b.max_pool(x, window(2, 2, 0));
    let mean: Layer = |b, x| {
        let Shape { h, w, .. } = b.shape(x);
        b.avg_pool(x, Window { kernel: [h, w], ..window(1, 1, 0) }, BYTES)
    };
    let cast: Layer = |b, x| b.affine(x, SIX);
    let add: Layer = |b, x| b.add(TensorId(0), x, BYTES);
    let add_words: Layer = |b, x| {
        let wide = b.affine(x, WORDS);
        b.add(wide, x, BYTES)
    };
    let table: Layer = |b, x| b.lut(x, SIX);
    let join: Layer = |b, x| b.concat(&[x, x]);
    let cases = [
        ("max 3x3/2 64ch 112px", 64, 112, false, max),
        ("max 2x2/2 64ch 32px", 64, 32, false, halve),
        ("mean 512ch 7px", 512, 7, false, mean),
        ("mean 64ch 8px", 64, 8, false, mean),
        ("cast 64ch 56px", 64, 56, true, cast),
        ("cast 16ch 32px", 16, 32, true, cast),
        ("cast by channel 64ch 56px", 64, 56, false, cast),
        ("cast by channel 16ch 32px", 16, 32, false, cast),
        ("cast by channel 3ch 224px", 3, 224, false, cast),
        ("add 64ch 56px", 64, 56, false, add),
        ("add 16ch 32px", 16, 32, false, add),
        ("add 16 bits 64ch 56px", 64, 56, false, add_words),
        ("table 64ch 56px", 64, 56, false, table),
        ("concat 64ch 56px", 64, 56, false, join),
    ];
    for (name, channels, side, one_rule, layer) in cases {
        let shape = Shape { h: side, w: side, c: channels };
        let (mut builder, input) = Builder::new(1, shape, BYTES);
        let x = builder.lut(input, BYTES);
        let y = layer(&mut builder, x);
        let mut model = builder.finish(name, y);
        if one_rule {
            uniform(&mut model);
        }
        let engine = Engine::new(model).expect("the generator's models are valid");
        let mut scratch = engine.scratch();
        let codes: Vec<i32> = (0..shape.len() as i32).map(|index| index * 37 % 256).collect();
        group.throughput(Throughput::Elements(shape.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let steps = engine.profile(&mut scratch, &codes, rounds as usize).expect("valid codes");
                steps.last().map(|step| step.time).unwrap_or_default() * rounds as u32
            });
        });
    }
    group.finish();
}

/// A run of a model that looks at one pixel only.
fn input_edge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("input");
    for (channels, side) in [(3, 224), (3, 32), (1, 28), (4, 224)] {
        let shape = Shape { h: side, w: side, c: channels };
        let (mut builder, x) = Builder::new(1, shape, Format::Signed { bits: 8 });
        let y = builder.avg_pool(x, window(1, side, 0), BYTES);
        let mut model = builder.finish("edge", y);
        let each = |value| vec![value; channels as usize];
        model.input.normalization = Some(Normalization { mean: each(0.45), std: each(0.225) });
        let engine = Engine::new(model).expect("the generator's models are valid");
        let mut scratch = engine.scratch();
        let mut out = vec![0.0; engine.output_len()];
        let floats: Vec<f32> = (0..shape.len()).map(|index| (index % 401) as f32 * 0.011 - 2.2).collect();
        let bytes: Vec<u8> = (0..shape.len()).map(|index| (index * 37) as u8).collect();
        group.throughput(Throughput::Elements(shape.len() as u64));
        group.bench_function(format!("floats {channels}ch {side}px"), |bencher| {
            bencher.iter(|| engine.run_f32(&mut scratch, black_box(&floats), 1, &mut out));
        });
        group.bench_function(format!("bytes {channels}ch {side}px"), |bencher| {
            bencher.iter(|| engine.run_u8(&mut scratch, black_box(&bytes), 1, &mut out));
        });
    }
    group.finish();
}

fn networks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resnet20");
    for bits in [2, 4, 8] {
        let engine = Engine::new(resnet20(1, bits)).expect("the generator's models are valid");
        let mut scratch = engine.scratch();
        let input = vec![0.5; engine.input_shape().len()];
        let mut out = vec![0.0; engine.output_len()];
        group.bench_function(format!("{bits} bits"), |bencher| {
            bencher.iter(|| engine.run_f32(&mut scratch, black_box(&input), 1, &mut out));
        });
    }
    group.finish();
}

criterion_group!(benches, convolutions, elementwise_and_pools, input_edge, networks);
criterion_main!(benches);
