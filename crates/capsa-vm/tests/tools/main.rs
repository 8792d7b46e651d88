//! Tools in the sandbox: what they are given, what they are denied, and what ends them.

#![allow(clippy::unwrap_used)]

mod calls;
mod guests;
