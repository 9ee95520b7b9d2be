"""etcd with users: passwords, rights, tokens that end, and TLS with certificates on both sides."""

from __future__ import annotations

import dataclasses
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from heirflow.election.record import Exchange
from heirflow.stores import StoreRefuses, StoreUnavailable, open_store
from heirflow.stores.keyed.etcd import Etcd
from heirflow.stores.keyed.keys import Bell, Write
from heirflow.stores.keyed.place import Where
from heirflow.testing import store_contract
from heirflow.testing.store_tools import charge, hears, ids, join, new_election, who
from lab.servers.etcd import FOLDER, EtcdServer, Tls, etcd_missing, etcd_server, url_of
from lab.servers.relay import relay

pytestmark = pytest.mark.skipif(etcd_missing() is not None, reason=str(etcd_missing()))
LIMIT_S = 2.0
ROOT, USER, PASSWORD = "root:root-secret", "heir", "a-secret"
QUICK = [
    store_contract.a_record_comes_back_as_it_was_written,
    store_contract.of_many_swaps_at_once_exactly_one_wins,
    store_contract.who_leaves_is_gone_and_may_release_in_the_same_exchange,
    store_contract.history_is_told_newest_last,
    store_contract.news_comes_of_changes_and_not_of_renewals,
    store_contract.it_can_be_examined,
]


def with_users(server: EtcdServer, *, folder: str = FOLDER, right: str = "readwrite") -> None:
    server.ctl("user", "add", ROOT)
    server.ctl("user", "grant-role", "root", "root")
    server.ctl("role", "add", "line")
    server.ctl("role", "grant-permission", "line", right, "--prefix=true", f"{folder}/")
    server.ctl("user", "add", f"{USER}:{PASSWORD}")
    server.ctl("user", "grant-role", USER, "line")
    server.ctl("auth", "enable")


@pytest.fixture(scope="module")
def guarded() -> Iterator[EtcdServer]:
    """A server with a user that may use one folder, and whose tokens end after a second."""
    with etcd_server(auth_token_ttl="1", bcrypt_cost="4") as server:
        with_users(server)
        yield server


def url(server: EtcdServer, password: str = PASSWORD, **more: str) -> str:
    return url_of([server], user=f"{USER}:{password}" if password else USER, **more)


