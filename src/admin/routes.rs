//! From a request to its answer: the table's row, the body, the call, and what is sent back.

mod surface;

use std::convert::Infallible;
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use bytes::BytesMut;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Bytes};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::access::{Access, Peer};
use super::api::{Answer, Api, ApiError, Databases, TOO_MANY_FAILURES};
use super::caller::Caller;
use super::dashboard::{self, Asset};
use super::failures;
use super::router::{self, Endpoint, Found, Miss};
use super::signed::{sign, signed, signed_or_default};
use super::sse::Feed;
use super::types::{
    Action, CancelRequest, DrainRequest, Health, ModeRequest, PrecheckQuery, WindowCommand,
    WindowMode, WindowOrder,
};
use crate::config::{HumanDuration, UnknownWord};
use crate::runner::approvals::{ApproveRequest, RevokeRequest};
use crate::window::steps::Command;

/// What is sent back.
pub(super) type Reply = Response<Either<Full<Bytes>, Feed>>;

/// Of a body that nobody wants four times this is read, and then the connection is closed.
const UNWANTED: usize = 256 << 10;

/// The longest time for a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The longest time that a request for news waits; the client asks again.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// So many statements are told if it is not said.
const STATEMENTS: usize = 20;

/// Answers a request; every error is an answer too.
pub(super) async fn handle<B>(
    request: Request<B>,
    peer: &Peer,
    access: &Access,
    api: &impl Api,
) -> Reply
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send,
{
    if let Err(error) = access.screen(request.headers(), peer) {
        return refuse(error);
    }
    match router::find(request.method(), request.uri().path()) {
        Ok(found) => match admit(request.headers(), &found, peer, access) {
            Ok(caller) => surface::known(request, found, caller, api)
                .await
                .unwrap_or_else(refuse),
            Err(error) => {
                // So that whoever sends files gets to read why they are not wanted.
                let _ = read(request.into_body(), UNWANTED).await;
                refuse(error)
            }
        },
        Err(Miss::Path) => refuse(ApiError::not_found("There is nothing at this path.")),
        Err(Miss::Method { allowed }) => method_not_allowed(&allowed),
    }
}

/// The one place that keeps out who may not; the calls look at what a body adds to it.
fn admit(
    headers: &HeaderMap,
    found: &Found,
    peer: &Peer,
    access: &Access,
) -> Result<Caller, ApiError> {
    if found.needs.is_empty() {
        // A probe of health is answered whatever it shows.
        return Ok(Caller::unnamed(peer.came.from.as_str(), &[]));
    }
    let caller = access.caller(headers, peer)?;
    caller
        .may(found.needs)
        .inspect_err(|_refused| access.not_permitted())?;
    Ok(caller)
}

