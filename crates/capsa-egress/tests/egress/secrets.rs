//! Secrets go where they may and come back from nowhere.

use capsa_egress::{Failure, Request, SecretHosts, Substitution};
use serde_json::json;

use crate::sites::{Site, ok};
use crate::world::{World, denial, get, headers_of, patient, private, public, rules};

const TOKEN: &str = "capsa-secret-8f2c1d";
/// With characters that every encoding treats in its own way.
const VALUE: &str = "sk_live/51+\"Ab&c<d>\\e 'f=%7E";

fn hosts(patterns: &[&str]) -> SecretHosts {
    SecretHosts::try_from(patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>()).unwrap()
}

fn secret(value: &str, patterns: &[&str]) -> Substitution {
    Substitution::new("stripe", TOKEN, value, hosts(patterns), hosts(patterns)).unwrap()
}

fn here() -> Substitution {
    secret(VALUE, &["*.local.example", "127.0.0.1"])
}

/// How a server spells what it was sent.
type Echo = Box<dyn Fn(&str) -> String + Send + Sync>;

/// What a guest gets back whose secret is echoed in `echo`'s way.
fn echoed(value: &str, echo: impl Fn(&str) -> String + Send + Sync + 'static) -> String {
    let site = Site::serving(move |request, out| {
        let text = std::str::from_utf8(request).unwrap();
        let (_, sent) = text.split_once("authorization: Bearer ").unwrap();
        out.write_all(echo(sent.split_once("\r\n").unwrap().0).as_bytes())
    });
    let pair = format!("api.local.example:{}", site.port());
    let world = World::new();
    let answer = world.get_with(
        &private(std::slice::from_ref(&pair)),
        &format!("http://{pair}/"),
        &[("authorization", &format!("Bearer {TOKEN}"))],
        &[secret(value, &["*.local.example"])],
    );
    assert!(site.requests()[0].contains(value), "it did arrive");
    let answer = answer.unwrap();
    format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.body))
}

fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..=group.len() {
            out.push(char::from(alphabet[(bits >> (18 - 6 * at)) as usize & 63]));
        }
    }
    out
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn each(text: &str, write: impl Fn(u8) -> String) -> String {
    text.bytes().map(write).collect()
}

#[test]
fn a_secret_reaches_its_host_in_header_values() {
    let world = World::new();
    let site = Site::secure(&world.authority, "api.local.example", |_, out| out.write_all(ok("x").as_bytes()));
    let pair = format!("api.local.example:{}", site.port());
    let answer = world.get_with(
        &private(std::slice::from_ref(&pair)),
        &format!("https://{pair}/"),
        &[("authorization", &format!("Bearer {TOKEN}")), ("x-two", &format!("{TOKEN},{TOKEN}!"))],
        &[here()],
    );
    answer.unwrap();
    let request = site.requests().remove(0);
    assert!(request.contains(&format!("\r\nauthorization: Bearer {VALUE}\r\n")), "{request}");
    assert!(request.contains(&format!("\r\nx-two: {VALUE},{VALUE}!\r\n")), "{request}");
}

#[test]
fn longer_tokens_come_first_and_values_are_not_read_again() {
    let site = Site::answering(ok("x"));
    let pair = format!("127.0.0.1:{}", site.port());
    let anywhere = || hosts(&["127.0.0.1"]);
    let make = |token: &str, value: &str| Substitution::new("s", token, value, anywhere(), anywhere()).unwrap();
    let secrets = [make("token-000", "first"), make("token-0001", "second token-000")];
    let answer = World::new().get_with(
        &private(std::slice::from_ref(&pair)),
        &format!("http://{pair}/"),
        &[("x", "token-0001 token-000")],
        &secrets,
    );
    answer.unwrap();
    assert!(site.requests()[0].contains("\r\nx: second token-000 first\r\n"), "{:?}", site.requests());
}

