//! Fully connected layers of two- to four-bit weights on one sample: each filter is a row of two- or four-bit codes, looked
//! up in its own table of levels where it is used. Reading the weights is what takes the time.

use std::arch::x86_64::*;

use super::{Avx512, finish};
use crate::kernels::codes::Codes;
use crate::kernels::part::{Cut, Part, Pieces, Threads};
use crate::kernels::x86::direct::{Task, offsets};
use crate::kernels::x86::finish::{Finish, Residual};
use crate::kernels::x86::panels::FILTERS;
use crate::kernels::x86::source::Segments;
use crate::kernels::{ConvLayer, Line, PreparedConv, Workspace, WorkspaceSize};

/// Lines that are fetched ahead.
const AHEAD: usize = 64;
/// Filters at a time, whose lines lie side by side.
const TOGETHER: usize = 4;
/// Fewest bytes of weights for a part.
const PART: usize = 64 * 1024;
/// Below this many weights the usual panels do.
const LARGE: usize = 128 * 1024;

/// A layer as rows of codes.
pub(super) struct Rows {
    lines: Vec<Line>,
    /// Sixteen levels a filter.
    tables: Vec<[u8; 16]>,
    /// Codes of a byte: part p of byte i of a line is weight 64·p + i.
    parts: usize,
    /// Lines of a filter.
    of_filter: usize,
    signed: bool,
    finish: Finish,
}

/// Sums of sixteen filters.
#[repr(C, align(64))]
struct Sums([i32; FILTERS]);

impl Rows {
    /// Lays a layer out; `None` if it is of another kind.
    pub(super) fn new(_: Avx512, layer: &ConvLayer) -> Option<Self> {
        let (conv, filters) = (layer.conv, layer.output.c as usize);
        let weights = &conv.weights;
        let whole = conv.window.kernel == [layer.input.h, layer.input.w]
            && conv.window.padding == [0; 4]
            && conv.window.dilation == [1, 1]
            && layer.output.h * layer.output.w == 1;
        if !whole || conv.groups > 1 || !(2..=4).contains(&weights.bits) || weights.codes.len() < LARGE {
            return None;
        }
        let per_filter = weights.codes.len() / filters;
        let parts = if weights.bits == 2 { 4 } else { 2 };
        let of_line = 64 * parts;
        let of_filter = per_filter.div_ceil(of_line);
        let together = filters.div_ceil(TOGETHER);
        let mut lines = Vec::with_capacity(together * of_filter * TOGETHER);
        let mut codes = vec![0; TOGETHER * of_filter * of_line];
        for group in 0..together {
            codes.fill(0);
            for (within, codes) in codes.chunks_exact_mut(of_filter * of_line).enumerate() {
                let filter = group * TOGETHER + within;
                if filter < filters {
                    weights.codes.read(filter * per_filter, &mut codes[..per_filter]);
                }
            }
            for position in 0..of_filter {
                lines.extend(codes.chunks_exact(of_filter * of_line).map(|codes| {
                    let mut line = Line([0; 64]);
                    let codes = &codes[position * of_line..][..of_line];
                    for (part, codes) in codes.as_chunks::<64>().0.iter().enumerate() {
                        let bits = 8 / parts * part;
                        line.0.iter_mut().zip(codes).for_each(|(byte, code)| *byte |= code << bits);
                    }
                    line
                }));
            }
        }
        let table = |levels: &[i8]| {
            let mut table = [0; 16];
            table.iter_mut().zip(levels).for_each(|(entry, &level)| *entry = level as u8);
            table
        };
        let offsets = if layer.signed { offsets(layer) } else { Vec::new() };
        let mut tables: Vec<_> = weights.tables.chunks_exact(1 << weights.bits).map(table).collect();
        tables.resize(together * TOGETHER, [0; 16]);
        Some(Rows {
            lines,
            tables,
            parts,
            of_filter,
            signed: layer.signed,
            finish: Finish::new(&conv.epilogue, 1, filters, &offsets),
        })
    }