/// Reads the body and makes the call of the row.
async fn call<B>(
    request: Request<B>,
    found: Found,
    caller: Caller,
    api: &impl Api,
) -> Result<Reply, ApiError>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send,
{
    let (head, body) = request.into_parts();
    let query = Query::of(&head.uri);
    let body = read(body, found.body_max).await?;
    match found.endpoint {
        Endpoint::Health => Ok(health("ok")),
        Endpoint::Ready => {
            api.ready().await?;
            Ok(health("ready"))
        }
        Endpoint::Metrics => Ok(text(api.metrics().await)),
        Endpoint::Status => Ok(json(StatusCode::OK, &api.status().await)),
        Endpoint::Events => {
            let [after, wait] = query.only(["after", "wait"])?;
            if asks_for_events(&head.headers) {
                let seen = after.or_else(|| last_event(&head.headers));
                return Ok(stream(api.follow_events(number(seen)?)));
            }
            let events = api.events(number(after)?, patience(wait)?).await;
            Ok(json(StatusCode::OK, &events))
        }
        Endpoint::Sessions => surface::sessions(found.parameter, &query, api).await,
        Endpoint::SetMode => {
            let [wait] = query.only(["wait"])?;
            let (answer, status) = match wait.as_deref() {
                None => (Answer::AtOnce, StatusCode::ACCEPTED),
                Some("drained") => (Answer::WhenDrained, StatusCode::OK),
                Some(_) => return Err(ApiError::bad_request("The only wait is wait=drained.")),
            };
            let databases = Databases::from_path(found.parameter);
            let request: ModeRequest = signed(&body, &caller)?;
            caller.may(&[request.needs()])?;
            let results = match surface::condition(&head.headers)? {
                None => api.set_mode(databases, request, answer, caller).await?,
                Some(condition) => {
                    api.set_mode_if(databases, request, answer, caller, condition)
                        .await?
                }
            };
            Ok(surface::changed(status, &results))
        }
        Endpoint::ChangeDrain => {
            let databases = Databases::from_path(found.parameter);
            let request: DrainRequest = signed(&body, &caller)?;
            let results = api.change_drain(databases, request, caller).await?;
            Ok(json(StatusCode::OK, &results))
        }
        Endpoint::Precheck => {
            let [mode, ladder, bypass, fence] =
                query.only(["mode", "ladder", "bypass", "fence"])?;
            let query = PrecheckQuery {
                mode: word(mode)?,
                ladder: word(ladder)?,
                bypass: word(bypass)?,
                fence: flag(fence)?,
            };
            if query.mode == Some(WindowMode::ReadOnly) && query.fence == Some(true) {
                return Err(ApiError::bad_request(
                    "A fence keeps everybody out: it is for mode=exclusive.",
                ));
            }
            let precheck = api.precheck(one(found.parameter)?, query).await;
            Ok(json(StatusCode::OK, &precheck))
        }
        Endpoint::SetCap => {
            let database = one(found.parameter)?;
            let result = api.cap(database, signed(&body, &caller)?, caller).await?;
            Ok(json(StatusCode::OK, &result))
        }
        Endpoint::Statements => {
            let [limit] = query.only(["limit"])?;
            let most = match limit {
                None => STATEMENTS,
                limit => usize::try_from(number(limit)?).unwrap_or(usize::MAX),
            };
            let view = api.statements(one(found.parameter)?, most).await;
            Ok(json(StatusCode::OK, &view))
        }
        Endpoint::MeasureStatements => {
            let database = one(found.parameter)?;
            let view = api.measure_statements(database, parse(&body)?, caller);
            Ok(json(StatusCode::OK, &view.await?))
        }
        Endpoint::StartMigration => {
            let database = one(found.parameter)?;
            let keyed = surface::keyed(&head, &caller, &body)?;
            let start = api.start_migration(database, signed(&body, &caller)?);
            let started = api.replays().once(keyed, start).await?;
            Ok(json(StatusCode::ACCEPTED, &started))
        }
        Endpoint::MigrationStatus => {
            let database = one(found.parameter)?;
            let report = api.migration_status(database, parse(&body)?).await?;
            Ok(json(StatusCode::OK, &report))
        }
        Endpoint::PlanMigration => {
            let database = one(found.parameter)?;
            let report = api.plan_migration(database, parse(&body)?).await?;
            Ok(json(StatusCode::OK, &report))
        }
        Endpoint::LintMigration => {
            let database = one(found.parameter)?;
            let report = api.lint_migration(database, parse(&body)?).await?;
            Ok(json(StatusCode::OK, &report))
        }
        Endpoint::PreflightMigration => {
            let database = one(found.parameter)?;
            let report = api.preflight_migration(database, parse(&body)?).await?;
            Ok(json(StatusCode::OK, &report))
        }
        Endpoint::RehearseMigration => {
            let database = one(found.parameter)?;
            let keyed = surface::keyed(&head, &caller, &body)?;
            let start = api.rehearse_migration(database, signed(&body, &caller)?);
            let started = api.replays().once(keyed, start).await?;
            Ok(json(StatusCode::ACCEPTED, &started))
        }
        Endpoint::Backups => {
            let backups = api.backups(one(found.parameter)?).await?;
            Ok(json(StatusCode::OK, &backups))
        }
        Endpoint::PruneBackups => {
            let pruned = api.prune_backups(one(found.parameter)?).await?;
            Ok(json(StatusCode::OK, &pruned))
        }
        Endpoint::RestoreBackup => {
            let database = one(found.parameter)?;
            let restored = api.restore_backup(database, parse(&body)?).await?;
            Ok(json(StatusCode::OK, &restored))
        }
        Endpoint::RestoreInPlace => {
            let database = one(found.parameter)?;
            let restored = api.restore_in_place(database, parse(&body)?).await?;
            Ok(json(StatusCode::OK, &restored))
        }
        Endpoint::RepairMigration => {
            let database = one(found.parameter)?;
            let report = api
                .repair_migration(database, signed(&body, &caller)?)
                .await?;
            Ok(json(StatusCode::OK, &report))
        }
        Endpoint::VerifyMigration => {
            let database = one(found.parameter)?;
            let report = api.verify_migration(database, parse(&body)?).await?;
            Ok(json(StatusCode::OK, &report))
        }
        Endpoint::MigrationDrift => {
            let database = one(found.parameter)?;
            let report = api.migration_drift(database, parse(&body)?).await?;
            Ok(json(StatusCode::OK, &report))
        }
        Endpoint::SavedObjects => {
            let [run] = query.only(["run"])?;
            let run = run.ok_or_else(|| ApiError::bad_request("Say which run: ?run=RUN."))?;
            let saved = api.saved_objects(one(found.parameter)?, run).await?;
            Ok(json(StatusCode::OK, &saved))
        }
        Endpoint::ReplayObjects => {
            let database = one(found.parameter)?;
            let replayed = api
                .replay_objects(database, signed(&body, &caller)?)
                .await?;
            Ok(json(StatusCode::OK, &replayed))
        }
        Endpoint::MigrationReport => {
            let [run] = query.only(["run"])?;
            let account = api.migration_report(one(found.parameter)?, run).await?;
            Ok(json(StatusCode::OK, &account))
        }
        Endpoint::Unwatch => {
            let ended = api.unwatch(one(found.parameter)?).await?;
            Ok(json(StatusCode::OK, &ended))
        }
        Endpoint::Migrations => {
            let migrations = api.migrations(one(found.parameter)?).await?;
            Ok(json(StatusCode::OK, &migrations))
        }
        Endpoint::Migration => {
            let [after, wait] = query.only(["after", "wait"])?;
            let (after, wait) = (number(after)?, patience(wait)?);
            let view = api.migration(found.parameter, after, wait).await?;
            Ok(json(StatusCode::OK, &view))
        }
        Endpoint::OrderWindow => {
            let database = one(found.parameter)?;
            let order = sign(order(&body, &head.headers)?, &caller);
            let taken = api.order_window(database, order, caller).await?;
            Ok(json(StatusCode::CREATED, &taken))
        }
        Endpoint::Windows => {
            let databases = Databases::from_path(found.parameter);
            Ok(json(StatusCode::OK, &api.windows(databases).await))
        }
        Endpoint::Window => {
            let [after, wait] = query.only(["after", "wait"])?;
            let (after, wait) = (number(after)?, patience(wait)?);
            let view = api.window(found.parameter, after, wait).await?;
            Ok(json(StatusCode::OK, &view))
        }
        Endpoint::WindowEvents => Ok(stream(api.follow_window(found.parameter)?)),
        Endpoint::RenewWindow => {
            let body: WindowCommand = signed(&body, &caller)?;
            let renewed = api.command_window(found.parameter, Command::Renew, body, caller);
            Ok(json(StatusCode::OK, &renewed.await?))
        }
        Endpoint::FinishWindow => {
            let body: WindowCommand = signed(&body, &caller)?;
            let finished = api.command_window(found.parameter, Command::Finish, body, caller);
            Ok(json(StatusCode::ACCEPTED, &finished.await?))
        }
        Endpoint::AbortWindow => {
            let body: WindowCommand = signed(&body, &caller)?;
            let abort = Command::Abort(body.then);
            let aborted = api.command_window(found.parameter, abort, body, caller);
            Ok(json(StatusCode::ACCEPTED, &aborted.await?))
        }
        Endpoint::CancelMigration => {
            let request: CancelRequest = signed_or_default(&body, &caller)?;
            let cancelling = api.cancel_migration(found.parameter, request).await?;
            Ok(json(StatusCode::ACCEPTED, &cancelling))
        }
        Endpoint::ApproveMigration => {
            let database = one(found.parameter)?;
            let request: ApproveRequest = signed(&body, &caller)?;
            caller.may_speak_for(&request.role)?;
            let approval = api.approve(database, request).await?;
            Ok(json(StatusCode::CREATED, &approval))
        }
        Endpoint::MigrationApprovals => {
            let [plan] = query.only(["plan"])?;
            let approvals = api.approvals(one(found.parameter)?, plan).await?;
            Ok(json(StatusCode::OK, &approvals))
        }
        Endpoint::RevokeApproval => {
            let database = one(found.parameter)?;
            let request: RevokeRequest = signed(&body, &caller)?;
            caller.may_speak_for(&request.role)?;
            let approval = api.revoke(database, request).await?;
            Ok(json(StatusCode::CREATED, &approval))
        }
        Endpoint::GoNoGo => {
            let database = one(found.parameter)?;
            let gate = api.gonogo(database, parse(&body)?).await?;
            Ok(json(StatusCode::OK, &gate))
        }
        Endpoint::DecideMigration => {
            let database = one(found.parameter)?;
            let decision = api.decide(database, signed(&body, &caller)?).await?;
            Ok(json(StatusCode::CREATED, &decision))
        }
        Endpoint::Page => Ok(asset(dashboard::page(), &head.headers)),
        Endpoint::PageFile => {
            let file = dashboard::file(&found.parameter);
            let file = file.ok_or_else(|| ApiError::not_found("The page has no such file."))?;
            Ok(asset(file, &head.headers))
        }
        Endpoint::Pace => {
            let pace = api.pace(one(found.parameter)?).await?;
            Ok(json(StatusCode::OK, &pace))
        }
        Endpoint::Running => {
            let [pids] = query.only(["pids"])?;
            let pids = dashboard::pids(pids.as_deref().unwrap_or(""))?;
            let running = api.running(one(found.parameter)?, pids).await?;
            Ok(json(StatusCode::OK, &caller.as_seen(running)))
        }
        Endpoint::AcknowledgeMigration => {
            let request: CancelRequest = signed_or_default(&body, &caller)?;
            let acknowledged = api.acknowledge(found.parameter, request).await?;
            Ok(json(StatusCode::OK, &acknowledged))
        }
        Endpoint::CancelSession => {
            surface::act(Action::Cancel, &found.parameter, &body, caller, api).await
        }
        Endpoint::TerminateSession => {
            surface::act(Action::Terminate, &found.parameter, &body, caller, api).await
        }
        Endpoint::AbortSession => {
            surface::act(Action::Abort, &found.parameter, &body, caller, api).await
        }
        Endpoint::Mode => surface::mode(found.parameter, api).await,
        Endpoint::Config => Ok(json(StatusCode::OK, &api.config().await)),
        Endpoint::ValidateConfig => surface::validate(&body, api).await,
        Endpoint::ReloadConfig => surface::reload(&body, caller, api).await,
        Endpoint::Document => Ok(surface::document()),
        Endpoint::Caller => Ok(json(StatusCode::OK, &caller.view())),
    }
}

