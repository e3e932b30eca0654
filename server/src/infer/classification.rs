//! The `classification` extension: the k greatest values of each sample as text, `value:index[:label]`.

/// A BYTES tensor's raw content for `batch` samples of `values.len() / batch` values, and how many texts a sample has.
/// Greatest first; of equals the lower index.
pub fn classify(values: &[f32], batch: usize, k: usize, labels: &[String]) -> (Vec<u8>, usize) {
    let classes = values.len().checked_div(batch).unwrap_or(0);
    let k = k.min(classes);
    let mut raw = Vec::new();
    if classes == 0 {
        return (raw, k);
    }
    let mut order: Vec<usize> = Vec::with_capacity(classes);
    for sample in values.chunks_exact(classes) {
        order.clear();
        order.extend(0..classes);
        order.sort_by(|&a, &b| sample[b].total_cmp(&sample[a]).then(a.cmp(&b)));
        for &index in order.iter().take(k) {
            let mut text = format!("{:.6}:{index}", sample[index]);
            if let Some(label) = labels.get(index) {
                text.push(':');
                text.push_str(label);
            }
            raw.extend_from_slice(&(text.len() as u32).to_le_bytes());
            raw.extend_from_slice(text.as_bytes());
        }
    }
    (raw, k)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(mut raw: &[u8]) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some((length, rest)) = raw.split_first_chunk::<4>() {
            let (text, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            texts.push(String::from_utf8(text.to_vec()).unwrap());
            raw = rest;
        }
        texts
    }

    #[test]
    fn the_greatest_come_first_and_of_equals_the_lower_index() {
        let labels = ["cat".to_owned(), "dog".to_owned()];
        let (raw, k) = classify(&[0.5, 2.0, 2.0, -1.0, 3.25, 0.0], 2, 2, &labels);
        assert_eq!(k, 2);
        assert_eq!(texts(&raw), ["2.000000:1:dog", "2.000000:2", "3.250000:1:dog", "0.000000:2"]);
    }

    #[test]
    fn no_more_texts_than_classes() {
        let (raw, k) = classify(&[1.0, -0.0, 0.0], 1, 100, &[]);
        assert_eq!(k, 3);
        assert_eq!(texts(&raw), ["1.000000:0", "0.000000:2", "-0.000000:1"]);
    }
}
