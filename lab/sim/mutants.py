"""Mutants: each takes one safety line away, and the simulation must notice. A simulator that catches nothing is broken.

A mutant replaces words in the source of one real function. When the words are not there any more it fails loudly, so that
no mutant silently becomes a copy of the healthy rules. It names what its line promises, and only that counts as caught.
Where another layer would hide the loss of a line, that layer is taken away too, and the same world without the mutant must
be clean.
"""

from __future__ import annotations

from heirflow.election import answers, asking, endings, invariants, line, news, rules, seats, timings
from lab.sim import forgetful, process, register, scenes, supervision
from lab.sim.hunting import Mutant, Patch
from lab.sim.promises import Promise
from lab.sim.world import World


def _nobody_strikes(world: World) -> None:
    world.member_strikes = False
    world.judge.slack_s = max(timings.kill_lead_s for timings in world.timings)


def _frozen_starts(world: World) -> None:
    world.frozen_starts = 0.5


OUTAGES = ("store down", "all cut", "answers cut", "store read-only")
FREEZES = ("member frozen", "guard frozen", "host frozen", "freeze before acting", *OUTAGES)
STUBBORN = ("stubborn commands", "stubborn commands", *OUTAGES)
RESTORED = ("backup restored", "switchover to anyone", "both killed", "command exits", "store restarted")
FORGETS = ("fails over",) * 4 + (
    "both killed",
    "switchover to anyone",
    "command exits",
    "command exits",
    "asked to stop",
    "joins",
)
HANGS = ("a start hangs",) * 4 + ("command exits",) * 3
VACATED = ("both killed", "both killed", "member frozen", "host frozen", "all cut", "not ready")
FORGOTTEN: tuple[Promise, ...] = ("who may be forgotten has its whole lease", "never two")
GONE_TOO_SOON: tuple[Promise, ...] = (
    "release only when gone", "take only when the own command is gone", "never two", "never an orphan",
)  # fmt: skip
NOBODY_STANDS: tuple[Promise, ...] = ("always one, soon", "an heir stands")
NO_DEADLINE = (
    Patch(supervision, "Guard.look", "if now >= self.kill_at:", "if False:"),
    Patch(supervision, "Guard._look_again", "min(self.kill_at, ", "min("),
)

