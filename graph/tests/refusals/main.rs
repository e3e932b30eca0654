//! What the importer refuses, and how: one error class a table, and bytes that nobody meant.

mod builder;
mod fuzz;
mod limits;
mod malformed;
mod unsupported;
