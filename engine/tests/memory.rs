//! Memory: nothing is allocated while an engine runs, and little while bytes are read.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use dyadic_engine::certificate::GoldenInput;
use dyadic_engine::model::Normalization;
use dyadic_engine::testing::{Rng, random_model, resnet20};
use dyadic_engine::{Artifact, Certificate, Engine, Model, Pool, Team};

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
            provenance: dyadic_engine::artifact::Provenance::default(),
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
