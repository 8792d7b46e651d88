//! What a rule means, and which are refused.

use capsa_egress::{Destination, HttpRule, METHODS, Match, Rules, SecretHosts};
use serde_json::{Value, json};

use crate::world::{rule, rules, whole};

fn check(rules: &Rules, method: &str, url: &str) -> Result<Match, &'static str> {
    rules.check(method, &Destination::parse(url).unwrap()).map_err(|denied| denied.rule)
}

fn passes(parts: Value, url: &str) -> bool {
    check(&rules(parts), "GET", url).is_ok()
}

#[test]
fn hosts_mean_what_they_say() {
    for (hosts, matching, others) in [
        ("api.example.com", vec!["api.example.com"], vec!["example.com", "x.api.example.com", "api.example.org"]),
        ("API.Example.Com.", vec!["api.example.com"], vec!["example.com"]),
        ("bücher.example", vec!["xn--bcher-kva.example"], vec!["bucher.example"]),
        ("*.example.com", vec!["a.example.com", "a.b.example.com"], vec!["example.com", "xexample.com", "com"]),
        ("*", vec!["example.com", "localhost", "8.8.8.8", "[2606:4700::1]"], vec![]),
        ("8.8.8.8", vec!["8.8.8.8", "0x08080808"], vec!["8.8.8.9", "dns.google", "[2001:4860:4860::8888]"]),
        ("2606:4700::1111", vec!["[2606:4700:0::1111]"], vec!["[2606:4700::1112]"]),
        ("[2606:4700::1111]", vec!["[2606:4700::1111]"], vec![]),
        ("8.8.8.0/24", vec!["8.8.8.0", "8.8.8.255"], vec!["8.8.7.255", "8.8.9.0", "dns.google"]),
        ("2606:4700::/32", vec!["[2606:4700:ffff::1]"], vec!["[2606:4701::1]", "1.1.1.1"]),
    ] {
        for host in matching {
            assert!(passes(json!({"hosts": [hosts]}), &format!("https://{host}/")), "{hosts} {host}");
        }
        for host in others {
            let url = format!("https://{host}/");
            assert_eq!(check(&rules(json!({"hosts": [hosts]})), "GET", &url), Err("host"), "{hosts} {host}");
        }
    }
}

#[test]
fn a_star_is_public_hosts_only() {
    for url in ["https://10.0.0.1/", "https://[::1]/", "https://169.254.169.254/"] {
        assert_eq!(check(&rules(json!({"hosts": ["*"]})), "GET", url), Err("private"), "{url}");
    }
}

#[test]
fn schemes_ports_and_methods_are_each_enforced() {
    let both = rules(json!({"hosts": ["h.example"], "schemes": ["http", "https"], "methods": ["GET", "POST"]}));
    assert!(check(&both, "GET", "http://h.example/").is_ok());
    assert!(check(&both, "POST", "https://h.example/").is_ok());
    assert_eq!(check(&both, "GET", "http://h.example:443/"), Err("port"), "the default of the other scheme");
    assert_eq!(check(&both, "GET", "https://h.example:8443/"), Err("port"));
    assert_eq!(check(&both, "DELETE", "https://h.example/"), Err("method"));
    let one = rules(json!({"hosts": ["h.example"], "ports": [8443, 9443]}));
    assert!(check(&one, "HEAD", "https://h.example:9443/").is_ok());
    assert_eq!(check(&one, "GET", "https://h.example/"), Err("port"));
    assert_eq!(check(&one, "GET", "http://h.example:8443/"), Err("scheme"));
}

#[test]
fn only_known_methods_exist() {
    let all = rules(json!({"hosts": ["*"], "methods": METHODS}));
    for method in ["CONNECT", "TRACE", "get", "Get", "", "*", "PROPFIND", "GET /x", "GET\r\nx: y"] {
        assert_eq!(check(&all, method, "https://h.example/"), Err("method"), "{method}");
    }
    for method in METHODS {
        assert!(check(&all, method, "https://h.example/").is_ok(), "{method}");
    }
}

#[test]
fn a_request_needs_one_rule_of_each_side() {
    let narrow = || rule(json!({"hosts": ["a.example"]}));
    let wide = || rule(json!({"hosts": ["*"]}));
    let both = Rules { wanted: vec![wide(), narrow()], allowed: vec![rule(json!({"hosts": ["b.example"]})), narrow()] };
    let matched = check(&both, "GET", "https://a.example/").unwrap();
    assert_eq!(matched, Match { wanted: 0, allowed: 1, private: false });
    assert_eq!(check(&both, "GET", "https://c.example/"), Err("host"));
    for (wanted, allowed) in [(vec![], vec![wide()]), (vec![wide()], vec![]), (vec![narrow()], vec![wide()])] {
        let rules = Rules { wanted, allowed };
        assert_eq!(check(&rules, "GET", "https://b.example/"), Err("host"));
    }
    // The parts of two rules do not add up to one.
    let split = Rules {
        wanted: vec![wide()],
        allowed: vec![
            rule(json!({"hosts": ["a.example"], "ports": [8443]})),
            rule(json!({"hosts": ["b.example"], "methods": ["GET"]})),
        ],
    };
    assert_eq!(check(&split, "GET", "https://a.example/"), Err("port"));
    assert_eq!(check(&split, "GET", "https://b.example:8443/"), Err("port"));
}

