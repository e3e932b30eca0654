//! AMX: products of 16 × 64 by 64 × 16 bytes in one instruction; everything else as with AVX-512.
//!
//! The instructions have no stable intrinsics, so they are written out. Nothing else uses the tile registers: each
//! convolution configures them, and gives them back at its end.
#![expect(unsafe_code, reason = "instructions without intrinsics, and loads and stores through pointers")]

mod unpacking;

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::mem::MaybeUninit;

use super::avx512::{Avx512, best_rate, finish};
use super::direct::{Direct, Matrix, Task};
use super::panels::{FILTERS, Line};
use super::source::{Demands, Segments};
use crate::kernels::level::Level;
use crate::kernels::{ConvLayer, Kernel, PreparedConv};

/// The proof that this CPU has AMX for bytes, that the system lets this process use it, and that there is AVX-512.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amx(Avx512);

impl Kernel for Amx {
    fn new() -> Option<Self> {
        let avx512 = Avx512::new()?;
        let features = __cpuid_count(7, 0).edx;
        let (tile, int8) = (features >> 24 & 1, features >> 25 & 1);
        (tile == 1 && int8 == 1 && permitted()).then_some(Amx(avx512))
    }

    fn name(&self) -> &'static str {
        "amx"
    }

    fn level(&self) -> Level {
        self.0.level()
    }

    fn peak(&self) -> Option<f64> {
        const ROUNDS: usize = 20_000;
        let work = (ROUNDS * 4 * ROWS * FILTERS * 64) as f64;
        self.begin();
        // SAFETY: the tiles are configured, and only tile registers change.
        let round = || unsafe {
            asm!(
                "2:",
                "tdpbusd tmm0, tmm4, tmm6",
                "tdpbusd tmm1, tmm4, tmm7",
                "tdpbusd tmm2, tmm5, tmm6",
                "tdpbusd tmm3, tmm5, tmm7",
                "dec {count}",
                "jnz 2b",
                count = inout(reg) ROUNDS => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem),
            );
        };
        let rate = best_rate(round, work);
        self.end();
        Some(rate)
    }

    fn prepare(&self, layer: &ConvLayer) -> Box<dyn PreparedConv> {
        // A tile's sixteen pixels would mostly be empty.
        let few = layer.output.h * layer.output.w < 8;
        if few || layer.is_depthwise() { self.0.prepare(layer) } else { Box::new(Direct::new(*self, layer)) }
    }
}

/// Asks Linux for the tile registers' state (`ARCH_REQ_XCOMP_PERM`), once for all threads of the process.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call takes two numbers and touches no memory of this process.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Rows of a tile.
const ROWS: usize = 16;

/// Palette 1, all eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration([u8; 64]);

const CONFIGURATION: Configuration = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64;
        bytes[48 + tile] = ROWS as u8;
        tile += 1;
    }
    Configuration(bytes)
};

impl Matrix for Amx {
    const NAME: &'static str = "amx direct";
    const DEMANDS: Demands = Demands { depth: 64, pixels: ROWS };

    fn panels(left: usize) -> usize {
        left.min(2)
    }

    fn unpacks(segments: &Segments) -> bool {
        // With more tiles it pays to unpack once.
        segments.count * segments.pixels.div_ceil(ROWS) <= 16
    }

    fn unpack(self, packed: &[Line], table: &Line, steps: &mut [Line]) {
        self.0.unpack(packed, table, steps);
    }

    fn begin(self) {
        // SAFETY: the value proves that the CPU and the system allow it; the configuration is valid.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, preserves_flags, readonly)) }
    }

