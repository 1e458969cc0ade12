//! The same exercise with tokio-postgres or with sqlx (first argument). `../python/exercise.py` says
//! what a program prints and when the runner answers.

mod exercise;
mod sqlx_driver;
mod tokio_driver;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("tokio-postgres") => tokio_driver::run().await?,
        Some("sqlx") => sqlx_driver::run().await?,
        other => anyhow::bail!("no driver {other:?}"),
    }
    println!("ok");
    // A runtime would wait for ever for the thread that reads standard input.
    std::process::exit(0);
}
