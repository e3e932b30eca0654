//! Products of some pixels by two vectors of weights, added up in 16 bits.
//!
//! The loops are written out: a compiler knows that additions may change places, and then keeps more values than there
//! are registers. Twelve sums, two vectors of weights, a pixel's codes and a product fill all sixteen.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use crate::kernels::Line;
use crate::kernels::x86::panels::FILTERS;

/// Sums of `P` pixels.
pub(super) type Narrow<const P: usize> = [[__m256i; 2]; P];

/// A pixel's four codes at the step `$within`, times the weights.
macro_rules! pixel {
    ($a:literal $b:literal $address:literal $within:literal) => {
        concat!(
            concat!("vpbroadcastd {c}, dword ptr [", $address, " + 4 * ", $within, "]\n"),
            concat!("vpmaddubsw {t}, {c}, {v}\n vpaddw {", $a, "}, {", $a, "}, {t}\n"),
            concat!("vpmaddubsw {c}, {c}, {w}\n vpaddw {", $b, "}, {", $b, "}, {c}\n"),
        )
    };
}

/// All pixels at the step `$within`.
macro_rules! step {
    ($within:literal [$($a:literal $b:literal $address:literal,)*]) => {
        concat!(
            concat!("vmovdqa {v}, ymmword ptr [{weights} + 64 * ", $within, "]\n"),
            concat!("vmovdqa {w}, ymmword ptr [{weights} + 64 * ", $within, " + 32]\n"),
            $(pixel!($a $b $address $within),)*
        )
    };
}

/// A loop of `$by` steps a round. What it counts moves on by `$size` bytes a step; `$begin` finds a step's first codes.
macro_rules! steps {
    (
        $name:ident, $begin:literal, $size:literal, $p:literal, $by:literal, [$($within:literal)*],
        [$($index:literal $a:ident $b:ident)*], $pixels:tt
    ) => {
        #[inline]
        #[target_feature(enable = "avx2")]
        unsafe fn $name(
            counted: Range<*const u8>,
            weights: *const Line,
            input: *const u8,
            step: usize,
            sums: &mut Narrow<$p>,
        ) {
            // SAFETY: the caller's promise.
            unsafe {
                asm!(
                    "2:",
                    $begin,
                    $(step!($within $pixels),)*
                    concat!("add {weights}, 64 * ", $by),
                    concat!("add {counted}, ", $size, " * ", $by),
                    "cmp {counted}, {end}",
                    "jb 2b",
                    // Some loops take fewer of these.
                    "/* {input} {one} {three} {five} */",
                    $($a = inout(ymm_reg) sums[$index][0],)*
                    $($b = inout(ymm_reg) sums[$index][1],)*
                    c = out(ymm_reg) _,
                    t = out(ymm_reg) _,
                    v = out(ymm_reg) _,
                    w = out(ymm_reg) _,
                    at = out(reg) _,
                    counted = inout(reg) counted.start => _,
                    end = in(reg) counted.end,
                    weights = inout(reg) weights => _,
                    input = in(reg) input,
                    one = in(reg) step,
                    three = in(reg) 3 * step,
                    five = in(reg) 5 * step,
                    options(nostack, readonly),
                );
            }
        }
    };
}

/// The loops of `$p` pixels: over pieces or one run, by one or four steps.
macro_rules! pixels {
    ($p:literal $pieces:ident $pieces_by_four:ident $run:ident $run_by_four:ident $indices:tt $pixels:tt) => {
        steps!($pieces, "mov {at}, [{counted}]\n add {at}, {input}", "8", $p, "1", ["0"], $indices, $pixels);
        steps!(
            $pieces_by_four, "mov {at}, [{counted}]\n add {at}, {input}", "8", $p, "4", ["0" "1" "2" "3"],
            $indices, $pixels
        );
        steps!($run, "mov {at}, {counted}", "4", $p, "1", ["0"], $indices, $pixels);
        steps!($run_by_four, "mov {at}, {counted}", "4", $p, "4", ["0" "1" "2" "3"], $indices, $pixels);

        impl Loops for Narrow<$p> {
            #[inline]
            #[target_feature(enable = "avx2")]
            unsafe fn pieces(
                &mut self,
                pieces: &[usize],
                fours: bool,
                weights: *const Line,
                input: *const u8,
                step: usize,
            ) {
                let counted = pieces.as_ptr_range();
                let counted = counted.start.cast()..counted.end.cast();
                // SAFETY: the caller's promise.
                unsafe {
                    if fours {
                        $pieces_by_four(counted, weights, input, step, self);
                    } else {
                        $pieces(counted, weights, input, step, self);
                    }
                }
            }

            #[inline]
            #[target_feature(enable = "avx2")]
            unsafe fn run(&mut self, steps: usize, weights: *const Line, input: *const u8, step: usize) {
                // SAFETY: the caller's promise.
                unsafe {
                    let counted = input..input.add(4 * steps);
                    if steps.is_multiple_of(4) {
                        $run_by_four(counted, weights, input, step, self);
                    } else {
                        $run(counted, weights, input, step, self);
                    }
                }
            }
        }
    };
}

