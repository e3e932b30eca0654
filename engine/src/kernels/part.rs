//! An output cut into parts that several threads write at the same time: by rows of pixels, by filters, or both.
#![expect(unsafe_code, reason = "threads write into one tensor, each its own codes")]

use std::marker::PhantomData;
use std::ops::Range;

use super::codes::CodesMut;

/// Most parts for each thread: several, so that a thread that is held up leaves its later parts to the others.
const EACH: usize = 2;

/// How many times the smallest part that is worth it each of several is.
const SEVERAL: usize = 4;

/// What an output is cut for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Threads {
    /// How many, at least one.
    pub(crate) count: usize,
    /// Whether to cut even what is not worth it, for tests.
    pub(crate) finest: bool,
}

/// Into how many parts an output is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Parts of the rows.
    pub(crate) rows: usize,
    /// Parts of the filters.
    pub(crate) filters: usize,
}

/// One of some nearly equal shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    index: usize,
    count: usize,
}

/// Where codes go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At most 8 bits.
    Byte(*mut u8),
    /// 16 bits.
    Wide(*mut i16),
    /// 32-bit sums.
    Sum(*mut i32),
}

/// A whole output, for as long as its parts are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output<'a> {
    target: Target,
    len: usize,
    height: usize,
    codes: PhantomData<&'a mut [u8]>,
}

/// A part of an output. Nobody else writes its codes while it exists.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    output: Output<'a>,
    /// Which rows.
    pub(crate) rows: Share,
    /// Which filters.
    pub(crate) filters: Share,
}

/// A good number of pieces.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pieces {
    /// How many.
    pub(crate) count: usize,
    /// Which share of the threads' time is used, if all pieces take as long as their size says.
    pub(crate) used: f64,
}

impl Threads {
    /// Most parts of some work, of which `least` is the smallest that is worth a part.
    pub(crate) fn most(self, work: usize, least: usize) -> usize {
        if self.finest { usize::MAX } else { work / least.max(1) }
    }
}

impl Pieces {
    /// How to cut `n` things for some threads, into at most `most` pieces.
    pub(crate) fn of(n: usize, threads: Threads, most: usize) -> Self {
        let (threads, worthwhile, most) = (threads.count, most, n.min(most).max(1));
        let used = |count: usize| {
            let slowest = count.div_ceil(threads) * n.div_ceil(count);
            n as f64 / (threads * slowest) as f64
        };
        let few = Pieces { count: most.min(threads), used: used(most.min(threads)) };
        (2..=EACH)
            .map(|each| each * threads)
            .take_while(|&count| count <= most.min(worthwhile / SEVERAL))
            .map(|count| Pieces { count, used: used(count) })
            .fold(few, |best, other| if other.used >= best.used { other } else { best })
    }
}

impl Cut {
    /// Not cut at all.
    pub(crate) const WHOLE: Cut = Cut { rows: 1, filters: 1 };

    /// `height` rows for some threads, into at most `most` parts.
    pub(crate) fn by_rows(height: usize, threads: Threads, most: usize) -> Self {
        Cut { rows: Pieces::of(height, threads, most).count, ..Cut::WHOLE }
    }

    /// Parts in all.
    pub(crate) fn parts(self) -> usize {
        self.rows * self.filters
    }
}

impl Share {
    /// The share of `0 .. n`.
    pub(crate) fn of(self, n: usize) -> Range<usize> {
        n * self.index / self.count..n * (self.index + 1) / self.count
    }
}

// SAFETY: an output is a slice that is borrowed for writing; codes of different parts are different codes.
unsafe impl Send for Output<'_> {}
// SAFETY: as above.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// All of `out`, which has `height` rows.
    pub(crate) fn new(out: CodesMut<'a>, height: usize) -> Self {
        let len = out.len();
        let target = match out {
            CodesMut::Byte(codes) => Target::Byte(codes.as_mut_ptr()),
            CodesMut::Wide(codes) => Target::Wide(codes.as_mut_ptr()),
            CodesMut::Sum(codes) => Target::Sum(codes.as_mut_ptr()),
        };
        Output { target, len, height, codes: PhantomData }
    }

    /// Part `index` of a cut.
    ///
    /// # Safety
    /// All parts that exist at a time are of one cut, and have different indices below [`Cut::parts`].
    pub(crate) unsafe fn part(self, cut: Cut, index: usize) -> Part<'a> {
        assert!(index < cut.parts(), "part {index} of {cut:?}");
        Part {
            output: self,
            rows: Share { index: index / cut.filters, count: cut.rows },
            filters: Share { index: index % cut.filters, count: cut.filters },
        }
    }
}

impl<'a> Part<'a> {
    /// Where the output's first code lies. Only the codes of the part's rows and filters may be written there.
    pub(crate) fn target(&self) -> Target {
        self.output.target
    }

    /// Positions of the codes of the part's rows in the output.
    pub(crate) fn codes(&self) -> Range<usize> {
        let Output { len, height, .. } = self.output;
        let (rows, row) = (self.rows.of(height), len / height);
        rows.start * row..rows.end * row
    }

    /// The part's rows and their codes. The output must be cut by rows only.
    pub(crate) fn rows(self) -> (Range<usize>, CodesMut<'a>) {
        assert_eq!(self.filters.count, 1, "rows are whole where filters are not cut");
        let Output { target, height, .. } = self.output;
        let (rows, codes) = (self.rows.of(height), self.codes());
        let (start, len) = (codes.start, codes.len());
        // SAFETY: the rows lie inside the output, whose borrow lasts for 'a, and they are this part's alone.
        let codes = unsafe {
            match target {
                Target::Byte(out) => CodesMut::Byte(std::slice::from_raw_parts_mut(out.add(start), len)),
                Target::Wide(out) => CodesMut::Wide(std::slice::from_raw_parts_mut(out.add(start), len)),
                Target::Sum(out) => CodesMut::Sum(std::slice::from_raw_parts_mut(out.add(start), len)),
            }
        };
        (rows, codes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_cut_are_all_rows_once() {
        let mut codes = vec![0u8; 7 * 3];
        for cut in [Cut::WHOLE, Cut { rows: 3, filters: 1 }, Cut { rows: 7, filters: 1 }] {
            codes.fill(0);
            let output = Output::new(CodesMut::Byte(&mut codes), 7);
            for index in 0..cut.parts() {
                // SAFETY: one after the other.
                let (rows, CodesMut::Byte(out)) = unsafe { output.part(cut, index) }.rows() else {
                    unreachable!("bytes were given");
                };
                assert_eq!(out.len(), 3 * rows.len(), "{cut:?}");
                for code in out {
                    *code += 1;
                }
            }
            assert_eq!(codes, [1; 21], "{cut:?}");
        }
    }

    #[test]
    fn pieces_keep_threads_busy() {
        let [two, four] = [2, 4].map(|count| Threads { count, finest: false });
        assert_eq!(Pieces::of(56, two, 100), Pieces { count: 4, used: 1.0 });
        assert_eq!(Pieces::of(56, two, 15), Pieces { count: 2, used: 1.0 });
        assert_eq!(Pieces::of(56, two, 3), Pieces { count: 2, used: 1.0 });
        assert_eq!(Pieces::of(7, two, 100).count, 4);
        assert_eq!(Pieces::of(1, four, 100), Pieces { count: 1, used: 0.25 });
        assert_eq!(Pieces::of(9, four, 1).count, 1);
        assert_eq!(Pieces::of(0, two, 5).count, 1);
    }
}
