//! The guard against real servers on loopback: names that lie, answers that flood, redirects that lead inside.

#![allow(clippy::unwrap_used)]

mod addresses;
mod destinations;
mod dns;
mod forms;
mod headers;
mod limits;
mod lookups;
mod rules;
mod secrets;
mod sites;
mod tls;
mod world;