def wait_for(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    limit = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize("check", QUICK, ids=store_contract.name)
def test_a_user_that_may_use_one_folder_is_enough(check: store_contract.Check, guarded: EtcdServer) -> None:
    check(lambda: open_store(url(guarded), call_limit_s=LIMIT_S))


def test_what_the_user_may_not_is_said_with_the_command_that_grants_it(guarded: EtcdServer) -> None:
    with closing(open_store(url(guarded, folder="elsewhere"), call_limit_s=LIMIT_S)) as store:
        with pytest.raises(StoreRefuses, match=r"grant-permission ROLE readwrite --prefix=true elsewhere/") as refusal:
            store.open()
        assert PASSWORD not in str(refusal.value)
        [rights] = [each for each in store.examine() if each.topic == "rights"]
        assert rights.level == "problem"


def test_who_may_only_read_is_told_by_doctor_and_when_it_writes() -> None:
    with etcd_server(bcrypt_cost="4") as server:
        with_users(server, right="read")
        with closing(open_store(url(server), call_limit_s=LIMIT_S)) as store:
            store.open()
            assert store.exchange(new_election(), Exchange()).record is None
            with pytest.raises(StoreRefuses, match="permission denied"):
                join(store, new_election(), "a")
            [rights] = [each for each in store.examine() if each.topic == "rights"]
            assert rights.level == "problem"


@pytest.mark.parametrize("given", ["wrong", ""])
def test_a_wrong_password_is_refused(given: str, guarded: EtcdServer) -> None:
    with (
        closing(open_store(url(guarded, given), call_limit_s=LIMIT_S)) as store,
        pytest.raises(StoreRefuses, match="user heir"),
    ):
        store.open()


def test_no_user_where_there_must_be_one_is_a_clear_sentence(guarded: EtcdServer) -> None:
    with (
        closing(open_store(guarded.store_url, call_limit_s=LIMIT_S)) as store,
        pytest.raises(StoreRefuses, match="the URL names none"),
    ):
        store.open()


def test_a_user_where_etcd_asks_for_none_does_no_harm_and_is_told() -> None:
    with etcd_server() as server, closing(open_store(url(server), call_limit_s=LIMIT_S)) as store:
        store.open()
        assert ids(join(store, "x", "a")) == ["a"]
        assert any(each.facts.get("users") is False for each in store.examine())


def test_a_password_that_has_changed_in_its_file_counts_at_once(guarded: EtcdServer, tmp_path: Path) -> None:
    file, election = tmp_path / "password", new_election()
    file.write_text(f"{PASSWORD}\n")
    with closing(open_store(url(guarded, "", options=f"password-file={file}"), call_limit_s=LIMIT_S)) as store:
        store.open()
        join(store, election, "a")
        try:
            guarded.ask("/v3/auth/user/changepw", {"name": USER, "password": "another"}, token=token(guarded))
            # The token from before is not good any more, and neither is the password.
            with pytest.raises(StoreRefuses, match="user heir"):
                store.exchange(election, Exchange())
            file.write_text("another")
            assert ids(store.exchange(election, Exchange(who("a")))) == ["a"]
            file.unlink()
            guarded.ask("/v3/auth/user/changepw", {"name": USER, "password": PASSWORD}, token=token(guarded))
            with pytest.raises(StoreRefuses, match="cannot read the password in"):
                store.exchange(election, Exchange(who("a")))
        finally:
            guarded.ask("/v3/auth/user/changepw", {"name": USER, "password": PASSWORD}, token=token(guarded))


def token(server: EtcdServer) -> str:
    name, _, password = ROOT.partition(":")
    return str(server.ask("/v3/auth/authenticate", {"name": name, "password": password})["token"])


class Rotating:
    """An address whose password is another one when the last was refused."""

    def __init__(self, server: EtcdServer, *passwords: str) -> None:
        self._urls = [url(server, each) for each in passwords]
        self.times = 0

    @property
    def known(self) -> str:
        return self._urls[0]

    def now(self) -> str:
        return self._urls[0]

    def refused(self, url: str) -> bool:
        self.times += 1
        if len(self._urls) > 1:
            self._urls.pop(0)
            return True
        return False

    def accepted(self) -> None:
        pass


def test_a_password_that_is_refused_is_asked_for_again_once(guarded: EtcdServer) -> None:
    address = Rotating(guarded, "old", PASSWORD)
    with closing(open_store(address, call_limit_s=LIMIT_S)) as store:
        store.open()
        assert address.times == 1
    address = Rotating(guarded, "old", "older", PASSWORD)
    with closing(open_store(address, call_limit_s=LIMIT_S)) as store:
        with pytest.raises(StoreRefuses):
            store.open()
        assert address.times == 1
        store.open()


def test_a_token_that_has_ended_is_renewed_and_the_write_is_done_once(guarded: EtcdServer) -> None:
    election = new_election()
    with relay(guarded.port) as way:
        there = url(guarded).replace(str(guarded.port), str(way.port))
        with closing(open_store(there, call_limit_s=LIMIT_S)) as store:
            store.open()
            join(store, election, "a")
            time.sleep(3.2)  # etcd ends tokens once a second
            before = way.asked.count(b"/v3/auth/authenticate")
            seen = store.exchange(election, charge("a", 1))
            assert seen.swapped and seen.record is not None and seen.record.version == 1
            assert way.asked.count(b"/v3/auth/authenticate") > before
            assert len(store.events(election, 9)) == 1


def test_a_server_that_has_forgotten_the_token_is_given_a_new_one() -> None:
    election = new_election()
    with etcd_server(bcrypt_cost="4") as server:
        with_users(server)
        with closing(open_store(url(server), call_limit_s=LIMIT_S)) as store:
            store.open()
            join(store, election, "a")
            server.restart()
            for _ in range(2):
                try:
                    seen = store.exchange(election, Exchange(who("a")))
                    break
                except StoreUnavailable:
                    continue
            assert ids(seen) == ["a"]


def test_a_watch_goes_on_after_its_token_has_ended(guarded: EtcdServer) -> None:
    election = new_election()
    with relay(guarded.port) as way:
        there = url(guarded).replace(str(guarded.port), str(way.port))
        with (
            closing(open_store(there, call_limit_s=LIMIT_S)) as b,
            closing(open_store(url(guarded), call_limit_s=LIMIT_S)) as a,
        ):
            b.open()
            a.open()
            join(b, election, "b")
            wait_for(lambda: b"/v3/watch" in way.asked)
            time.sleep(3.2)
            assert a.exchange(election, charge("a", 1)).swapped
            assert hears(b, election), "an open watch is not asked for its token again"
            b.exchange(election, Exchange(who("b")))
            time.sleep(3.2)
            before = way.asked.count(b"/v3/watch")
            way.cut()
            wait_for(lambda: way.asked.count(b"/v3/watch") > before)
            try:
                b.exchange(election, Exchange(who("b")))
            except StoreUnavailable:
                b.exchange(election, Exchange(who("b")))
            b.news(election)
            assert a.exchange(election, charge("a", 2)).swapped
            assert hears(b, election)


def test_users_that_come_while_a_member_runs_are_asked_for(tmp_path: Path) -> None:
    election = new_election()
    with etcd_server(bcrypt_cost="4") as server, closing(open_store(url(server), call_limit_s=LIMIT_S)) as store:
        store.open()
        join(store, election, "a")
        with_users(server)
        assert ids(store.exchange(election, Exchange(who("a")))) == ["a"]


# TLS


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """Certificates for 127.0.0.1 and for a client."""
    folder: Path = tmp_path_factory.mktemp("tls")
    made(folder, "ca")
    for name in ("server", "client"):
        openssl(
            folder,
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", f"{name}.ext", "-out", f"{name}.crt")  # fmt: skip
    return Tls(
        folder / "ca.crt", folder / "server.crt", folder / "server.key", folder / "client.crt", folder / "client.key"
    )


def made(folder: Path, name: str) -> None:
    openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2",
            "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
            "keyUsage=keyCertSign,cRLSign")  # fmt: skip


@pytest.fixture(scope="module")
def secure(tls: Tls) -> Iterator[EtcdServer]:
    with etcd_server(tls=tls) as server:
        yield server


@pytest.mark.parametrize("check", QUICK, ids=store_contract.name)
def test_with_certificates_on_both_sides(check: store_contract.Check, secure: EtcdServer) -> None:
    check(lambda: open_store(secure.store_url, call_limit_s=LIMIT_S))


def test_who_shows_no_certificate_is_refused(secure: EtcdServer, tls: Tls) -> None:
    with (
        closing(open_store(f"etcds://{secure.endpoint}/{FOLDER}?ca={tls.ca}", call_limit_s=LIMIT_S)) as store,
        pytest.raises(StoreRefuses, match="ends the TLS connection"),
    ):
        store.open()


def test_a_server_that_others_vouch_for_is_not_trusted(secure: EtcdServer, tls: Tls, tmp_path: Path) -> None:
    made(tmp_path, "stranger")
    for options in (f"ca={tmp_path / 'stranger.crt'}", ""):
        with (
            closing(open_store(f"etcds://{secure.endpoint}/{FOLDER}?{options}", call_limit_s=LIMIT_S)) as store,
            pytest.raises(StoreUnavailable, match="shows a certificate that is not trusted here"),
        ):
            store.open()


def test_a_certificate_for_another_name_is_not_taken(secure: EtcdServer, tls: Tls) -> None:
    there = f"etcds://localhost:{secure.port}/{FOLDER}?{tls.options}"
    with (
        closing(open_store(there, call_limit_s=LIMIT_S)) as store,
        pytest.raises(StoreUnavailable, match="shows a certificate that is not trusted here"),
    ):
        store.open()


def test_a_certificate_that_cannot_be_read_is_named(secure: EtcdServer, tls: Tls, tmp_path: Path) -> None:
    broken = tmp_path / "broken.crt"
    broken.write_text("no certificate")
    for options, name in (
        (f"ca={tmp_path / 'absent'}", "absent"),
        (f"ca={broken}", "broken"),
        (f"ca={tls.ca}&cert={broken}&key={tls.client_key}", "broken"),
    ):
        with (
            closing(open_store(f"etcds://{secure.endpoint}/{FOLDER}?{options}", call_limit_s=LIMIT_S)) as store,
            pytest.raises(StoreRefuses, match=f"cannot use the (ca|cert) .*{name}"),
        ):
            store.open()


def test_a_certificate_that_was_renewed_in_its_file_counts_at_the_next_connection(
    secure: EtcdServer, tls: Tls, tmp_path: Path
) -> None:
    cert, key = tmp_path / "mine.crt", tmp_path / "mine.key"
    openssl(
        tmp_path,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(key),
        "-out",
        str(cert),
        "-subj",
        "/CN=nobody",
    )
    mine = dataclasses.replace(tls, client_cert=cert, client_key=key)
    with closing(open_store(f"etcds://{secure.endpoint}/{FOLDER}?{mine.options}", call_limit_s=LIMIT_S)) as store:
        with pytest.raises(StoreRefuses):
            store.open()
        cert.write_bytes(tls.client_cert.read_bytes())
        key.write_bytes(tls.client_key.read_bytes())
        store.open()


def test_plain_http_to_a_server_with_tls_ends_with_a_sentence(secure: EtcdServer) -> None:
    with (
        closing(open_store(f"etcd://{secure.endpoint}/{FOLDER}", call_limit_s=LIMIT_S)) as store,
        pytest.raises(StoreUnavailable, match="the URL begins with etcds://"),
    ):
        store.open()


def test_a_watch_over_tls_ends_at_once_with_its_store(secure: EtcdServer) -> None:
    with closing(Bell()) as bell:
        keys = Etcd(Where(secure.store_url), call_limit_s=LIMIT_S)
        keys.commit("elections/x", Write(puts={"elections/x/news": b"1"}))
        keys.watch("elections/x/news", keys.read("elections/x").number("elections/x/news"), bell)
        keys.commit("elections/x", Write(puts={"elections/x/news": b"2"}))
        wait_for(lambda: bell.heard(0))
        start = time.monotonic()
        keys.close()
        assert time.monotonic() - start < LIMIT_S


def test_a_call_over_tls_that_hangs_is_severed_by_another_thread(secure: EtcdServer) -> None:
    with closing(open_store(secure.store_url, call_limit_s=30.0)) as store:
        store.open()
        done = threading.Event()

        def again() -> None:
            while not done.wait(0.2):  # it ends only what hangs already
                store.sever()

        secure.freeze()
        thread = threading.Thread(target=again)
        thread.start()
        start = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.exchange(new_election(), Exchange())
        assert time.monotonic() - start < 10
        done.set()
        thread.join()
        secure.thaw()
        store.open()
