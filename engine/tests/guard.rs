//! No kernel reads or writes outside the memory that it was given: every block that an engine takes lies at the edge of
//! a page that may not be touched. A touch ends the process; `--nocapture` then shows the model in whose run.
//!
//! Unlike a sanitizer this also sees instructions that are written out in assembly.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[path = "../examples/fuzz/graphs.rs"]
mod graphs;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use dyadic_engine::model::{Format, Normalization, Shape};
use dyadic_engine::testing::{Builder, ConvCase, Rng, resnet20, small_cnn};
use dyadic_engine::{Engine, Model, Team};

use graphs::{CHANNELS, any_format, any_groups, any_window, cost, wide_model};

/// Which side of a block the forbidden page is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Nowhere,
    Behind,
    Before,
}

thread_local! {
    static EDGE: Cell<Edge> = const { Cell::new(Edge::Nowhere) };
}

const PAGE: usize = 4096;
/// Addresses that are set aside; none is used twice, so that reads of freed memory are found too.
const REGION: usize = 1 << 36;
/// Blocks below this are none of a kernel's.
const SMALLEST: usize = 32;

static START: OnceLock<usize> = OnceLock::new();
static USED: AtomicUsize = AtomicUsize::new(PAGE);

/// Gives blocks with forbidden pages around them to threads that ask for it, all others the system's.
struct Guarding;

#[expect(unsafe_code, reason = "pages are taken from the system by hand")]
mod pages {
    use super::{EDGE, Edge};
    use super::{GlobalAlloc, Guarding, Layout, Ordering, PAGE, REGION, SMALLEST, START, System, USED};

    fn start() -> usize {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        *START.get_or_init(|| {
            // SAFETY: a new mapping touches no other memory.
            let region = unsafe { libc::mmap(std::ptr::null_mut(), REGION, libc::PROT_NONE, flags, -1, 0) };
            assert!(region != libc::MAP_FAILED, "no addresses to set aside");
            region as usize
        })
    }

    // SAFETY: blocks are pages of the region that nobody else gets, or the system's.
    unsafe impl GlobalAlloc for Guarding {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let edge = EDGE.get();
            if edge == Edge::Nowhere || layout.size() < SMALLEST || layout.align() > PAGE {
                // SAFETY: the caller keeps the contract.
                return unsafe { System.alloc(layout) };
            }
            let len = layout.size().next_multiple_of(PAGE);
            let offset = USED.fetch_add(len + PAGE, Ordering::Relaxed);
            if offset + len + PAGE > REGION {
                return std::ptr::null_mut();
            }
            let first = (start() + offset) as *mut u8;
            // SAFETY: these pages of the region are this block's alone.
            let opened = unsafe { libc::mprotect(first.cast(), len, libc::PROT_READ | libc::PROT_WRITE) };
            if opened != 0 {
                return std::ptr::null_mut();
            }
            let free = (len - layout.size()) / layout.align() * layout.align();
            first.wrapping_add(if edge == Edge::Behind { free } else { 0 })
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            let ours =
                START.get().is_some_and(|&start| (start..start + REGION).contains(&(pointer as usize)));
            if !ours {
                // SAFETY: the caller keeps the contract; the block came from the system.
                return unsafe { System.dealloc(pointer, layout) };
            }
            let first = (pointer as usize / PAGE * PAGE) as *mut libc::c_void;
            let len = layout.size().next_multiple_of(PAGE);
            // SAFETY: these pages were this block's alone.
            unsafe {
                libc::madvise(first, len, libc::MADV_DONTNEED);
                libc::mprotect(first, len, libc::PROT_NONE);
            }
        }
    }
}

#[global_allocator]
static ALLOCATOR: Guarding = Guarding;

/// Builds the model's engines and runs a sample, all of it in guarded memory, with the pages on either side, on one thread
/// and on several.
fn run_guarded(model: &Model, team: &Team) {
    println!("{}", model.name);
    let (lo, hi) = model.tensor(model.input.tensor).format.range();
    let mut rng = Rng::new(3);
    let codes: Vec<i32> = (0..model.input_shape().len()).map(|_| rng.code(lo, hi)).collect();
    for edge in [Edge::Behind, Edge::Before] {
        EDGE.set(edge);
        let input = codes.clone();
        for engine in Engine::on_every_kernel(model.clone()).expect("valid") {
            let mut out = vec![0; engine.output_len()];
            engine.run_codes(&mut engine.scratch(), &input, 1, &mut out).expect("valid codes");
            let engine = engine.with_finest_parts();
            engine.run_codes_on(team, &mut engine.scratch_for(3), &input, 1, &mut out).expect("valid codes");
        }
        EDGE.set(Edge::Nowhere);
    }
}

