//! Windows as anybody asks for them, and the connections that go through them.

use serde_json::{Value, json};

use super::message::Message;
use super::poll::{SOON, eventually};
use super::proxy::Proxy;
use super::wire::Wire;

/// A window that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Ordered {
    /// Its name.
    pub(crate) id: String,
    /// Its number.
    pub(crate) term: u64,
    /// What a connection shows.
    pub(crate) key: String,
}

impl Ordered {
    /// From the answer to the order.
    pub(crate) fn from(answer: &Value) -> Self {
        Self {
            id: text(&answer["window"]["id"]),
            term: answer["window"]["term"].as_u64().expect("a number"),
            key: text(&answer["key"]),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

impl Proxy {
    /// Asks for a window.
    pub(crate) async fn order(&self, database: &str, options: Value) -> Ordered {
        let path = format!("/v1/databases/{database}/windows");
        Ordered::from(&self.admin().post(&path, options).await.expect(201))
    }

    /// Asks for a window and waits until it is exclusive.
    pub(crate) async fn exclusive(&self, database: &str, options: Value) -> Ordered {
        let window = self.order(database, options).await;
        self.until_window(&window, "exclusive").await;
        window
    }

    /// How a window stands.
    pub(crate) async fn window(&self, window: &Ordered) -> Value {
        let path = format!("/v1/windows/{}", window.id);
        self.admin().get(&path).await.expect(200)
    }

    /// Waits until a window is in this state.
    pub(crate) async fn until_window(&self, window: &Ordered, state: &str) -> Value {
        let what = format!("the window to be {state}");
        eventually(&what, SOON, async || {
            let view = self.window(window).await;
            if view["state"] == "closed" && state != "closed" {
                panic!("closed instead of {state}: {view}");
            }
            (view["state"] == state).then_some(view)
        })
        .await
    }

    /// Commands a window with its own term.
    pub(crate) async fn command_window(&self, window: &Ordered, verb: &str) -> Value {
        let path = format!("/v1/windows/{}/{verb}", window.id);
        let answer = self.admin().post(&path, json!({"term": window.term})).await;
        assert!((200..300).contains(&answer.status), "{}", answer.text);
        answer.json()
    }

    /// A session that shows a key in its options; the ErrorResponse if it is refused.
    pub(crate) async fn through(&self, database: &str, key: &str) -> Result<Wire, Message> {
        let options = format!("-c pgdrain.window={key}");
        let parameters = [
            ("user", "postgres"),
            ("database", database),
            ("options", &options),
        ];
        Wire::login_with(self.addr(), &parameters, None).await
    }

    /// A session through a window that lets it in.
    pub(crate) async fn inside(&self, window: &Ordered) -> Wire {
        match self.through(super::holds::DB, &window.key).await {
            Ok(wire) => wire,
            Err(error) => panic!("not let in: {error:?}"),
        }
    }
}