/// Reads a body up to its limit, for a limited time.
async fn read<B>(body: B, max: usize) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send,
{
    match tokio::time::timeout(BODY_TIME, collect(body, max)).await {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("The body is longer than {max} bytes."),
        )),
        Ok(Err(error)) => Err(ApiError::bad_request(format!(
            "The body cannot be read: {error}."
        ))),
        Err(_elapsed) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "The body took too long to arrive.",
        )),
    }
}

/// The body, or `None` if it is too long.
///
/// Some of what is too long is read and thrown away: were it left in the socket, closing would
/// reset the connection, and the client would not get to read why.
async fn collect<B: Body<Data = Bytes>>(body: B, max: usize) -> Result<Option<Bytes>, B::Error> {
    let mut body = pin!(body);
    let mut kept = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        // Trailers say nothing to us.
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        length += data.len();
        if length <= max {
            kept.extend_from_slice(&data);
        } else if length > 4 * max {
            break;
        }
    }
    Ok((length <= max).then(|| kept.freeze()))
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("The body is not as documented: {error}.")))
}

/// The database of a request that cannot be for all of them.
fn one(parameter: String) -> Result<String, ApiError> {
    match Databases::from_path(parameter) {
        Databases::One(database) => Ok(database),
        Databases::All => Err(ApiError::bad_request("This is for one database.")),
    }
}

