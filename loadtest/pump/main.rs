//! The least a proxy can do: copy bytes both ways. What pgdrain costs beyond it is what it is for.
//!
//! `pump LISTEN UPSTREAM THREADS`

use std::error::Error;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, threads] = &arguments[..] else {
        return Err("usage: pump LISTEN UPSTREAM THREADS".into());
    };
    let mut runtime = match threads.parse()? {
        0 | 1 => Builder::new_current_thread(),
        more => {
            let mut runtime = Builder::new_multi_thread();
            runtime.worker_threads(more);
            runtime
        }
    };
    runtime
        .enable_all()
        .build()?
        .block_on(pump(listen, upstream))
}

async fn pump(listen: &str, upstream: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(listen).await?;
    let mut connections = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        let upstream = upstream.to_owned();
        connections.spawn(async move {
            let Ok(mut server) = TcpStream::connect(upstream).await else {
                return;
            };
            // Without these a small answer waits for the acknowledgement of the one before.
            if client
                .set_nodelay(true)
                .and(server.set_nodelay(true))
                .is_ok()
            {
                // Either side may end as it likes: nobody here is told.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
