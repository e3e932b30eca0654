//! The best real scale of a symmetric list of levels: the one whose nearest levels T maximize `⟨w,T⟩²/‖T‖²`.
//!
//! For a scale s let T(s) be the nearest levels to `w/s`, `A = ⟨w,T(s)⟩`, `D = ‖T(s)‖²`. As s falls, a magnitude v passes
//! from level l to the next one l′ at `s = 2v/(l + l′)`; between these breakpoints T, A and D stand still. The error
//! `e(s) = ‖w‖² − 2sA + s²D` is continuous, its least value is `‖w‖² − max A²/D`, and the best T is T(s) at `s = A/D`. So
//! the optimum is found exactly by looking at every breakpoint, or at those that can hold it: on an interval `[s₁, s₂]`
//! the slope `e′ = −2A + 2sD` changes by a breakpoint's `ΔA = s_k·ΔD/2` and ΔD, which bounds it, integrated from either
//! end, by
//!
//! `e(s) ≥ e(s₁) + D₂(s² − s₁²) − (2A₁ − s₁(D₁ − D₂))(s − s₁)` and
//! `e(s) ≥ e(s₂) + 2A₂(s₂ − s) − (D₁ + D₂)(s₂² − s²)/2`.
//!
//! Intervals that cannot hold the optimum are left, the others halved until few breakpoints remain.

/// The magnitudes of a filter's weights in order, and the sums of what lies above each.
#[derive(Debug, Default)]
pub(super) struct Magnitudes {
    /// Ascending.
    values: Vec<f32>,
    /// Entry `i` is the sum of `values[i..]`.
    above: Vec<f64>,
    /// ‖w‖².
    squares: f64,
}

/// A symmetric list of levels as its steps upward from 0, or from its least positive level where 0 is not in it.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    /// The level of magnitudes below every step: 0 if the list has it.
    base: f64,
    ups: Vec<Step>,
    largest: f64,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    /// Middle between the two levels.
    middle: f64,
    rise: f64,
    /// Rise of the squared level.
    squares: f64,
}

/// T(s), as far as it matters.
#[derive(Debug, Clone, Copy)]
struct At {
    scale: f64,
    a: f64,
    d: f64,
    /// Steps taken by all magnitudes.
    taken: usize,
}

/// A list's optimum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Best {
    /// `⟨w,T⟩²/‖T‖²`.
    pub(super) objective: f64,
    /// `⟨w,T⟩/‖T‖²`.
    pub(super) scale: f64,
}

/// Breakpoints that are looked at one by one.
const FEW: usize = 24;
/// Relative error of sums that must not decide.
const SLACK: f64 = 1e-12;
/// An interval whose ends are this close is not halved.
const NARROW: f64 = 1.0 + 1e-9;
/// Ratio of neighbouring scales of the first look.
const FIRST: f64 = 1.25;

impl Magnitudes {
    /// Those of `w`.
    pub(super) fn take(&mut self, w: &[f32]) {
        self.values.clear();
        self.values.extend(w.iter().map(|x| x.abs()));
        self.values.sort_unstable_by(f32::total_cmp);
        self.above.clear();
        self.above.resize(self.values.len() + 1, 0.0);
        let mut sum = 0.0;
        self.squares = 0.0;
        for (entry, &v) in self.above.iter_mut().zip(&self.values).rev() {
            sum += f64::from(v);
            self.squares += f64::from(v) * f64::from(v);
            *entry = sum;
        }
    }

    /// The first of them that is at least `boundary`.
    fn first(&self, boundary: f64) -> usize {
        self.values.partition_point(|&v| f64::from(v) < boundary)
    }

    fn sum(&self, first: usize) -> f64 {
        self.above.get(first).copied().unwrap_or(0.0)
    }

    fn count(&self) -> f64 {
        self.values.len() as f64
    }

    fn mean(&self) -> f64 {
        self.sum(0) / self.count().max(1.0)
    }

    fn largest(&self) -> f64 {
        self.values.last().map_or(0.0, |&v| f64::from(v))
    }
}

impl Steps {
    /// Of ascending symmetric levels.
    pub(super) fn new(levels: &[i8]) -> Self {
        let upper: Vec<f64> = levels.iter().filter(|&&l| l >= 0).map(|&l| f64::from(l)).collect();
        let step = |pair: &[f64]| {
            let (low, high) = (pair[0], pair[1]);
            Step { middle: f64::midpoint(low, high), rise: high - low, squares: high * high - low * low }
        };
        Steps {
            base: upper.first().copied().unwrap_or(0.0),
            ups: upper.windows(2).map(step).collect(),
            largest: upper.last().copied().unwrap_or(0.0),
        }
    }

