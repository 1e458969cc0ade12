//! A whole round trip over loopback: a query to a server that has its answer ready, directly, by way of a byte
//! pump, and by way of the relay. Client, proxy and server have a thread each. And what the relay notes of it.

#[path = "../tests/model/parts.rs"]
mod parts;
#[path = "support/pgbench.rs"]
mod pgbench;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use bytes::BytesMut;
use divan::Bencher;
use pgdrain::metrics::Metrics;
use pgdrain::session::relay::Relay;
use pgdrain::tls::stream::Stream;
use tokio::io::copy_bidirectional;

use self::parts::{Parts, config};
use self::pgbench::Protocol;

fn main() {
    divan::main();
}

/// What is in between.
#[derive(Debug, Clone, Copy)]
enum Way {
    Direct,
    Pump,
    Relay,
}

const WAYS: [Way; 3] = [Way::Direct, Way::Pump, Way::Relay];

#[divan::bench(args = WAYS, sample_count = 50, sample_size = 200)]
fn simple(bencher: Bencher, way: Way) {
    transactions(bencher, way, Protocol::Simple);
}

#[divan::bench(args = WAYS, sample_count = 50, sample_size = 200)]
fn extended(bencher: Bencher, way: Way) {
    transactions(bencher, way, Protocol::Extended);
}

/// What the relay notes of a transaction: its begin, its bytes, its end.
#[divan::bench]
fn meter(bencher: Bencher) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without sockets");
    let _entered = runtime.enter();
    let session = Parts::new(Arc::new(Metrics::new())).session;
    bencher.bench_local(|| {
        session.transaction_began();
        session.count_in(divan::black_box(130));
        session.count_out(divan::black_box(90));
        session.answered();
        session.transaction_ended();
    });
}

/// One after the other, by one client.
fn transactions(bencher: Bencher, way: Way, protocol: Protocol) {
    let (query, answer) = (protocol.query(), protocol.answer());
    let server = serve(query.len(), answer.clone());
    let mut client = TcpStream::connect(match way {
        Way::Direct => server,
        Way::Pump | Way::Relay => carry(server, way),
    })
    .expect("somebody listens");
    client.set_nodelay(true).expect("a live socket");
    let mut came = vec![0; answer.len()];
    bencher.bench_local(|| {
        client.write_all(&query).expect("a live socket");
        client.read_exact(&mut came).expect("an answer");
    });
    assert_eq!(came, answer);
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// Answers one client: so many bytes are a query. Ends with its client.
fn serve(query: usize, answer: Vec<u8>) -> SocketAddr {
    let (listener, address) = listen();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        client.set_nodelay(true).expect("a live socket");
        let mut came = vec![0; query];
        while client.read_exact(&mut came).is_ok() && client.write_all(&answer).is_ok() {}
    });
    address
}

/// A proxy for one client, on one thread of tokio. Ends with its client.
fn carry(server: SocketAddr, way: Way) -> SocketAddr {
    let (listener, address) = listen();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (client, _) = listener.accept().expect("a client");
        client.set_nonblocking(true).expect("a live socket");
        runtime.block_on(async {
            let client = tokio::net::TcpStream::from_std(client).expect("a live socket");
            let server = tokio::net::TcpStream::connect(server)
                .await
                .expect("a server");
            match way {
                Way::Relay => relay(client, server).await,
                Way::Direct | Way::Pump => pump(client, server).await,
            }
        });
    });
    address
}

async fn pump(mut client: tokio::net::TcpStream, mut server: tokio::net::TcpStream) {
    for socket in [&client, &server] {
        socket.set_nodelay(true).expect("a live socket");
    }
    // The client leaves when it has seen enough.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

async fn relay(client: tokio::net::TcpStream, server: tokio::net::TcpStream) {
    let (config, parts) = (Arc::new(config()), Parts::new(Arc::new(Metrics::new())));
    let socket = |socket| Stream::tcp(socket, &config.tcp).expect("a live socket");
    let relay = Relay::new(
        (socket(client), BytesMut::new()),
        (socket(server), BytesMut::new()),
        parts.session,
        (parts.gate, Vec::new()),
        Arc::clone(&config),
        parts.common,
    );
    let _ = relay.run().await;
}
