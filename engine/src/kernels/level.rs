//! Loops that are compiled once for each kind of vector unit.
//!
//! A loop is written once, in safe code, as an `#[inline(always)]` function; [`by_level!`] makes a function of it that
//! takes a [`Level`] first and runs the version compiled for it.

/// A kind of vector unit. Holding a value other than `Portable` proves that this CPU has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
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
    /// The best that this CPU has, VBMI aside, for work that belongs to no kernel.
    pub(crate) fn of_cpu() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq");
            if wide {
                return Level::Avx512;
            }
            if is_x86_feature_detected!("avx2") {
                return Level::Avx2;
            }
        }
        Level::Portable
    }

    /// Whether tables of bytes are quick.
    pub(crate) fn looks_up_bytes(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Level::Avx512Vbmi;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }
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
            match level {
                $crate::kernels::level::Level::Portable => $body($($argument),*),
                // SAFETY: the level proves that this CPU has the instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::level::Level::Avx2 => unsafe { avx2($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                _ => unsafe { avx512($($argument),*) },
            }
        }
    };
}

pub(crate) use by_level;