/// Adding products up.
pub(super) trait Loops {
    /// Of the steps that begin at `pieces`; `fours` tells that they come in fours that lie side by side.
    ///
    /// # Safety
    /// The CPU has AVX2; from `input` on there are the pieces of all pixels, `step` bytes from one to the next, and
    /// `weights` has as many steps; there is one at least.
    unsafe fn pieces(
        &mut self,
        pieces: &[usize],
        fours: bool,
        weights: *const Line,
        input: *const u8,
        step: usize,
    );

    /// Of steps that lie side by side.
    ///
    /// # Safety
    /// As above.
    unsafe fn run(&mut self, steps: usize, weights: *const Line, input: *const u8, step: usize);
}

/// Widens and stores sums of pairs times `factor`, or adds them to what there is.
///
/// # Safety
/// `wide` has room for `P` times sixteen sums.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn widen<const P: usize>(
    narrow: &Narrow<P>,
    factor: i16,
    is_first: bool,
    wide: *mut [i32; FILTERS],
) {
    let factor = _mm256_set1_epi16(factor);
    for (p, narrow) in narrow.iter().enumerate() {
        for (half, &narrow) in narrow.iter().enumerate() {
            let mut sum = _mm256_madd_epi16(narrow, factor);
            // SAFETY: the caller's promise.
            unsafe {
                let wide = wide.add(p).cast::<__m256i>().add(half);
                if !is_first {
                    sum = _mm256_add_epi32(sum, _mm256_loadu_si256(wide));
                }
                _mm256_storeu_si256(wide, sum);
            }
        }
    }
}

pixels!(
    1 one_pieces one_pieces_by_four one_run one_run_by_four
    [0 a b]
    ["a" "b" "{at}",]
);
pixels!(
    2 two_pieces two_pieces_by_four two_run two_run_by_four
    [0 a b
        1 d e]
    ["a" "b" "{at}",
        "d" "e" "{at} + {one}",]
);
pixels!(
    3 three_pieces three_pieces_by_four three_run three_run_by_four
    [0 a b
        1 d e
        2 f g]
    ["a" "b" "{at}",
        "d" "e" "{at} + {one}",
        "f" "g" "{at} + 2 * {one}",]
);
pixels!(
    4 four_pieces four_pieces_by_four four_run four_run_by_four
    [0 a b
        1 d e
        2 f g
        3 h i]
    ["a" "b" "{at}",
        "d" "e" "{at} + {one}",
        "f" "g" "{at} + 2 * {one}",
        "h" "i" "{at} + {three}",]
);
pixels!(
    5 five_pieces five_pieces_by_four five_run five_run_by_four
    [0 a b
        1 d e
        2 f g
        3 h i
        4 j k]
    ["a" "b" "{at}",
        "d" "e" "{at} + {one}",
        "f" "g" "{at} + 2 * {one}",
        "h" "i" "{at} + {three}",
        "j" "k" "{at} + 4 * {one}",]
);
pixels!(
    6 six_pieces six_pieces_by_four six_run six_run_by_four
    [0 a b
        1 d e
        2 f g
        3 h i
        4 j k
        5 l m]
    ["a" "b" "{at}",
        "d" "e" "{at} + {one}",
        "f" "g" "{at} + 2 * {one}",
        "h" "i" "{at} + {three}",
        "j" "k" "{at} + 4 * {one}",
        "l" "m" "{at} + {five}",]
);
