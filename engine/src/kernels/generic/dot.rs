//! Dot products of 16-bit words, several pixels by several filters at once.
//!
//! `wide` gives the multiply-add of eight pairs of words as the machine has it, and plain code where it has none.

use wide::{i16x8, i32x4};

/// Words that one step of a dot product takes.
pub(super) const LANES: usize = 8;
/// Filters of a block.
pub(super) const BLOCK: usize = 4;
/// Pixels of a tile.
const TILE: usize = 2;

/// Where the words of a patch lie: `count` runs of `run` words, a multiple of [`LANES`], `step` words apart.
#[derive(Clone, Copy)]
pub(super) struct Runs<'a> {
    pub(super) source: &'a [i16],
    pub(super) count: usize,
    pub(super) run: usize,
    pub(super) step: usize,
}

/// Sums of one block of filters for the patches at `origins`; `emit(pixel, sums)` gets each.
#[inline]
pub(super) fn block(
    runs: &Runs,
    origins: &[usize],
    panel: &[i16],
    mut emit: impl FnMut(usize, &[i32; BLOCK]),
) {
    let (tiles, rest) = origins.as_chunks::<TILE>();
    for (index, &tile) in tiles.iter().enumerate() {
        let sums = tile_sums(runs, tile, panel);
        for (pixel, sums) in sums.iter().enumerate() {
            emit(index * TILE + pixel, sums);
        }
    }
    for (index, &origin) in rest.iter().enumerate() {
        let [sums] = tile_sums(runs, [origin], panel);
        emit(tiles.len() * TILE + index, &sums);
    }
}

/// Sums of `P` pixels by one block of filters.
#[inline]
fn tile_sums<const P: usize>(runs: &Runs, origins: [usize; P], panel: &[i16]) -> [[i32; BLOCK]; P] {
    let mut partial = [[i32x4::ZERO; BLOCK]; P];
    for (run, weights) in panel.chunks_exact(runs.run * BLOCK).take(runs.count).enumerate() {
        let codes = origins.map(|origin| {
            let start = origin + run * runs.step;
            runs.source[start..start + runs.run].as_chunks::<LANES>().0
        });
        accumulate(&mut partial, codes, weights.as_chunks::<LANES>().0.as_chunks::<BLOCK>().0);
    }
    partial.map(|filters| filters.map(i32x4::reduce_add))
}

/// Adds the products of one run. Every slice has one entry a step.
#[inline]
fn accumulate<const P: usize>(
    partial: &mut [[i32x4; BLOCK]; P],
    codes: [&[[i16; LANES]]; P],
    weights: &[[[i16; LANES]; BLOCK]],
) {
    let mut sums = *partial;
    let codes = codes.map(|codes| &codes[..weights.len()]);
    for (step, weights) in weights.iter().enumerate() {
        for pixel in 0..P {
            let code = i16x8::new(codes[pixel][step]);
            for filter in 0..BLOCK {
                sums[pixel][filter] += code.dot(i16x8::new(weights[filter]));
            }
        }
    }
    *partial = sums;
}
