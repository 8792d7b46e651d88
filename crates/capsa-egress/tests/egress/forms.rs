//! Every way to write "inside" that somebody has once got past a guard, and that none of them is connected to.

use serde_json::json;

use crate::sites::{Site, ok};
use crate::world::{World, private, public, rules};

#[test]
fn no_spelling_of_an_inner_address_gets_in() {
    let site = Site::answering(ok("inside"));
    let port = site.port();
    let world = World::new();
    let open = public(&[port, 80, 443]);
    let forms = [
        ("private", "http://127.0.0.1:P/"),
        ("private", "https://127.0.0.1:P/"),
        ("private", "http://127.0.0.2:P/"),
        ("private", "http://127.1:P/"),
        ("private", "http://127.0.1:P/"),
        ("private", "http://2130706433:P/"),
        ("private", "http://0x7f000001:P/"),
        ("private", "http://0x7F.1:P/"),
        ("private", "http://0x7f.0x0.0x0.0x1:P/"),
        ("private", "http://017700000001:P/"),
        ("private", "http://0177.0.0.1:P/"),
        ("private", "http://0177.0x0.0.1:P/"),
        ("private", "http://127.0.0.1.:P/"),
        ("private", "http://%31%32%37.0.0.1:P/"),
        ("private", "http://127.0.0.%31:P/"),
        ("private", "http://１２７.０.０.１:P/"),
        ("private", "http://①②⑦.⓪.⓪.①:P/"),
        ("private", "http://127。0。0。1:P/"),
        ("private", "http://127.0.0.1:P/?@api.local.example"),
        ("private", "http://127.0.0.1:P#@api.local.example"),
        ("private", "HTTP://127.0.0.1:P/"),
        ("private", "http://0:P/"),
        ("private", "http://0.0.0.0:P/"),
        ("private", "http://[::]:P/"),
        ("private", "http://[::1]:P/"),
        ("private", "http://[0:0:0:0:0:0:0:1]:P/"),
        ("private", "http://[::ffff:127.0.0.1]:P/"),
        ("private", "http://[::ffff:7f00:1]:P/"),
        ("private", "http://[0:0:0:0:0:ffff:7f00:1]:P/"),
        ("private", "http://[::127.0.0.1]:P/"),
        ("private", "http://[64:ff9b::127.0.0.1]:P/"),
        ("private", "http://[64:ff9b:1::7f00:1]:P/"),
        ("private", "http://[2002:7f00:1::]:P/"),
        ("private", "http://[2001:0:7f00:1:0:0:80ff:fffe]:P/"),
        ("private", "http://10.0.0.1/"),
        ("private", "http://172.16.0.1/"),
        ("private", "http://172.31.255.255/"),
        ("private", "http://192.168.1.1/"),
        ("private", "http://100.64.0.1/"),
        ("private", "http://100.100.100.200/latest/meta-data/"),
        ("private", "http://169.254.169.254/latest/meta-data/"),
        ("private", "http://169.254.43518/"),
        ("private", "http://0xA9FEA9FE/"),
        ("private", "http://2852039166/"),
        ("private", "http://[::ffff:169.254.169.254]/"),
        ("private", "http://[::ffff:a9fe:a9fe]/"),
        ("private", "http://[fd00:ec2::254]/"),
        ("private", "http://192.0.0.192/"),
        ("private", "http://168.63.129.16/"),
        ("private", "http://198.18.0.1/"),
        ("private", "http://224.0.0.1/"),
        ("private", "http://255.255.255.255/"),
        ("private", "http://[fe80::1]/"),
        ("private", "http://[ff02::1]/"),
        ("private", "http://[fec0::1]/"),
        ("host-form", "http://[fe80::1%25lo]:P/"),
        ("host-form", "http://[::1%25lo]:P/"),
        ("host-form", "http://[::1%lo]:P/"),
        ("host-form", "http://127.0.0.1.2:P/"),
        ("host-form", "http://127.0.0.256:P/"),
        ("host-form", "http://0x100000000:P/"),
        ("host-form", "http://[v1.127]:P/"),
        ("host-form", "http://[127.0.0.1]:P/"),
        ("host-form", "http://:P/"),
        ("host-form", "http://api.local.example%00.evil.example/"),
        ("host-form", "http://api.local.example%2f/"),
        ("host-form", "http://..:P/"),
        ("host-form", "http://api..local.example/"),
        ("host-form", "http://api.local.example../"),
        ("host-form", "http://*.local.example/"),
        ("userinfo", "http://api.local.example:x@127.0.0.1:P/"),
        ("userinfo", "http://api.local.example@127.0.0.1:P/"),
        ("userinfo", "http://api.local.example:80@127.0.0.1:P/"),
        ("userinfo", "http://@127.0.0.1:P/"),
        ("userinfo", "http://:@127.0.0.1:P/"),
        ("userinfo", "http://a@b@127.0.0.1:P/"),
        ("userinfo", "http://127.0.0.1:P@api.local.example/"),
        ("url-form", "http://127.0.0.1:P\\@api.local.example/"),
        ("url-form", "http://api.local.example\\@127.0.0.1:P/"),
        ("url-form", "http:\\\\127.0.0.1:P/"),
        ("url-form", "http://api.local.example /@127.0.0.1:P/"),
        ("url-form", " http://127.0.0.1:P/"),
        ("url-form", "http://127.0.0.1:P/ "),
        ("url-form", "\thttp://127.0.0.1:P/"),
        ("url-form", "http://127.0.0.1:P/\n"),
        ("url-form", "ht\ntp://127.0.0.1:P/"),
        ("url-form", "http://127.0\t.0.1:P/"),
        ("url-form", "http://127.0.0.1:P/a\r\nhost: api.local.example"),
        ("url-form", "http://127.0.0.1:P/\0"),
        ("url-form", "http://127.0.0.1:P/\u{85}"),
        ("url-form", "http:127.0.0.1:P/"),
        ("url-form", "http:/127.0.0.1:P/"),
        ("url-form", "http:///127.0.0.1:P/"),
        ("url-form", "//127.0.0.1/"),
        ("url-form", "/"),
        ("url-form", ""),
        ("scheme", "127.0.0.1:P"),
        ("scheme", "file:///etc/passwd"),
        ("scheme", "gopher://127.0.0.1:P/_GET"),
        ("scheme", "ftp://127.0.0.1/"),
        ("scheme", "data:text/plain,x"),
        ("scheme", "javascript:alert(1)"),
        ("scheme", "blob:http://127.0.0.1:P/"),
        ("scheme", "unix:///var/run/docker.sock"),
        ("scheme", "http+unix://%2fvar%2frun%2fdocker.sock/"),
        ("scheme", "://127.0.0.1/"),
        ("port", "http://127.0.0.1:0/"),
        ("port", "http://127.0.0.1:65536/"),
        ("port", "http://127.0.0.1:P:80/"),
        ("port", "http://127.0.0.1:8o/"),
        ("address", "http://localhost:P/"),
        ("address", "http://LOCALHOST:P/"),
        ("address", "http://localhost.:P/"),
        ("address", "http://lo%63alhost:P/"),
        ("address", "http://ｌｏｃａｌｈｏｓｔ:P/"),
        ("address", "http://api.local.example:P/"),
        ("address", "http://api.local.example.:P/"),
        ("unresolved", "http://nowhere.example:P/"),
        ("unresolved", "http://metadata:P/"),
    ];
    for (rule, form) in forms {
        let url = form.replace(":P", &format!(":{port}"));
        assert_eq!(world.denied(&open, &url), rule, "{url:?}");
    }
    assert_eq!(site.connections(), 0);
}