#[test]
fn the_denial_is_that_of_the_rule_that_came_nearest() {
    let policy = Rules {
        wanted: vec![rule(json!({"hosts": ["*"], "schemes": ["http", "https"], "methods": METHODS}))],
        allowed: vec![
            rule(json!({"hosts": ["*.example.org"]})),
            rule(json!({"hosts": ["a.example.com"], "schemes": ["http"]})),
            rule(json!({"hosts": ["a.example.com"], "methods": ["GET"]})),
        ],
    };
    assert_eq!(check(&policy, "POST", "https://a.example.com/"), Err("method"));
    assert_eq!(check(&policy, "POST", "https://a.example.com:1/"), Err("port"));
    let denied = policy.check("POST", &Destination::parse("https://x.example.com/").unwrap()).unwrap_err();
    assert_eq!(denied.to_string(), "host: x.example.com is not granted by the policy");
}

#[test]
fn private_pairs_are_exact() {
    let pairs =
        json!({"private": ["10.0.0.5:8080", "[fd00::1]:443", "db.internal:5432"], "schemes": ["http", "https"]});
    let rules = rules(pairs);
    for url in
        ["http://10.0.0.5:8080/", "https://[fd00::1]/", "http://DB.internal.:5432/", "http://[::ffff:a00:5]:8080/"]
    {
        assert!(check(&rules, "GET", url).unwrap().private, "{url}");
    }
    for (url, rule) in [
        ("http://10.0.0.5/", "private"),
        ("http://10.0.0.6:8080/", "private"),
        ("http://[fd00::1]/", "private"),
        ("http://db.internal/", "host"),
        ("http://x.db.internal:5432/", "host"),
    ] {
        assert_eq!(check(&rules, "GET", url), Err(rule), "{url}");
    }
}

#[test]
fn who_wants_any_public_host_does_not_want_a_special_address() {
    let anywhere = rule(json!({"hosts": ["*"], "schemes": ["http"], "ports": [8080]}));
    let named = rule(json!({"private": ["10.0.0.5:8080", "db.internal:8080"], "schemes": ["http"]}));
    let rules = Rules { wanted: vec![anywhere], allowed: vec![named.clone()] };
    assert_eq!(check(&rules, "GET", "http://10.0.0.5:8080/"), Err("host"));
    // What is behind a name only the policy knows.
    assert!(check(&rules, "GET", "http://db.internal:8080/").unwrap().private);
    let rules = Rules { wanted: vec![named.clone()], allowed: vec![named] };
    assert!(check(&rules, "GET", "http://10.0.0.5:8080/").unwrap().private);
}

#[test]
fn private_does_not_widen_what_stands_beside_it() {
    let mixed = rules(json!({"hosts": ["h.example"], "private": ["h.example:8443"]}));
    assert!(!check(&mixed, "GET", "https://h.example/").unwrap().private);
    assert!(check(&mixed, "GET", "https://h.example:8443/").unwrap().private);
    let own_scheme = rules(json!({"private": ["10.0.0.5:80"]}));
    assert_eq!(check(&own_scheme, "GET", "http://10.0.0.5/"), Err("scheme"));
    assert_eq!(check(&own_scheme, "POST", "https://10.0.0.5:80/"), Err("method"));
}

