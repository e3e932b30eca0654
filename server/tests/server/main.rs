//! The server as its clients see it: real processes' parts, real database, real sockets.

mod harness;
mod inference;
mod models;
mod roles;
mod triton;
