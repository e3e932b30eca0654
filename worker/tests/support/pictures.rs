//! Pictures in files, made here.

/// A bitmap of 24 bits a pixel, rows from below, each a slope of one colour.
pub(crate) fn bitmap(width: usize, height: usize, tint: usize) -> Vec<u8> {
    let row = (3 * width).div_ceil(4) * 4;
    let mut bytes = b"BM".to_vec();
    bytes.extend(((54 + row * height) as u32).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(54u32.to_le_bytes());
    bytes.extend(40u32.to_le_bytes());
    bytes.extend((width as i32).to_le_bytes());
    bytes.extend((height as i32).to_le_bytes());
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    for y in 0..height {
        let line =
            (0..width).flat_map(|x| [0, 1, 2].map(|c| ((x * 7 + y * 5 + tint * (31 + 40 * c)) % 256) as u8));
        let mut line: Vec<u8> = line.collect();
        line.resize(row, 0);
        bytes.extend(line);
    }
    bytes
}
