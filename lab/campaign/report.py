"""What a run came to: tables for people, one object for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lab.campaign.judging import BACK_LIMIT_S, ELECTION_S, Verdict, spread
from lab.campaign.plan import COORDINATORS, PAIRS
from lab.campaign.taking_over import TAKEOVER_S

FENCED = {
    "postgres": True, "mariadb": False, "seats": True, "etcd": False, "zookeeper": False, "patroni": True, "patroni-async": True,
}  # fmt: skip


def summary(
    verdicts: Sequence[Verdict],
    troubles: Sequence[str],
    *,
    seed: int,
    only: str | None = None,
    stalls: Sequence[float] = (),
    stolen_s: float = 0.0,
) -> dict[str, Any]:
    """The whole run as plain data. `stalls`: how long the machine itself stood still, each time. `stolen_s`: see `Machine`."""
    faults: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for verdict in verdicts:
        faults.update(verdict.faults)
        skipped.update(verdict.skipped)
    backs = [back for verdict in verdicts for back in verdict.backs]
    return {
        "seed": seed,
        "seconds": round(max((v.to_s for v in verdicts), default=0) - min((v.from_s for v in verdicts), default=0), 1),
        "faults": sum(faults.values()),
        "terms": sum(verdict.terms for verdict in verdicts),
        "overlaps": sum(len(verdict.overlaps) for verdict in verdicts),
        "orphans": sum(len(verdict.orphans) for verdict in verdicts),
        "lost_events": sum(len(verdict.lost_events) for verdict in verdicts),
        "thaws": _overlaps([o.lasted_s for verdict in verdicts for o in verdict.thaws]),
        "back": {
            "limit_s": BACK_LIMIT_S,
            "judged": len(backs),
            "unjudged": sum(verdict.unjudged for verdict in verdicts),
            "late": sum(back.late for back in backs),
            "late_with_the_machine": sum(back.late and not back.broken for back in backs),
            "max_s": round(max((back.after_s for back in backs), default=0), 3),
        },
        "takeovers": {
            "limit_s": TAKEOVER_S,
            "count": sum(len(verdict.takeovers) for verdict in verdicts),
            "max_s": round(max((one.lasted_s for verdict in verdicts for one in verdict.takeovers), default=0), 3),
        },
        "without_a_majority": {
            "longer_than_a_ttl": sum(verdict.silences for verdict in verdicts),
            "alive_after_it": sum(red.promise == "dead in time" for verdict in verdicts for red in verdict.red),
        },
        "worlds": {
            world: {
                "faults": sum(sum(v.faults.values()) for v in mine),
                "fenced": FENCED[world],
                "back_max_s": round(max((back.after_s for v in mine for back in v.backs), default=0), 3),
                "rows": sum(v.rows for v in mine),
                "rows_of_a_deposed_term": sum(v.deposed_rows for v in mine),
                "rows_after_its_own_release": sum(v.released_rows for v in mine),
                "rows_of_a_forgotten_term": sum(v.forgotten_rows for v in mine),
            }
            for world in sorted({verdict.world for verdict in verdicts})
            for mine in [[verdict for verdict in verdicts if verdict.world == world]]
        },
        "kinds": {kind: _kind(kind, verdicts) for kind, _ in faults.most_common()},
        "skipped": dict(skipped),
        "red": [
            {"promise": red.promise, "sentence": red.sentence, "replay": replay(verdict.world, seed, red.number, only)}
            for verdict in verdicts
            for red in verdict.red
        ],
        "a_member_at_most": {
            name: max(verdict.most.get(name, 0) for verdict in verdicts)
            for name in ("descriptors", "threads", "resident_mb")
        }
        if verdicts
        else {},
        "machine_stood_still": {"count": len(stalls), "max_s": max(stalls, default=0.0)},
        "hypervisor_stole_s": round(stolen_s, 1),
        "troubles": list(troubles),
    }


def _overlaps(lasted: Sequence[float]) -> dict[str, float]:
    return {"count": len(lasted), "max_ms": round(1000 * max(lasted, default=0), 1)}


def _kind(kind: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    lasted = [gap.lasted_s for verdict in verdicts for gap, cause in verdict.gaps if cause == kind]
    backs = [back.after_s for verdict in verdicts for back in verdict.backs if back.mark.kind == kind]
    return {
        "count": sum(verdict.faults[kind] for verdict in verdicts),
        "overlaps": sum(_overlaps_after(kind, verdict) for verdict in verdicts),
        "gaps": len(lasted),
        "gap_median_s": round(spread(lasted)[0], 3),
        "gap_max_s": round(spread(lasted)[1], 3),
        "back_max_s": round(spread(backs)[1], 3),
        "late": sum(back.late for verdict in verdicts for back in verdict.backs if back.mark.kind == kind),
    }


def _overlaps_after(kind: str, verdict: Verdict) -> int:
    """How many overlaps came after a fault of this kind."""
    kinds = {mark.number: mark.kind for mark in verdict.marks}
    return sum(red.promise == "overlap" and kinds.get(red.number) == kind for red in verdict.red)


def replay(world: str, seed: int, number: int, only: str | None = None) -> str:
    """What to type to play this fault again, with those before it that may have had a part."""
    first = max(1, number - 2)
    which = f"--world {world} --seed {seed} --first {first} --faults {number - first + 1}"
    kinds = f" --only '{only}'" if only else ""
    return f"python -m lab.campaign {which}{kinds} --again 10"


def text(facts: dict[str, Any]) -> str:
    """The same for people."""
    back = facts["back"]
    minutes = facts["seconds"] / 60
    lines = [
        f"{facts['faults']} faults in {minutes:.1f} min (seed {facts['seed']}); {facts['terms']} terms with a command",
        f"overlaps {facts['overlaps']}, orphans {facts['orphans']}, lost events {facts['lost_events']}",
        *(_rows(world, its) for world, its in facts["worlds"].items()),
        (
            f"somebody led again within {back['limit_s']:g} s{_more(facts)} after {back['judged'] - back['late']} of "
            f"{back['judged']} strikes and healings that left one member and the store able; "
            f"the longest took {back['max_s']:.2f} s; "
            f"{back['late_with_the_machine']} of the others were late because the machine itself was; "
            f"after {back['unjudged']} faults nothing could be said, as the next came at once"
        ),
    ]
    for name, words in (("thaws", "whole hosts that woke beside their successor (fencing's business)"),):
        if facts[name]["count"]:
            lines.append(f"{facts[name]['count']} {words}, at most {facts[name]['max_ms']:.0f} ms")
    if silences := facts["without_a_majority"]["longer_than_a_ttl"]:
        alive = facts["without_a_majority"]["alive_after_it"]
        lines.append(f"{_which(facts)} for longer than a ttl {silences} times; commands alive then: {alive}")
    if (taken := facts["takeovers"])["count"]:
        lines.append(
            f"a Patroni pair took writes again {taken['count']} times, at the latest {taken['max_s']:.2f} s after the strike "
            f"(of {taken['limit_s']:g} s)"
        )
    if most := facts["a_member_at_most"]:
        lines.append(
            f"a member had at most {most['descriptors']} descriptors, {most['threads']} threads, {most['resident_mb']} MB resident"
        )
    if (still := facts["machine_stood_still"])["count"]:
        lines.append(f"the machine itself stood still {still['count']} times, at most {still['max_s']:.2f} s")
    if stolen_s := facts["hypervisor_stole_s"]:
        lines.append(f"the hypervisor gave this machine's processors to others for {stolen_s:.0f} s in all")
    lines += ["", "nobody ran the command, by the fault before it", *_table(facts["kinds"])]
    if facts["skipped"]:
        lines += ["", "not carried out", *(f"  {count} times: {why}" for why, count in facts["skipped"].items())]
    for red in facts["red"][:20]:
        lines += ["", f"RED {red['promise']}: {red['sentence']}", f"    replay: {red['replay']}"]
    if len(facts["red"]) > 20:
        lines.append(f"… and {len(facts['red']) - 20} more (--json)")
    lines += [f"TROUBLE of the laboratory itself: {trouble}" for trouble in facts["troubles"]]
    return "\n".join(lines)


def _more(facts: dict[str, Any]) -> str:
    """What ensembles are given on top."""
    more = [f"{ELECTION_S[world]:g} s for an election in {world}" for world in facts["worlds"] if world in ELECTION_S]
    return f" (and {' or '.join(more)})" if more else ""


def _which(facts: dict[str, Any]) -> str:
    """Who can be without those that confirm."""
    away = ["an ensemble was without most of its servers"] if set(facts["worlds"]) - set(PAIRS) else []
    return " or ".join([*away, *(["a pair was without a primary"] if set(facts["worlds"]) & set(PAIRS) else [])])


def _rows(world: str, its: dict[str, Any]) -> str:
    if world in COORDINATORS:
        return f"{world}: {its['faults']} faults; its commands write no rows, as there is no database to take them"
    fence = "" if its["fenced"] else " (lease only: no fence there)"
    return (
        f"{world}: {its['faults']} faults; of {its['rows']} rows the database took {its['rows_of_a_deposed_term']} from a deposed "
        f"term{fence}, {its['rows_after_its_own_release']} in flight after a release"
    )


def _table(kinds: dict[str, Any]) -> list[str]:
    rows = [("fault", "strikes", "overlaps", "gaps", "median", "max", "back at latest", "late")]
    rows += [
        (
            kind, str(its["count"]), str(its["overlaps"]), str(its["gaps"]), f"{its['gap_median_s']:.2f} s" if its["gaps"] else "",
            f"{its['gap_max_s']:.2f} s" if its["gaps"] else "", f"{its['back_max_s']:.2f} s", str(its["late"]),
        )
        for kind, its in kinds.items()
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  " + "  ".join(f"{word:{'>' if n else '<'}{widths[n]}}" for n, word in enumerate(row)) for row in rows]
