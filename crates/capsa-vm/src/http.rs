//! The interface `http`: requests through the egress guard.

use std::time::{Duration, Instant};

use capsa_egress::{Exchange, Failure, Limits, Request, Substitution};
use serde::{Deserialize, Serialize};
use wasmtime::Result;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower};

use crate::call::CallState;
use crate::door::{Door, Stop};
use crate::outside::{Cx, HostError};

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
    let bound = std::sync::Arc::clone(&door.bound);
    let wait = || bound.guard.send(&bound.grants.http, &sent, &bounds, &secrets);
    let exchange = match &mut door.turns {
        // Others compute meanwhile.
        Some(turns) => turns.without(door.until, wait).ok_or(Stop::Wall)?,
        None => wait(),
    };
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

/// The secrets whose handles were given out in this call.
fn substitutions(door: &Door) -> std::result::Result<Vec<Substitution>, HostError> {
    let of = |(at, handle): &(usize, String)| {
        let grant = &door.bound.grants.secrets[*at];
        let value = door.bound.secrets.get(&grant.name).cloned().unwrap_or_default();
        Substitution::new(&grant.name, handle, value, grant.wanted.clone(), grant.allowed.clone())
            // It says nothing of the value.
            .map_err(|_| HostError::Failed(format!("the value of the secret {} cannot stand in a header", grant.name)))
    };
    door.handles.iter().map(of).collect()
}
