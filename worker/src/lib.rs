//! The Dyadic worker.
