//! Carrying out what was decided of a guarded client's unit: it goes on, waits, is answered by us, or
//! fails its transaction.

use std::task::Context;

use super::Unsaid;
use super::plan::{Plan, kind};
use crate::session::guard::decide::{Decision, Stand};
use crate::session::relay::again::Again;
use crate::session::relay::away::Whither;
use crate::session::relay::enforce::Settled;
use crate::session::relay::up::note_start;
use crate::session::relay::{Phase, Relay, Step};
use crate::session::scan::Door;
use crate::session::transaction::Waits;
use crate::tls::stream::Socket;
use crate::wire::refusal::Refusal;

/// Whether a transaction may begin.
enum Start {
    Yes,
    No,
    Later(Step),
}

impl<C: Socket, S: Socket> Relay<C, S> {
    pub(super) fn carry_out(&mut self, cx: &mut Context<'_>, plan: Plan) -> Step {
        match plan.decision {
            Decision::Forward => self.start_and_forward(cx, plan),
            Decision::Pass => self.pass_unit(cx, plan),
            Decision::Defer | Decision::EndDeferred | Decision::AnswerEnd => {
                self.answer_unit(cx, plan)
            }
            Decision::Wait if self.has_deferred() && !self.door.wants_read_only() => {
                match self.start(false) {
                    Start::Yes => self.begin_deferred(false),
                    Start::No => self.wait(cx, true),
                    Start::Later(step) => step,
                }
            }
            Decision::Wait => self.wait(cx, true),
            Decision::WaitForReads => self.wait(cx, false),
            Decision::Refuse => self.refuse_unit(&Refusal::WriteRejected(kind(plan.why))),
            Decision::InFailed => self.refuse_unit(&Refusal::InFailedTransaction),
            Decision::FailTransaction => self.fail_transaction(1),
            Decision::FailBatch => self.fail_batch_of_unit(),
            Decision::GoBack => match self.start(true) {
                Start::Yes => self.begin_deferred(true),
                Start::No => self.wait(cx, false),
                Start::Later(step) => step,
            },
        }
    }

    /// Asks for a permit, behind a server that is as it is to be.
    fn start(&mut self, reads: bool) -> Start {
        if self.door.has_permit() {
            return Start::Yes;
        }
        match self.settle_read_only() {
            Settled::Done => {}
            Settled::UnderWay => return Start::Later(self.when_settled()),
            Settled::Impossible => return Start::No,
        }
        let admitted = if reads {
            self.door.admit_read()
        } else {
            self.door.admit()
        };
        if !admitted {
            return Start::No;
        }
        // The mode may have begun in between, and have found nobody inside.
        match self.settle_read_only() {
            Settled::Done => {
                self.go_on();
                Start::Yes
            }
            Settled::UnderWay | Settled::Impossible => {
                self.door.release();
                Start::Later(Step::Moved)
            }
        }
    }

    /// What was sent to the server just now has to be written; else its answer wakes us.
    pub(super) fn when_settled(&self) -> Step {
        match self.injection {
            Some(_) => Step::Moved,
            None => Step::Stuck,
        }
    }

    /// It waits no more.
    pub(in crate::session::relay) fn go_on(&mut self) {
        if let Phase::Held(_) = self.phase {
            self.phase = Phase::Flowing;
            self.unpark();
        }
        if let Some(guard) = &mut self.guard {
            guard.waits = false;
        }
    }

    /// The unit waits: for reads to be let in, or because it `writes` for traffic to be open.
    pub(in crate::session::relay) fn wait(&mut self, cx: &mut Context<'_>, writes: bool) -> Step {
        if let Some(guard) = &mut self.guard {
            guard.waits = writes;
        }
        if let Phase::Held(_) = self.phase {
            return Step::Stuck;
        }
        self.park(cx, false)
    }

    /// Answers the unit by an error of ours and throws it away.
    pub(in crate::session::relay) fn refuse_unit(&mut self, refusal: &Refusal) -> Step {
        if let Phase::Held(_) = self.phase {
            self.refuse(refusal);
        } else {
            self.turn_away(refusal, false);
        }
        Step::Moved
    }

