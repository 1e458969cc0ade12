//! The admin HTTP of a running proxy: everywhere it listens, it is the same.

use std::io;
use std::sync::Arc;

use super::App;
use super::api::AppApi;
use crate::admin::Access;
use crate::client::admin::{self, AdminListener};
use crate::config::AdminAddress;

impl App {
    /// Answers on all of these; returns where that is, with the ports that the system chose.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn serve_admin(
        self: &Arc<Self>,
        listeners: Vec<(AdminAddress, AdminListener)>,
    ) -> io::Result<Vec<String>> {
        let api = Arc::new(AppApi::new(Arc::clone(self)));
        // One for all, so that wrong tokens are counted together.
        let access = Arc::new(Access::of(Arc::clone(&self.config)));
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
