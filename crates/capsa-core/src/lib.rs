//! Capsa's core: what a decision capsule declares, how it learns, and the fold.
//!
//! Pure: no I/O, no clock, no global state. Time and randomness are arguments, so that every
//! decision can be replayed from its record and every test can be exact.

pub mod argmax;
pub mod capsule;
pub mod cbor;
pub mod decide;
pub mod definition;
pub mod events;
pub mod input;
pub mod joint;
pub mod kv;
pub mod learned;
pub mod learners;
pub mod named;
pub mod nesting;
pub mod outcome;
pub mod posterior;
pub mod program;
pub mod record;
pub mod rejected;
mod rules;
pub mod sealed;
pub mod special;
pub mod stream;
pub mod tabular;
pub mod tally;
pub mod world;
