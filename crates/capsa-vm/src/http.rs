//! The interface `http`: requests through the egress guard.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use capsa_egress::{Exchange, Failure, Limits, Request, Substitution};
use serde::{Deserialize, Serialize};
use wasmtime::Result;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower};

use crate::call::CallState;
use crate::door::{Door, Stop};
use crate::grants::SecretGrant;
use crate::outside::{Cx, HANDLE, HostError};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Header {
    name: String,
    value: String,
}

#[derive(Debug, Serialize, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Sent {
    method: String,
    url: String,
    headers: Vec<Header>,
    body: Vec<u8>,
    #[component(name = "timeout-ms")]
    timeout_ms: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Response {
    status: u16,
    headers: Vec<Header>,
    body: Vec<u8>,
}

pub(crate) fn link(into: &mut LinkerInstance<'_, CallState>) -> Result<()> {
    into.func_wrap("send", |mut cx: Cx<'_>, (request,): (Sent,)| {
        Ok((cx.data_mut().door().asked("http.send", &request, |door| send(door, &request))?,))
    })
}

fn send(door: &mut Door, request: &Sent) -> std::result::Result<std::result::Result<Response, HostError>, Stop> {
    let limits = &door.bound.grants.limits;
    if door.egress_requests >= limits.egress_requests {
        let detail = format!("one call may send {} requests", limits.egress_requests);
        return Ok(Err(HostError::TooLarge(detail)));
    }
    let left = limits.egress_bytes.saturating_sub(door.egress_bytes);
    let asked = request.timeout_ms.map(|ms| Instant::now() + Duration::from_millis(u64::from(ms)));
    let deadline = asked.map_or(door.until, |asked| asked.min(door.until));
    let secrets = match substitutions(door) {
        Ok(secrets) => secrets,
        Err(error) => return Ok(Err(error)),
    };
    let headers: Vec<(String, String)> =
        (request.headers.iter()).map(|header| (header.name.clone(), header.value.clone())).collect();
    let sent = Request { method: &request.method, url: &request.url, headers: &headers, body: &request.body };
    // An answer is a piece that is handed over, too.
    let max_received_bytes = left.min(limits.output_bytes);
    let bounds = Limits { deadline, max_sent_bytes: left, max_received_bytes };
    let exchange = door.waiting(|bound| bound.guard.send(&bound.grants.http, &sent, &bounds, &secrets))?;
    Ok(answered(door, exchange))
}

fn answered(door: &mut Door, exchange: Exchange) -> std::result::Result<Response, HostError> {
    let Exchange { sent_bytes, received_bytes, outcome } = exchange;
    door.egress_bytes += sent_bytes + received_bytes;
    // What was denied before anything left is no request.
    door.egress_requests += u64::from(sent_bytes > 0 || !matches!(outcome, Err(Failure::Denied(_))));
    let response = outcome.map_err(|failure| match failure {
        Failure::Denied(denied) => HostError::denied(denied.rule, denied.detail),
        Failure::TimedOut => HostError::TimedOut("the time that was left has passed".to_owned()),
        Failure::TooLarge { .. } => HostError::TooLarge(failure.to_string()),
        Failure::Failed(why) => HostError::Failed(why.to_owned()),
    })?;
    let headers = response.headers.into_iter().map(|(name, value)| Header { name, value }).collect();
    Ok(Response { status: response.status, headers, body: response.body })
}

/// All secrets that are granted: those whose handles were given out in this call are put in, and all are taken out of the
/// answer, which may hold what an earlier call has sent.
fn substitutions(door: &Door) -> std::result::Result<Vec<Substitution>, HostError> {
    let granted = door.bound.grants.secrets.iter().enumerate();
    let with_value = granted.filter_map(|(at, grant)| Some((at, grant, door.bound.secrets.get(&grant.name)?)));
    let of = |(at, grant, value): (usize, &SecretGrant, &String)| {
        let told = door.handles.iter().find(|(of, _)| *of == at);
        let handle = told.map_or_else(unguessable, |(_, handle)| handle.clone());
        Substitution::new(&grant.name, handle, value, grant.wanted.clone(), grant.allowed.clone())
            // It says nothing of the value.
            .map_err(|_| HostError::Failed(format!("the value of the secret {} cannot stand in a header", grant.name)))
    };
    with_value.map(of).collect()
}

/// A handle that nobody was given.
fn unguessable() -> String {
    let part = || RandomState::new().hash_one(std::process::id());
    format!("{HANDLE}{:016x}{:016x}", part(), part())
}
