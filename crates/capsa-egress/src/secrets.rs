//! Secrets: put into header values on the way out, for their own hosts only.

use std::fmt;

use crate::denied::{Denied, Invalid};
use crate::destination::{Destination, Scheme};
use crate::pattern::SecretHosts;

/// Bytes of a secret's value.
const MAX_VALUE_BYTES: usize = 4096;
/// Bytes of a token: shorter ones would stand for something by chance.
const MIN_TOKEN_BYTES: usize = 8;

/// One secret that a capsule may use without seeing it.
#[derive(Clone)]
pub struct Substitution {
    name: String,
    token: String,
    value: String,
    wanted: SecretHosts,
    allowed: SecretHosts,
}

impl Substitution {
    /// A secret called `name`, for which `token` stands in the guest's hands.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if the token is shorter than 8 bytes or not visible ASCII, or if the value is no value of a
    /// header: 1 to 4096 bytes of visible ASCII, with blanks only inside. The value is not repeated.
    pub fn new(
        name: impl Into<String>,
        token: impl Into<String>,
        value: impl Into<String>,
        wanted: SecretHosts,
        allowed: SecretHosts,
    ) -> Result<Substitution, Invalid> {
        let (name, token, value) = (name.into(), token.into(), value.into());
        if token.len() < MIN_TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Invalid::new("token", token, format!("visible ASCII, {MIN_TOKEN_BYTES} bytes at least")));
        }
        let visible = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if value.is_empty() || value.len() > MAX_VALUE_BYTES || !visible || value.trim() != value {
            let remedy = format!("1 to {MAX_VALUE_BYTES} bytes of visible ASCII, blanks only inside");
            return Err(Invalid::new(format!("value of {name}"), "", remedy));
        }
        Ok(Substitution { name, token, value, wanted, allowed })
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn value(&self) -> &str {
        &self.value
    }

    /// Whether the secret is for this host, by the definition and the policy both.
    pub(crate) fn is_for(&self, destination: &Destination) -> bool {
        self.wanted.matches(destination.host()) && self.allowed.matches(destination.host())
    }
}

impl fmt::Debug for Substitution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Substitution").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Refuses tokens where nothing is put in their place: a guest that puts one there has made a mistake.
///
/// # Errors
///
/// [`Denied`] `secret`.
pub(crate) fn refuse_tokens(part: &str, bytes: &[u8], secrets: &[Substitution]) -> Result<(), Denied> {
    for secret in secrets {
        if bytes.windows(secret.token.len()).any(|window| window == secret.token.as_bytes()) {
            return Err(Denied::new(
                "secret",
                format!("the secret {} may stand in the value of a header, not in {part}", secret.name),
            ));
        }
    }
    Ok(())
}

/// Puts secrets in the place of their tokens in one header value. What was put in is not looked at again.
///
/// `private` says whether the policy names the destination itself: only such a one may get a secret without TLS.
///
/// # Errors
///
/// [`Denied`] `secret-host` if a token stands in the value and its secret may not go there.
pub(crate) fn substitute(
    value: &str,
    secrets: &[Substitution],
    destination: &Destination,
    private: bool,
) -> Result<String, Denied> {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    // The earliest token; of two that begin together the longer.
    while let Some((at, secret)) = secrets
        .iter()
        .filter_map(|secret| Some((rest.find(&secret.token)?, secret)))
        .min_by_key(|(at, secret)| (*at, usize::MAX - secret.token.len()))
    {
        if !secret.is_for(destination) {
            return Err(Denied::new(
                "secret-host",
                format!("the secret {} is not for {}", secret.name, destination.host()),
            ));
        }
        if destination.scheme() != Scheme::Https && !private {
            return Err(Denied::new(
                "secret-host",
                format!("the secret {} goes to {} over https only", secret.name, destination.host()),
            ));
        }
        out.push_str(&rest[..at]);
        out.push_str(&secret.value);
        rest = &rest[at + secret.token.len()..];
    }
    out.push_str(rest);
    Ok(out)
}