#[test]
fn a_secret_goes_to_no_other_host() {
    let site = Site::answering(ok("x"));
    let world = World::new();
    let anywhere = ["api.local.example", "127.0.0.1"].map(|host| format!("{host}:{}", site.port()));
    let wanted_only =
        Substitution::new("stripe", TOKEN, VALUE, hosts(&["*.local.example"]), hosts(&["api.other.example"])).unwrap();
    let allowed_only =
        Substitution::new("stripe", TOKEN, VALUE, hosts(&["api.other.example"]), hosts(&["*.local.example"])).unwrap();
    for (host, secret) in [
        ("api.local.example", secret(VALUE, &["local.example"])),
        ("api.local.example", secret(VALUE, &["x.api.local.example"])),
        ("api.local.example", secret(VALUE, &["127.0.0.1"])),
        ("127.0.0.1", secret(VALUE, &["*.local.example"])),
        ("api.local.example", wanted_only),
        ("api.local.example", allowed_only),
        ("api.local.example", secret(VALUE, &[])),
    ] {
        let url = format!("https://{host}:{}/", site.port());
        let denied = denial(world.get_with(&private(&anywhere), &url, &[("x", TOKEN)], &[secret]));
        assert_eq!(denied.rule, "secret-host");
        assert!(denied.detail.contains("stripe") && !denied.detail.contains(VALUE), "{denied}");
    }
    assert_eq!(site.connections(), 0);
    assert_eq!(world.names.asked(), []);
}

#[test]
fn a_secret_goes_in_the_clear_only_where_the_policy_names_the_place() {
    let world = World::new();
    let open = rules(json!({"hosts": ["*"], "schemes": ["http", "https"]}));
    let denied = denial(world.get_with(&open, "http://api.local.example/", &[("x", TOKEN)], &[here()]));
    assert_eq!(denied.rule, "secret-host");
    assert!(denied.detail.contains("https only"), "{denied}");
    // Over TLS the secret is no obstacle; the address is.
    let denied = denial(world.get_with(&open, "https://api.local.example/", &[("x", TOKEN)], &[here()]));
    assert_eq!(denied.rule, "address");
}

#[test]
fn a_token_stands_in_header_values_only() {
    let world = World::new();
    let rules = public(&[443]);
    let url = "https://api.local.example/";
    let refused = |request: &Request<'_>| {
        let denied = denial(world.guard.send(&rules, request, &patient(), &[here()]).outcome);
        assert_eq!(denied.rule, "secret", "{request:?}");
    };
    refused(&get(&format!("{url}?key={TOKEN}")));
    refused(&get(&format!("{url}#{TOKEN}")));
    refused(&Request { headers: &headers_of(&[(TOKEN, "x")]), ..get(url) });
    let body = format!("a {TOKEN} b");
    refused(&Request { method: "POST", body: body.as_bytes(), ..get(url) });
    assert_eq!(world.names.asked(), []);
}

