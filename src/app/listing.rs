//! Lists of sessions: filtered, sorted, and given out page by page.
//!
//! A page is found without a view of any session that is not on it. Behind which one the next page
//! begins is said by what that one was sorted by, so that sessions that come and go meanwhile neither
//! show twice nor push others out.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::App;
use crate::admin::types::{
    ClientAt, ReplicationKind, SessionSort, SessionState, SessionView, Sessions, SessionsQuery,
};
use crate::admin::{ApiError, Databases};
use crate::drain::report::millis;
use crate::session::registry::{Activity, Session};
use crate::wire::startup::Replication;

/// Where a session stands in a list; smaller is nearer to its begin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
enum Key {
    Number(u64),
    Text(String),
}

/// The last session of a page.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Cursor {
    sort: SessionSort,
    key: Key,
    id: u64,
}

impl Cursor {
    fn read(text: &str, sort: SessionSort) -> Result<Cursor, ApiError> {
        let wrong = || {
            ApiError::bad_request(
                "This cursor is none of this list: send what the page before said as next, with the \
                 same sort.",
            )
        };
        let json = BASE64.decode(text).map_err(|_not_ours| wrong())?;
        let cursor: Cursor = serde_json::from_slice(&json).map_err(|_not_ours| wrong())?;
        let text = matches!(sort, SessionSort::User | SessionSort::Application);
        match matches!(cursor.key, Key::Text(_)) == text && cursor.sort == sort {
            true => Ok(cursor),
            false => Err(wrong()),
        }
    }

