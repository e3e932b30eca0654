//! Fits filters by whatever codebook each of them has.

use super::{Choice, Filter, Fitting, NotFinite};

/// Fits filters; keeps the scratch space of every codebook that it has met between calls.
#[derive(Debug, Default)]
pub struct Fitter {
    met: Vec<(Choice, Box<dyn Fitting>)>,
}

impl Fitter {
    /// The best codebook for a filter with the latent weights `w`.
    ///
    /// # Errors
    /// [`NotFinite`] for NaN and infinite weights.
    pub fn fit(&mut self, choice: Choice, w: &[f32], out: &mut Filter) -> Result<(), NotFinite> {
        check(w)?;
        if !all_zero(choice, w, out) {
            self.of(choice).fit(w, out);
        }
        Ok(())
    }

    /// As [`Fitter::fit`], but only codebooks next to the last one are tried, where that saves time.
    ///
    /// # Errors
    /// [`NotFinite`] for NaN and infinite weights.
    pub fn refit(&mut self, choice: Choice, w: &[f32], out: &mut Filter) -> Result<(), NotFinite> {
        if !out.is_fitted() {
            return self.fit(choice, w, out);
        }
        check(w)?;
        if !all_zero(choice, w, out) {
            self.of(choice).refit(w, out);
        }
        Ok(())
    }

    /// Levels and exponent stay; each weight takes its best code among them.
    ///
    /// # Errors
    /// [`NotFinite`] for NaN and infinite weights.
    pub fn assign(&mut self, choice: Choice, w: &[f32], out: &mut Filter) -> Result<(), NotFinite> {
        if !out.is_fitted() {
            return self.fit(choice, w, out);
        }
        check(w)?;
        self.of(choice).assign(w, out);
        Ok(())
    }

    fn of(&mut self, choice: Choice) -> &mut dyn Fitting {
        let index = self.met.iter().position(|(met, _)| *met == choice).unwrap_or_else(|| {
            self.met.push((choice, choice.codebook().fitting(choice.bits(), choice.objective())));
            self.met.len() - 1
        });
        self.met[index].1.as_mut()
    }
}

/// Whether there is nothing to fit, which makes the filter one of zeros.
fn all_zero(choice: Choice, w: &[f32], out: &mut Filter) -> bool {
    let zero = w.iter().all(|&x| x == 0.0);
    if zero {
        out.set_zero(w.len() / choice.codebook().latents());
    }
    zero
}

fn check(w: &[f32]) -> Result<(), NotFinite> {
    match w.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(NotFinite { index, value: w[index] }),
        None => Ok(()),
    }
}
