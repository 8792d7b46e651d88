//! Taking secrets out of answers, so that a server that echoes a request does not hand its secrets to the guest.
//!
//! Found are a value as it is, escaped (percent, JSON, HTML: any byte of it, in any mixture), in hexadecimal, and in
//! base64, also inside a longer encoded text. This is no defence against a server that means to tell: what it was
//! sent it can spell in ways that nobody foresees.

use std::time::Instant;

use crate::denied::Failure;
use crate::secrets::Substitution;

/// A value of fewer bytes is looked for as it is only: its encoded forms would be found in anything.
const MIN_ENCODED_BYTES: usize = 4;
/// How many places are looked at between two looks at the clock.
const LOOKS_EVERY: usize = 256;

/// The secrets of one call, in the forms that are looked for.
pub(crate) struct Redactor {
    secrets: Vec<Sought>,
    forms: Vec<Form>,
    /// By byte: which of `forms` begin with it, so that the rest of them costs nothing.
    beginning: Vec<Vec<usize>>,
}

struct Sought {
    token: String,
    /// In lower case, as header names are.
    lower: String,
}

/// One way in which a secret may stand in an answer; each of its characters may be escaped besides.
struct Form {
    /// Index of the secret.
    secret: usize,
    text: Vec<u8>,
    alphabet: Alphabet,
    /// Of base64 inside a longer text: whether the character before (after) holds bits of the value as well.
    before: bool,
    after: bool,
}

/// Which characters are the same.
#[derive(Clone, Copy)]
enum Alphabet {
    Exact,
    /// Of either case; the form is in lower case.
    Hex,
    /// The standard one and that for URLs; the form is in the standard one.
    Base64,
}

impl Redactor {
    pub(crate) fn new(secrets: &[Substitution]) -> Redactor {
        let mut secrets: Vec<&Substitution> = secrets.iter().collect();
        // Where one value is the beginning of another, the longer is found first.
        secrets.sort_by_key(|secret| usize::MAX - secret.value().len());
        let forms: Vec<Form> = secrets
            .iter()
            .enumerate()
            .flat_map(|(index, secret)| Form::all(index, secret.value().as_bytes()))
            .collect();
        let beginning = (0..=u8::MAX).map(|byte| {
            let begin = |form: &Form| form.text.first().is_some_and(|&first| form.alphabet.same(byte, first));
            (0..forms.len()).filter(|&index| begin(&forms[index])).collect()
        });
        let sought = secrets
            .iter()
            .map(|secret| Sought { token: secret.token().to_owned(), lower: secret.value().to_ascii_lowercase() });
        Redactor { beginning: beginning.collect(), secrets: sought.collect(), forms }
    }

    /// `text` with a token in the place of every secret; `None` if there is none in it.
    ///
    /// # Errors
    ///
    /// [`Failure::TimedOut`] at the deadline: a text that nearly holds a long value everywhere takes its product of time.
    pub(crate) fn redact(&self, text: &[u8], deadline: Instant) -> Result<Option<Vec<u8>>, Failure> {
        if self.forms.is_empty() {
            return Ok(None);
        }
        let mut out: Option<Vec<u8>> = None;
        let mut copied = 0;
        let mut at = 0;
        while at < text.len() {
            if at.is_multiple_of(LOOKS_EVERY) && Instant::now() >= deadline {
                return Err(Failure::TimedOut);
            }
            let Some((form, len)) = self.find(&text[at..]) else {
                at += 1;
                continue;
            };
            let begin = if form.before && at > copied && is_base64(text[at - 1]) { at - 1 } else { at };
            let end = at + len;
            let end = if form.after && text.get(end).is_some_and(|&byte| is_base64(byte)) { end + 1 } else { end };
            let out = out.get_or_insert_default();
            out.extend_from_slice(&text[copied..begin]);
            out.extend_from_slice(self.secrets[form.secret].token.as_bytes());
            (copied, at) = (end, end);
        }
        if let Some(out) = &mut out {
            out.extend_from_slice(&text[copied..]);
        }
        Ok(out)
    }

    /// Whether a header name, which is in lower case, holds a secret.
    pub(crate) fn is_told_by(&self, name: &str) -> bool {
        self.secrets.iter().any(|secret| name.contains(&secret.lower))
    }

