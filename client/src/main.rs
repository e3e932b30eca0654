//! The `dyadic` command.
fn main() {}
