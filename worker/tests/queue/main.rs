//! Workers as real processes on a real queue: killed, drained, cancelled, failed, and what is left behind.

mod bench;
mod full_disk;
mod in_place;
mod lifecycle;
#[path = "../support/pictures.rs"]
mod pictures;
