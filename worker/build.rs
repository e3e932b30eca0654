//! Lets the worker find libtorch at run time without LD_LIBRARY_PATH.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
    // libtorch registers its operators from constructors that nothing references by name.
    println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
}
