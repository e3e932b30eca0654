//! From sixteen rows of bytes, one a filter, to steps of four bytes of each.
#![expect(unsafe_code, reason = "vector instructions")]

use std::arch::x86_64::*;

use super::panels::FILTERS;
use crate::kernels::Line;
use crate::kernels::level::{Level, Unit};

/// Sixteen steps of sixteen rows: bytes 4·i and those that follow of row r are bytes 4·r and those that follow of line i.
pub(in crate::kernels::x86) fn transpose(rows: [&[u8; 64]; FILTERS]) -> [Line; FILTERS] {
    if Level::of_cpu().unit() == Unit::Avx512 {
        // SAFETY: the level proves that the CPU has the instructions.
        return unsafe { by_vectors(rows) };
    }
    one_by_one(rows)
}

fn one_by_one(rows: [&[u8; 64]; FILTERS]) -> [Line; FILTERS] {
    let rows = rows.map(|row| row.as_chunks::<4>().0);
    std::array::from_fn(|step| {
        let mut line = Line([0; 64]);
        for (target, row) in line.0.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
            *target = row[step];
        }
        line
    })
}

#[target_feature(enable = "avx512f")]
fn by_vectors(rows: [&[u8; 64]; FILTERS]) -> [Line; FILTERS] {
    let mut lines = [Line([0; 64]); FILTERS];
    // SAFETY: rows are 64 bytes, and lines 64 aligned ones.
    unsafe {
        let row = |row: usize| _mm512_loadu_si512(rows[row].as_ptr().cast());
        // Within each 128 bits, fours of rows by fours of steps.
        let quads: [[__m512i; 4]; 4] = std::array::from_fn(|quad| {
            let (a, b, c, d) = (row(4 * quad), row(4 * quad + 1), row(4 * quad + 2), row(4 * quad + 3));
            let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (low_too, high_too) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(low, low_too),
                _mm512_unpackhi_epi64(low, low_too),
                _mm512_unpacklo_epi64(high, high_too),
                _mm512_unpackhi_epi64(high, high_too),
            ]
        });
        for step in 0..4 {
            let even = |quad: usize| _mm512_shuffle_i32x4::<0x88>(quads[quad][step], quads[quad + 1][step]);
            let odd = |quad: usize| _mm512_shuffle_i32x4::<0xDD>(quads[quad][step], quads[quad + 1][step]);
            let (first, second) = ([even(0), odd(0)], [even(2), odd(2)]);
            for half in 0..2 {
                let near = _mm512_shuffle_i32x4::<0x88>(first[half], second[half]);
                let far = _mm512_shuffle_i32x4::<0xDD>(first[half], second[half]);
                _mm512_store_si512(lines[4 * half + step].0.as_mut_ptr().cast(), near);
                _mm512_store_si512(lines[8 + 4 * half + step].0.as_mut_ptr().cast(), far);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_comes_to_its_place() {
        let rows: [[u8; 64]; FILTERS] =
            std::array::from_fn(|row| std::array::from_fn(|byte| (row * 64 + byte * 7) as u8));
        for way in [transpose, one_by_one] {
            let lines = way(std::array::from_fn(|row| &rows[row]));
            for (step, line) in lines.iter().enumerate() {
                for (byte, &value) in line.0.iter().enumerate() {
                    assert_eq!(value, rows[byte / 4][4 * step + byte % 4], "step {step}, byte {byte}");
                }
            }
        }
    }
}
