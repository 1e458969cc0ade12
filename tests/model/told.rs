//! What came through of what each side said, where not all of it had to.

use super::take_message;

/// Whole messages, one by one.
pub(crate) fn messages(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    std::iter::from_fn(|| take_message(&mut bytes)).collect()
}

/// The server gets messages of the client in their order; those of the proxy's own have no body, or
/// begin with its name.
pub(crate) fn check_refused(wrote: &[u8], got: &[u8]) {
    let mut wrote = messages(wrote).into_iter();
    for message in messages(got) {
        assert!(
            message.1.is_empty() || is_of_proxy(message) || wrote.any(|other| other == message),
            "the server got {message:?}, which the client did not send there"
        );
    }
}

/// Whether the proxy has put this message between those of the client.
pub(crate) fn is_of_proxy((_, body): (u8, &[u8])) -> bool {
    let begins = |name: &[u8]| {
        body.starts_with(name) || body.get(1..).is_some_and(|rest| rest.starts_with(name))
    };
    begins(b"__pgdrain\0") || begins(b"pgdrain ")
}

/// The client reads whole messages of the server in their order, and between them whole ones of the
/// proxy's: errors, and that it is ready.
pub(crate) fn check_read(said: &[u8], read: &[u8]) {
    let mut said = messages(said).into_iter();
    for message in messages(read) {
        let (tag, body) = message;
        let of_ours = b"123CDI".contains(&tag) && body.first().is_some_and(|first| *first > b'<');
        let shown = tag == b'D' && body.starts_with(b"\0\x01\0\0\0");
        let setting = tag == b'S' && body.starts_with(b"default_transaction_read_only");
        assert!(
            !of_ours && !shown && !setting,
            "the client got {message:?}, which was for the proxy"
        );
        // A setting that came between answers to the proxy is passed on later.
        let ours = is_ours(message) || b"ZS".contains(&message.0);
        assert!(
            ours || said.any(|other| other == message),
            "the client got {message:?}, which the server did not say there: {}",
            read.escape_ascii()
        );
    }
}

/// Errors of ours begin with the field "S"; those of the model with a small number.
pub(crate) fn is_ours((tag, body): (u8, &[u8])) -> bool {
    tag == b'E' && body.first() == Some(&b'S')
}

/// Whoever lost messages between others that went through was told as often.
pub(crate) fn check_told(wrote: &[u8], got: &[u8], read: &[u8]) {
    let mut got = messages(got).into_iter().peekable();
    let (mut gaps, mut in_gap) = (0, false);
    for message in messages(wrote) {
        let came = got.next_if_eq(&message).is_some();
        if came && in_gap {
            gaps += 1;
        }
        in_gap = !came;
    }
    let told = messages(read).into_iter().filter(|one| is_ours(*one));
    let told = told.count();
    assert!(
        told >= gaps,
        "told {told} times of {gaps} gaps: {}",
        read.escape_ascii()
    );
}
