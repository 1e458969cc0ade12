//! COPY FROM STDIN: which Syncs the server ignores while it reads data, and which data is for which COPY.

use super::Tracker;
use super::parts::{Batch, Copy, Data, End, Unit};

impl Tracker {
    #[inline]
    pub(super) fn copy_data(&mut self, sent: Data) {
        if let Copy::In(_) = self.copy {
            self.copy = Copy::of(sent);
        } else if !self.open.is_empty() {
            // Sent before the server asked for data: behind its end a Sync will be answered.
            self.open.data = self.open.data.max(sent);
            self.open.copy_end |= sent == Data::Ended;
        } else if let Some(last) = self.units.back_mut() {
            last.data_behind = last.data_behind.max(sent);
        }
    }

    /// The server begins to read COPY data, and ignores Syncs up to its end.
    pub(super) fn copy_in(&mut self) {
        let batch = *self.front();
        let by_query = self.answered >= batch.expected;
        let is_last = self.answered + 1 == batch.expected;
        self.doubtful = 0;
        let sent = match self.units.front() {
            Some(unit) if by_query => self.copy_in_query(unit.data_behind),
            Some(unit) if is_last && unit.end == End::Sync && batch.data != Data::Ended => {
                self.reopen_front(*unit)
            }
            Some(_) | None if is_last => batch.data,
            // Without an end of the data the server is about to refuse what comes instead.
            Some(_) | None if batch.copy_end => Data::Ended,
            Some(_) | None => Data::None,
        };
        self.copy = Copy::of(sent);
    }

    /// COPY by a Query, perhaps not the first of its statements. Returns how much of the data has been
    /// sent, which nobody can tell for the second of two whose data was sent ahead.
    fn copy_in_query(&mut self, sent: Data) -> Data {
        // With nothing behind the Query there is nothing to mistake.
        self.lost_count |= self.ended_ahead && self.units.len() > 1;
        let sent = self.ignore_syncs(1, sent);
        if sent == Data::Ended {
            self.ended_ahead = true;
        } else if let Some(unit) = self.units.front_mut() {
            // What is sent from here on is seen as data.
            unit.data_behind = Data::None;
        }
        sent
    }

    /// COPY by the last Execute of the oldest unit: its Sync is ignored, so the unit has not ended
    /// and goes on into the next one. Returns how much of the data has been sent.
    fn reopen_front(&mut self, front: Unit) -> Data {
        self.units.pop_front();
        let (mut at, mut sent) = (0, front.data_behind);
        if front.batch.data != Data::None {
            let batch = Batch::default();
            self.units.push_front(Unit { batch, ..front });
            self.doubtful = 1;
            (at, sent) = (1, sent.max(Data::Some));
        }
        let sent = self.ignore_syncs(at, sent);
        self.owe_completion();
        sent
    }

    /// The completion of a COPY by Execute is owed, ahead of what the next batch holds.
    fn owe_completion(&mut self) {
        self.answered = 0;
        let next = self.units.front_mut();
        let next = next.map_or(&mut self.open, |unit| &mut unit.batch);
        next.expected = next.expected.saturating_add(1);
        next.runs = true;
    }

    /// Forgets the Syncs at this place in front of the data, and counts those in it as doubtful, up
    /// to its end. Returns how much of the data has been sent.
    fn ignore_syncs(&mut self, mut at: usize, mut sent: Data) -> Data {
        while sent != Data::Ended
            && let Some(sync) = self.units.get_mut(at).filter(|unit| unit.is_bare_sync())
        {
            let behind = std::mem::take(&mut sync.data_behind);
            if sent == Data::None {
                self.units.remove(at);
            } else {
                self.doubtful += 1;
                at += 1;
            }
            sent = sent.max(behind);
        }
        sent
    }

    /// If a COPY has completed, the Syncs in its data were ignored.
    #[inline]
    pub(super) fn copy_completed(&mut self) {
        if self.doubtful > 0 {
            let at = self.copy_at();
            self.forget(at, self.doubtful);
            self.doubtful = 0;
            if at == 0 {
                self.owe_completion();
            }
        }
    }

    /// How many units are in front of the Syncs in the data of a COPY: its Query, if it has one.
    pub(super) fn copy_at(&self) -> usize {
        let front = self.units.front();
        usize::from(front.is_some_and(|unit| unit.end == End::Query))
    }

    /// Forgets so many Syncs at this place, as far as they are there. What came behind them and the end
    /// of the data is for the next COPY of the Query in front of them.
    fn forget(&mut self, at: usize, syncs: usize) {
        let behind = self.units.len().min(at + syncs);
        let forgotten = self.units.drain(at.min(behind)..behind);
        let ahead = forgotten.map(|unit| unit.data_behind).max();
        if let (Some(ahead), Some(query)) = (ahead, self.units.get_mut(at.wrapping_sub(1))) {
            query.data_behind = query.data_behind.max(ahead);
        }
    }
}
