//! Temporary.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Metrics;
#[allow(missing_docs)]
impl Metrics {
    pub fn held_wait(&self, _waited: std::time::Duration) {}
    pub fn hold_ended(&self, _lasted: std::time::Duration) {}
    pub fn drain_ended(&self, _took: std::time::Duration) {}
    pub fn refusal(&self, _sqlstate: &'static str) {}
    pub fn server_connect_failed(&self) {}
}
