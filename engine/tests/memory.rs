//! Memory: nothing is allocated while an engine runs, and little while bytes are read.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dyadic_engine::artifact::Provenance;
use dyadic_engine::certificate::GoldenInput;
use dyadic_engine::engine::{MEMORY_LIMIT, Options};
use dyadic_engine::model::{Format, Normalization, Shape, Window};
use dyadic_engine::testing::{Builder, ConvCase, Rng, random_model, resnet20, small_cnn};
use dyadic_engine::{
    Artifact, ArtifactError, Certificate, CheckedModel, Engine, EngineError, Model, Pool, Team,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts this thread's allocations and the bytes that it holds.
struct Counting;

fn hold(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

#[expect(unsafe_code, reason = "an allocator cannot be written without; it only counts and passes on")]
// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        hold(layout.size() as isize);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// The most bytes that `work` holds at a time.
fn peak_bytes(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    (PEAK.get() - before) as usize
}

fn with_normalization(mut model: Model) -> Model {
    let channels = model.input_shape().c as usize;
    model.input.normalization = Some(Normalization {
        mean: (0..channels).map(|c| 0.4 + 0.03 * c as f32).collect(),
        std: (0..channels).map(|c| 0.25 - 0.01 * c as f32).collect(),
    });
    model
}

#[test]
fn nothing_is_allocated_once_the_scratch_exists() {
    for seed in 0..60 {
        let engine = Engine::new(with_normalization(random_model(seed))).expect("valid");
        let mut scratch = engine.scratch();
        let len = engine.input_shape().len();
        let (floats, bytes, codes) = (vec![0.25; 2 * len], vec![77u8; 2 * len], vec![0; 2 * len]);
        let mut values = vec![0.0; 2 * engine.output_len()];
        let mut sums = vec![0; 2 * engine.output_len()];
        let count = allocations(|| {
            engine.run_f32(&mut scratch, &floats, 2, &mut values).expect("valid");
            engine.run_u8(&mut scratch, &bytes, 2, &mut values).expect("valid");
            engine.run_codes(&mut scratch, &codes, 2, &mut sums).expect("valid");
        });
        assert_eq!(count, 0, "seed {seed}");
    }
}

/// A team that counts what all its threads allocate.
struct Counted {
    team: Team,
    allocations: AtomicUsize,
}

impl Pool for Counted {
    fn threads(&self) -> usize {
        self.team.threads()
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let counted = |index: usize| {
            self.allocations.fetch_add(allocations(|| task(index)), Ordering::Relaxed);
        };
        let own = allocations(|| self.team.run(tasks, &counted));
        self.allocations.fetch_add(own, Ordering::Relaxed);
    }
}

#[test]
fn nothing_is_allocated_on_several_threads_either() {
    let pool = Counted { team: Team::new(3), allocations: AtomicUsize::new(0) };
    let models = (0..60).map(random_model).chain([resnet20(1, 2), resnet20(2, 8)]);
    for (index, model) in models.enumerate() {
        for engine in Engine::on_every_kernel(with_normalization(model)).expect("valid") {
            let engine = engine.with_finest_parts();
            let mut scratch = engine.scratch_for(3);
            let len = engine.input_shape().len();
            let (floats, bytes, codes) = (vec![0.25; len], vec![77u8; len], vec![0; len]);
            let mut values = vec![0.0; engine.output_len()];
            let mut sums = vec![0; engine.output_len()];
            let count = allocations(|| {
                engine.run_f32_on(&pool, &mut scratch, &floats, 1, &mut values).expect("valid");
                engine.run_u8_on(&pool, &mut scratch, &bytes, 1, &mut values).expect("valid");
                engine.run_codes_on(&pool, &mut scratch, &codes, 1, &mut sums).expect("valid");
            });
            let others = pool.allocations.load(Ordering::Relaxed);
            assert_eq!((count, others), (0, 0), "model {index}, {}", engine.kernel_name());
        }
    }
}

/// Bytes that reading may hold for each byte of the file, and beside that.
const PER_BYTE: usize = 64;
const BESIDE: usize = 4096;

#[test]
fn reading_holds_a_small_multiple_of_the_files_size() {
    let mut rng = Rng::new(31);
    for seed in 0..50 {
        let model = if seed == 0 { resnet20(1, 2) } else { random_model(seed) };
        let certificate = Certificate::make(&model, vec![GoldenInput::Seed(1)]).expect("valid");
        let artifact = Artifact {
            model: model.try_into().expect("valid"),
            provenance: Provenance::default(),
            certificate,
        };
        let bytes = artifact.to_bytes().expect("valid");
        drop(artifact);
        for round in 0..40 {
            let mut damaged = bytes.clone();
            if round > 0 {
                // Numbers grow: each is a chance to make a length or a shape enormous.
                let header = damaged.len().min(6000) as u64;
                for _ in 0..=rng.below(3) {
                    let at = rng.below(header) as usize;
                    if damaged[at].is_ascii_digit() {
                        damaged[at] = b'9';
                    } else if round % 4 == 0 {
                        damaged[at] = rng.bits() as u8;
                    }
                }
            }
            let peak = peak_bytes(|| drop(Artifact::from_bytes(&damaged)));
            assert!(peak <= PER_BYTE * bytes.len() + BESIDE, "seed {seed}: {peak} for {} bytes", bytes.len());
        }
    }
}

#[test]
fn a_header_of_brackets_or_numbers_does_not_blow_up() {
    for filler in ["[", "[0,", "0,", "{\"a\":"] {
        let text = filler.repeat(100_000);
        let header =
            format!("{{\"__metadata__\":{{\"dyadic\":\"x\"}},\"t\":{{\"dtype\":\"U8\",\"shape\":[{text}");
        let file = [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes()].concat();
        let peak = peak_bytes(|| assert!(Artifact::from_bytes(&file).is_err()));
        assert!(peak <= PER_BYTE * file.len(), "{filler}: {peak} for {} bytes", file.len());
    }
}

#[test]
fn a_history_of_many_little_values_does_not_blow_up() {
    for member in ["job", "later"] {
        let text =
            format!("{{\"format\":1,\"provenance\":{{\"{member}\":[{}0]}}}}", "{\"\":0},".repeat(100_000));
        let header = serde_json::json!({"__metadata__": {"dyadic": text}}).to_string();
        let file = [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes()].concat();
        let peak = peak_bytes(|| assert!(Artifact::from_bytes(&file).is_err()));
        assert!(peak <= PER_BYTE * file.len(), "{member}: {peak} for {} bytes", file.len());
    }
}

#[test]
fn an_engine_takes_no_more_memory_than_it_counts() {
    /// What an operation's numbers may take beside that.
    const OF_NODE: usize = 4096;
    let models = (0..80).map(random_model).chain([2, 4, 8].map(|bits| resnet20(1, bits)));
    for model in models.chain([small_cnn(1, 3), sparse_layers()]) {
        let model = CheckedModel::new(model).expect("valid");
        for kernel in Engine::on_every_kernel(Arc::clone(model.as_arc())).expect("valid") {
            let options = Options { kernel: Some(kernel.kernel_name()), threads: Some(1) };
            drop(kernel);
            let mut counted = 0;
            let peak = peak_bytes(|| {
                let engine = options.build(model.clone()).expect("valid");
                counted = engine.memory_bytes();
                drop(engine.scratch());
            });
            let most = counted + OF_NODE * (model.nodes.len() + 1);
            assert!(peak <= most, "{} on {:?}: {peak}, counted {counted}", model.name, options.kernel);
        }
    }
}

/// Layers whose weights become much larger in panels: groups, few filters, few channels, depthwise ones.
fn sparse_layers() -> Model {
    let (mut builder, mut x) = Builder::new(3, Shape { h: 6, w: 6, c: 96 }, Format::Unsigned { bits: 6 });
    for (filters, side, groups, bits) in [
        (96, 3, 48, 2),
        (96, 5, 96, 8),
        (3, 3, 3, 4),
        (5, 7, 1, 8),
        (257, 1, 1, 2),
        (64, 3, 1, 2),
        (64, 3, 64, 2),
    ] {
        let case = ConvCase { groups, bits, ..ConvCase::square(filters, side, 1) };
        x = builder.conv(x, &case, None);
    }
    builder.finish("sparse layers", x)
}

/// So many tables, one after the other, on one channel of `side` × `side` codes, and then the largest code.
fn tables(count: usize, side: u32) -> Model {
    let bytes = Format::Unsigned { bits: 8 };
    let (mut builder, mut x) = Builder::new(1, Shape { h: side, w: side, c: 1 }, bytes);
    for _ in 0..count {
        x = builder.lut(x, bytes);
    }
    let window = Window { kernel: [side; 2], stride: [1; 2], padding: [0; 4], dilation: [1; 2] };
    let y = builder.max_pool(x, window);
    builder.finish("tables", y)
}

#[test]
fn a_certificate_is_made_and_replayed_with_few_tensors_in_memory() {
    const SIDE: u32 = 512;
    const CODES: usize = (SIDE * SIDE) as usize;
    let model = tables(40, SIDE);
    let mut certificate = Certificate::default();
    let inputs = vec![GoldenInput::Seed(1), GoldenInput::Seed(2)];
    // Two tensors at a time, and a few small things, in the reference's 32 bits.
    let made = peak_bytes(|| certificate = Certificate::make(&model, inputs).expect("valid"));
    assert!(made <= 3 * 4 * CODES, "making holds {made} bytes for tensors of {CODES} codes");
    // In the engine a code is a byte.
    let engine = Options { threads: Some(1), ..Options::default() }.build(model).expect("valid");
    let replayed = peak_bytes(|| _ = engine.verify(&certificate).expect("exact"));
    assert!(replayed <= 3 * CODES, "replaying holds {replayed} bytes for tensors of {CODES} codes");
}

#[test]
fn a_certificate_that_would_take_too_long_to_replay_is_refused_with_its_file() {
    // Large tensors by hand: nobody could make this certificate.
    let model = CheckedModel::new(tables(100, 1000)).expect("valid");
    let certificate = Certificate::make(&model, vec![GoldenInput::Seed(1)]).expect("valid");
    let bytes = Artifact { model, provenance: Provenance::default(), certificate }.to_bytes().expect("valid");
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().expect("a header")) as usize;
    let mut large = bytes.clone();
    for (from, to) in [("[1000,1000,1]", "[8192,8192,1]"), ("[1000,1000]", "[8192,8192]")] {
        for at in 0..header - from.len() {
            if bytes[at..].starts_with(from.as_bytes()) {
                large[at..at + to.len()].copy_from_slice(to.as_bytes());
            }
        }
    }
    assert!(large.len() < 100_000, "{} bytes", large.len());
    let mut result = None;
    let peak = peak_bytes(|| result = Some(Artifact::from_bytes(&large)));
    assert!(
        matches!(result, Some(Err(ArtifactError::Certificate(_)))),
        "{:?}",
        result.map(|read| read.map(|artifact| artifact.model.tensors.len()))
    );
    assert!(peak <= PER_BYTE * large.len() + BESIDE, "{peak} for {} bytes", large.len());
}

/// Many groups of few filters with large windows: panels are mostly padding.
fn sparse_groups() -> Model {
    let shape = Shape { h: 1, w: 1, c: 65_536 };
    let (mut builder, x) = Builder::new(2, shape, Format::Unsigned { bits: 8 });
    let window = Window { kernel: [25; 2], stride: [1; 2], padding: [12; 4], dilation: [1; 2] };
    let case = ConvCase { window, groups: 32_768, ..ConvCase::square(32_768, 25, 1) };
    let y = builder.conv(x, &case, None);
    builder.finish("sparse groups", y)
}

#[test]
fn panels_are_counted_before_they_are_made() {
    let model = CheckedModel::new(sparse_groups()).expect("valid");
    for kernel in ["generic", "avx2", "avx512-vnni", "amx"] {
        let options = Options { kernel: Some(kernel), threads: Some(1) };
        let mut result = None;
        let peak = peak_bytes(|| result = Some(options.build(model.clone()).map(drop)));
        assert!(peak <= MEMORY_LIMIT, "{kernel} takes {peak} bytes");
        match result {
            Some(Err(EngineError::Memory { .. })) => assert!(peak < 64 * 1024, "{kernel} takes {peak} bytes"),
            Some(Ok(()) | Err(EngineError::Kernel { .. })) => {}
            other => panic!("{kernel}: {other:?}"),
        }
    }
}
