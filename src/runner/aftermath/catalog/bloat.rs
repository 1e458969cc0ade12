//! How much of a table its rows would not need: an estimate from the widths that ANALYZE has seen. Pure.
//!
//! Section 73.6 of the documentation (database page layout): a page has a header of 24 bytes and 4 bytes
//! for each row; a row has a header of 23 bytes, a bitmap if it has nulls, and its values, both filled up to
//! 8 bytes. The padding between values is not known, so that the estimate is rather too high than too
//! low, by some percent; what is toasted counts as the pointer that stands for it.

/// Bytes in front of each page and of each row, and to which both are filled up.
const PAGE_HEADER: f64 = 24.0;
const ROW_HEADER: f64 = 23.0;
const POINTER: f64 = 4.0;
const ALIGNED: f64 = 8.0;

/// What is known of the rows of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Widths {
    /// Its size in blocks.
    pub(super) pages: i64,
    /// How many rows it has; below zero if nobody has counted.
    pub(super) rows: f64,
    /// Bytes of a block.
    pub(super) block: i64,
    /// How full blocks are made, in percent.
    pub(super) fill: i64,
    /// Bytes of the values of a row.
    pub(super) width: Option<f64>,
    /// Whether there are nulls.
    pub(super) nulls: bool,
    /// Of how many columns the width is known.
    pub(super) known: i64,
    /// How many there are.
    pub(super) columns: i64,
}

impl Widths {
    /// How many percent of its blocks it would not need.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn bloat_percent(&self) -> Option<f64> {
        let width = self.width?;
        let (pages, columns) = (self.pages as f64, self.columns as f64);
        if self.pages == 0 || self.rows < 0.0 || self.known < self.columns {
            return None;
        }
        let bitmap = match self.nulls {
            true => (columns / 8.0).ceil(),
            false => 0.0,
        };
        let row = aligned(ROW_HEADER + bitmap) + aligned(width) + POINTER;
        let room = (self.block as f64 - PAGE_HEADER) * self.fill as f64 / 100.0;
        // A row that is wider than a page is toasted, and has one of its own at most.
        let of_a_page = (room / row).floor().max(1.0);
        let needed = (self.rows / of_a_page).ceil();
        Some(((pages - needed) * 100.0 / pages).max(0.0))
    }
}

fn aligned(bytes: f64) -> f64 {
    (bytes / ALIGNED).ceil() * ALIGNED
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 40 bytes of values: 24 + 40 + 4 = 68 for a row, 120 rows on a page.
    fn full() -> Widths {
        Widths {
            pages: 100,
            rows: 12_000.0,
            block: 8192,
            fill: 100,
            width: Some(40.0),
            nulls: false,
            known: 3,
            columns: 3,
        }
    }

    #[test]
    fn what_rows_do_not_need_is_bloat() {
        let of = |it: Widths| it.bloat_percent().map(f64::round);
        assert_eq!(of(full()), Some(0.0));
        assert_eq!(
            of(Widths {
                pages: 400,
                ..full()
            }),
            Some(75.0)
        );
        assert_eq!(
            of(Widths {
                rows: 0.0,
                ..full()
            }),
            Some(100.0)
        );
        // Room that was asked for is no bloat; nor are nulls.
        assert_eq!(
            of(Widths {
                fill: 50,
                pages: 200,
                ..full()
            }),
            Some(0.0)
        );
        assert_eq!(
            of(Widths {
                nulls: true,
                known: 9,
                columns: 9,
                pages: 113,
                ..full()
            }),
            Some(0.0)
        );
    }

    #[test]
    fn what_nobody_analyzed_is_not_known() {
        for it in [
            Widths {
                width: None,
                ..full()
            },
            Widths {
                rows: -1.0,
                ..full()
            },
            Widths { known: 2, ..full() },
            Widths { pages: 0, ..full() },
        ] {
            assert_eq!(it.bloat_percent(), None, "{it:?}");
        }
    }
}
