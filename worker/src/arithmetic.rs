//! Where and in which arithmetic this machine trains: what bit-identical floating-point results depend on.

use std::path::Path;
use std::sync::OnceLock;

use dyadic_store::spec::{self, JobSpec};
use tch::{Cuda, Device, Kind};

use crate::net::Place;

/// Where and how precisely this machine trains under `spec`.
pub fn place(spec: &JobSpec) -> Place {
    let device = if Cuda::is_available() { Device::Cuda(0) } else { Device::Cpu };
    let fast = device != Device::Cpu || has_bf16();
    let kind = match spec.precision {
        spec::Precision::F32 => Kind::Float,
        spec::Precision::Bf16 => Kind::BFloat16,
        spec::Precision::Auto => {
            if fast {
                Kind::BFloat16
            } else {
                Kind::Float
            }
        }
    };
    Place { device, kind }
}

#[cfg(target_arch = "x86_64")]
fn has_bf16() -> bool {
    std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_bf16() -> bool {
    false
}

/// Sets libtorch's threads; `None` takes as many as it had at first.
pub(crate) fn set_threads(threads: Option<u32>) {
    static AT_FIRST: OnceLock<i32> = OnceLock::new();
    let at_first = *AT_FIRST.get_or_init(tch::get_num_threads);
    tch::set_num_threads(threads.map_or(at_first, |t| t as i32));
}

/// What bit-identical floating-point results depend on: this program, the processor, the library, threads, precision.
pub(crate) fn describe(place: Place) -> String {
    format!(
        "dyadic {}, {}, libtorch {}, {} threads, {:?}, {:?}",
        env!("CARGO_PKG_VERSION"),
        processor(),
        libtorch_version(),
        tch::get_num_threads(),
        place.device,
        place.kind
    )
}

/// Instruction sets that libtorch's kernels are chosen by.
const SETS: [&str; 9] = [
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
];

/// Architecture, vendor and instruction sets. MKL and oneDNN choose by the vendor, too.
fn processor() -> String {
    let known = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = known.lines().find(|l| l.split(':').next().is_some_and(|n| n.trim() == name));
        line.and_then(|l| l.split_once(':')).map_or("", |(_, value)| value.trim())
    };
    let flags: Vec<&str> = field("flags").split_whitespace().collect();
    let found = SETS.iter().copied().filter(|set| flags.contains(set));
    let vendor = Some(field("vendor_id")).filter(|v| !v.is_empty());
    std::iter::once(std::env::consts::ARCH).chain(vendor).chain(found).collect::<Vec<_>>().join("+")
}

/// The version of the libtorch that is loaded: what its folder says, else the library's size.
pub(crate) fn libtorch_version() -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    let named = |path: &&Path| path.file_name().is_some_and(|n| n == "libtorch_cpu.so");
    let Some(library) = paths.into_iter().find(named) else { return "unknown".into() };
    let version = library.ancestors().nth(2).map(|root| root.join("build-version"));
    let version = version.and_then(|path| std::fs::read_to_string(path).ok());
    version.map(|v| v.trim().to_string()).filter(|v| !v.is_empty()).unwrap_or_else(|| {
        let bytes = std::fs::metadata(library).map_or(0, |m| m.len());
        format!("of {bytes} bytes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_that_is_loaded_tells_its_version() {
        // Loaded by being used.
        assert!(tch::get_num_threads() > 0);
        assert!(libtorch_version().starts_with("2."), "{}", libtorch_version());
    }

    #[test]
    fn a_setting_of_threads_ends_with_its_job() {
        set_threads(None);
        let at_first = tch::get_num_threads();
        set_threads(Some(at_first as u32 + 3));
        assert_eq!(tch::get_num_threads(), at_first + 3);
        set_threads(None);
        assert_eq!(tch::get_num_threads(), at_first);
    }
}
