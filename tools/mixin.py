"""Writes the alerts and the Grafana board that most people use, from deploy/mixin, which those who have Jsonnet import.

`make mixin` runs it; tests/unit/test_mixin.py fails where a file is not what it would write.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import _jsonnet
import yaml

ROOT = Path(__file__).resolve().parents[1]
MIXIN = ROOT / "deploy" / "mixin" / "mixin.libsonnet"
RULES = ROOT / "deploy" / "prometheus" / "heirflow.rules.yml"
BOARD = ROOT / "deploy" / "grafana" / "heirflow.json"

HEAD = """\
# Alerts for HeirFlow. They read `heirflow metrics` (the view of the store), `heirflow run --http` (each member's own), or both.
# docs/operations.md says what each alert means and what to do; put the address of your copy in front of runbook_url.
# Elections of the same name in several stores need a label that tells them apart, in `by (…)` too.
# `make mixin` writes this file from deploy/mixin, which also says why each rule is as it is.
"""


class Dumper(yaml.SafeDumper):
    """Expressions of several lines stay readable, and lists are indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else '"' if set(text) & set("{}: ") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, _text)


def evaluated(source: str = "") -> dict[str, Any]:
    """What the mixin has, as somebody sees it who imports it. `source`: Jsonnet that is added to it."""
    whole = f"(import {json.dumps(str(MIXIN))}) + {{ {source} }}"
    text = f"local m = {whole}; {{ alerts: m.prometheusAlerts, boards: m.grafanaDashboards }}"
    found: dict[str, Any] = json.loads(_jsonnet.evaluate_snippet("mixin", text))
    return found


def rendered() -> dict[Path, str]:
    """Every file with its text."""
    found = evaluated()
    order = ["alert", "expr", "for", "labels", "annotations"]
    for group in found["alerts"]["groups"]:
        group["rules"] = [{key: rule[key] for key in order if key in rule} for rule in group["rules"]]
        for rule in group["rules"]:
            rule["annotations"] = {key: rule["annotations"][key] for key in ("summary", "description", "runbook_url")}
    groups = [{"name": group["name"], "rules": group["rules"]} for group in found["alerts"]["groups"]]
    rules = yaml.dump({"groups": groups}, Dumper=Dumper, sort_keys=False, width=1000, allow_unicode=True)
    board = json.dumps(found["boards"][BOARD.name], indent=2, ensure_ascii=False)
    return {RULES: HEAD + rules, BOARD: board + "\n"}


def main() -> None:
    for path, text in rendered().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
