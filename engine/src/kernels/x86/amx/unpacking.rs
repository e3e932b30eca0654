//! Products by packed weights: each piece is unpacked while the one before it is multiplied, so weights cross the caches
//! with two bits each, and the unpacked ones never leave the first.

use std::arch::asm;
use std::arch::x86_64::*;

use crate::kernels::x86::avx512::Avx512;
use crate::kernels::x86::direct::{Matrix, Task};
use crate::kernels::x86::panels::Line;

/// Pieces that are unpacked ahead: a tile is loaded late enough after it was stored.
const AHEAD: usize = 3;

/// Unpacked pieces in turn, each of both panels. Aligned to twice its size, so that a cleared bit wraps around.
#[repr(C, align(16384))]
struct Space([Line; 32 * (AHEAD + 1)]);

/// Multiplies two tiles of pixels by two packed panels into `sums`: `[tile][row][panel][filter]`.
///
/// # Safety
/// The tiles are configured; every pointer has sixteen patches; `sums` has room.
pub(super) unsafe fn two_by_two(
    avx512: Avx512,
    task: &Task,
    packed: &[Line],
    tables: &[Line],
    input: [*const u8; 2],
    sums: *mut i32,
) {
    let panel = 4 * task.pieces.len();
    // Unpacking goes some pieces too far.
    assert!(packed.len() >= 2 * panel + 4 * AHEAD && tables.len() >= 2, "two packed panels and a piece more");
    let mut space = Space([Line([0; 64]); 32 * (AHEAD + 1)]);
    for (piece, lines) in space.0.as_chunks_mut::<32>().0[..AHEAD].iter_mut().enumerate() {
        let (first, second) = lines.split_at_mut(16);
        avx512.unpack(&packed[4 * piece..][..4], &tables[0], first);
        avx512.unpack(&packed[panel + 4 * piece..][..4], &tables[1], second);
    }
    // SAFETY: the caller's promise; the assertion covers what is unpacked.
    unsafe { multiply(task, &packed[4 * AHEAD..], tables, input, &mut space, sums) }
}

#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn multiply(
    task: &Task,
    packed: &[Line],
    tables: &[Line],
    input: [*const u8; 2],
    space: &mut Space,
    sums: *mut i32,
) {
    // SAFETY: the caller's promise. The tile registers are free.
    unsafe {
        let levels = [0, 1].map(|panel: usize| _mm512_load_si512(tables[panel].0.as_ptr().cast()));
        let quads = _mm512_set4_epi32(0x0C0C_0C0C, 0x0808_0808, 0x0404_0404, 0);
        let three = _mm512_set1_epi8(3);
        asm!(
            "tilezero tmm0\n tilezero tmm1\n tilezero tmm2\n tilezero tmm3",
            "2:",
            "mov {offset}, [{pieces}]",
            "lea {at}, [{a} + {offset}]",
            "tileloadd tmm4, [{at} + {step}*1]",
            "tileloadd tmm6, [{space} + {line}*1]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{space} + {line}*1 + 1024]",
            "tdpbusd tmm1, tmm4, tmm7",
            "add {offset}, {b}",
            "tileloadd tmm5, [{offset} + {step}*1]",
            "tdpbusd tmm2, tmm5, tmm6",
            "tdpbusd tmm3, tmm5, tmm7",
            "add {space}, 2048",
            "and {space}, -8193",
            ".irp from, 0, 64, 128, 192",
            "vmovdqa64 {codes}, [{packed} + \\from]",
            "vpsrlw {x}, {codes}, 2",
            "vpsrlw {y}, {codes}, 4",
            "vpsrlw {z}, {codes}, 6",
            "vpternlogd {codes}, {three}, {quads}, 0xEA",
            "vpternlogd {x}, {three}, {quads}, 0xEA",
            "vpternlogd {y}, {three}, {quads}, 0xEA",
            "vpternlogd {z}, {three}, {quads}, 0xEA",
            "vpshufb {codes}, {levels0}, {codes}",
            "vpshufb {x}, {levels0}, {x}",
            "vpshufb {y}, {levels0}, {y}",
            "vpshufb {z}, {levels0}, {z}",
            "vmovdqa64 [{next} + 4*\\from], {codes}",
            "vmovdqa64 [{next} + 4*\\from + 64], {x}",
            "vmovdqa64 [{next} + 4*\\from + 128], {y}",
            "vmovdqa64 [{next} + 4*\\from + 192], {z}",
            "vmovdqa64 {codes}, [{packed} + {panel} + \\from]",
            "vpsrlw {x}, {codes}, 2",
            "vpsrlw {y}, {codes}, 4",
            "vpsrlw {z}, {codes}, 6",
            "vpternlogd {codes}, {three}, {quads}, 0xEA",
            "vpternlogd {x}, {three}, {quads}, 0xEA",
            "vpternlogd {y}, {three}, {quads}, 0xEA",
            "vpternlogd {z}, {three}, {quads}, 0xEA",
            "vpshufb {codes}, {levels1}, {codes}",
            "vpshufb {x}, {levels1}, {x}",
            "vpshufb {y}, {levels1}, {y}",
            "vpshufb {z}, {levels1}, {z}",
            "vmovdqa64 [{next} + 4*\\from + 1024], {codes}",
            "vmovdqa64 [{next} + 4*\\from + 1088], {x}",
            "vmovdqa64 [{next} + 4*\\from + 1152], {y}",
            "vmovdqa64 [{next} + 4*\\from + 1216], {z}",
            ".endr",
            "add {next}, 2048",
            "and {next}, -8193",
            "add {packed}, 256",
            "add {pieces}, 8",
            "dec {count}",
            "jnz 2b",
            "mov {count}, 128",
            "tilestored [{sums} + {count}*1], tmm0",
            "tilestored [{sums} + {count}*1 + 64], tmm1",
            "tilestored [{sums} + {count}*1 + 2048], tmm2",
            "tilestored [{sums} + {count}*1 + 2112], tmm3",
            a = in(reg) input[0],
            b = in(reg) input[1],
            offset = out(reg) _,
            at = out(reg) _,
            pieces = inout(reg) task.pieces.as_ptr() => _,
            packed = inout(reg) packed.as_ptr() => _,
            panel = in(reg) task.pieces.len() * 256,
            count = inout(reg) task.pieces.len() => _,
            step = in(reg) task.pixel_step,
            line = in(reg) 64usize,
            space = inout(reg) std::ptr::from_mut(space) => _,
            next = inout(reg) std::ptr::from_mut(space).cast::<u8>().add(AHEAD * 2048) => _,
            sums = in(reg) sums,
            levels0 = in(zmm_reg) levels[0],
            levels1 = in(zmm_reg) levels[1],
            quads = in(zmm_reg) quads,
            three = in(zmm_reg) three,
            codes = out(zmm_reg) _,
            x = out(zmm_reg) _,
            y = out(zmm_reg) _,
            z = out(zmm_reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
