"""What admits a client, and which requests may change something."""

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
def authenticator(wall: Wall) -> Authenticator:
    return Authenticator(lambda: [TOKEN, "", "sk-master"], now=wall)


@pytest.fixture
def local(wall: Wall) -> Authenticator:
    """Without any token."""
    return Authenticator(lambda: ["", ""], now=wall)


def refusal(authenticator: Authenticator, sent: Request) -> AccessDenied:
    with pytest.raises(AccessDenied) as refused:
        authenticator.enter(sent)
    return refused.value


# Tokens


@pytest.mark.parametrize("token", [TOKEN, "sk-master"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_any_of_the_tokens_admits_a_program(authenticator: Authenticator, token: str, scheme: str) -> None:
    visitor = authenticator.enter(request({"authorization": f"{scheme} {token}"}, client="192.0.2.7"))
    assert (visitor.via, visitor.actor) == ("bearer", "api (api, 192.0.2.7)")


@pytest.mark.parametrize(
    "stated",
    ["Bearer wrong", "Bearer", "", "Basic YTpi", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN} x", "Bearer " + "x" * 9999],
)
def test_any_other_authorization_header_is_refused(authenticator: Authenticator, stated: str) -> None:
    assert refusal(authenticator, request({"authorization": stated})).status == 401


def test_with_a_configured_token_loopback_needs_it_too(authenticator: Authenticator) -> None:
    assert refusal(authenticator, request()).status == 401


def test_an_empty_configured_token_admits_no_client(authenticator: Authenticator) -> None:
    assert refusal(authenticator, request({"authorization": "Bearer "})).status == 401


def test_a_token_may_have_letters_outside_of_ascii(wall: Wall) -> None:
    authenticator = Authenticator(lambda: ["contraseña"], now=wall)
    sent = "Bearer contraseña".encode().decode("latin-1")
    assert authenticator.enter(request({"authorization": sent})).via == "bearer"


def test_a_token_that_is_not_utf8_differs_from_a_question_mark(wall: Wall) -> None:
    authenticator = Authenticator(lambda: ["key\udcff"], now=wall)  # as os.environ has the byte FF
    assert authenticator.enter(request(bearer("key\xff"))).via == "bearer"
    assert refusal(authenticator, request(bearer("key?"))).status == 401
    authenticator.log_in(request(method="POST"), "key\udcff", "maria")


def test_a_lone_surrogate_in_a_token_is_no_failure(wall: Wall) -> None:
    authenticator = Authenticator(lambda: ["key\ud800"], now=wall)
    assert refusal(authenticator, request(cookie("x"))).status == 401
    assert refusal(authenticator, request(bearer("key?"))).status == 401


def test_a_token_that_is_too_long_is_refused_and_counted(wall: Wall) -> None:
    authenticator = Authenticator(lambda: ["k" * 4097, "k" * 4096], now=wall)
    authenticator.enter(request(bearer("k" * 4096)))
    for extra in ("k", "kzzz", "k" * 9999, "k", "k"):
        assert refusal(authenticator, request(bearer("k" * 4096 + extra))).status == 401
    assert refusal(authenticator, request(bearer("k" * 4096))).status == 429


def test_a_refusal_does_not_repeat_the_token(authenticator: Authenticator) -> None:
    error = refusal(authenticator, request(bearer("sk-secret-of-another")))
    assert "sk-secret" not in error.message + str(error)


# Sessions


def test_the_cookie_of_a_login_admits_and_names_the_visitor(authenticator: Authenticator) -> None:
    session = authenticator.log_in(request(method="POST"), TOKEN, "  María\n ")
    visitor = authenticator.enter(request(cookie(session), client="192.0.2.7"))
    assert (visitor.via, visitor.actor) == ("session", "María (page, 192.0.2.7)")
    assert TOKEN not in session


def test_a_cookie_expires(authenticator: Authenticator, wall: Wall) -> None:
    session = authenticator.log_in(request(method="POST"), TOKEN, "maria")
    wall.at += SESSION_SECONDS - 1
    authenticator.enter(request(cookie(session)))
    wall.at += 1
    assert refusal(authenticator, request(cookie(session))).status == 401


def test_a_cookie_with_a_forged_expiry_is_refused(authenticator: Authenticator) -> None:
    version, expires, *rest = authenticator.log_in(request(method="POST"), TOKEN, "maria").split(".")
    forged = ".".join([version, str(int(expires) + 1), *rest])
    assert refusal(authenticator, request(cookie(forged))).status == 401


def test_another_token_ends_all_sessions(wall: Wall) -> None:
    tokens = ["old"]
    authenticator = Authenticator(lambda: tokens, now=wall)
    session = authenticator.log_in(request(method="POST"), "old", "maria")
    authenticator.enter(request(cookie(session)))
    tokens[:] = ["new"]
    assert refusal(authenticator, request(cookie(session))).status == 401


def test_another_worker_with_the_same_token_accepts_the_cookie(authenticator: Authenticator, wall: Wall) -> None:
    session = authenticator.log_in(request(method="POST"), TOKEN, "maria")
    assert Authenticator(lambda: [TOKEN], now=wall).enter(request(cookie(session))).name == "maria"


def test_a_cookie_from_before_a_token_was_configured_is_refused(
    local: Authenticator, authenticator: Authenticator
) -> None:
    session = local.log_in(request(method="POST"), "", "maria")
    assert local.enter(request(cookie(session))).name == "maria"
    assert refusal(authenticator, request(cookie(session))).status == 401


@pytest.mark.parametrize("name", ["", " ", "\x00\x1b[31m", "x" * 500])
def test_any_name_can_go_on_record(authenticator: Authenticator, name: str) -> None:
    visitor = authenticator.enter(request(cookie(authenticator.log_in(request(method="POST"), TOKEN, name))))
    assert visitor.name.isprintable()
    assert 0 < len(visitor.name) <= 60
    assert len(Visitor("x" * 300, "a" * 300, "session").actor) == 200
    assert Visitor("maria", "10.0.0.5\x85\x1b[31m", "session").actor == "maria (page, 10.0.0.5[31m)"


@pytest.mark.parametrize(
    "signed", ["v1", "v1.x.n.bWFyaWE", "v1.9999999999.n.!", "v1.9999999999.n._w", "v2.9999999999.n.eA"]
)
def test_without_a_token_a_malformed_signed_cookie_is_no_failure(local: Authenticator, signed: str) -> None:
    visitor = local.enter(request(cookie(f"{signed}.{sign(key_of(''), signed)}")))
    assert visitor.actor == "operator (page, 127.0.0.1)"


def test_a_name_in_a_signed_cookie_is_cleaned_too(local: Authenticator) -> None:
    value, _ = begin(key_of(""), "maria", NOW)
    version, expires, nonce, *_ = value.split(".")
    signed = f"{version}.{expires}.{nonce}.ZXZpbBtbMzFtCnJvb3Q"  # evil, escape, [31m, line feed, root
    assert local.enter(request(cookie(f"{signed}.{sign(key_of(''), signed)}"))).name == "evil[31mroot"


def test_a_wrong_token_opens_no_session(authenticator: Authenticator) -> None:
    with pytest.raises(AccessDenied) as refused:
        authenticator.log_in(request(method="POST"), "wrong", "maria")
    assert refused.value.status == 401


# Guessing


def test_an_address_that_guesses_is_throttled_even_with_the_right_token(
    authenticator: Authenticator, wall: Wall
) -> None:
    for _ in range(MOST_WRONG):
        assert refusal(authenticator, request(bearer("wrong"), client="192.0.2.7")).status == 401
    error = refusal(authenticator, request(bearer(), client="192.0.2.7"))
    assert (error.status, error.retry_after) == (429, 60)
    with pytest.raises(AccessDenied) as refused:
        authenticator.log_in(request(method="POST", client="192.0.2.7"), TOKEN, "maria")
    assert refused.value.status == 429
    authenticator.enter(request(bearer(), client="192.0.2.8"))
    wall.at += WINDOW
    authenticator.enter(request(bearer(), client="192.0.2.7"))


def test_a_session_is_not_ended_by_guesses_from_its_address(authenticator: Authenticator) -> None:
    session = authenticator.log_in(request(method="POST"), TOKEN, "maria")
    for _ in range(2 * MOST_WRONG):
        refusal(authenticator, request(bearer("wrong")))
    authenticator.enter(request(cookie(session)))


def test_one_ipv6_customer_counts_as_one(authenticator: Authenticator) -> None:
    for number in range(MOST_WRONG):
        refusal(authenticator, request(bearer("wrong"), client=f"2001:db8:1:2::{number + 1:x}"))
    assert refusal(authenticator, request(bearer(), client="2001:db8:1:2:ffff::1")).status == 429
    authenticator.enter(request(bearer(), client="2001:db8:1:3::1"))


def test_many_guessing_addresses_do_not_lock_others_out(authenticator: Authenticator) -> None:
    for number in range(MOST_WRONG_IN_ALL):
        refusal(authenticator, request(bearer("wrong"), client=f"198.51.{number // 250}.{number % 250}"))
    assert refusal(authenticator, request(bearer("wrong"), client="198.51.0.0")).status == 429
    authenticator.enter(request(bearer(), client="192.0.2.7"))


def test_a_request_without_a_token_is_no_guess(authenticator: Authenticator) -> None:
    for _ in range(3 * MOST_WRONG):
        refusal(authenticator, request())
    authenticator.enter(request(bearer()))


# Without a token


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost:4000", "127.0.0.1", "[::1]:4000", "wallie.localhost:4000", "LOCALHOST"])
def test_without_a_token_this_machine_is_admitted(local: Authenticator, client: str, host: str) -> None:
    assert local.enter(request(client=client, host=host)).actor == f"operator (page, {client})"


@pytest.mark.parametrize("client", ["192.0.2.7", "10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "testclient"])
def test_without_a_token_other_machines_are_refused(local: Authenticator, client: str) -> None:
    error = refusal(local, request(client=client))
    assert (error.status, error.code) == (403, "wallie_no_token")
    assert "WALLIE_ADMIN_TOKEN" in error.message


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4000", "", "localhost.evil.example", "[::1", "127.0.0.1.nip.io"]
)
def test_without_a_token_a_foreign_host_name_is_refused(local: Authenticator, host: str) -> None:
    assert refusal(local, request(host=host)).status == 403


@pytest.mark.parametrize(
    "name", ["x-forwarded-for", "forwarded", "x-real-ip", "via", "x-forwarded-host", "x-forwarded-proto"]
)
def test_without_a_token_a_proxied_request_is_refused(local: Authenticator, name: str) -> None:
    assert refusal(local, request({name: "127.0.0.1"})).status == 403


# Other sites


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:4000", "http://", "x"]
)
def test_another_sites_request_is_refused_with_any_credentials(
    authenticator: Authenticator, local: Authenticator, origin: str
) -> None:
    session = authenticator.log_in(request(method="POST"), TOKEN, "maria")
    for headers in (bearer(), cookie(session)):
        assert refusal(authenticator, request({**headers, "origin": origin}, method="POST")).status == 403
    assert refusal(local, request({"origin": origin}, method="POST")).status == 403
    with pytest.raises(AccessDenied):
        authenticator.log_in(request({"origin": origin}, method="POST"), TOKEN, "maria")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:4000", "127.0.0.1:4000"),
        ("https://wallie.example", "wallie.example"),
        ("https://wallie.example", "wallie.example:443"),
        ("https://WALLIE.example", "wallie.example"),
    ],
)
def test_the_pages_own_requests_are_admitted(authenticator: Authenticator, origin: str, host: str) -> None:
    authenticator.enter(
        request({**bearer(), "origin": origin, "sec-fetch-site": "same-origin"}, host=host, method="POST")
    )


def test_another_site_may_link_to_the_page_but_not_request_it_by_script(authenticator: Authenticator) -> None:
    session = cookie(authenticator.log_in(request(method="POST"), TOKEN, "maria"))
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    authenticator.enter(request({**session, **link}))
    assert refusal(authenticator, request({**session, **link}, method="POST")).status == 403
    for changed in ({"sec-fetch-mode": "cors"}, {"sec-fetch-dest": "iframe"}):
        assert refusal(authenticator, request({**session, **link, **changed})).status == 403
    assert (
        refusal(authenticator, request({**session, "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"})).status
        == 403
    )


# Actions


def test_an_action_of_a_session_needs_the_form_token(authenticator: Authenticator) -> None:
    sent = request(cookie(authenticator.log_in(request(method="POST"), TOKEN, "maria")), method="POST")
    visitor = authenticator.enter(sent)
    authenticator.check_action(sent, visitor, authenticator.csrf_token(sent, visitor))
    other = request(cookie(authenticator.log_in(request(method="POST"), TOKEN, "maria")), method="POST")
    theirs = authenticator.csrf_token(other, authenticator.enter(other))
    for wrong in (None, "", "x", "ñ", theirs):
        with pytest.raises(AccessDenied) as refused:
            authenticator.check_action(sent, visitor, wrong)
        assert refused.value.status == 403


def test_an_action_of_a_program_with_a_token_needs_no_form_token(authenticator: Authenticator) -> None:
    sent = request(bearer(), method="POST")
    authenticator.check_action(sent, authenticator.enter(sent), None)


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
def test_no_header_makes_the_authenticator_fail(headers: dict[str, str], client: str, method: str) -> None:
    for tokens in ([], [TOKEN]):
        authenticator = Authenticator(lambda tokens=tokens: tokens)  # type: ignore[misc]
        sent = request(headers, client=client, method=method, host=headers.get("host", "h"))
        try:
            visitor = authenticator.enter(sent)
            authenticator.check_action(sent, visitor, headers.get("origin"))
        except AccessDenied as error:
            assert error.status in (401, 403, 429)  # noqa: PT017 - it need not be raised


def test_a_cookie_can_be_set_as_it_is(authenticator: Authenticator) -> None:
    session = authenticator.log_in(request(method="POST"), TOKEN, "María; path=/")
    parsed = SimpleCookie(f"{SESSION_COOKIE}={session}")
    assert parsed[SESSION_COOKIE].value == session