#[test]
fn convolutions_stay_within_their_memory() {
    let (mut rng, team) = (Rng::new(61), Team::new(3));
    for _ in 0..400 {
        let channels = rng.pick(&CHANNELS);
        let shape = Shape { h: rng.code(1, 9) as u32, w: rng.code(1, 33) as u32, c: channels };
        let groups = any_groups(&mut rng, channels);
        let filters = if groups == channels { channels } else { rng.pick(&CHANNELS) };
        // The output lies elsewhere than the input, so that both have their edges to themselves.
        let wide = Format::Signed { bits: 16 };
        let case = ConvCase {
            filters: filters.next_multiple_of(groups),
            window: any_window(&mut rng, shape),
            groups,
            bits: rng.pick(&[2, 2, 3, 4, 8]),
            output: wide,
            extreme: false,
        };
        if cost(shape, &case) > 20_000_000 {
            continue;
        }
        let (mut builder, x) = Builder::new(rng.bits(), shape, any_format(&mut rng));
        let y = match rng.below(3) {
            0 => builder.logits(x, &ConvCase { output: Format::Accumulator, ..case }),
            1 => builder.conv(x, &case, None),
            _ => {
                let residual = builder.conv(x, &case, None);
                builder.conv(x, &ConvCase { output: Format::Unsigned { bits: 6 }, ..case }, Some(residual))
            }
        };
        run_guarded(&builder.finish(&format!("{shape} {case:?}"), y), &team);
    }
}

#[test]
fn parts_of_few_pixels_stay_within_an_input_that_is_read_in_place() {
    let team = Team::new(3);
    let point =
        |filters: u32| ConvCase { output: Format::Signed { bits: 16 }, ..ConvCase::square(filters, 1, 1) };
    for (height, width, channels, filters) in
        [(8, 8, 1280, 192), (5, 7, 64, 16), (16, 1, 128, 32), (7, 14, 64, 48), (3, 31, 64, 33)]
    {
        let shape = Shape { h: height, w: width, c: channels };
        let format = Format::Unsigned { bits: 8 };
        for case in [point(filters), ConvCase { bits: 8, ..point(filters) }] {
            let (mut builder, x) = Builder::new(9, shape, format);
            let y = builder.conv(x, &case, None);
            run_guarded(&builder.finish(&format!("in place {shape} {case:?}"), y), &team);
        }
    }
}

#[test]
fn whole_networks_stay_within_their_memory() {
    let team = Team::new(3);
    for seed in 0..120 {
        run_guarded(&wide_model(seed, 3_000_000), &team);
    }
    for bits in [2, 4, 8] {
        run_guarded(&resnet20(1, bits), &team);
        run_guarded(&small_cnn(1, bits), &team);
    }
}

#[test]
fn the_input_and_the_output_stay_within_their_memory() {
    let (mut rng, team) = (Rng::new(62), Team::new(3));
    for channels in [1, 2, 3, 4, 5, 16, 33] {
        for side in [1, 3, 8, 17] {
            let shape = Shape { h: side, w: 33 - side, c: channels };
            let (mut builder, x) = Builder::new(rng.bits(), shape, any_format(&mut rng));
            let y = builder.affine(x, any_format(&mut rng));
            let mut model = builder.finish(&format!("{shape}"), y);
            let each = |value| vec![value; channels as usize];
            model.input.normalization = Some(Normalization { mean: each(0.45), std: each(0.225) });
            println!("{}", model.name);
            for edge in [Edge::Behind, Edge::Before] {
                EDGE.set(edge);
                let (floats, bytes) = (vec![0.3; shape.len()], vec![200; shape.len()]);
                for engine in Engine::on_every_kernel(model.clone()).expect("valid") {
                    let mut out = vec![0.0; engine.output_len()];
                    engine.run_f32(&mut engine.scratch(), &floats, 1, &mut out).expect("finite");
                    engine.run_u8(&mut engine.scratch(), &bytes, 1, &mut out).expect("normalized");
                    let mut scratch = engine.scratch_for(3);
                    let engine = engine.with_finest_parts();
                    engine.run_f32_on(&team, &mut scratch, &floats, 1, &mut out).expect("finite");
                    engine.run_u8_on(&team, &mut scratch, &bytes, 1, &mut out).expect("normalized");
                }
                EDGE.set(Edge::Nowhere);
            }
        }
    }
}

#[test]
fn a_touch_of_the_page_behind_a_block_would_end_the_process() {
    EDGE.set(Edge::Behind);
    let block = Vec::from([1u8; 100]);
    EDGE.set(Edge::Nowhere);
    let end = block.as_ptr_range().end as usize;
    assert!(end.is_multiple_of(PAGE), "the block ends at {end:#x}");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux shows a process its mappings");
    let forbidden = maps.lines().any(|line| line.starts_with(&format!("{end:x}-")) && line.contains("---p"));
    assert!(forbidden, "no forbidden page begins at {end:#x}");
}