    fn end(self) {
        // SAFETY: as above.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }

    unsafe fn multiply(self, task: &Task, input: *const u8) {
        let segments = &task.segments;
        let at = |tile: usize| {
            let (segment, first) = segments.tile(tile, ROWS);
            // SAFETY: the caller's promise.
            unsafe {
                let input = input.sub(segments.lead * task.pixel_step);
                input.add(segment * segments.input_step + first * task.pixel_step)
            }
        };
        let mut sums = MaybeUninit::<Sums>::uninit();
        let sums = sums.as_mut_ptr().cast::<i32>();
        let of_tile = ROWS * task.count * FILTERS;
        let tiles = segments.count * segments.pixels.div_ceil(ROWS);
        // All products first, then all ends: so the processor has several products to work on at a time.
        let batch = if task.pieces.len() < FEW_PIECES { TILES } else { 4 } / task.count;
        for start in (0..tiles).step_by(batch) {
            let end = tiles.min(start + batch);
            let mut tile = start;
            if let Some((packed, tables)) = task.packed {
                while tile < end {
                    // The last one may be alone: it is done twice.
                    let input = [at(tile), at((tile + 1).min(tiles - 1))];
                    // SAFETY: the caller's promise, and the value proves AVX-512; the tiles are configured. The sums
                    // have room for one tile more.
                    unsafe {
                        let sums = sums.add((tile - start) * of_tile);
                        unpacking::two_by_two(self.0, task, packed, tables, input, sums);
                    }
                    tile += 2;
                }
            }
            while tile < end {
                // SAFETY: the sums have room for every tile from `start` to `end`.
                let out = unsafe { sums.add((tile - start) * of_tile) };
                // SAFETY: the caller's promise, and the tiles are configured.
                tile += unsafe { products(task, end - tile, |index| at(tile + index), out) };
            }
            for tile in start..end {
                let (segment, first) = segments.tile(tile, ROWS);
                let rows = ROWS.min(segments.pixels - first);
                // SAFETY: the value proves AVX-512; the products have written these sums.
                unsafe {
                    let sums = sums.add((tile - start) * of_tile + segments.lead * task.count * FILTERS);
                    finish(task, sums, first, rows, task.pixel + segment * segments.output_step);
                }
            }
        }
    }
}

/// Below this many pieces a product is too short to hide what comes before and after it.
const FEW_PIECES: usize = 6;

/// Most tiles of sums that are kept.
const TILES: usize = 16;

/// By pixel tile, row, panel, filter.
#[repr(C, align(64))]
struct Sums([i32; TILES * ROWS * FILTERS]);

/// Multiplies as many tiles of pixels as one loop takes, of `left`, and tells how many.
///
/// # Safety
/// As [`Matrix::multiply`]; the tiles are configured, and `sums` has room for `left` tiles.
#[inline]
unsafe fn products(task: &Task, left: usize, at: impl Fn(usize) -> *const u8, sums: *mut i32) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        match (task.count, left) {
            (2, 1) => {
                one_by_two(task, [at(0)], sums);
                1
            }
            (2, _) => {
                two_by_two(task, [at(0), at(1)], sums);
                2
            }
            (_, 1..4) => {
                one_by_one(task, [at(0)], sums);
                1
            }
            _ => {
                four_by_one(task, [at(0), at(1), at(2), at(3)], sums);
                4
            }
        }
    }
}

