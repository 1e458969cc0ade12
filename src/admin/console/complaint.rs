//! What is wrong with a command, or with what came of it, as clients are told.

use bytes::BytesMut;
use hyper::StatusCode;

use crate::admin::api::ApiError;
use crate::admin::types::ConfigProblem;
use crate::wire::refusal::Said;

/// An error of one command: the connection goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) sqlstate: &'static str,
    pub(super) message: String,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
}

impl Complaint {
    pub(super) fn new(sqlstate: &'static str, message: impl Into<String>) -> Complaint {
        Complaint {
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// The text is no command.
    pub(super) fn syntax(message: impl Into<String>) -> Complaint {
        Complaint::new("42601", message)
    }

    /// A value is none of those that there are.
    pub(super) fn value(message: impl Into<String>) -> Complaint {
        Complaint::new("22023", message)
    }

    /// There is no such thing in pgdrain, and what to do instead.
    pub(super) fn unsupported(message: impl Into<String>) -> Complaint {
        Complaint::new("0A000", message)
    }

    #[must_use]
    pub(super) fn hint(self, hint: impl Into<String>) -> Complaint {
        Complaint {
            hint: Some(hint.into()),
            ..self
        }
    }

    #[must_use]
    pub(super) fn detail(self, detail: impl Into<String>) -> Complaint {
        Complaint {
            detail: Some(detail.into()),
            ..self
        }
    }

    /// The whole `ErrorResponse`.
    pub(super) fn encode(&self) -> BytesMut {
        let said = Said {
            severity: "ERROR",
            sqlstate: self.sqlstate,
            message: &self.message,
            detail: self.detail.as_deref(),
            hint: self.hint.as_deref(),
        };
        said.encode()
    }
}

impl From<ApiError> for Complaint {
    /// The same words as over HTTP, and the SQLSTATE whose meaning is nearest to the status.
    fn from(error: ApiError) -> Complaint {
        let sqlstate = match error.status {
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => "22023",
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "42501",
            StatusCode::NOT_FOUND => "42704",
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => "55000",
            StatusCode::TOO_MANY_REQUESTS => "53400",
            StatusCode::SERVICE_UNAVAILABLE => "58000",
            _ => "XX000",
        };
        let problems: Vec<String> = error.problems.iter().map(problem).collect();
        let complaint = Complaint::new(sqlstate, error.message);
        match problems.is_empty() {
            true => complaint,
            false => complaint.detail(problems.join("\n")),
        }
    }
}

/// Where something is wrong with a configuration, and what.
fn problem(problem: &ConfigProblem) -> String {
    let at = problem.origin.iter().map(String::as_str);
    let key = Some(problem.key.as_str()).filter(|key| !key.is_empty());
    let parts: Vec<&str> = at.chain(key).chain([problem.text.as_str()]).collect();
    parts.join(": ")
}
