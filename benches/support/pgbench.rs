//! The messages of one transaction of `pgbench -S`, as it sends them and as Postgres answers.

/// The ways in which it asks (`-M`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Simple,
    Extended,
}

impl Protocol {
    /// What the client sends.
    pub(crate) fn query(self) -> Vec<u8> {
        match self {
            Protocol::Simple => message(
                b'Q',
                b"SELECT abalance FROM pgbench_accounts WHERE aid = 1234567;\0",
            ),
            Protocol::Extended => [
                message(
                    b'P',
                    b"\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0",
                ),
                message(
                    b'B',
                    b"\0\0\0\0\0\x01\0\0\0\x07\x31\x32\x33\x34\x35\x36\x37\0\0",
                ),
                message(b'D', b"P\0"),
                message(b'E', b"\0\0\0\0\0"),
                message(b'S', b""),
            ]
            .concat(),
        }
    }

    /// What the server answers: one row.
    pub(crate) fn answer(self) -> Vec<u8> {
        let begun = match self {
            Protocol::Simple => Vec::new(),
            Protocol::Extended => [message(b'1', b""), message(b'2', b"")].concat(),
        };
        let row = [
            message(b'T', &[0; 33]),
            message(b'D', &[0; 8]),
            message(b'C', b"SELECT 1\0"),
            message(b'Z', b"I"),
        ];
        [begun, row.concat()].concat()
    }
}

/// A message: its type, a length that counts itself, and a body.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short messages");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}
