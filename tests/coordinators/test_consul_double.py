"""The double of Consul does what is documented of a real one; the same is asked of the one that ``CONSUL_HTTP_ADDR`` names."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from lab.servers.consul_double import ConsulDouble, consul_double


@dataclass
class Client:
    """Asks a server for keys below a folder of its own."""

    base: str
    folder: str
    double: ConsulDouble | None

    def ask(
        self, method: str, path: str, body: bytes | None = None, token: str = ""
    ) -> tuple[int, Any, Mapping[str, str]]:
        request = urllib.request.Request(f"{self.base}{path}", body, method=method)
        token = token or os.environ.get("CONSUL_HTTP_TOKEN", "")
        if token:
            request.add_header("X-Consul-Token", token)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, _read(answer.read()), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _read(error.read()), error.headers

    def kv(
        self, method: str, key: str, query: str = "", body: bytes | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        return self.ask(method, f"/v1/kv/{self.folder}/{key}?{query}", body)

    def txn(self, *operations: tuple[Any, ...]) -> tuple[int, list[Any], list[int]]:
        """Verb, key, value, index: the status, keys with values, and the numbers of what failed."""
        body = []
        for verb, key, *rest in operations:
            each = {"Verb": verb, "Key": f"{self.folder}/{key}"}
            if rest and rest[0] is not None:
                each["Value"] = base64.b64encode(rest[0]).decode()
            body.append({"KV": each | ({"Index": rest[1]} if len(rest) > 1 else {})})
        status, said, _ = self.ask("PUT", "/v1/txn", json.dumps(body).encode())
        if status not in {200, 409}:
            return status, [], []
        shown = [
            (each["KV"]["Key"].removeprefix(f"{self.folder}/"), each["KV"]["Value"]) for each in said["Results"] or ()
        ]
        return status, shown, [each["OpIndex"] for each in said["Errors"] or ()]

    def number(self, key: str) -> int:
        status, said, _ = self.kv("GET", key)
        return said[0]["ModifyIndex"] if status == 200 else 0


def _read(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode()


@pytest.fixture(scope="module", params=["double", *(["real"] if os.environ.get("CONSUL_HTTP_ADDR") else [])])
def server(request: pytest.FixtureRequest) -> Iterator[Client]:
    if request.param == "real":
        address = os.environ["CONSUL_HTTP_ADDR"]
        yield Client(address if "//" in address else f"http://{address}", f"heirflow-pins-{os.getpid()}", None)
        return
    with consul_double() as double:
        yield Client(f"http://{double.endpoint}", "pins", double)


@pytest.fixture
def client(server: Client) -> Client:
    """With nothing in its folder."""
    server.kv("DELETE", "", "recurse")
    return server


def test_an_absent_key_is_404_with_an_index(client: Client) -> None:
    status, _, headers = client.kv("GET", "a")
    assert status == 404 and int(headers["X-Consul-Index"]) > 0
    assert headers["X-Consul-KnownLeader"] == "true"
    assert client.kv("GET", "", "recurse")[0] == client.kv("GET", "", "keys")[0] == 404


def test_what_is_put_comes_back_coded_with_its_indexes(client: Client) -> None:
    assert client.kv("PUT", "a", "flags=7", b"x\0y")[:2] == (200, True)
    _, [row], headers = client.kv("GET", "a", "consistent")
    assert base64.b64decode(row["Value"]) == b"x\0y"
    assert (row["Flags"], row["LockIndex"], row["CreateIndex"]) == (7, 0, row["ModifyIndex"])
    assert row["ModifyIndex"] == int(headers["X-Consul-Index"])
    assert headers["X-Consul-LastContact"] == "0"
    client.kv("PUT", "a", "", b"z")
    _, [later], _ = client.kv("GET", "a")
    assert later["CreateIndex"] == row["CreateIndex"] and later["ModifyIndex"] > row["ModifyIndex"]
    client.kv("PUT", "empty", "", b"")
    assert client.kv("GET", "empty")[1][0]["Value"] is None
    assert client.kv("GET", "a", "raw")[1] == "z"


def test_what_changes_nothing_gets_no_new_index(client: Client) -> None:
    client.kv("PUT", "a", "", b"1")
    before = client.number("a")
    assert client.kv("PUT", "a", "", b"1")[1] is True
    assert client.number("a") == before


def test_folders(client: Client) -> None:
    for key in ("a", "b/c", "b/d", "e"):
        client.kv("PUT", key, "", b"1")
    assert client.kv("GET", "", "keys")[1] == [f"{client.folder}/{key}" for key in ("a", "b/c", "b/d", "e")]
    assert client.kv("GET", "", "keys&separator=/")[1] == [f"{client.folder}/{key}" for key in ("a", "b/", "e")]
    assert [row["Key"] for row in client.kv("GET", "b", "recurse")[1]] == [
        f"{client.folder}/{key}" for key in ("b/c", "b/d")
    ]
    client.kv("DELETE", "b/", "recurse")
    assert client.kv("GET", "", "keys")[1] == [f"{client.folder}/{key}" for key in ("a", "e")]


def test_check_and_set(client: Client) -> None:
    assert client.kv("PUT", "a", "cas=0", b"1")[1] is True
    assert client.kv("PUT", "a", "cas=0", b"2")[1] is False
    number = client.number("a")
    assert client.kv("PUT", "a", f"cas={number + 1}", b"2")[1] is False
    assert client.kv("PUT", "a", f"cas={number}", b"2")[1] is True
    assert client.kv("DELETE", "a", "cas=0")[1] is False
    assert client.kv("DELETE", "a", f"cas={number}")[1] is False
    assert client.kv("DELETE", "a", f"cas={client.number('a')}")[1] is True
    assert client.kv("PUT", "a", f"cas={number}", b"3")[1] is False


def test_a_transaction_sees_its_own_writes(client: Client) -> None:
    client.kv("PUT", "t/old", "", b"1")
    status, shown, _ = client.txn(
        ("get-tree", "t/"),
        ("cas", "t/new", b"2", 0),
        ("delete", "t/old"),
        ("check-not-exists", "t/old"),
        ("get-tree", "t/"),
    )
    assert status == 200
    assert shown == [("t/old", "MQ=="), ("t/new", None), ("t/new", "Mg==")]


def test_a_transaction_is_rolled_back_whole_and_names_all_that_failed(client: Client) -> None:
    client.kv("PUT", "a", "", b"1")
    number = client.number("a")
    status, shown, failed = client.txn(
        ("set", "b", b"1"), ("cas", "a", b"2", number + 1), ("check-index", "a", None, number), ("cas", "a", b"2", 0),
        ("get", "absent"), ("check-not-exists", "a"), ("delete-cas", "a", None, number + 1), ("check-index", "absent", None, 1),
    )  # fmt: skip
    assert (status, shown, failed) == (409, [], [1, 3, 4, 5, 6, 7])
    assert client.number("b") == 0 and client.number("a") == number


def test_a_deletion_with_an_index_passes_where_there_is_nothing(client: Client) -> None:
    assert client.txn(("delete-cas", "absent", None, 5), ("set", "b", b"1"))[0] == 200
    assert client.number("b") > 0


def test_all_of_a_transaction_has_one_index(client: Client) -> None:
    assert client.txn(("set", "a", b"1"), ("set", "b", b"1"))[0] == 200
    assert client.number("a") == client.number("b") > 0
    assert client.txn(("delete-tree", ""), ("get-tree", ""))[:2] == (200, [])


def test_limits(client: Client) -> None:
    many = [("get-tree", f"k{number}") for number in range(129)]
    assert client.txn(*many[:64])[0] == 200
    assert client.txn(*many)[0] == 413
    assert client.kv("PUT", "a", "", b"x" * (512 * 1024 + 1))[0] == 413
    assert client.kv("GET", "a", "stale&consistent")[0] == 400


def test_a_blocking_query_waits_for_a_change(client: Client) -> None:
    client.kv("PUT", "a", "", b"1")
    number, begun = client.number("a"), time.monotonic()
    threading.Timer(0.3, lambda: client.kv("PUT", "a", "", b"2")).start()
    _, [row], headers = client.kv("GET", "a", f"index={number}&wait=5s")
    assert 0.2 < time.monotonic() - begun < 3
    assert base64.b64decode(row["Value"]) == b"2" and int(headers["X-Consul-Index"]) == row["ModifyIndex"] > number
    begun = time.monotonic()
    _, [same], _ = client.kv("GET", "a", f"index={row['ModifyIndex']}&wait=1s")
    assert 0.9 < time.monotonic() - begun < 1.5 and same == row, (
        "it may take a sixteenth longer, and no change is no failure"
    )
    assert client.kv("GET", "a", f"index={number}&wait=5s")[1] == [row], "what is older already is answered at once"


def test_a_blocking_query_of_a_folder_hears_of_deletions(client: Client) -> None:
    client.kv("PUT", "f/a", "", b"1")
    client.kv("PUT", "f/b", "", b"1")
    index = int(client.kv("GET", "f/", "recurse")[2]["X-Consul-Index"])
    threading.Timer(0.2, lambda: client.kv("DELETE", "f/a")).start()
    _, rows, headers = client.kv("GET", "f/", f"recurse&index={index}&wait=5s")
    assert [row["Key"] for row in rows] == [f"{client.folder}/f/b"] and int(headers["X-Consul-Index"]) > index


def test_status(client: Client) -> None:
    status, leader, _ = client.ask("GET", "/v1/status/leader")
    assert status == 200 and leader
    assert leader in client.ask("GET", "/v1/status/peers")[1]
    assert client.ask("GET", "/v1/agent/self")[1]["Config"]["Version"]


def test_rights() -> None:
    with consul_double() as double:
        client = Client(f"http://{double.endpoint}", "app", double)
        double.state.rights.tokens = {"w": {"app/": "write", "app/secret": "deny"}, "r": {"app/": "read"}}
        put = json.dumps([{"KV": {"Verb": "set", "Key": "app/a", "Value": ""}}]).encode()
        assert client.ask("PUT", "/v1/txn", put, "w")[0] == 200
        status, said, _ = client.ask("PUT", "/v1/txn", put, "r")
        assert status == 409 and "Permission denied" in said["Errors"][0]["What"]
        assert client.ask("GET", "/v1/kv/app/a", token="r")[0] == 200
        assert client.ask("PUT", "/v1/kv/app/a", b"", "r")[:2] == (403, "Permission denied")
        assert client.ask("GET", "/v1/kv/app/a")[0] == 403
        assert client.ask("GET", "/v1/kv/app/?recurse")[0] == 404, "what may not be read is filtered"
        assert client.ask("GET", "/v1/kv/app/a", token="x")[:2] == (403, "ACL not found")
        double.state.put("app/secret", b"1")
        _, rows, headers = client.ask("GET", "/v1/kv/app/?recurse", token="w")
        assert len(rows) == 1 and headers["X-Consul-Results-Filtered-By-ACLs"] == "true"


def test_names_that_are_not_taken_any_more() -> None:
    with consul_double() as double:
        client = Client(f"http://{double.endpoint}", "app", double)
        for name in ("a:b", "a%25b", "a%23b", "a~b", "a.json"):
            assert client.kv("PUT", name, "", b"1")[0] == 400
        assert client.kv("PUT", "a,b-c_d/E.f", "", b"1")[0] == 200
