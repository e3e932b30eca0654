//! How close one network's outputs are to another's: signal-to-noise, each output's mean over the inputs removed.
//!
//! With f the float network's output and q the other's, over inputs i and outputs k, it is
//! 10·log₁₀ Σ(f − f̄ₖ)² / Σ(d − d̄ₖ)² with d = q − f.

/// Sums over inputs, in f64.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Closeness {
    inputs: f64,
    /// Per output: Σf, Σf², Σd, Σd².
    sums: Vec<[f64; 4]>,
}

impl Closeness {
    /// Takes in the outputs of some inputs: `outputs` values each, input after input.
    pub fn add(&mut self, outputs: usize, reference: &[f32], other: &[f32]) {
        self.sums.resize(outputs, [0.0; 4]);
        for (f, q) in reference.chunks_exact(outputs.max(1)).zip(other.chunks_exact(outputs.max(1))) {
            for (sums, (&f, &q)) in self.sums.iter_mut().zip(f.iter().zip(q)) {
                let (f, d) = (f64::from(f), f64::from(q) - f64::from(f));
                for (sum, term) in sums.iter_mut().zip([f, f * f, d, d * d]) {
                    *sum += term;
                }
            }
            self.inputs += 1.0;
        }
    }

    /// The sums, four an output, from which [`Closeness::of_sums`] goes on.
    pub fn sums(&self) -> &[f64] {
        self.sums.as_flattened()
    }

    /// What had taken in so many inputs and had these sums; none if they are not four an output.
    pub fn of_sums(inputs: u64, sums: &[f64]) -> Option<Self> {
        let (sums, rest) = sums.as_chunks::<4>();
        rest.is_empty().then(|| Closeness { inputs: inputs as f64, sums: sums.to_vec() })
    }

    /// Signal-to-noise in dB; `None` where there is no signal (one input, or outputs that never change) or no noise.
    pub fn db(&self) -> Option<f64> {
        let spread = |sum: f64, squares: f64| (squares - sum * sum / self.inputs.max(1.0)).max(0.0);
        let signal: f64 = self.sums.iter().map(|s| spread(s[0], s[1])).sum();
        let noise: f64 = self.sums.iter().map(|s| spread(s[2], s[3])).sum();
        (signal > 0.0 && noise > 0.0).then(|| 10.0 * (signal / noise).log10())
    }
}

/// [`Closeness::db`] of whole sets of outputs.
pub fn signal_to_noise_db(outputs: usize, reference: &[f32], other: &[f32]) -> Option<f64> {
    let mut found = Closeness::default();
    found.add(outputs, reference, other);
    found.db()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_offset_is_no_noise_and_a_tenth_is_twenty_decibels() {
        let reference = [1.0, 10.0, 3.0, -10.0, 5.0, 30.0];
        let mean = [3.0, 10.0];
        let scaled: Vec<f32> = reference
            .iter()
            .enumerate()
            .map(|(i, f)| f + 0.1 * (f - mean[i % 2]) + if i % 2 == 0 { 7.0 } else { -2.0 })
            .collect();
        let db = signal_to_noise_db(2, &reference, &scaled).expect("there is signal and noise");
        assert!((db - 20.0).abs() < 1e-4, "{db}");
        assert_eq!(signal_to_noise_db(2, &reference, &reference), None);
        assert_eq!(signal_to_noise_db(2, &reference[..2], &scaled[..2]), None);
    }
}