/// An order for a window, whose idempotency key may stand in a header.
fn order(body: &[u8], headers: &HeaderMap) -> Result<WindowOrder, ApiError> {
    let mut order: WindowOrder = match body.is_empty() {
        true => WindowOrder::default(),
        false => parse(body)?,
    };
    if let Some(key) = headers.get("idempotency-key") {
        let key = key.to_str().ok().filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| ApiError::bad_request("Idempotency-Key is no plain text."))?;
        order.idempotency_key = Some(key.to_owned());
    }
    Ok(order)
}

/// One of a set of words, if it is there.
fn word<T: FromStr<Err = UnknownWord>>(text: Option<String>) -> Result<Option<T>, ApiError> {
    let word = text.map(|text| text.parse()).transpose();
    word.map_err(|error: UnknownWord| ApiError::bad_request(format!("{error}.")))
}

fn flag(text: Option<String>) -> Result<Option<bool>, ApiError> {
    let flag = text.map(|text| text.parse()).transpose();
    flag.map_err(|_neither: std::str::ParseBoolError| {
        ApiError::bad_request("It is either true or false.")
    })
}

/// A sequence number; none is 0.
fn number(text: Option<String>) -> Result<u64, ApiError> {
    match text.as_deref().unwrap_or("0").parse() {
        Ok(number) => Ok(number),
        Err(error) => Err(ApiError::bad_request(format!(
            "after is no number: {error}."
        ))),
    }
}