#[test]
fn the_same_spellings_reach_a_destination_that_is_named() {
    let site = Site::answering(ok("inside"));
    let port = site.port();
    let world = World::new();
    let named = private(&[format!("127.0.0.1:{port}")]);
    for form in ["http://127.0.0.1:P/", "http://0x7f.1:P/", "http://[::ffff:127.0.0.1]:P/", "http://127.0.0.1.:P/"] {
        let url = form.replace(":P", &format!(":{port}"));
        assert_eq!(world.get(&named, &url).unwrap().body, b"inside", "{url}");
    }
    assert!(site.requests().iter().all(|request| request.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n"))));
}

#[test]
fn a_redirect_is_answered_and_never_followed() {
    let inside = Site::answering(ok("inside"));
    let world = World::new();
    for status in [301, 302, 303, 307, 308] {
        let to = format!("http://127.0.0.1:{}/", inside.port());
        let outside =
            Site::answering(format!("HTTP/1.1 {status} Moved\r\nlocation: {to}\r\ncontent-length: 4\r\n\r\nover"));
        let rules = private(&[format!("127.0.0.1:{}", outside.port())]);
        let answer = world.get(&rules, &format!("http://127.0.0.1:{}/", outside.port())).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (status, b"over".as_slice()));
        assert!(answer.headers.contains(&("location".to_owned(), to.clone())));
        assert_eq!(world.denied(&rules, &to), "private");
        assert_eq!(outside.connections(), 1);
    }
    assert_eq!(inside.connections(), 0);
}

#[test]
fn what_stands_behind_a_mark_is_no_host() {
    let world = World::new();
    let rules = rules(json!({"hosts": ["api.example.com"], "schemes": ["http"]}));
    for url in [
        "http://evil.example/?api.example.com",
        "http://evil.example#api.example.com",
        "http://evil.example/api.example.com",
        "http://api.example.com.evil.example/",
        "http://xapi.example.com/",
        "http://example.com/",
        "http://api.example.co/",
    ] {
        assert_eq!(world.denied(&rules, url), "host", "{url}");
    }
    assert_eq!(world.names.asked(), []);
}
