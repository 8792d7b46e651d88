//! Names whose answers change, mix, point inside, or never come.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use capsa_egress::{Failure, Guard, GuardSettings, Limits};
use serde_json::json;

use crate::dns::Answer;
use crate::sites::{Site, ok};
use crate::world::{World, denial, get, patient, private, public, rules};

#[test]
fn one_inner_address_spoils_an_answer() {
    let mixed: [&[&str]; 8] = [
        &["127.0.0.1"],
        &["93.184.215.14", "127.0.0.1"],
        &["127.0.0.1", "93.184.215.14"],
        &["93.184.215.14", "::1"],
        &["93.184.215.14", "169.254.169.254"],
        &["2606:2800:220:1::1", "10.0.0.1"],
        &["93.184.215.14", "::ffff:93.184.215.14"],
        &["93.184.215.14", "64:ff9b::7f00:1"],
    ];
    for addresses in mixed {
        let site = Site::answering(ok("inside"));
        let world = World::with_names(move |_, _| Answer::of(addresses));
        let denied = denial(world.get(&public(&[site.port()]), &format!("http://api.example.com:{}/", site.port())));
        assert_eq!(denied.rule, "address", "{addresses:?}");
        // The range is told, the address is not: names of the inside are nobody's business.
        assert!(!addresses.iter().any(|address| denied.detail.contains(&format!("{address} "))), "{denied}");
        assert_eq!(site.connections(), 0);
    }
}

#[test]
fn an_inner_address_behind_many_is_found() {
    let mut many: Vec<String> = (1..=30).map(|last| format!("93.184.215.{last}")).collect();
    many.push("127.0.0.1".to_owned());
    let world =
        World::with_names(move |_, _| Answer::Addresses(many.iter().map(|address| address.parse().unwrap()).collect()));
    assert_eq!(world.denied(&public(&[80]), "http://api.example.com/"), "address");
}

#[test]
fn an_alias_for_an_inner_name_is_seen_through() {
    let world = World::with_names(|_, _| Answer::Alias("db.internal.example.", vec!["10.1.2.3".parse().unwrap()]));
    let denied = denial(world.get(&public(&[80]), "http://api.example.com/"));
    assert_eq!(denied.rule, "address");
    assert!(denied.detail.contains("10.0.0.0/8"), "{denied}");
}

#[test]
fn a_name_is_resolved_once_and_what_was_checked_is_connected_to() {
    // The second answer, for a client that asks again, is where nobody listens.
    let site = Site::answering(ok("first"));
    let world = World::with_names(|_, asked| match asked {
        0 => Answer::of(&["127.0.0.1"]),
        _ => Answer::of(&["127.0.0.9"]),
    });
    let name = format!("api.example.com:{}", site.port());
    let rules = private(std::slice::from_ref(&name));
    assert_eq!(world.get(&rules, &format!("http://{name}/")).unwrap().body, b"first");
    let asked = world.names.asked();
    assert_eq!(asked.len(), 2, "A and AAAA, once each: {asked:?}");
    // Nothing is kept: the next request asks again, and gets the other answer.
    assert!(world.get(&rules, &format!("http://{name}/")).is_err());
    assert_eq!(world.names.asked().len(), 4);
}

#[test]
fn an_answer_that_changes_between_look_ups_is_checked_each_time() {
    let site = Site::answering(ok("inside"));
    let port = site.port();
    let world = World::with_names(|_, asked| match asked {
        0 => Answer::of(&["127.0.0.1"]),
        _ => Answer::of(&["169.254.169.254"]),
    });
    for range in ["127.0.0.0/8", "169.254.0.0/16"] {
        let denied = denial(world.get(&public(&[port]), &format!("http://api.example.com:{port}/")));
        assert_eq!(denied.rule, "address");
        assert!(denied.detail.contains(range), "{denied}");
    }
    assert_eq!(site.connections(), 0);
}

#[test]
fn a_second_address_is_tried_where_the_first_does_not_answer() {
    let site = Site::answering(ok("second"));
    let world = World::with_names(|_, _| Answer::of(&["127.0.0.9", "127.0.0.1"]));
    let name = format!("api.example.com:{}", site.port());
    assert_eq!(world.get(&private(std::slice::from_ref(&name)), &format!("http://{name}/")).unwrap().body, b"second");
}

