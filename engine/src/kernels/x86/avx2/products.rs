//! Products of some pixels by two vectors of weights, added up in 16 bits.
//!
//! The loops are written out: a compiler knows that additions may change places, and then keeps more values than there
//! are registers. Twelve sums, two vectors of weights, a pixel's codes and a product fill all sixteen.

use std::arch::asm;
use std::ops::Range;

use crate::kernels::Line;
use crate::kernels::x86::panels::FILTERS;

/// Sums of a pixel by sixteen filters.
pub(super) type Wide = [i32; FILTERS];

/// What becomes of sums in 16 bits: pairs of them are added, times this, ...
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
struct Factor([i16; 16]);

const ONE: Factor = Factor([1; 16]);
const SIXTEEN: Factor = Factor([16; 16]);

/// ... and then stored, or added to what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Widen {
    Store,
    Add,
}

/// A pixel's four codes at the step `$within`, times the weights.
macro_rules! pixel {
    ($a:literal $b:literal $address:literal $within:literal) => {
        concat!(
            concat!("vpbroadcastd ymm14, dword ptr [", $address, " + 4 * ", $within, "]\n"),
            "vpmaddubsw ymm15, ymm14, ymm12\n vpmaddubsw ymm14, ymm14, ymm13\n",
            concat!("vpaddw ", $a, ", ", $a, ", ymm15\n vpaddw ", $b, ", ", $b, ", ymm14\n"),
        )
    };
}

/// All pixels at the step `$within`.
macro_rules! step {
    ($within:literal [$($a:literal $b:literal $place:literal $address:literal,)*]) => {
        concat!(
            concat!("vmovdqa ymm12, ymmword ptr [{weights} + 64 * ", $within, "]\n"),
            concat!("vmovdqa ymm13, ymmword ptr [{weights} + 64 * ", $within, " + 32]\n"),
            $(pixel!($a $b $address $within),)*
        )
    };
}

/// Something for every pixel's two sums, and their place.
macro_rules! sums {
    (zero [$($a:literal $b:literal $place:literal $address:literal,)*]) => {
        concat!($("vpxor ", $a, ", ", $a, ", ", $a, "\n vpxor ", $b, ", ", $b, ", ", $b, "\n",)*)
    };
    (widen [$($a:literal $b:literal $place:literal $address:literal,)*]) => {
        concat!($("vpmaddwd ", $a, ", ", $a, ", ymm12\n vpmaddwd ", $b, ", ", $b, ", ymm12\n",)*)
    };
    (add [$($a:literal $b:literal $place:literal $address:literal,)*]) => {
        concat!($(
            "vpaddd ", $a, ", ", $a, ", ymmword ptr [{wide} + ", $place, "]\n",
            "vpaddd ", $b, ", ", $b, ", ymmword ptr [{wide} + ", $place, " + 32]\n",
        )*)
    };
    (store [$($a:literal $b:literal $place:literal $address:literal,)*]) => {
        concat!($(
            "vmovdqu ymmword ptr [{wide} + ", $place, "], ", $a, "\n",
            "vmovdqu ymmword ptr [{wide} + ", $place, " + 32], ", $b, "\n",
        )*)
    };
}

/// A loop of `$by` steps a round. What it counts moves on by `$size` bytes a step; `$begin` finds a step's first codes.
macro_rules! steps {
    ($name:ident, $begin:expr, $size:literal, $by:literal, [$($within:literal)*], $pixels:tt) => {
        #[inline]
        #[target_feature(enable = "avx2")]
        unsafe fn $name(counted: Range<*const u8>, loop_of: &Loop, factor: &Factor) {
            // SAFETY: the caller's promise.
            unsafe {
                asm!(
                    sums!(zero $pixels),
                    "2:",
                    $begin,
                    $(step!($within $pixels),)*
                    concat!("add {weights}, 64 * ", $by),
                    concat!("add {counted}, ", $size, " * ", $by),
                    "cmp {counted}, {end}",
                    "jb 2b",
                    "vmovdqa ymm12, ymmword ptr [{factor}]",
                    sums!(widen $pixels),
                    "test {add}, {add}",
                    "jz 3f",
                    sums!(add $pixels),
                    "3:",
                    sums!(store $pixels),
                    // Some loops take fewer of these.
                    "/* {input} {one} {three} {five} */",
                    at = out(reg) _,
                    counted = inout(reg) counted.start => _,
                    end = in(reg) counted.end,
                    weights = inout(reg) loop_of.weights => _,
                    input = in(reg) loop_of.input,
                    one = in(reg) loop_of.step,
                    three = in(reg) 3 * loop_of.step,
                    five = in(reg) 5 * loop_of.step,
                    wide = in(reg) loop_of.wide,
                    factor = in(reg) factor,
                    add = in(reg) u64::from(loop_of.widen == Widen::Add),
                    out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
                    out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
                    out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
                    options(nostack),
                );
            }
        }
    };
}

/// The loops of some pixels: over pieces or one run, by one or four steps.
macro_rules! pixels {
    ($pieces:ident $pieces_by_four:ident $run:ident $run_by_four:ident $pixels:tt) => {
        steps!($pieces, "mov {at}, [{counted}]\n add {at}, {input}", "8", "1", ["0"], $pixels);
        steps!(
            $pieces_by_four,
            "mov {at}, [{counted}]\n add {at}, {input}",
            "8",
            "4",
            ["0" "1" "2" "3"],
            $pixels
        );
        steps!($run, "mov {at}, {counted}", "4", "1", ["0"], $pixels);
        steps!(
            $run_by_four,
            // What comes after these weights.
            concat!(
                "mov {at}, {counted}\n",
                "prefetcht0 [{weights} + {input}]\n prefetcht0 [{weights} + {input} + 64]\n",
                "prefetcht0 [{weights} + {input} + 128]\n prefetcht0 [{weights} + {input} + 192]",
            ),
            "4",
            "4",
            ["0" "1" "2" "3"],
            $pixels
        );
    };
}

