//! Where and in which arithmetic this machine trains: what bit-identical floating-point results depend on.

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

/// What bit-identical floating-point results depend on.
pub(crate) fn describe(place: Place) -> String {
    let isa = instruction_set();
    format!("{isa}, libtorch 2.13, {} threads, {:?}, {:?}", tch::get_num_threads(), place.device, place.kind)
}

#[cfg(target_arch = "x86_64")]
fn instruction_set() -> String {
    let mut found = vec!["x86-64"];
    for (name, here) in [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
        ("avx512fp16", std::arch::is_x86_feature_detected!("avx512fp16")),
    ] {
        if here {
            found.push(name);
        }
    }
    found.join("+")
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction_set() -> String {
    std::env::consts::ARCH.to_string()
}
