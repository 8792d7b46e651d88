//! The host interfaces of the world `tool`: what a capsule may ask for, each linked only where it is granted.

use std::sync::Arc;

use capsa_core::kv::{Change, MAX_KEY_BYTES, MAX_LISTED, MAX_VALUE_BYTES, Quota};
use serde::{Deserialize, Serialize};
use wasmtime::component::{ComponentType, Linker, LinkerInstance, Lower};
use wasmtime::{Result, StoreContextMut};

use crate::call::CallState;
use crate::door::{Door, Stop};
use crate::grants::{Access, Interface};
use crate::http;

/// Most random bytes at once.
const MAX_RANDOM_BYTES: u32 = 64 << 10;
/// So many bytes of keys and values one call may write in any case; where the quota is larger, as many as that.
const MIN_CHANGED_BYTES: u64 = 1 << 20;

/// Begins what stands for a secret.
pub(crate) const HANDLE: &str = "capsa-secret-";

type Answer<T> = std::result::Result<T, HostError>;

/// What a host interface answers instead: the variant `error` of `wit/capsule.wit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lower)]
#[component(variant)]
pub enum HostError {
    /// The policy does not grant it; begins with the rule and a colon.
    #[component(name = "denied")]
    Denied(String),
    /// What was handed over cannot be used.
    #[component(name = "invalid")]
    Invalid(String),
    /// There is no such thing.
    #[component(name = "not-found")]
    NotFound(String),
    /// A quota or a size limit.
    #[component(name = "too-large")]
    TooLarge(String),
    /// The time that was left has passed.
    #[component(name = "timed-out")]
    TimedOut(String),
    /// The other side, or the machine, failed.
    #[component(name = "failed")]
    Failed(String),
}

impl HostError {
    pub(crate) fn denied(rule: &str, detail: impl AsRef<str>) -> HostError {
        HostError::Denied(format!("{rule}: {}", detail.as_ref()))
    }
}

/// Where a tool's keys and values are kept. Used from many threads.
pub trait Keeper: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &str) -> Option<Vec<u8>>;

    /// See [`capsa_core::kv::KeyValues::keys`].
    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String>;

    /// Makes a change, if the present value is the expected one and the quota holds.
    ///
    /// # Errors
    ///
    /// [`KeepError`] if nothing was changed.
    fn change(&self, change: Change, expected: Expected, quota: Quota) -> std::result::Result<bool, KeepError>;
}

/// What a key must hold before a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Anything: the answer is whether there was something.
    Anything,
    /// This; `None` = nothing. The answer is whether it was so.
    Value(Option<Vec<u8>>),
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepError {
    /// The quota would be passed.
    Quota,
    /// It could not be recorded.
    Unrecorded(String),
}

/// Links an interface.
pub(crate) fn link(linker: &mut Linker<CallState>, interface: Interface) -> Result<()> {
    let mut into = linker.instance(interface.import())?;
    match interface {
        Interface::Clock => clock(&mut into),
        Interface::Random => random(&mut into),
        Interface::Config => config(&mut into),
        Interface::Kv => kv(&mut into),
        Interface::Http => http::link(&mut into),
        Interface::Files => files(&mut into),
        Interface::Secrets => secrets(&mut into),
    }
}

pub(crate) type Cx<'a> = StoreContextMut<'a, CallState>;

fn clock(into: &mut LinkerInstance<'_, CallState>) -> Result<()> {
    into.func_wrap("now", |mut cx: Cx<'_>, ()| {
        Ok((cx.data_mut().door().through("clock.now", &(), |door| Ok(door.now_ns()))?,))
    })?;
    into.func_wrap("elapsed", |mut cx: Cx<'_>, ()| {
        Ok((cx.data_mut().door().through("clock.elapsed", &(), |door| Ok(door.elapsed_ns()))?,))
    })
}

fn random(into: &mut LinkerInstance<'_, CallState>) -> Result<()> {
    into.func_wrap("bytes", |mut cx: Cx<'_>, (count,): (u32,)| {
        if count > MAX_RANDOM_BYTES {
            return Err(Stop::RandomBytes.into());
        }
        let act = |door: &mut Door| Ok(door.random.bytes(count as usize));
        Ok((cx.data_mut().door().through("random.bytes", &count, act)?,))
    })?;
    into.func_wrap("number", |mut cx: Cx<'_>, ()| {
        Ok((cx.data_mut().door().through("random.number", &(), |door| Ok(door.random.number()))?,))
    })
}

fn config(into: &mut LinkerInstance<'_, CallState>) -> Result<()> {
    into.func_wrap("get", |mut cx: Cx<'_>, (name,): (String,)| {
        let door = cx.data_mut().door();
        Ok((door.through("config.get", &name, |door| Ok(door.bound.grants.config.get(&name).cloned()))?,))
    })
}

fn kv(into: &mut LinkerInstance<'_, CallState>) -> Result<()> {
    into.func_wrap("get", |mut cx: Cx<'_>, (key,): (String,)| {
        let act = |door: &mut Door| Ok(checked_key(&key).map(|()| keeper(door).get(&key)));
        Ok((cx.data_mut().door().asked("kv.get", &key, act)?,))
    })?;
    into.func_wrap("set", |mut cx: Cx<'_>, (key, value): (String, Vec<u8>)| {
        let args = (key, value);
        let act = |door: &mut Door| Ok(change(door, &args.0, Some(&args.1), Expected::Anything)?.map(|_| ()));
        Ok((cx.data_mut().door().asked("kv.set", &args, act)?,))
    })?;
    into.func_wrap("remove", |mut cx: Cx<'_>, (key,): (String,)| {
        let act = |door: &mut Door| change(door, &key, None, Expected::Anything);
        Ok((cx.data_mut().door().asked("kv.remove", &key, act)?,))
    })?;
    into.func_wrap("swap", |mut cx: Cx<'_>, (key, expected, value): (String, Option<Vec<u8>>, Option<Vec<u8>>)| {
        let args = (key, expected, value);
        let act = |door: &mut Door| change(door, &args.0, args.2.as_deref(), Expected::Value(args.1.clone()));
        Ok((cx.data_mut().door().asked("kv.swap", &args, act)?,))
    })?;
    into.func_wrap("keys", |mut cx: Cx<'_>, (prefix, after, limit): (String, Option<String>, u32)| {
        let args = (prefix, after, limit);
        let act = |door: &mut Door| {
            let limit = (args.2 as usize).min(MAX_LISTED);
            Ok(Ok(keeper(door).keys(&args.0, args.1.as_deref(), limit)))
        };
        Ok((cx.data_mut().door().asked("kv.keys", &args, act)?,))
    })
}

