//! The server as its clients see it: real processes' parts, real database, real sockets.

mod artifacts;
mod datasets;
mod full_disk;
mod gate;
mod harness;
mod inference;
mod jobs;
mod models;
mod plans;
mod process;
mod refusals;
mod roles;
mod served;
mod triton;
