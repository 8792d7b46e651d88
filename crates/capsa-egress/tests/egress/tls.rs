//! HTTPS: who is trusted, and that TLS changes nothing about limits.

use std::thread;
use std::time::{Duration, Instant};

use capsa_egress::{Failure, Guard, GuardSettings, Limits};

use crate::sites::{Authority, Site, ok};
use crate::world::{World, get, patient, private};

fn answering(authority: &Authority, name: &str, answer: String) -> Site {
    Site::secure(authority, name, move |_, out| out.write_all(answer.as_bytes()))
}

#[test]
fn a_site_with_a_certificate_for_its_name_is_talked_to() {
    let world = World::new();
    for name in ["api.local.example", "127.0.0.1"] {
        let site = answering(&world.authority, name, ok("secure"));
        let pair = format!("{name}:{}", site.port());
        let exchange = world.send(&private(std::slice::from_ref(&pair)), &get(&format!("https://{pair}/x")));
        assert_eq!(exchange.outcome.unwrap().body, b"secure");
        let request = site.requests().remove(0);
        assert!(request.contains(&format!("\r\nhost: {pair}\r\n")), "{request}");
        // What is counted is HTTP, not TLS; and a name that is looked up.
        let looked_up = if name == "127.0.0.1" { 0 } else { name.len() };
        assert_eq!(exchange.sent_bytes as usize, request.len() + looked_up);
        assert_eq!(exchange.received_bytes as usize, ok("secure").len());
    }
}

#[test]
fn another_name_is_refused() {
    let world = World::new();
    let site = answering(&world.authority, "other.local.example", ok("x"));
    let pair = format!("api.local.example:{}", site.port());
    let failure = world.get(&private(std::slice::from_ref(&pair)), &format!("https://{pair}/"));
    assert_eq!(failure, Err(Failure::Failed("the server's certificate is for another name")));
    assert_eq!(site.requests(), Vec::<String>::new());
}

#[test]
fn an_unknown_authority_is_refused() {
    let world = World::new();
    for (authority, reason) in [
        ("theirs", "the server's certificate is from no trusted authority"),
        // It calls itself what ours is called.
        ("ours", "the server's certificate is not valid"),
    ] {
        let site = answering(&Authority::named(authority), "api.local.example", ok("x"));
        let pair = format!("api.local.example:{}", site.port());
        let failure = world.get(&private(std::slice::from_ref(&pair)), &format!("https://{pair}/"));
        assert_eq!(failure, Err(Failure::Failed(reason)));
        assert_eq!(site.requests(), Vec::<String>::new());
    }
}

#[test]
fn a_server_without_tls_is_refused() {
    let world = World::new();
    let site = Site::answering(ok("x"));
    let pair = format!("api.local.example:{}", site.port());
    let deadline = Instant::now() + Duration::from_millis(500);
    let outcome = world
        .guard
        .send(
            &private(std::slice::from_ref(&pair)),
            &get(&format!("https://{pair}/")),
            &Limits { deadline, ..patient() },
            &[],
        )
        .outcome;
    // A server that takes the hello for HTTP waits for the rest of it, or answers with something that is no TLS.
    assert!(matches!(outcome, Err(Failure::TimedOut | Failure::Failed("TLS failed"))), "{outcome:?}");
}

#[test]
fn a_body_without_length_must_end_with_a_good_bye() {
    // The handler fails, so that the connection is dropped without one.
    let world = World::new();
    let site = Site::secure(&world.authority, "api.local.example", |_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf of")?;
        out.flush()?;
        Err(std::io::ErrorKind::Other.into())
    });
    let pair = format!("api.local.example:{}", site.port());
    let outcome = world.get(&private(std::slice::from_ref(&pair)), &format!("https://{pair}/"));
    assert_eq!(outcome, Err(Failure::Failed("the connection was cut")));
    let site = answering(&world.authority, "api.local.example", "HTTP/1.1 200 OK\r\n\r\nall of it".to_owned());
    let pair = format!("api.local.example:{}", site.port());
    assert_eq!(
        world.get(&private(std::slice::from_ref(&pair)), &format!("https://{pair}/")).unwrap().body,
        b"all of it"
    );
}

#[test]
fn tls_makes_no_deadline_longer() {
    let world = World::new();
    let site = Site::secure(&world.authority, "api.local.example", |_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")?;
        for _ in 0..2000 {
            out.write_all(b"x")?;
            out.flush()?;
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    });
    // The second never says a word: the handshake hangs.
    let silent = Site::reading_slowly();
    for port in [site.port(), silent.port()] {
        let pair = format!("api.local.example:{port}");
        let begin = Instant::now();
        let limits = Limits { deadline: begin + Duration::from_millis(400), ..patient() };
        let url = format!("https://{pair}/");
        let outcome = world.guard.send(&private(&[pair]), &get(&url), &limits, &[]).outcome;
        assert_eq!(outcome, Err(Failure::TimedOut));
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
}

#[test]
fn unusable_roots_are_refused() {
    for pem in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let settings = GuardSettings { dns: None, extra_roots_pem: Some(pem.to_owned()) };
        assert_eq!(Guard::new(settings).unwrap_err().field, "extra_roots_pem");
    }
    assert!(Guard::new(GuardSettings::default()).is_ok());
}