#[test]
fn an_echo_tells_nothing() {
    let same = |sent: &str| sent.to_owned();
    let json = |sent: &str| serde_json::to_string(sent).unwrap();
    let html = |sent: &str| {
        sent.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
            .replace('\'', "&#39;")
    };
    let forms: Vec<(&str, Echo)> = vec![
        ("as it is", Box::new(same)),
        ("JSON", Box::new(json)),
        ("JSON, all escaped", Box::new(|sent| each(sent, |byte| format!("\\u{byte:04X}")))),
        ("JSON with slashes", Box::new(move |sent| json(sent).replace('/', "\\/"))),
        ("HTML", Box::new(html)),
        ("HTML, decimal", Box::new(|sent| each(sent, |byte| format!("&#{byte};")))),
        ("HTML, hexadecimal", Box::new(|sent| each(sent, |byte| format!("&#x{byte:X};")))),
        ("percent, all", Box::new(|sent| each(sent, |byte| format!("%{byte:02x}")))),
        (
            "percent, needed",
            Box::new(|sent| {
                each(sent, |byte| match byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                    true => char::from(byte).to_string(),
                    false => format!("%{byte:02X}"),
                })
            }),
        ),
        (
            "form",
            Box::new(|sent| {
                each(sent, |byte| match byte {
                    b' ' => "+".to_owned(),
                    byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                    byte => format!("%{byte:02X}"),
                })
            }),
        ),
        (
            "percent in JSON",
            Box::new(|sent| {
                each(sent, |byte| match byte {
                    b'"' => "%22".to_owned(),
                    b'\\' => "\\\\".to_owned(),
                    byte => char::from(byte).to_string(),
                })
            }),
        ),
        ("hex", Box::new(|sent| each(sent, |byte| format!("{byte:02x}")))),
        ("HEX", Box::new(|sent| each(sent, |byte| format!("{byte:02X}")))),
        ("base64", Box::new(|sent| base64(sent.as_bytes(), STANDARD))),
        ("base64url", Box::new(|sent| base64(sent.as_bytes(), URL))),
        ("base64 behind one", Box::new(|sent| base64(format!("u{sent}").as_bytes(), STANDARD))),
        ("base64 behind two", Box::new(|sent| base64(format!("u:{sent}").as_bytes(), URL))),
        ("base64 inside", Box::new(|sent| base64(format!("user:{sent}, and more").as_bytes(), STANDARD))),
        ("base64 in a URL", Box::new(|sent| base64(sent.as_bytes(), STANDARD).replace('+', "%2B").replace('/', "%2f"))),
        ("base64 in JSON", Box::new(|sent| base64(sent.as_bytes(), STANDARD).replace('/', "\\/"))),
    ];
    for (form, write) in forms {
        let spelled = write(VALUE);
        // A quarter of it is enough to show that it was not found.
        let parts: Vec<String> = spelled
            .as_bytes()
            .chunks(spelled.len() / 4)
            .map(|part| String::from_utf8(part.to_vec()).unwrap())
            .collect();
        let write = std::sync::Arc::new(write);
        let in_body = std::sync::Arc::clone(&write);
        let in_header = std::sync::Arc::clone(&write);
        for answer in [
            echoed(VALUE, move |sent| ok(&format!("you said: {0} and {0}.", in_body(sent)))),
            echoed(VALUE, move |sent| {
                format!("HTTP/1.1 302 Found\r\nlocation: /?q={}\r\ncontent-length: 0\r\n\r\n", in_header(sent))
            }),
        ] {
            assert!(answer.contains(TOKEN), "{form}: {answer}");
            for part in parts.iter().filter(|part| part.len() > 3) {
                assert!(!answer.contains(part.as_str()), "{form}: {part} in {answer}");
            }
        }
    }
}

#[test]
fn nothing_but_the_secret_is_taken_out() {
    let answer =
        echoed("s3cr3t-value", |sent| ok(&format!("before {sent} between {sent}{sent} after %41 &amp; \\u0041")));
    let tokens = format!("before {TOKEN} between {TOKEN}{TOKEN} after %41 &amp; \\u0041");
    assert!(answer.ends_with(&tokens), "{answer}");
    assert!(!answer.contains("content-length"), "it is another length now: {answer}");
    let answer = echoed("s3cr3t-value", |sent| ok(&format!("{} s3cr3t-valu s3cr3t", sent.len())));
    assert!(answer.ends_with("12 s3cr3t-valu s3cr3t") && answer.contains("content-length"), "{answer}");
}

#[test]
fn a_header_named_after_a_secret_is_dropped() {
    let answer = echoed("S3cr3t-Value", |sent| {
        format!("HTTP/1.1 200 OK\r\nx-{sent}: y\r\nx-other: z\r\ncontent-length: 0\r\n\r\n")
    });
    assert!(!answer.to_ascii_lowercase().contains("s3cr3t") && answer.contains("x-other"), "{answer}");
}

#[test]
fn a_short_secret_is_found_as_it_is() {
    let answer = echoed("pin", |sent| ok(&format!("a {sent} b 70696e cGlu")));
    assert!(answer.ends_with(&format!("a {TOKEN} b 70696e cGlu")), "{answer}");
}

#[test]
fn of_two_secrets_the_longer_is_found_first() {
    let site = Site::answering(ok("s3cr3t and s3cr3t-and-more"));
    let pair = format!("127.0.0.1:{}", site.port());
    let at = || hosts(&["127.0.0.1"]);
    let secrets = [
        Substitution::new("a", "token-aaaa", "s3cr3t", at(), at()).unwrap(),
        Substitution::new("b", "token-bbbb", "s3cr3t-and-more", at(), at()).unwrap(),
    ];
    let rules = private(std::slice::from_ref(&pair));
    let answer = World::new().get_with(&rules, &format!("http://{pair}/"), &[], &secrets).unwrap();
    assert_eq!(answer.body, b"token-aaaa and token-bbbb");
}

