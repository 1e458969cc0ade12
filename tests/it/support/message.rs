//! Protocol messages as bytes, written from the specification and not with the code under test.
//!
//! Formats: Postgres documentation, "Message Formats". Join several with `concat`.

/// One message after startup: its type byte and what follows the length.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The type byte.
    pub(crate) tag: u8,
    /// What follows the length.
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The bytes on the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        tagged(self.tag, &self.body)
    }

    /// A field of an ErrorResponse or NoticeResponse: `b'C'` is the SQLSTATE, `b'M'` the message.
    pub(crate) fn field(&self, code: u8) -> Option<String> {
        assert!(matches!(self.tag, b'E' | b'N'), "{self:?} has no fields");
        let mut fields = self.body.split(|byte| *byte == 0);
        let field = fields.find(|field| field.first() == Some(&code))?;
        Some(String::from_utf8_lossy(&field[1..]).into_owned())
    }

    /// The SQLSTATE of an ErrorResponse or NoticeResponse.
    pub(crate) fn sqlstate(&self) -> String {
        self.field(b'C').expect("every error has an SQLSTATE")
    }

    /// The columns of a DataRow as text, `None` for NULL.
    pub(crate) fn columns(&self) -> Vec<Option<String>> {
        assert_eq!(self.tag, b'D', "{self:?} is no row");
        let mut rest = &self.body[2..];
        let mut columns = Vec::new();
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(i32::from_be_bytes(*length)).ok();
            let (value, tail) = tail.split_at(length.unwrap_or(0));
            columns.push(length.map(|_| String::from_utf8_lossy(value).into_owned()));
            rest = tail;
        }
        columns
    }
}

impl std::fmt::Debug for Message {
    /// As a person reads it: `'C' "SELECT 1\0"`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.body[..self.body.len().min(300)];
        write!(f, "{:?} \"{}\"", char::from(self.tag), shown.escape_ascii())?;
        if shown.len() < self.body.len() {
            write!(f, " and {} bytes more", self.body.len() - shown.len())?;
        }
        Ok(())
    }
}

/// A message with a type byte.
pub(crate) fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], untagged(body).as_slice()].concat()
}

/// A message of the startup phase, which has no type byte.
pub(crate) fn untagged(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("tests send less than 4 GiB");
    [&length.to_be_bytes(), body].concat()
}

fn cstring(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn short(number: usize) -> [u8; 2] {
    u16::try_from(number)
        .expect("tests count to less than 65536")
        .to_be_bytes()
}

/// A count of bytes and the bytes; -1 for NULL.
fn value(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        Some(bytes) => {
            let length = u32::try_from(bytes.len()).expect("tests send less than 4 GiB");
            [&length.to_be_bytes(), bytes].concat()
        }
        None => (-1_i32).to_be_bytes().to_vec(),
    }
}

// What a client sends.

/// StartupMessage, protocol 3.0.
pub(crate) fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    startup_version(196_608, parameters)
}

/// StartupMessage with any version: major in the high 16 bits, minor in the low ones.
pub(crate) fn startup_version(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(cstring(name));
        body.extend(cstring(value));
    }
    body.push(0);
    untagged(&body)
}

/// SSLRequest.
pub(crate) fn ssl_request() -> Vec<u8> {
    untagged(&80_877_103_u32.to_be_bytes())
}

/// GSSENCRequest.
pub(crate) fn gssenc_request() -> Vec<u8> {
    untagged(&80_877_104_u32.to_be_bytes())
}

/// CancelRequest.
pub(crate) fn cancel_request(pid: u32, secret: &[u8]) -> Vec<u8> {
    let body = [&80_877_102_u32.to_be_bytes(), &pid.to_be_bytes(), secret].concat();
    untagged(&body)
}

/// PasswordMessage, SASLInitialResponse and SASLResponse share a type byte.
pub(crate) fn password(body: &[u8]) -> Vec<u8> {
    tagged(b'p', body)
}

/// Query.
pub(crate) fn query(sql: &str) -> Vec<u8> {
    tagged(b'Q', &cstring(sql))
}

/// Parse, without parameter types.
pub(crate) fn parse(statement: &str, sql: &str) -> Vec<u8> {
    tagged(
        b'P',
        &[cstring(statement), cstring(sql), vec![0, 0]].concat(),
    )
}

/// Bind, with everything in text format.
pub(crate) fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    let mut body = [cstring(portal), cstring(statement), vec![0, 0]].concat();
    body.extend(short(parameters.len()));
    for parameter in parameters {
        body.extend(value(parameter.map(str::as_bytes)));
    }
    body.extend([0, 0]);
    tagged(b'B', &body)
}

/// Describe: `kind` is `b'S'` for a statement, `b'P'` for a portal.
pub(crate) fn describe(kind: u8, name: &str) -> Vec<u8> {
    tagged(b'D', &[vec![kind], cstring(name)].concat())
}

