//! Levels of weights, many at a time: what every kernel packs, and what the checks add up.

use super::level::Level;
use crate::model::Weights;

/// Levels of the weights of `filter` from `first` on, as bytes in two's complement, as many as `out` takes. Each filter
/// of the checked layer has `per_filter` weights.
pub(crate) fn levels(weights: &Weights, filter: usize, per_filter: usize, first: usize, out: &mut [u8]) {
    weights.codes.read(filter * per_filter + first, out);
    if weights.bits < 8 {
        look_up(&weights.tables[filter << weights.bits..][..1 << weights.bits], out);
    }
}

/// `Σ level` of each filter of a checked layer.
pub(crate) fn sums(weights: &Weights, filters: usize) -> Vec<i32> {
    let per_filter = weights.codes.len() / filters;
    let mut part = [0; 1024];
    let mut sum = |filter: usize| -> i32 {
        let of_part = |first: usize| -> i32 {
            let part = &mut part[..1024.min(per_filter - first)];
            levels(weights, filter, per_filter, first, part);
            part.iter().map(|&level| i32::from(level as i8)).sum()
        };
        (0..per_filter).step_by(1024).map(of_part).sum()
    };
    (0..filters).map(&mut sum).collect()
}

/// Each code becomes its entry in `table`, which has one for it.
pub(crate) fn look_up(table: &[i8], codes: &mut [u8]) {
    if table.len() > 16 {
        for code in codes {
            *code = table[usize::from(*code)] as u8;
        }
        return;
    }
    let mut sixteen = [0; 16];
    sixteen.iter_mut().zip(table).for_each(|(entry, &level)| *entry = level as u8);
    let (chunks, rest) = codes.as_chunks_mut::<32>();
    let one_by_one = |code: &mut u8| *code = sixteen[usize::from(*code % 16)];
    if !by_vectors(&sixteen, chunks) {
        chunks.as_flattened_mut().iter_mut().for_each(one_by_one);
    }
    rest.iter_mut().for_each(one_by_one);
}

fn by_vectors(table: &[u8; 16], codes: &mut [[u8; 32]]) -> bool {
    #[cfg(target_arch = "x86_64")]
    return super::x86::lookup::sixteen(Level::of_cpu(), table, codes);
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_looks_every_code_up() {
        for bits in 2..=7 {
            let table: Vec<i8> = (0..1 << bits).map(|code| (code * 37 % 255 - 127) as i8).collect();
            for len in [0, 1, 31, 32, 33, 100] {
                let codes: Vec<u8> = (0..len).map(|index| (index * 11 % table.len()) as u8).collect();
                let mut levels = codes.clone();
                look_up(&table, &mut levels);
                assert!(
                    levels.iter().zip(&codes).all(|(&level, &code)| level as i8 == table[usize::from(code)])
                );
            }
        }
    }
}
