"""The faults: what each of these lines is for stands in its name, and the test that would miss it is named."""

from __future__ import annotations

from tests.contract.drivers import MYSQL, POSTGRES
from tests.planted.planting import Fault

COMMAND, LEFT, WILL, GATE = (
    f"process/test_{name}.py::test_" for name in ("the_command", "nobody_is_left", "the_will", "the_gate")
)
CONTRACT = "contract/test_store_contract.py::test_the_contract"
EXPECTED = f"{CONTRACT}[only_the_expected_version_is_replaced-"
FENCING = "contract/test_fencing.py::test_"
RELEASES = "contract/test_wills.py::test_a_will_releases_exactly_this_members_term[sqlite]"
SLOW_DEATH = f"{WILL}it_waits_while_one_process_takes_long_to_die[walk]"
SOMEBODY_LEFT = r"not within 10 s: .*the end of \{\d"

FAULTS = (
    # ---- the guard ----
    Fault("the guard does not kill at the end of the lease", "guard/guard.py",
          "if now >= self.kill_at:", "if False:",
          f"{COMMAND}a_renewal_after_its_term_takes_nothing_back", "== <Why.LEASE_OVER"),
    Fault("the guard goes on when its member is gone", "guard/guard.py",
          "self.tree.kill(Why.MEMBER_GONE)", "pass",
          f"{LEFT}killed_with_9[member-walk]", SOMEBODY_LEFT),
    Fault("the guard kills its child and not what is below", "guard/proof.py",
          "self.processes.strike(os.getpid(), group=self.group)", "[]",
          f"{LEFT}killed_with_9[command-walk]", SOMEBODY_LEFT),
    Fault("the guard takes the end of its child for the proof", "guard/proof.py",
          "gone = self.reap() and (", "gone = (self.reap() or not self.main) and (",
          SLOW_DEATH, "not proved, and released|not within 10 s: all else to end"),
    Fault("the guard is no subreaper", "guard/guard.py",
          "    os.setsid()\n    processes.become_subreaper()\n", "    os.setsid()\n",
          SLOW_DEATH, "not proved, and released|not within 10 s: all else to end"),
    Fault("a command is started with a lease that is over", "guard/guard.py",
          " or boottime() >= limit_at:", ":",
          f"{COMMAND}a_start_that_comes_too_late_is_refused", r"assert -15 is None"),
    Fault("a gate is opened for a lease that is over", "guard/guard.py",
          " and boottime() < min(term_at, kill_at):", ":",
          f"{GATE}a_gate_is_not_opened_for_a_lease_that_is_over", "Why.LEASE_ENDING.* is <Why.NOT_AT_GATE"),
    Fault("a renewal takes back the TERM of its lease", "guard/guard.py",
          ' < message["kill_at"] and not self.losing:', ' < message["kill_at"]:',
          f"{COMMAND}a_renewal_after_its_term_takes_nothing_back", r"kill_at <= gone\[.at.\] < kill_at \+ 0\.2"),
    Fault("a command that stands still is not woken to hear TERM", "guard/guard.py",
          "signal.SIGTERM, signal.SIGCONT", "signal.SIGTERM",
          f"{COMMAND}an_orderly_stop_wakes_a_stopped_command", "'stop timeout'"),
    # ---- who stands beside it ----
    Fault("the backstop keeps no deadline", "guard/backstop.py",
          "deadline, late = value, False", "deadline, late = None, False",
          f"{LEFT}a_frozen_guard_whose_member_is_killed", SOMEBODY_LEFT),
    Fault("the backstop leaves what its guard left", "guard/backstop.py",
          "        processes.strike(os.getpid())\n", "",
          f"{LEFT}killed_with_9[guard+member-walk]", SOMEBODY_LEFT),
    Fault("the command outlives its guard", "guard/processes.py",
          "libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)", "pass",
          f"{LEFT}the_command_dies_with_its_guard_though_nobody_else_can_act", "not within 2 s: the end of the command"),
    Fault("the member does not strike beside a frozen guard", "member/guard_link.py",
          "if now >= self._kill_at + self._strike_after_s and not self._struck_late:", "if False:",
          f"{COMMAND}a_frozen_guards_command_is_struck_when_the_timings_say", "not within 5 s: the command's end"),
    Fault("a member that lost its guard says gone without a proof", "member/sweep.py",
          "self._clean = 0 if left else self._clean + 1", "self._clean += 1",
          f"{WILL}a_member_whose_guard_is_lost_says_gone_when_nobody_is_left", "not proved, and told"),
    Fault("a gate that cannot be read opens", "alone/gate.py",
          'raise SystemExit(f"heirflow: the gate cannot be read, so it stays shut: {error}") from error', "return {}",
          f"{GATE}a_gate_that_says_anything_else_stays_shut[no JSON]", r"assert not gate\.out\.exists\(\)"),
    # ---- the will ----
    Fault("no will is carried out", "guard/guard.py",
          "if not self.leaving:", "if False:",
          f"{LEFT}killed_with_9[member-walk]", "assert 'me' is None"),
    Fault("the will is carried out while the command lives", "guard/will_sender.py",
          '.encode() + b"\\n"\n', '.encode() + b"\\ngo\\n"\n',
          SLOW_DEATH, "not proved, and released"),
    Fault("the will's helper does not wait for its word", "alone/will_helper.py",
          'lines.next() != b"go"', 'lines.next() == b"stop"',
          f"{WILL}without_go_it_does_nothing", r"\(b'released\\n', 0\) == \(b'', 0\)"),
    Fault("a will goes on when there is nothing to release", "alone/will_helper.py",
          "if index == 0 and cursor.rowcount < 1:", "if False:",
          f"{WILL}a_record_that_moved_on_is_left_alone", r"b'released\\n' == b'nothing to release\\n'"),
    Fault("a stranger's term is released by the will", "stores/sql/statements.py",
          'e.leader == bindparam("p_leader"), e.term == bindparam("p_term")', 'e.term == bindparam("p_term")',
          RELEASES, "term 3 of b was released by the will of a's term 3"),
    Fault("another term is released by the will", "stores/sql/statements.py",
          'e.leader == bindparam("p_leader"), e.term == bindparam("p_term")', 'e.leader == bindparam("p_leader")',
          RELEASES, "term 2 of a was released by the will of a's term 3"),
    # ---- the record in the database ----
    Fault("a swap asks for no version", "stores/sql/statements.py",
          'e.version == bindparam("p_expected")', 'sa.or_(e.version == bindparam("p_expected"), e.version > 0)',
          f"{EXPECTED}sqlite]", "a swap that expected 0 won over version 1"),
    Fault("a swap does not count its rows", "stores/sql/store.py",
          "if changed != 1:", "if changed < 0:",
          f"{EXPECTED}sqlite]", "a swap that expected None won over version 1"),
    Fault("the first record replaces another on SQLite", "stores/sql/sqlite.py",
          "sqlite.insert(table).on_conflict_do_nothing()", 'sqlite.insert(table).prefix_with("OR REPLACE")',
          f"{EXPECTED}sqlite]", "a swap that expected None won over version 1"),
    Fault("the first record replaces another on PostgreSQL", "stores/sql/postgres.py",
          ".on_conflict_do_nothing()", '.on_conflict_do_update(index_elements=["name"], set_={"term": 0})',
          f"{EXPECTED}{POSTGRES[0]}]", "a swap that expected None won over version 1"),
    Fault("the first record replaces another on MariaDB", "stores/sql/mysql.py",
          '.prefix_with("IGNORE")', ".on_duplicate_key_update(leader=sa.func.values(table.c.leader))",
          f"{EXPECTED}{MYSQL[0]}]", r"lost\.record\.leader == .a."),
    Fault("a database file that was taken away is written on", "stores/sql/sqlite.py",
          "        except OSError:\n            return True\n", "        except OSError:\n            return False\n",
          "contract/test_trouble.py::test_a_sqlite_file_that_was_taken_away_is_never_made_again", "DID NOT RAISE"),
    Fault("what an adoption left half done stays", "stores/sql/taking.py",
          "        savepoint.rollback()\n", "        savepoint.commit()\n",
          "contract/test_taking.py::test_what_fails_is_told_taken_back_and_spoils_nothing[sqlite-fails_in_python]",
          "'half done' == 'a took charge'"),
    # ---- the line in the database ----
    Fault("a check-in does not move its stamp", "stores/sql/statements.py",
          "self.touch = member.update().where(mine).values(checked_in_at=now, ", "self.touch = member.update().where(mine).values(",
          f"{CONTRACT}[a_check_in_moves_the_stamp_and_not_the_place-sqlite]", r"assert after\.stamp > before\.stamp"),
    Fault("a check-in is stamped by the host's clock", "stores/sql/statements.py",
          "values(checked_in_at=now, **said)",
          'values(checked_in_at=bindparam("p_host", callable_=lambda: __import__("time").time()), **said)',
          "contract/test_the_tables.py::test_every_instant_is_by_the_databases_clock[sqlite]", r"'checked in': 3[56]\d\d\."),
    # ---- fencing ----
    Fault("whoever takes charge ends no session", "stores/sql/postgres.py",
          "return self._fence.end(conn, election, leader, term, wait_s)", "return ()",
          f"{FENCING}they_are_gone_before_the_swap_is_told_as_won", "'8' == '0'"),
    Fault("whoever takes charge does not wait for the end of sessions", "stores/sql/fence.py",
          "wait_s) if wait_s else 0", "wait_s) if False else 0",
          f"{FENCING}a_session_that_does_not_end_is_waited_for_and_told", "did not end within 0.3 s"),
)  # fmt: skip