/// What a loop reads and writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loop {
    /// Two vectors a step.
    pub(super) weights: *const Line,
    /// The first pixel's codes.
    pub(super) input: *const u8,
    /// From one pixel's to the next, bytes.
    pub(super) step: usize,
    /// Where the sums go, pixel by pixel.
    pub(super) wide: *mut Wide,
    pub(super) widen: Widen,
}

impl Loop {
    /// Adds the products of the steps that begin at `pieces` up, for some pixels, six at most; `fours` tells that the
    /// pieces come in fours that lie side by side, `high` that sums count sixteenfold.
    ///
    /// # Safety
    /// The CPU has AVX2; from the input on there are the pieces of all pixels, and there are as many steps of weights,
    /// one at least; there is room for the sums.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn pieces(&self, pixels: usize, pieces: &[usize], fours: bool, high: bool) {
        let range = pieces.as_ptr_range();
        let counted = range.start.cast()..range.end.cast();
        let factor = if high { &SIXTEEN } else { &ONE };
        // SAFETY: the caller's promise.
        unsafe {
            match (pixels, fours) {
                (1, true) => one_pieces_by_four(counted, self, factor),
                (1, false) => one_pieces(counted, self, factor),
                (2, true) => two_pieces_by_four(counted, self, factor),
                (2, false) => two_pieces(counted, self, factor),
                (3, true) => three_pieces_by_four(counted, self, factor),
                (3, false) => three_pieces(counted, self, factor),
                (4, true) => four_pieces_by_four(counted, self, factor),
                (4, false) => four_pieces(counted, self, factor),
                (5, true) => five_pieces_by_four(counted, self, factor),
                (5, false) => five_pieces(counted, self, factor),
                (_, true) => six_pieces_by_four(counted, self, factor),
                (_, false) => six_pieces(counted, self, factor),
            }
        }
    }

    /// Adds the products of `steps` steps that lie side by side up, for some pixels, six at most. Weights that lie
    /// `ahead` bytes behind these are fetched into the first cache.
    ///
    /// # Safety
    /// As above.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn run(&self, pixels: usize, steps: usize, ahead: usize) {
        let fours = steps.is_multiple_of(4);
        // SAFETY: the caller's promise.
        unsafe {
            let counted = self.input..self.input.add(4 * steps);
            let of = Loop { input: ahead as *const u8, ..*self };
            match (pixels, fours) {
                (1, true) => one_run_by_four(counted, &of, &ONE),
                (1, false) => one_run(counted, &of, &ONE),
                (2, true) => two_run_by_four(counted, &of, &ONE),
                (2, false) => two_run(counted, &of, &ONE),
                (3, true) => three_run_by_four(counted, &of, &ONE),
                (3, false) => three_run(counted, &of, &ONE),
                (4, true) => four_run_by_four(counted, &of, &ONE),
                (4, false) => four_run(counted, &of, &ONE),
                (5, true) => five_run_by_four(counted, &of, &ONE),
                (5, false) => five_run(counted, &of, &ONE),
                (_, true) => six_run_by_four(counted, &of, &ONE),
                (_, false) => six_run(counted, &of, &ONE),
            }
        }
    }
}

pixels!(
    one_pieces one_pieces_by_four one_run one_run_by_four
    ["ymm0" "ymm1" "0" "{at}",]
);
pixels!(
    two_pieces two_pieces_by_four two_run two_run_by_four
    ["ymm0" "ymm1" "0" "{at}",
        "ymm2" "ymm3" "64" "{at} + {one}",]
);
pixels!(
    three_pieces three_pieces_by_four three_run three_run_by_four
    ["ymm0" "ymm1" "0" "{at}",
        "ymm2" "ymm3" "64" "{at} + {one}",
        "ymm4" "ymm5" "128" "{at} + 2 * {one}",]
);
pixels!(
    four_pieces four_pieces_by_four four_run four_run_by_four
    ["ymm0" "ymm1" "0" "{at}",
        "ymm2" "ymm3" "64" "{at} + {one}",
        "ymm4" "ymm5" "128" "{at} + 2 * {one}",
        "ymm6" "ymm7" "192" "{at} + {three}",]
);
pixels!(
    five_pieces five_pieces_by_four five_run five_run_by_four
    ["ymm0" "ymm1" "0" "{at}",
        "ymm2" "ymm3" "64" "{at} + {one}",
        "ymm4" "ymm5" "128" "{at} + 2 * {one}",
        "ymm6" "ymm7" "192" "{at} + {three}",
        "ymm8" "ymm9" "256" "{at} + 4 * {one}",]
);
pixels!(
    six_pieces six_pieces_by_four six_run six_run_by_four
    ["ymm0" "ymm1" "0" "{at}",
        "ymm2" "ymm3" "64" "{at} + {one}",
        "ymm4" "ymm5" "128" "{at} + 2 * {one}",
        "ymm6" "ymm7" "192" "{at} + {three}",
        "ymm8" "ymm9" "256" "{at} + 4 * {one}",
        "ymm10" "ymm11" "320" "{at} + {five}",]
);
