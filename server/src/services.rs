//! The services of `dyadic.v1`: each checks its request, calls the domain and converts the answer.

mod download;
mod inspect;
mod spec;
