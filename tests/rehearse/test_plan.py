import pytest

from wallie_litellm.rehearse.plan import (
    REDIS,
    OptionError,
    PlannedFault,
    Rate,
    RehearsalPlan,
    check_amount,
    check_faults,
    parse_fault,
    parse_length,
    parse_rate,
    parse_tokens,
)

HOUR = 3600.0


@pytest.mark.parametrize(
    ("kind", "text", "fault"),
    [
        ("outage", "openai:10m", PlannedFault("outage", "openai", 300.0, 600.0)),
        ("outage", "openai:10m@5s", PlannedFault("outage", "openai", 5.0, 600.0)),
        ("outage", "openai/127.0.0.1:8000:10m@1m", PlannedFault("outage", "openai/127.0.0.1:8000", 60.0, 600.0)),
        ("slow", "anthropic:5x", PlannedFault("slow", "anthropic", 300.0, 3300.0, 5.0)),
        ("slow", "anthropic:1.5x:10m@0s", PlannedFault("slow", "anthropic", 0.0, 600.0, 1.5)),
        ("tier", "gemini:0.2", PlannedFault("tier", "gemini", 0.0, HOUR, 0.2)),
        ("redis_away", "10m", PlannedFault("redis_away", REDIS, 300.0, 600.0)),
        ("redis_away", "10m@1m", PlannedFault("redis_away", REDIS, 60.0, 600.0)),
        ("tier", "gemini:0.2@30m", PlannedFault("tier", "gemini", 1800.0, 1800.0, 0.2)),
    ],
)
def test_an_option_says_what_goes_wrong_where_when_and_for_how_long(kind, text, fault):
    assert parse_fault(kind, text, HOUR) == fault


def test_a_fault_without_a_time_comes_after_a_fifth_of_a_short_rehearsal():
    assert parse_fault("outage", "openai:20s", 100.0).at == 20.0


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (lambda text: parse_fault("outage", text, HOUR), "openai", "--outage openai: expected openai:10m"),
        (lambda text: parse_fault("outage", text, HOUR), "openai:soon", "soon is no duration"),
        (lambda text: parse_fault("outage", text, HOUR), "openai:1m@2h", "begins after the end"),
        (lambda text: parse_fault("slow", text, HOUR), "openai:0.5x", "a factor from 1x on"),
        (lambda text: parse_fault("slow", text, HOUR), "openai:1.2.3x", "1.2.3 is no number"),
        (lambda text: parse_fault("tier", text, HOUR), "openai:2", "a share of the limits"),
        (lambda text: parse_fault("redis_away", text, HOUR), "openai:1m", "expected 5m or 5m@10m"),
        (lambda text: parse_fault("outage", text, HOUR), "openai:0s", "expected to last more than 0"),
        (lambda text: check_amount([parse_rate(text)], HOUR), "1000/s", "at most 1,000,000 can be played"),
        (lambda text: check_amount([parse_rate(text)], HOUR), "0.5/h", "less than one request"),
        (parse_rate, "5", "expected 5/s, 300/m or wallie-chat=5/s"),
        (parse_rate, "0/s", "expected 5/s"),
        (parse_tokens, "600", "such as 600+200"),
        (parse_length, "0s", "more than 0"),
    ],
)
def test_an_option_that_cannot_be_understood_says_what_is_expected(parse, text, message):
    with pytest.raises(OptionError) as caught:
        parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "allowed"),
    [
        (("outage", "openai:10m@5m"), ("outage", "openai:10m@20m"), True),
        (("outage", "openai:10m@5m"), ("outage", "openai:10m@10m"), False),
        (("silent", "openai:10m@10m"), ("outage", "openai:10m@5m"), False),
        (("outage", "openai:10m@5m"), ("slow", "openai:3x"), True),
        (("outage", "openai:10m@5m"), ("outage", "anthropic:10m@5m"), True),
        (("redis_away", "10m@5m"), ("redis_away", "10m@14m"), False),
    ],
)
def test_two_faults_that_are_one_and_the_same_may_not_overlap(first, second, allowed):
    faults = [parse_fault(kind, text, HOUR) for kind, text in (first, second)]
    if allowed:
        check_faults(faults)
        return
    with pytest.raises(OptionError, match="do not overlap"):
        check_faults(faults)


def test_a_rate_may_be_of_one_feature():
    assert parse_rate("wallie-chat=300/m") == Rate(5.0, "wallie-chat")


def test_a_plan_is_the_same_after_its_way_as_json():
    fault = PlannedFault("tier", "gemini", 0.0, 60.0, 0.2)
    plan = RehearsalPlan("router_config.yaml", 60.0, 1, 0.0, (fault,), (Rate(5.0),))
    assert RehearsalPlan.from_json(plan.to_json()) == plan


def test_a_lower_tier_is_a_limit_and_an_outage_is_none():
    faults = (PlannedFault("tier", "gemini", 0.0, 60.0, 0.2), PlannedFault("outage", "openai", 5.0, 10.0))
    unlimited = RehearsalPlan("router_config.yaml", 60.0, 1, 0.0, faults).without_limits()
    assert unlimited.faults == faults[1:]
    assert not unlimited.limited