#[test]
fn wrong_rules_are_refused_with_field_and_remedy() {
    for (parts, field, remedy) in [
        (json!({}), "hosts", "private"),
        (json!({"hosts": ["10.0.0.5"]}), "hosts[0]", "`private`"),
        (json!({"hosts": ["a.example", "127.1"]}), "hosts[1]", "loopback"),
        (json!({"hosts": ["0x7f000001"]}), "hosts[0]", "loopback"),
        (json!({"hosts": ["::1"]}), "hosts[0]", "loopback"),
        (json!({"hosts": ["10.0.0.0/8"]}), "hosts[0]", "private (10.0.0.0/8)"),
        (json!({"hosts": ["0.0.0.0/0"]}), "hosts[0]", "this network"),
        (json!({"hosts": ["::/0"]}), "hosts[0]", "unspecified"),
        (json!({"hosts": ["8.8.8.8/24"]}), "hosts[0]", "8.8.8.0/24"),
        (json!({"hosts": ["8.8.8.0/33"]}), "hosts[0]", "198.51.0.0/16"),
        (json!({"hosts": ["*.com"]}), "hosts[0]", "two labels"),
        (json!({"hosts": ["*.8.8.8.8"]}), "hosts[0]", "no names below"),
        (json!({"hosts": ["*."]}), "hosts[0]", "*.example.com"),
        (json!({"hosts": ["**.example.com"]}), "hosts[0]", "*.suffix"),
        (json!({"hosts": ["a.*.example.com"]}), "hosts[0]", "*.suffix"),
        (json!({"hosts": ["*example.com"]}), "hosts[0]", "*.suffix"),
        (json!({"hosts": ["https://a.example"]}), "hosts[0]", "network"),
        (json!({"hosts": ["a.example:443"]}), "hosts[0]", "*.suffix"),
        (json!({"hosts": ["a b.example"]}), "hosts[0]", "*.suffix"),
        (json!({"hosts": ["a@b.example"]}), "hosts[0]", "*.suffix"),
        (json!({"hosts": [""]}), "hosts[0]", "*.suffix"),
        (json!({"hosts": ["fe80::1%lo"]}), "hosts[0]", "*.suffix"),
        (json!({"hosts": ["*"], "schemes": []}), "schemes", "at least one"),
        (json!({"hosts": ["*"], "schemes": ["HTTPS"]}), "schemes[0]", "http or https"),
        (json!({"hosts": ["*"], "schemes": ["https", "ftp"]}), "schemes[1]", "http or https"),
        (json!({"hosts": ["*"], "ports": [443, 0]}), "ports[1]", "1 to 65535"),
        (json!({"hosts": ["*"], "methods": []}), "methods", "at least one"),
        (json!({"hosts": ["*"], "methods": ["*"]}), "methods[0]", "GET, HEAD"),
        (json!({"hosts": ["*"], "methods": ["GET", "CONNECT"]}), "methods[1]", "GET, HEAD"),
        (json!({"private": ["10.0.0.5"]}), "private[0]", "host:port"),
        (json!({"private": ["10.0.0.5:0"]}), "private[0]", "host:port"),
        (json!({"private": ["10.0.0.5:65536"]}), "private[0]", "host:port"),
        (json!({"private": ["10.0.0.5:+80"]}), "private[0]", "host:port"),
        (json!({"private": ["::1:80"]}), "private[0]", "host:port"),
        (json!({"private": ["10.0.0.0/8:80"]}), "private[0]", "host:port"),
        (json!({"private": ["*:80"]}), "private[0]", "host:port"),
        (json!({"private": ["*.internal.example:80"]}), "private[0]", "host:port"),
        (json!({"private": [":80"]}), "private[0]", "host:port"),
    ] {
        let error = serde_json::from_value::<HttpRule>(whole(parts.clone())).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{field} is ")), "{parts}: {error}");
        assert!(error.contains(remedy), "{parts}: {error}");
    }
}

#[test]
fn every_key_is_there_and_no_other() {
    let mut more = whole(json!({"hosts": ["*"]}));
    more["redirects"] = json!(true);
    assert!(serde_json::from_value::<HttpRule>(more).unwrap_err().to_string().contains("redirects"));
    for key in ["hosts", "schemes", "ports", "methods", "private"] {
        let mut less = whole(json!({"hosts": ["*"]}));
        less.as_object_mut().unwrap().remove(key);
        assert!(serde_json::from_value::<HttpRule>(less).unwrap_err().to_string().contains(key));
    }
    let rules: Rules =
        serde_json::from_value(json!({"wanted": [], "allowed": [whole(json!({"hosts": ["*"]}))]})).unwrap();
    assert_eq!((rules.wanted.len(), rules.allowed.len()), (0, 1));
    assert!(serde_json::from_value::<Rules>(json!({"wanted": []})).is_err());
    assert!(serde_json::from_value::<Rules>(json!({"wanted": [], "allowed": [], "denied": []})).is_err());
}

#[test]
fn a_secret_names_its_hosts() {
    let hosts = |texts: Value| serde_json::from_value::<SecretHosts>(texts);
    let of = |url: &str| Destination::parse(url).unwrap().host().clone();
    let stripe = hosts(json!(["api.stripe.com", "*.stripe.example", "10.0.0.5"])).unwrap();
    for url in ["https://api.stripe.com/", "https://a.b.stripe.example/", "https://10.0.0.5/"] {
        assert!(stripe.matches(&of(url)), "{url}");
    }
    for url in ["https://stripe.com/", "https://x.api.stripe.com/", "https://stripe.example/", "https://10.0.0.6/"] {
        assert!(!stripe.matches(&of(url)), "{url}");
    }
    assert!(!hosts(json!([])).unwrap().matches(&of("https://api.stripe.com/")));
    assert!(hosts(json!(["a.example", "*"])).unwrap_err().to_string().contains("hosts[1]"));
    assert!(hosts(json!(["*.com"])).is_err());
}
