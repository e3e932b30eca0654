//! Canonical signed digits: how an integer factor becomes shifts and adds.
//!
//! Every level and every requantize multiplier is a sum of a few signed powers of two. Hardware spends one shift
//! and one add a digit; this module is where the crate counts them.

/// One signed power of two: `±2^shift`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digit {
    /// The power.
    pub shift: u8,
    /// Whether it is subtracted.
    pub negative: bool,
}

/// The canonical signed digits of a factor, lowest power first: no two neighbours are both non-zero, so that at
/// most four digits describe any factor of −128 ..= 127 (five for none).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digits {
    digits: [Digit; 4],
    count: u8,
}

impl Digits {
    /// The digits of `factor`.
    pub fn of(factor: i8) -> Self {
        let mut rest = i32::from(factor);
        let mut found = Digits::default();
        let mut shift = 0;
        while rest != 0 {
            if rest & 1 == 1 {
                // ≡ 1 (mod 4): +1; ≡ 3 (mod 4): −1, so that the next digit is zero.
                let negative = rest & 3 == 3;
                found.digits[usize::from(found.count)] = Digit { shift, negative };
                found.count += 1;
                rest = if negative { rest + 1 } else { rest - 1 };
            }
            rest >>= 1;
            shift += 1;
        }
        found
    }

    /// The digits, lowest power first.
    pub fn as_slice(&self) -> &[Digit] {
        &self.digits[..usize::from(self.count)]
    }

    /// How many shift-adds one product costs.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether the factor is zero.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// `x · factor` by shifts, adds and subtracts alone. Needs `|x| · 2^8 < 2^31`.
    pub fn product(&self, x: i32) -> i32 {
        self.as_slice().iter().fold(0, |sum, digit| {
            let term = x << digit.shift;
            if digit.negative { sum - term } else { sum + term }
        })
    }
}

/// How many signed powers of two make a number, at least: its canonical signed digits.
fn fewest(mut number: u32) -> usize {
    let mut count = 0;
    while number != 0 {
        if number & 1 == 1 {
            number = if number & 3 == 3 { number + 1 } else { number - 1 };
            count += 1;
        }
        number >>= 1;
    }
    count
}

/// The number nearest to `code` (|code| ≤ 2^16) that at most `digits` signed powers of two make; of two equally near ones the
/// smaller in absolute value.
pub(crate) fn nearest(code: i32, digits: usize) -> i32 {
    let size = code.unsigned_abs();
    let found = (0..=size).find_map(|away| {
        let fits = |number: u32| fewest(number) <= digits;
        [size - away, size + away].into_iter().find(|&number| fits(number))
    });
    found.unwrap_or(0) as i32 * code.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_number_of_few_digits_is_found() {
        let all = |digits: u32| -> Vec<i32> {
            let powers: Vec<i32> = (0..=9).flat_map(|k| [1 << k, -(1 << k)]).collect();
            let mut sums = vec![0];
            for _ in 0..digits {
                let more = sums.iter().flat_map(|s| powers.iter().map(move |p| s + p)).collect::<Vec<_>>();
                sums.extend(more);
                sums.sort_unstable();
                sums.dedup();
            }
            sums
        };
        for digits in 1..=3 {
            let sums = all(digits);
            for code in -128..=255i32 {
                let best = sums.iter().copied().min_by_key(|s| ((s - code).abs(), s.abs())).unwrap();
                assert_eq!(nearest(code, digits as usize), best, "{code}, {digits} digits");
            }
        }
        assert!((-128..=255).all(|code| nearest(code, 5) == code));
        assert_eq!((nearest(171, 4), nearest(3, 1), nearest(-3, 1), nearest(255, 1)), (170, 2, -2, 256));
    }

    #[test]
    fn every_factor_multiplies_exactly_with_at_most_four_digits() {
        for factor in i8::MIN..=i8::MAX {
            let digits = Digits::of(factor);
            assert!(digits.len() <= 4, "{factor}");
            for x in [-32768, -255, -1, 0, 1, 3, 255, 32767] {
                assert_eq!(digits.product(x), x * i32::from(factor), "{x} · {factor}");
            }
        }
    }

    #[test]
    fn no_two_neighbouring_digits_are_used() {
        for factor in i8::MIN..=i8::MAX {
            let digits = Digits::of(factor);
            assert!(digits.as_slice().windows(2).all(|pair| pair[1].shift > pair[0].shift + 1), "{factor}");
        }
    }
}
