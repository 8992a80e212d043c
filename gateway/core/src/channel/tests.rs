//! Whole channels: golden folders, what is refused at load, hostile input, and cost.

mod compile;
mod fuzz;
mod golden;