    /// Sums of up to sixteen filters from `first` on; `PARTS` are the codes of a byte.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn sums<const PARTS: usize>(&self, input: &[Line], first: usize, sums: &mut [i32]) {
        let low = _mm512_set1_epi8(if PARTS == 4 { 3 } else { 15 });
        let shift = _mm_cvtsi32_si128(8 / PARTS as i32);
        for (index, sums) in sums.chunks_mut(TOGETHER).enumerate() {
            let group = first / TOGETHER + index;
            let (rows, _) = self.lines[group * self.of_filter * TOGETHER..][..self.of_filter * TOGETHER]
                .as_chunks::<TOGETHER>();
            // SAFETY: a table is sixteen bytes.
            let tables: [__m512i; TOGETHER] = std::array::from_fn(|filter| unsafe {
                let table = &self.tables[group * TOGETHER + filter];
                _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()))
            });
            let mut acc = [[_mm512_setzero_si512(); 2]; TOGETHER];
            for (row, codes) in rows.iter().zip(input.as_chunks::<PARTS>().0) {
                // SAFETY: lines are 64 aligned bytes.
                let load = |line: &Line| unsafe { _mm512_load_si512(line.0.as_ptr().cast()) };
                for filter in 0..TOGETHER {
                    // Weights come from far away. Beyond their end nothing is read.
                    let ahead = row.as_ptr().wrapping_add(AHEAD + filter);
                    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    let mut bits = load(&row[filter]);
                    for part in 0..PARTS {
                        let weights = _mm512_shuffle_epi8(tables[filter], _mm512_and_si512(bits, low));
                        let sum = &mut acc[filter][part % 2];
                        *sum = _mm512_dpbusd_epi32(*sum, load(&codes[part]), weights);
                        bits = _mm512_srl_epi16(bits, shift);
                    }
                }
            }
            for (sum, acc) in sums.iter_mut().zip(&acc) {
                *sum = _mm512_reduce_add_epi32(_mm512_add_epi32(acc[0], acc[1]));
            }
        }
    }
}

impl PreparedConv for Rows {
    fn method(&self) -> &'static str {
        "avx512-vnni rows"
    }

    fn weight_bytes(&self) -> usize {
        size_of_val(&*self.lines) + size_of_val(&*self.tables)
    }

    fn workspace(&self) -> WorkspaceSize {
        WorkspaceSize { lines: self.parts * self.of_filter, ..WorkspaceSize::default() }
    }

    fn cut(&self, threads: Threads) -> Cut {
        let most = threads.most(size_of_val(&*self.lines), PART);
        Cut { filters: Pieces::of(self.finish.constants.len(), threads, most).count, ..Cut::WHOLE }
    }

    fn run(&self, x: Codes, residual: Option<Codes>, part: Part, workspace: &mut Workspace) {
        let (Codes::Unsigned(codes) | Codes::Signed(codes)) = x else {
            unreachable!("the check lets convolutions read codes of at most 8 bits only");
        };
        let lines = &mut workspace.lines[..self.parts * self.of_filter];
        let (copy, rest) = Line::bytes_mut(lines).split_at_mut(codes.len());
        let flip = if self.signed { 0x80 } else { 0 };
        copy.iter_mut().zip(codes).for_each(|(copy, code)| *copy = code ^ flip);
        // Whatever the missing weights are.
        rest.fill(0);
        let one =
            Segments { count: 1, input_step: 0, output_step: 0, pixels: 1, width: 1, pitch: 1, lead: 0 };
        let (residual, target) = (Residual::new(residual), part.target());
        for first in part.filters.of(self.finish.constants.len()) {
            let (filter, count) = self.finish.filters_of(first);
            let mut sums = Sums([0; FILTERS]);
            let task = Task {
                pieces: &[],
                pixel_step: 0,
                segments: one,
                pixel: 0,
                panels: &[],
                packed: None,
                first,
                count: 1,
                finish: &self.finish,
                residual,
                target,
            };
            // SAFETY: the kernel's value, given to `new`, proves that the CPU has the instructions; the output has a code
            // for every filter.
            unsafe {
                match self.parts {
                    4 => self.sums::<4>(lines, filter, &mut sums.0[..count]),
                    _ => self.sums::<2>(lines, filter, &mut sums.0[..count]),
                }
                finish(&task, sums.0.as_ptr(), 0, 1, 0);
            }
        }
    }
}