/// How long news are waited for; none is not at all.
fn patience(text: Option<String>) -> Result<Duration, ApiError> {
    match text.as_deref().unwrap_or("0s").parse() {
        Ok(HumanDuration(wait)) => Ok(wait.min(WAIT_MAX)),
        Err(error) => Err(ApiError::bad_request(format!(
            "wait cannot be used: {error}."
        ))),
    }
}

/// The part of a URL behind the question mark.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(uri: &hyper::Uri) -> Self {
        let text = uri.query().unwrap_or("").as_bytes();
        Self(url::form_urlencoded::parse(text).into_owned().collect())
    }

    /// The values of these keys; any other key is refused, since it may be a misspelt one.
    fn only<const N: usize>(&self, keys: [&str; N]) -> Result<[Option<String>; N], ApiError> {
        if let Some((key, _)) = self.0.iter().find(|(key, _)| !keys.contains(&key.as_str())) {
            let message = format!(
                "\"{key}\" is not known in this URL; known: {}.",
                keys.join(", ")
            );
            return Err(ApiError::bad_request(message));
        }
        Ok(keys.map(|key| {
            self.0
                .iter()
                .find(|(k, _)| k == key)
                .map(|(_, value)| value.clone())
        }))
    }
}

fn health(status: &str) -> Reply {
    let status = status.to_owned();
    json(StatusCode::OK, &Health { status })
}

fn text(text: String) -> Reply {
    reply(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        text.into(),
    )
}

fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(bytes) => reply(status, "application/json", bytes.into()),
        Err(error) => {
            tracing::error!(%error, "an answer of the admin HTTP cannot be written as JSON");
            reply(
                StatusCode::INTERNAL_SERVER_ERROR,
                "application/json",
                Bytes::new(),
            )
        }
    }
}

/// The answer to what cannot be done.
pub(super) fn refuse(error: ApiError) -> Reply {
    let (status, code) = (error.status, error.code);
    let tag = error.present.as_ref().map(|present| present.tag.clone());
    let mut reply = json(status, &error.into_body());
    if let Some(tag) = tag {
        surface::name(&mut reply, &tag);
    }
    if status == StatusCode::UNAUTHORIZED {
        // RFC 6750, section 3.
        let how = HeaderValue::from_static("Bearer realm=\"pgdrain\"");
        reply.headers_mut().insert(WWW_AUTHENTICATE, how);
    }
    if code == TOO_MANY_FAILURES {
        let seconds = HeaderValue::from(failures::SPAN.as_secs());
        reply.headers_mut().insert(RETRY_AFTER, seconds);
    }
    reply
}

fn method_not_allowed(allowed: &[hyper::Method]) -> Reply {
    let allowed: Vec<_> = allowed.iter().map(hyper::Method::as_str).collect();
    let allowed = allowed.join(", ");
    let mut reply = refuse(ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("This path only knows {allowed}."),
    ));
    let value = HeaderValue::try_from(allowed).expect("methods are header text");
    reply.headers_mut().insert(ALLOW, value);
    reply
}

fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Either::Left(Full::<Bytes>::from(body)));
    *reply.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// A file of the page, unless the browser has it.
fn asset(asset: Asset, request: &HeaderMap) -> Reply {
    let (status, headers, text) = asset.answer(request);
    let mut reply = Response::new(Either::Left(Full::from(text)));
    *reply.status_mut() = status;
    reply.headers_mut().extend(headers);
    reply
}

/// What a browser's EventSource, or a program like it, asks for.
const EVENT_STREAM: &str = "text/event-stream";

fn asks_for_events(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(ACCEPT).iter();
    accepts
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(EVENT_STREAM))
}

/// Where a reader that comes back was.
fn last_event(headers: &HeaderMap) -> Option<String> {
    let last = headers.get("last-event-id")?.to_str().ok()?;
    Some(last.to_owned())
}

fn stream(feed: Feed) -> Reply {
    let mut reply = Response::new(Either::Right(feed));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// Hyper asks for a result; ours is always an answer.
pub(super) type Answered = Result<Reply, Infallible>;
