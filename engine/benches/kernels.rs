//! Speed of the chosen kernel: single convolutions, and a whole ResNet-20.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dyadic_engine::Engine;
use dyadic_engine::model::{Format, Shape};
use dyadic_engine::testing::{Builder, ConvCase, resnet20};

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

criterion_group!(benches, convolutions, networks);
criterion_main!(benches);