    /// Scales between which that of the best T lies: T rises with the magnitude, so that `A/D ≥ mean/largest`, and a level
    /// that is not 0 is at least the least positive one, so that `A/D ≤ greatest magnitude/least level`.
    pub(super) fn range(&self, w: &Magnitudes) -> (f64, f64) {
        let least = if self.base > 0.0 { self.base } else { self.ups.first().map_or(1.0, |s| s.rise) };
        (w.mean() / self.largest, w.largest() / least)
    }

    fn at(&self, w: &Magnitudes, scale: f64) -> At {
        let mut at = At { scale, a: self.base * w.sum(0), d: self.base * self.base * w.count(), taken: 0 };
        for step in &self.ups {
            let first = w.first(step.middle * scale);
            let count = w.values.len() - first;
            if count == 0 {
                break;
            }
            at.a += step.rise * w.sum(first);
            at.d += step.squares * count as f64;
            at.taken += count;
        }
        at
    }

    /// ‖w − s·T(s)‖².
    pub(super) fn error(&self, w: &Magnitudes, scale: f64) -> f64 {
        self.at(w, scale).error(w)
    }

    /// The optimum, if it is above `floor`.
    pub(super) fn best(&self, w: &Magnitudes, floor: f64) -> Option<Best> {
        let mut best = Best { objective: floor, scale: 0.0 };
        let (low, high) = self.range(w);
        let mut looks = vec![self.at(w, low / FIRST)];
        while let Some(last) = looks.last()
            && last.scale < high
        {
            looks.push(self.at(w, last.scale * FIRST));
        }
        for at in &looks {
            at.improve(&mut best);
        }
        let mut open: Vec<(At, At)> = looks.windows(2).map(|pair| (pair[0], pair[1])).collect();
        while let Some((low, high)) = open.pop() {
            let breakpoints = low.taken - high.taken;
            if breakpoints == 0 || lower_bound(w, low, high) > w.squares * (1.0 + SLACK) - best.objective {
                continue;
            }
            if breakpoints <= FEW || high.scale <= low.scale * NARROW {
                self.each(w, low, high, &mut best);
                continue;
            }
            let middle = self.at(w, (low.scale * high.scale).sqrt());
            middle.improve(&mut best);
            open.push((low, middle));
            open.push((middle, high));
        }
        (best.objective > floor).then_some(best)
    }

    /// Takes the breakpoints between two scales one by one, the highest first.
    fn each(&self, w: &Magnitudes, low: At, high: At, best: &mut Best) {
        let mut found: Vec<(f64, f64, Step)> = Vec::with_capacity(low.taken - high.taken);
        for &step in &self.ups {
            let (from, to) = (w.first(step.middle * low.scale), w.first(step.middle * high.scale));
            let inside = w.values.get(from..to).unwrap_or_default();
            found.extend(inside.iter().map(|&v| (f64::from(v) / step.middle, f64::from(v), step)));
        }
        found.sort_unstable_by(|x, y| y.0.total_cmp(&x.0));
        let mut at = high;
        for (scale, v, step) in found {
            at.scale = scale;
            at.a += step.rise * v;
            at.d += step.squares;
            at.improve(best);
        }
    }
}

impl At {
    fn error(self, w: &Magnitudes) -> f64 {
        w.squares - 2.0 * self.scale * self.a + self.scale * self.scale * self.d
    }

    fn improve(self, best: &mut Best) {
        if self.d > 0.0 && self.a * self.a > best.objective * self.d {
            *best = Best { objective: self.a * self.a / self.d, scale: self.a / self.d };
        }
    }
}

/// No T(s) between the two has a smaller error than this.
fn lower_bound(w: &Magnitudes, low: At, high: At) -> f64 {
    let (s1, s2) = (low.scale, high.scale);
    let shed = low.d - high.d;
    // c + b·s + a·s², a ≥ 0, least where it is flat or at an end.
    let least = |a: f64, b: f64, c: f64| {
        let flat = if a > 0.0 { (-b / (2.0 * a)).clamp(s1, s2) } else { s1 };
        let value = |s: f64| c + s * (b + s * a);
        value(flat).min(value(s1)).min(value(s2))
    };
    let b = s1 * shed - 2.0 * low.a;
    let rising = least(high.d, b, low.error(w) - s1 * (b + s1 * high.d));
    let half = f64::midpoint(low.d, high.d);
    let falling = least(half, -2.0 * high.a, high.error(w) + 2.0 * s2 * high.a - s2 * s2 * half);
    rising.max(falling)
}
