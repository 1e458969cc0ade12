//! Sessions one by one, modes with conditions, the configuration, and the document of all of it.

use std::fmt::Display;
use std::str::FromStr;

use hyper::body::{Body, Bytes};
use hyper::header::{ETAG, HeaderMap, HeaderValue, IF_MATCH};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};

use super::{Query, Reply, UNWANTED, call, json, parse, read as body, reply};
use crate::admin::api::{Api, ApiError, Databases};
use crate::admin::caller::Caller;
use crate::admin::replays::Keyed;
use crate::admin::router::Found;
use crate::admin::types::{Action, ActionRequest, IfMatch, ModeResults, SessionsQuery};

/// What every route takes and gives (OpenAPI 3.1); a test holds it to the table of routes.
const DOCUMENT: &str = include_str!("../openapi.json");

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
    let acted = api.act_on_session(id, action, why(body)?, caller).await?;
    Ok(json(StatusCode::OK, &acted))
}

/// A value of the query, if it is there.
fn read<T: FromStr<Err: Display>>(key: &str, text: Option<String>) -> Result<Option<T>, ApiError> {
    let value = text.map(|text| text.parse()).transpose();
    value.map_err(|error: T::Err| ApiError::bad_request(format!("{key}: {error}.")))
}

/// Who asks and why; a body that is left out says neither.
fn why(body: &[u8]) -> Result<ActionRequest, ApiError> {
    match body.is_empty() {
        true => Ok(ActionRequest::default()),
        false => parse(body),
    }
}

/// What traffic may do now, under a name for `If-Match`.
pub(super) async fn mode(database: String, api: &impl Api) -> Result<Reply, ApiError> {
    let states = api.mode(Databases::from_path(database)).await?;
    let mut reply = json(StatusCode::OK, &states);
    name(&mut reply, &states.tag);
    Ok(reply)
}

/// Makes the call of a row, if the database is there that it names.
///
/// # Errors
/// 404 where it is not, also when that shows only in the call: whoever cannot be asked about a database that
/// is gone is not just unavailable.
pub(super) async fn known<B>(
    request: Request<B>,
    found: Found,
    caller: Caller,
    api: &impl Api,
) -> Result<Reply, ApiError>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send,
{
    let database = found.names_database.then(|| found.parameter.clone());
    let Some(database) = database else {
        return call(request, found, caller, api).await;
    };
    if api.lacks(&database, false).await {
        // So that whoever sends files gets to read it.
        let _ = body(request.into_body(), UNWANTED).await;
        return Err(ApiError::no_database(&database));
    }
    match call(request, found, caller, api).await {
        Err(error)
            if error.status == StatusCode::SERVICE_UNAVAILABLE
                && api.lacks(&database, true).await =>
        {
            Err(ApiError::no_database(&database))
        }
        answer => answer,
    }
}

/// What came of a change, under the name of the mode that is there now.
pub(super) fn changed(status: StatusCode, results: &ModeResults) -> Reply {
    let mut reply = json(status, results);
    if let Some(tag) = &results.tag {
        name(&mut reply, tag);
    }
    reply
}

/// Says of which state an answer tells.
pub(super) fn name(reply: &mut Reply, tag: &str) {
    // Tags of ours are plain text.
    if let Ok(tag) = HeaderValue::try_from(format!("\"{tag}\"")) {
        reply.headers_mut().insert(ETAG, tag);
    }
}

/// On which state a change depends, if on any.
pub(super) fn condition(headers: &HeaderMap) -> Result<Option<IfMatch>, ApiError> {
    if !headers.contains_key(IF_MATCH) {
        return Ok(None);
    }
    let values = headers.get_all(IF_MATCH).iter();
    let texts: Result<Vec<&str>, _> = values.map(HeaderValue::to_str).collect();
    let read = match texts {
        Ok(texts) => IfMatch::read(&texts.join(",")),
        Err(_binary) => Err("If-Match is no plain text."),
    };
    read.map(Some).map_err(ApiError::bad_request)
}

/// The key under which a request is started once, if it has one.
pub(super) fn keyed(head: &Parts, caller: &Caller, body: &[u8]) -> Result<Option<Keyed>, ApiError> {
    let Some(key) = head.headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = key
        .to_str()
        .map_err(|_binary| ApiError::bad_request("Idempotency-Key is no plain text."))?;
    let whose = caller.name.as_deref().unwrap_or_default();
    Keyed::new(key, (whose, head.uri.path()), body).map(Some)
}

/// Says what is wrong with a configuration.
pub(super) async fn validate(body: &[u8], api: &impl Api) -> Result<Reply, ApiError> {
    let text = str::from_utf8(body).map_err(|error| {
        ApiError::bad_request(format!("The configuration is no UTF-8: {error}."))
    })?;
    let checked = api.validate_config(text.to_owned()).await;
    Ok(json(StatusCode::OK, &checked))
}

/// Reads the configuration again.
pub(super) async fn reload(body: &[u8], caller: Caller, api: &impl Api) -> Result<Reply, ApiError> {
    let reloaded = api.reload_config(why(body)?, caller).await?;
    Ok(json(StatusCode::OK, &reloaded))
}

/// The document of all routes.
pub(super) fn document() -> Reply {
    reply(
        StatusCode::OK,
        "application/json",
        DOCUMENT.as_bytes().into(),
    )
}
