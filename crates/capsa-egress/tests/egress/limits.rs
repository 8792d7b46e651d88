//! Answers that are too long, too slow, or no HTTP, and what they cost.

use std::thread;
use std::time::{Duration, Instant};

use capsa_egress::{Failure, Limits, MAX_ANSWER_HEAD_BYTES, MAX_ANSWER_HEADERS, Request, Response};
use proptest::prelude::*;

use crate::sites::{Site, ok};
use crate::world::{World, get, patient, private};

/// Fetches from a site with these limits.
fn fetch(site: &Site, limits: Limits) -> capsa_egress::Exchange {
    let pair = format!("127.0.0.1:{}", site.port());
    World::new().guard.send(&private(std::slice::from_ref(&pair)), &get(&format!("http://{pair}/")), &limits, &[])
}

fn answered(answer: impl Into<Vec<u8>>) -> Result<Response, Failure> {
    fetch(&Site::answering(answer), patient()).outcome
}

const CUT: Failure = Failure::Failed("the connection was closed before the answer was whole");
const STRANGE: Failure = Failure::Failed("the answer is not HTTP/1.1");

#[test]
fn an_answer_comes_whole_whatever_its_form() {
    for (answer, status, body) in [
        (ok("hello"), 200, "hello"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno".to_owned(), 404, "no"),
        ("HTTP/1.1 500 Oops\r\n\r\nuntil the end".to_owned(), 500, "until the end"),
        ("HTTP/1.0 200 OK\r\n\r\nold".to_owned(), 200, "old"),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), 204, ""),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nraw".to_owned(), 101, ""),
        ("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(), 304, ""),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n".to_owned(),
            200,
            "abcde",
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".to_owned() + &ok("at last"),
            200,
            "at last",
        ),
    ] {
        let response = answered(answer.clone()).unwrap_or_else(|failure| panic!("{answer:?}: {failure}"));
        assert_eq!((response.status, response.body.as_slice()), (status, body.as_bytes()), "{answer:?}");
    }
}

#[test]
fn a_compressed_answer_stays_as_it_is() {
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n".to_vec();
    answer.extend_from_slice(&[0x1f, 0x8b, 8, 0xff]);
    assert_eq!(answered(answer).unwrap().body, [0x1f, 0x8b, 8, 0xff]);
}

#[test]
fn a_value_that_is_no_text_is_made_one() {
    let response = answered(b"HTTP/1.1 200 OK\r\nx: a\xffb\r\ncontent-length: 0\r\n\r\n".to_vec()).unwrap();
    assert!(response.headers.contains(&("x".to_owned(), "a\u{fffd}b".to_owned())));
}

#[test]
fn a_cut_or_strange_answer_fails() {
    for (answer, failure) in [
        ("", CUT),
        ("HTTP/1.1 200 OK\r\n", CUT),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", CUT),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc", CUT),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", STRANGE),
        ("HTTP/9.9 200 OK\r\n\r\n", STRANGE),
        ("HTTP/1.1 200 OK\r\nbad header\r\n\r\n", STRANGE),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", STRANGE),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", STRANGE),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", STRANGE),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n", STRANGE),
    ] {
        assert_eq!(answered(answer), Err(failure), "{answer:?}");
    }
}

#[test]
fn a_body_ends_at_the_bound() {
    let head = ok(&"x".repeat(1000)).len() - 1000;
    for (bytes, fits) in [(1000 + head, true), (1000 + head - 1, false)] {
        let limits = Limits { max_received_bytes: bytes as u64, ..patient() };
        let exchange = fetch(&Site::answering(ok(&"x".repeat(1000))), limits);
        match exchange.outcome {
            Ok(response) => assert!(fits && response.body.len() == 1000),
            Err(failure) => {
                assert!(!fits);
                assert_eq!(failure, Failure::TooLarge { limit: "received bytes", bound: bytes as u64 });
            }
        }
        assert_eq!(exchange.received_bytes as usize, 1000 + head, "also of an answer that is thrown away");
    }
}

#[test]
fn an_endless_answer_ends_at_the_bound() {
    let floods: [(&str, &[u8]); 3] = [
        ("HTTP/1.1 200 OK\r\n\r\n", b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\n", b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"10\r\n0123456789abcdef\r\n"),
    ];
    for (head, piece) in floods {
        let piece = piece.repeat(1000);
        let site = Site::serving(move |_, out| {
            out.write_all(head.as_bytes())?;
            loop {
                out.write_all(&piece)?;
            }
        });
        let exchange = fetch(&site, Limits { max_received_bytes: 500_000, ..patient() });
        assert_eq!(exchange.outcome, Err(Failure::TooLarge { limit: "received bytes", bound: 500_000 }), "{head}");
        assert!(exchange.received_bytes < 500_000 + 200_000, "one buffer more at most: {}", exchange.received_bytes);
    }
}

#[test]
fn endless_interim_answers_end_at_a_bound() {
    let site = Site::serving(|_, out| {
        loop {
            out.write_all(&b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000))?;
        }
    });
    let exchange = fetch(&site, patient());
    assert!(matches!(exchange.outcome, Err(Failure::TooLarge { .. })), "{exchange:?}");
}

