//! What a session takes while it does nothing: upper bounds in bytes, so that nobody adds to them unseen.

use std::mem::size_of;

use super::*;
use crate::session::registry::Session;
use crate::session::relay::Relay;

#[test]
fn an_idle_session_stays_small() {
    let sizes = [
        ("the future of its task", size_of::<Serving>(), 24),
        ("its relay", size_of::<Relay<Stream, Stream>>(), 560),
        (
            "that and its farewell",
            size_of::<Settled<Stream, Stream>>(),
            664,
        ),
        ("what others see of it", size_of::<Session>(), 440),
        ("a connection", size_of::<Stream>(), 48),
    ];
    let grown = sizes.iter().filter(|(_, size, most)| size > most);
    let grown: Vec<_> = grown.collect();
    assert!(grown.is_empty(), "{grown:?}");
}
