//! The sandbox against guests written in WAT: good, wrong and hostile ones.

#![allow(clippy::unwrap_used)]

mod cache;
mod guests;
mod hostile;
mod load;
mod manual;
mod output;
mod roundtrip;
mod sharing;
