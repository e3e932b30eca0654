//! What the importer refuses, and how: one error class a table, and bytes that nobody meant. Beside it what
//! it accepts of models made by hand: functions in every form in which they are spelled, channels that
//! are taken and moved, networks of one dimension, and images that are enlarged.

mod builder;
mod channels;
mod functions;
mod fuzz;
mod limits;
mod malformed;
mod resize;
mod series;
mod unsupported;
