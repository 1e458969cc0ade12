//! How long a connection is waited for, and how much of it is taken: docs/http.md says the same.

use tokio::time::{Instant, sleep};

use super::*;
use crate::admin::patient::TAKE_TIME;

/// Enough to fill every buffer between us and a reader, many times over.
const ANSWERS: usize = 200;

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address)
        .await
        .expect("it listens")
}

/// All that still comes of a connection, which is ended by us however it is done.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let (mut taken, mut part) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(read @ 1..) = stream.read(&mut part).await {
        taken.extend_from_slice(&part[..read]);
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_events_that_reads_nothing_is_let_go_with_its_feeder() {
    let server = server().await;
    let mut stuck = connect(&server).await;
    let line = format!("GET /v1/events?after={ENDLESS}");
    let request = request(&line, "").replacen("\r\n", "\r\naccept: text/event-stream\r\n", 1);
    let begun = Instant::now();
    stuck.write_all(request.as_bytes()).await.expect("it reads");
    while server.api.feeders() == 0 {
        tokio::task::yield_now().await;
    }
    while server.api.feeders() > 0 {
        assert!(begun.elapsed() < TAKE_TIME * 3, "it is fed for ever");
        sleep(Duration::from_secs(1)).await;
    }
    let events = rest(&mut stuck).await;
    assert!(events.starts_with(b"HTTP/1.1 200"));
    // Others are served meanwhile and after.
    assert_eq!(server.ask("GET /healthz", "").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_answers_that_reads_nothing_is_let_go() {
    let server = server().await;
    let mut stuck = connect(&server).await;
    let one = "GET /openapi.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
    stuck
        .write_all(one.repeat(ANSWERS).as_bytes())
        .await
        .expect("it reads");
    sleep(TAKE_TIME * 2).await;
    let taken = rest(&mut stuck).await;
    let all = ANSWERS * include_str!("../openapi.json").len();
    assert!(
        !taken.is_empty() && taken.len() < all / 2,
        "{} of {all}",
        taken.len()
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_comes_in_time_or_not_at_all() {
    let server = server().await;
    // Half a head.
    let mut slow = connect(&server).await;
    let begun = Instant::now();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nho")
        .await
        .expect("it reads");
    rest(&mut slow).await;
    assert_eq!(begun.elapsed().as_secs(), 10);
    // Half a body.
    let mut slow = connect(&server).await;
    let begun = Instant::now();
    let head = "PUT /v1/databases/shop/mode HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\
                content-length: 15\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.expect("it reads");
    let answer = rest(&mut slow).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"timeout\""), "{answer}");
    assert_eq!(begun.elapsed().as_secs(), 30);
    // Nothing more, after an answer.
    let mut idle = connect(&server).await;
    let begun = Instant::now();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        .await
        .expect("it reads");
    assert!(rest(&mut idle).await.starts_with(b"HTTP/1.1 200"));
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert!(server.api.modes().is_empty());
}

#[tokio::test]
async fn a_head_has_a_longest_length() {
    let server = server().await;
    let with = |bytes: usize| {
        let header = format!("\r\nx-long: {}\r\n", "x".repeat(bytes));
        request("GET /healthz", "").replacen("\r\n", &header, 1)
    };
    let (head, _) = server.raw(&with(60 << 10)).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut long = connect(&server).await;
    let _ = long.write_all(with(512 << 10).as_bytes()).await;
    let answer = rest(&mut long).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    assert_eq!(server.ask("GET /healthz", "").await.0, 200);
}
