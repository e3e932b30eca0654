//! Loops that are compiled once for each kind of vector unit.
//!
//! A loop is written once, in safe code, as an `#[inline(always)]` function; [`by_level!`] makes a function of it that
//! takes a [`Level`] first and runs the version compiled for it.

/// The vector unit that loops use. A value proves that this CPU has it: only this file can make one, and looks first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level(Unit);

/// A kind of vector unit, each with what the ones before it have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// What every CPU of the architecture has.
    Portable,
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, VL and DQ.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The same, and VBMI: look-ups in tables of bytes.
    #[cfg(target_arch = "x86_64")]
    Avx512Vbmi,
}

impl Level {
    /// What every CPU has.
    pub(crate) const PORTABLE: Level = Level(Unit::Portable);

    /// The best that this CPU has, up to `most`.
    pub(crate) fn up_to(most: Unit) -> Self {
        Level(most.min(unit_of_cpu()))
    }

    /// The best that this CPU has, VBMI aside, for work that belongs to no kernel.
    pub(crate) fn of_cpu() -> Self {
        #[cfg(target_arch = "x86_64")]
        return Level::up_to(Unit::Avx512);
        #[cfg(not(target_arch = "x86_64"))]
        Level::PORTABLE
    }

    /// Which unit this CPU is proven to have.
    pub(crate) fn unit(self) -> Unit {
        self.0
    }

    /// Whether tables of bytes are quick.
    pub(crate) fn looks_up_bytes(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.0 == Unit::Avx512Vbmi;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }
}

#[cfg(target_arch = "x86_64")]
fn unit_of_cpu() -> Unit {
    let wide = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq");
    match wide && is_x86_feature_detected!("avx2") {
        true if is_x86_feature_detected!("avx512vbmi") => Unit::Avx512Vbmi,
        true => Unit::Avx512,
        false if is_x86_feature_detected!("avx2") => Unit::Avx2,
        false => Unit::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn unit_of_cpu() -> Unit {
    Unit::Portable
}

macro_rules! by_level {
    ($(#[$attributes:meta])* $name:ident = $body:ident($($argument:ident: $type:ty),* $(,)?)) => {
        $(#[$attributes])*
        #[allow(unsafe_code, reason = "calls of functions compiled for CPUs that have the instructions")]
        pub(crate) fn $name(level: $crate::kernels::level::Level, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($argument: $type),*) {
                $body($($argument),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
            fn avx512($($argument: $type),*) {
                $body($($argument),*);
            }
            match level.unit() {
                $crate::kernels::level::Unit::Portable => $body($($argument),*),
                // SAFETY: the level proves that this CPU has the instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::level::Unit::Avx2 => unsafe { avx2($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                _ => unsafe { avx512($($argument),*) },
            }
        }
    };
}

pub(crate) use by_level;

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_never_more_than_the_cpu_has() {
        let has = |unit: Unit| match unit {
            Unit::Portable => true,
            Unit::Avx2 => is_x86_feature_detected!("avx2"),
            Unit::Avx512 => is_x86_feature_detected!("avx512bw"),
            Unit::Avx512Vbmi => is_x86_feature_detected!("avx512vbmi"),
        };
        for unit in [Unit::Portable, Unit::Avx2, Unit::Avx512, Unit::Avx512Vbmi] {
            let level = Level::up_to(unit);
            assert!(has(level.unit()), "{level:?}");
            assert_eq!(level.unit() == unit, has(unit), "{level:?}");
        }
        assert_eq!(Level::PORTABLE.unit(), Unit::Portable);
        assert_eq!(Level::of_cpu(), Level::up_to(Unit::Avx512));
    }
}
