//! Tables of 256 bytes, 64 look-ups at a time, and of sixteen, 32 at a time.
#![expect(unsafe_code, reason = "vector instructions")]

use std::arch::x86_64::*;

use crate::kernels::level::{Level, Unit};

/// `out[i] = table[codes[i]]`. Panics below [`Unit::Avx512Vbmi`].
pub(crate) fn bytes(level: Level, table: &[u8; 256], codes: &[u8], out: &mut [u8]) {
    assert_eq!(level.unit(), Unit::Avx512Vbmi, "only VBMI looks bytes up");
    // SAFETY: the level proves that the CPU has the instructions.
    unsafe { vbmi(table, codes, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn vbmi(table: &[u8; 256], codes: &[u8], out: &mut [u8]) {
    // SAFETY: every load and store stays inside its slice; masks cut the last one.
    unsafe {
        let part = |index: usize| _mm512_loadu_si512(table.as_ptr().add(64 * index).cast());
        let (a, b, c, d) = (part(0), part(1), part(2), part(3));
        let look_up = |codes: __m512i| {
            let low = _mm512_permutex2var_epi8(a, codes, b);
            let high = _mm512_permutex2var_epi8(c, codes, d);
            _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high)
        };
        let (chunks, rest) = codes.as_chunks::<64>();
        let (targets, last) = out.as_chunks_mut::<64>();
        for (codes, target) in chunks.iter().zip(targets) {
            let y = look_up(_mm512_loadu_si512(codes.as_ptr().cast()));
            _mm512_storeu_si512(target.as_mut_ptr().cast(), y);
        }
        let mask = (1u64 << rest.len().min(last.len())) - 1;
        let y = look_up(_mm512_maskz_loadu_epi8(mask, rest.as_ptr().cast()));
        _mm512_mask_storeu_epi8(last.as_mut_ptr().cast(), mask, y);
    }
}

/// `codes[i] = table[codes[i] % 16]`, for a multiple of 32 codes, as [`Unit::Avx2`] and those above can; false below.
pub(crate) fn sixteen(level: Level, table: &[u8; 16], codes: &mut [[u8; 32]]) -> bool {
    if level.unit() == Unit::Portable {
        return false;
    }
    // SAFETY: the level proves that the CPU has AVX2, which comes with AVX-512.
    unsafe { shuffle(table, codes) };
    true
}

#[target_feature(enable = "avx2")]
fn shuffle(table: &[u8; 16], codes: &mut [[u8; 32]]) {
    // SAFETY: the table has sixteen bytes, and each load and store is of one array.
    unsafe {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        let low = _mm256_set1_epi8(15);
        for codes in codes {
            let bits = _mm256_and_si256(_mm256_loadu_si256(codes.as_ptr().cast()), low);
            _mm256_storeu_si256(codes.as_mut_ptr().cast(), _mm256_shuffle_epi8(table, bits));
        }
    }
}