#[test]
fn a_private_grant_is_for_its_own_name_and_port() {
    let site = Site::answering(ok("inside"));
    let other = Site::answering(ok("other"));
    let world = World::new();
    let rules = private(&[format!("api.local.example:{}", site.port())]);
    assert_eq!(world.get(&rules, &format!("http://api.local.example:{}/", site.port())).unwrap().body, b"inside");
    for url in [
        format!("http://api.local.example:{}/", other.port()),
        format!("http://web.local.example:{}/", site.port()),
        format!("http://x.api.local.example:{}/", site.port()),
    ] {
        assert_eq!(world.denied(&rules, &url), "host", "{url}");
    }
    // The name is granted, not the address behind it.
    assert_eq!(world.denied(&rules, &format!("http://127.0.0.1:{}/", site.port())), "private");
    assert_eq!(other.connections(), 0);
    assert_eq!(site.connections(), 1);
}

#[test]
fn private_in_the_wants_opens_nothing() {
    let site = Site::answering(ok("inside"));
    let pair = format!("api.local.example:{}", site.port());
    let world = World::new();
    let mut rules = public(&[site.port()]);
    rules.wanted = private(std::slice::from_ref(&pair)).wanted;
    assert_eq!(world.denied(&rules, &format!("http://{pair}/")), "address");
    assert_eq!(site.connections(), 0);
}

#[test]
fn a_name_without_address_is_unresolved() {
    let world = World::with_names(|name, _| match name {
        "empty.example.com" => Answer::Addresses(Vec::new()),
        _ => Answer::Unknown,
    });
    for url in ["http://empty.example.com/", "http://none.example.com/"] {
        assert_eq!(world.denied(&public(&[80]), url), "unresolved", "{url}");
    }
    // No search domain is tried: only the names themselves were asked for.
    assert!(
        world.names.asked().iter().all(|(name, _)| name.ends_with(".example.com") && name.matches('.').count() == 2)
    );
}

#[test]
fn a_name_server_that_says_nothing_costs_no_more_than_the_deadline() {
    let world = World::with_names(|_, _| Answer::Silence);
    let begin = Instant::now();
    let limits = Limits { deadline: begin + Duration::from_millis(200), ..patient() };
    let exchange = world.guard.send(&public(&[80]), &get("http://api.example.com/"), &limits, &[]);
    assert_eq!(exchange.outcome, Err(Failure::TimedOut));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    // The name was told to whoever serves names.
    assert_eq!((exchange.sent_bytes, exchange.received_bytes), ("api.example.com".len() as u64, 0));
}

#[test]
fn what_is_not_granted_is_not_even_looked_up() {
    let world = World::new();
    let rules = rules(json!({"hosts": ["api.local.example"], "schemes": ["http"]}));
    for (rule, url) in [
        ("host", "http://data-in-a-name.evil.example/"),
        ("port", "http://api.local.example:81/"),
        ("scheme", "https://api.local.example/"),
    ] {
        assert_eq!(world.denied(&rules, url), rule, "{url}");
    }
    assert_eq!(world.names.asked(), []);
}

#[test]
fn nobody_there_is_a_failure_without_addresses() {
    let world = World::new();
    // Port 1: a free one could be given to another test meanwhile.
    let pair = "api.local.example:1".to_owned();
    let failure = world.get(&private(std::slice::from_ref(&pair)), &format!("http://{pair}/")).unwrap_err();
    assert_eq!(failure, Failure::Failed("the connection was refused"));
}

#[test]
fn proxy_settings_of_the_environment_are_ignored() {
    let proxy = Site::answering(ok("from the proxy"));
    let at = format!("http://{}", proxy.address);
    // The environment of this process belongs to all its tests: one of them runs in a process of its own.
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "lookups::a_name_is_resolved_once_and_what_was_checked_is_connected_to"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        child.env(name, &at);
    }
    let output = child.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn the_machines_own_names_are_inside() {
    let site = Site::answering(ok("inside"));
    let guard = Guard::new(GuardSettings::default()).unwrap();
    let pair = format!("localhost:{}", site.port());
    let url = format!("http://{pair}/");
    let denied = denial(guard.send(&public(&[site.port()]), &get(&url), &patient(), &[]).outcome);
    assert_eq!(denied.rule, "address");
    assert_eq!(guard.send(&private(&[pair]), &get(&url), &patient(), &[]).outcome.unwrap().body, b"inside");
}

#[test]
fn one_guard_serves_many_threads() {
    let site = Site::answering(ok("x"));
    let pair = format!("api.local.example:{}", site.port());
    let (world, rules, url) = (World::new(), private(std::slice::from_ref(&pair)), format!("http://{pair}/"));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..5).for_each(|_| assert_eq!(world.get(&rules, &url).unwrap().body, b"x")));
        }
    });
    assert_eq!(site.connections(), 40, "none is kept");
}
