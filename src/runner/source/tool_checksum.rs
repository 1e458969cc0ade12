//! The checksums that other tools keep, each by its own rule.

use std::fmt;

use sha2::{Digest as _, Sha384};

use super::{Sha256, without_mark};

/// What a tool keeps of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChecksum {
    /// Flyway: CRC-32 of the lines without their ends, as a signed number.
    Flyway(i32),
    /// sqlx: SHA-384 of the bytes.
    Sqlx(Vec<u8>),
    /// Prisma: SHA-256 of the bytes; it takes either kind of line end for the other.
    Prisma {
        /// Of the bytes as they are.
        raw: Sha256,
        /// With LF for CRLF, and with CRLF for LF.
        ends: [Sha256; 2],
    },
}

impl ToolChecksum {
    /// Flyway's (`ChecksumCalculator`): a byte order mark and the kind of line ends do not count.
    pub fn flyway(text: &str) -> Self {
        let mut crc = Crc32::new();
        for line in lines(without_mark(text)) {
            crc.update(line.as_bytes());
        }
        Self::Flyway(crc.finish().cast_signed())
    }

    /// sqlx's (`migrate/migration.rs`).
    pub fn sqlx(text: &str) -> Self {
        Self::Sqlx(Sha384::digest(text.as_bytes()).to_vec())
    }

    /// Prisma's (`migration-connector/src/checksum.rs`).
    pub fn prisma(text: &str) -> Self {
        let unix = text.replace("\r\n", "\n");
        let windows = unix.replace('\n', "\r\n");
        Self::Prisma {
            raw: Sha256::of(text.as_bytes()),
            ends: [unix, windows].map(|it| Sha256::of(it.as_bytes())),
        }
    }

    /// Whether this is what the tool wrote down as text; see `Display`.
    pub fn is(&self, written: &str) -> bool {
        match self {
            Self::Flyway(_) | Self::Sqlx(_) => self.to_string() == written,
            Self::Prisma { raw, ends } => {
                raw.to_string() == written || ends.iter().any(|it| it.to_string() == written)
            }
        }
    }
}

/// A signed number for Flyway, lower-case hexadecimal for the others.
impl fmt::Display for ToolChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flyway(crc) => crc.fmt(f),
            Self::Sqlx(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::Prisma { raw, .. } => raw.fmt(f),
        }
    }
}

/// Lines as Java's `BufferedReader` has them: ended by LF, CR or CRLF, the last perhaps by nothing.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let line = &rest[..end];
        let ending = if rest[end..].starts_with("\r\n") {
            2
        } else {
            1
        };
        rest = rest.get(end + ending..).unwrap_or_default();
        Some(line)
    })
}

/// CRC-32 as zlib has it. Files are small, and a table would be longer than this.
struct Crc32(u32);

impl Crc32 {
    fn new() -> Self {
        Self(u32::MAX)
    }

    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u32::from(*byte);
            for _ in 0..8 {
                let polynomial = if self.0 & 1 == 1 { 0xedb8_8320 } else { 0 };
                self.0 = (self.0 >> 1) ^ polynomial;
            }
        }
    }

    fn finish(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn flyway_counts_lines_without_ends() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(
            ToolChecksum::flyway("123456789"),
            ToolChecksum::Flyway(0xcbf4_3926_u32.cast_signed())
        );
        let one = ToolChecksum::flyway("select 1;\nselect 2;\n");
        assert_eq!(
            one,
            ToolChecksum::flyway("\u{feff}select 1;\r\nselect 2;\r")
        );
        assert_eq!(one, ToolChecksum::flyway("select 1;select 2;"));
        assert_eq!(ToolChecksum::flyway(""), ToolChecksum::Flyway(0));
    }

    #[test]
    fn prisma_takes_either_line_end() {
        let unix = ToolChecksum::prisma("a\nb\n");
        let windows = ToolChecksum::prisma("a\r\nb\r\n");
        assert!(unix.is(&windows.to_string()) && windows.is(&unix.to_string()));
        assert!(!unix.is(&ToolChecksum::prisma("a\nc\n").to_string()));
    }

    #[test]
    fn sqlx_counts_every_byte() {
        let text = ToolChecksum::sqlx("abc").to_string();
        assert!(
            text.starts_with("cb00753f45a35e8bb5a03d699ac65007"),
            "{text}"
        );
        assert!(!ToolChecksum::sqlx("a\r\n").is(&ToolChecksum::sqlx("a\n").to_string()));
    }

    proptest! {
        #[test]
        fn line_ends_never_count_for_flyway(lines in prop::collection::vec("[a-z ;é]{0,8}", 0..6)) {
            let unix = ToolChecksum::flyway(&lines.join("\n"));
            prop_assert_eq!(&unix, &ToolChecksum::flyway(&lines.join("\r\n")));
            prop_assert_eq!(&unix, &ToolChecksum::flyway(&lines.join("\r")));
        }
    }
}
