//! Decision ids: any text, ids made of any decision, and any bytes sealed as if we had.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use capsa_core::sealed::{Carried, Keyring, MAX_ID_CHARS, Sealed, fits, place};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};

const KEY: [u8; 32] = [7; 32];
/// The key of number 1 takes over at this time.
const SECOND_KEY_FROM_MS: u64 = 1 << 40;

static KEYS: LazyLock<Keyring> = LazyLock::new(|| {
    let mut keys = Keyring::default();
    keys.add(0, 0, KEY);
    keys.add(1, SECOND_KEY_FROM_MS, [9; 32]);
    keys
});

pub(crate) fn run(data: &[u8]) {
    let here = place("acme", "routing", "router");
    match data.split_first() {
        Some((0, body)) => forged(&here, body),
        Some((1, parts)) => made(&here, parts),
        _ => {
            let Ok(text) = std::str::from_utf8(data) else { return };
            // Only what we have sealed opens, and a decision has one id.
            if let Some(sealed) = KEYS.open(&here, text) {
                assert_eq!(KEYS.seal(&here, &sealed).as_deref(), Some(text));
            }
        }
    }
}

/// A nonce and a body under our own key: whatever was sealed once, by any version, opens to one thing or to nothing.
fn forged(here: &[u8], data: &[u8]) {
    let Some((nonce, body)) = data.split_first_chunk::<16>() else { return };
    let mut long = [0; 24];
    long[..16].copy_from_slice(nonce);
    let hidden = XChaCha20Poly1305::new(&Key::from(KEY))
        .encrypt(&XNonce::from(long), Payload { msg: body, aad: here })
        .expect("a message is short");
    let id = format!("dec_{}", URL_SAFE_NO_PAD.encode([&[0, 0], &nonce[..], &hidden].concat()));
    let Some(sealed) = KEYS.open(here, &id) else { return };
    assert!(id.len() <= MAX_ID_CHARS);
    assert_eq!(sealed.nonce, *nonce);
    opens_again(here, &sealed);
}

/// A decision out of any bytes.
fn made(here: &[u8], data: &[u8]) {
    let Some((fixed, rest)) = data.split_first_chunk::<48>() else { return };
    let number = |at: usize| u64::from_le_bytes(fixed[at..at + 8].try_into().expect("eight bytes"));
    let (options, key) = rest.split_at(rest.len().min(usize::from(fixed[0] % 9) * 2));
    let carried = (fixed[1] & 1 == 1).then(|| Carried {
        capsule_version: number(32) as u32,
        mode: fixed[2],
        options: options.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect(),
        propensity: (fixed[1] & 2 == 2).then(|| f64::from_bits(number(40))),
        key: String::from_utf8_lossy(key).into_owned(),
    });
    let nonce = fixed[..16].try_into().expect("sixteen bytes");
    opens_again(here, &Sealed { nonce, sequence: number(16), horizon_ms: number(24) as i64, carried });
}

fn opens_again(here: &[u8], sealed: &Sealed) {
    let id = KEYS.seal(here, sealed).expect("there are keys");
    let fits = sealed.carried.as_ref().is_none_or(|carried| fits(carried.options.len(), &carried.key));
    assert!(id.len() <= MAX_ID_CHARS || !fits, "{} characters", id.len());
    if id.len() > MAX_ID_CHARS {
        assert_eq!(KEYS.open(here, &id), None);
        return;
    }
    // As text: a propensity that is no number equals itself.
    let opened = KEYS.open(here, &id).map(|opened| format!("{opened:?}"));
    assert_eq!(opened, Some(format!("{sealed:?}")));
    assert_eq!(KEYS.open(&place("acme", "routing", "other"), &id), None);
    // Every character counts; one of them follows from the id.
    let at = "dec_".len() + usize::from(sealed.nonce[15]) % (id.len() - "dec_".len());
    let mut changed = id.into_bytes();
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).expect("ASCII");
    assert_eq!(KEYS.open(here, &changed), None, "character {at}");
}