/// A loop over the pieces of the patches: `$m` tiles of pixels by `$n` panels.
macro_rules! product {
    ($name:ident, $m:literal, [$($pointer:ident = $index:literal),*], $zero:expr, [$($body:expr),* $(,)?], [$($store:expr),* $(,)?] $(, panel = $panel:literal)?) => {
        /// # Safety
        /// The tiles are configured; every pointer has sixteen patches, the task as many steps as its pieces need, and
        /// `sums` has room.
        #[inline]
        unsafe fn $name(task: &Task, input: [*const u8; $m], sums: *mut i32) {
            let weights = task.panels.as_ptr();
            let row = task.count * FILTERS * 4;
            // SAFETY: the caller's promise. The tile registers are free.
            unsafe {
                asm!(
                    $zero,
                    "2:",
                    "mov {offset}, [{pieces}]",
                    $($body,)*
                    "add {pieces}, 8",
                    "add {weights}, 1024",
                    "dec {count}",
                    "jnz 2b",
                    $($store,)*
                    $($pointer = in(reg) input[$index],)*
                    offset = out(reg) _,
                    at = out(reg) _,
                    pieces = inout(reg) task.pieces.as_ptr() => _,
                    weights = inout(reg) weights => _,
                    count = inout(reg) task.pieces.len() => _,
                    step = in(reg) task.pixel_step,
                    line = in(reg) 64usize,
                    $(panel = in(reg) $panel * task.pieces.len() * 16 * 64,)?
                    sums = inout(reg) sums => _,
                    row = in(reg) row,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

product!(
    two_by_two,
    2,
    [a = 0, b = 1],
    "tilezero tmm0\n tilezero tmm1\n tilezero tmm2\n tilezero tmm3",
    [
        "lea {at}, [{a} + {offset}]",
        "tileloadd tmm4, [{at} + {step}*1]",
        "tileloadd tmm6, [{weights} + {line}*1]",
        "tdpbusd tmm0, tmm4, tmm6",
        "lea {at}, [{weights} + {panel}]",
        "tileloadd tmm7, [{at} + {line}*1]",
        "tdpbusd tmm1, tmm4, tmm7",
        "add {offset}, {b}",
        "tileloadd tmm5, [{offset} + {step}*1]",
        "tdpbusd tmm2, tmm5, tmm6",
        "tdpbusd tmm3, tmm5, tmm7",
    ],
    [
        "tilestored [{sums} + {row}*1], tmm0",
        "tilestored [{sums} + {row}*1 + 64], tmm1",
        "add {sums}, 2048",
        "tilestored [{sums} + {row}*1], tmm2",
        "tilestored [{sums} + {row}*1 + 64], tmm3",
    ],
    panel = 1
);

product!(
    one_by_two,
    1,
    [a = 0],
    "tilezero tmm0\n tilezero tmm1",
    [
        "lea {at}, [{weights} + {panel}]",
        "tileloadd tmm6, [{weights} + {line}*1]",
        "tileloadd tmm7, [{at} + {line}*1]",
        "add {offset}, {a}",
        "tileloadd tmm4, [{offset} + {step}*1]",
        "tdpbusd tmm0, tmm4, tmm6",
        "tdpbusd tmm1, tmm4, tmm7",
    ],
    ["tilestored [{sums} + {row}*1], tmm0", "tilestored [{sums} + {row}*1 + 64], tmm1",],
    panel = 1
);

product!(
    four_by_one,
    4,
    [a = 0, b = 1, c = 2, d = 3],
    "tilezero tmm0\n tilezero tmm1\n tilezero tmm2\n tilezero tmm3",
    [
        "tileloadd tmm7, [{weights} + {line}*1]",
        "lea {at}, [{a} + {offset}]",
        "tileloadd tmm4, [{at} + {step}*1]",
        "lea {at}, [{b} + {offset}]",
        "tdpbusd tmm0, tmm4, tmm7",
        "tileloadd tmm5, [{at} + {step}*1]",
        "lea {at}, [{c} + {offset}]",
        "tdpbusd tmm1, tmm5, tmm7",
        "tileloadd tmm6, [{at} + {step}*1]",
        "lea {at}, [{d} + {offset}]",
        "tdpbusd tmm2, tmm6, tmm7",
        "tileloadd tmm4, [{at} + {step}*1]",
        "tdpbusd tmm3, tmm4, tmm7",
    ],
    [
        "tilestored [{sums} + {row}*1], tmm0",
        "tilestored [{sums} + {row}*1 + 1024], tmm1",
        "tilestored [{sums} + {row}*1 + 2048], tmm2",
        "tilestored [{sums} + {row}*1 + 3072], tmm3",
    ]
);

product!(
    one_by_one,
    1,
    [a = 0],
    "tilezero tmm0",
    [
        "tileloadd tmm7, [{weights} + {line}*1]",
        "lea {at}, [{a} + {offset}]",
        "tileloadd tmm4, [{at} + {step}*1]",
        "tdpbusd tmm0, tmm4, tmm7",
    ],
    ["tilestored [{sums} + {row}*1], tmm0"]
);
