//! A client proves to us who it is.
//!
//! A user that does not exist, one that may not log in, and a wrong password take the same
//! messages, the same work, and end in the same words.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::Proof;
use super::messages::{NoMessage, read_message};
use super::passthrough::Failed;
use super::scram::server::{Exchange, Offer, Verdict};
use super::scram::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use super::users::{Account, Question};
use crate::config::{CertificateName, CertificateUser, Secret};
use crate::tls::Encryption;
use crate::wire::backend::{
    authentication_request, negotiate_protocol_version, request, sasl_request,
};
use crate::wire::frame::HEADER_LEN;
use crate::wire::frontend::{self, tag};
use crate::wire::refusal::{NotProved, Refusal};
use crate::wire::startup::{MINOR_MAX, Startup};

/// Tells the client which protocol is spoken, if it asked for more than there is; once, and before
/// anything else (Postgres documentation section 55.2.1).
pub async fn negotiate<C>(client: &mut C, startup: &Startup) -> Result<(), Failed>
where
    C: AsyncWrite + Unpin,
{
    let options = startup.protocol_options();
    if startup.minor() <= MINOR_MAX && options.is_empty() {
        return Ok(());
    }
    let message = negotiate_protocol_version(startup.spoken_minor(), &options);
    send(client, &message).await
}

/// Asks the client for its password, in the way that is right for its account. `from_client` is
/// what it has sent already, and then what it sent behind its answers.
///
/// `AuthenticationOk` is not sent: the server has still to be asked.
///
/// # Errors
/// Also that the client did not prove itself, which it is still to be told.
pub async fn password<C>(
    client: &mut C,
    from_client: &mut BytesMut,
    user: &str,
    account: &Account,
    encryption: Option<&Encryption>,
) -> Result<Proof, Failed>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut asked = Asked {
        client,
        from_client,
    };
    let proof = match account.question() {
        Question::Scram => {
            let end_point = encryption.and_then(|tls| tls.end_point.as_deref());
            scram(&mut asked, account, end_point).await?
        }
        Question::Md5 => {
            let salt: [u8; 4] = rand::random();
            asked.ask(request::MD5, &salt).await?;
            let answer = asked.text().await?;
            let hash = account.check_md5(user, salt, &answer);
            hash.map(|hash| match account.password() {
                Some(password) => Proof::Password(password.clone()),
                None => Proof::Md5Hash(hash),
            })
        }
        Question::Cleartext => {
            asked.ask(request::CLEARTEXT, &[]).await?;
            let answer = asked.text().await?;
            let right = account.check_password(user, &answer).await;
            // One that is no text got nobody in, but for a verifier of just these bytes.
            let password = String::from_utf8(answer.to_vec()).ok();
            right
                .then(|| password.map_or(Proof::Nothing, |text| Proof::Password(Secret::new(text))))
        }
    };
    proof.ok_or_else(|| refused(NotProved::Password(user.to_owned())))
}

/// Whether the client's certificate is this user's.
///
/// # Errors
/// When it is not, or there is none; the client is still to be told.
pub fn certificate(
    user: &str,
    encryption: Option<&Encryption>,
    kind: CertificateName,
    map: &[CertificateUser],
) -> Result<(), Failed> {
    let stands_for = |name: &str| {
        if map.is_empty() {
            name == user
        } else {
            map.iter()
                .any(|pair| pair.certificate == name && pair.user == user)
        }
    };
    let names = encryption.and_then(|tls| tls.client.as_ref());
    let fits = names.is_some_and(|names| match kind {
        CertificateName::CommonName => names.common.as_deref().is_some_and(stands_for),
        CertificateName::AlternativeName => names.alternative.iter().any(|name| stands_for(name)),
    });
    if fits {
        Ok(())
    } else {
        Err(refused(NotProved::Certificate(user.to_owned())))
    }
}

/// A client that is being asked.
struct Asked<'a, C> {
    client: &'a mut C,
    from_client: &'a mut BytesMut,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Asked<'_, C> {
    async fn ask(&mut self, code: i32, data: &[u8]) -> Result<(), Failed> {
        send(self.client, &authentication_request(code, data)).await
    }

    /// The body of the client's answer.
    async fn answer(&mut self) -> Result<BytesMut, Failed> {
        let message = read_message(self.client, self.from_client).await;
        let (tag, mut message) = message.map_err(|none| match none {
            NoMessage::Closed => Failed::ClientLeft,
            NoMessage::Io(error) => Failed::Client(error),
            NoMessage::TooLong => protocol("invalid message length".to_owned()),
        })?;
        if tag != tag::PASSWORD {
            let text = format!("expected password response, got message type {tag}");
            return Err(protocol(text));
        }
        Ok(message.split_off(HEADER_LEN))
    }

    /// An answer that is one text.
    async fn text(&mut self) -> Result<BytesMut, Failed> {
        let mut body = self.answer().await?;
        match body.iter().position(|byte| *byte == 0) {
            Some(end) if end + 1 == body.len() => {
                body.truncate(end);
                Ok(body)
            }
            _ => Err(protocol("invalid password packet size".to_owned())),
        }
    }
}

/// Speaks SCRAM; `None` when the client does not know the password.
async fn scram<C>(
    asked: &mut Asked<'_, C>,
    account: &Account,
    end_point: Option<&[u8]>,
) -> Result<Option<Proof>, Failed>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let plus = end_point.map(|_| SCRAM_SHA_256_PLUS.as_bytes());
    let mechanisms: Vec<&[u8]> = plus.into_iter().chain([SCRAM_SHA_256.as_bytes()]).collect();
    send(asked.client, &sasl_request(&mechanisms)).await?;
    let body = asked.answer().await?;
    let initial = frontend::sasl_initial(&body)
        .ok_or_else(|| protocol("invalid SASLInitialResponse".to_owned()))?;
    if !mechanisms.contains(&initial.mechanism) {
        let text = "client selected an invalid SASL authentication mechanism";
        return Err(protocol(text.to_owned()));
    }
    let offer = Offer {
        end_point,
        plus: initial.mechanism == SCRAM_SHA_256_PLUS.as_bytes(),
    };
    let first = match initial.data {
        Some(data) => BytesMut::from(data),
        None => {
            // A client may choose first and speak then.
            asked.ask(request::SASL_CONTINUE, &[]).await?;
            asked.answer().await?
        }
    };
    let nonce = scram::nonce(rand::random());
    let begun = Exchange::begin(&first, offer, account.verifier(), &nonce);
    let (exchange, challenge) = begun.map_err(refused)?;
    asked.ask(request::SASL_CONTINUE, &challenge).await?;
    let last = asked.answer().await?;
    match exchange.finish(&last).map_err(refused)? {
        Verdict::Wrong => Ok(None),
        Verdict::Proved(keys, answer) => {
            asked.ask(request::SASL_FINAL, &answer).await?;
            Ok(Some(match account.password() {
                Some(password) => Proof::Password(password.clone()),
                None => Proof::Keys(keys),
            }))
        }
    }
}

async fn send<C: AsyncWrite + Unpin>(client: &mut C, message: &[u8]) -> Result<(), Failed> {
    client.write_all(message).await.map_err(Failed::Client)?;
    client.flush().await.map_err(Failed::Client)
}

fn refused(why: NotProved) -> Failed {
    Failed::Refused(why.into())
}

fn protocol(text: String) -> Failed {
    Failed::Refused(Refusal::Protocol(text))
}