    fn start_and_forward(&mut self, cx: &mut Context<'_>, plan: Plan) -> Step {
        let begins = matches!(plan.stand, Stand::Outside | Stand::Deferred);
        let start = if begins {
            self.start(true)
        } else if self.door.has_permit() || self.door.admit_read() {
            self.go_on();
            Start::Yes
        } else {
            Start::No
        };
        match start {
            Start::Yes if plan.stand == Stand::Deferred => self.begin_deferred(false),
            Start::Yes if plan.may_go_away => self.read_somewhere(cx, plan),
            Start::Yes => self.pass_unit(cx, plan),
            Start::No => self.wait(cx, false),
            Start::Later(step) => step,
        }
    }

    /// Sends a read to a standby, if there is one that it can go to.
    fn read_somewhere(&mut self, cx: &mut Context<'_>, plan: Plan) -> Step {
        match self.whither(plan.bytes) {
            Whither::Asked(step) => return step,
            Whither::Waits => {
                self.door.release();
                if let Some(guard) = &mut self.guard {
                    guard.waits = true;
                }
                return Step::Moved;
            }
            Whither::Standby => self.go_away(plan.bytes),
            Whither::Server => {}
        }
        self.pass_unit(cx, plan)
    }

    /// Sends the unit to the server.
    fn pass_unit(&mut self, cx: &mut Context<'_>, plan: Plan) -> Step {
        self.go_on();
        if plan.bytes == 0 {
            return Step::Stuck;
        }
        if !plan.may_go_away {
            self.forget_what_is_held();
        }
        self.again = plan
            .again
            .filter(|_from| self.tracker.at_boundary())
            .map(|from| Again::for_write(&self.kept[..plan.bytes], from));
        let declared = plan.declares;
        let outside = plan.stand == Stand::Outside;
        if let Some(guard) = &mut self.guard {
            guard.flushed = false;
            guard.declared = if outside { declared } else { guard.declared };
            plan.notes
                .into_iter()
                .for_each(|note| guard.names.note(note));
        }
        let busy = self.tracker.is_busy();
        let began = self.tracker.at_boundary();
        let step = self.let_pass(cx, plan.bytes);
        let permit = self.door.has_permit();
        let after = (permit, self.tracker.is_busy());
        note_start(&self.session, (permit && !began, busy), after);
        step
    }

    /// Answers the unit in the server's stead. What comes in front of its first Bind goes to the server,
    /// with an end of ours.
    fn answer_unit(&mut self, cx: &mut Context<'_>, plan: Plan) -> Step {
        if plan.front > 0 && !self.may_inject() {
            return Step::Stuck;
        }
        if plan.front > 0 && !self.door.has_permit() && !self.door.admit_read() {
            return self.wait(cx, false);
        }
        self.go_on();
        let rest = self.kept.split_off(plan.bytes);
        let mut unit = std::mem::replace(&mut self.kept, rest);
        unit.truncate(plan.front);
        let Some(guard) = &mut self.guard else {
            return Step::Moved;
        };
        plan.notes
            .into_iter()
            .for_each(|note| guard.names.note(note));
        if unit.is_empty() {
            guard.block = plan.block;
            self.ours.extend_from_slice(&plan.answers);
            self.note_activity();
            return Step::Moved;
        }
        guard.unsaid = Some(Unsaid {
            answers: plan.answers,
            block: plan.block,
        });
        self.send_front(&unit)
    }

    /// Fails the batch that the server is in the middle of.
    fn fail_batch_of_unit(&mut self) -> Step {
        let unflushed = self.tracker.waits() == Some(Waits::Unflushed);
        let Some(guard) = &mut self.guard else {
            return Step::Moved;
        };
        if unflushed {
            if !std::mem::replace(&mut guard.flushed, true) {
                self.to_server.push(&crate::wire::frontend::FLUSH);
                return Step::Moved;
            }
            return Step::Stuck;
        }
        self.fail_batch_for_write()
    }
}