#[test]
fn the_head_of_an_answer_is_bounded() {
    let named = |bytes: usize| format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "y".repeat(bytes));
    let long = MAX_ANSWER_HEAD_BYTES - named(0).len();
    assert!(answered(named(long)).is_ok());
    let too_long = Err(Failure::TooLarge { limit: "bytes of answer head", bound: MAX_ANSWER_HEAD_BYTES as u64 });
    assert_eq!(answered(named(long + 1)), too_long);
    assert_eq!(answered(format!("HTTP/1.1 200 {}", "x".repeat(200_000))), too_long);
    let many = |count: usize| format!("HTTP/1.1 204 OK\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert_eq!(answered(many(MAX_ANSWER_HEADERS)).unwrap().headers.len(), MAX_ANSWER_HEADERS);
    for count in [MAX_ANSWER_HEADERS + 1, 5000] {
        let too_many = Failure::TooLarge { limit: "headers of answer", bound: MAX_ANSWER_HEADERS as u64 };
        assert_eq!(answered(many(count)), Err(too_many), "{count}");
    }
}

#[test]
fn what_would_be_sent_is_known_before() {
    let site = Site::answering(ok("x"));
    let pair = format!("127.0.0.1:{}", site.port());
    let url = format!("http://{pair}/path");
    let world = World::new();
    let request = Request { method: "POST", body: &[b'b'; 300], ..get(&url) };
    let rules = private(std::slice::from_ref(&pair));
    let needed = world.send(&rules, &request).sent_bytes;
    assert_eq!(needed as usize, site.requests()[0].len());
    let exactly = Limits { max_sent_bytes: needed, ..patient() };
    assert!(world.guard.send(&rules, &request, &exactly, &[]).outcome.is_ok());
    let less = Limits { max_sent_bytes: needed - 1, ..patient() };
    let exchange = world.guard.send(&rules, &request, &less, &[]);
    assert_eq!(exchange.outcome, Err(Failure::TooLarge { limit: "sent bytes", bound: needed - 1 }));
    assert_eq!((exchange.sent_bytes, site.connections()), (0, 2));
}

#[test]
fn a_large_body_arrives_whole() {
    let site = Site::serving(|request, out| out.write_all(ok(&request.len().to_string()).as_bytes()));
    let pair = format!("127.0.0.1:{}", site.port());
    let url = format!("http://{pair}/");
    let body = vec![b'b'; 900_000];
    let exchange = World::new().send(&private(&[pair]), &Request { method: "PUT", body: &body, ..get(&url) });
    assert_eq!(exchange.outcome.unwrap().body, exchange.sent_bytes.to_string().as_bytes());
    assert!(exchange.sent_bytes > 900_000);
}

/// Runs into a deadline of 300 ms and says so in good time.
fn times_out(site: &Site, request: &Request<'_>) {
    let begin = Instant::now();
    let limits =
        Limits { deadline: begin + Duration::from_millis(300), max_sent_bytes: 1 << 30, max_received_bytes: 1 << 30 };
    let pair = format!("127.0.0.1:{}", site.port());
    let url = format!("http://{pair}/");
    let exchange = World::new().guard.send(&private(&[pair]), &Request { url: &url, ..*request }, &limits, &[]);
    assert_eq!(exchange.outcome, Err(Failure::TimedOut));
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
}

/// Says something every few milliseconds, for longer than any test waits.
fn dripping(first: &'static str, drop: &'static str) -> Site {
    Site::serving(move |_, out| {
        out.write_all(first.as_bytes())?;
        for _ in 0..2000 {
            out.write_all(drop.as_bytes())?;
            out.flush()?;
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    })
}

#[test]
fn a_slow_answer_ends_at_the_deadline_wherever_it_is_slow() {
    for (first, drop) in [
        ("", ""),
        ("HTTP/1.1 200 OK\r\n", ""),
        ("HTTP/1.1 200 OK\r\nx: ", "y"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", "y"),
        ("HTTP/1.1 200 OK\r\n\r\n", "y"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\ny\r\n"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "0"),
        ("", "HTTP/1.1 102 Processing\r\n\r\n"),
    ] {
        times_out(&dripping(first, drop), &get(""));
    }
}

#[test]
fn a_server_that_reads_slowly_cannot_hold_a_request_up() {
    // It keeps reading, so that every write gets somewhere; only the whole never does.
    let body = vec![b'b'; 64 << 20];
    times_out(&Site::reading_slowly(), &Request { method: "POST", body: &body, ..get("") });
}

#[test]
fn a_deadline_in_the_past_sends_nothing() {
    let site = Site::answering(ok("x"));
    let exchange = fetch(&site, Limits { deadline: Instant::now(), ..patient() });
    assert_eq!(exchange.outcome, Err(Failure::TimedOut));
    assert_eq!(site.connections(), 0);
}

/// Pieces that answers are made of, and that parsers of answers fall over.
fn nearly_answers() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"HTTP/1.1 200 OK\r\n"[..],
        b"HTTP/1.1 100 Continue\r\n",
        b"HTTP/1.0 301 \r\n",
        b"content-length: 5\r\n",
        b"content-length: 18446744073709551615\r\n",
        b"content-length:\r\n",
        b"transfer-encoding: chunked\r\n",
        b"transfer-encoding: gzip, chunked\r\n",
        b"connection: keep-alive\r\n",
        b"location: http://127.0.0.1/\r\n",
        b"\r\n",
        b"\n",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"7fffffffffffffff\r\n",
        b"hello",
        b"\0\xff",
    ]);
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// No answer brings the host down or is longer than what came.
    #[test]
    fn any_answer_is_an_answer_or_a_failure(answer in nearly_answers()) {
        let exchange = fetch(&Site::answering(answer.clone()), patient());
        prop_assert!(exchange.received_bytes as usize <= answer.len());
        match exchange.outcome {
            Ok(response) => prop_assert!(response.body.len() <= answer.len()),
            Err(failure) => prop_assert!(matches!(failure, Failure::Failed(_)), "{failure:?}"),
        }
    }
}
