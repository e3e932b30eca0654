//! What the importer refuses, and how: one error class a table, and bytes that nobody meant. Beside it what
//! it accepts of models made by hand: functions in every form in which they are spelled, and channels that
//! are taken and moved, and networks of one dimension.

mod builder;
mod channels;
mod functions;
mod fuzz;
mod limits;
mod malformed;
mod series;
mod unsupported;
