//! A login where the client proves itself to us, and we prove ourselves to the server.

use std::sync::Arc;

use super::forwarded::forwarded;
use super::life::Host;
use super::login::{Applicant, LoggedIn};
use super::reader::Reader;
use crate::auth::passthrough::Failed;
use crate::auth::prove::{self, ServerSide};
use crate::auth::users::Accounts;
use crate::auth::{Proof, verify};
use crate::config::{AuthMethod, Config, Stored, Target};
use crate::server::connect::Opened;
use crate::tls::stream::Stream;
use crate::wire::refusal::NotProved;

impl Host {
    /// Lets the client prove itself by this method, and then logs in at the server. A client that
    /// fails causes no connection for itself. Not cancel safe.
    pub(super) async fn terminate(
        &self,
        applicant: &mut Applicant,
        target: &Target,
        method: AuthMethod,
    ) -> Result<LoggedIn, Failed> {
        verify::negotiate(&mut applicant.stream, &applicant.startup).await?;
        let limit = self.limit(applicant);
        let proof = self.verified(applicant, target, method).await?;
        let Applicant {
            stream: client,
            peer,
            startup,
            behind,
            config,
            ..
        } = applicant;
        let packet = forwarded(config, startup, *peer).settled_packet();
        let Opened {
            mut stream,
            route,
            host,
            answer,
        } = self.reach(&target.upstream, &packet).await?;
        let (database, user) = (startup.database(), startup.user());
        let reader = config.read_target(database).map(|_| {
            Arc::new(Reader {
                usable: self.standbys.usable(database),
                config: Arc::clone(config),
                startup: startup.clone(),
                peer: *peer,
                proof: proof.clone(),
            })
        });
        let configured = config.auth.server_password(host, database, user);
        let proof = configured.map_or(proof, |password| Proof::Password(password.clone()));
        let end_point = stream.server_end_point();
        let side = match &stream {
            Stream::Tls(_) => ServerSide::Encrypted(end_point.as_deref()),
            Stream::Tcp(_) | Stream::Unix(_) => ServerSide::Plain,
        };
        let (client, server) = ((client, std::mem::take(behind)), (&mut stream, answer));
        let login = prove::login(client, server, startup, (&proof, side, limit)).await?;
        Ok(LoggedIn {
            stream,
            route,
            login,
            reader,
        })
    }

    async fn verified(
        &self,
        applicant: &mut Applicant,
        target: &Target,
        method: AuthMethod,
    ) -> Result<Proof, Failed> {
        let Applicant {
            stream: client,
            startup,
            behind,
            config,
            encryption,
            ..
        } = applicant;
        let user = startup.user();
        let encryption = encryption.as_ref();
        match method {
            AuthMethod::Trust => Ok(kept(config, user)),
            AuthMethod::Cert => {
                let (kind, map) = (config.auth.certificate_name, &config.auth.certificate_users);
                verify::certificate(user, encryption, kind, map)?;
                Ok(kept(config, user))
            }
            AuthMethod::ScramSha256
            | AuthMethod::Md5
            | AuthMethod::Password
            | AuthMethod::PassThrough
            | AuthMethod::Reject => {
                let stored = self.stored(config, target, user).await?;
                let accounts = Accounts {
                    disguise: &self.disguise,
                    users: &config.auth.users,
                    iterations: config.auth.iterations,
                };
                let account = accounts.open(user, stored, method).await;
                verify::password(client, behind, user, &account, encryption).await
            }
        }
    }

    /// What is kept of a user's password. Where the server is asked, it is asked for everybody, so
    /// that nobody can tell the users of the file by the time.
    async fn stored(
        &self,
        config: &Config,
        target: &Target,
        user: &str,
    ) -> Result<Option<Stored>, Failed> {
        let in_file = config.auth.users.get(user).cloned();
        let (Some(query), Some(role)) = (&config.auth.query, &target.lookup) else {
            return Ok(in_file);
        };
        let asked = self.lookups.stored(target, (role, &query.sql), user).await;
        match (in_file, asked) {
            (Some(stored), _) => Ok(Some(stored)),
            (None, Ok(stored)) => Ok(stored),
            (None, Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a client's password cannot be checked"
                );
                Err(Failed::Refused(NotProved::LookupFailed.into()))
            }
        }
    }
}

/// What the users file lets us show the server for a client that proved itself without a password.
fn kept(config: &Config, user: &str) -> Proof {
    match config.auth.users.get(user) {
        Some(Stored::Plain(password)) => Proof::Password(password.clone()),
        Some(Stored::Md5(hash)) => Proof::Md5Hash(hash.clone()),
        Some(Stored::Scram(_)) | None => Proof::Nothing,
    }
}
