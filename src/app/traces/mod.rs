//! Windows and migrations as traces for an OpenTelemetry collector (`[traces]`), made of the events and the
//! progress that are told anyway: nothing that is traced knows of it, and nothing waits for it.

mod follow;
mod http;
mod outlet;
mod runs;
mod span;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;

use super::traffic::Windows;
use crate::config;
use crate::metrics::Metrics;
use crate::runner::{OnRun, Runner};
use crate::tasks::Tasks;
use crate::tls::connector::Roots;
use crate::window::{Controller, Desk};

/// The exporter's own bound; ours is shorter.
const EXPORT_TIME: Duration = Duration::from_secs(30);

/// Begins to make traces; what has to be told of each run that begins.
pub(super) fn begin(
    settings: &config::Traces,
    (controller, desk): (&Arc<Controller>, &Arc<Desk>),
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> anyhow::Result<OnRun<Windows>> {
    let (outlet, spans) = outlet::queue(metrics);
    let sender = outlet::Sender {
        exporter: exporter(settings)?,
        metrics: Arc::clone(metrics),
        stop: tasks.shutdown_token(),
    };
    tasks.spawn("traces", sender.run(spans));
    let weak = outlet.downgrade();
    let parts = (Arc::clone(controller), Arc::clone(desk));
    let after = controller.audit().last();
    let follow = follow::windows(parts, after, outlet, tasks.clone());
    tasks.spawn("traces of windows", follow);
    let (controller, tasks) = (Arc::clone(controller), tasks.clone());
    Ok(Arc::new(move |runner: &Runner<Windows>, id: &str| {
        if let Some(outlet) = weak.upgrade() {
            let (runner, id, controller) = (runner.clone(), id.to_owned(), Arc::clone(&controller));
            let follow = follow::run(runner, id, controller, outlet, tasks.clone());
            tasks.spawn("trace of a migration", follow);
        }
    }))
}

fn exporter(settings: &config::Traces) -> anyhow::Result<SpanExporter> {
    let roots = settings.ca.clone().map_or(Roots::System, Roots::File);
    let headers = settings.headers.iter();
    let headers = headers.map(|(name, value)| (name.clone(), value.expose().to_owned()));
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(http::Client { roots })
        .with_protocol(Protocol::HttpJson)
        .with_endpoint(settings.endpoint.expose())
        .with_headers(headers.collect())
        .with_timeout(EXPORT_TIME)
        .build()?;
    let resource = Resource::builder_empty()
        .with_service_name(settings.service.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("process.pid", i64::from(std::process::id())))
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}
