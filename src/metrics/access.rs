//! Who was not let in where operators ask, and when what lets them in ends.

use super::{DATABASES_MAX, Metrics, as_f64, counter, gauge, lock, names};

/// Why somebody was not let in, as the label has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A token that is none of ours.
    UnknownToken,
    /// A token whose end has passed.
    ExpiredToken,
    /// A certificate that nobody we know has signed, that has ended, or whose names are not listed.
    Certificate,
    /// A web page of another site, or a name that we are not known by.
    OtherSite,
    /// Nothing was shown, or the role does not suffice.
    Permission,
    /// A login of the console.
    Console,
}

impl Refusal {
    const ALL: [Refusal; 6] = [
        Self::UnknownToken,
        Self::ExpiredToken,
        Self::Certificate,
        Self::OtherSite,
        Self::Permission,
        Self::Console,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::UnknownToken => "unknown_token",
            Self::ExpiredToken => "expired_token",
            Self::Certificate => "certificate",
            Self::OtherSite => "other_site",
            Self::Permission => "permission",
            Self::Console => "console",
        }
    }
}

/// When something ends, for its gauge.
#[derive(Clone, Debug, PartialEq)]
pub struct EndFigure {
    /// The key of the configuration.
    pub key: &'static str,
    /// The name of a token; a certificate has none.
    pub token: Option<String>,
    /// In seconds since 1970.
    pub at: f64,
}

impl Metrics {
    /// Somebody was not let in.
    pub fn access_refused(&self, why: Refusal) {
        let reason = [("reason", why.label())];
        counter(&self.recorder, names::ACCESS_REFUSED, &reason).increment(1);
    }

    /// When certificates and tokens end; what was set before and is not named is in use no more. Past 1000
    /// of them a further one is not shown.
    pub fn set_ends(&self, ends: &[EndFigure]) {
        let mut gauges = lock(&self.ends);
        gauges.values().for_each(|gauge| gauge.set(f64::NAN));
        for end in ends {
            let name = end.token.clone().unwrap_or_default();
            let (key, room) = ((end.key, name), gauges.len() < DATABASES_MAX);
            if room || gauges.contains_key(&key) {
                let gauge = gauges.entry(key).or_insert_with(|| match &end.token {
                    Some(name) => gauge(&self.recorder, names::TOKEN_ENDS, &[("token", name)]),
                    None => {
                        let certificate = [("certificate", end.key)];
                        gauge(&self.recorder, names::CERTIFICATE_ENDS, &certificate)
                    }
                });
                gauge.set(end.at);
            }
        }
    }

    /// Who is in the console now.
    pub fn set_console_visitors(&self, visitors: usize) {
        gauge(&self.recorder, names::CONSOLE_VISITORS, &[]).set(as_f64(visitors));
    }

    /// Shows each reason as 0 until it happens.
    pub(super) fn nobody_refused(self) -> Self {
        for why in Refusal::ALL {
            let reason = [("reason", why.label())];
            let _shown = counter(&self.recorder, names::ACCESS_REFUSED, &reason);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_gone_is_no_number() {
        let metrics = Metrics::new();
        let has = |line: &str| metrics.render().lines().any(|it| it == line);
        assert!(has("pgdrain_access_refused_total{reason=\"console\"} 0"));
        metrics.access_refused(Refusal::ExpiredToken);
        assert!(has(
            "pgdrain_access_refused_total{reason=\"expired_token\"} 1"
        ));
        let certificate = EndFigure {
            key: "tls.certificate",
            token: None,
            at: 1_893_456_000.0,
        };
        let token = EndFigure {
            key: "admin.tokens",
            token: Some("ci".to_owned()),
            at: 2.0,
        };
        metrics.set_ends(&[certificate.clone(), token]);
        assert!(has(
            "pgdrain_token_expiry_timestamp_seconds{token=\"ci\"} 2"
        ));
        metrics.set_ends(&[certificate]);
        assert!(has(
            "pgdrain_token_expiry_timestamp_seconds{token=\"ci\"} NaN"
        ));
        assert!(has(
            "pgdrain_certificate_expiry_timestamp_seconds{certificate=\"tls.certificate\"} 1893456000"
        ));
    }

    #[test]
    fn labels_do_not_grow_without_bound() {
        let metrics = Metrics::new();
        for number in 0..DATABASES_MAX + 5 {
            metrics.set_ends(&[EndFigure {
                key: "admin.tokens",
                token: Some(number.to_string()),
                at: 1.0,
            }]);
        }
        let series = metrics
            .render()
            .matches("pgdrain_token_expiry_timestamp_seconds{")
            .count();
        assert_eq!(series, DATABASES_MAX);
    }
}