    /// The form that stands at the beginning of `text`, and how many bytes it takes there.
    fn find(&self, text: &[u8]) -> Option<(&Form, usize)> {
        let written = text.first().copied();
        let escaped = unescaped(text).map(|(byte, _)| byte);
        written.into_iter().chain(escaped).find_map(|byte| {
            let forms = self.beginning[usize::from(byte)].iter().map(|&index| &self.forms[index]);
            forms.into_iter().find_map(|form| Some((form, form.len_in(text)?)))
        })
    }
}

impl Form {
    /// All forms of one value.
    fn all(secret: usize, value: &[u8]) -> Vec<Form> {
        let form = |text, alphabet| Form { secret, text, alphabet, before: false, after: false };
        let mut forms = vec![form(value.to_vec(), Alphabet::Exact)];
        if value.len() >= MIN_ENCODED_BYTES {
            let hex = value.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect();
            forms.push(form(hex, Alphabet::Hex));
            forms.extend((0..3).map(|offset| Form::base64(secret, value, offset)));
        }
        forms
    }

    /// The characters that the value decides alone when it stands behind `offset` bytes of something else.
    fn base64(secret: usize, value: &[u8], offset: usize) -> Form {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let bytes: Vec<u8> = std::iter::repeat_n(0, offset).chain(value.iter().copied()).collect();
        let bit = |at: usize| (bytes[at / 8] >> (7 - at % 8)) & 1;
        let (first, last) = ((offset * 8).div_ceil(6), bytes.len() * 8 / 6);
        let text = (first..last).map(|character| {
            let index = (character * 6..character * 6 + 6).fold(0, |index, at| index << 1 | bit(at));
            ALPHABET[usize::from(index)]
        });
        Form {
            secret,
            text: text.collect(),
            alphabet: Alphabet::Base64,
            before: offset != 0,
            after: !(bytes.len() * 8).is_multiple_of(6),
        }
    }

    /// How many bytes at the beginning of `text` spell this form, each character as it is or escaped.
    fn len_in(&self, text: &[u8]) -> Option<usize> {
        if matches!(self.alphabet, Alphabet::Exact) && text.starts_with(&self.text) {
            return Some(self.text.len());
        }
        let mut at = 0;
        for &wanted in &self.text {
            let rest = &text[at..];
            // An escape first: its own first byte may be the wanted one by chance.
            at += match unescaped(rest) {
                Some((byte, len)) if self.alphabet.same(byte, wanted) => len,
                _ => match *rest.first()? {
                    byte if self.alphabet.same(byte, wanted) => 1,
                    b'+' if wanted == b' ' => 1,
                    _ => return None,
                },
            };
        }
        Some(at)
    }
}

impl Alphabet {
    fn same(self, found: u8, wanted: u8) -> bool {
        found == wanted
            || match self {
                Alphabet::Exact => false,
                Alphabet::Hex => found.to_ascii_lowercase() == wanted,
                Alphabet::Base64 => matches!((found, wanted), (b'-', b'+') | (b'_', b'/')),
            }
    }
}

/// The byte that an escape at the beginning of `text` stands for, and the length of the escape.
fn unescaped(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        [b'%', high, low, ..] => Some((number(&[*high, *low], 16)?, 3)),
        [b'\\', b'u', b'0', b'0', high, low, ..] => Some((number(&[*high, *low], 16)?, 6)),
        [b'\\', b'x', high, low, ..] => Some((number(&[*high, *low], 16)?, 4)),
        [b'\\', byte @ (b'"' | b'\\' | b'/' | b'\''), ..] => Some((*byte, 2)),
        [b'&', rest @ ..] => {
            // The longest of interest is `&#x0027;`.
            let end = rest.iter().take(8).position(|&byte| byte == b';')?;
            let byte = match &rest[..end] {
                b"amp" => b'&',
                b"lt" => b'<',
                b"gt" => b'>',
                b"quot" => b'"',
                b"apos" => b'\'',
                [b'#', b'x' | b'X', digits @ ..] => number(digits, 16)?,
                [b'#', digits @ ..] => number(digits, 10)?,
                _ => return None,
            };
            Some((byte, end + 2))
        }
        _ => None,
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, radix).ok()
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}