    fn text(&self) -> String {
        // Our own types are JSON.
        BASE64.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

impl App {
    /// The sessions that are asked for.
    ///
    /// # Errors
    /// 404 for a database that nobody knows, 400 for a cursor of another list.
    pub(super) fn list_sessions(
        &self,
        databases: &Databases,
        query: &SessionsQuery,
    ) -> Result<Sessions, ApiError> {
        let sort = query.sort.unwrap_or(SessionSort::Id);
        let cursor = query.cursor.as_deref();
        let after = cursor.map(|text| Cursor::read(text, sort)).transpose()?;
        let after = after.map(|it| (it.key, it.id));
        let (mut of_database, mut total) = (false, 0);
        let mut found = Vec::new();
        for entry in self.sessions.all() {
            let of_these = match databases {
                Databases::All => true,
                Databases::One(name) => *entry.database == **name,
            };
            of_database |= of_these;
            if !of_these || !fits(&entry, query) {
                continue;
            }
            total += 1;
            let at = (key(&entry, sort), entry.id.0);
            if after.as_ref().is_none_or(|after| at > *after) {
                found.push((at, entry));
            }
        }
        if let Databases::One(name) = databases
            // Sessions that are not held need no gate.
            && !of_database
            && self.controller.gates().find(name).is_none()
        {
            let message = format!("Nobody has connected to a database called {name:?} yet.");
            return Err(ApiError::not_found(message));
        }
        let limit = query.limit.unwrap_or(usize::MAX);
        let more = found.len() > limit;
        if more {
            found.select_nth_unstable_by(limit, |(a, _), (b, _)| a.cmp(b));
            found.truncate(limit);
        }
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let last = found.last().filter(|_| more);
        let next = last.map(|((key, id), _)| {
            let (key, id) = (key.clone(), *id);
            Cursor { sort, key, id }.text()
        });
        Ok(Sessions {
            sessions: found.iter().map(|(_, session)| view(session)).collect(),
            total,
            next,
        })
    }
}

fn fits(session: &Session, query: &SessionsQuery) -> bool {
    let SessionsQuery {
        state,
        user,
        application,
        address,
        longer_than,
        sort: _,
        limit: _,
        cursor: _,
    } = query;
    state.is_none_or(|it| it == state_of(session.activity()))
        && user.as_deref().is_none_or(|it| *it == *session.user)
        && application
            .as_deref()
            .is_none_or(|it| *it == *session.application_name)
        && address.is_none_or(|it| is_at(session, it))
        && longer_than.is_none_or(|it| lasts_longer(session, it.0))
}

fn is_at(session: &Session, at: ClientAt) -> bool {
    match (at, session.client.ip()) {
        (ClientAt::Net(net), Some(ip)) => net.contains(&ip),
        (ClientAt::Unix, None) => true,
        (ClientAt::Net(_), None) | (ClientAt::Unix, Some(_)) => false,
    }
}

fn lasts_longer(session: &Session, than: Duration) -> bool {
    let ages = [session.transaction_age(), session.held_for()];
    ages.into_iter().flatten().any(|age| age > than)
}

fn key(session: &Session, sort: SessionSort) -> Key {
    // Stamps are zero where there is none: such sessions stand behind all others.
    let oldest = |stamp: u64| Key::Number(stamp.wrapping_sub(1));
    let most = |count: u64| Key::Number(u64::MAX - count);
    match sort {
        SessionSort::Id => Key::Number(session.id.0),
        SessionSort::Transaction => oldest(session.transaction_stamp()),
        SessionSort::Held => oldest(session.held_stamp()),
        SessionSort::Transactions => most(session.totals().transactions),
        SessionSort::BytesIn => most(session.totals().bytes_in),
        SessionSort::BytesOut => most(session.totals().bytes_out),
        SessionSort::User => Key::Text(session.user.to_string()),
        SessionSort::Application => Key::Text(session.application_name.to_string()),
    }
}

/// What a session does, as an operator sees it.
pub(super) fn state_of(activity: Activity) -> SessionState {
    match activity {
        Activity::Idle => SessionState::Idle,
        Activity::Active => SessionState::Active,
        Activity::InTransaction => SessionState::InTransaction,
        Activity::Held => SessionState::Held,
        Activity::Closing => SessionState::Closing,
        Activity::Aborted => SessionState::Aborted,
        Activity::Deferred => SessionState::Deferred,
    }
}

fn view(session: &Session) -> SessionView {
    let totals = session.totals();
    let started = session
        .statement_age()
        .and_then(|age| SystemTime::now().checked_sub(age));
    SessionView {
        id: session.id.0,
        pid: session.pid(),
        database: session.database.to_string(),
        user: session.user.to_string(),
        application_name: session.application_name.to_string(),
        replication: session.replication.map(|kind| match kind {
            Replication::Physical => ReplicationKind::Physical,
            Replication::Logical => ReplicationKind::Logical,
        }),
        client: session.client.to_string(),
        state: state_of(session.activity()),
        connected_at: Timestamp::try_from(session.connected_at).unwrap_or(Timestamp::UNIX_EPOCH),
        transaction_age_ms: session.transaction_age().map(millis),
        statement_started_at: started.and_then(|at| Timestamp::try_from(at).ok()),
        held_ms: session.held_for().map(millis),
        transactions: totals.transactions,
        bytes_in: totals.bytes_in,
        bytes_out: totals.bytes_out,
        server: session.route.endpoint.to_string(),
        window: session.window.as_deref().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_of_one_order_alone() {
        let cursor = Cursor {
            sort: SessionSort::User,
            key: Key::Text("an\"na \u{1F}é".into()),
            id: u64::MAX,
        };
        let text = cursor.text();
        let is_url_text = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        assert!(text.chars().all(is_url_text), "{text}");
        assert_eq!(Cursor::read(&text, SessionSort::User), Ok(cursor));
        let forged = BASE64.encode(r#"{"sort":"user","key":7,"id":1}"#);
        for (text, sort) in [
            (&*text, SessionSort::Id),
            (&forged, SessionSort::User),
            ("7", SessionSort::Id),
            ("", SessionSort::Id),
        ] {
            let error = Cursor::read(text, sort).expect_err(text);
            assert_eq!(error.code, "bad_request", "{text}");
        }
    }
}
