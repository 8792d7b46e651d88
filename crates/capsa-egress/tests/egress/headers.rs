//! What a guest may say in the head of a request, and what goes out.

use capsa_egress::{MAX_REQUEST_HEADER_BYTES, MAX_REQUEST_HEADERS, Request};
use serde_json::json;

use crate::sites::{Site, ok};
use crate::world::{World, denial, get, headers_of, private, rules};

/// What a site was sent, for these headers.
fn sent(headers: &[(&str, &str)]) -> String {
    let site = Site::answering(ok("x"));
    let pair = format!("127.0.0.1:{}", site.port());
    let headers = headers_of(headers);
    let request = Request { headers: &headers, ..get("http://HOST/a?b=c") };
    let url = request.url.replace("HOST", &pair);
    World::new().send(&private(&[pair]), &Request { url: &url, ..request }).outcome.unwrap();
    site.requests().remove(0)
}

fn denied(headers: &[(String, String)]) -> String {
    let site = Site::answering(ok("x"));
    let world = World::new();
    let rules = rules(json!({"hosts": ["*"], "schemes": ["http"], "ports": [site.port()]}));
    let url = format!("http://api.local.example:{}/", site.port());
    let denied = denial(world.send(&rules, &Request { headers, ..get(&url) }).outcome);
    assert_eq!(denied.rule, "header", "{headers:?}");
    assert_eq!(world.names.asked(), [], "refused before any packet");
    denied.detail
}

#[test]
fn the_host_says_who_it_is_and_nothing_more() {
    let request = sent(&[]);
    let (head, _) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.split("\r\n").collect();
    assert_eq!(lines.remove(0), "GET /a?b=c HTTP/1.1");
    let names: Vec<_> = lines.iter().map(|line| line.split_once(": ").unwrap().0).collect();
    assert_eq!(names, ["host", "user-agent", "accept", "connection"]);
    assert_eq!(lines[1], format!("user-agent: capsa/{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(lines[3], "connection: close");
}

#[test]
fn a_guest_says_the_rest() {
    let request = sent(&[
        ("User-Agent", "mine/1"),
        ("ACCEPT", "application/json"),
        ("x-twice", "1"),
        ("X-Twice", "2"),
        ("cookie", "a=b; c=d"),
        ("x-empty", ""),
        ("x-tab", "a\tb"),
    ]);
    for line in ["user-agent: mine/1", "accept: application/json", "x-twice: 1", "x-twice: 2", "cookie: a=b; c=d"] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line} in {request}");
    }
    assert!(request.contains("\r\nx-tab: a\tb\r\n"));
    assert_eq!(request.matches("user-agent").count() + request.matches("\r\naccept").count(), 2);
}

#[test]
fn what_frames_the_message_is_the_hosts() {
    for name in [
        "host",
        "Host",
        "connection",
        "transfer-encoding",
        "Transfer-Encoding",
        "content-length",
        "te",
        "trailer",
        "upgrade",
        "keep-alive",
        "proxy-authorization",
        "Proxy-Connection",
        "proxy-x",
        "expect",
        "http2-settings",
    ] {
        let detail = denied(&headers_of(&[("x-good", "1"), (name, "1")]));
        assert!(detail.starts_with(&name.to_ascii_lowercase()), "{detail}");
    }
}

#[test]
fn nothing_can_be_smuggled_through_a_header() {
    for (name, value) in [
        ("x", "a\r\nhost: evil.example"),
        ("x", "a\nb"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        ("x", "\u{7f}"),
        ("x", "\u{1b}"),
        ("x", "ü"),
        ("x\r\nhost", "evil.example"),
        ("x: y\r\nhost", "evil.example"),
        ("host ", "evil.example"),
        (" host", "evil.example"),
        ("host\t", "evil.example"),
        ("ho\0st", "evil.example"),
        ("x:", "y"),
        ("", "y"),
        ("ü", "y"),
        ("x y", "z"),
        ("(x)", "y"),
    ] {
        denied(&headers_of(&[(name, value)]));
    }
}

#[test]
fn headers_are_bounded() {
    let many = |count: usize| -> Vec<_> { (0..count).map(|n| (format!("x-{n}"), String::new())).collect() };
    let long = |bytes: usize| vec![("x".to_owned(), "y".repeat(bytes - "x: \r\n".len()))];
    denied(&many(MAX_REQUEST_HEADERS + 1));
    denied(&long(MAX_REQUEST_HEADER_BYTES + 1));
    let halves = |bytes: usize| vec![long(bytes / 2).remove(0), ("z".to_owned(), "y".repeat(bytes / 2 - 5))];
    denied(&halves(MAX_REQUEST_HEADER_BYTES + 2));
    let site = Site::answering(ok("x"));
    let pair = format!("127.0.0.1:{}", site.port());
    let url = format!("http://{pair}/");
    for headers in [many(MAX_REQUEST_HEADERS), long(MAX_REQUEST_HEADER_BYTES), halves(MAX_REQUEST_HEADER_BYTES)] {
        let request = Request { headers: &headers, ..get(&url) };
        World::new().send(&private(std::slice::from_ref(&pair)), &request).outcome.unwrap();
    }
}

#[test]
fn bodies_go_with_the_methods_that_have_them() {
    let world = World::new();
    for (method, body, length) in [
        ("GET", "", None),
        ("HEAD", "", None),
        ("DELETE", "", None),
        ("OPTIONS", "", None),
        ("DELETE", "gone", Some("4")),
        ("OPTIONS", "what", Some("4")),
        ("POST", "", Some("0")),
        ("PUT", "", Some("0")),
        ("PATCH", "", Some("0")),
        ("POST", "a=b", Some("3")),
        ("PUT", "a=b", Some("3")),
        ("PATCH", "a=b", Some("3")),
    ] {
        let site = Site::answering(if method == "HEAD" {
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n".to_owned()
        } else {
            ok("y")
        });
        let pair = format!("127.0.0.1:{}", site.port());
        let url = format!("http://{pair}/");
        let request = Request { method, body: body.as_bytes(), ..get(&url) };
        let exchange = world.send(&private(&[pair]), &request);
        let answer = exchange.outcome.unwrap_or_else(|failure| panic!("{method}: {failure}"));
        assert_eq!(answer.body, if method == "HEAD" { "" } else { "y" }.as_bytes());
        let request = site.requests().remove(0);
        assert!(request.starts_with(&format!("{method} / HTTP/1.1\r\n")), "{request}");
        assert!(request.ends_with(&format!("\r\n\r\n{body}")), "{request}");
        let said = request.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(said, length, "{method} {body:?}");
        assert!(!request.contains("transfer-encoding"));
        assert_eq!(exchange.sent_bytes as usize, request.len(), "{method}");
    }
    for method in ["GET", "HEAD"] {
        let request = Request { method, body: b"x", ..get("http://127.0.0.1:1/") };
        assert_eq!(denial(world.send(&private(&["127.0.0.1:1".to_owned()]), &request).outcome).rule, "method");
    }
}
