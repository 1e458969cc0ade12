//! Raises fences for holds that ask for one.

use super::App;
use crate::admin::{ApiError, Databases};
use crate::window::fence::{Fence, FenceFor};

impl App {
    /// The fence that a hold asks for, or the configuration for it. It is around a whole database:
    /// who asks for one with less, or with more, is told; who did not ask gets none.
    pub(super) async fn fence_of(
        &self,
        databases: &Databases,
        whole: bool,
        asked: Option<bool>,
    ) -> Result<Option<Fence>, ApiError> {
        let database = match databases {
            Databases::One(database) if whole => database,
            Databases::One(_) | Databases::All if asked == Some(true) => {
                let message = "A fence is for one database, and all of it.";
                return Err(ApiError::bad_request(message));
            }
            Databases::One(_) | Databases::All => return Ok(None),
        };
        if !asked.unwrap_or(self.config.load().hold.fence) {
            return Ok(None);
        }
        let fence = self.controller.fence(database, FenceFor::Others).await;
        fence.map(Some).map_err(|error| {
            let causes = format!("{:#}", anyhow::Error::new(error));
            ApiError::conflict("no_fence", format!("Nothing was held: {causes}."))
        })
    }
}
