//! The admin HTTP of a running proxy: everywhere it listens, it is the same. The console is beside it.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc::Receiver;

use super::App;
use super::api::AppApi;
use crate::admin::{Access, console};
use crate::client::admin::{self, AdminListener};
use crate::config::AdminAddress;
use crate::session::console::Visitor;

impl App {
    /// Answers on all of these, and to those who came to the console by the clients' door; returns where
    /// that is, with the ports that the system chose.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn serve_admin(
        self: &Arc<Self>,
        listeners: Vec<(AdminAddress, AdminListener)>,
        visitors: Receiver<Visitor>,
    ) -> io::Result<Vec<String>> {
        let api = Arc::new(AppApi::new(Arc::clone(self)));
        let config = Arc::clone(&self.config);
        console::serve(visitors, Arc::clone(&api), config, &self.admin_tasks);
        // One for all, so that wrong tokens are counted together.
        let access = Access::of(Arc::clone(&self.config));
        let (audit, metrics) = (
            Arc::clone(self.controller.audit()),
            Arc::clone(&self.metrics),
        );
        let access = Arc::new(access.telling(audit, metrics));
        let mut names = Vec::new();
        for (_, listener) in listeners {
            names.push(listener.name()?);
            let (api, access) = (Arc::clone(&api), Arc::clone(&access));
            crate::admin::serve(listener, api, access, &self.admin_tasks);
        }
        Ok(names)
    }

    /// The files of Unix sockets, when nobody listens there any more; systemd keeps those that it made.
    pub(super) fn remove_admin_files(&self) {
        if self.doors.are_borrowed() {
            return;
        }
        for place in &self.config.load().admin.listen {
            if let AdminAddress::Unix(path) = place {
                // The next start replaces it.
                let _ = admin::remove(path);
            }
        }
    }
}