/// Execute: `max_rows` of 0 means all.
pub(crate) fn execute(portal: &str, max_rows: u32) -> Vec<u8> {
    tagged(
        b'E',
        &[cstring(portal), max_rows.to_be_bytes().to_vec()].concat(),
    )
}

/// Close: `kind` as for [`describe`].
pub(crate) fn close(kind: u8, name: &str) -> Vec<u8> {
    tagged(b'C', &[vec![kind], cstring(name)].concat())
}

/// Sync.
pub(crate) fn sync() -> Vec<u8> {
    tagged(b'S', &[])
}

/// Flush.
pub(crate) fn flush() -> Vec<u8> {
    tagged(b'H', &[])
}

/// FunctionCall, with arguments and result in binary format.
pub(crate) fn function_call(oid: u32, arguments: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = oid.to_be_bytes().to_vec();
    body.extend([0, 1, 0, 1]);
    body.extend(short(arguments.len()));
    for argument in arguments {
        body.extend(value(*argument));
    }
    body.extend([0, 1]);
    tagged(b'F', &body)
}

/// Terminate.
pub(crate) fn terminate() -> Vec<u8> {
    tagged(b'X', &[])
}

// What both send.

/// CopyData.
pub(crate) fn copy_data(bytes: &[u8]) -> Vec<u8> {
    tagged(b'd', bytes)
}

/// CopyDone.
pub(crate) fn copy_done() -> Vec<u8> {
    tagged(b'c', &[])
}

/// CopyFail.
pub(crate) fn copy_fail(reason: &str) -> Vec<u8> {
    tagged(b'f', &cstring(reason))
}

// What a server sends.

/// AuthenticationOk.
pub(crate) fn authentication_ok() -> Vec<u8> {
    tagged(b'R', &[0, 0, 0, 0])
}

/// ParameterStatus.
pub(crate) fn parameter_status(name: &str, value: &str) -> Vec<u8> {
    tagged(b'S', &[cstring(name), cstring(value)].concat())
}

/// BackendKeyData.
pub(crate) fn backend_key_data(pid: u32, secret: &[u8]) -> Vec<u8> {
    tagged(b'K', &[&pid.to_be_bytes(), secret].concat())
}

/// ReadyForQuery: `status` is `b'I'`, `b'T'` or `b'E'`.
pub(crate) fn ready_for_query(status: u8) -> Vec<u8> {
    tagged(b'Z', &[status])
}

/// CommandComplete.
pub(crate) fn command_complete(tag: &str) -> Vec<u8> {
    tagged(b'C', &cstring(tag))
}

/// EmptyQueryResponse.
pub(crate) fn empty_query_response() -> Vec<u8> {
    tagged(b'I', &[])
}

/// ParseComplete.
pub(crate) fn parse_complete() -> Vec<u8> {
    tagged(b'1', &[])
}

/// BindComplete.
pub(crate) fn bind_complete() -> Vec<u8> {
    tagged(b'2', &[])
}

/// CloseComplete.
pub(crate) fn close_complete() -> Vec<u8> {
    tagged(b'3', &[])
}

/// NoData.
pub(crate) fn no_data() -> Vec<u8> {
    tagged(b'n', &[])
}

/// ParameterDescription of a statement without parameters.
pub(crate) fn no_parameters() -> Vec<u8> {
    tagged(b't', &[0, 0])
}

/// RowDescription with columns of type text.
pub(crate) fn row_description(columns: &[&str]) -> Vec<u8> {
    let mut body = short(columns.len()).to_vec();
    for column in columns {
        body.extend(cstring(column));
        // No table, no column number; type text (25), length -1, modifier -1, text format.
        body.extend([
            0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0,
        ]);
    }
    tagged(b'T', &body)
}

/// DataRow.
pub(crate) fn data_row(columns: &[Option<&str>]) -> Vec<u8> {
    let mut body = short(columns.len()).to_vec();
    for column in columns {
        body.extend(value(column.map(str::as_bytes)));
    }
    tagged(b'D', &body)
}

/// ErrorResponse.
pub(crate) fn error_response(sqlstate: &str, message: &str) -> Vec<u8> {
    let fields = [
        ("S", "ERROR"),
        ("V", "ERROR"),
        ("C", sqlstate),
        ("M", message),
    ];
    let mut body: Vec<u8> = fields
        .iter()
        .flat_map(|(code, text)| cstring(&format!("{code}{text}")))
        .collect();
    body.push(0);
    tagged(b'E', &body)
}

/// NotificationResponse.
pub(crate) fn notification(pid: u32, channel: &str, payload: &str) -> Vec<u8> {
    tagged(
        b'A',
        &[
            pid.to_be_bytes().to_vec(),
            cstring(channel),
            cstring(payload),
        ]
        .concat(),
    )
}
