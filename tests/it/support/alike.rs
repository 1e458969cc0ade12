//! The same conversation twice, with Postgres itself and through the proxy, compared byte for byte.

use std::net::SocketAddr;

use super::cluster::Postgres;
use super::message::Message;
use super::proxy::Proxy;
use super::wire::Wire;

/// A server and a proxy in front of it, between which nobody may see a difference.
pub(crate) struct Alike {
    direct: SocketAddr,
    /// The proxy.
    pub(crate) proxy: Proxy,
}

impl Alike {
    /// Starts a proxy in front of a server.
    pub(crate) async fn start(postgres: &Postgres) -> Self {
        Self {
            direct: postgres.addr(),
            proxy: Proxy::start(postgres).await,
        }
    }

    /// Lets `talk` speak to both from the first byte on, asserts that both answered the same, and
    /// returns that answer.
    pub(crate) async fn connections(
        &self,
        name: &str,
        talk: impl AsyncFn(&mut Wire) -> Vec<Message>,
    ) -> Vec<Message> {
        let mut answers = Vec::new();
        for addr in [self.direct, self.proxy.addr()] {
            let mut wire = Wire::connect(addr).await;
            answers.push(masked(talk(&mut wire).await));
        }
        let (direct, proxied) = (&answers[0], &answers[1]);
        for (number, (direct, proxied)) in direct.iter().zip(proxied).enumerate() {
            assert_eq!(direct, proxied, "{name}: message {number}, direct and not");
        }
        let counts = (direct.len(), proxied.len());
        assert_eq!(counts.0, counts.1, "{name}: {:?}", tags(proxied));
        answers.swap_remove(1)
    }

    /// The same from behind a login as the superuser, which is compared too but not returned.
    pub(crate) async fn sessions(
        &self,
        name: &str,
        talk: impl AsyncFn(&mut Wire) -> Vec<Message>,
    ) -> Vec<Message> {
        let startup = super::message::startup(&[("user", "postgres"), ("database", "postgres")]);
        let both = self.connections(name, async |wire: &mut Wire| {
            wire.send(&startup).await;
            let mut all = wire.read_until_ready().await;
            wire.greeting.clone_from(&all);
            all.extend(talk(wire).await);
            all
        });
        let mut answer = both.await;
        let ready = answer.iter().position(|message| message.tag == b'Z');
        answer.split_off(ready.expect("a login") + 1)
    }
}

/// The types of messages as one word.
pub(crate) fn tags(messages: &[Message]) -> String {
    messages
        .iter()
        .map(|message| char::from(message.tag))
        .collect()
}

/// Takes out what differs from session to session: keys, salts, and our process id.
pub(crate) fn masked(mut messages: Vec<Message>) -> Vec<Message> {
    let key = messages.iter().find(|message| message.tag == b'K');
    let own_pid = key.map(|message| message.body[..4].to_vec());
    for message in &mut messages {
        let kind = message
            .body
            .first_chunk()
            .map(|kind| u32::from_be_bytes(*kind));
        match (message.tag, kind) {
            (b'K', _) => message.body.fill(0),
            // The salt of MD5, and the nonces and signatures of SCRAM.
            (b'R', Some(5 | 11 | 12)) => message.body[4..].fill(0),
            (b'A', _) if Some(&message.body[..4]) == own_pid.as_deref() => {
                message.body[..4].fill(0);
            }
            _ => {}
        }
    }
    messages
}