MUTANTS = (
    # ---- trusting ----
    Mutant("trust is counted from the reply", "dead by the end of trust", (
        Patch(answers, "_outcome", "trusted_until = ask.asked_at +", "trusted_until = state.read_at +"),)),
    Mutant("trust has no margin", "dead by the end of trust", (
        Patch(answers, "_outcome", "swap.record.ttl_s - timings.margin_s", "swap.record.ttl_s"),)),
    Mutant("the kill comes at the end of trust, not before it", "dead by the end of trust", (
        Patch(timings, "Timings.moments", "trusted_until - self.kill_lead_s", "trusted_until"),), only=STUBBORN),
    Mutant("a late answer counts for the question that is asked now", "dead by the end of trust", (
        Patch(answers, "answered", "ask is None or ask.serial != event.serial", "ask is None"),),
        only=("slow link", "lossy link", "slow link")),
    Mutant("a renewal extends the lease before it is confirmed", "dead by the end of trust", (
        Patch(rules, "_ask", "(Send(ask),)",
              "(Send(ask), *((answers.ExtendLease(*timings.moments(now + timings.trust_s)),)"
              " if not state.idle else ()))"),)),
    Mutant("a lost swap is taken for a won one", "dead by the end of trust", (
        Patch(answers, "_outcome", "if reading.swapped and swap is not None and not elsewhere:", "if swap is not None:"),)),
    Mutant("the command is started with an old lease", "dead by the end of trust", (
        Patch(rules, "_start", "if not can or now >= term_at:", "if not can:"),), only=FREEZES),
    Mutant("the end of trust is not watched", "dead by the end of trust", (
        Patch(rules, "_end_of_trust", "now < lead.trusted_until", "True"),),
        only=STUBBORN, without=NO_DEADLINE, prepare=_nobody_strikes),
    Mutant("a frozen guard's deadline is not kept by its member", "dead by the end of trust", (
        Patch(process, "MemberProcess.watch_deadline", "not guard.frozen or", "True or"),),
        only=("guard frozen", "guard frozen", *STUBBORN)),
    Mutant("a frozen guard's member strikes too late", "dead by the end of trust", (
        Patch(process, "MemberProcess.watch_deadline", "self.timings.strike_after_s", "self.timings.kill_lead_s * 1.5"),),
        only=("guard frozen", "guard frozen", *STUBBORN)),
    Mutant("a stopped command is not killed", "dead by the end of trust", (
        Patch(supervision, "CommandProcess.kill", "self.frozen = False", "pass"),),
        only=("command frozen",) * 4 + ("member killed", "member killed")),
    Mutant("a guard that was thawed late does not look at its clock", "thawed late, it is killed at once", (
        Patch(supervision, "Guard.look", "if now >= self.kill_at:", "if now >= self.kill_at and not command.late:"),
        Patch(supervision, "Guard._look_again", "min(self.kill_at, ",
              "min(FOREVER if self.command and self.command.late else self.kill_at, ")),
        only=("host frozen",) * 4 + ("stubborn commands",) * 2,
        without=(Patch(rules, "_end_of_trust", "now < lead.trusted_until", "True"),)),
    # ---- waiting ----
    Mutant("an heir waits 0.6 ttl", "a silent leader has its whole lease", (
        Patch(line, "over_at", "seat.watch_since + ttl_s", "seat.watch_since + 0.6 * ttl_s"),)),
    Mutant("an heir waits its own ttl, not the record's", "a silent leader has its whole lease", (
        Patch(line, "over_at", "seat.watch_since + ttl_s", "seat.watch_since + timings.ttl_s"),),
        only=("member frozen", "host frozen", "all cut", "both killed")),
    Mutant("a renewal that is seen does not restart the wait", "a silent leader has its whole lease", (
        Patch(answers, "_seen", "watched = same and unbroken", "watched = unbroken"),)),
    Mutant("a failed read does not restart the wait", "after an outage the leader has its chance first", (
        Patch(answers, "not_answered", "seat=replace(_not_taken(state, now, timings), watch_since=None),", ""),),
        only=("lossy link", "both killed", *OUTAGES)),
    Mutant("a gap in the own reading does not restart the wait", "after an outage the leader has its chance first", (
        Patch(answers, "answered", "now - state.read_at <= timings.fresh_s", "True"),), only=("member frozen", "both killed")),
    # ---- releasing and taking ----
    Mutant("the record is released before the command is gone", "release only when gone", (
        Patch(asking, "wish", "if state.idle and (ending", "if (ending"),
        Patch(asking, "_release", "    assert state.idle,", "    assert True,"))),
    Mutant("a member takes charge while its own last command lives", "take only when the own command is gone", (
        Patch(asking, "wish", "if state.known and state.idle:", "if state.known:"),),
        without=(Patch(line, "is_ready", "and state.stop is None", ""),),
        only=("backup restored",) * 6 + ("asked to stop", "stubborn commands") * 3),
    Mutant("a swap does not ask for the version", "legal records", (
        Patch(register, "SimStore.exchange", "swapped = here and swap.expected ==", "swapped = bool(swap) or swap.expected =="),)),
    Mutant("a deposed leader does not kill", "a deposed leader kills at once", (
        Patch(answers, "_over", "with_stop(state, Stop(Then.LOST, sentence)), (KillCommand(),)",
              "with_stop(state, Stop(Then.LOST, sentence)), ()"),), only=RESTORED),
    Mutant("the guard says gone before it is proved", GONE_TOO_SOON, (
        Patch(supervision, "CommandProcess.kill", "self.dying = True",
              "self.dying = True; self.guard.reap(self, -9, because)"),)),
    Mutant("a guard that was thawed late says gone before it is proved", GONE_TOO_SOON, (
        Patch(supervision, "CommandProcess.kill", "self.dying = True",
              "self.dying = True; self.late and self.guard.reap(self, -9, because)"),),
        only=("host frozen",) * 4 + ("asked to stop",) * 2),
    Mutant("the will is carried out without proof", "release only when gone", (
        Patch(supervision, "Guard.end_of_file", "self.orphaned = True",
              "self.orphaned = True; self.member.world.network.will(self.member, self.will_term or 0)"),),
        only=("member killed", "member killed", "stubborn commands")),
    Mutant("a guard does not kill when its member is gone", "never an orphan", (
        Patch(supervision, "Guard.end_of_file", 'self.command.kill("the member is gone")', "pass"),), only=("member killed",)),
    Mutant("the guard's deadline is ignored", "dead by the end of trust", NO_DEADLINE, only=STUBBORN),
    Mutant("a guard starts a command whose lease is over", "dead by the end of trust", (
        Patch(supervision, "Guard._start", "if now >= act.term_at:", "if False:"),),
        only=("command exits", "command exits"), prepare=_frozen_starts),
    # ---- terms ----
    Mutant("a record from a restored backup gives the right to lead", "a silent leader has its whole lease", (
        Patch(line, "gives_no_right", "record.term < seat.highest_term or ", ""),), only=RESTORED),
    Mutant("a new term is one more than the record's, not than any seen", "terms only grow", (
        Patch(asking, "_last_term", "max(seat.highest_term, seat.record.term if seat.record else 0)",
              "(seat.record.term if seat.record else 0)"),),
        only=RESTORED),
    Mutant("a leader renews whatever term names it", "terms only grow", (
        Patch(asking, "holds", " and record.term == state.term", ""),), only=RESTORED,
        without=(Patch(invariants, "check", "assert record.term == lead.term,", "assert True,"),)),
    # ---- histories ----
    Mutant("a vacant record from before a fail-over is taken at once", FORGOTTEN, (
        Patch(line, "over_at", "forgotten = seat.doubtful or ", "forgotten = "),), only=FORGETS),
    Mutant("a record from before a fail-over is taken for one of now", FORGOTTEN, (
        Patch(answers, "_doubtful", "_moved(before, reading) or line.is_foreign(record, here)", "False"),), only=FORGETS),
    Mutant("who is named from before a fail-over leads at once", FORGOTTEN, (
        Patch(line, "gives_no_right", " or seat.doubtful", ""),), only=FORGETS),
    Mutant("who waits after a fail-over waits the ttl of the record only", FORGOTTEN, (
        Patch(line, "over_at", "max(ttl_s, seat.longest_ttl_s, timings.ttl_s) if forgotten else ttl_s",
              "record.ttl_s if record else timings.ttl_s"),), scene=forgetful.a_longer_lease_is_forgotten),
    Mutant("another server does not restart the wait", FORGOTTEN, (
        Patch(answers, "_seen", " and not _moved(seat, reading)", ""),), only=FORGETS),
    Mutant("a leader whose trust had ended goes on after a fail-over", "never two", (
        Patch(answers, "_goes_on", "within = isinstance(lead, Leading) and now < lead.trusted_until", "within = True"),),
        scene=forgetful.the_lease_is_over),
    Mutant("a leader that may have released goes on after a fail-over", ("never two", "terms only grow"), (
        Patch(answers, "_goes_on", "return within and not released", "return within"),),
        scene=forgetful.the_release_is_forgotten),
    Mutant("a swap lands in whatever history", ("never two", "legal records", "terms only grow"), (
        Patch(register, "SimStore.exchange", "swap.under in {None, self.name}", "True"),),
        only=(*FORGETS, "slow link", "lossy link")),
    Mutant("a term that may be forgotten comes again", "terms only grow", (
        Patch(asking, "_last_term", "FORGOTTEN_TERMS if seat.doubtful else 0", "0"),), only=FORGETS),
    # ---- seats ----
    Mutant("a member takes a second seat", ("one seat each", "take only when the own command is gone"), (
        Patch(seats, "choose",
              "free = isinstance(state.seat.lead, Following) and state.idle and state.ask is None\n"
              "    if not free or not state.others or names(state, state.seat):",
              "if state.ask is not None or not state.others:"),
        Patch(seats, "look_at", "tuple(seat for seat in", "tuple(replace(seat, lead=Following()) for seat in"),
        Patch(line, "line", "and row.id not in holders", "and (row.id == state.me or row.id not in holders)"),
        Patch(asking, "wish", "if state.known and state.idle:", "if state.known:"),
        Patch(invariants, "check", "assert state.idle or state.losing,", "assert True,")), seats=2),
    Mutant("a seat is taken by the watch of another", "a silent leader has its whole lease", (
        Patch(line, "over_at", "return seat.watch_since + ttl_s",
              "return min(each.watch_since or seat.watch_since for each in state.all_seats) + ttl_s"),), seats=2),
    Mutant("a seat that was made vacant counts as a renewal of the own one", "dead by the end of trust", (
        Patch(answers, "_outcome", "if ask.purpose is Purpose.VACATE:",
              "if ask.purpose is Purpose.VACATE:\n"
              "            trusted_until = ask.asked_at + 3 * swap.record.ttl_s\n"
              "            state = with_lead(state, Leading(state.term or 0, trusted_until))\n"
              "            acts = (ExtendLease(*timings.moments(trusted_until)),)"),),
        only=("both killed", "both killed", "store down"), seats=2),
    Mutant("a leader vacates a seat whose leader is not silent yet", "a silent leader has its whole lease", (
        Patch(seats, "to_vacate", "now >= line.over_at(state, seat, timings) and ", ""),), seats=2),
    Mutant("a leader vacates a seat whose holder is next in line itself", "a seat with an heir is not vacated", (
        Patch(seats, "to_vacate", "(next_itself or line.heirs(", "(False or line.heirs("),), only=VACATED, seats=2),
    Mutant("a leader vacates a seat though an heir stands", "a seat with an heir is not vacated", (
        Patch(seats, "to_vacate", "and nobody:", ":"),), only=VACATED, seats=2),
    Mutant("fewer seats: the holder goes on", "no more lead than there are seats", (
        Patch(rules, "_obey", "elif state.seat.number > state.seats:", "elif False:"),), only=("fewer seats",) * 2, seats=2),
    Mutant("a paused seat is vacated", "paused: nobody changes place", (
        Patch(seats, "to_vacate", "record.paused or ", ""),
        Patch(line, "over_at", "(record is not None and record.paused)", "False")), only=("paused", "both killed") * 2, seats=2),
    Mutant("a swap replaces the record of the first seat", "always one, soon", (
        Patch(asking, "_over", "under=here, seat=seat, expected_term", "under=here, expected_term"),), seats=2),
    # ---- the line and orders ----
    Mutant("paused is ignored by heirs", "paused: nobody changes place", (
        Patch(line, "over_at", "(record is not None and record.paused)", "False"),)),
    Mutant("paused is ignored by a leader with an order to switch over", "paused: nobody changes place", (
        Patch(rules, "_obey", "if state.stop is not None or record.paused:", "if state.stop is not None:"),)),
    Mutant("paused is ignored by a leader that has stopped for another", "paused: nobody changes place", (
        Patch(rules, "_obey", "if record.paused and state.idle", "if False and state.idle"),),
        only=("paused a while", "paused", "switchover to anyone", "switchover to anyone", "stubborn commands")),
    Mutant("silence keeps its seniority", "silence loses seniority", (
        Patch(asking, "compose", "now - state.checked_in_at > timings.ttl_s", "False"),)),
    Mutant("everybody tries at once", ("the oldest ready takes charge", "a switchover reaches the named member"), (
        Patch(line, "turns", "sum(turns_s[place:])", "0.0"),), scene=scenes.quiet),
    Mutant("a named heir that checks in rarely is given as long as others", "a switchover reaches the named member", (
        Patch(line, "_turn_s", "(row.check_in_s or 0.0) if named else 0.0", "0.0"),), scene=scenes.a_quick_leader_has_a_slow_heir),
    Mutant("the youngest goes first", "the oldest ready takes charge", (
        Patch(line, "line", "row.seniority)", "-row.seniority)"),), scene=scenes.quiet),
    Mutant("a named successor does not go first", "a switchover reaches the named member", (
        Patch(line, "line", "row.id not in chosen, ", ""),), scene=scenes.quiet),
    Mutant("a leader judges an heir that checks in rarely by its own interval", "a switchover reaches the named member", (
        Patch(line, "is_heard", " or silent_s <= fresh_s(row.check_in_s or 0.0)", ""),),
        scene=scenes.a_quick_leader_has_a_slow_heir),
    Mutant("a leader stops when it sees somebody older", "no preemption without an order", (
        Patch(rules, "_obey", "elif state.drained and",
              "elif state.members and state.members[0].id != state.me and"),)),
    Mutant("the will forgets a switchover that was ordered", "an order outlives its leader", (
        Patch(register, "SimStore.will", "leader=None, because=because", "leader=None, because=because, switchover_to=None"),),
        scene=scenes.order_outlives_its_leader),
    Mutant("a command that does not work goes on", "who does not work is succeeded", (
        Patch(endings, "unhealthy", "if not state.working or state.withstands:", "if True:"),),
        only=("probe fails", "command frozen")),
    Mutant("who takes charge pauses the line", "orders are an operator's", (
        Patch(asking, "_take", "paused=_paused(state)", "paused=True"),)),
    Mutant("who takes charge forgets that it is paused", "orders are an operator's", (
        Patch(asking, "_take", "paused=_paused(state)", "paused=False"),), only=("paused", "paused", "paused a while", *OUTAGES)),
    # ---- always one, soon ----
    Mutant("nobody sees that a guard is there", "always one, soon", (
        Patch(rules, "_learn", "guard_up=True", "guard_up=False"),)),
    Mutant("a start that hangs is waited for without end", "always one, soon", (
        Patch(rules, "_end_of_start", "now < state.command.since + limit_s", "True"),), only=HANGS),
    Mutant("a guard that does not do as told is left alone", "always one, soon", (
        Patch(process, "MemberProcess.guard_owes_an_end", "guard.hangs", "False"),), only=HANGS),
    Mutant("a back-off never ends", NOBODY_STANDS, (
        Patch(endings, "gone", "+ back_off_s(failures, state.policy.restart_limit_s)", "+ (line.FOREVER if failures else 0.0)"),),
        only=("command exits", "command exits", "crash loop")),
    Mutant("who has released is never ready again", NOBODY_STANDS, (
        Patch(answers, "_outcome", 'without_lead(replace(state, note=""))',
              'replace(without_lead(state), note="", command=state.command)'),),
        without=(Patch(invariants, "check", "assert isinstance(lead, Leading),", "assert True,"),)),
    Mutant("a place in the line that the store forgot is not asked for again", NOBODY_STANDS, (
        Patch(asking, "compose", "(not state.joined or releasing or silent)",
              "(state.checked_in_at == -line.FOREVER or releasing or (silent and state.joined))"),),
        only=("backup restored",) * 3 + ("joins", "member killed", "member killed")),
    Mutant("who was drained once is drained for ever", NOBODY_STANDS, (
        Patch(answers, "answered", "mine is not None and mine.drained", "mine is not None and (mine.drained or state.drained)"),),
        only=("drained", "drained")),
    Mutant("a leader hands over after a while", "the leader stays", (
        Patch(rules, "_obey", "elif state.drained and",
              "elif state.working and now - state.command_since > 1.5 * timings.ttl_s and"),),
        only=("switchover to nobody",) * 4),  # once somebody ordered something, a stop counts as ordered
    Mutant("the line is read once only", "one view", (
        Patch(answers, "answered", "members=reading.members,", "members=state.members or reading.members,"),)),
    # ---- limits ----
    Mutant("a crash loop spins", "a crash loop does not spin", (
        Patch(endings, "gone", "+ back_off_s(failures, state.policy.restart_limit_s)", ""),), only=("crash loop", "crash loop")),
    Mutant("an answer is followed by the next question at once", "no hot loop", (
        Patch(answers, "answered", "max(ask.asked_at + timings.check_in_s, now)", "now"),)),
    Mutant("news is heeded whenever it comes", "no hot loop", (
        Patch(news, "heeded", "max(now, state.news_paid_s - NEWS_BURST_S)", "now"),), only=("news from anybody",)),
    Mutant("the line is asked twice within a check-in", "nearly free", (
        Patch(answers, "answered", "ask.asked_at + timings.check_in_s, now", "ask.asked_at + timings.check_in_s / 2, now"),)),
    Mutant("a failed call is tried again at once", "no hot loop", (
        Patch(answers, "not_answered", "min(timings.check_in_s, timings.check_in_s / 4", "min(0.0, 1.0"),), only=OUTAGES),
    Mutant("a release whose answer is lost is told as a loss", "explains itself", (
        Patch(answers, "_over", "if state.idle and (stop", "if holder is None and now_term == term and state.idle and (stop"),),
        only=("lossy link", "lossy link", "command exits", "command exits", "answers cut")),
    Mutant("who takes charge does not say why", "explains itself", (
        Patch(asking, "_take", "because=because,\n", "because='',\n"),)),
)  # fmt: skip
