//! Memory in cache lines.

/// 64 bytes that lie in one cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; 64]);

impl Line {
    /// Lines as bytes.
    #[expect(unsafe_code, reason = "a line is an array of bytes")]
    pub(crate) fn bytes_mut(lines: &mut [Line]) -> &mut [u8] {
        // SAFETY: a line is 64 bytes without padding, and every byte is valid.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines)) }
    }
}

impl Default for Line {
    fn default() -> Self {
        Line([0; 64])
    }
}
