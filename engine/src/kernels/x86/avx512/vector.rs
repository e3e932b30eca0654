//! One pixel by packed weights: fully connected layers on one sample. Reading the weights takes longer than unpacking
//! them, so they are unpacked in registers, where they are used.

use std::arch::x86_64::*;

use crate::kernels::Line;
use crate::kernels::x86::panels::FILTERS;

/// Sums of one patch by two packed panels: `[panel][filter]`.
///
/// # Safety
/// The CPU has AVX-512 F, BW and VNNI. From `input` on there are the pieces of the patch, and `packed` has a line for each
/// four of them, of both panels; `tables` has two lines.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn multiply(
    pieces: &[usize],
    input: *const u8,
    packed: &[Line],
    tables: &[Line],
    sums: &mut [[i32; FILTERS]; 2],
) {
    let panel = pieces.len() / 4;
    assert!(packed.len() >= 2 * panel && tables.len() >= 2, "two packed panels");
    let quads = _mm512_set4_epi32(0x0C0C_0C0C, 0x0808_0808, 0x0404_0404, 0);
    let three = _mm512_set1_epi8(3);
    // SAFETY: lines are 64 aligned bytes, of which there are enough; the rest is the caller's promise.
    unsafe {
        let levels = [0, 1].map(|panel: usize| _mm512_load_si512(tables[panel].0.as_ptr().cast()));
        let mut acc = [[_mm512_setzero_si512(); 4]; 2];
        for (index, offsets) in pieces.as_chunks::<4>().0.iter().enumerate() {
            let codes =
                offsets.map(|offset| _mm512_set1_epi32(input.add(offset).cast::<i32>().read_unaligned()));
            for (which, acc) in acc.iter_mut().enumerate() {
                let line = packed.as_ptr().add(which * panel + index);
                _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(16).cast());
                let bits = _mm512_load_si512(line.cast());
                let shifted = [
                    bits,
                    _mm512_srli_epi16::<2>(bits),
                    _mm512_srli_epi16::<4>(bits),
                    _mm512_srli_epi16::<6>(bits),
                ];
                for (step, bits) in shifted.into_iter().enumerate() {
                    let index = _mm512_ternarylogic_epi32::<0xEA>(bits, three, quads);
                    let weights = _mm512_shuffle_epi8(levels[which], index);
                    acc[step] = _mm512_dpbusd_epi32(acc[step], codes[step], weights);
                }
            }
        }
        for (sums, acc) in sums.iter_mut().zip(acc) {
            let sum = _mm512_add_epi32(_mm512_add_epi32(acc[0], acc[1]), _mm512_add_epi32(acc[2], acc[3]));
            _mm512_storeu_si512(sums.as_mut_ptr().cast(), sum);
        }
    }
}
