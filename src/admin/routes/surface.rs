//! Sessions: the list of them, and what is done to one.

use std::fmt::Display;
use std::str::FromStr;

use hyper::StatusCode;

use super::{Query, Reply, json, parse};
use crate::admin::api::{Api, ApiError, Databases};
use crate::admin::caller::Caller;
use crate::admin::types::{Action, ActionRequest, SessionsQuery};

/// The longest page, and how long one is if nothing is said: a page is made and sent as a whole.
const PAGE_MAX: usize = 1000;

/// The sessions of a database, page by page.
pub(super) async fn sessions(
    database: String,
    query: &Query,
    api: &impl Api,
) -> Result<Reply, ApiError> {
    let [
        state,
        user,
        application,
        address,
        longer_than,
        sort,
        limit,
        cursor,
    ] = query.only([
        "state",
        "user",
        "application",
        "address",
        "longer_than",
        "sort",
        "limit",
        "cursor",
    ])?;
    let limit = read("limit", limit)?.unwrap_or(PAGE_MAX);
    if !(1..=PAGE_MAX).contains(&limit) {
        let message = format!("limit: a page has from 1 to {PAGE_MAX} sessions.");
        return Err(ApiError::bad_request(message));
    }
    let asked = SessionsQuery {
        state: read("state", state)?,
        user,
        application,
        address: read("address", address)?,
        longer_than: read("longer_than", longer_than)?,
        sort: read("sort", sort)?,
        limit: Some(limit),
        cursor,
    };
    let sessions = api.sessions(Databases::from_path(database), asked).await?;
    Ok(json(StatusCode::OK, &sessions))
}

/// Does something to one session.
pub(super) async fn act(
    action: Action,
    id: &str,
    body: &[u8],
    caller: Caller,
    api: &impl Api,
) -> Result<Reply, ApiError> {
    let id = id.parse().map_err(|_no_number: std::num::ParseIntError| {
        ApiError::bad_request(format!("\"{id}\" is no number of a session."))
    })?;
    let request = match body.is_empty() {
        true => ActionRequest::default(),
        false => parse(body)?,
    };
    let acted = api.act_on_session(id, action, request, caller).await?;
    Ok(json(StatusCode::OK, &acted))
}

/// A value of the query, if it is there.
fn read<T: FromStr<Err: Display>>(key: &str, text: Option<String>) -> Result<Option<T>, ApiError> {
    let value = text.map(|text| text.parse()).transpose();
    value.map_err(|error: T::Err| ApiError::bad_request(format!("{key}: {error}.")))
}
