//! Kernels for x86-64: one file a kind of matrix kernel, and what they share.
//!
//! [`source`] lays the input out, [`panels`] the weights (by [`transpose`]), [`finish`] the numbers of the epilogue;
//! [`direct`] drives them. [`winograd`] says which layers take fewer products.

pub(crate) mod amx;
pub(crate) mod avx2;
pub(crate) mod avx512;
mod direct;
mod finish;
pub(crate) mod lookup;
pub(crate) mod panels;
mod source;
mod transpose;
mod winograd;
