//! Dot products of 16-bit words, several pixels by several filters at once.

/// Words that one step of a dot product takes.
pub(super) const LANES: usize = 8;
/// Filters of a block.
pub(super) const BLOCK: usize = 4;
/// Pixels of a tile.
const TILE: usize = 2;

/// Where the words of a patch lie: `count` runs of `run` words, `step` words apart.
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
    let tiles = origins.chunks_exact(TILE);
    let rest = tiles.remainder();
    for (index, tile) in tiles.enumerate() {
        let sums = tile_sums::<TILE>(runs, [tile[0], tile[1]], panel);
        for (pixel, sums) in sums.iter().enumerate() {
            emit(index * TILE + pixel, sums);
        }
    }
    for (index, &origin) in rest.iter().enumerate() {
        let [sums] = tile_sums::<1>(runs, [origin], panel);
        emit(origins.len() - rest.len() + index, &sums);
    }
}

/// Partial sums of one pixel and filter.
type Partial = [i32; LANES / 2];

#[inline]
fn tile_sums<const P: usize>(runs: &Runs, origins: [usize; P], panel: &[i16]) -> [[i32; BLOCK]; P] {
    let mut partial = [[[0i32; LANES / 2]; BLOCK]; P];
    for (run, weights) in panel.chunks_exact(runs.run * BLOCK).take(runs.count).enumerate() {
        let codes = origins.map(|origin| {
            let start = origin + run * runs.step;
            &runs.source[start..start + runs.run]
        });
        accumulate(&mut partial, codes, weights);
    }
    partial.map(|filters| filters.map(|lanes: Partial| lanes.iter().sum()))
}

#[inline]
fn accumulate<const P: usize>(partial: &mut [[Partial; BLOCK]; P], codes: [&[i16]; P], weights: &[i16]) {
    let (steps, _) = weights.as_chunks::<{ LANES * BLOCK }>();
    let codes = codes.map(|codes| codes.as_chunks::<LANES>().0);
    let mut sums = *partial;
    for (step, weights) in steps.iter().enumerate() {
        let (filters, _) = weights.as_chunks::<LANES>();
        for pixel in 0..P {
            let Some(code) = codes[pixel].get(step) else { continue };
            for filter in 0..BLOCK {
                multiply_add(&mut sums[pixel][filter], code, &filters[filter]);
            }
        }
    }
    *partial = sums;
}

/// `sum[i] += a[2i]·b[2i] + a[2i+1]·b[2i+1]`: one multiply-add instruction on most CPUs.
#[inline]
fn multiply_add(sum: &mut Partial, a: &[i16; LANES], b: &[i16; LANES]) {
    for (lane, sum) in sum.iter_mut().enumerate() {
        *sum += i32::from(a[2 * lane]) * i32::from(b[2 * lane])
            + i32::from(a[2 * lane + 1]) * i32::from(b[2 * lane + 1]);
    }
}
