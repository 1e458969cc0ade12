//! `[traces]`: the collector that windows and migrations are told to as traces.

use std::path::PathBuf;

use hyper::header::{HeaderName, HeaderValue};
use url::{Host, Url};

use super::raw::RawTraces;
use super::secret::Secret;
use super::validate::Check;

/// The path of a collector for traces (OTLP specification 1.x, "OTLP/HTTP Request").
const PATH: &str = "/v1/traces";

/// An OpenTelemetry collector, or whoever speaks its protocol over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// Where it takes traces; it may hold a password.
    pub endpoint: Secret,
    /// Who signs for it; the system's authorities if nobody is named.
    pub ca: Option<PathBuf>,
    /// What is sent along, such as a key.
    pub headers: Vec<(String, Secret)>,
    /// What we are called there.
    pub service: String,
}

impl Check<'_> {
    pub(super) fn traces(&mut self, raw: RawTraces) -> Option<Traces> {
        let headers = self.trace_headers(raw.headers.as_ref());
        let service = raw.service.unwrap_or_else(|| "pgdrain".to_owned());
        if service.trim().is_empty() {
            self.wrong("traces.service", "it is empty");
        }
        let Some(endpoint) = raw.endpoint.filter(|it| !it.expose().is_empty()) else {
            for (key, set) in [
                ("traces.headers", !headers.is_empty()),
                ("traces.ca_file", raw.ca_file.is_some()),
            ] {
                if set {
                    self.wrong(key, "it is set, but traces.endpoint is not");
                }
            }
            return None;
        };
        let endpoint = self.trace_endpoint(&endpoint, !headers.is_empty())?;
        Some(Traces {
            endpoint,
            ca: raw.ca_file,
            headers,
            service,
        })
    }

    fn trace_endpoint(&mut self, written: &Secret, with_headers: bool) -> Option<Secret> {
        let key = "traces.endpoint";
        let url = Url::parse(written.expose()).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(mut url) = url else {
            self.wrong(key, "it is no URL; write http://HOST:4318 or https://HOST");
            return None;
        };
        let here = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        if with_headers && url.scheme() == "http" && !here {
            let text = "traces.headers would go there for all to read; write https://";
            self.wrong(key, text);
        }
        if !url.path().ends_with(PATH) {
            let path = format!("{}{PATH}", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        Some(Secret::new(url.to_string()))
    }

    /// As `OTEL_EXPORTER_OTLP_HEADERS` is written: `name=value,name=value`, percent-encoded where needed.
    fn trace_headers(&mut self, written: Option<&Secret>) -> Vec<(String, Secret)> {
        let pairs = written.map_or("", Secret::expose).split(',');
        let mut headers = Vec::new();
        for pair in pairs.filter(|pair| !pair.trim().is_empty()) {
            let read = pair.split_once('=').and_then(|(name, value)| {
                let value = percent_encoding::percent_decode_str(value.trim());
                let value = value.decode_utf8().ok()?.into_owned();
                HeaderValue::from_str(&value).ok()?;
                let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
                Some((name.to_string(), Secret::new(value)))
            });
            match read {
                Some(header) => headers.push(header),
                None => {
                    self.wrong(
                        "traces.headers",
                        "it is no list of headers; write name=value,name=value",
                    );
                    return headers;
                }
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, config, problems};

    fn file(text: &str) -> String {
        format!("{GOOD}[traces]\n{text}\n")
    }

    #[test]
    fn without_an_endpoint_there_are_no_traces() {
        assert_eq!(config(GOOD).traces, None);
        assert_eq!(config(&file("service = 'x'")).traces, None);
    }

    #[test]
    fn an_endpoint_leads_to_the_path_of_traces_and_headers_are_read() {
        for (written, read) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            (
                "https://otel.example/otlp/",
                "https://otel.example/otlp/v1/traces",
            ),
            (
                "https://otel.example/v1/traces",
                "https://otel.example/v1/traces",
            ),
        ] {
            let traces = config(&file(&format!("endpoint = '{written}'"))).traces;
            let traces = traces.expect("an endpoint");
            assert_eq!(traces.endpoint.expose(), read);
            assert_eq!(
                (traces.service.as_str(), traces.headers.len()),
                ("pgdrain", 0)
            );
        }
        let text = "endpoint = 'https://otel.example'\nheaders = 'X-Key=a%20b, other=1'";
        let traces = config(&file(text)).traces.expect("an endpoint");
        let headers = traces
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()));
        assert_eq!(
            headers.collect::<Vec<_>>(),
            [("x-key", "a b"), ("other", "1")]
        );
        assert!(!format!("{traces:?}").contains("a b"));
    }

    #[test]
    fn mistakes_are_named_without_the_secret() {
        for (text, part) in [
            (
                "endpoint = 'otel.example:4318'",
                "traces.endpoint: it is no URL",
            ),
            (
                "endpoint = 'http://otel.example'\nheaders = 'key=hunter2'",
                "for all to read",
            ),
            (
                "endpoint = 'https://otel.example'\nheaders = 'hunter2'",
                "no list of headers",
            ),
            ("headers = 'key=hunter2'", "traces.endpoint is not"),
            (
                "endpoint = 'https://otel.example'\nservice = ''",
                "traces.service: it is empty",
            ),
        ] {
            let all = problems(&file(text), &[]).join("\n");
            assert!(all.contains(part), "{text}: {all}");
            assert!(!all.contains("hunter2"), "{all}");
        }
    }
}
