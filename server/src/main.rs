//! The `dyadic-server` program.

fn main() {}
