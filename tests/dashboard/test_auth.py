"""Who is let in, by what, and whose orders are believed."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import SimpleCookie

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from wallie_litellm.dashboard.auth import SESSION_COOKIE, SESSION_SECONDS, AccessDenied, Authenticator, Visitor
from wallie_litellm.dashboard.sessions import begin, key_of, sign
from wallie_litellm.dashboard.throttle import MOST_WRONG, MOST_WRONG_IN_ALL, WINDOW

TOKEN = "an-operators-token"
NOW = 1_790_000_000.0


class Wall:
    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> float:
        return self.at


def request(
    headers: Mapping[str, str] | None = None,
    *,
    client: str = "127.0.0.1",
    host: str = "127.0.0.1:4000",
    method: str = "GET",
) -> Request:
    sent = {"host": host, **(headers or {})}
    return Request(
        {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": "/wallie/",
            "query_string": b"",
            "client": (client, 40000),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
        }
    )


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def cookie(value: str) -> dict[str, str]:
    return {"cookie": f"{SESSION_COOKIE}={value}"}


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def gate(wall: Wall) -> Authenticator:
    return Authenticator(lambda: [TOKEN, "", "sk-master"], now=wall)


@pytest.fixture
def local(wall: Wall) -> Authenticator:
    """Without any token."""
    return Authenticator(lambda: ["", ""], now=wall)


def refusal(gate: Authenticator, sent: Request) -> AccessDenied:
    with pytest.raises(AccessDenied) as refused:
        gate.enter(sent)
    return refused.value


# Tokens


@pytest.mark.parametrize("token", [TOKEN, "sk-master"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_any_of_the_tokens_lets_a_program_in(gate: Authenticator, token: str, scheme: str) -> None:
    visitor = gate.enter(request({"authorization": f"{scheme} {token}"}, client="192.0.2.7"))
    assert (visitor.via, visitor.actor) == ("bearer", "api (api, 192.0.2.7)")


@pytest.mark.parametrize(
    "stated",
    ["Bearer wrong", "Bearer", "", "Basic YTpi", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN} x", "Bearer " + "x" * 9999],
)
def test_whatever_else_is_sent_does_not(gate: Authenticator, stated: str) -> None:
    assert refusal(gate, request({"authorization": stated})).status == 401


def test_nobody_is_let_in_without_a_token_from_this_machine_neither(gate: Authenticator) -> None:
    assert refusal(gate, request()).status == 401


def test_an_empty_token_that_is_configured_lets_nobody_in(gate: Authenticator) -> None:
    assert refusal(gate, request({"authorization": "Bearer "})).status == 401


def test_a_token_of_other_letters_than_ascii_is_understood(wall: Wall) -> None:
    gate = Authenticator(lambda: ["contraseña"], now=wall)
    sent = "Bearer contraseña".encode().decode("latin-1")
    assert gate.enter(request({"authorization": sent})).via == "bearer"


def test_a_token_that_is_not_utf8_is_told_from_a_question_mark(wall: Wall) -> None:
    gate = Authenticator(lambda: ["key\udcff"], now=wall)  # as os.environ has the byte FF
    assert gate.enter(request(bearer("key\xff"))).via == "bearer"
    assert refusal(gate, request(bearer("key?"))).status == 401
    gate.log_in(request(method="POST"), "key\udcff", "maria")


def test_half_a_surrogate_pair_in_a_token_is_no_failure(wall: Wall) -> None:
    gate = Authenticator(lambda: ["key\ud800"], now=wall)
    assert refusal(gate, request(cookie("x"))).status == 401
    assert refusal(gate, request(bearer("key?"))).status == 401


def test_a_token_that_is_too_long_is_refused_and_counted(wall: Wall) -> None:
    gate = Authenticator(lambda: ["k" * 4097, "k" * 4096], now=wall)
    gate.enter(request(bearer("k" * 4096)))
    for extra in ("k", "kzzz", "k" * 9999, "k", "k"):
        assert refusal(gate, request(bearer("k" * 4096 + extra))).status == 401
    assert refusal(gate, request(bearer("k" * 4096))).status == 429


def test_a_refusal_does_not_repeat_the_token(gate: Authenticator) -> None:
    error = refusal(gate, request(bearer("sk-secret-of-another")))
    assert "sk-secret" not in error.message + str(error)


# Sessions


def test_who_logs_in_is_let_in_by_the_cookie_and_named(gate: Authenticator) -> None:
    session = gate.log_in(request(method="POST"), TOKEN, "  María\n ")
    visitor = gate.enter(request(cookie(session), client="192.0.2.7"))
    assert (visitor.via, visitor.actor) == ("session", "María (page, 192.0.2.7)")
    assert TOKEN not in session


def test_a_cookie_expires(gate: Authenticator, wall: Wall) -> None:
    session = gate.log_in(request(method="POST"), TOKEN, "maria")
    wall.at += SESSION_SECONDS - 1
    gate.enter(request(cookie(session)))
    wall.at += 1
    assert refusal(gate, request(cookie(session))).status == 401


def test_a_cookie_that_somebody_has_lengthened_is_refused(gate: Authenticator) -> None:
    version, expires, *rest = gate.log_in(request(method="POST"), TOKEN, "maria").split(".")
    forged = ".".join([version, str(int(expires) + 1), *rest])
    assert refusal(gate, request(cookie(forged))).status == 401


def test_another_token_ends_all_sessions(wall: Wall) -> None:
    tokens = ["old"]
    gate = Authenticator(lambda: tokens, now=wall)
    session = gate.log_in(request(method="POST"), "old", "maria")
    gate.enter(request(cookie(session)))
    tokens[:] = ["new"]
    assert refusal(gate, request(cookie(session))).status == 401


def test_another_worker_with_the_same_token_believes_the_cookie(gate: Authenticator, wall: Wall) -> None:
    session = gate.log_in(request(method="POST"), TOKEN, "maria")
    assert Authenticator(lambda: [TOKEN], now=wall).enter(request(cookie(session))).name == "maria"


def test_a_cookie_from_a_time_without_a_token_is_worth_nothing_with_one(
    local: Authenticator, gate: Authenticator
) -> None:
    session = local.log_in(request(method="POST"), "", "maria")
    assert local.enter(request(cookie(session))).name == "maria"
    assert refusal(gate, request(cookie(session))).status == 401


@pytest.mark.parametrize("name", ["", " ", "\x00\x1b[31m", "x" * 500])
def test_any_name_can_go_on_record(gate: Authenticator, name: str) -> None:
    visitor = gate.enter(request(cookie(gate.log_in(request(method="POST"), TOKEN, name))))
    assert visitor.name.isprintable()
    assert 0 < len(visitor.name) <= 60
    assert len(Visitor("x" * 300, "a" * 300, "session").actor) == 200
    assert Visitor("maria", "10.0.0.5\x85\x1b[31m", "session").actor == "maria (page, 10.0.0.5[31m)"


@pytest.mark.parametrize(
    "said", ["v1", "v1.x.n.bWFyaWE", "v1.9999999999.n.!", "v1.9999999999.n._w", "v2.9999999999.n.eA"]
)
def test_without_a_token_a_cookie_that_anybody_could_sign_is_no_failure(local: Authenticator, said: str) -> None:
    visitor = local.enter(request(cookie(f"{said}.{sign(key_of(''), said)}")))
    assert visitor.actor == "operator (page, 127.0.0.1)"


def test_a_name_in_a_signed_cookie_is_cleaned_too(local: Authenticator) -> None:
    value, _ = begin(key_of(""), "maria", NOW)
    version, expires, nonce, *_ = value.split(".")
    said = f"{version}.{expires}.{nonce}.ZXZpbBtbMzFtCnJvb3Q"  # evil, escape, [31m, line feed, root
    assert local.enter(request(cookie(f"{said}.{sign(key_of(''), said)}"))).name == "evil[31mroot"


def test_a_wrong_token_opens_no_session(gate: Authenticator) -> None:
    with pytest.raises(AccessDenied) as refused:
        gate.log_in(request(method="POST"), "wrong", "maria")
    assert refused.value.status == 401


# Guessing


def test_an_address_that_guesses_has_to_wait_right_or_wrong(gate: Authenticator, wall: Wall) -> None:
    for _ in range(MOST_WRONG):
        assert refusal(gate, request(bearer("wrong"), client="192.0.2.7")).status == 401
    error = refusal(gate, request(bearer(), client="192.0.2.7"))
    assert (error.status, error.retry_after) == (429, 60)
    with pytest.raises(AccessDenied) as refused:
        gate.log_in(request(method="POST", client="192.0.2.7"), TOKEN, "maria")
    assert refused.value.status == 429
    gate.enter(request(bearer(), client="192.0.2.8"))
    wall.at += WINDOW
    gate.enter(request(bearer(), client="192.0.2.7"))


def test_a_session_is_not_ended_by_somebody_who_guesses_from_the_same_address(gate: Authenticator) -> None:
    session = gate.log_in(request(method="POST"), TOKEN, "maria")
    for _ in range(2 * MOST_WRONG):
        refusal(gate, request(bearer("wrong")))
    gate.enter(request(cookie(session)))


def test_one_ipv6_customer_counts_as_one(gate: Authenticator) -> None:
    for number in range(MOST_WRONG):
        refusal(gate, request(bearer("wrong"), client=f"2001:db8:1:2::{number + 1:x}"))
    assert refusal(gate, request(bearer(), client="2001:db8:1:2:ffff::1")).status == 429
    gate.enter(request(bearer(), client="2001:db8:1:3::1"))


def test_many_who_guess_are_slowed_down_and_lock_nobody_out(gate: Authenticator) -> None:
    for number in range(MOST_WRONG_IN_ALL):
        refusal(gate, request(bearer("wrong"), client=f"198.51.{number // 250}.{number % 250}"))
    assert refusal(gate, request(bearer("wrong"), client="198.51.0.0")).status == 429
    gate.enter(request(bearer(), client="192.0.2.7"))


def test_asking_without_a_token_is_no_guess(gate: Authenticator) -> None:
    for _ in range(3 * MOST_WRONG):
        refusal(gate, request())
    gate.enter(request(bearer()))


# Without a token


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost:4000", "127.0.0.1", "[::1]:4000", "wallie.localhost:4000", "LOCALHOST"])
def test_without_a_token_this_machine_is_let_in(local: Authenticator, client: str, host: str) -> None:
    assert local.enter(request(client=client, host=host)).actor == f"operator (page, {client})"


@pytest.mark.parametrize("client", ["192.0.2.7", "10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "testclient"])
def test_without_a_token_others_are_not(local: Authenticator, client: str) -> None:
    error = refusal(local, request(client=client))
    assert (error.status, error.code) == (403, "wallie_no_token")
    assert "WALLIE_ADMIN_TOKEN" in error.message


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4000", "", "localhost.evil.example", "[::1", "127.0.0.1.nip.io"]
)
def test_without_a_token_a_name_of_somebody_else_that_leads_here_is_refused(local: Authenticator, host: str) -> None:
    assert refusal(local, request(host=host)).status == 403


@pytest.mark.parametrize(
    "name", ["x-forwarded-for", "forwarded", "x-real-ip", "via", "x-forwarded-host", "x-forwarded-proto"]
)
def test_without_a_token_what_a_reverse_proxy_passes_on_is_refused(local: Authenticator, name: str) -> None:
    assert refusal(local, request({name: "127.0.0.1"})).status == 403


# Other sites


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:4000", "http://", "x"]
)
def test_what_another_site_sends_is_refused_whatever_it_carries(
    gate: Authenticator, local: Authenticator, origin: str
) -> None:
    session = gate.log_in(request(method="POST"), TOKEN, "maria")
    for headers in (bearer(), cookie(session)):
        assert refusal(gate, request({**headers, "origin": origin}, method="POST")).status == 403
    assert refusal(local, request({"origin": origin}, method="POST")).status == 403
    with pytest.raises(AccessDenied):
        gate.log_in(request({"origin": origin}, method="POST"), TOKEN, "maria")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:4000", "127.0.0.1:4000"),
        ("https://wallie.example", "wallie.example"),
        ("https://wallie.example", "wallie.example:443"),
        ("https://WALLIE.example", "wallie.example"),
    ],
)
def test_the_pages_own_requests_are_not(gate: Authenticator, origin: str, host: str) -> None:
    gate.enter(request({**bearer(), "origin": origin, "sec-fetch-site": "same-origin"}, host=host, method="POST"))


def test_a_link_from_another_site_may_be_followed_and_a_script_may_not(gate: Authenticator) -> None:
    session = cookie(gate.log_in(request(method="POST"), TOKEN, "maria"))
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    gate.enter(request({**session, **link}))
    assert refusal(gate, request({**session, **link}, method="POST")).status == 403
    for changed in ({"sec-fetch-mode": "cors"}, {"sec-fetch-dest": "iframe"}):
        assert refusal(gate, request({**session, **link, **changed})).status == 403
    assert refusal(gate, request({**session, "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"})).status == 403


# Orders


def test_an_order_from_a_session_needs_the_forms_token(gate: Authenticator) -> None:
    sent = request(cookie(gate.log_in(request(method="POST"), TOKEN, "maria")), method="POST")
    visitor = gate.enter(sent)
    gate.check_action(sent, visitor, gate.csrf_token(sent, visitor))
    other = request(cookie(gate.log_in(request(method="POST"), TOKEN, "maria")), method="POST")
    theirs = gate.csrf_token(other, gate.enter(other))
    for wrong in (None, "", "x", "ñ", theirs):
        with pytest.raises(AccessDenied) as refused:
            gate.check_action(sent, visitor, wrong)
        assert refused.value.status == 403


def test_a_program_with_a_token_needs_none(gate: Authenticator) -> None:
    sent = request(bearer(), method="POST")
    gate.check_action(sent, gate.enter(sent), None)


def test_without_a_token_a_form_needs_its_token_and_a_program_does_not(local: Authenticator) -> None:
    plain = request(method="POST")
    local.check_action(plain, local.enter(plain), None)
    browser = request({"origin": "http://127.0.0.1:4000"}, method="POST")
    with pytest.raises(AccessDenied):
        local.check_action(browser, local.enter(browser), None)
    session, visitor = local.open_loopback_session(local.enter(request()))
    form = local.csrf_token(request(), visitor)
    sent = request({**cookie(session), "origin": "http://127.0.0.1:4000"}, method="POST")
    local.check_action(sent, local.enter(sent), form)
    with pytest.raises(AccessDenied):
        local.check_action(sent, local.enter(sent), None)


# Garbage

_TEXT = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=60)


@settings(max_examples=300, deadline=None)
@given(
    headers=st.dictionaries(
        st.sampled_from(
            ["authorization", "cookie", "origin", "host", "sec-fetch-site", "sec-fetch-mode", "x-forwarded-for"]
        ),
        _TEXT | _TEXT.map("Bearer {}".format) | _TEXT.map((SESSION_COOKIE + "=v1.9999999999.{}").format),
        max_size=4,
    ),
    client=_TEXT,
    method=st.sampled_from(["GET", "POST"]),
)
def test_no_header_makes_the_gate_fail(headers: dict[str, str], client: str, method: str) -> None:
    for tokens in ([], [TOKEN]):
        gate = Authenticator(lambda tokens=tokens: tokens)  # type: ignore[misc]
        sent = request(headers, client=client, method=method, host=headers.get("host", "h"))
        try:
            visitor = gate.enter(sent)
            gate.check_action(sent, visitor, headers.get("origin"))
        except AccessDenied as error:
            assert error.status in (401, 403, 429)  # noqa: PT017 - it need not be raised


def test_a_cookie_can_be_set_as_it_is(gate: Authenticator) -> None:
    session = gate.log_in(request(method="POST"), TOKEN, "María; path=/")
    parsed = SimpleCookie(f"{SESSION_COOKIE}={session}")
    assert parsed[SESSION_COOKIE].value == session