fn keeper(door: &Door) -> &Arc<dyn Keeper> {
    door.bound.keeper.as_ref().expect("kv is linked only where there is a keeper")
}

fn checked_key(key: &str) -> Answer<()> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) {
        Ok(())
    } else {
        Err(HostError::Invalid(format!("a key has 1 to {MAX_KEY_BYTES} bytes, this one has {}", key.len())))
    }
}

/// Makes a change, once it is seen that it may be made.
fn change(
    door: &mut Door,
    key: &str,
    value: Option<&[u8]>,
    expected: Expected,
) -> std::result::Result<Answer<bool>, Stop> {
    let quota = match changeable(door, key, value) {
        Ok(quota) => quota,
        Err(error) => return Ok(Err(error)),
    };
    let change = Change { key: key.to_owned(), value: value.map(<[u8]>::to_vec) };
    let made = door.waiting(|bound| {
        let keeper = bound.keeper.as_ref().expect("kv is linked only where there is a keeper");
        keeper.change(change, expected, quota)
    })?;
    Ok(made.map_err(|error| match error {
        KeepError::Quota => HostError::TooLarge(format!(
            "all keys and values together may have {} bytes and {} keys",
            quota.bytes, quota.keys
        )),
        KeepError::Unrecorded(why) => HostError::Failed(why),
    }))
}

fn changeable(door: &mut Door, key: &str, value: Option<&[u8]>) -> Answer<Quota> {
    checked_key(key)?;
    let grant = door.bound.grants.kv.as_ref().expect("kv is linked only where it is granted");
    if grant.access != Access::ReadWrite {
        return Err(HostError::denied("kv-access", "keys and values may only be read"));
    }
    let quota = grant.quota();
    if let Some(value) = value.filter(|value| value.len() > MAX_VALUE_BYTES) {
        return Err(HostError::TooLarge(format!(
            "a value has at most {MAX_VALUE_BYTES} bytes, this one has {}",
            value.len()
        )));
    }
    // What is overwritten is recorded all the same.
    let most = quota.bytes.max(MIN_CHANGED_BYTES);
    let changed = door.kv_bytes + (key.len() + value.map_or(0, <[u8]>::len)) as u64;
    if changed > most {
        return Err(HostError::TooLarge(format!("one call may write {most} bytes of keys and values")));
    }
    door.kv_bytes = changed;
    Ok(quota)
}

fn files(into: &mut LinkerInstance<'_, CallState>) -> Result<()> {
    into.func_wrap("read", |mut cx: Cx<'_>, (path,): (String,)| {
        let act = |door: &mut Door| {
            let most = door.bound.grants.limits.output_bytes;
            door.waiting(|bound| bound.files().read(&path, most))
        };
        Ok((cx.data_mut().door().asked("files.read", &path, act)?,))
    })?;
    into.func_wrap("write", |mut cx: Cx<'_>, (path, content): (String, Vec<u8>)| {
        let args = (path, content);
        let act = |door: &mut Door| door.waiting(|bound| bound.files().write(&args.0, &args.1, bound.files_grant()));
        Ok((cx.data_mut().door().asked("files.write", &args, act)?,))
    })?;
    into.func_wrap("remove", |mut cx: Cx<'_>, (path,): (String,)| {
        let act = |door: &mut Door| door.waiting(|bound| bound.files().remove(&path, bound.files_grant()));
        Ok((cx.data_mut().door().asked("files.remove", &path, act)?,))
    })?;
    into.func_wrap("entries", |mut cx: Cx<'_>, (path,): (String,)| {
        let act = |door: &mut Door| door.waiting(|bound| bound.files().entries(&path));
        Ok((cx.data_mut().door().asked("files.entries", &path, act)?,))
    })
}

fn secrets(into: &mut LinkerInstance<'_, CallState>) -> Result<()> {
    into.func_wrap("handle", |mut cx: Cx<'_>, (name,): (String,)| {
        let act = |door: &mut Door| Ok(handle(door, &name));
        Ok((cx.data_mut().door().asked("secrets.handle", &name, act)?,))
    })
}

fn handle(door: &mut Door, name: &str) -> Answer<String> {
    let granted = door.bound.grants.secrets.iter().position(|secret| secret.name == name);
    let Some(at) = granted else {
        return Err(HostError::denied("secret", "no secret of this name is granted"));
    };
    if !door.bound.secrets.contains_key(name) {
        return Err(HostError::NotFound("the secret is granted, but has no value yet".to_owned()));
    }
    if let Some((_, handle)) = door.handles.iter().find(|(of, _)| *of == at) {
        return Ok(handle.clone());
    }
    // Nobody can send one in that was not asked for: it cannot be guessed.
    let nonce = door.random.bytes(16);
    let handle = format!("{HANDLE}{}", crate::digest::hex(&nonce));
    door.handles.push((at, handle.clone()));
    Ok(handle)
}