#[test]
fn a_stored_secret_is_found_by_a_later_request_without_it() {
    let site = Site::answering(ok(VALUE));
    let pair = format!("127.0.0.1:{}", site.port());
    let rules = private(std::slice::from_ref(&pair));
    let other = secret(VALUE, &["api.other.example"]);
    let answer = World::new().get_with(&rules, &format!("http://{pair}/"), &[], &[other]).unwrap();
    assert_eq!(answer.body, TOKEN.as_bytes());
}

#[test]
fn a_host_with_a_secret_answers_in_plain_and_whole() {
    let world = World::new();
    let site = Site::answering(ok("x"));
    let pair = format!("127.0.0.1:{}", site.port());
    let (rules, url) = (private(std::slice::from_ref(&pair)), format!("http://{pair}/"));
    for name in ["range", "Range", "if-range"] {
        let denied = denial(world.get_with(&rules, &url, &[(name, "bytes=0-3")], &[here()]));
        assert_eq!(denied.rule, "header");
    }
    assert_eq!(site.connections(), 0);
    world.get_with(&rules, &url, &[("Accept-Encoding", "gzip")], &[here()]).unwrap();
    assert!(site.requests()[0].contains("\r\naccept-encoding: identity\r\n"), "{:?}", site.requests());
    assert!(!site.requests()[0].contains("gzip"));
    // Another host may be asked for either.
    let elsewhere = secret(VALUE, &["api.other.example"]);
    world.get_with(&rules, &url, &[("accept-encoding", "gzip"), ("range", "bytes=0-3")], &[elsewhere]).unwrap();
    assert!(site.requests()[1].contains("gzip"));

    for encoding in ["content-encoding: gzip", "content-encoding: identity, br", "transfer-encoding: gzip, chunked"] {
        let site = Site::answering(format!("HTTP/1.1 200 OK\r\n{encoding}\r\n\r\n0\r\n\r\n"));
        let pair = format!("127.0.0.1:{}", site.port());
        let rules = private(std::slice::from_ref(&pair));
        let outcome = world.get_with(&rules, &format!("http://{pair}/"), &[("x", TOKEN)], &[here()]);
        let Err(Failure::Failed(reason)) = outcome else { panic!("{encoding}: {outcome:?}") };
        assert!(reason.contains("encoded"), "{reason}");
    }
}

#[test]
fn secrets_that_cannot_stand_in_a_header_are_refused() {
    let make = |token: &str, value: &str| Substitution::new("s", token, value, hosts(&[]), hosts(&[]));
    for value in ["", " ", "a\r\nb", "a\nb", "a\0b", "a\tb", "ü", " a", "a ", &"x".repeat(4097)] {
        let invalid = make(TOKEN, value).unwrap_err();
        assert_eq!((invalid.field.as_str(), invalid.value.as_str()), ("value of s", ""), "{value:?}");
    }
    for token in ["", "short", "with blank in it", "with\nnewline"] {
        assert_eq!(make(token, "value").unwrap_err().field, "token", "{token:?}");
    }
    let secret = make(TOKEN, "s3cr3t-value").unwrap();
    assert!(!format!("{secret:?}").contains("s3cr3t"));
}

#[test]
fn headers_are_bounded_with_their_secrets_in_them() {
    let site = Site::answering(ok("x"));
    let pair = format!("127.0.0.1:{}", site.port());
    let url = format!("http://{pair}/");
    let long = secret(&"v".repeat(4096), &["127.0.0.1"]);
    let rules = private(&[pair]);
    let world = World::new();
    let five = [TOKEN; 5].join(" ");
    assert_eq!(denial(world.get_with(&rules, &url, &[("x", &five)], std::slice::from_ref(&long))).rule, "header");
    assert_eq!(site.connections(), 0);
    world.get_with(&rules, &url, &[("x", &[TOKEN; 3].join(" "))], &[long]).unwrap();
}
