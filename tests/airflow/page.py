"""Airflow's own server with HeirFlow's page in it, and people who look: by a browser, and by bare requests."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from heirflow.demo.stage import Process
from lab.servers.servers import free_port
from tests.airflow.rig import Rig

PEOPLE = {"admin": "Admin", "viewer": "Viewer", "nobody": ""}
"""Name, which is the password too, and role. The last one has no right at all."""


MAKE_PEOPLE = """\
import json, sys
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
with get_application_builder() as builder:
    builder.sm.sync_roles()
    for name, role in json.loads(sys.argv[1]).items():
        found = builder.sm.find_role(role or "Public")
        assert builder.sm.add_user(name, name, name, name + "@example.org", found, password=name)
"""


class Served:
    """One server of Airflow's user interface. Its people: by SimpleAuthManager in 3.3, by FAB in 2.11."""

    def __init__(self, rig: Rig, path: str = "") -> None:
        """`path`: of the base URL."""
        self.rig, self.path, self.port = rig, path, free_port()
        self.new = not rig.airflow.version.startswith("2.")
        self.base = f"http://127.0.0.1:{self.port}{path}"
        self._cookies: dict[str, dict[str, str]] = {}
        self.process = self._start()

    def wait(self) -> None:
        """Until it answers."""
        self.rig.wait_for(self._answers, "Airflow's server does not answer", self.process, every_s=0.3)

    @property
    def within(self) -> str:
        """Where Airflow shows the page within its own."""
        return self.base + ("/plugin/heirflow" if self.new else "/heirflow/")

    @property
    def page(self) -> str:
        """Where the page itself is, below `base`; it ends with a slash."""
        return "/heirflow/" if self.new else "/heirflow/page/"

    def _start(self) -> Process:
        env = self.rig.env
        if self.new:
            passwords = self.rig.home / "passwords.json"
            passwords.write_text(json.dumps({name: name for name in PEOPLE}))
            env = {
                **env,
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in PEOPLE.items()),
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
                "AIRFLOW__API__BASE_URL": self.base,
                "AIRFLOW__API__SECRET_KEY": "a secret of the tests",
                "AIRFLOW__API_AUTH__JWT_SECRET": "another secret of the tests, long enough for a key of sixty-four bytes",
            }
            words = ["api-server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        else:
            env = {
                **env,
                "AIRFLOW__WEBSERVER__BASE_URL": self.base,
                "AIRFLOW__WEBSERVER__SECRET_KEY": "a secret of the tests",
                "AIRFLOW__WEBSERVER__RELOAD_ON_PLUGIN_CHANGE": "False",
            }
            words = ["webserver", "--hostname", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
            self._make_people(env)
        return self.rig.stage.start(f"ui-{self.port}", [self.rig.airflow.program("airflow"), *words], env)

    def _make_people(self, env: Mapping[str, str]) -> None:
        command = [self.rig.airflow.python, "-c", MAKE_PEOPLE, json.dumps(PEOPLE)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def _answers(self) -> bool:
        place = "/api/v2/version" if self.new else "/health"
        try:
            return self.request("GET", place)[0] == 200
        except OSError:
            return False

    # by bare requests

    def request(
        self, method: str, place: str, headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers by their names in small letters, text."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            link.request(method, self.path + place, body, dict(headers or {}))
            answer = link.getresponse()
            text = answer.read().decode("utf-8", "replace")
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            link.close()

    def cookies_of(self, name: str) -> dict[str, str]:
        """As a browser has them that has logged in; logged in once, for Airflow counts how often somebody does."""
        if name not in self._cookies:
            self._cookies[name] = self._log_in(name)
        return self._cookies[name]

    def _log_in(self, name: str) -> dict[str, str]:
        if self.new:
            said = {"username": name, "password": name}
            status, _, text = self.request(
                "POST", "/auth/token", {"Content-Type": "application/json"}, json.dumps(said)
            )
            assert status == 201, text
            return {"_token": json.loads(text)["access_token"]}
        status, headers, text = self.request("GET", "/login/")
        token = text.partition('name="csrf_token"')[2].partition('value="')[2].partition('"')[0]
        form = urlencode({"username": name, "password": name, "csrf_token": token})
        given = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": headers["set-cookie"].partition(";")[0]}
        status, headers, text = self.request("POST", "/login/", given, form)
        assert status == 302, text[:500]
        key, _, value = headers["set-cookie"].partition(";")[0].partition("=")
        return {key: value}

    def ask(self, name: str, place: str, **more: Any) -> tuple[int, dict[str, str], str]:
        """As this person; nobody who has logged in where `name` is empty."""
        cookies = self.cookies_of(name) if name else {}
        given = {"Cookie": "; ".join(f"{key}={value}" for key, value in cookies.items())} if cookies else {}
        return self.request(more.pop("method", "GET"), place, {**given, **more.pop("headers", {})}, **more)

    @contextmanager
    def stream(self, name: str, place: str) -> Iterator[http.client.HTTPResponse]:
        """What a page that lives hears."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        cookies = "; ".join(f"{key}={value}" for key, value in (self.cookies_of(name) if name else {}).items())
        try:
            link.request("GET", self.path + place, headers={"Accept": "text/event-stream", "Cookie": cookies})
            yield link.getresponse()
        finally:
            link.close()
